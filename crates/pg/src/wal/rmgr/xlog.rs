//! The log's own records: checkpoints, restore points, timeline ends.
//!
//! PostgreSQL: src/include/catalog/pg_control.h (kinds, `CheckPoint`) and
//! src/include/access/xlog_internal.h (the others).

use super::malformed;
use crate::wal::cursor::Cursor;
use crate::wal::error::MalformedRecord;
use crate::wal::record::{Record, ResourceManager};
use crate::wal::time::TimestampTz;
use crate::{FullXid, Lsn, MajorVersion, Oid, TimelineId, Xid};

pub(in crate::wal) const SWITCH: u8 = 0x40;
pub(in crate::wal) const OVERWRITE_CONTRECORD: u8 = 0xD0;

/// Bytes for a restore point's name and its zero byte. PostgreSQL: `MAXFNAMELEN`.
const NAME_SIZE: usize = 64;

/// A record of the resource manager [`ResourceManager::XLOG`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xlog<'a> {
    /// The server was shut down in order, or a timeline begins.
    CheckpointShutdown(Checkpoint),
    /// A checkpoint is complete.
    CheckpointOnline(Checkpoint),
    /// Nothing.
    Noop,
    /// OIDs up to this one may be given out.
    NextOid(Oid),
    /// The rest of the segment is unused.
    Switch,
    /// A backup from a primary has ended; it started at this position.
    BackupEnd {
        /// The backup's start.
        start: Lsn,
    },
    /// Settings that standbys must match have changed.
    ParameterChange(Parameters),
    /// Somebody named this point: recovery to it stops behind this record.
    RestorePoint {
        /// When.
        time: TimestampTz,
        /// The name, in the encoding of whoever gave it.
        name: &'a [u8],
    },
    /// `full_page_writes` changed to this.
    FullPageWrites(bool),
    /// Recovery has ended with a promotion.
    EndOfRecovery {
        /// When.
        time: TimestampTz,
        /// The timeline that begins.
        timeline: TimelineId,
        /// The timeline it branches off.
        previous_timeline: TimelineId,
    },
    /// Images of pages, in the block references. `for_hint` when only a hint bit was set.
    FullPageImage {
        /// Whether the page was logged because of a hint bit only.
        for_hint: bool,
    },
    /// An unfinished record was given up after a crash.
    OverwriteContinuation {
        /// Where that record starts.
        overwritten: Lsn,
        /// When.
        time: TimestampTz,
    },
    /// An online checkpoint starts here (PostgreSQL 17 and later).
    CheckpointRedo,
}

/// A checkpoint.
///
/// PostgreSQL: `CheckPoint`, src/include/catalog/pg_control.h; same layout in 13 to 18.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Where replay has to start.
    pub redo: Lsn,
    /// The timeline of the checkpoint.
    pub timeline: TimelineId,
    /// The timeline before, if the checkpoint begins a timeline; otherwise the same.
    pub previous_timeline: TimelineId,
    /// Whether `full_page_writes` is on.
    pub full_page_writes: bool,
    /// The next transaction id to be given out, with its epoch.
    pub next_xid: FullXid,
    /// The next OID to be given out.
    pub next_oid: Oid,
    /// The oldest transaction id that some row may still carry.
    pub oldest_xid: Xid,
    /// When, to the second.
    pub time: TimestampTz,
    /// The oldest transaction in progress; [`Xid::INVALID`] in a shutdown checkpoint.
    pub oldest_active_xid: Xid,
}

/// Settings that standbys must match.
///
/// PostgreSQL: `xl_parameter_change`, src/include/access/xlog_internal.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// `max_connections`.
    pub max_connections: u32,
    /// `max_worker_processes`.
    pub max_worker_processes: u32,
    /// `max_wal_senders`.
    pub max_wal_senders: u32,
    /// `max_prepared_transactions`.
    pub max_prepared_transactions: u32,
    /// `max_locks_per_transaction`.
    pub max_locks_per_transaction: u32,
    /// `wal_level`: 0 minimal, 1 replica, 2 logical.
    pub wal_level: u32,
    /// `wal_log_hints`.
    pub wal_log_hints: bool,
    /// `track_commit_timestamp`.
    pub track_commit_timestamp: bool,
}

