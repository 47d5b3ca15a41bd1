//! What is known of a transaction once it has ended.

use super::super::record::RelFileLocator;
use super::super::time::TimestampTz;
use super::Limits;
use crate::{Lsn, Oid, Xid};

/// Rows inserted, updated and deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// Rows inserted; those that `ON CONFLICT` took back are subtracted.
    pub inserted: u64,
    /// Rows replaced by a new version, rows moved to another partition among them.
    pub updated: u64,
    /// Rows deleted.
    pub deleted: u64,
}

impl RowCounts {
    pub(super) fn add(&mut self, other: Self) {
        self.inserted = self.inserted.saturating_add(other.inserted);
        self.updated = self.updated.saturating_add(other.updated);
        self.deleted = self.deleted.saturating_add(other.deleted);
    }
}

/// The rows that a transaction changed in one relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelationRows {
    /// The relation's file at that time.
    pub relation: RelFileLocator,
    /// How many rows.
    pub rows: RowCounts,
}

/// A `TRUNCATE` that left a record of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableTruncate {
    /// The database.
    pub database: Oid,
    /// OIDs (`pg_class.oid`) of the tables and after them of the sequences restarted.
    pub relations: Vec<Oid>,
    /// Whether referencing tables were included.
    pub cascade: bool,
    /// Whether sequences were restarted.
    pub restart_sequences: bool,
}

/// What a transaction did to relation files that existed before it; see the module's text for what
/// can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileChange {
    /// No file was deleted.
    None,
    /// Files were deleted, and files with index pages only took their place.
    Reindexed,
    /// Files were deleted, and files with rows took their place.
    Replaced,
    /// Files were deleted, and files took their place of which at least one is empty and none has
    /// rows.
    Emptied,
    /// Files were deleted, and none took their place.
    Dropped,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimePointKind {
    /// It committed.
    Commit,
    /// It was prepared.
    Prepare,
    /// It was rolled back, or a subtransaction of it.
    Abort,
    /// It had been prepared and committed now.
    CommitPrepared,
    /// It had been prepared and was rolled back now.
    AbortPrepared,
}

/// The end of a transaction in the log.
///
/// A target time T means, for PostgreSQL: recovery stops before the first record, in the order of
/// the log, that [stops recovery by time](TimePoint::stops_recovery_by_time) and whose time is
/// greater than T (`recovery_target_inclusive` on) or not less than T (off). Times are not
/// ascending, so later records may have smaller times. PostgreSQL: `recoveryStopsBefore`,
/// src/backend/access/transam/xlogrecovery.c (14: xlog.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimePoint {
    /// How it ended.
    pub kind: TimePointKind,
    /// The transaction, for prepared ones theirs.
    pub xid: Xid,
    /// When, by the server's clock.
    pub time: TimestampTz,
    /// Start of the record.
    pub start: Lsn,
    /// End of the record.
    pub end: Lsn,
}

impl TimePoint {
    /// Whether PostgreSQL compares a target time with this record: with every end of a transaction,
    /// but not with a `PREPARE TRANSACTION`.
    #[must_use]
    pub const fn stops_recovery_by_time(&self) -> bool {
        !matches!(self.kind, TimePointKind::Prepare)
    }

    /// Whether the transaction's changes are visible from here on.
    #[must_use]
    pub const fn is_commit(&self) -> bool {
        matches!(self.kind, TimePointKind::Commit | TimePointKind::CommitPrepared)
    }
}

/// What a transaction did, its subtransactions that were not rolled back included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The top-level transaction.
    pub xid: Xid,
    /// [`TimePointKind::Commit`], `CommitPrepared`, or `Prepare` while that is pending.
    pub ended_by: TimePointKind,
    /// Start of its first record seen.
    pub first_start: Lsn,
    /// Start of the record that ended it: recovery up to here, exclusive, is before it.
    pub end_start: Lsn,
    /// End of the record that ended it.
    pub end: Lsn,
    /// When it ended, by the server's clock.
    pub time: TimestampTz,
    /// The database, if any record told: databases and tablespaces themselves belong to none.
    pub database: Option<Oid>,
    /// The name given to `PREPARE TRANSACTION`, if it was seen.
    pub gid: Option<String>,
    /// Bytes of its records.
    pub wal_bytes: u64,
    /// Subtransactions that ended with it.
    pub subtransactions: u32,
    /// Rows over all relations.
    pub rows: RowCounts,
    /// Rows by relation, ordered by relation.
    pub relations: Vec<RelationRows>,
    /// What happened to files.
    pub file_change: FileChange,
    /// Files deleted that had existed before the transaction.
    pub dropped: Vec<RelFileLocator>,
    /// Files created that outlive the transaction.
    pub created: Vec<RelFileLocator>,
    /// `TRUNCATE` commands that left a record of their own.
    pub truncates: Vec<TableTruncate>,
    /// Databases dropped.
    pub dropped_databases: Vec<Oid>,
    /// Tablespaces dropped.
    pub dropped_tablespaces: Vec<Oid>,
    /// Start of the first record whose effect no rollback takes back: the drop of a database or
    /// tablespace deletes its directory when that record is replayed, before the commit.
    pub irrevocable_start: Option<Lsn>,
    /// Whether a list is cut off or a count is not exact because of [`Limits`].
    pub is_cut: bool,
}

impl Transaction {
    /// The position before which recovery has to stop (exclusive) for none of its effects to be
    /// there.
    #[must_use]
    pub fn recover_before(&self) -> Lsn {
        self.irrevocable_start.map_or(self.end_start, |start| start.min(self.end_start))
    }

    pub(super) fn is_notable(&self, limits: &Limits) -> bool {
        self.rows.deleted >= limits.rows_deleted_min
            || self.rows.updated >= limits.rows_updated_min
            || self.file_change >= FileChange::Replaced
            || !self.truncates.is_empty()
            || !self.dropped_databases.is_empty()
            || !self.dropped_tablespaces.is_empty()
    }
}
