//! Databases created and dropped.
//!
//! PostgreSQL: src/include/commands/dbcommands_xlog.h.

use super::{Oids, malformed};
use crate::wal::cursor::Cursor;
use crate::wal::error::MalformedRecord;
use crate::wal::record::{Record, ResourceManager};
use crate::{MajorVersion, Oid};

/// A record of the resource manager [`ResourceManager::DATABASE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database<'a> {
    /// A database came into being.
    Create {
        /// The database.
        database: Oid,
        /// Its directory's tablespace.
        tablespace: Oid,
        /// The database whose files were copied outside the log; `None` when every block is logged
        /// (`STRATEGY WAL_LOG`, PostgreSQL 15 and later).
        copied_from: Option<Oid>,
    },
    /// A database's directories are deleted. This takes effect with this record, even if the
    /// transaction is rolled back afterwards.
    Drop {
        /// The database.
        database: Oid,
        /// The tablespaces it has directories in.
        tablespaces: Oids<'a>,
    },
}

impl<'a> Database<'a> {
    /// Decodes a record.
    ///
    /// # Errors
    /// [`MalformedRecord`] for a record of another resource manager, of an unknown kind, or cut
    /// off.
    pub fn decode(record: &Record<'a>) -> Result<Self, MalformedRecord> {
        if record.rmgr != ResourceManager::DATABASE {
            return Err(malformed(record, "not a record of databases"));
        }
        let mut cursor = Cursor::new(record.main_data());
        // 15 put a second way to create databases between the two kinds.
        let two_ways = record.version >= MajorVersion::V15;
        let decoded = match (record.operation(), two_ways) {
            (0x00, _) => create(&mut cursor, true),
            (0x10, true) => create(&mut cursor, false),
            (0x10, false) | (0x20, true) => drop_database(&mut cursor),
            _ => return Err(malformed(record, "unknown kind of record")),
        };
        decoded.ok_or_else(|| malformed(record, "the record is cut off"))
    }
}

fn create<'a>(cursor: &mut Cursor<'a>, copied: bool) -> Option<Database<'a>> {
    let database = cursor.oid()?;
    let tablespace = cursor.oid()?;
    let copied_from = if copied { Some(cursor.oid()?) } else { None };
    Some(Database::Create { database, tablespace, copied_from })
}

fn drop_database<'a>(cursor: &mut Cursor<'a>) -> Option<Database<'a>> {
    let database = cursor.oid()?;
    let count = cursor.count()?;
    Some(Database::Drop { database, tablespaces: Oids::take(cursor, count)? })
}
