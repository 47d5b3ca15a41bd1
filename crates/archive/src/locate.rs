//! Finds the transactions that destroyed something, in the archived WAL, and says for each where a
//! recovery has to stop.
//!
//! The log names files; [`Names`] gives them the names they had in a backup. What the log can tell
//! of `DROP`, `TRUNCATE` and rewrites stands in [`pg::wal::activity`].

mod names;
mod search;
mod weigh;

use std::time::Duration;

use jiff::Timestamp;
use pg::Lsn;
use pg::wal::RelFileLocator;
use pg::wal::activity::{Limits, TimePoint, Transaction};
use repository::Repository;
use repository::coverage::{Coverage, Hole};
use repository::lineage::Lineage;
use repository::target::Target;
use repository::wal_stream::StreamEnd;
use stdx::{ByteCount, Clock};

use crate::error::Error;

pub use names::Names;

/// What to search, and for what.
#[derive(Debug)]
pub struct LocateRequest<'a> {
    /// The lineage.
    pub lineage: &'a Lineage,
    /// The archived WAL along the timelines to search.
    pub coverage: &'a Coverage,
    /// Where to begin; together with `since`, the later one counts. With neither, at the first
    /// segment there is.
    pub from: Option<Lsn>,
    /// Where to end, exclusive. Without it, everything is read, and what would be lost is known.
    pub to: Option<Lsn>,
    /// Transactions that ended earlier are not shown.
    pub since: Option<Timestamp>,
    /// Transactions that ended later are not shown.
    pub until: Option<Timestamp>,
    /// Only transactions that changed this table: `orders` or `public.orders`.
    pub table: Option<&'a str>,
    /// What is worth showing.
    pub limits: Limits,
    /// Names of relation files.
    pub names: &'a Names,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The transactions, the most destructive first.
    pub suspects: Vec<Suspect>,
    /// Transactions that were prepared and have not ended: their damage is still to come.
    pub prepared: Vec<Transaction>,
    /// Whether nothing was left out because of a limit.
    pub is_complete: bool,
    /// What was read.
    pub read: Read,
}

/// A transaction that destroyed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// All that the log tells.
    pub transaction: Transaction,
    /// The name of its database, if known.
    pub database: Option<String>,
    /// What it did, the worst first. Changes of system catalogs are left out.
    pub damage: Vec<Damage>,
    /// Rows deleted, and the rows that dropped or emptied tables had at the time of the backup.
    pub rows_lost: u64,
    /// What to recover to.
    pub proposal: Proposal,
}

/// What a transaction did to one relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What.
    pub what: What,
    /// The file; `None` where the log names none.
    pub relation: Option<RelFileLocator>,
    /// Schema and name, if known.
    pub name: Option<String>,
    /// Rows the table had at the time of the backup, as the planner believed.
    pub rows_before: Option<u64>,
}

/// A kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Rows were updated.
    Updated(u64),
    /// Rows were deleted.
    Deleted(u64),
    /// The table was rewritten: `VACUUM FULL`, `ALTER TABLE`, or `TRUNCATE` and a reload.
    Rewritten,
    /// The table was emptied.
    Emptied,
    /// The table was dropped.
    Dropped,
    /// A tablespace was dropped.
    TablespaceDropped,
    /// A database was dropped.
    DatabaseDropped,
}

/// A recovery that leaves a transaction out, and its price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The target: before the record that made the damage.
    pub target: Target,
    /// The last commit that stays.
    pub last_commit: Option<TimePoint>,
    /// Other transactions that committed behind the target and are lost, as far as was read.
    pub transactions_lost: u64,
    /// The last commit that is lost.
    pub last_lost: Option<TimePoint>,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// From here.
    pub from: Lsn,
    /// To here, and why no further; `None` when there is no WAL in the window, or `to` was reached.
    pub end: Option<StreamEnd>,
    /// Segments missing in between.
    pub holes: Vec<Hole>,
    /// How much.
    pub bytes: ByteCount,
    /// In what time.
    pub elapsed: Duration,
    /// Commits seen.
    pub commits: u64,
}

impl Read {
    /// Bytes per second.
    #[must_use]
    pub fn rate(&self) -> ByteCount {
        let micros = self.elapsed.as_micros().max(1);
        let rate = u128::from(self.bytes.get()) * 1_000_000 / micros;
        ByteCount::new(u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

/// Searches the archived WAL. Must be called inside a tokio runtime; with more than one thread,
/// segments are fetched and opened beside the search.
///
/// # Errors
/// Of the repository, among them WAL that cannot be read and records that cannot be understood:
/// what those did is unknown.
pub async fn locate(
    repository: &Repository,
    request: &LocateRequest<'_>,
    clock: &dyn Clock,
) -> Result<Located, Error> {
    let began = clock.monotonic();
    let mut located = search::search(repository, request).await?;
    located.read.elapsed = clock.monotonic().saturating_sub(began);
    Ok(located)
}
