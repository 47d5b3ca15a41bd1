//! Reading the archived WAL once.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pg::wal::TimestampTz;
use pg::wal::activity::{Activity, TimePoint, Transaction};
use pg::{Lsn, WalSegment};
use repository::coverage::Coverage;
use repository::target::Target;
use repository::wal_stream::{EndKind, WalSource, WalStream};
use repository::{Repository, names};
use stdx::ByteCount;

use super::{LocateRequest, Located, Proposal, Read, Suspect, weigh};
use crate::error::Error;

/// How much earlier than the time asked for a segment may have been stored and still be read: the
/// store's clock may be behind the database's.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_mins(10);

/// WAL read before the time asked for, so that long transactions are counted whole: about two
/// checkpoints of a busy server with default settings.
const LEAD_IN_BYTES: u64 = 512 << 20;

/// Commits remembered to find the last one before a record that lies somewhat before its own
/// commit: only drops of databases and tablespaces do, and they commit at once.
const RECENT_COMMITS: usize = 256;

/// Suspects kept; of more the less destructive ones go.
const SUSPECTS_MAX: usize = 1000;

/// The search while it runs.
struct Search<'a> {
    request: &'a LocateRequest<'a>,
    activity: Activity,
    suspects: Vec<Found>,
    recent: VecDeque<TimePoint>,
    commits: u64,
    last_commit: Option<TimePoint>,
    is_cut: bool,
}

/// A suspect, and how many commits were before its own.
struct Found {
    suspect: Suspect,
    commits_before: u64,
}

pub(super) async fn search(
    repository: &Repository,
    request: &LocateRequest<'_>,
) -> Result<Located, Error> {
    let coverage = request.coverage;
    let mut search = Search {
        request,
        activity: Activity::new(request.limits),
        suspects: Vec::new(),
        recent: VecDeque::new(),
        commits: 0,
        last_commit: None,
        is_cut: false,
    };
    let mut read = Read {
        from: Lsn::INVALID,
        end: None,
        holes: Vec::new(),
        bytes: ByteCount::ZERO,
        elapsed: Duration::ZERO,
        commits: 0,
    };
    let mut next = begin(repository, request).await?;
    read.from = next.unwrap_or_default();
    let source = WalSource {
        lineage: request.lineage.id,
        cluster: request.lineage.cluster.clone(),
        system_id: request.lineage.system_id,
    };
    let limit =
        request.to.map_or(u64::MAX, |to| to.get().saturating_sub(1) / coverage.size().get());
    while let Some(from) = next.take().filter(|from| request.to.is_none_or(|to| *from < to)) {
        let mut stream =
            WalStream::begin_limited(repository, &source, coverage, from, limit).await?;
        let mut visit = |record: &pg::wal::Record<'_>| search.record(record);
        let end = stream.run(&mut visit).await?;
        let at = stream.position();
        read.bytes += ByteCount::new(at.checked_sub(from).unwrap_or(0));
        if let Some(end) = &end
            && let EndKind::Hole(hole) = &end.why
        {
            read.holes.push(*hole);
            next = Some(hole.end());
        }
        read.end = end.or(read.end);
    }
    read.commits = search.commits;
    Ok(search.finish(read))
}

