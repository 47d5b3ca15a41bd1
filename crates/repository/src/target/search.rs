//! From a request to the backup, the path and the record.

use std::ops::Range;

use pg::{Lsn, SegmentSize, TimelineId, WalSegment, Xid};

use super::rule::Rule;
use super::scan::{Hit, Scanned, Seen, Wal};
use super::{PreparedTransaction, Request, Resolved, Stop, Target, prepared, refuse};
use crate::catalog::{self, Catalog};
use crate::coverage::Coverage;
use crate::error::Error;
use crate::lineage::Lineage;
use crate::root::Summary;
use crate::set::Repository;
use crate::timeline::{self, TimelinePath};
use crate::wal_stream::{EndKind, StreamEnd, WalSource};

/// No bounds for where a record starts.
const EVERYWHERE: Range<Lsn> = Lsn::INVALID..Lsn::MAX;

/// Everything a search looks at.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pub(super) repository: &'a Repository,
    pub(super) request: &'a Request,
    pub(super) source: WalSource,
    pub(super) coverage: Coverage,
    /// The backups on the path that the request allows, newest first.
    pub(super) backups: Vec<Summary>,
}

/// Where to stop, before the backup is chosen.
#[derive(Debug)]
struct Found {
    stop: Stop,
    end: Lsn,
    /// Position in the backups of the one that it was found from.
    backup: usize,
    /// What was seen on the way, when everything from that backup's redo on was read.
    seen: Option<Seen>,
}

pub(super) async fn resolve(
    repository: &Repository,
    lineage: &Lineage,
    request: &Request,
) -> Result<Resolved, Error> {
    let catalog = catalog::backups(repository, lineage.id).await?;
    let timeline = end_timeline(repository, lineage, request, &catalog).await?;
    let mut path = timeline::path_to(repository, lineage.id, timeline).await?;
    let mut backups = allowed(&catalog, lineage, request, &path)?;
    // Without another word, `Immediate` stays where the backup is: the timelines behind it are not
    // needed, and might not be there.
    let newest = backups.first().map_or(timeline, |backup| backup.timeline);
    if request.target == Target::Immediate && request.timeline.is_none() && newest != timeline {
        path = timeline::path_to(repository, lineage.id, newest).await?;
        backups = allowed(&catalog, lineage, request, &path)?;
    }
    let size = segment_size(lineage, &backups)?;
    let coverage = Coverage::load(repository, lineage.id, &path, size).await?;
    let source = WalSource {
        lineage: lineage.id,
        cluster: lineage.cluster.clone(),
        system_id: lineage.system_id,
    };
    let search = Search { repository, request, source, coverage, backups };
    let found = match &request.target {
        Target::Latest => search.latest().await?,
        Target::Immediate => search.immediate()?,
        Target::Lsn(lsn) => search.at(*lsn, request.inclusive, false).await?,
        Target::BeforeRecord(lsn) => search.at(*lsn, false, true).await?,
        Target::Time(time) => search.time(*time).await?,
        Target::Xid(_) | Target::Name(_) => search.named().await?,
    };
    search.finish(found).await
}

/// The timeline to end on.
async fn end_timeline(
    repository: &Repository,
    lineage: &Lineage,
    request: &Request,
    catalog: &Catalog,
) -> Result<TimelineId, Error> {
    let named = request.backup.as_ref().and_then(|label| catalog.find(label));
    match (request.timeline, named) {
        (Some(timeline), _) => Ok(timeline),
        (None, Some(backup)) if request.target == Target::Immediate => Ok(backup.timeline),
        (None, _) => timeline::latest(repository, lineage.id).await,
    }
}

