//! What is known of a transaction in progress.

use std::collections::{BTreeMap, BTreeSet};

use super::super::record::{BlockRef, Compression, Fork, Record, RelFileLocator, ResourceManager};
use super::super::rmgr::Relations;
use super::super::rmgr::database::Database;
use super::super::rmgr::heap::{DeleteKind, Heap};
use super::super::rmgr::storage::Storage;
use super::super::rmgr::tablespace::Tablespace;
use super::super::rmgr::xact::{Ended, Prepared};
use super::super::time::TimestampTz;
use super::Limits;
use super::transaction::{
    FileChange, RelationRows, RowCounts, TableTruncate, TimePointKind, Transaction,
};
use crate::{Lsn, Oid, Xid};

/// A transaction or subtransaction in progress.
#[derive(Debug)]
pub(super) struct Open {
    /// The top-level transaction, where the log said it.
    pub(super) parent: Option<Xid>,
    first_start: Lsn,
    wal_bytes: u64,
    subtransactions: u32,
    rows: RowCounts,
    relations: BTreeMap<RelFileLocator, RowCounts>,
    created: BTreeMap<RelFileLocator, Content>,
    truncates: Vec<TableTruncate>,
    dropped_databases: Vec<Oid>,
    dropped_tablespaces: Vec<Oid>,
    irrevocable_start: Option<Lsn>,
    database: Option<Oid>,
    prepared: Option<Box<PreparedState>>,
    is_cut: bool,
}

#[derive(Debug)]
struct PreparedState {
    start: Lsn,
    end: Lsn,
    time: TimestampTz,
    gid: String,
    dropped: Vec<RelFileLocator>,
}

/// What was written to the main fork of a new relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Content {
    Nothing,
    IndexPages,
    /// Pages whose compressed images do not show what they are.
    Pages,
    Rows,
}

/// How an ended transaction looks in its last record.
struct Ending<'a> {
    ended_by: TimePointKind,
    start: Lsn,
    end: Lsn,
    time: TimestampTz,
    gid: Option<&'a str>,
    database: Option<Oid>,
}

impl Open {
    pub(super) fn new(first_start: Lsn) -> Self {
        Self {
            parent: None,
            first_start,
            wal_bytes: 0,
            subtransactions: 0,
            rows: RowCounts::default(),
            relations: BTreeMap::new(),
            created: BTreeMap::new(),
            truncates: Vec::new(),
            dropped_databases: Vec::new(),
            dropped_tablespaces: Vec::new(),
            irrevocable_start: None,
            database: None,
            prepared: None,
            is_cut: false,
        }
    }

    pub(super) const fn is_prepared(&self) -> bool {
        self.prepared.is_some()
    }

    /// Counts what every record has.
    pub(super) fn count(&mut self, record: &Record<'_>) {
        self.wal_bytes += u64::from(record.total_len());
        if record.top_level_xid.is_some() {
            self.parent = record.top_level_xid;
        }
        if !self.created.is_empty() {
            for block in record.blocks().iter().filter(|block| block.fork == Fork::Main) {
                if let Some(content) = self.created.get_mut(&block.relation) {
                    *content = (*content).max(written(record, block));
                }
            }
        }
    }

    pub(super) fn heap(&mut self, heap: &Heap<'_>, limits: &Limits) {
        let (relation, rows) = match *heap {
            Heap::Insert { relation, rows } => {
                (relation, RowCounts { inserted: u64::from(rows), ..RowCounts::default() })
            }
            Heap::Update { relation, .. }
            | Heap::Delete { relation, kind: DeleteKind::PartitionMove } => {
                (relation, RowCounts { updated: 1, ..RowCounts::default() })
            }
            Heap::Delete { relation, kind: DeleteKind::Row } => {
                (relation, RowCounts { deleted: 1, ..RowCounts::default() })
            }
            Heap::Delete { relation, kind: DeleteKind::Speculative } => {
                self.take_back_insert(relation);
                return;
            }
            Heap::Truncate(truncate) => {
                let truncate = TableTruncate {
                    database: truncate.database,
                    relations: truncate.relations.iter().take(limits.relations_max).collect(),
                    cascade: truncate.cascade,
                    restart_sequences: truncate.restart_sequences,
                };
                self.database = self.database.or(Some(truncate.database));
                self.is_cut |= !push(&mut self.truncates, truncate, limits);
                return;
            }
            Heap::Inplace { .. } | Heap::Nothing => return,
        };
        if relation.database != Oid::INVALID {
            self.database = self.database.or(Some(relation.database));
        }
        self.add_rows(relation, rows, limits);
    }

    pub(super) fn storage(&mut self, storage: &Storage, limits: &Limits) {
        let Storage::Create { relation, fork } = *storage else { return };
        if !matches!(fork, Fork::Main | Fork::Init) {
            return;
        }
        if self.created.len() < limits.relations_max || self.created.contains_key(&relation) {
            self.created.entry(relation).or_insert(Content::Nothing);
        } else {
            self.is_cut = true;
        }
    }

