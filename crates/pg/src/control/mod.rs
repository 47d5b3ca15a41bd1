//! `pg_control`: what a cluster is, and from where it recovers.

mod raw;

use std::fmt;

use crc_fast::CrcAlgorithm;
use jiff::Timestamp;
use zerocopy::FromBytes;

use crate::page::BlockSize;
use crate::{FullXid, Lsn, MajorVersion, Oid, SegmentSize, SystemId, TimelineId, Xid};

use raw::{CHECKPOINT_AT, RawCheckpoint, RawControl, tail};

/// The file's path in the data directory.
pub const CONTROL_FILE_PATH: &str = "global/pg_control";

/// The file's size in bytes; all behind the CRC is zero. PostgreSQL: `PG_CONTROL_FILE_SIZE`.
pub const CONTROL_FILE_SIZE: usize = 8192;

/// A checkpoint position at which no record starts: see [`ControlFile::with_invalid_checkpoint`].
pub const INVALID_CHECKPOINT: Lsn = Lsn::new(0xDEAD);

/// PostgreSQL: `FLOATFORMAT_VALUE`.
const FLOAT_FORMAT: f64 = 1_234_567.0;

/// The decoded `pg_control` of PostgreSQL 13 to 18.
///
/// PostgreSQL: `ControlFileData`, src/include/catalog/pg_control.h.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlFile {
    /// Which cluster this is (or was copied from).
    pub system_id: SystemId,
    /// The format of the file: 1300 (PostgreSQL 13 to 16), 1700 or 1800.
    pub control_version: u32,
    /// The format of the catalogs.
    pub catalog_version: u32,
    /// The PostgreSQL major with that catalog version.
    pub major: MajorVersion,
    /// What the server was doing when it last wrote the file.
    pub state: ClusterState,
    /// When the server last wrote the file; whole seconds.
    pub time: Timestamp,
    /// Where the last checkpoint's record starts.
    pub checkpoint: Lsn,
    /// A copy of that record.
    pub checkpoint_copy: Checkpoint,
    /// The next fake position for changes to unlogged relations.
    pub unlogged_lsn: Lsn,
    /// How far recovery must go before the cluster is consistent; [`Lsn::INVALID`] outside of
    /// archive recovery. In a backup taken from a standby this is its stop point.
    pub min_recovery_point: Lsn,
    /// The timeline of that point.
    pub min_recovery_timeline: TimelineId,
    /// The redo position of the backup that is being recovered; [`Lsn::INVALID`] once its end was
    /// reached.
    pub backup_start_point: Lsn,
    /// The end of the backup that is being recovered, if it came from a standby.
    pub backup_end_point: Lsn,
    /// Whether recovery must see an end-of-backup record.
    pub backup_end_required: bool,
    /// The setting `wal_level` of the last start.
    pub wal_level: WalLevel,
    /// The setting `wal_log_hints` of the last start.
    pub wal_log_hints: bool,
    /// What a hot standby needs at least.
    pub limits: HotStandbyLimits,
    /// The setting `track_commit_timestamp` of the last start.
    pub track_commit_timestamp: bool,
    /// The alignment of rows in bytes: 8 on 64-bit platforms.
    pub max_align: u32,
    /// The size of pages.
    pub block_size: BlockSize,
    /// How many pages a relation's segment file has at most (131,072 unless built otherwise).
    pub relation_segment_blocks: u32,
    /// The size of a WAL page in bytes (8192 unless built otherwise).
    pub wal_block_size: u32,
    /// The size of WAL segments.
    pub wal_segment_size: SegmentSize,
    /// The length of names in bytes, with the final zero (64 unless built otherwise).
    pub name_data_len: u32,
    /// The most columns of an index (32 unless built otherwise).
    pub index_max_keys: u32,
    /// The size of TOAST chunks in bytes.
    pub toast_max_chunk_size: u32,
    /// The size of large-object chunks in bytes.
    pub large_object_block_size: u32,
    /// Whether 64-bit values are passed by value.
    pub float8_by_value: bool,
    /// The version of page checksums: 0 for none, else 1.
    pub data_checksum_version: u32,
    /// Whether `char` is signed where the cluster was made; `None` before PostgreSQL 18.
    pub char_is_signed: Option<bool>,
    /// A random value of the cluster, used when a log-in fails. No secret of the data, yet not to
    /// be printed.
    pub mock_authentication_nonce: [u8; 32],
}

