//! What of the write-ahead log is in the repository, and since when.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use pg::{Lsn, SegmentName, SegmentSize, TimelineId, WalFileName, WalSegment};
use repository::gap::{self, Gap};
use repository::kind::Kind;
use repository::lineage::Lineage;
use repository::{Repository, names, piece, wal_object};
use stdx::ByteCount;

use crate::error::Error;

/// The archived WAL of a lineage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The timelines that have WAL, ascending.
    pub timelines: Vec<TimelineStatus>,
    /// Timelines with a history file, ascending.
    pub histories: Vec<TimelineId>,
    /// Names of files that were refused because others are archived under their name, ascending.
    pub conflicts: Vec<String>,
    /// When the newest WAL was stored, by the clock of the host that stored it.
    pub newest: Option<Timestamp>,
    /// Time since then: what a disaster now would cost at most.
    pub age: Option<SignedDuration>,
    /// Bytes that all WAL takes in one repository.
    pub bytes: ByteCount,
}

/// The archived WAL of one timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineStatus {
    /// The timeline.
    pub timeline: TimelineId,
    /// The size of its segments; known from the first of them.
    pub segment_size: SegmentSize,
    /// Complete segments.
    pub segments: u64,
    /// The first one.
    pub first: WalSegment,
    /// The last one.
    pub last: WalSegment,
    /// First and last of the segments missing in each hole, ascending.
    pub holes: Vec<(WalSegment, WalSegment)>,
    /// The end of what is stored behind the last complete segment.
    pub tail: Option<Lsn>,
    /// Gaps that were noted, filled since or not.
    pub gaps: Vec<Gap>,
    /// When its last segment was stored.
    pub newest: Timestamp,
    /// Bytes it takes in one repository.
    pub bytes: ByteCount,
}

impl TimelineStatus {
    /// Whether every segment from the first to the last is there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.holes.is_empty()
    }
}

/// Lists what is archived of a lineage. Reads two small ranges for each timeline.
///
/// # Errors
/// An error of the repository.
pub async fn status(
    repository: &Repository,
    lineage: &Lineage,
    now: Timestamp,
) -> Result<Status, Error> {
    let mut found: BTreeMap<TimelineId, Listed> = BTreeMap::new();
    let folder = names::wal_prefix(lineage.id, TimelineId::FIRST);
    let all = folder.trim_end_matches('/').rsplit_once('/').map_or("", |(all, _)| all);
    for meta in repository.list(&format!("{all}/")).await? {
        let name = meta.key.as_str().rsplit_once('/').map_or("", |(_, name)| name);
        if let Ok(WalFileName::Segment(name)) = name.parse() {
            let listed = found.entry(name.timeline()).or_default();
            listed.segments.insert(name, meta.key.clone());
            listed.bytes += ByteCount::new(meta.size);
        }
    }
    let mut timelines = Vec::new();
    for (timeline, listed) in found {
        timelines.extend(of_timeline(repository, lineage, timeline, listed).await?);
    }
    let newest = timelines.iter().map(|timeline| timeline.newest).max();
    let bytes = timelines.iter().fold(ByteCount::ZERO, |sum, timeline| sum + timeline.bytes);
    Ok(Status {
        newest,
        age: newest.map(|newest| now.duration_since(newest)),
        timelines,
        histories: histories(repository, lineage).await?,
        conflicts: conflicts(repository, lineage).await?,
        bytes,
    })
}

#[derive(Default)]
struct Listed {
    segments: BTreeMap<SegmentName, store::Key>,
    bytes: ByteCount,
}

async fn of_timeline(
    repository: &Repository,
    lineage: &Lineage,
    timeline: TimelineId,
    listed: Listed,
) -> Result<Option<TimelineStatus>, Error> {
    let (Some((_, first)), Some((_, last))) =
        (listed.segments.first_key_value(), listed.segments.last_key_value())
    else {
        return Ok(None);
    };
    let info = wal_object::read_info(repository, Kind::WalSegment, first).await?;
    let damaged = || repository::Error::Damaged {
        store: repository.address(),
        key: first.to_string(),
        reason: format!("expected a segment of 1 MiB to 1 GiB, seen {} bytes", info.len),
    };
    let size = u32::try_from(info.len).ok().and_then(|len| SegmentSize::new(len).ok());
    let size = size.ok_or_else(damaged)?;
    let newest = wal_object::read_info(repository, Kind::WalSegment, last).await?.written;
    let numbers: BTreeSet<u64> =
        listed.segments.keys().filter_map(|name| Some(name.segment(size).ok()?.number)).collect();
    let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else { return Ok(None) };
    let segment = |number| WalSegment { timeline, number };
    let pairs = numbers.iter().zip(numbers.iter().skip(1));
    let holes = pairs
        .filter(|(before, after)| *before + 1 < **after)
        .map(|(before, after)| (segment(before + 1), segment(after - 1)))
        .collect();
    let held = piece::held(repository, lineage.id, timeline, size).await?;
    let behind = held.iter().filter(|held| held.segment.number > *last);
    let tail = behind.map(|held| held.segment.begin(size) + u64::from(held.len)).max();
    Ok(Some(TimelineStatus {
        timeline,
        segment_size: size,
        segments: numbers.len() as u64,
        first: segment(*first),
        last: segment(*last),
        holes,
        tail,
        gaps: gap::list(repository, lineage.id, timeline).await?,
        newest,
        bytes: listed.bytes,
    }))
}

async fn histories(repository: &Repository, lineage: &Lineage) -> Result<Vec<TimelineId>, Error> {
    let prefix = names::histories(lineage.id);
    let listed = repository.list(&prefix).await?;
    let id = |meta: &store::ObjectMeta| {
        u32::from_str_radix(meta.key.as_str().strip_prefix(&prefix)?, 16).ok().map(TimelineId::new)
    };
    Ok(listed.iter().filter_map(id).collect())
}

async fn conflicts(repository: &Repository, lineage: &Lineage) -> Result<Vec<String>, Error> {
    let prefix = names::conflicts(lineage.id);
    let listed = repository.list(&prefix).await?;
    let name = |meta: &store::ObjectMeta| {
        let (name, _) = meta.key.as_str().strip_prefix(&prefix)?.split_once('/')?;
        Some(name.to_owned())
    };
    let names: BTreeSet<String> = listed.iter().filter_map(name).collect();
    Ok(names.into_iter().collect())
}