/// The backups that the request allows and that lie on the path, newest first.
fn allowed(
    catalog: &Catalog,
    lineage: &Lineage,
    request: &Request,
    path: &TimelinePath,
) -> Result<Vec<Summary>, Error> {
    let no_backup = |reason: String| Error::NoBackup { cluster: lineage.cluster.clone(), reason };
    if let Some(label) = &request.backup {
        let Some(backup) = catalog.find(label) else {
            return Err(no_backup(format!("labelled '{label}'")));
        };
        if let Some(reason) = path.reason_off(backup.timeline, backup.stop) {
            return Err(no_backup(format!("serves: '{label}' {reason}")));
        }
    }
    let wanted = |backup: &&Summary| {
        request.backup.as_ref().is_none_or(|label| backup.label == *label)
            && backup.system_id == lineage.system_id
            && path.contains(backup.timeline, backup.stop)
    };
    let mut backups: Vec<Summary> = catalog.backups.iter().filter(wanted).cloned().collect();
    backups.sort_by_key(|backup| std::cmp::Reverse(backup.stop));
    if backups.is_empty() {
        let damaged = match catalog.problems.len() {
            0 => String::new(),
            count => format!(" ({count} cannot be read)"),
        };
        return Err(no_backup(format!("lies on the way to timeline {}{damaged}", path.timeline())));
    }
    Ok(backups)
}

/// The size of the cluster's WAL segments: that of its newest backup. Backups from before a change
/// of it cannot be recovered past the change.
fn segment_size(lineage: &Lineage, backups: &[Summary]) -> Result<SegmentSize, Error> {
    let bytes = backups.first().map_or(0, |backup| backup.segment_size);
    u32::try_from(bytes).ok().and_then(|bytes| SegmentSize::new(bytes).ok()).ok_or_else(|| {
        let reason = format!("serves: its WAL segment size of {bytes} bytes is not PostgreSQL's");
        Error::NoBackup { cluster: lineage.cluster.clone(), reason }
    })
}

