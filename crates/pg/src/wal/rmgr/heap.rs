//! Changes of table rows.
//!
//! PostgreSQL: src/include/access/heapam_xlog.h. The records read here are the same in 13 to 18;
//! what changed between them (pruning, freezing) deletes nothing that a transaction still sees.

use super::{Oids, malformed};
use crate::Oid;
use crate::wal::cursor::Cursor;
use crate::wal::error::MalformedRecord;
use crate::wal::record::{Record, RelFileLocator, ResourceManager};

const OPERATION_MASK: u8 = 0x70;

const DELETE_IS_SUPER: u8 = 1 << 3;
const DELETE_IS_PARTITION_MOVE: u8 = 1 << 4;
const TRUNCATE_CASCADE: u8 = 1 << 0;
const TRUNCATE_RESTART_SEQUENCES: u8 = 1 << 1;

/// What a record of [`ResourceManager::HEAP`] or [`ResourceManager::HEAP2`] did to rows. Rows of
/// system catalogs and TOAST tables are rows like others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heap<'a> {
    /// Rows were inserted.
    Insert {
        /// The table.
        relation: RelFileLocator,
        /// How many, at least 1.
        rows: u16,
    },
    /// One row was deleted.
    Delete {
        /// The table.
        relation: RelFileLocator,
        /// Why.
        kind: DeleteKind,
    },
    /// One row was replaced by a new version of it.
    Update {
        /// The table.
        relation: RelFileLocator,
        /// Whether the indexes could stay as they were.
        hot: bool,
    },
    /// Tables were emptied by `TRUNCATE`. Written only for tables that are decoded logically; see
    /// [`crate::wal::activity`] for the others.
    Truncate(Truncate<'a>),
    /// A row was changed in place, without regard to transactions: counts in system catalogs.
    Inplace {
        /// The table.
        relation: RelFileLocator,
    },
    /// No row was inserted, changed or deleted: locks, pruning, freezing, visibility.
    Nothing,
}

/// Why a row version was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteKind {
    /// By `DELETE` or what amounts to it.
    Row,
    /// By an `UPDATE` that moves the row to another partition, where it is inserted.
    PartitionMove,
    /// An `INSERT ... ON CONFLICT` takes back what it inserted a moment before.
    Speculative,
}

/// A `TRUNCATE` command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncate<'a> {
    /// The database.
    pub database: Oid,
    /// Table OIDs (`pg_class.oid`, not file numbers); those of restarted sequences follow.
    pub relations: Oids<'a>,
    /// Whether referencing tables were included.
    pub cascade: bool,
    /// Whether sequences were restarted.
    pub restart_sequences: bool,
}

impl<'a> Heap<'a> {
    /// Decodes a record.
    ///
    /// # Errors
    /// [`MalformedRecord`] for a record of another resource manager or one that is cut off.
    pub fn decode(record: &Record<'a>) -> Result<Self, MalformedRecord> {
        let operation = record.info & OPERATION_MASK;
        let decoded = match (record.rmgr, operation) {
            (ResourceManager::HEAP, 0x00) => {
                table(record).map(|relation| Self::Insert { relation, rows: 1 })
            }
            (ResourceManager::HEAP, 0x10) => delete(record),
            (ResourceManager::HEAP, 0x20 | 0x40) => {
                table(record).map(|relation| Self::Update { relation, hot: operation == 0x40 })
            }
            (ResourceManager::HEAP, 0x30) => truncate(record.main_data()).map(Self::Truncate),
            (ResourceManager::HEAP, 0x70) => {
                table(record).map(|relation| Self::Inplace { relation })
            }
            (ResourceManager::HEAP2, 0x50) => multi_insert(record),
            (ResourceManager::HEAP | ResourceManager::HEAP2, _) => Some(Self::Nothing),
            _ => return Err(malformed(record, "not a record of the heap")),
        };
        decoded.ok_or_else(|| malformed(record, "the record is cut off"))
    }
}

/// The table: that of the first block, which every change of a row has.
fn table(record: &Record<'_>) -> Option<RelFileLocator> {
    record.blocks().first().map(|block| block.relation)
}

fn delete<'a>(record: &Record<'a>) -> Option<Heap<'a>> {
    let mut cursor = Cursor::new(record.main_data());
    cursor.xid()?; // xmax
    cursor.u16()?; // offset number
    cursor.u8()?; // infomask bits
    let flags = cursor.u8()?;
    let kind = if flags & DELETE_IS_SUPER != 0 {
        DeleteKind::Speculative
    } else if flags & DELETE_IS_PARTITION_MOVE != 0 {
        DeleteKind::PartitionMove
    } else {
        DeleteKind::Row
    };
    Some(Heap::Delete { relation: table(record)?, kind })
}

fn multi_insert<'a>(record: &Record<'a>) -> Option<Heap<'a>> {
    let mut cursor = Cursor::new(record.main_data());
    cursor.u16()?; // flags and padding
    let rows = cursor.u16()?;
    Some(Heap::Insert { relation: table(record)?, rows })
}

fn truncate(bytes: &[u8]) -> Option<Truncate<'_>> {
    let mut cursor = Cursor::new(bytes);
    let database = cursor.oid()?;
    let count = cursor.u32()?;
    let flags = cursor.u8()?;
    cursor.take(3)?; // padding
    Some(Truncate {
        database,
        relations: Oids::take(&mut cursor, count)?,
        cascade: flags & TRUNCATE_CASCADE != 0,
        restart_sequences: flags & TRUNCATE_RESTART_SEQUENCES != 0,
    })
}
