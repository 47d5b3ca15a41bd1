//! Ends of transactions.
//!
//! PostgreSQL: src/include/access/xact.h; `ParseCommitRecord`, `ParseAbortRecord`,
//! `ParsePrepareRecord` in src/backend/access/rmgrdesc/xactdesc.c.

use super::{Relations, Xids, malformed};
use crate::wal::cursor::Cursor;
use crate::wal::error::MalformedRecord;
use crate::wal::record::{Record, ResourceManager};
use crate::wal::time::TimestampTz;
use crate::{Lsn, MajorVersion, Oid, Xid};

const OPERATION_MASK: u8 = 0x70;
const HAS_INFO: u8 = 0x80;

const HAS_DBINFO: u32 = 1 << 0;
const HAS_SUBXACTS: u32 = 1 << 1;
const HAS_RELATIONS: u32 = 1 << 2;
const HAS_INVALIDATIONS: u32 = 1 << 3;
const HAS_TWOPHASE: u32 = 1 << 4;
const HAS_ORIGIN: u32 = 1 << 5;
const HAS_GID: u32 = 1 << 7;
const HAS_DROPPED_STATS: u32 = 1 << 8;

/// `sizeof(SharedInvalidationMessage)`, src/include/storage/sinval.h.
const INVALIDATION_SIZE: usize = 16;
/// The longest name of a prepared transaction and its zero byte. PostgreSQL: `GIDSIZE`.
const GID_SIZE: usize = 200;

/// A record of the resource manager [`ResourceManager::TRANSACTION`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xact<'a> {
    /// A transaction committed: from here on its changes are visible.
    Commit(Ended<'a>),
    /// A transaction or a subtransaction was rolled back.
    Abort(Ended<'a>),
    /// A transaction was prepared: it survives, with its locks, until one of the next two.
    Prepare(Prepared<'a>),
    /// A prepared transaction was committed.
    CommitPrepared(Ended<'a>),
    /// A prepared transaction was rolled back.
    AbortPrepared(Ended<'a>),
    /// Some subtransactions are told to belong to a top-level transaction. Written for every 64 of
    /// them only.
    Assignment {
        /// The top-level transaction.
        top_level: Xid,
        /// The subtransactions.
        subtransactions: Xids<'a>,
    },
    /// Cache invalidations within a transaction, for logical decoding.
    Invalidations,
}

/// The end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended<'a> {
    /// The transaction that ended: the record's own, or the prepared one.
    pub xid: Xid,
    /// When, by the server's clock; not ascending from record to record.
    pub time: TimestampTz,
    /// The database, where the record says it: only if caches had to be invalidated or the
    /// transaction is decoded logically.
    pub database: Option<Oid>,
    /// The subtransactions that share the fate; those rolled back before are not among them.
    pub subtransactions: Xids<'a>,
    /// Relation files that are deleted now: for a commit what was dropped, truncated or rewritten,
    /// for an abort what had been created.
    pub dropped: Relations<'a>,
    /// The name of the prepared transaction, where the record says it (`wal_level` `logical`).
    pub gid: Option<&'a [u8]>,
    /// Where the replicated transaction's end lies in its origin's log.
    pub origin_lsn: Option<Lsn>,
}

/// A prepared transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared<'a> {
    /// The transaction.
    pub xid: Xid,
    /// The database it was prepared in.
    pub database: Oid,
    /// When it was prepared.
    pub time: TimestampTz,
    /// The role that prepared it.
    pub owner: Oid,
    /// Its name, in the database's encoding.
    pub gid: &'a [u8],
    /// Its subtransactions.
    pub subtransactions: Xids<'a>,
    /// Relation files that its commit will delete.
    pub dropped_on_commit: Relations<'a>,
    /// Relation files that its rollback will delete.
    pub dropped_on_abort: Relations<'a>,
}

impl<'a> Xact<'a> {
    /// Decodes a record.
    ///
    /// # Errors
    /// [`MalformedRecord`] for a record of another resource manager, of an unknown kind, or cut
    /// off.
    pub fn decode(record: &Record<'a>) -> Result<Self, MalformedRecord> {
        if record.rmgr != ResourceManager::TRANSACTION {
            return Err(malformed(record, "not a record of a transaction's end"));
        }
        let cut = malformed(record, "the record is cut off");
        let decoded = match record.info & OPERATION_MASK {
            0x00 => ended(record, true).map(Self::Commit),
            0x10 => prepared(record).map(Self::Prepare),
            0x20 => ended(record, false).map(Self::Abort),
            0x30 => ended(record, true).map(Self::CommitPrepared),
            0x40 => ended(record, false).map(Self::AbortPrepared),
            0x50 => assignment(record.main_data()),
            0x60 => Some(Self::Invalidations),
            _ => return Err(malformed(record, "unknown kind of record")),
        };
        decoded.ok_or(cut)
    }
}

fn assignment(bytes: &[u8]) -> Option<Xact<'_>> {
    let mut cursor = Cursor::new(bytes);
    let top_level = cursor.xid()?;
    let count = cursor.count()?;
    Some(Xact::Assignment { top_level, subtransactions: Xids::take(&mut cursor, count)? })
}

fn ended<'a>(record: &Record<'a>, is_commit: bool) -> Option<Ended<'a>> {
    let mut cursor = Cursor::new(record.main_data());
    let time = TimestampTz::from_micros(cursor.i64()?);
    let mut ended = Ended {
        xid: record.xid,
        time,
        database: None,
        subtransactions: Xids::default(),
        dropped: Relations::default(),
        gid: None,
        origin_lsn: None,
    };
    let flags = if record.info & HAS_INFO != 0 { cursor.u32()? } else { 0 };
    let has = |flag: u32| flags & flag != 0;
    if has(HAS_DBINFO) {
        ended.database = Some(cursor.oid()?);
        cursor.oid()?; // the database's tablespace
    }
    if has(HAS_SUBXACTS) {
        let count = cursor.count()?;
        ended.subtransactions = Xids::take(&mut cursor, count)?;
    }
    if has(HAS_RELATIONS) {
        let count = cursor.count()?;
        ended.dropped = Relations::take(&mut cursor, count)?;
    }
    if has(HAS_DROPPED_STATS) {
        let count = cursor.count()?;
        cursor.entries(count, stats_item_size(record.version))?;
    }
    if is_commit && has(HAS_INVALIDATIONS) {
        let count = cursor.count()?;
        cursor.entries(count, INVALIDATION_SIZE)?;
    }
    if has(HAS_TWOPHASE) {
        ended.xid = cursor.xid()?;
        if has(HAS_GID) {
            ended.gid = Some(cursor.c_string()?);
        }
    }
    if has(HAS_ORIGIN) {
        ended.origin_lsn = Some(cursor.lsn()?);
    }
    Some(ended)
}