    pub(super) fn database(&mut self, what: &Database<'_>, record: &Record<'_>, limits: &Limits) {
        if let Database::Drop { database, .. } = *what {
            self.is_cut |= !push(&mut self.dropped_databases, database, limits);
            self.irrevocable_start.get_or_insert(record.start);
        }
    }

    pub(super) fn tablespace(
        &mut self,
        what: &Tablespace<'_>,
        record: &Record<'_>,
        limits: &Limits,
    ) {
        if let Tablespace::Drop { tablespace } = *what {
            self.is_cut |= !push(&mut self.dropped_tablespaces, tablespace, limits);
            self.irrevocable_start.get_or_insert(record.start);
        }
    }

    /// Adds a subtransaction.
    pub(super) fn absorb(&mut self, child: Self, limits: &Limits) {
        self.first_start = self.first_start.min(child.first_start);
        self.wal_bytes += child.wal_bytes;
        self.is_cut |= child.is_cut;
        self.database = self.database.or(child.database);
        self.irrevocable_start = match (self.irrevocable_start, child.irrevocable_start) {
            (Some(own), Some(childs)) => Some(own.min(childs)),
            (own, childs) => own.or(childs),
        };
        let listed = child.relations.values().fold(RowCounts::default(), |mut sum, rows| {
            sum.add(*rows);
            sum
        });
        for (relation, rows) in child.relations {
            self.add_rows(relation, rows, limits);
        }
        // What the child could not list for want of room is still in its total.
        self.rows.add(RowCounts {
            inserted: child.rows.inserted.saturating_sub(listed.inserted),
            updated: child.rows.updated.saturating_sub(listed.updated),
            deleted: child.rows.deleted.saturating_sub(listed.deleted),
        });
        for (relation, content) in child.created {
            let kept = self.created.entry(relation).or_insert(content);
            *kept = (*kept).max(content);
        }
        for truncate in child.truncates {
            self.is_cut |= !push(&mut self.truncates, truncate, limits);
        }
        self.dropped_databases.extend(child.dropped_databases);
        self.dropped_tablespaces.extend(child.dropped_tablespaces);
    }

    pub(super) fn note_subtransactions(&mut self, count: usize) {
        self.subtransactions = u32::try_from(count).unwrap_or(u32::MAX).max(self.subtransactions);
    }

    pub(super) fn prepare(&mut self, record: &Record<'_>, state: &Prepared<'_>, limits: &Limits) {
        self.database = Some(state.database);
        self.is_cut |= state.dropped_on_commit.len() > limits.relations_max;
        self.prepared = Some(Box::new(PreparedState {
            start: record.start,
            end: record.end,
            time: state.time,
            gid: String::from_utf8_lossy(state.gid).into_owned(),
            dropped: state.dropped_on_commit.iter().take(limits.relations_max).collect(),
        }));
    }

    /// The transaction as it stands after `PREPARE TRANSACTION`; `None` if it is not prepared.
    pub(super) fn prepared_transaction(&self, xid: Xid) -> Option<Transaction> {
        let state = self.prepared.as_ref()?;
        let ending = Ending {
            ended_by: TimePointKind::Prepare,
            start: state.start,
            end: state.end,
            time: state.time,
            gid: Some(&state.gid),
            database: self.database,
        };
        Some(self.transaction(xid, &ending, &state.dropped.iter().copied().collect()))
    }

    /// Whether the transaction cannot be notable. Spares most transactions all further work.
    pub(super) fn is_small(&self, ended: &Ended<'_>, limits: &Limits) -> bool {
        self.rows.deleted < limits.rows_deleted_min
            && self.rows.updated < limits.rows_updated_min
            && ended.dropped.is_empty()
            && self.truncates.is_empty()
            && self.dropped_databases.is_empty()
            && self.dropped_tablespaces.is_empty()
    }

    /// The transaction after its commit.
    pub(super) fn committed(
        mut self,
        record: &Record<'_>,
        ended: &Ended<'_>,
        limits: &Limits,
    ) -> Transaction {
        let dropped = self.dropped(ended.dropped, limits);
        let state = self.prepared.take();
        let name = ended.gid.map(|gid| String::from_utf8_lossy(gid).into_owned());
        let ending = Ending {
            ended_by: if ended.xid == record.xid {
                TimePointKind::Commit
            } else {
                TimePointKind::CommitPrepared
            },
            start: record.start,
            end: record.end,
            time: ended.time,
            gid: name.as_deref().or(state.as_ref().map(|state| state.gid.as_str())),
            database: ended.database.or(self.database),
        };
        self.transaction(ended.xid, &ending, &dropped)
    }

    fn dropped(&mut self, dropped: Relations<'_>, limits: &Limits) -> BTreeSet<RelFileLocator> {
        self.is_cut |= dropped.len() > limits.relations_max;
        dropped.iter().take(limits.relations_max).collect()
    }

