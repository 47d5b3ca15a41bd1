//! Reading WAL for a record to stop at, and for what is there at that point.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};

use pg::wal::Record;
use pg::wal::rmgr::xact::{Ended, Xact};
use pg::wal::rmgr::xlog::{Checkpoint, Xlog};
use pg::{Lsn, Xid};

use super::rule::{Meaning, Rule};
use super::{Commit, PreparedTransaction};
use crate::coverage::Coverage;
use crate::error::Error;
use crate::set::Repository;
use crate::wal_stream::{StreamEnd, WalSource, WalStream};

/// A commit record is never longer than this in bytes: it would drop some hundred thousand tables.
const COMMIT_LEN_MAX: u64 = 16 << 20;

/// What to read, and from where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wal<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) source: &'a WalSource,
    pub(crate) coverage: &'a Coverage,
}

/// The record a rule picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) start: Lsn,
    pub(super) end: Lsn,
}

/// What a scan came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scanned {
    Hit(Hit),
    End(StreamEnd),
    /// There was none before the range's end.
    None,
}

/// What the records read so far have left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) last_commit: Option<Commit>,
    pub(super) newest_commit: Option<Commit>,
    /// Prepared and not ended since.
    pub(super) prepared: BTreeMap<Xid, PreparedTransaction>,
    /// Prepared at any time before, and ended.
    pub(super) settled: BTreeSet<Xid>,
}

impl Seen {
    fn note(&mut self, record: &Record<'_>, meaning: &Meaning<'_>) {
        let Meaning::Xact(xact) = meaning else { return };
        match xact {
            Xact::Commit(ended) => self.commit(record, ended),
            Xact::CommitPrepared(ended) => {
                self.settle(ended.xid);
                self.commit(record, ended);
            }
            Xact::AbortPrepared(ended) => self.settle(ended.xid),
            Xact::Prepare(prepared) => {
                let transaction = PreparedTransaction {
                    xid: prepared.xid,
                    gid: Some(String::from_utf8_lossy(prepared.gid).into_owned()),
                    prepared: prepared.time.to_timestamp(),
                };
                self.prepared.insert(prepared.xid, transaction);
            }
            Xact::Abort(_) | Xact::Assignment { .. } | Xact::Invalidations => {}
        }
    }

    fn settle(&mut self, xid: Xid) {
        self.prepared.remove(&xid);
        self.settled.insert(xid);
    }

    fn commit(&mut self, record: &Record<'_>, ended: &Ended<'_>) {
        let Some(time) = ended.time.to_timestamp() else { return };
        let commit = Commit { time, lsn: record.start, xid: ended.xid };
        self.last_commit = Some(commit);
        if self.newest_commit.is_none_or(|newest| newest.time <= time) {
            self.newest_commit = Some(commit);
        }
    }
}

impl Wal<'_> {
    /// Reads from `from` to the first record that `rule` picks and that starts in `range`.
    /// Everything before it is noted in `seen`; the record itself only when `and_it`.
    pub(super) async fn scan(
        &self,
        from: Lsn,
        range: Range<Lsn>,
        rule: &Rule,
        and_it: bool,
        seen: &mut Seen,
    ) -> Result<Scanned, Error> {
        let mut stream = self.stream(from, range.end.get() / self.coverage.size().get()).await?;
        let mut hit = None;
        let end = stream
            .run(|record| {
                if record.start >= range.end {
                    return Ok(ControlFlow::Break(()));
                }
                let meaning = self.meaning(record)?;
                if record.start >= range.start && rule.matches(record, &meaning) {
                    hit = Some(Hit { start: record.start, end: record.end });
                    if and_it {
                        seen.note(record, &meaning);
                    }
                    return Ok(ControlFlow::Break(()));
                }
                seen.note(record, &meaning);
                Ok(ControlFlow::Continue(()))
            })
            .await?;
        Ok(match (hit, end) {
            (Some(hit), _) => Scanned::Hit(hit),
            (None, Some(end)) => Scanned::End(end),
            (None, None) => Scanned::None,
        })
    }

    /// The first commit at or behind `from`, if there is one before the segment of number `limit`
    /// ends.
    pub(crate) async fn first_commit(
        &self,
        from: Lsn,
        limit: u64,
    ) -> Result<Option<Commit>, Error> {
        let mut seen = Seen::default();
        let mut stream = self.stream(from, limit).await?;
        stream
            .run(|record| {
                seen.note(record, &self.meaning(record)?);
                let found = seen.last_commit.is_some();
                Ok(if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })
            .await?;
        Ok(seen.last_commit)
    }

    async fn stream(&self, from: Lsn, limit: u64) -> Result<WalStream, Error> {
        WalStream::begin_limited(self.repository, self.source, self.coverage, from, limit).await
    }

    /// The checkpoint from which a backup's replay begins, if it comes before `stop`.
    pub(super) async fn checkpoint(
        &self,
        redo: Lsn,
        stop: Lsn,
    ) -> Result<Option<Checkpoint>, Error> {
        let limit = stop.get() / self.coverage.size().get();
        let mut stream = self.stream(redo, limit).await?;
        let mut found = None;
        stream
            .run(|record| {
                if record.start >= stop {
                    return Ok(ControlFlow::Break(()));
                }
                match self.meaning(record)? {
                    Meaning::Xlog(
                        Xlog::CheckpointOnline(checkpoint) | Xlog::CheckpointShutdown(checkpoint),
                    ) if checkpoint.redo == redo => {
                        found = Some(checkpoint);
                        Ok(ControlFlow::Break(()))
                    }
                    _ => Ok(ControlFlow::Continue(())),
                }
            })
            .await?;
        Ok(found)
    }

    /// Reads backwards, segment by segment, from the one of number `last` to the first commit, but
    /// not behind `floor`. Records that start at or after `before` do not count. The end is that of
    /// the last record seen.
    pub(crate) async fn tail(
        &self,
        floor: Lsn,
        last: u64,
        before: Lsn,
    ) -> Result<(Option<Lsn>, Option<Commit>), Error> {
        let size = self.coverage.size();
        let mut end = None;
        let mut number = last;
        loop {
            let begin = self.coverage.path().segment(number, size).begin(size).max(floor);
            let behind = Lsn::new((number + 1).saturating_mul(size.get())).min(before);
            let mut seen = Seen::default();
            // A record that begins in this segment may end some way behind it.
            let limit = last.min(number + 1 + COMMIT_LEN_MAX / size.get());
            let mut stream = self.stream(begin, limit).await?;
            stream
                .run(|record| {
                    if record.start >= behind {
                        return Ok(ControlFlow::Break(()));
                    }
                    end = end.max(Some(record.end));
                    seen.note(record, &self.meaning(record)?);
                    Ok(ControlFlow::Continue(()))
                })
                .await?;
            if seen.last_commit.is_some() || begin <= floor || number == 0 {
                return Ok((end, seen.last_commit));
            }
            number -= 1;
        }
    }

    pub(super) fn meaning<'r>(&self, record: &Record<'r>) -> Result<Meaning<'r>, Error> {
        Meaning::of(record).map_err(|error| Error::WalDamaged {
            cluster: self.source.cluster.clone(),
            lsn: record.start.to_string(),
            reason: error.to_string(),
        })
    }
}