impl Search<'_> {
    fn record(
        &mut self,
        record: &pg::wal::Record<'_>,
    ) -> Result<ControlFlow<()>, repository::Error> {
        if self.request.to.is_some_and(|to| record.start >= to) {
            return Ok(ControlFlow::Break(()));
        }
        let point =
            self.activity.record(record).map_err(|error| repository::Error::WalDamaged {
                cluster: self.request.lineage.cluster.clone(),
                lsn: error.at.to_string(),
                reason: error.to_string(),
            })?;
        let Some(point) = point.filter(TimePoint::is_commit) else {
            return Ok(ControlFlow::Continue(()));
        };
        for transaction in self.activity.take_notable() {
            self.consider(transaction);
        }
        self.commits += 1;
        self.last_commit = Some(point);
        if self.recent.len() >= RECENT_COMMITS {
            self.recent.pop_front();
        }
        self.recent.push_back(point);
        Ok(ControlFlow::Continue(()))
    }

    fn consider(&mut self, transaction: Transaction) {
        let request = self.request;
        let since = request.since.map(TimestampTz::from_timestamp_floor);
        let until = request.until.map(TimestampTz::from_timestamp_floor);
        let too_early = since.is_some_and(|since| transaction.time < since);
        let too_late = until.is_some_and(|until| transaction.time > until);
        let damage = weigh::damage(&transaction, request.names);
        let other = request.table.is_some_and(|table| !weigh::concerns(&damage, table));
        if too_early || too_late || other || damage.is_empty() {
            return;
        }
        let stop = transaction.recover_before();
        let last_commit = self.recent.iter().rev().find(|point| point.start < stop).copied();
        let passed = self.recent.iter().rev().take_while(|point| point.start >= stop).count();
        let suspect = Suspect {
            database: transaction
                .database
                .and_then(|database| request.names.database(database).map(str::to_owned)),
            rows_lost: weigh::rows_lost(&damage),
            proposal: Proposal {
                target: Target::BeforeRecord(stop),
                last_commit,
                transactions_lost: 0,
                last_lost: None,
            },
            transaction,
            damage,
        };
        let commits_before = self.commits.saturating_sub(passed as u64);
        self.suspects.push(Found { suspect, commits_before });
        if self.suspects.len() >= 2 * SUSPECTS_MAX {
            self.rank();
        }
    }

    /// Puts the most destructive first, and of equal ones the latest; drops those beyond the limit.
    fn rank(&mut self) {
        let key = |found: &Found| {
            (weigh::weight(&found.suspect.damage), found.suspect.transaction.end_start)
        };
        self.suspects.sort_by_key(|found| std::cmp::Reverse(key(found)));
        self.is_cut |= self.suspects.len() > SUSPECTS_MAX;
        self.suspects.truncate(SUSPECTS_MAX);
    }

    fn finish(mut self, read: Read) -> Located {
        self.rank();
        let (commits, last) = (self.commits, self.last_commit);
        let suspects = self.suspects.into_iter().map(|found| {
            let mut suspect = found.suspect;
            // Its own commit is not counted: that one is meant to be lost.
            let lost = commits.saturating_sub(found.commits_before).saturating_sub(1);
            suspect.proposal.transactions_lost = lost;
            suspect.proposal.last_lost = last.filter(|_| lost > 0);
            suspect
        });
        Located {
            suspects: suspects.collect(),
            prepared: self.activity.prepared(),
            is_complete: self.activity.is_complete() && !self.is_cut,
            read,
        }
    }
}

/// Where to begin: at the start of a segment that is there. `None` when there is none behind.
async fn begin(repository: &Repository, request: &LocateRequest<'_>) -> Result<Option<Lsn>, Error> {
    let (coverage, size) = (request.coverage, request.coverage.size());
    let by_time = match request.since {
        Some(since) => stored_since(repository, request, since).await?,
        None => 0,
    };
    let by_time = by_time.saturating_sub(LEAD_IN_BYTES / size.get());
    let wanted = by_time.max(request.from.map_or(0, |from| from.get() / size.get()));
    if coverage.has(wanted) {
        return Ok(Some(Lsn::new(wanted.saturating_mul(size.get()))));
    }
    Ok(coverage.hole_from(wanted).map(|hole| hole.end()))
}

/// The number of the first segment that was stored at or after `since`: nothing that ended then is
/// in an earlier one. The last one there is, if all were stored before.
async fn stored_since(
    repository: &Repository,
    request: &LocateRequest<'_>,
    since: Timestamp,
) -> Result<u64, Error> {
    let coverage: &Coverage = request.coverage;
    let since = since.checked_sub(CLOCK_SLACK).unwrap_or(Timestamp::MIN);
    let mut first = coverage.last().map_or(0, |last| last.number);
    for stretch in coverage.path().stretches() {
        let prefix = names::wal_prefix(request.lineage.id, stretch.timeline);
        for meta in repository.list(&prefix).await? {
            let name = meta.key.as_str().strip_prefix(&prefix).unwrap_or_default();
            let Ok(segment) = WalSegment::parse(name, coverage.size()) else { continue };
            let on_path = coverage.path().segment(segment.number, coverage.size()) == segment;
            if on_path && meta.modified >= since {
                first = first.min(segment.number);
            }
        }
    }
    Ok(first)
}