/// The body of a checkpoint record. PostgreSQL: `CheckPoint`, src/include/catalog/pg_control.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Where recovery from this checkpoint starts to replay.
    pub redo: Lsn,
    /// The timeline it is on.
    pub timeline: TimelineId,
    /// The timeline before, when the record starts a new one; else the same.
    pub previous_timeline: TimelineId,
    /// The setting `full_page_writes` at the time.
    pub full_page_writes: bool,
    /// The next transaction id.
    pub next_xid: FullXid,
    /// The next object id.
    pub next_oid: Oid,
    /// The next multixact id.
    pub next_multi: u32,
    /// The next multixact member's place.
    pub next_multi_offset: u32,
    /// The oldest transaction id that can still stand in a row.
    pub oldest_xid: Xid,
    /// The database that holds it back.
    pub oldest_xid_database: Oid,
    /// The oldest multixact id that can still stand in a row.
    pub oldest_multi: u32,
    /// The database that holds it back.
    pub oldest_multi_database: Oid,
    /// When it was made; whole seconds.
    pub time: Timestamp,
    /// The oldest transaction with a known commit time; invalid when none is tracked.
    pub oldest_commit_ts_xid: Xid,
    /// The newest transaction with a known commit time; invalid when none is tracked.
    pub newest_commit_ts_xid: Xid,
    /// The oldest transaction still running; only for online checkpoints.
    pub oldest_active_xid: Xid,
}

/// The settings a hot standby must not undercut. PostgreSQL: `CheckRequiredParameterValues`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HotStandbyLimits {
    /// The setting `max_connections`.
    pub max_connections: u32,
    /// The setting `max_worker_processes`.
    pub max_worker_processes: u32,
    /// The setting `max_wal_senders`.
    pub max_wal_senders: u32,
    /// The setting `max_prepared_transactions`.
    pub max_prepared_transactions: u32,
    /// The setting `max_locks_per_transaction`.
    pub max_locks_per_transaction: u32,
}

/// What the server was doing when it last wrote the file. PostgreSQL: `DBState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// `initdb` has not finished.
    Starting,
    /// Shut down in order.
    ShutDown,
    /// Shut down in order, as a standby or in archive recovery.
    ShutDownInRecovery,
    /// Going down.
    ShuttingDown,
    /// In recovery after a crash.
    InCrashRecovery,
    /// In archive recovery or a standby.
    InArchiveRecovery,
    /// Serving, or crashed while it did.
    InProduction,
}

/// How much the write-ahead log holds. PostgreSQL: `WalLevel`, src/include/access/xlog.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WalLevel {
    /// Enough for crash recovery only: such WAL cannot be archived for recovery.
    Minimal,
    /// Enough for archives and standbys.
    Replica,
    /// Enough for logical decoding, too.
    Logical,
}

/// The bytes are no usable `pg_control`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlFileError {
    /// The file is cut off. While the server writes it this can pass: read again.
    #[error("expected at least {expected} bytes of 'pg_control', seen {seen}")]
    Short {
        /// How many bytes are needed.
        expected: usize,
        /// How many there are.
        seen: usize,
    },
    /// Another PostgreSQL, another byte order, or no control file.
    #[error("expected 'pg_control' of version 1300, 1700 or 1800, seen version {seen}")]
    Version {
        /// The version number in the file.
        seen: u32,
    },
    /// The content is damaged. While the server writes the file this can pass: read again.
    #[error("expected CRC {expected:08x} of 'pg_control', seen {seen:08x}")]
    Crc {
        /// The CRC-32C of the content.
        expected: u32,
        /// The one in the file.
        seen: u32,
    },
    /// A value that no PostgreSQL 13 to 18 writes, under a right CRC.
    #[error("impossible value '{seen}' for '{field}' in 'pg_control'")]
    Value {
        /// PostgreSQL's name of the field.
        field: &'static str,
        /// What it holds.
        seen: String,
    },
}

impl ControlFile {
    /// Decodes the content of `pg_control`: [`CONTROL_FILE_SIZE`] bytes or at least those up to the
    /// CRC.
    ///
    /// # Errors
    /// [`ControlFileError::Short`] and [`ControlFileError::Crc`] can pass when a running server is
    /// just writing the file: the caller reads again a few times. The others last.
    pub fn decode(bytes: &[u8]) -> Result<Self, ControlFileError> {
        let (raw, tail) = checked(bytes)?;
        let mut nonce = [0; 32];
        nonce.copy_from_slice(part(bytes, tail.nonce_at, 32)?);
        let char_is_signed = match tail.char_signedness_at {
            Some(at) => Some(part(bytes, at, 1)? != [0]),
            None => None,
        };
        Self::from_raw(raw, char_is_signed, nonce)
    }

