//! WAL files in the repository: segments, timeline histories, backup histories, partial segments.
//!
//! An object lies under its file's name in its lineage; what it *is* stands in its first frame,
//! inside the seal, with the digest of the plain bytes. The same bytes again are success, other
//! bytes are a conflict that is kept beside and never replaces anything.

use bytes::Bytes;
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
use crate::object::{ObjectWriter, from_cbor, to_cbor};
use crate::piece;
use crate::set::{Put, Repository};
use crate::tree::FRAME_LEN;

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
/// [`Error::Limit`] for a name that is not PostgreSQL's; an error of a store: the file may then be
/// in some members, and storing it again finds it there.
pub async fn put(
    repository: &Repository,
    file: &WalFile,
    content: &Bytes,
    provenance: Provenance,
    how: Compression,
    threads: usize,
) -> Result<WalPut, Error> {
    let name = file.name();
    let bad_name = || Error::Limit { what: "a WAL file's name", reason: format!("'{name}'") };
    let key = file.key(provenance.lineage).ok_or_else(bad_name)?;
    let info = WalInfo {
        lineage: provenance.lineage,
        name: name.clone(),
        len: content.len() as u64,
        digest: repository.keys().digest(content),
        system_id: provenance.system_id,
        writer: provenance.writer,
        written: provenance.written,
    };
    let parts = seal(repository.keys(), file.kind(), &info, content, how, threads);
    if repository.create_sealed(&key, parts).await? == Put::New {
        return Ok(WalPut::Stored);
    }
    match differing(repository, file.kind(), &key, &info).await? {
        None => Ok(WalPut::AlreadyThere),
        Some(there) => {
            let kept =
                names::conflict(provenance.lineage, &name, &info.digest).ok_or_else(bad_name)?;
            let parts = seal(repository.keys(), Kind::WalConflict, &info, content, how, threads);
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

fn decode_info(frame: &[u8]) -> Result<(WalInfo, u32), String> {
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

/// The parts of a WAL object. Content frames are compressed and sealed on `threads` threads: an
/// archive command's time is mostly compression.
fn seal(
    keys: &SetKeys,
    kind: Kind,
    info: &WalInfo,
    content: &[u8],
    how: Compression,
    threads: usize,
) -> Vec<Bytes> {
    let mut writer = ObjectWriter::new(keys, kind);
    let wire = WalInfoWire {
        lineage: *info.lineage.0.as_bytes(),
        name: info.name.clone(),
        len: info.len,
        digest: *info.digest.as_bytes(),
        system_id: info.system_id.get(),
        writer: *info.writer.as_bytes(),
        written_us: info.written.as_microsecond(),
        content_frame_len: crate::seal::len_u32(FRAME_LEN),
    };
    let lead = writer.sealer().seal(0, false, &to_cbor(&wire), Compression::None);
    let chunks: Vec<&[u8]> = content.chunks(FRAME_LEN).collect();
    let share = chunks.len().div_ceil(threads.max(1)).max(1);
    let sealer = writer.sealer();
    let seal_share = |number: usize, chunks: &[&[u8]]| -> Vec<_> {
        let numbered = chunks.iter().enumerate();
        numbered
            .map(|(at, raw)| sealer.seal((number * share + at + 1) as u64, false, raw, how))
            .collect()
    };
    let shares: Vec<Vec<_>> = std::thread::scope(|scope| {
        let (first, others) = chunks.split_at(share.min(chunks.len()));
        let seal_share = &seal_share;
        let running: Vec<_> = others
            .chunks(share)
            .enumerate()
            .map(|(number, chunks)| scope.spawn(move || seal_share(number + 1, chunks)))
            .collect();
        let mut shares = vec![seal_share(0, first)];
        for thread in running {
            match thread.join() {
                Ok(frames) => shares.push(frames),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        shares
    });
    let mut parts = Vec::with_capacity(chunks.len() + 3);
    parts.push(writer.header(Some(&lead)));
    writer.push(&lead, Vec::new());
    parts.push(Bytes::from(lead.bytes));
    for frame in shares.into_iter().flatten() {
        writer.push(&frame, Vec::new());
        parts.push(Bytes::from(frame.bytes));
    }
    parts.push(writer.finish());
    parts
}
