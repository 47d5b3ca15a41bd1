//! Parts of the current WAL segment, stored before it is complete.
//!
//! A piece lies under `piece/<lineage>/<timeline>/<segment>/<start>-<end>-<writer>`, start and end
//! as offsets in the segment, eight hexadecimal digits each, end exclusive. Frame 0 says what it
//! is, the other frames are its bytes. Pieces of different writers may overlap and must agree
//! there.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use minicbor::{Decode, Encode};
use pg::{SegmentSize, SystemId, TimelineId, WalSegment};
use stdx::Id;
use store::Key;

use crate::codec::Compression;
use crate::error::Error;
use crate::keys::Digest;
use crate::kind::Kind;
use crate::names::{self, LineageId};
use crate::object::{from_cbor, seal_object, to_cbor};
use crate::set::{Put, Repository};
use crate::tree::FRAME_LEN;
use crate::wal_object::{Provenance, WalInfo};

/// Which bytes of which segment a piece holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PieceRange {
    /// The segment.
    pub segment: WalSegment,
    /// First byte, as an offset in the segment.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// What the pieces of one segment come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The segment.
    pub segment: WalSegment,
    /// How many bytes there are from its beginning on without a hole; 0 when that is missing.
    pub len: u32,
    /// Whether that is the whole segment.
    pub complete: bool,
    /// Whether there are pieces behind a hole.
    pub broken: bool,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct PieceWire {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    lineage: [u8; 16],
    #[n(1)]
    segment: String,
    #[n(2)]
    start: u32,
    #[n(3)]
    end: u32,
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    digest: [u8; 32],
    #[n(5)]
    system_id: u64,
    #[n(6)]
    #[cbor(with = "minicbor::bytes")]
    writer: [u8; 16],
    #[n(7)]
    written_us: i64,
}

/// Stores one piece in every member; `content` begins at `start`. The same piece again is success.
///
/// # Errors
/// [`Error::Limit`] for a piece that is empty or leaves its segment; [`Error::Conflict`] when this
/// writer stored other bytes for that range; an error of a store.
pub async fn put(
    repository: &Repository,
    segment: WalSegment,
    size: SegmentSize,
    start: u32,
    content: &Bytes,
    provenance: Provenance,
) -> Result<(), Error> {
    let end = u32::try_from(content.len()).ok().and_then(|len| start.checked_add(len));
    let Some(end) = end.filter(|end| *end > start && u64::from(*end) <= size.get()) else {
        let reason = format!("{} bytes at {start} of a segment of {size}", content.len());
        return Err(Error::Limit { what: "a piece of a WAL segment", reason });
    };
    let range = PieceRange { segment, start, end };
    let key = key(provenance.lineage, range, size, provenance.writer)?;
    let digest = repository.keys().digest(content);
    let wire = to_cbor(&PieceWire {
        lineage: *provenance.lineage.0.as_bytes(),
        segment: segment.name(size),
        start,
        end,
        digest: *digest.as_bytes(),
        system_id: provenance.system_id.get(),
        writer: *provenance.writer.as_bytes(),
        written_us: provenance.written.as_microsecond(),
    });
    let mut frames: Vec<&[u8]> = vec![&wire];
    frames.extend(content.chunks(FRAME_LEN));
    let parts = seal_object(repository.keys(), Kind::WalPiece, &frames, Compression::default());
    if repository.create_sealed(&key, parts).await? == Put::New {
        return Ok(());
    }
    let (there, _) = read(repository, &key).await?;
    if there.digest == *digest.as_bytes() {
        return Ok(());
    }
    let seen = Digest::from_bytes(there.digest).to_string();
    Err(Error::Conflict { key: key.to_string(), expected: digest.to_string(), seen })
}

/// What the pieces on a timeline come to, segment by segment, by their names alone.
///
/// # Errors
/// When no member of the set answers.
pub async fn held(
    repository: &Repository,
    lineage: LineageId,
    timeline: TimelineId,
    size: SegmentSize,
) -> Result<Vec<Held>, Error> {
    let prefix = names::pieces(lineage, timeline);
    let mut ranges: BTreeMap<u64, Vec<PieceRange>> = BTreeMap::new();
    for meta in repository.list(&prefix).await? {
        let range = meta.key.as_str().strip_prefix(&prefix).and_then(|name| parse(name, size));
        if let Some(range) = range.filter(|range| range.segment.timeline == timeline) {
            ranges.entry(range.segment.number).or_default().push(range);
        }
    }
    Ok(ranges
        .into_values()
        .filter_map(|mut ranges| {
            ranges.sort_unstable();
            let segment = ranges.first()?.segment;
            let (len, broken) = join(&ranges);
            let complete = u64::from(len) == size.get();
            Some(Held { segment, len, complete, broken })
        })
        .collect())
}