    /// A copy of the file's bytes in which the checkpoint is [`INVALID_CHECKPOINT`], with a right
    /// CRC and the full [`CONTROL_FILE_SIZE`].
    ///
    /// In a restored cluster recovery starts where `backup_label` says and never looks at this
    /// value. If somebody deletes `backup_label`, PostgreSQL finds no checkpoint and refuses to
    /// start, instead of starting from the wrong one and serving damaged data.
    ///
    /// # Errors
    /// As [`ControlFile::decode`]: what cannot be decoded is not patched.
    pub fn with_invalid_checkpoint(bytes: &[u8]) -> Result<Vec<u8>, ControlFileError> {
        Self::decode(bytes)?;
        let (_, tail) = checked(bytes)?;
        let mut patched = part(bytes, 0, tail.crc_at)?.to_vec();
        if let Some(field) = patched.get_mut(CHECKPOINT_AT) {
            field.copy_from_slice(&INVALID_CHECKPOINT.get().to_le_bytes());
        }
        patched.extend_from_slice(&crc32c(&patched).to_le_bytes());
        patched.resize(CONTROL_FILE_SIZE, 0);
        Ok(patched)
    }

    /// Whether pages carry checksums.
    #[must_use]
    pub const fn has_data_checksums(&self) -> bool {
        self.data_checksum_version != 0
    }

    fn from_raw(
        raw: &RawControl,
        char_is_signed: Option<bool>,
        mock_authentication_nonce: [u8; 32],
    ) -> Result<Self, ControlFileError> {
        check_platform(raw)?;
        let catalog_version = raw.catalog_version.get();
        Ok(Self {
            system_id: SystemId::new(raw.system_identifier.get()),
            control_version: raw.pg_control_version.get(),
            catalog_version,
            major: MajorVersion::from_catalog_version(catalog_version)
                .map_err(|_| value("catalog_version_no", catalog_version))?,
            state: state(raw.state.get())?,
            time: time("time", raw.time.get())?,
            checkpoint: Lsn::new(raw.checkpoint.get()),
            checkpoint_copy: Checkpoint::from_raw(&raw.checkpoint_copy)?,
            unlogged_lsn: Lsn::new(raw.unlogged_lsn.get()),
            min_recovery_point: Lsn::new(raw.min_recovery_point.get()),
            min_recovery_timeline: TimelineId::new(raw.min_recovery_timeline.get()),
            backup_start_point: Lsn::new(raw.backup_start_point.get()),
            backup_end_point: Lsn::new(raw.backup_end_point.get()),
            backup_end_required: raw.backup_end_required.is_set(),
            wal_level: wal_level(raw.wal_level.get())?,
            wal_log_hints: raw.wal_log_hints.is_set(),
            limits: HotStandbyLimits::from_raw(raw)?,
            track_commit_timestamp: raw.track_commit_timestamp.is_set(),
            max_align: raw.max_align.get(),
            block_size: BlockSize::new(raw.block_size.get())
                .map_err(|_| value("blcksz", raw.block_size.get()))?,
            relation_segment_blocks: positive("relseg_size", raw.relation_segment_blocks.get())?,
            wal_block_size: power_of_two("xlog_blcksz", raw.wal_block_size.get())?,
            wal_segment_size: SegmentSize::new(raw.wal_segment_size.get())
                .map_err(|_| value("xlog_seg_size", raw.wal_segment_size.get()))?,
            name_data_len: raw.name_data_len.get(),
            index_max_keys: raw.index_max_keys.get(),
            toast_max_chunk_size: raw.toast_max_chunk_size.get(),
            large_object_block_size: raw.large_object_block_size.get(),
            float8_by_value: raw.float8_by_value.is_set(),
            data_checksum_version: raw.data_checksum_version.get(),
            char_is_signed,
            mock_authentication_nonce,
        })
    }
}

impl Checkpoint {
    fn from_raw(raw: &RawCheckpoint) -> Result<Self, ControlFileError> {
        Ok(Self {
            redo: Lsn::new(raw.redo.get()),
            timeline: TimelineId::new(raw.this_timeline.get()),
            previous_timeline: TimelineId::new(raw.prev_timeline.get()),
            full_page_writes: raw.full_page_writes.is_set(),
            next_xid: FullXid::new(raw.next_xid.get()),
            next_oid: Oid::new(raw.next_oid.get()),
            next_multi: raw.next_multi.get(),
            next_multi_offset: raw.next_multi_offset.get(),
            oldest_xid: Xid::new(raw.oldest_xid.get()),
            oldest_xid_database: Oid::new(raw.oldest_xid_database.get()),
            oldest_multi: raw.oldest_multi.get(),
            oldest_multi_database: Oid::new(raw.oldest_multi_database.get()),
            time: time("checkPointCopy.time", raw.time.get())?,
            oldest_commit_ts_xid: Xid::new(raw.oldest_commit_ts_xid.get()),
            newest_commit_ts_xid: Xid::new(raw.newest_commit_ts_xid.get()),
            oldest_active_xid: Xid::new(raw.oldest_active_xid.get()),
        })
    }
}

