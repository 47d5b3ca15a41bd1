//! Wrapping and unwrapping of keys.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use jiff::Timestamp;
use stdx::Id;
use store::Key;

use super::wire::EpochWire;
use super::{ArgonCost, Unlock};
use crate::codec::Compression;
use crate::kind::Kind;
use crate::object::{seal_object, to_cbor};
use crate::seal::Secret;
use crate::set::Repository;

/// The most memory a stored slot may ask for, so that a damaged one cannot exhaust the machine.
const ARGON2_MEMORY_KIB_MAX: u32 = 4 * 1024 * 1024;

/// The key that wraps the root key in a slot; `None` for a cost outside the limits.
pub(super) fn slot_wrapping(
    unlock: &Unlock,
    set: Id,
    salt: &[u8; 32],
    argon: Option<ArgonCost>,
) -> Option<Secret> {
    let info: [&[u8]; 2] = [b"rollforward v1 slot", set.as_bytes()];
    match unlock {
        Unlock::KeyFile { secret, .. } | Unlock::RecoveryCode(secret) => {
            Some(Secret::from_bytes(secret.derive(salt, &info)))
        }
        Unlock::Passphrase(text) => {
            let ArgonCost { memory_kib, passes, lanes } = argon?;
            if memory_kib > ARGON2_MEMORY_KIB_MAX || passes > 64 || lanes > 64 {
                return None;
            }
            let params = argon2::Params::new(memory_kib, passes, lanes, Some(32)).ok()?;
            let argon =
                argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
            let mut stretched = [0; 32];
            argon.hash_password_into(text.as_bytes(), salt, &mut stretched).ok()?;
            Some(Secret::from_bytes(Secret::from_bytes(stretched).derive(salt, &info)))
        }
    }
}

pub(super) fn epoch_wrapping(root: &Secret, set: Id, salt: &[u8; 32]) -> Secret {
    Secret::from_bytes(root.derive(salt, &[b"rollforward v1 epoch", set.as_bytes()]))
}

pub(super) fn slot_binding(set: Id, key: &Key, method: u8) -> Vec<u8> {
    [b"slot", &set.as_bytes()[..], key.as_str().as_bytes(), &[method]].concat()
}

pub(super) fn epoch_binding(set: Id, epoch: u32) -> Vec<u8> {
    [b"epoch", &set.as_bytes()[..], &epoch.to_le_bytes()].concat()
}

/// AES-256-GCM under a key that is derived for this one use, so the nonce is zero.
pub(super) fn wrap_key(wrapping: &Secret, binding: &[u8], key: &Secret) -> Vec<u8> {
    let mut wrapped = key.expose().to_vec();
    let sealed = UnboundKey::new(&AES_256_GCM, wrapping.expose()).and_then(|unbound| {
        LessSafeKey::new(unbound).seal_in_place_append_tag(
            Nonce::assume_unique_for_key([0; 12]),
            Aad::from(binding),
            &mut wrapped,
        )
    });
    assert!(sealed.is_ok(), "GCM wraps 32 bytes");
    wrapped
}

pub(super) fn unwrap_key(wrapping: &Secret, binding: &[u8], wrapped: &[u8]) -> Option<Secret> {
    let unbound = UnboundKey::new(&AES_256_GCM, wrapping.expose()).ok()?;
    let mut bytes = zeroize::Zeroizing::new(wrapped.to_vec());
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let key =
        LessSafeKey::new(unbound).open_in_place(nonce, Aad::from(binding), &mut bytes).ok()?;
    <[u8; 32]>::try_from(&*key).ok().map(Secret::from_bytes)
}

/// The object of a data key, wrapped under the root key.
pub(super) fn seal_epoch(
    clear: &Repository,
    root: &Secret,
    epoch: u32,
    data: &Secret,
    created: Timestamp,
) -> Vec<Bytes> {
    let set = clear.keys().set();
    let mut salt = [0; 32];
    stdx::id::fill_random(&mut salt);
    let wire = EpochWire {
        epoch,
        created_us: created.as_microsecond(),
        salt,
        wrapped: wrap_key(&epoch_wrapping(root, set, &salt), &epoch_binding(set, epoch), data),
    };
    seal_object(clear.keys(), Kind::KeyEpoch, &[&to_cbor(&wire)], Compression::None)
}
