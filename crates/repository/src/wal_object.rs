//! WAL files in the repository: segments, timeline histories, backup histories, partial segments.
//!
//! An object lies under its file's name in its lineage; what it *is* stands in its first frame,
//! inside the seal, with the digest of the plain bytes. The same bytes again are success, other
//! bytes are a conflict that is kept beside and never replaces anything.

use jiff::Timestamp;
use minicbor::{Decode, Encode};
use pg::{SegmentSize, SystemId, TimelineId, WalSegment};
use stdx::Id;
use store::Key;

use crate::codec::Compression;
use crate::error::Error;
use crate::keys::{Digest, SetKeys};
use crate::kind::Kind;
use crate::names::{self, LineageId};
use crate::object::from_cbor;
use crate::piece;
use crate::set::{Put, Repository};

mod seal;

pub use seal::Content;
use seal::seal;

/// Which WAL file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalFile {
    /// A complete segment.
    Segment(WalSegment, SegmentSize),
    /// A timeline's history.
    History(TimelineId),
    /// A backup history file, by its name.
    BackupHistory(String),
    /// The last segment of a dead timeline, by its name.
    Partial(String),
}

impl WalFile {
    /// PostgreSQL's name of the file.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Segment(segment, size) => segment.name(*size),
            Self::History(timeline) => format!("{:08X}.history", timeline.get()),
            Self::BackupHistory(name) | Self::Partial(name) => name.clone(),
        }
    }

    /// The kind of object it is kept in.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Segment(..) => Kind::WalSegment,
            Self::History(_) => Kind::TimelineHistory,
            Self::BackupHistory(_) => Kind::BackupHistory,
            Self::Partial(_) => Kind::WalPartial,
        }
    }

    /// Where it lies. `None` when a name is not one PostgreSQL gives.
    #[must_use]
    pub fn key(&self, lineage: LineageId) -> Option<Key> {
        match self {
            Self::Segment(segment, size) => Some(names::wal(lineage, *segment, *size)),
            Self::History(timeline) => Some(names::history(lineage, *timeline)),
            Self::BackupHistory(name) => names::side_file(lineage, "label", name),
            Self::Partial(name) => names::side_file(lineage, "partial", name),
        }
    }
}

/// What stands in the first frame of a WAL object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalInfo {
    /// The lineage it belongs to.
    pub lineage: LineageId,
    /// PostgreSQL's name of the file.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
    /// Keyed digest of its bytes: its identity.
    pub digest: Digest,
    /// The cluster's system identifier; 0 for files that do not carry one.
    pub system_id: SystemId,
    /// The writer that stored it.
    pub writer: Id,
    /// When it was stored.
    pub written: Timestamp,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct WalInfoWire {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    lineage: [u8; 16],
    #[n(1)]
    name: String,
    #[n(2)]
    len: u64,
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    digest: [u8; 32],
    #[n(4)]
    system_id: u64,
    #[n(5)]
    #[cbor(with = "minicbor::bytes")]
    writer: [u8; 16],
    #[n(6)]
    written_us: i64,
    #[n(7)]
    content_frame_len: u32,
}

/// What storing a WAL file came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalPut {
    /// It is stored now, durably, in every member.
    Stored,
    /// The same bytes were there before.
    AlreadyThere,
    /// Other bytes are there under that name; ours were kept beside them.
    Conflict {
        /// What is there.
        there: Box<WalInfo>,
        /// Where ours were kept.
        kept: Key,
    },
}

/// Who stores a WAL file, and when.
#[derive(Clone, Copy, Debug)]
pub struct Provenance {
    /// The lineage.
    pub lineage: LineageId,
    /// The cluster's system identifier.
    pub system_id: SystemId,
    /// The registered writer.
    pub writer: Id,
    /// Now.
    pub written: Timestamp,
}

