//! Tablespaces created and dropped.
//!
//! PostgreSQL: src/include/commands/tablespace.h.

use super::malformed;
use crate::Oid;
use crate::wal::cursor::Cursor;
use crate::wal::error::MalformedRecord;
use crate::wal::record::{Record, ResourceManager};

/// A record of the resource manager [`ResourceManager::TABLESPACE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tablespace<'a> {
    /// A tablespace came into being.
    Create {
        /// The tablespace.
        tablespace: Oid,
        /// Its directory on the server that wrote the record; empty for one inside the data
        /// directory.
        path: &'a [u8],
    },
    /// A tablespace, empty by then, was dropped. Takes effect with this record.
    Drop {
        /// The tablespace.
        tablespace: Oid,
    },
}

impl<'a> Tablespace<'a> {
    /// Decodes a record.
    ///
    /// # Errors
    /// [`MalformedRecord`] for a record of another resource manager, of an unknown kind, or cut
    /// off.
    pub fn decode(record: &Record<'a>) -> Result<Self, MalformedRecord> {
        if record.rmgr != ResourceManager::TABLESPACE {
            return Err(malformed(record, "not a record of tablespaces"));
        }
        let mut cursor = Cursor::new(record.main_data());
        let decoded = match record.operation() {
            0x00 => create(&mut cursor),
            0x10 => cursor.oid().map(|tablespace| Self::Drop { tablespace }),
            _ => return Err(malformed(record, "unknown kind of record")),
        };
        decoded.ok_or_else(|| malformed(record, "the record is cut off"))
    }
}

fn create<'a>(cursor: &mut Cursor<'a>) -> Option<Tablespace<'a>> {
    let tablespace = cursor.oid()?;
    Some(Tablespace::Create { tablespace, path: cursor.c_string()? })
}
