//! Adds up, per transaction, what WAL records did, and keeps the transactions worth a look.
//!
//! Feed every record in order to [`Activity::record`]. It answers with a [`TimePoint`] for each end
//! of a transaction, by which a target time is resolved as PostgreSQL does it; and it collects the
//! [`Transaction`]s that pass [`Limits`]: many rows deleted or updated, tables truncated, files
//! dropped or replaced, databases dropped.
//!
//! # What the log can and cannot tell
//!
//! The log names relation *files*, not tables, and `DROP`, `TRUNCATE` and rewrites all show as
//! files deleted by the commit. [`FileChange`] separates them by what else the transaction did:
//!
//! - files deleted and none created: tables, indexes or materialized views were dropped;
//! - a file created and left empty: `TRUNCATE` (of a permanent or, by its init fork, an unlogged
//!   table), or a rewrite of a table that had no rows;
//! - a file created and filled with rows: `VACUUM FULL`, `CLUSTER`, `ALTER TABLE` with a rewrite,
//!   `REFRESH MATERIALIZED VIEW`, or `TRUNCATE` followed by a reload in the same transaction: these
//!   look alike. The rows inserted are counted, those lost with the old file are not known;
//! - files created with index pages only and no row deleted, in no catalog either: `REINDEX`. (The
//!   last step of `REINDEX CONCURRENTLY` drops the old index and is a drop.)
//!
//! A transaction that does several of these things shows one of them; one that drops something is
//! never taken for a mere `REINDEX`. Whether a compressed page image is a table's cannot be seen:
//! with `wal_compression`, a drop together with a new index can show as a file replaced. Only
//! `TRUNCATE` of a table that is decoded logically (`wal_level` `logical`) leaves a record of its
//! own, with table OIDs: [`Transaction::truncates`]. `TRUNCATE` of a table that the same
//! transaction created or truncated before deletes nothing that was committed and is not shown.
//!
//! With `wal_level` `minimal`, rows loaded into new files are not in the log.
//!
//! Rows of TOAST tables and system catalogs count as rows of their own relations: deleting one wide
//! row can count as several.
//!
//! A transaction that began before the first record fed is counted from there on only. Start at
//! least one checkpoint before the time of interest.

mod open;
mod transaction;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

pub use transaction::{
    FileChange, RelationRows, RowCounts, TableTruncate, TimePoint, TimePointKind, Transaction,
};

use open::Open;

use super::error::MalformedRecord;
use super::record::{Record, ResourceManager};
use super::rmgr::database::Database;
use super::rmgr::heap::Heap;
use super::rmgr::standby::Standby;
use super::rmgr::storage::Storage;
use super::rmgr::tablespace::Tablespace;
use super::rmgr::xact::{Ended, Prepared, Xact};
use super::rmgr::xlog::Xlog;
use crate::Xid;

/// What is worth keeping, and how much memory it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A transaction that deletes at least so many rows is notable.
    pub rows_deleted_min: u64,
    /// A transaction that updates at least so many rows is notable.
    pub rows_updated_min: u64,
    /// Transactions and subtransactions in progress that are followed at a time. One takes about
    /// 250 bytes and 50 more for each relation it changes.
    pub open_max: usize,
    /// Relations, truncates or dropped files listed for one transaction; totals go on beyond.
    pub relations_max: usize,
    /// Notable transactions held until they are taken.
    pub notable_max: usize,
}

impl Default for Limits {
    /// Rows: what a person would hardly delete one by one. Open: more than a server has
    /// connections (`max_connections` is at most 262 143, usually below 1000), with room for
    /// subtransactions: about 16 MiB. Relations: a large schema with its indexes.
    fn default() -> Self {
        Self {
            rows_deleted_min: 100,
            rows_updated_min: 10_000,
            open_max: 1 << 16,
            relations_max: 1 << 14,
            notable_max: 1 << 14,
        }
    }
}

/// The accumulator.
#[derive(Debug)]
pub struct Activity {
    limits: Limits,
    open: HashMap<Xid, Open, BuildHasherDefault<XidHasher>>,
    notable: Vec<Transaction>,
    notable_lost: u64,
    records_lost: u64,
    /// New transactions to refuse before room is looked for again.
    futile: usize,
}

