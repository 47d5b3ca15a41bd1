//! Relation files.
//!
//! PostgreSQL: src/include/catalog/storage_xlog.h.

use super::malformed;
use crate::BlockNumber;
use crate::wal::cursor::Cursor;
use crate::wal::error::MalformedRecord;
use crate::wal::record::{Fork, Record, RelFileLocator, ResourceManager};

/// A record of the resource manager [`ResourceManager::STORAGE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// A relation's fork came into being; it is deleted again if the transaction is rolled back.
    Create {
        /// The relation.
        relation: RelFileLocator,
        /// The fork.
        fork: Fork,
    },
    /// Forks were cut short: by `VACUUM` after it found empty pages at the end, or by `TRUNCATE`
    /// of a table that the same transaction had created.
    Truncate {
        /// The relation.
        relation: RelFileLocator,
        /// The first block of the main fork that is gone.
        blocks: BlockNumber,
        /// Whether the main fork was cut.
        main: bool,
        /// Whether the visibility map was cut to match.
        visibility_map: bool,
        /// Whether the free space map was cut to match.
        free_space_map: bool,
    },
}

impl Storage {
    /// Decodes a record.
    ///
    /// # Errors
    /// [`MalformedRecord`] for a record of another resource manager, of an unknown kind, or cut
    /// off.
    pub fn decode(record: &Record<'_>) -> Result<Self, MalformedRecord> {
        if record.rmgr != ResourceManager::STORAGE {
            return Err(malformed(record, "not a record of relation files"));
        }
        let decoded = match record.operation() {
            0x10 => create(record.main_data()),
            0x20 => truncate(record.main_data()),
            _ => return Err(malformed(record, "unknown kind of record")),
        };
        decoded.ok_or_else(|| malformed(record, "the record is cut off"))
    }
}

fn create(bytes: &[u8]) -> Option<Storage> {
    let mut cursor = Cursor::new(bytes);
    let relation = cursor.relation()?;
    Some(Storage::Create { relation, fork: Fork::from_number(cursor.u32()?)? })
}

fn truncate(bytes: &[u8]) -> Option<Storage> {
    let mut cursor = Cursor::new(bytes);
    let blocks = BlockNumber::new(cursor.u32()?);
    let relation = cursor.relation()?;
    let flags = cursor.u32()?;
    Some(Storage::Truncate {
        relation,
        blocks,
        main: flags & 0x01 != 0,
        visibility_map: flags & 0x02 != 0,
        free_space_map: flags & 0x04 != 0,
    })
}
