//! The keys of a repository set: what seals new objects and opens old ones.

use std::collections::BTreeMap;

use stdx::Id;

use crate::header::{Header, LINK_LEN};
use crate::kind::Kind;
use crate::object::ObjectError;
use crate::seal::{Sealer, Secret, object_key};

/// The keys of a set, open. Made by [`crate::unlock`]; cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct SetKeys {
    set: Id,
    /// Data keys by epoch, from 1; empty without encryption.
    epochs: BTreeMap<u32, Secret>,
    /// Keys the digests that name content, so that they tell nothing to whoever lists the store.
    digest_key: [u8; 32],
}

/// A keyed BLAKE3 digest of plain bytes: equal digests mean equal content within one set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A digest read back from where it was stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl std::fmt::Display for Digest {
    /// The first eight bytes in hexadecimal: enough to compare by eye.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({self}…)")
    }
}

/// Computes a [`Digest`] over bytes that come in pieces.
#[derive(Debug)]
pub struct Digester(blake3::Hasher);

impl Digester {
    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes added.
    #[must_use]
    pub fn finish(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

impl SetKeys {
    /// Keys of a set without encryption: objects carry checksums only.
    #[must_use]
    pub fn plain(set: Id) -> Self {
        let digest_key = *blake3::hash(set.as_bytes()).as_bytes();
        Self { set, epochs: BTreeMap::new(), digest_key }
    }

    /// Keys of an encrypted set: the root key and at least one epoch's data key.
    ///
    /// # Panics
    /// Without an epoch, or with epoch 0: that number means "not encrypted".
    #[must_use]
    pub fn encrypted(set: Id, root: &Secret, epochs: BTreeMap<u32, Secret>) -> Self {
        assert!(
            !epochs.is_empty() && !epochs.contains_key(&0),
            "an encrypted set has epochs from 1"
        );
        let digest_key = root.derive(set.as_bytes(), &[b"rollforward v1 digest"]);
        Self { set, epochs, digest_key }
    }

    /// The set these keys belong to.
    #[must_use]
    pub fn set(&self) -> Id {
        self.set
    }

    /// Whether new objects are encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        !self.epochs.is_empty()
    }

    /// The epoch that seals new objects; 0 without encryption.
    #[must_use]
    pub fn current_epoch(&self) -> u32 {
        self.epochs.last_key_value().map_or(0, |(epoch, _)| *epoch)
    }

    /// The data key of an epoch.
    pub(crate) fn epoch(&self, epoch: u32) -> Option<Secret> {
        self.epochs.get(&epoch).cloned()
    }

    /// The digest of `bytes`.
    #[must_use]
    pub fn digest(&self, bytes: &[u8]) -> Digest {
        Digest(*blake3::keyed_hash(&self.digest_key, bytes).as_bytes())
    }

    /// Begins a digest over pieces.
    #[must_use]
    pub fn digester(&self) -> Digester {
        Digester(blake3::Hasher::new_keyed(&self.digest_key))
    }

    /// A secret of the set for one purpose: who holds a key of the set can make it again. Without
    /// encryption anybody can, who knows the set's id.
    #[must_use]
    pub fn derived(&self, purpose: &str) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(blake3::derive_key(purpose, &self.digest_key))
    }

    /// Header and sealer of a new object, under a fresh salt.
    pub(crate) fn new_object(&self, kind: Kind) -> (Header, Sealer) {
        let mut salt = [0; 32];
        stdx::id::fill_random(&mut salt);
        let (epoch, key, key_check) = match self.epochs.last_key_value() {
            Some((epoch, data_key)) => {
                let (key, check) = object_key(data_key, kind, self.set, &salt);
                (*epoch, Some(key), check)
            }
            None => (0, None, [0; 16]),
        };
        let header = Header {
            kind,
            required: 0,
            optional: 0,
            epoch,
            set: self.set,
            salt,
            key_check,
            lead: None,
            link: [0; LINK_LEN],
        };
        let sealer = Sealer::new(&header, key.as_ref());
        (header, sealer)
    }

    /// The sealer of an existing object, once its key check agrees.
    pub(crate) fn open_object(&self, header: &Header) -> Result<Sealer, ObjectError> {
        if header.set != self.set {
            return Err(ObjectError::ForeignSet(header.set));
        }
        if header.epoch == 0 {
            // An attacker who can write could otherwise put a plain object where a sealed one is
            // expected: an encrypted set accepts only the kinds that are always in the clear.
            let always_clear =
                matches!(header.kind, Kind::Descriptor | Kind::KeySlot | Kind::KeyEpoch);
            if self.is_encrypted() && !always_clear {
                return Err(ObjectError::Damaged(
                    "it is not sealed, but this set is encrypted".into(),
                ));
            }
            return Ok(Sealer::new(header, None));
        }
        let data_key = self.epochs.get(&header.epoch).ok_or(ObjectError::WrongKey(header.epoch))?;
        let (key, check) = object_key(data_key, header.kind, self.set, &header.salt);
        if check != header.key_check {
            return Err(ObjectError::WrongKey(header.epoch));
        }
        Ok(Sealer::new(header, Some(&key)))
    }
}
