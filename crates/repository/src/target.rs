//! Which backup, which WAL and which record bring a cluster to where somebody wants it.
//!
//! Every target comes down to a timeline path and the start of one record, before or after which to
//! stop, found by PostgreSQL's own rules (`recoveryStopsBefore` and `recoveryStopsAfter` in
//! src/backend/access/transam/xlogrecovery.c) on the archived WAL itself. What cannot be reached is
//! refused here, before anything is copied, with the nearest targets that can.

mod prepared;
mod refuse;
mod rule;
pub(crate) mod scan;
mod search;

use std::fmt;

use jiff::Timestamp;
use pg::{FullXid, Lsn, TimelineId, WalSegment, Xid};

use crate::error::Error;
use crate::lineage::Lineage;
use crate::names::Label;
use crate::root::Summary;
use crate::set::Repository;
use crate::timeline::TimelinePath;

/// Where a recovery is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Behind the last record there is.
    Latest,
    /// Where the backup becomes consistent, and no further.
    Immediate,
    /// Before the first commit or rollback *in WAL order* whose time is later. Commit times do not
    /// ascend from record to record, so there may be later ones with an earlier time; they are
    /// lost.
    Time(Timestamp),
    /// Behind the first record that starts at or after this position.
    Lsn(Lsn),
    /// Behind the commit or rollback of this transaction, prepared or not. With an epoch of 0 any
    /// transaction with these lower 32 bits is meant, the newest first.
    Xid(FullXid),
    /// Behind the first restore point of this name since the newest backup that has one after it.
    Name(String),
    /// Before the record that starts exactly here: the commit that did the damage.
    BeforeRecord(Lsn),
}

impl fmt::Display for Target {
    /// As it is asked for on the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("--latest"),
            Self::Immediate => f.write_str("--immediate"),
            Self::Time(time) => write!(f, "--target-time {time}"),
            Self::Lsn(lsn) => write!(f, "--target-lsn {lsn}"),
            Self::Xid(xid) => write!(f, "--target-xid {xid}"),
            Self::Name(name) => write!(f, "--target-name '{name}'"),
            Self::BeforeRecord(lsn) => write!(f, "before the record at {lsn}"),
        }
    }
}

/// A target and the conditions on the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The target.
    pub target: Target,
    /// Whether the target's own record (for a time: those of exactly this time) is replayed.
    /// PostgreSQL: `recovery_target_inclusive`, on by default. No meaning for `Latest`,
    /// `Immediate`, `Name` and `BeforeRecord`.
    pub inclusive: bool,
    /// The backup to start from; without it the one that needs the least WAL.
    pub backup: Option<Label>,
    /// The timeline to end on; without it the lineage's current one (for `Immediate` the backup's).
    pub timeline: Option<TimelineId>,
    /// Whether to read all WAL from the backup to the target even when the target is found without:
    /// only this finds the prepared transactions, and proves that the WAL can be read.
    pub survey: bool,
}

impl Request {
    /// A request with PostgreSQL's defaults, with survey.
    #[must_use]
    pub const fn new(target: Target) -> Self {
        Self { target, inclusive: true, backup: None, timeline: None, survey: true }
    }
}

/// Where exactly to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// At the record that starts here: `recovery_target_lsn` and `recovery_target_inclusive`.
    AtRecord {
        /// The record's start.
        lsn: Lsn,
        /// Whether it is replayed.
        inclusive: bool,
    },
    /// At the backup's consistency: `recovery_target = 'immediate'`.
    Consistency,
    /// At the end of the WAL there is: no recovery target.
    EndOfWal,
}

/// A commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// When, by the database host's clock.
    pub time: Timestamp,
    /// Where its record starts.
    pub lsn: Lsn,
    /// The transaction.
    pub xid: Xid,
}

/// A prepared transaction that is still pending at the target: it holds its locks there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedTransaction {
    /// The transaction.
    pub xid: Xid,
    /// Its name; `None` when it was prepared before the backup, which knows it only by its id.
    pub gid: Option<String>,
    /// When it was prepared; `None` as above.
    pub prepared: Option<Timestamp>,
}

/// A target that can be reached, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The backup to restore.
    pub backup: Summary,
    /// Other backups from which the same target can be reached, best first: to fall back to.
    pub candidates: Vec<Summary>,
    /// The timelines to replay along.
    pub path: TimelinePath,
    /// What to tell PostgreSQL as `recovery_target_timeline`: the end of the path.
    pub timeline: TimelineId,
    /// Where to stop.
    pub stop: Stop,
    /// WAL is needed up to here, exclusive: the record to stop before is read, too.
    pub end: Lsn,
    /// The last segment needed. At or past `end`, a missing segment is the end of the recovery;
    /// before it, a loss.
    pub last_segment: WalSegment,
    /// The commit that is there at the target and has the newest time; `None` when there was none
    /// since the backup began.
    pub newest_commit: Option<Commit>,
    /// The last commit before the target in WAL order: where to stop, inclusive, to look while
    /// paused without holding the next transaction's locks.
    pub last_commit: Option<Commit>,
    /// Prepared transactions pending at the target; `None` without a survey.
    pub prepared: Option<Vec<PreparedTransaction>>,
}

/// Finds out how to reach a target.
///
/// Must be called inside a tokio runtime.
///
/// # Errors
/// [`Error::Unreachable`] with the nearest targets that can be reached; [`Error::NoBackup`] when
/// none lies on the path or has the label; [`Error::WalDamaged`]; an error of a store.
pub async fn resolve(
    repository: &Repository,
    lineage: &Lineage,
    request: &Request,
) -> Result<Resolved, Error> {
    search::resolve(repository, lineage, request).await
}
