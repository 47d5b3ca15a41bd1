//! Where each object lies. `docs/repository-format.md`, section "Names".

use std::fmt;
use std::str::FromStr;

use pg::{SegmentSize, TimelineId, WalSegment};
use stdx::Id;
use store::Key;

/// One cluster's history under a random id of ours. Clones share the system identifier, so that is
/// only an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineageId(pub Id);

impl fmt::Display for LineageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for LineageId {
    type Err = stdx::id::ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The name of one pack: random, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackId(pub Id);

impl fmt::Display for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of one backup: `20261121T013242Z-k7f3`, start time in UTC and four random characters.
/// The order of names means nothing: backups are ordered by timeline and LSN.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(String);

impl Label {
    /// A label for a backup that starts at `start`.
    #[must_use]
    pub fn new(start: jiff::Timestamp) -> Self {
        Self(format!("{}-{}", start.strftime("%Y%m%dT%H%M%SZ"), Id::random().short()))
    }

    /// The label's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = ParseLabelError;

    fn from_str(text: &str) -> Result<Self, ParseLabelError> {
        let fits = !text.is_empty()
            && text.len() <= 64
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(ParseLabelError(text.chars().take(64).collect()))
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text cannot be a backup's label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a backup label like '20261121T013242Z-k7f3', seen '{0}'")]
pub struct ParseLabelError(String);

fn key(text: String) -> Key {
    match Key::new(text) {
        Ok(key) => key,
        Err(error) => unreachable!("{error}: names are built from checked parts"),
    }
}

/// The repository's descriptor.
#[must_use]
pub fn descriptor() -> Key {
    key("rollforward".into())
}

/// Prefix of the key slots.
pub const SLOTS: &str = "keys/slot/";
/// Prefix of the wrapped data keys.
pub const EPOCHS: &str = "keys/epoch/";
/// Prefix of the copies of the configuration.
pub const CONFIGS: &str = "config/";

/// One key slot.
#[must_use]
pub fn slot(id: Id) -> Key {
    key(format!("{SLOTS}{id}"))
}

/// One wrapped data key.
#[must_use]
pub fn epoch(epoch: u32) -> Key {
    key(format!("{EPOCHS}{epoch:08x}"))
}

/// One copy of the configuration.
#[must_use]
pub fn config(number: u32) -> Key {
    key(format!("{CONFIGS}{number:08x}"))
}

/// Prefix of the bindings of a cluster's name. The name is hashed: it may hold any character.
#[must_use]
pub fn cluster_prefix(name: &str) -> String {
    let digest = blake3::hash(name.as_bytes());
    format!("cluster/{}/", Id::from_bytes(first16(digest.as_bytes())))
}

/// One binding of a cluster's name.
#[must_use]
pub fn cluster(name: &str, number: u32) -> Key {
    key(format!("{}{number:08x}", cluster_prefix(name)))
}

/// A lineage's first record.
#[must_use]
pub fn lineage(lineage: LineageId) -> Key {
    key(format!("lineage/{lineage}/record"))
}

/// Prefix of a lineage's registered writers.
#[must_use]
pub fn writers(lineage: LineageId) -> String {
    format!("lineage/{lineage}/writer/")
}

/// One registered writer.
#[must_use]
pub fn writer(lineage: LineageId, id: Id) -> Key {
    key(format!("{}{id}", writers(lineage)))
}

/// Prefix of a lineage's states.
#[must_use]
pub fn states(lineage: LineageId) -> String {
    format!("lineage/{lineage}/state/")
}

/// One state of a lineage.
#[must_use]
pub fn state(lineage: LineageId, number: u32) -> Key {
    key(format!("{}{number:08x}", states(lineage)))
}

/// Prefix of a lineage's taken timeline ids.
#[must_use]
pub fn reservations(lineage: LineageId) -> String {
    format!("lineage/{lineage}/timeline/")
}

/// A taken timeline id.
#[must_use]
pub fn reservation(lineage: LineageId, timeline: TimelineId) -> Key {
    key(format!("{}{:08x}", reservations(lineage), timeline.get()))
}

/// Prefix of a lineage's backups.
#[must_use]
pub fn backups(lineage: LineageId) -> String {
    format!("backup/{lineage}/")
}

/// A backup's root.
#[must_use]
pub fn backup(lineage: LineageId, label: &Label) -> Key {
    key(format!("{}{label}", backups(lineage)))
}

/// Prefix of a lineage's logical dumps.
#[must_use]
pub fn dumps(lineage: LineageId) -> String {
    format!("dump/{lineage}/")
}

/// A logical dump's root.
#[must_use]
pub fn dump(lineage: LineageId, label: &Label) -> Key {
    key(format!("{}{label}", dumps(lineage)))
}

/// A pack, of either kind.
#[must_use]
pub fn pack(id: PackId) -> Key {
    let text = id.to_string();
    let fan = text.get(24..).unwrap_or("00");
    key(format!("pack/{fan}/{text}"))
}

/// Where the live frames of a compacted pack are.
#[must_use]
pub fn moved(id: PackId) -> Key {
    key(format!("moved/{id}"))
}

/// A pack that is about to be deleted.
#[must_use]
pub fn condemned(id: PackId) -> Key {
    key(format!("condemned/{id}"))
}

/// Prefix of a timeline's complete segments.
#[must_use]
pub fn wal_prefix(lineage: LineageId, timeline: TimelineId) -> String {
    format!("wal/{lineage}/{:08x}/", timeline.get())
}

/// One complete WAL segment. In a timeline, keys ascend with the LSN.
#[must_use]
pub fn wal(lineage: LineageId, segment: WalSegment, size: SegmentSize) -> Key {
    key(format!("{}{}", wal_prefix(lineage, segment.timeline), segment.name(size)))
}

/// Prefix of a lineage's timeline history files.
#[must_use]
pub fn histories(lineage: LineageId) -> String {
    format!("history/{lineage}/")
}

/// One timeline history file.
#[must_use]
pub fn history(lineage: LineageId, timeline: TimelineId) -> Key {
    key(format!("{}{:08x}", histories(lineage), timeline.get()))
}

/// One backup history file or partial segment, under PostgreSQL's own name.
#[must_use]
pub fn side_file(lineage: LineageId, folder: &'static str, name: &str) -> Option<Key> {
    Key::new(format!("{folder}/{lineage}/{name}")).ok()
}

/// Prefix of conflicting segments.
#[must_use]
pub fn conflicts(lineage: LineageId) -> String {
    format!("conflict/{lineage}/")
}

/// One conflicting file; `digest` is that of its content, so the same one is stored once.
#[must_use]
pub fn conflict(lineage: LineageId, name: &str, digest: &crate::Digest) -> Option<Key> {
    Key::new(format!("{}{name}/{}", conflicts(lineage), Id::from_bytes(first16(digest.as_bytes()))))
        .ok()
}

/// Prefix of the pieces of segments on a timeline.
#[must_use]
pub fn pieces(lineage: LineageId, timeline: TimelineId) -> String {
    format!("piece/{lineage}/{:08x}/", timeline.get())
}

/// Prefix of a timeline's known gaps.
#[must_use]
pub fn gaps(lineage: LineageId, timeline: TimelineId) -> String {
    format!("gap/{lineage}/{:08x}/", timeline.get())
}

/// Prefix of leases.
pub const LEASES: &str = "lease/";

/// One heartbeat of a lease.
#[must_use]
pub fn lease(id: Id, beat: u32) -> Key {
    key(format!("{LEASES}{id}/{beat:08x}"))
}

fn first16(bytes: &[u8; 32]) -> [u8; 16] {
    bytes.first_chunk().copied().unwrap_or_default()
}