impl Activity {
    /// An accumulator that has seen nothing.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            open: HashMap::default(),
            notable: Vec::new(),
            notable_lost: 0,
            records_lost: 0,
            futile: 0,
        }
    }

    /// Adds the next record. Returns the point in time it stands for, if it ends a transaction.
    ///
    /// # Errors
    /// [`MalformedRecord`] when the record cannot be understood; nothing was added then.
    pub fn record(&mut self, record: &Record<'_>) -> Result<Option<TimePoint>, MalformedRecord> {
        match record.rmgr {
            ResourceManager::TRANSACTION => return self.transaction(record),
            ResourceManager::STANDBY => self.standby(record)?,
            ResourceManager::XLOG => self.xlog(record)?,
            ResourceManager::HEAP | ResourceManager::HEAP2 => {
                let heap = Heap::decode(record)?;
                self.with_open(record, |open, limits| open.heap(&heap, limits));
            }
            ResourceManager::STORAGE => {
                let storage = Storage::decode(record)?;
                self.with_open(record, |open, limits| open.storage(&storage, limits));
            }
            ResourceManager::DATABASE => {
                let database = Database::decode(record)?;
                self.with_open(record, |open, limits| open.database(&database, record, limits));
            }
            ResourceManager::TABLESPACE => {
                let tablespace = Tablespace::decode(record)?;
                self.with_open(record, |open, limits| open.tablespace(&tablespace, record, limits));
            }
            _ => self.with_open(record, |_, _| ()),
        }
        Ok(None)
    }

    /// Hands out the notable transactions that committed since the last call, in commit order.
    pub fn take_notable(&mut self) -> Vec<Transaction> {
        std::mem::take(&mut self.notable)
    }

    /// The notable transactions that are prepared and neither committed nor rolled back so far, by
    /// ascending start. They hold their locks.
    #[must_use]
    pub fn prepared(&self) -> Vec<Transaction> {
        let mut prepared: Vec<_> = self
            .open
            .iter()
            .filter_map(|(xid, open)| open.prepared_transaction(*xid))
            .filter(|transaction| transaction.is_notable(&self.limits))
            .collect();
        prepared.sort_by_key(|transaction| transaction.first_start);
        prepared
    }

    /// Whether nothing was left out because of [`Limits`]: if not, there may have been notable
    /// transactions that are not shown.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.notable_lost == 0 && self.records_lost == 0
    }

    /// Adds `record` to its transaction, if it has one and there is room.
    fn with_open(&mut self, record: &Record<'_>, add: impl FnOnce(&mut Open, &Limits)) {
        if record.xid == Xid::INVALID {
            return;
        }
        if let Some(open) = self.open.get_mut(&record.xid) {
            open.count(record);
            add(open, &self.limits);
        } else if self.make_room() {
            let mut open = Open::new(record.start);
            open.count(record);
            add(&mut open, &self.limits);
            self.open.insert(record.xid, open);
        } else {
            self.records_lost += 1;
        }
    }

    /// Whether one more transaction can be followed. When there are too many, subtransactions
    /// whose parent is known are folded into it before their fate is.
    fn make_room(&mut self) -> bool {
        if self.open.len() < self.limits.open_max {
            return true;
        }
        if self.futile > 0 {
            self.futile -= 1;
            return false;
        }
        let known: Vec<(Xid, Xid)> = self
            .open
            .iter()
            .filter_map(|(xid, open)| Some((*xid, open.parent?)))
            .filter(|(_, parent)| self.open.contains_key(parent))
            .collect();
        for (child, parent) in known {
            self.fold(child, parent);
        }
        let has_room = self.open.len() < self.limits.open_max;
        // Looking costs as much as there are transactions: not for each of many in vain.
        self.futile = if has_room { 0 } else { self.limits.open_max };
        has_room
    }

    fn fold(&mut self, child: Xid, parent: Xid) {
        if child == parent || !self.open.contains_key(&parent) {
            return;
        }
        if let (Some(folded), limits) = (self.open.remove(&child), self.limits)
            && let Some(open) = self.open.get_mut(&parent)
        {
            open.absorb(folded, &limits);
        }
    }
}