/// Stores one WAL file in every member.
///
/// # Errors
/// [`Error::Limit`] for a name that is not PostgreSQL's; [`Error::Content`] when the file cannot be
/// read whole; an error of a store: the file may then be in some members, and storing it again
/// finds it there.
pub async fn put(
    repository: &Repository,
    file: &WalFile,
    content: &dyn Content,
    provenance: Provenance,
    how: Compression,
    threads: usize,
) -> Result<WalPut, Error> {
    let name = file.name();
    let bad_name = || Error::Limit { what: "a WAL file's name", reason: format!("'{name}'") };
    let key = file.key(provenance.lineage).ok_or_else(bad_name)?;
    let sealed = |kind| {
        seal(repository.keys(), kind, &name, content, provenance, how, threads)
            .map_err(|source| Error::Content { name: name.clone(), source })
    };
    let (info, parts) = sealed(file.kind())?;
    if repository.create_sealed(&key, parts).await? == Put::New {
        return Ok(WalPut::Stored);
    }
    match differing(repository, file.kind(), &key, &info).await? {
        None => Ok(WalPut::AlreadyThere),
        Some(there) => {
            let kept =
                names::conflict(provenance.lineage, &name, &info.digest).ok_or_else(bad_name)?;
            let (_, parts) = sealed(Kind::WalConflict)?;
            repository.create_sealed(&kept, parts).await?;
            Ok(WalPut::Conflict { there: Box::new(there), kept })
        }
    }
}

/// The first member's object that has other content, if any.
async fn differing(
    repository: &Repository,
    kind: Kind,
    key: &Key,
    ours: &WalInfo,
) -> Result<Option<WalInfo>, Error> {
    for member in repository.members() {
        let alone = Repository::new(vec![member.clone()], std::sync::Arc::clone(repository.keys()));
        let there = read_info(&alone, kind, key).await?;
        if there.digest != ours.digest || there.len != ours.len {
            return Ok(Some(there));
        }
    }
    Ok(None)
}

/// What a WAL object says of itself: one small range.
///
/// # Errors
/// `NotFound`, damage, or an error of the store.
pub async fn read_info(repository: &Repository, kind: Kind, key: &Key) -> Result<WalInfo, Error> {
    let frame = repository.read_lead(kind, key).await?;
    decode_info(&frame).map(|(info, _)| info).map_err(|reason| Error::Damaged {
        store: repository.address(),
        key: key.to_string(),
        reason,
    })
}

/// One WAL file, proved: its bytes are those that were stored under that name in that lineage. A
/// segment that is not there as a whole is put together from its pieces (see [`piece::assemble`]).
///
/// # Errors
/// `NotFound` when no member has it; damage; an error of a store.
pub async fn get(
    repository: &Repository,
    lineage: LineageId,
    file: &WalFile,
) -> Result<(WalInfo, Vec<u8>), Error> {
    let name = file.name();
    let key = file
        .key(lineage)
        .ok_or_else(|| Error::Limit { what: "a WAL file's name", reason: format!("'{name}'") })?;
    let frames = match (repository.read(file.kind(), &key).await, file) {
        (
            Err(Error::Store(absent @ store::Error::NotFound { .. })),
            WalFile::Segment(segment, size),
        ) => {
            let joined = piece::assemble(repository, lineage, *segment, *size).await?;
            return joined.ok_or(Error::Store(absent));
        }
        (read, _) => read?,
    };
    let assembled = assemble(repository.keys(), &frames).and_then(|(info, content)| {
        if info.lineage == lineage && info.name == name {
            Ok((info, content))
        } else {
            Err(format!("it holds '{}' of lineage {}", info.name, info.lineage))
        }
    });
    assembled.map_err(|reason| Error::Damaged {
        store: repository.address(),
        key: key.to_string(),
        reason,
    })
}

/// Info and content from the frames of a WAL object.
///
/// # Errors
/// A sentence: which rule of the format they break.
pub fn assemble(keys: &SetKeys, frames: &[Vec<u8>]) -> Result<(WalInfo, Vec<u8>), String> {
    let (lead, rest) = frames.split_first().ok_or("a WAL object without frames")?;
    let (info, _) = decode_info(lead)?;
    let content = rest.concat();
    if content.len() as u64 != info.len {
        return Err(format!(
            "expected {} bytes of '{}', seen {}",
            info.len,
            info.name,
            content.len()
        ));
    }
    if keys.digest(&content) != info.digest {
        return Err(format!("the content of '{}' is not what its digest says", info.name));
    }
    Ok((info, content))
}

pub(crate) fn decode_info(frame: &[u8]) -> Result<(WalInfo, u32), String> {
    let wire: WalInfoWire = from_cbor(frame)?;
    let info = WalInfo {
        lineage: LineageId(Id::from_bytes(wire.lineage)),
        name: wire.name,
        len: wire.len,
        digest: Digest::from_bytes(wire.digest),
        system_id: SystemId::new(wire.system_id),
        writer: Id::from_bytes(wire.writer),
        written: Timestamp::from_microsecond(wire.written_us).map_err(|error| error.to_string())?,
    };
    Ok((info, wire.content_frame_len))
}
