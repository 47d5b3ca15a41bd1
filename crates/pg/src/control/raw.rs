//! The bytes of `pg_control`, field by field in C's order and alignment on 64-bit platforms.

use zerocopy::byteorder::little_endian::{F64, I32, I64, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// A `bool` and the three bytes of padding before the next four-byte field.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(super) struct Flag([u8; 4]);

impl Flag {
    /// Only the first byte is defined; C takes every value but 0 as true.
    pub(super) const fn is_set(self) -> bool {
        self.0[0] != 0
    }
}

/// PostgreSQL: `CheckPoint`, src/include/catalog/pg_control.h; 88 bytes with the padding at its
/// end.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawCheckpoint {
    pub redo: U64,
    pub this_timeline: U32,
    pub prev_timeline: U32,
    pub full_page_writes: Flag,
    /// Padding until PostgreSQL 17, `wal_level` since 18; the control file has its own.
    _wal_level: U32,
    pub next_xid: U64,
    pub next_oid: U32,
    pub next_multi: U32,
    pub next_multi_offset: U32,
    pub oldest_xid: U32,
    pub oldest_xid_database: U32,
    pub oldest_multi: U32,
    pub oldest_multi_database: U32,
    _padding_1: U32,
    pub time: I64,
    pub oldest_commit_ts_xid: U32,
    pub newest_commit_ts_xid: U32,
    pub oldest_active_xid: U32,
    _padding_2: U32,
}

/// PostgreSQL: `ControlFileData` up to `data_checksum_version`, the same in 13 to 18; 256 bytes.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawControl {
    pub system_identifier: U64,
    pub pg_control_version: U32,
    pub catalog_version: U32,
    pub state: U32,
    _padding_1: U32,
    pub time: I64,
    pub checkpoint: U64,
    pub checkpoint_copy: RawCheckpoint,
    pub unlogged_lsn: U64,
    pub min_recovery_point: U64,
    pub min_recovery_timeline: U32,
    _padding_2: U32,
    pub backup_start_point: U64,
    pub backup_end_point: U64,
    pub backup_end_required: Flag,
    pub wal_level: I32,
    pub wal_log_hints: Flag,
    pub max_connections: I32,
    pub max_worker_processes: I32,
    pub max_wal_senders: I32,
    pub max_prepared_xacts: I32,
    pub max_locks_per_xact: I32,
    pub track_commit_timestamp: Flag,
    pub max_align: U32,
    pub float_format: F64,
    pub block_size: U32,
    pub relation_segment_blocks: U32,
    pub wal_block_size: U32,
    pub wal_segment_size: U32,
    pub name_data_len: U32,
    pub index_max_keys: U32,
    pub toast_max_chunk_size: U32,
    pub large_object_block_size: U32,
    pub float8_by_value: Flag,
    pub data_checksum_version: U32,
}

/// Where `checkPoint` stands, for patching it.
pub(super) const CHECKPOINT_AT: std::ops::Range<usize> = 32..40;

/// The end of the file's content, which differs between format versions.
#[derive(Clone, Copy)]
pub(super) struct Tail {
    /// `default_char_signedness`, where the format has it.
    pub char_signedness_at: Option<usize>,
    /// `mock_authentication_nonce`, 32 bytes.
    pub nonce_at: usize,
    /// `crc`, of all bytes before it.
    pub crc_at: usize,
}

/// The tail of a format version. 1300 is PostgreSQL 13 to 16, 1700 is 17, 1800 is 18.
pub(super) const fn tail(pg_control_version: u32) -> Option<Tail> {
    match pg_control_version {
        1300 | 1700 => Some(Tail { char_signedness_at: None, nonce_at: 256, crc_at: 288 }),
        1800 => Some(Tail { char_signedness_at: Some(256), nonce_at: 257, crc_at: 292 }),
        _ => None,
    }
}

const _: () = assert!(size_of::<RawCheckpoint>() == 88);
const _: () = assert!(size_of::<RawControl>() == 256);
const _: () = assert!(std::mem::offset_of!(RawControl, checkpoint) == CHECKPOINT_AT.start);
const _: () = assert!(std::mem::offset_of!(RawControl, unlogged_lsn) == 128);
const _: () = assert!(std::mem::offset_of!(RawControl, float_format) == 208);
