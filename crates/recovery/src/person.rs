//! Persons: an Ed25519 key each. What they say to a run is signed.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// How a public key begins in the configuration.
const PREFIX: &str = "ed25519:";

/// A key that signs.
pub struct SigningKey(Ed25519KeyPair);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 'ed25519:' and 43 characters of base64")]
pub struct NotAKey;

impl SigningKey {
    /// The key of 32 secret bytes.
    ///
    /// # Errors
    /// [`NotAKey`], which no 32 bytes give.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, NotAKey> {
        Ed25519KeyPair::from_seed_unchecked(seed).map(Self).map_err(|_| NotAKey)
    }

    /// The public half, as it stands in the configuration.
    #[must_use]
    pub fn public(&self) -> String {
        format!("{PREFIX}{}", STANDARD_NO_PAD.encode(self.0.public_key().as_ref()))
    }

    /// A signature, in base64.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> String {
        STANDARD_NO_PAD.encode(self.0.sign(message).as_ref())
    }
}

/// The bytes of a public key.
///
/// # Errors
/// [`NotAKey`].
pub fn parse_public(text: &str) -> Result<[u8; 32], NotAKey> {
    let encoded = text.strip_prefix(PREFIX).ok_or(NotAKey)?;
    let bytes = STANDARD_NO_PAD.decode(encoded).map_err(|_| NotAKey)?;
    bytes.try_into().map_err(|_| NotAKey)
}

/// Whether a signature is that of a public key over these bytes.
#[must_use]
pub fn is_signed_by(public: &str, message: &[u8], signature: &str) -> bool {
    let (Ok(key), Ok(signature)) = (parse_public(public), STANDARD_NO_PAD.decode(signature)) else {
        return false;
    };
    UnparsedPublicKey::new(&ED25519, key).verify(message, &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_key_over_the_same_bytes_signs() {
        let (ours, other) =
            (SigningKey::from_seed(&[7; 32]).unwrap(), SigningKey::from_seed(&[8; 32]).unwrap());
        let signature = ours.sign(b"message");
        assert!(is_signed_by(&ours.public(), b"message", &signature));
        assert!(!is_signed_by(&other.public(), b"message", &signature));
        assert!(!is_signed_by(&ours.public(), b"messagE", &signature));
        assert!(!is_signed_by(&ours.public(), b"message", "AAAA"));
        assert!(!is_signed_by("ed25519:short", b"message", &signature));
        assert_eq!(parse_public("rsa:x"), Err(NotAKey));
    }
}