    fn transaction(
        &self,
        xid: Xid,
        ending: &Ending<'_>,
        deleted: &BTreeSet<RelFileLocator>,
    ) -> Transaction {
        let dropped = deleted.iter().filter(|file| !self.created.contains_key(file)).copied();
        let created = self.created.iter().filter(|(file, _)| !deleted.contains(file));
        let dropped: Vec<_> = dropped.collect();
        let (created, content): (Vec<_>, Vec<_>) = created.map(|(file, has)| (*file, *has)).unzip();
        let file_change = if dropped.is_empty() {
            FileChange::None
        } else {
            file_change(&content, self.rows.deleted > 0)
        };
        Transaction {
            xid,
            ended_by: ending.ended_by,
            first_start: self.first_start,
            end_start: ending.start,
            end: ending.end,
            time: ending.time,
            database: ending.database,
            gid: ending.gid.map(str::to_owned),
            wal_bytes: self.wal_bytes,
            subtransactions: self.subtransactions,
            rows: self.rows,
            relations: self
                .relations
                .iter()
                .map(|(relation, rows)| RelationRows { relation: *relation, rows: *rows })
                .collect(),
            file_change,
            dropped,
            created,
            truncates: self.truncates.clone(),
            dropped_databases: self.dropped_databases.clone(),
            dropped_tablespaces: self.dropped_tablespaces.clone(),
            irrevocable_start: self.irrevocable_start,
            is_cut: self.is_cut,
        }
    }

    fn add_rows(&mut self, relation: RelFileLocator, rows: RowCounts, limits: &Limits) {
        self.rows.add(rows);
        if let Some(listed) = self.relations.get_mut(&relation) {
            listed.add(rows);
        } else if self.relations.len() < limits.relations_max {
            self.relations.insert(relation, rows);
        } else {
            self.is_cut = true;
        }
    }

    fn take_back_insert(&mut self, relation: RelFileLocator) {
        self.rows.inserted = self.rows.inserted.saturating_sub(1);
        if let Some(rows) = self.relations.get_mut(&relation) {
            rows.inserted = rows.inserted.saturating_sub(1);
        }
    }
}

fn push<T>(list: &mut Vec<T>, entry: T, limits: &Limits) -> bool {
    let has_room = list.len() < limits.relations_max;
    if has_room {
        list.push(entry);
    }
    has_room
}

/// Chooses the most destructive change that the signs allow.
///
/// Whatever is dropped is deleted from `pg_class`, and so is the transient table by which a command
/// rewrites a table: without any row deleted, pages are those of an index that was rebuilt.
fn file_change(created: &[Content], any_row_deleted: bool) -> FileChange {
    let any_empty = created.contains(&Content::Nothing);
    match (created.iter().max(), any_row_deleted) {
        (None, _) => FileChange::Dropped,
        (Some(Content::Rows), _) | (Some(Content::Pages), true) => FileChange::Replaced,
        (Some(_), _) if any_empty => FileChange::Emptied,
        // Not a rebuilt index alone, but something dropped and another index created.
        (Some(_), true) => FileChange::Dropped,
        (Some(_), false) => FileChange::Reindexed,
    }
}

/// What `record` wrote to a block of a new relation.
fn written(record: &Record<'_>, block: &BlockRef) -> Content {
    match record.rmgr {
        ResourceManager::HEAP | ResourceManager::HEAP2 => Content::Rows,
        ResourceManager::XLOG => written_page(record, block),
        _ => Content::IndexPages,
    }
}

/// Tells a page of rows from a page of an index by the special area, which all index pages have at
/// their end and pages of rows do not.
///
/// PostgreSQL: `PageHeaderData`, src/include/storage/bufpage.h.
fn written_page(record: &Record<'_>, block: &BlockRef) -> Content {
    let Some(image) = &block.image else { return Content::IndexPages };
    if image.compression == Compression::None {
        let bytes = record.image_bytes(image);
        let field = |at: usize| {
            let bytes = bytes.get(at..at + 2)?.try_into().ok()?;
            Some(u16::from_le_bytes(bytes))
        };
        // pd_special and pd_pagesize_version, whose lower byte is the layout version.
        return match (field(16), field(18)) {
            (Some(special), Some(size)) if special < size & 0xFF00 => Content::IndexPages,
            _ => Content::Rows,
        };
    }
    // A compressed page shows only its hole, between the row pointers and the rows. Less than a row
    // fits behind the hole of an index's first pages.
    const ROW_SIZE_MIN: u32 = 24;
    let hole_end = u32::from(image.hole_offset) + u32::from(image.hole_length.unwrap_or(0));
    if hole_end > 0 && hole_end.next_power_of_two() - hole_end < ROW_SIZE_MIN {
        Content::IndexPages
    } else {
        Content::Pages
    }
}