/// Ends of transactions.
impl Activity {
    fn transaction(&mut self, record: &Record<'_>) -> Result<Option<TimePoint>, MalformedRecord> {
        let (kind, time, xid) = match Xact::decode(record)? {
            Xact::Commit(ended) => {
                self.commit(record, &ended);
                (TimePointKind::Commit, ended.time, ended.xid)
            }
            Xact::CommitPrepared(ended) => {
                self.commit(record, &ended);
                (TimePointKind::CommitPrepared, ended.time, ended.xid)
            }
            Xact::Abort(ended) => {
                self.abort(&ended);
                (TimePointKind::Abort, ended.time, ended.xid)
            }
            Xact::AbortPrepared(ended) => {
                self.abort(&ended);
                (TimePointKind::AbortPrepared, ended.time, ended.xid)
            }
            Xact::Prepare(prepared) => {
                self.prepare(record, &prepared);
                (TimePointKind::Prepare, prepared.time, prepared.xid)
            }
            Xact::Assignment { top_level, subtransactions } => {
                for child in subtransactions.iter() {
                    if let Some(open) = self.open.get_mut(&child) {
                        open.parent = Some(top_level);
                    }
                }
                return Ok(None);
            }
            Xact::Invalidations => return Ok(None),
        };
        Ok(Some(TimePoint { kind, xid, time, start: record.start, end: record.end }))
    }

    fn commit(&mut self, record: &Record<'_>, ended: &Ended<'_>) {
        let mut open = self.close(record, ended.xid, ended.subtransactions.iter());
        if open.is_small(ended, &self.limits) {
            return;
        }
        open.note_subtransactions(ended.subtransactions.len());
        let transaction = open.committed(record, ended, &self.limits);
        if !transaction.is_notable(&self.limits) {
            return;
        }
        if self.notable.len() < self.limits.notable_max {
            self.notable.push(transaction);
        } else {
            self.notable_lost += 1;
        }
    }

    fn abort(&mut self, ended: &Ended<'_>) {
        self.open.remove(&ended.xid);
        for child in ended.subtransactions.iter() {
            self.open.remove(&child);
        }
    }

    fn prepare(&mut self, record: &Record<'_>, prepared: &Prepared<'_>) {
        let mut open = self.close(record, prepared.xid, prepared.subtransactions.iter());
        open.note_subtransactions(prepared.subtransactions.len());
        open.prepare(record, prepared, &self.limits);
        if self.make_room() {
            self.open.insert(prepared.xid, open);
        } else {
            self.records_lost += 1;
        }
    }

    /// Takes a transaction out, its subtransactions folded in and its last record counted.
    fn close(
        &mut self,
        record: &Record<'_>,
        xid: Xid,
        children: impl Iterator<Item = Xid>,
    ) -> Open {
        let mut open = self.open.remove(&xid).unwrap_or_else(|| Open::new(record.start));
        for child in children {
            if let Some(folded) = self.open.remove(&child) {
                open.absorb(folded, &self.limits);
            }
        }
        open.count(record);
        open
    }

    fn standby(&mut self, record: &Record<'_>) -> Result<(), MalformedRecord> {
        match Standby::decode(record)? {
            Standby::RunningXacts(running) => {
                // What is older and has not ended never will: the server crashed.
                self.open.retain(|xid, _| !precedes(*xid, running.oldest_running));
            }
            Standby::Locks(_) | Standby::Invalidations => self.with_open(record, |_, _| ()),
        }
        Ok(())
    }

    fn xlog(&mut self, record: &Record<'_>) -> Result<(), MalformedRecord> {
        match Xlog::decode(record)? {
            // No transaction outlives these two, except as a prepared one.
            Xlog::CheckpointShutdown(_) | Xlog::EndOfRecovery { .. } => {
                self.open.retain(|_, open| open.is_prepared());
            }
            _ => self.with_open(record, |_, _| ()),
        }
        Ok(())
    }
}

/// Spreads transaction ids, which the server counts up and nobody chooses, so that no defence
/// against chosen keys is needed. There is one look-up for each record.
#[derive(Clone, Copy, Debug, Default)]
struct XidHasher(u64);

impl Hasher for XidHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        // 2⁶⁴ divided by the golden ratio, as in Knuth's multiplicative hashing.
        const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(SPREAD);
    }
}

/// Whether `xid` is older than `other`, modulo 2³². PostgreSQL: `TransactionIdPrecedes`.
const fn precedes(xid: Xid, other: Xid) -> bool {
    xid.get().wrapping_sub(other.get()).cast_signed() < 0
}

#[cfg(test)]
mod tests;