/// The segment that pieces make up, all proved and joined; `None` when there are none of its
/// beginning, or when some lie behind a hole. What is missing at its end is zeros, which PostgreSQL
/// takes for the end of the log: whoever hands it out must know that nothing follows.
///
/// # Errors
/// [`Error::Conflict`] when two pieces differ where they overlap; damage; an error of a store.
pub async fn assemble(
    repository: &Repository,
    lineage: LineageId,
    segment: WalSegment,
    size: SegmentSize,
) -> Result<Option<(WalInfo, Vec<u8>)>, Error> {
    let timeline = names::pieces(lineage, segment.timeline);
    let prefix = format!("{timeline}{}/", segment.name(size));
    let mut found: Vec<(PieceRange, Key)> = Vec::new();
    for meta in repository.list(&prefix).await? {
        let range = meta.key.as_str().strip_prefix(&timeline).and_then(|name| parse(name, size));
        found.extend(range.map(|range| (range, meta.key)));
    }
    found.sort();
    let ranges: Vec<PieceRange> = found.iter().map(|(range, _)| *range).collect();
    let (len, broken) = join(&ranges);
    if len == 0 || broken {
        return Ok(None);
    }
    let mut whole: Vec<u8> = Vec::new();
    let mut info = None;
    for (range, key) in &found {
        let (wire, content) = read(repository, key).await?;
        check(&wire, lineage, *range, size).map_err(|reason| damaged(repository, key, reason))?;
        overlay(&mut whole, *range, &content).map_err(|at| Error::Conflict {
            key: key.to_string(),
            expected: "the bytes of the pieces before it".into(),
            seen: format!("others at offset {at}"),
        })?;
        info = Some(wire);
    }
    let Some(wire) = info else { return Ok(None) };
    whole.resize(usize::try_from(size.get()).unwrap_or(usize::MAX), 0);
    let info = WalInfo {
        lineage,
        name: segment.name(size),
        len: size.get(),
        digest: repository.keys().digest(&whole),
        system_id: SystemId::new(wire.system_id),
        writer: Id::from_bytes(wire.writer),
        written: Timestamp::from_microsecond(wire.written_us).unwrap_or(Timestamp::UNIX_EPOCH),
    };
    Ok(Some((info, whole)))
}

/// Bytes from the beginning without a hole, and whether something lies behind one. `ranges` ascend.
fn join(ranges: &[PieceRange]) -> (u32, bool) {
    let mut len = 0;
    for range in ranges {
        if range.start > len {
            return (len, true);
        }
        len = len.max(range.end);
    }
    (len, false)
}

/// Writes a piece over what is there already; the offset of the first byte that differs otherwise.
fn overlay(whole: &mut Vec<u8>, range: PieceRange, content: &[u8]) -> Result<(), usize> {
    let start = range.start as usize;
    let there = whole.get(start..).unwrap_or_default();
    let common = there.len().min(content.len());
    let differs = there.iter().zip(content).position(|(a, b)| a != b);
    if let Some(at) = differs {
        return Err(start + at);
    }
    whole.extend_from_slice(content.get(common..).unwrap_or_default());
    Ok(())
}

/// What a piece says of itself, and its bytes, which were compared with their digest.
async fn read(repository: &Repository, key: &Key) -> Result<(PieceWire, Vec<u8>), Error> {
    let frames = repository.read(Kind::WalPiece, key).await?;
    let lead = frames.first().map(Vec::as_slice).unwrap_or_default();
    let wire: PieceWire = from_cbor(lead).map_err(|reason| damaged(repository, key, reason))?;
    let content = frames.get(1..).unwrap_or_default().concat();
    if *repository.keys().digest(&content).as_bytes() != wire.digest {
        return Err(damaged(repository, key, "the content is not what its digest says".into()));
    }
    Ok((wire, content))
}

fn check(
    wire: &PieceWire,
    lineage: LineageId,
    range: PieceRange,
    size: SegmentSize,
) -> Result<(), String> {
    let name = range.segment.name(size);
    let same = wire.lineage == *lineage.0.as_bytes()
        && wire.segment == name
        && (wire.start, wire.end) == (range.start, range.end);
    if same {
        Ok(())
    } else {
        Err(format!("it holds {}..{} of '{}'", wire.start, wire.end, wire.segment))
    }
}

fn key(lineage: LineageId, range: PieceRange, size: SegmentSize, writer: Id) -> Result<Key, Error> {
    let folder = names::pieces(lineage, range.segment.timeline);
    let name = range.segment.name(size);
    Key::new(format!("{folder}{name}/{:08x}-{:08x}-{writer}", range.start, range.end))
        .map_err(|error| Error::Limit { what: "a piece's name", reason: error.to_string() })
}

/// Reads `<segment>/<start>-<end>-<writer>`: what follows [`names::pieces`] in a piece's name.
/// `None` when it is no such name.
#[must_use]
pub fn parse(name: &str, size: SegmentSize) -> Option<PieceRange> {
    let (segment, rest) = name.split_once('/')?;
    let segment = WalSegment::parse(segment, size).ok()?;
    let mut parts = rest.split('-');
    let mut hex = || {
        let digits = parts.next().filter(|digits| digits.len() == 8)?;
        u32::from_str_radix(digits, 16).ok()
    };
    let (start, end) = (hex()?, hex()?);
    parts.next()?.parse::<Id>().ok()?;
    let fits = parts.next().is_none() && start < end && u64::from(end) <= size.get();
    fits.then_some(PieceRange { segment, start, end })
}

fn damaged(repository: &Repository, key: &Key, reason: String) -> Error {
    Error::Damaged { store: repository.address(), key: key.to_string(), reason }
}
