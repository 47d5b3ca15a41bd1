//! What lies in a `pg_wal`, by names and first pages.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;

use pg::wal::{SegmentHeader, WalBlockSize};
use pg::{SegmentName, SegmentSize, TimelineId, WalFileName, WalSegment};
use repository::lineage::Lineage;

use crate::content;
use crate::error::Error;

/// The files of a `pg_wal` that hold WAL.
#[derive(Debug)]
pub(super) struct Folder {
    /// Timelines with a history file, ascending.
    pub(super) histories: BTreeSet<TimelineId>,
    /// Names that the server takes for archived.
    pub(super) done: BTreeSet<String>,
    pub(super) segment_size: SegmentSize,
    pub(super) block_size: WalBlockSize,
    /// Segment numbers by timeline; never empty.
    segments: BTreeMap<TimelineId, BTreeSet<u64>>,
    newest: TimelineId,
}

impl Folder {
    /// Looks at every file. A recycled segment carries the name of a future one and the header of
    /// its former life: it is left out.
    pub(super) fn read(pg_wal: &Path, lineage: &Lineage) -> Result<Self, Error> {
        let none =
            |reason: &str| Error::NoSalvage { folder: pg_wal.to_owned(), reason: reason.into() };
        let mut histories = BTreeSet::new();
        let mut segments: BTreeMap<TimelineId, BTreeSet<u64>> = BTreeMap::new();
        let mut sizes: Option<(SegmentSize, WalBlockSize)> = None;
        let mut foreign = None;
        for name in names(pg_wal)? {
            match name.parse() {
                Ok(WalFileName::History(timeline)) => {
                    histories.insert(timeline);
                }
                Ok(WalFileName::Segment(parsed)) => match look(pg_wal, parsed, lineage)? {
                    Ok((segment, header)) => {
                        let seen = (header.segment_size, header.block_size);
                        if *sizes.get_or_insert(seen) == seen {
                            segments.entry(segment.timeline).or_default().insert(segment.number);
                        }
                    }
                    Err(error @ Error::Foreign { .. }) => foreign = Some(error),
                    Err(_) => {}
                },
                _ => {}
            }
        }
        let Some((segment_size, block_size)) = sizes else {
            return Err(foreign.unwrap_or_else(|| none("expected WAL segments, seen none")));
        };
        let newest = segments.last_key_value().map(|(timeline, _)| *timeline);
        let newest = newest.ok_or_else(|| none("expected WAL segments, seen none"))?;
        let done = done(pg_wal)?;
        Ok(Self { histories, done, segment_size, block_size, segments, newest })
    }

    /// The timelines that have segments, ascending.
    pub(super) fn timelines(&self) -> impl Iterator<Item = TimelineId> + '_ {
        self.segments.keys().copied()
    }

    pub(super) fn newest(&self) -> TimelineId {
        self.newest
    }

    pub(super) fn has(&self, segment: WalSegment) -> bool {
        self.segments.get(&segment.timeline).is_some_and(|it| it.contains(&segment.number))
    }

    /// The segments of a timeline in runs without a hole, ascending.
    pub(super) fn runs(&self, timeline: TimelineId) -> Vec<Vec<WalSegment>> {
        let mut runs: Vec<Vec<WalSegment>> = Vec::new();
        for number in self.segments.get(&timeline).into_iter().flatten() {
            let segment = WalSegment { timeline, number: *number };
            match runs.last_mut() {
                Some(run) if run.last().is_some_and(|last| last.next() == segment) => {
                    run.push(segment);
                }
                _ => runs.push(vec![segment]),
            }
        }
        runs
    }
}

fn names(folder: &Path) -> Result<BTreeSet<String>, Error> {
    let listed = fs::read_dir(folder).map_err(Error::file("list", folder))?;
    let mut names = BTreeSet::new();
    for entry in listed {
        names.extend(entry.map_err(Error::file("list", folder))?.file_name().into_string().ok());
    }
    Ok(names)
}

/// The names with a `.done` mark. A `pg_wal` that was copied without its marks has none.
fn done(pg_wal: &Path) -> Result<BTreeSet<String>, Error> {
    match names(&pg_wal.join("archive_status")) {
        Ok(marks) => Ok(marks
            .iter()
            .filter_map(|mark| mark.strip_suffix(".done").map(str::to_owned))
            .collect()),
        Err(Error::File { source, .. }) if source.kind() == ErrorKind::NotFound => {
            Ok(BTreeSet::new())
        }
        Err(error) => Err(error),
    }
}

type Looked = Result<(WalSegment, SegmentHeader), Error>;

/// What the first page of a segment file says; the inner error is about its content.
fn look(pg_wal: &Path, name: SegmentName, lineage: &Lineage) -> Result<Looked, Error> {
    let path = pg_wal.join(name.to_string());
    let mut file = match File::open(&path) {
        Ok(file) => file,
        // A server that still runs removes and renames.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let reason = error.to_string();
            return Ok(Err(Error::NotWal { name: name.to_string(), reason }));
        }
        Err(error) => return Err(Error::file("read", &path)(error)),
    };
    let len = file.metadata().map_err(Error::file("read", &path))?.len();
    let mut bytes = Vec::with_capacity(SegmentHeader::SIZE);
    let head = file.by_ref().take(SegmentHeader::SIZE as u64).read_to_end(&mut bytes);
    head.map_err(Error::file("read", &path))?;
    let looked = content::check_header(name, &bytes, lineage.system_id, &lineage.cluster);
    Ok(looked.and_then(|(segment, header)| {
        if len == header.segment_size.get() {
            Ok((segment, header))
        } else {
            let reason = format!("expected {} bytes, seen {len}", header.segment_size.get());
            Err(Error::NotWal { name: name.to_string(), reason })
        }
    }))
}