impl<'a> Xlog<'a> {
    /// Decodes a record.
    ///
    /// # Errors
    /// [`MalformedRecord`] for a record of another resource manager, of an unknown kind, or cut
    /// off.
    pub fn decode(record: &Record<'a>) -> Result<Self, MalformedRecord> {
        if record.rmgr != ResourceManager::XLOG {
            return Err(malformed(record, "not a record of the log itself"));
        }
        let mut cursor = Cursor::new(record.main_data());
        let cursor = &mut cursor;
        let decoded = match record.operation() {
            0x00 => checkpoint(cursor).map(Self::CheckpointShutdown),
            0x10 => checkpoint(cursor).map(Self::CheckpointOnline),
            0x20 => Some(Self::Noop),
            0x30 => cursor.oid().map(Self::NextOid),
            SWITCH => Some(Self::Switch),
            0x50 => cursor.lsn().map(|start| Self::BackupEnd { start }),
            0x60 => parameters(cursor).map(Self::ParameterChange),
            0x70 => restore_point(cursor),
            0x80 => cursor.u8().map(|on| Self::FullPageWrites(on != 0)),
            0x90 => end_of_recovery(cursor),
            0xA0 => Some(Self::FullPageImage { for_hint: true }),
            0xB0 => Some(Self::FullPageImage { for_hint: false }),
            OVERWRITE_CONTRECORD => overwrite(cursor),
            0xE0 if record.version >= MajorVersion::V17 => Some(Self::CheckpointRedo),
            _ => return Err(malformed(record, "unknown kind of record")),
        };
        decoded.ok_or_else(|| malformed(record, "the record is cut off"))
    }
}

fn checkpoint(cursor: &mut Cursor<'_>) -> Option<Checkpoint> {
    let redo = cursor.lsn()?;
    let timeline = TimelineId::new(cursor.u32()?);
    let previous_timeline = TimelineId::new(cursor.u32()?);
    let full_page_writes = cursor.u8()? != 0;
    cursor.take(7)?; // padding; since 17 with wal_level in it
    let next_xid = FullXid::new(cursor.u64()?);
    let next_oid = cursor.oid()?;
    cursor.u64()?; // next multixact and its next member
    let oldest_xid = cursor.xid()?;
    cursor.take(16)?; // its database; oldest multixact and its database; padding
    let time = TimestampTz::from_unix_seconds(cursor.i64()?);
    cursor.u64()?; // oldest and newest xid with a commit timestamp
    let oldest_active_xid = cursor.xid()?;
    Some(Checkpoint {
        redo,
        timeline,
        previous_timeline,
        full_page_writes,
        next_xid,
        next_oid,
        oldest_xid,
        time,
        oldest_active_xid,
    })
}

fn parameters(cursor: &mut Cursor<'_>) -> Option<Parameters> {
    Some(Parameters {
        max_connections: cursor.count()?,
        max_worker_processes: cursor.count()?,
        max_wal_senders: cursor.count()?,
        max_prepared_transactions: cursor.count()?,
        max_locks_per_transaction: cursor.count()?,
        wal_level: cursor.count()?,
        wal_log_hints: cursor.u8()? != 0,
        track_commit_timestamp: cursor.u8()? != 0,
    })
}

fn restore_point<'a>(cursor: &mut Cursor<'a>) -> Option<Xlog<'a>> {
    let time = TimestampTz::from_micros(cursor.i64()?);
    let name = Cursor::new(cursor.take(NAME_SIZE)?).c_string()?;
    Some(Xlog::RestorePoint { time, name })
}

fn end_of_recovery<'a>(cursor: &mut Cursor<'_>) -> Option<Xlog<'a>> {
    Some(Xlog::EndOfRecovery {
        time: TimestampTz::from_micros(cursor.i64()?),
        timeline: TimelineId::new(cursor.u32()?),
        previous_timeline: TimelineId::new(cursor.u32()?),
    })
}

fn overwrite<'a>(cursor: &mut Cursor<'_>) -> Option<Xlog<'a>> {
    let overwritten = cursor.lsn()?;
    Some(Xlog::OverwriteContinuation { overwritten, time: TimestampTz::from_micros(cursor.i64()?) })
}
