//! Objects of recovery runs: records in a chain, claims, messages, incidents, evidence.
//!
//! Their content is the business of whoever drives a run; here they are sealed, opened and named.
//! `docs/repository-format.md`, section "Recovery runs".

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use store::Key;

use crate::Digest;
use crate::codec::Compression;
use crate::header::{Header, HeaderError, LINK_LEN};
use crate::keys::SetKeys;
use crate::kind::Kind;
use crate::object::{ObjectError, ObjectWriter, open_object};
use crate::seal::FRAME_RAW_LEN_MAX;

/// Where the records of runs lie.
pub const RUNS: &str = "journal/run/";
/// Where incidents lie.
pub const INCIDENTS: &str = "journal/incident/";

/// The longest content of one object, in bytes.
pub const CONTENT_LEN_MAX: usize = FRAME_RAW_LEN_MAX;

/// What a record follows: the first 28 bytes of the SHA-256 of the stored bytes of the record
/// before it. Stands in the clear, so that a chain can be checked without a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Link([u8; LINK_LEN]);

impl Link {
    /// What the first record of a chain follows, and every object that is in none.
    pub const NONE: Self = Self([0; LINK_LEN]);

    /// The link to an object as it is stored.
    #[must_use]
    pub fn to(stored: &[u8]) -> Self {
        let whole = digest(&SHA256, stored);
        let mut link = [0; LINK_LEN];
        link.copy_from_slice(whole.as_ref().get(..LINK_LEN).unwrap_or(&[0; LINK_LEN]));
        Self(link)
    }

    /// The link that stands in an object, read without a key.
    ///
    /// # Errors
    /// The header is damaged or of a later version.
    pub fn of(stored: &[u8]) -> Result<Self, ObjectError> {
        let header = Header::decode(stored).map_err(|error| match error {
            HeaderError::Damaged(reason) => ObjectError::Damaged(reason),
            HeaderError::Newer(reason) => ObjectError::Newer(reason),
        })?;
        Ok(Self(header.link))
    }
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({self})")
    }
}

/// Seals one object under a fresh salt: call it anew for every attempt to write.
///
/// # Panics
/// When the content is longer than [`CONTENT_LEN_MAX`]: callers bound what they write.
#[must_use]
pub fn seal(keys: &SetKeys, link: Link, content: &[u8]) -> Bytes {
    assert!(content.len() <= CONTENT_LEN_MAX, "a journal object of {} bytes", content.len());
    let mut writer = ObjectWriter::new(keys, Kind::Journal).linked(link.0);
    let frame = writer.sealer().seal(0, false, content, Compression::Zstd(1));
    let mut out = writer.header(Some(&frame)).to_vec();
    writer.push(&frame, Vec::new());
    out.extend_from_slice(&frame.bytes);
    out.extend_from_slice(&writer.finish());
    Bytes::from(out)
}

/// The content of an object.
///
/// # Errors
/// [`ObjectError`].
pub fn open(keys: &SetKeys, stored: &[u8]) -> Result<Vec<u8>, ObjectError> {
    let mut frames = open_object(keys, Kind::Journal, stored)?.into_iter();
    match (frames.next(), frames.next()) {
        (Some(content), None) => Ok(content),
        (first, _) => Err(ObjectError::Damaged(match first {
            None => "it has no content".into(),
            Some(_) => "expected one frame, seen more".into(),
        })),
    }
}

/// One record of a run. `None` when the run's name does not fit into a name.
#[must_use]
pub fn record(run: &str, sequence: u32) -> Option<Key> {
    Key::new(format!("{}{sequence:08x}", records(run))).ok()
}

/// Prefix of a run's records.
#[must_use]
pub fn records(run: &str) -> String {
    format!("{RUNS}{run}/")
}

/// The number in the name of a record.
#[must_use]
pub fn sequence_of(run: &str, key: &Key) -> Option<u32> {
    let digits = key.as_str().strip_prefix(&records(run))?;
    u32::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 8)
}

/// A run's runbook, in the clear: what a person follows when nothing of ours works any more.
#[must_use]
pub fn runbook(run: &str) -> Option<Key> {
    Key::new(format!("journal/runbook/{run}.md")).ok()
}

/// Prefix of the messages to a run.
#[must_use]
pub fn inbox(run: &str) -> String {
    format!("journal/inbox/{run}/")
}

/// One message to a run.
#[must_use]
pub fn message(run: &str, id: stdx::Id) -> Option<Key> {
    Key::new(format!("{}{id}", inbox(run))).ok()
}

/// Prefix of the claims of a service, whose name may hold any character.
#[must_use]
pub fn claims(service: &str) -> String {
    format!("journal/claim/{}/", hashed(service))
}

/// One claim.
#[must_use]
pub fn claim(service: &str, number: u32) -> Option<Key> {
    Key::new(format!("{}{number:08x}", claims(service))).ok()
}

/// Prefix of the entries of an incident.
#[must_use]
pub fn incident(id: &str) -> String {
    format!("{INCIDENTS}{id}/")
}

/// One entry of an incident.
#[must_use]
pub fn incident_entry(id: &str, number: u32) -> Option<Key> {
    Key::new(format!("{}{number:08x}", incident(id))).ok()
}

/// One piece of evidence, by the digest of its content.
#[must_use]
pub fn evidence(digest: &Digest) -> Option<Key> {
    let hex: String = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    Key::new(format!("journal/evidence/{hex}")).ok()
}

fn hashed(name: &str) -> stdx::Id {
    let digest = blake3::hash(name.as_bytes());
    stdx::Id::from_bytes(digest.as_bytes().first_chunk().copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use stdx::Id;

    use super::*;
    use crate::seal::Secret;

    fn keys() -> SetKeys {
        let epochs = std::collections::BTreeMap::from([(1, Secret::random())]);
        SetKeys::encrypted(Id::from_bytes([1; 16]), &Secret::random(), epochs)
    }

    #[test]
    fn a_record_opens_with_the_key_and_its_link_is_seen_without() {
        let keys = keys();
        let first = seal(&keys, Link::NONE, b"first");
        let second = seal(&keys, Link::to(&first), b"second");
        assert_eq!(open(&keys, &second).unwrap(), b"second");
        assert_eq!(Link::of(&second).unwrap(), Link::to(&first));
        assert_eq!(Link::of(&first).unwrap(), Link::NONE);
        assert_ne!(seal(&keys, Link::NONE, b"first"), first, "every attempt has its own salt");
    }

    #[test]
    fn every_flipped_bit_breaks_the_record_or_the_chain() {
        let keys = keys();
        let good = seal(&keys, Link::NONE, b"content");
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(Link::to(&bad), Link::to(&good), "bit {bit}");
            assert!(open(&keys, &bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn names_are_read_back() {
        let key = record("shop-1126-k7f3", 0x1f).unwrap();
        assert_eq!(key.as_str(), "journal/run/shop-1126-k7f3/0000001f");
        assert_eq!(sequence_of("shop-1126-k7f3", &key), Some(0x1f));
        assert_eq!(sequence_of("shop", &key), None);
        assert!(record("a b", 1).is_none());
        assert_ne!(claims("shop"), claims("shop2"));
    }
}