impl HotStandbyLimits {
    fn from_raw(raw: &RawControl) -> Result<Self, ControlFileError> {
        Ok(Self {
            max_connections: count("MaxConnections", raw.max_connections.get())?,
            max_worker_processes: count("max_worker_processes", raw.max_worker_processes.get())?,
            max_wal_senders: count("max_wal_senders", raw.max_wal_senders.get())?,
            max_prepared_transactions: count("max_prepared_xacts", raw.max_prepared_xacts.get())?,
            max_locks_per_transaction: count("max_locks_per_xact", raw.max_locks_per_xact.get())?,
        })
    }
}

impl fmt::Display for ClusterState {
    /// The words of `pg_controldata` in English.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting up",
            Self::ShutDown => "shut down",
            Self::ShutDownInRecovery => "shut down in recovery",
            Self::ShuttingDown => "shutting down",
            Self::InCrashRecovery => "in crash recovery",
            Self::InArchiveRecovery => "in archive recovery",
            Self::InProduction => "in production",
        })
    }
}

impl fmt::Display for WalLevel {
    /// The setting's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Minimal => "minimal",
            Self::Replica => "replica",
            Self::Logical => "logical",
        })
    }
}

/// The fixed part and the tail's layout of a file whose version is known and whose CRC is right.
fn checked(bytes: &[u8]) -> Result<(&RawControl, raw::Tail), ControlFileError> {
    let (raw, _) = RawControl::ref_from_prefix(bytes).map_err(|_| ControlFileError::Short {
        expected: size_of::<RawControl>(),
        seen: bytes.len(),
    })?;
    let seen = raw.pg_control_version.get();
    let tail = tail(seen).ok_or(ControlFileError::Version { seen })?;
    let stored = part(bytes, tail.crc_at, 4)?;
    let seen = stored.first_chunk().map_or(0, |crc| u32::from_le_bytes(*crc));
    let expected = crc32c(part(bytes, 0, tail.crc_at)?);
    if seen == expected { Ok((raw, tail)) } else { Err(ControlFileError::Crc { expected, seen }) }
}

fn part(bytes: &[u8], at: usize, len: usize) -> Result<&[u8], ControlFileError> {
    bytes.get(at..at + len).ok_or(ControlFileError::Short { expected: at + len, seen: bytes.len() })
}

#[allow(clippy::cast_possible_truncation)] // a CRC-32 in the lower half
fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// What this crate's page and row arithmetic takes for granted.
fn check_platform(raw: &RawControl) -> Result<(), ControlFileError> {
    let float = raw.float_format.get();
    if float.to_bits() != FLOAT_FORMAT.to_bits() {
        return Err(value("floatFormat", float));
    }
    match raw.max_align.get() {
        8 => Ok(()),
        seen => Err(value("maxAlign", seen)),
    }
}

fn value(field: &'static str, seen: impl fmt::Display) -> ControlFileError {
    ControlFileError::Value { field, seen: seen.to_string() }
}

fn time(field: &'static str, seconds: i64) -> Result<Timestamp, ControlFileError> {
    Timestamp::from_second(seconds).map_err(|_| value(field, seconds))
}

fn count(field: &'static str, seen: i32) -> Result<u32, ControlFileError> {
    u32::try_from(seen).map_err(|_| value(field, seen))
}

fn positive(field: &'static str, seen: u32) -> Result<u32, ControlFileError> {
    if seen > 0 { Ok(seen) } else { Err(value(field, seen)) }
}

fn power_of_two(field: &'static str, seen: u32) -> Result<u32, ControlFileError> {
    if seen.is_power_of_two() { Ok(seen) } else { Err(value(field, seen)) }
}

fn state(seen: u32) -> Result<ClusterState, ControlFileError> {
    Ok(match seen {
        0 => ClusterState::Starting,
        1 => ClusterState::ShutDown,
        2 => ClusterState::ShutDownInRecovery,
        3 => ClusterState::ShuttingDown,
        4 => ClusterState::InCrashRecovery,
        5 => ClusterState::InArchiveRecovery,
        6 => ClusterState::InProduction,
        _ => return Err(value("state", seen)),
    })
}

fn wal_level(seen: i32) -> Result<WalLevel, ControlFileError> {
    Ok(match seen {
        0 => WalLevel::Minimal,
        1 => WalLevel::Replica,
        2 => WalLevel::Logical,
        _ => return Err(value("wal_level", seen)),
    })
}

#[cfg(test)]
mod tests;
