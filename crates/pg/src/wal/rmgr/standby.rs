//! What hot standbys need to know.
//!
//! PostgreSQL: src/include/storage/standbydefs.h.

use super::{Xids, malformed};
use crate::wal::cursor::Cursor;
use crate::wal::error::MalformedRecord;
use crate::wal::record::{Record, ResourceManager};
use crate::{Oid, Xid};

/// A record of the resource manager [`ResourceManager::STANDBY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standby<'a> {
    /// Transactions hold ACCESS EXCLUSIVE locks on relations: taken just now, or, before a list of
    /// running transactions, all that are held.
    Locks(Locks<'a>),
    /// The transactions in progress.
    RunningXacts(RunningXacts<'a>),
    /// Cache invalidations of what is not transactional.
    Invalidations,
}

/// ACCESS EXCLUSIVE locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locks<'a>(&'a [u8]);

/// One ACCESS EXCLUSIVE lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The holder.
    pub xid: Xid,
    /// The relation's database; [`Oid::INVALID`] for shared relations.
    pub database: Oid,
    /// The relation's OID (`pg_class.oid`, not its file number).
    pub relation: Oid,
}

/// The transactions in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningXacts<'a> {
    /// The next id to be given out.
    pub next: Xid,
    /// All transactions before this one have ended.
    pub oldest_running: Xid,
    /// The newest that has ended.
    pub latest_completed: Xid,
    /// Whether `subtransactions` is not complete.
    pub subtransactions_overflowed: bool,
    /// Top-level transactions in progress, prepared ones among them.
    pub top_level: Xids<'a>,
    /// Their subtransactions, as far as known.
    pub subtransactions: Xids<'a>,
}

const LOCK_SIZE: usize = 12;

impl<'a> Locks<'a> {
    /// The locks in their stored order.
    pub fn iter(&self) -> impl Iterator<Item = Lock> + use<'a> {
        let mut cursor = Cursor::new(self.0);
        std::iter::from_fn(move || {
            Some(Lock { xid: cursor.xid()?, database: cursor.oid()?, relation: cursor.oid()? })
        })
    }
}

impl<'a> Standby<'a> {
    /// Decodes a record.
    ///
    /// # Errors
    /// [`MalformedRecord`] for a record of another resource manager, of an unknown kind, or cut
    /// off.
    pub fn decode(record: &Record<'a>) -> Result<Self, MalformedRecord> {
        if record.rmgr != ResourceManager::STANDBY {
            return Err(malformed(record, "not a record for standbys"));
        }
        let mut cursor = Cursor::new(record.main_data());
        let decoded = match record.operation() {
            0x00 => locks(&mut cursor).map(Self::Locks),
            0x10 => running(&mut cursor).map(Self::RunningXacts),
            0x20 => Some(Self::Invalidations),
            _ => return Err(malformed(record, "unknown kind of record")),
        };
        decoded.ok_or_else(|| malformed(record, "the record is cut off"))
    }
}

fn locks<'a>(cursor: &mut Cursor<'a>) -> Option<Locks<'a>> {
    let count = cursor.count()?;
    cursor.entries(count, LOCK_SIZE).map(Locks)
}

fn running<'a>(cursor: &mut Cursor<'a>) -> Option<RunningXacts<'a>> {
    let top_level = cursor.count()?;
    let subtransactions = cursor.count()?;
    let subtransactions_overflowed = cursor.u8()? != 0;
    cursor.take(3)?; // padding
    Some(RunningXacts {
        next: cursor.xid()?,
        oldest_running: cursor.xid()?,
        latest_completed: cursor.xid()?,
        subtransactions_overflowed,
        top_level: Xids::take(cursor, top_level)?,
        subtransactions: Xids::take(cursor, subtransactions)?,
    })
}