/// `sizeof(xl_xact_stats_item)`: its object id was widened to 64 bits in 18.
const fn stats_item_size(version: MajorVersion) -> usize {
    if version.get() >= 18 { 16 } else { 12 }
}

fn prepared<'a>(record: &Record<'a>) -> Option<Prepared<'a>> {
    let bytes = record.main_data();
    let mut cursor = Cursor::new(bytes);
    cursor.u32()?; // magic
    cursor.u32()?; // length of the state file
    let xid = cursor.xid()?;
    let database = cursor.oid()?;
    let time = TimestampTz::from_micros(cursor.i64()?);
    let owner = cursor.oid()?;
    let subtransactions = cursor.count()?;
    let dropped_on_commit = cursor.count()?;
    let dropped_on_abort = cursor.count()?;
    if record.version >= MajorVersion::V15 {
        cursor.u64()?; // two counts of statistics to drop
    }
    cursor.u32()?; // number of cache invalidations
    cursor.u16()?; // a flag and padding
    let gid_len = usize::from(cursor.u16()?);
    cursor.u64()?; // the origin's LSN
    cursor.u64()?; // the origin's time
    let mut gid = aligned(bytes, &mut cursor, |cursor| cursor.take(gid_len))?;
    if gid_len > GID_SIZE {
        return None;
    }
    if let Some((0, text)) = gid.split_last() {
        gid = text;
    }
    Some(Prepared {
        xid,
        database,
        time,
        owner,
        gid,
        subtransactions: aligned(bytes, &mut cursor, |c| Xids::take(c, subtransactions))?,
        dropped_on_commit: aligned(bytes, &mut cursor, |c| Relations::take(c, dropped_on_commit))?,
        dropped_on_abort: aligned(bytes, &mut cursor, |c| Relations::take(c, dropped_on_abort))?,
    })
}

/// Reads one part of a two-phase state, which starts at a multiple of 8 from the state's start.
fn aligned<'a, T>(
    whole: &'a [u8],
    cursor: &mut Cursor<'a>,
    read: impl FnOnce(&mut Cursor<'a>) -> Option<T>,
) -> Option<T> {
    let at = whole.len() - cursor.rest().len();
    let padding = at.next_multiple_of(8) - at;
    // The last part may end without padding.
    cursor.take(padding.min(cursor.rest().len()))?;
    read(cursor)
}
