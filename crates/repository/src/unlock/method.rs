//! The ways to open a slot.

use minicbor::{Decode, Encode};

use crate::seal::Secret;

/// Argon2id parameters of new passphrase slots: memory in KiB, passes, lanes (RFC 9106, second
/// recommended option).
pub const ARGON2_DEFAULT: ArgonCost = ArgonCost { memory_kib: 64 * 1024, passes: 3, lanes: 4 };

/// What somebody brings to open a repository.
#[derive(Clone)]
pub enum Unlock {
    /// The 256 bits of a key file.
    KeyFile {
        /// Where it was read from, for messages.
        origin: String,
        /// Its key.
        secret: Secret,
    },
    /// A passphrase of a person.
    Passphrase(zeroize::Zeroizing<String>),
    /// The recovery code of the repository.
    RecoveryCode(Secret),
}

impl std::fmt::Debug for Unlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe())
    }
}

impl Unlock {
    /// What was tried, for messages: never the secret itself.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::KeyFile { origin, .. } => format!("key file '{origin}'"),
            Self::Passphrase(_) => "the passphrase".into(),
            Self::RecoveryCode(_) => "the recovery code".into(),
        }
    }

    pub(super) fn method(&self) -> Method {
        match self {
            Self::KeyFile { .. } => Method::KeyFile,
            Self::Passphrase(_) => Method::Passphrase,
            Self::RecoveryCode(_) => Method::RecoveryCode,
        }
    }
}

/// How a slot is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Method {
    /// 256 random bits in a file.
    KeyFile = 1,
    /// A passphrase, stretched with Argon2id.
    Passphrase = 2,
    /// A random code, written down.
    RecoveryCode = 3,
    /// A key management service.
    Kms = 4,
}

impl Method {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        [Self::KeyFile, Self::Passphrase, Self::RecoveryCode, Self::Kms]
            .into_iter()
            .find(|method| *method as u8 == byte)
    }
}

/// Cost of one Argon2id derivation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ArgonCost {
    /// Memory in KiB.
    #[n(0)]
    pub memory_kib: u32,
    /// Passes over it.
    #[n(1)]
    pub passes: u32,
    /// Lanes.
    #[n(2)]
    pub lanes: u32,
}