impl Search<'_> {
    pub(super) fn wal(&self) -> Wal<'_> {
        Wal { repository: self.repository, source: &self.source, coverage: &self.coverage }
    }

    fn size(&self) -> SegmentSize {
        self.coverage.size()
    }

    pub(super) fn number(&self, lsn: Lsn) -> u64 {
        lsn.get() / self.size().get()
    }

    /// The number of the segment that must be there for the log to be there up to `lsn`.
    fn ending(&self, lsn: Lsn) -> u64 {
        WalSegment::ending_at(lsn, self.coverage.path().timeline(), self.size()).number
    }

    /// Whether all WAL from the backup's redo up to `end` is there.
    pub(super) fn covered(&self, backup: &Summary, end: Lsn) -> bool {
        let last = self.coverage.contiguous_to(self.number(backup.redo));
        backup.segment_size == self.size().get()
            && last.is_some_and(|last| last >= self.ending(end))
    }

    async fn latest(&self) -> Result<Found, Error> {
        let Some(backup) = self.backups.first() else { return Err(self.nothing()) };
        let number = self.number(backup.redo);
        if let Some(hole) = self.coverage.hole_from(number) {
            return Err(refuse::hole(self, backup, hole).await);
        }
        if !self.covered(backup, backup.stop) {
            return Err(refuse::unfinished(self, backup));
        }
        let (end, seen) = if self.request.survey {
            let mut seen = Seen::default();
            let scanned =
                self.wal().scan(backup.redo, EVERYWHERE, &Rule::Never, false, &mut seen).await?;
            let Scanned::End(end) = scanned else { return Err(self.nothing()) };
            (end.at, Some(seen))
        } else {
            let last = self.coverage.contiguous_to(number).unwrap_or(number);
            let (end, _) = self.wal().tail(backup.redo, last, Lsn::MAX).await?;
            (end.unwrap_or(backup.redo), None)
        };
        if end < backup.stop {
            return Err(refuse::unfinished(self, backup));
        }
        Ok(Found { stop: Stop::EndOfWal, end, backup: 0, seen })
    }

    fn immediate(&self) -> Result<Found, Error> {
        let usable = self.backups.iter().position(|backup| self.covered(backup, backup.stop));
        match (usable.and_then(|at| Some((at, self.backups.get(at)?))), self.backups.first()) {
            (Some((at, backup)), _) => {
                Ok(Found { stop: Stop::Consistency, end: backup.stop, backup: at, seen: None })
            }
            (None, Some(newest)) => Err(refuse::unfinished(self, newest)),
            (None, None) => Err(self.nothing()),
        }
    }

    /// The first record that starts at or (unless `exactly`) after `lsn`.
    async fn at(&self, lsn: Lsn, inclusive: bool, exactly: bool) -> Result<Found, Error> {
        if !self.coverage.has(self.number(lsn)) {
            return Err(refuse::absent(self, lsn).await);
        }
        // From here and not from a backup on: which record it is does not depend on that.
        let mut seen = Seen::default();
        let scanned = self.wal().scan(lsn, EVERYWHERE, &Rule::From(lsn), false, &mut seen).await?;
        let hit = match scanned {
            Scanned::Hit(hit) => hit,
            Scanned::None => return Err(refuse::absent(self, lsn).await),
            Scanned::End(StreamEnd { at, .. }) => {
                return Err(refuse::absent(self, at.max(lsn)).await);
            }
        };
        if exactly && hit.start != lsn {
            return Err(refuse::no_record(self, lsn, hit.start));
        }
        let stop = Stop::AtRecord { lsn: hit.start, inclusive };
        let past = |backup: &Summary| is_past(backup, hit, inclusive);
        let usable = |backup: &Summary| past(backup) && self.covered(backup, hit.end);
        if let Some(backup) = self.backups.iter().position(usable) {
            return Ok(Found { stop, end: hit.end, backup, seen: None });
        }
        Err(match self.backups.iter().find(|backup| past(backup)) {
            Some(backup) => match self.coverage.hole_from(self.number(backup.redo)) {
                Some(hole) => refuse::hole(self, backup, hole).await,
                None => refuse::unfinished(self, backup),
            },
            None => refuse::too_early(self),
        })
    }

    async fn time(&self, time: jiff::Timestamp) -> Result<Found, Error> {
        let inclusive = self.request.inclusive;
        let rule = Rule::time(time, inclusive);
        for (at, backup) in self.backups.iter().enumerate() {
            // What a backup that began later holds may be newer than the target.
            if backup.started > time || !self.covered(backup, backup.stop) {
                continue;
            }
            let mut seen = Seen::default();
            match self.wal().scan(backup.redo, EVERYWHERE, &rule, false, &mut seen).await? {
                Scanned::Hit(hit) if is_past(backup, hit, false) => {
                    let stop = Stop::AtRecord { lsn: hit.start, inclusive: false };
                    return Ok(Found { stop, end: hit.end, backup: at, seen: Some(seen) });
                }
                Scanned::Hit(_) | Scanned::None => {}
                Scanned::End(StreamEnd { why: EndKind::Hole(hole), .. }) => {
                    return Err(refuse::hole(self, backup, hole).await);
                }
                Scanned::End(end) => return Err(refuse::too_late(self, end.at, &seen)),
            }
        }
        Err(refuse::too_early(self))
    }

    /// A transaction or a restore point: searched from the newest backup back.
    async fn named(&self) -> Result<Found, Error> {
        let mut hole = None;
        // What starts behind a newer backup's stop was read already.
        let mut until = Lsn::MAX;
        for (at, backup) in self.backups.iter().enumerate() {
            if !self.covered(backup, backup.stop) {
                continue;
            }
            let Some((rule, inclusive)) = self.rule_of(backup).await? else { continue };
            let mut seen = Seen::default();
            let range = backup.stop..until;
            match self.wal().scan(backup.redo, range, &rule, inclusive, &mut seen).await? {
                Scanned::Hit(hit) => {
                    let stop = Stop::AtRecord { lsn: hit.start, inclusive };
                    return Ok(Found { stop, end: hit.end, backup: at, seen: Some(seen) });
                }
                Scanned::End(StreamEnd { why: EndKind::Hole(seen), .. }) => hole = Some((at, seen)),
                Scanned::End(_) | Scanned::None => {}
            }
            until = backup.stop;
        }
        Err(match hole.and_then(|(at, hole)| Some((self.backups.get(at)?, hole))) {
            Some((backup, hole)) => refuse::hole(self, backup, hole).await,
            None => refuse::unknown(self).await,
        })
    }

    /// The rule for a transaction or a restore point in the WAL behind a backup, and whether its
    /// record is replayed; `None` when it cannot be there.
    async fn rule_of(&self, backup: &Summary) -> Result<Option<(Rule, bool)>, Error> {
        let xid = match &self.request.target {
            Target::Name(name) => return Ok(Some((Rule::Name(name.clone().into_bytes()), true))),
            Target::Xid(xid) => *xid,
            _ => return Ok(None),
        };
        let checkpoint = self.wal().checkpoint(backup.redo, backup.stop).await?;
        let near = checkpoint.map(|checkpoint| checkpoint.next_xid);
        if let Some(checkpoint) = checkpoint
            && checkpoint.oldest_active_xid != Xid::INVALID
        {
            let oldest = checkpoint.next_xid.nearest(checkpoint.oldest_active_xid);
            let wanted = if xid.epoch() == 0 { oldest.nearest(xid.xid()) } else { xid };
            if wanted < oldest {
                return Ok(None); // it had ended before the backup began
            }
        }
        Ok(Some((Rule::Xid { xid, near }, self.request.inclusive)))
    }

    async fn finish(&self, found: Found) -> Result<Resolved, Error> {
        let Some(backup) = self.backups.get(found.backup) else { return Err(self.nothing()) };
        let seen = match &found.seen {
            Some(seen) => Some(seen.clone()),
            None if self.request.survey => Some(self.survey(backup, &found.stop, found.end).await?),
            None => None,
        };
        let (newest_commit, last_commit) = match &seen {
            Some(seen) => (seen.newest_commit, seen.last_commit),
            None => {
                let (before, _) = limits(&found.stop, found.end);
                let last = self.ending(found.end);
                let (_, last) = self.wal().tail(backup.redo, last, before).await?;
                (last, last)
            }
        };
        let prepared = match seen.filter(|_| self.request.survey) {
            Some(seen) => Some(self.pending(backup, seen).await?),
            None => None,
        };
        let path = self.coverage.path();
        Ok(Resolved {
            backup: backup.clone(),
            candidates: self.fallbacks(&found),
            timeline: path.timeline(),
            last_segment: path.segment(self.ending(found.end), self.size()),
            path: path.clone(),
            stop: found.stop,
            end: found.end,
            newest_commit,
            last_commit,
            prepared,
        })
    }

    /// Reads everything from a backup's redo to the stop.
    async fn survey(&self, backup: &Summary, stop: &Stop, end: Lsn) -> Result<Seen, Error> {
        let (before, and_it) = limits(stop, end);
        let mut seen = Seen::default();
        let from = backup.redo;
        let rule = Rule::From(before);
        self.wal().scan(from, EVERYWHERE, &rule, and_it, &mut seen).await?;
        Ok(seen)
    }

    async fn pending(
        &self,
        backup: &Summary,
        mut seen: Seen,
    ) -> Result<Vec<PreparedTransaction>, Error> {
        for xid in prepared::in_backup(self.repository, backup).await? {
            if !seen.settled.contains(&xid) {
                let unknown = PreparedTransaction { xid, gid: None, prepared: None };
                seen.prepared.entry(xid).or_insert(unknown);
            }
        }
        Ok(seen.prepared.into_values().collect())
    }

    /// The other backups from which the same stop can be reached.
    fn fallbacks(&self, found: &Found) -> Vec<Summary> {
        let serves = |backup: &Summary| match found.stop {
            Stop::AtRecord { lsn, inclusive } => {
                is_past(backup, Hit { start: lsn, end: found.end }, inclusive)
                    && self.covered(backup, found.end)
            }
            Stop::EndOfWal => self.covered(backup, found.end),
            // Another backup's consistency is another point.
            Stop::Consistency => false,
        };
        let others = self.backups.iter().enumerate().filter(|(at, _)| *at != found.backup);
        others.filter(|(_, backup)| serves(backup)).map(|(_, backup)| backup.clone()).collect()
    }

    fn nothing(&self) -> Error {
        Error::NoBackup { cluster: self.source.cluster.clone(), reason: "serves".into() }
    }
}

/// Whether a recovery from `backup` is consistent when it stops at `hit`: PostgreSQL refuses with
/// "requested recovery stop point is before consistent recovery point" otherwise.
fn is_past(backup: &Summary, hit: Hit, inclusive: bool) -> bool {
    backup.stop <= if inclusive { hit.end } else { hit.start }
}

/// The first record that is not looked at by position, and whether the record there counts.
fn limits(stop: &Stop, end: Lsn) -> (Lsn, bool) {
    match stop {
        Stop::AtRecord { lsn, inclusive } => (*lsn, *inclusive),
        Stop::Consistency | Stop::EndOfWal => (end, false),
    }
}
