//! What can be reached.

use pg::{Lsn, SegmentSize, TimelineId, WalSegment};

use crate::catalog::{self, Problem};
use crate::coverage::{Coverage, Hole};
use crate::error::Error;
use crate::gap::{self, Gap};
use crate::lineage::Lineage;
use crate::root::Summary;
use crate::set::Repository;
use crate::target::Commit;
use crate::target::scan::Wal;
use crate::timeline::{self, TimelinePath};
use crate::wal_stream::WalSource;

/// How many segments are read in search of a span's first commit.
const FIRST_COMMIT_SEGMENTS_MAX: u64 = 4;

/// Everything that can be reached along one timeline path.
#[derive(Debug)]
pub struct Window {
    /// The path looked along.
    pub path: TimelinePath,
    /// What can be reached, ascending, holes taken out.
    pub spans: Vec<Span>,
    /// Segments that are missing between segments that are there.
    pub holes: Vec<Hole>,
    /// Gaps that were noticed and are not filled.
    pub gaps: Vec<Gap>,
    /// Backups that are on other timelines, and why they do not lead along this path.
    pub elsewhere: Vec<(Summary, String)>,
    /// Backups on the path from which nothing can be reached: WAL that they need is missing.
    pub unusable: Vec<Summary>,
    /// Backups that cannot be read.
    pub problems: Vec<Problem>,
}

/// A stretch of positions that can all be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The backups in it, oldest first. Not empty.
    pub backups: Vec<Summary>,
    /// Where the oldest of them is consistent: the first position that can be reached.
    pub from: Lsn,
    /// The end of the WAL that follows without a hole: that of the last record when times were
    /// asked for, else that of the last segment.
    pub until: Lsn,
    /// The first commit behind `from`, when times were asked for and it comes early enough.
    pub first_commit: Option<Commit>,
    /// The last commit in WAL order before `until`, when times were asked for. A time is reachable
    /// as a target from the first backup's end up to, not including, this commit's time.
    pub last_commit: Option<Commit>,
}

/// How much of the WAL is read for a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// None: names alone.
    Positions,
    /// The first and last segments of each span.
    Times,
}

/// What can be reached along the path to `timeline`, by default the lineage's current one.
///
/// With [`Detail::Times`] it must be called inside a tokio runtime.
///
/// # Errors
/// [`Error::WalDamaged`] with [`Detail::Times`]; an error of a store.
pub async fn window(
    repository: &Repository,
    lineage: &Lineage,
    timeline: Option<TimelineId>,
    detail: Detail,
) -> Result<Window, Error> {
    let catalog = catalog::backups(repository, lineage.id).await?;
    let timeline = match timeline {
        Some(timeline) => timeline,
        None => timeline::latest(repository, lineage.id).await?,
    };
    let path = timeline::path_to(repository, lineage.id, timeline).await?;
    let mut on_path = Vec::new();
    let mut elsewhere = Vec::new();
    for backup in catalog.backups {
        match path.reason_off(backup.timeline, backup.stop) {
            None => on_path.push(backup),
            Some(reason) => elsewhere.push((backup, reason)),
        }
    }
    let mut window = Window {
        path,
        spans: Vec::new(),
        holes: Vec::new(),
        gaps: Vec::new(),
        elsewhere,
        unusable: Vec::new(),
        problems: catalog.problems,
    };
    let Some(size) = on_path.last().and_then(segment_size) else { return Ok(window) };
    let coverage = Coverage::load(repository, lineage.id, &window.path, size).await?;
    for backup in on_path {
        window.add(backup, &coverage);
    }
    window.holes = coverage.holes();
    window.gaps = unfilled(repository, lineage, &coverage).await?;
    if detail == Detail::Times {
        let source = WalSource {
            lineage: lineage.id,
            cluster: lineage.cluster.clone(),
            system_id: lineage.system_id,
        };
        let wal = Wal { repository, source: &source, coverage: &coverage };
        for span in &mut window.spans {
            span.read_times(&wal).await?;
        }
    }
    Ok(window)
}

impl Window {
    /// Adds a backup on the path; they come in ascending order.
    fn add(&mut self, backup: Summary, coverage: &Coverage) {
        let size = coverage.size();
        let last = coverage.contiguous_to(backup.redo.get() / size.get());
        let until = last.map(|last| coverage.path().segment(last, size).end(size));
        let until =
            until.filter(|until| backup.stop <= *until && backup.segment_size == size.get());
        let Some(until) = until else { return self.unusable.push(backup) };
        match self.spans.last_mut() {
            Some(span) if span.until == until => span.backups.push(backup),
            _ => self.spans.push(Span {
                from: backup.stop,
                backups: vec![backup],
                until,
                first_commit: None,
                last_commit: None,
            }),
        }
    }

    /// The first position that can be reached.
    #[must_use]
    pub fn begin(&self) -> Option<Lsn> {
        self.spans.first().map(|span| span.from)
    }

    /// The end of what can be reached.
    #[must_use]
    pub fn end(&self) -> Option<Lsn> {
        self.spans.last().map(|span| span.until)
    }
}

impl Span {
    async fn read_times(&mut self, wal: &Wal<'_>) -> Result<(), Error> {
        if self.from >= self.until {
            return Ok(());
        }
        let size = wal.coverage.size().get();
        let first = self.from.get() / size;
        let last = self.until.get().saturating_sub(1) / size;
        let limit = last.min(first.saturating_add(FIRST_COMMIT_SEGMENTS_MAX));
        self.first_commit = wal.first_commit(self.from, limit).await?;
        let (end, commit) = wal.tail(self.from, last, Lsn::MAX).await?;
        self.until = end.unwrap_or(self.from).max(self.from);
        self.last_commit = commit;
        Ok(())
    }
}

fn segment_size(backup: &Summary) -> Option<SegmentSize> {
    SegmentSize::new(u32::try_from(backup.segment_size).ok()?).ok()
}

/// The noticed gaps of which some segment is still missing.
async fn unfilled(
    repository: &Repository,
    lineage: &Lineage,
    coverage: &Coverage,
) -> Result<Vec<Gap>, Error> {
    let size = coverage.size();
    let mut gaps = Vec::new();
    for timeline in coverage.path().timelines() {
        gaps.extend(gap::list(repository, lineage.id, timeline).await?);
    }
    let missing = |gap: &Gap| {
        let first = WalSegment::containing(gap.begin, gap.timeline, size).number;
        let last = WalSegment::ending_at(gap.end, gap.timeline, size).number;
        let on_path = coverage.path().segment(first, size).timeline == gap.timeline;
        on_path && coverage.contiguous_to(first).is_none_or(|there| there < last)
    };
    gaps.retain(missing);
    Ok(gaps)
}
