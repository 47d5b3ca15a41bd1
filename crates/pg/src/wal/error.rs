//! What can be wrong with WAL bytes.

use super::record::ResourceManager;
use crate::{Lsn, MajorVersion, SystemId, TimelineId};

/// A page header that does not begin a WAL page of a version read here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Fewer bytes than a header has.
    #[error("expected at least {expected} bytes of a WAL page, seen {seen}")]
    TooShort {
        /// Bytes a header of this kind has.
        expected: usize,
        /// Bytes given.
        seen: usize,
    },
    /// The first two bytes name no PostgreSQL version read here: not WAL, or of another version.
    #[error("expected a WAL page magic of PostgreSQL 14 to 18, seen 0x{seen:04X}")]
    Magic {
        /// The first two bytes, little-endian.
        seen: u16,
    },
    /// Flag bits that no version sets.
    #[error("expected known WAL page flags, seen 0x{seen:04X}")]
    Flags {
        /// All flags.
        seen: u16,
    },
    /// The long header stands where it must not, or is missing where it must stand: on the first
    /// page of a segment.
    #[error("expected {} page header at {address}", if *.long_expected { "a long" } else { "a short" })]
    Length {
        /// Where the page says it is.
        address: Lsn,
        /// Whether a long header belongs there.
        long_expected: bool,
    },
    /// The segment size is not a power of two from 1 MiB to 1 GiB.
    #[error("expected a WAL segment size from 1 MiB to 1 GiB, seen {seen} bytes")]
    SegmentSize {
        /// Bytes.
        seen: u32,
    },
    /// The page size is not a power of two from 1 KiB to 64 KiB.
    #[error("expected a WAL block size from 1 KiB to 64 KiB, seen {seen} bytes")]
    BlockSize {
        /// Bytes.
        seen: u32,
    },
    /// The first page of a segment has an address inside a segment.
    #[error("expected the start of a WAL segment, seen page address {seen}")]
    Address {
        /// Where the page says it is.
        seen: Lsn,
    },
}

/// Why the log could not be read on. After it a reader gives nothing more.
///
/// In a log that is still being written this is how its end looks; in an archived segment it is
/// damage. The caller knows which of the two it reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("valid WAL ends at {at}: {reason}")]
pub struct ReadError {
    /// Start of the record, or of the page, that is not valid: everything before was.
    pub at: Lsn,
    /// What was seen there.
    #[source]
    pub reason: EndReason,
}

/// What was found where the next record should have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndReason {
    /// Zeros: nothing was written here yet.
    #[error("nothing was written there")]
    Zeroed,
    /// A page of the segment's former life: the file was recycled and not overwritten so far.
    #[error("expected page address {expected}, seen {seen} (a recycled segment)")]
    Recycled {
        /// Where the page is.
        expected: Lsn,
        /// Where it says it is.
        seen: Lsn,
    },
    /// The page header is no header.
    #[error("bad page header")]
    Header(#[source] HeaderError),
    /// The page belongs to another cluster.
    #[error("expected system identifier {expected}, seen {seen}")]
    System {
        /// The cluster the reader was told to expect, or that of the segment before.
        expected: SystemId,
        /// The one in the long header.
        seen: SystemId,
    },
    /// Segment or block size differ from what the reader was told.
    #[error(
        "expected segments of {expected} bytes in blocks of {expected_block}, seen {seen} in {seen_block}"
    )]
    Sizes {
        /// Segment size expected.
        expected: u64,
        /// Block size expected.
        expected_block: u32,
        /// Segment size in the long header.
        seen: u64,
        /// Block size in the long header.
        seen_block: u32,
    },
    /// The page was written by another PostgreSQL version than the page before.
    #[error("expected WAL of PostgreSQL {expected}, seen {seen}")]
    Version {
        /// Version so far.
        expected: MajorVersion,
        /// Version of this page.
        seen: MajorVersion,
    },
    /// The page lies on a timeline that is not on the path expected, or earlier than the page
    /// before.
    #[error("expected a page of timeline {expected}, seen timeline {seen}")]
    Timeline {
        /// The timelines allowed, or the one of the page before.
        expected: String,
        /// The page's.
        seen: TimelineId,
    },
    /// The record claims to be shorter than its header.
    #[error("expected a record of at least 24 bytes, seen length {seen}")]
    ShortLength {
        /// `xl_tot_len`.
        seen: u32,
    },
    /// The record claims to be longer than any that PostgreSQL writes.
    #[error("expected a record of at most {max} bytes, seen length {seen}")]
    TooLong {
        /// The limit.
        max: u32,
        /// `xl_tot_len`.
        seen: u32,
    },
    /// The resource manager does not exist in this version.
    #[error("unknown resource manager {seen}")]
    ResourceManager {
        /// `xl_rmid`.
        seen: u8,
    },
    /// The record does not point back to the record before it.
    #[error("expected a link back to {expected}, seen {seen}")]
    PrevLink {
        /// Start of the record before; for the first record, the latest position it may point to.
        expected: Lsn,
        /// `xl_prev`.
        seen: Lsn,
    },
    /// The checksum over the record does not hold.
    #[error("expected CRC-32C 0x{expected:08X}, seen 0x{seen:08X}")]
    Crc {
        /// What the record says.
        expected: u32,
        /// What its bytes have.
        seen: u32,
    },
    /// A record has to go on on this page, and the page says it does not.
    #[error("expected the rest of a record, seen a page without one")]
    MissingContinuation,
    /// The page goes on with a record that nobody began.
    #[error("expected the start of a record, seen the rest of another")]
    UnexpectedContinuation,
    /// The page goes on with a record, but with another amount of it than is missing.
    #[error("expected {expected} more bytes of the record, seen {seen}")]
    ContinuationLength {
        /// Bytes missing.
        expected: u32,
        /// `xlp_rem_len`.
        seen: u32,
    },
    /// A record says that it replaces an unfinished one, and names another than the unfinished one.
    #[error("expected the unfinished record at {expected} to be given up, seen {seen}")]
    Overwrite {
        /// Start of the unfinished record.
        expected: Lsn,
        /// The position in the record.
        seen: Lsn,
    },
    /// The checksum holds, but the record's parts do not add up.
    #[error("malformed record: {what}")]
    Malformed {
        /// What does not fit.
        what: &'static str,
    },
}

impl EndReason {
    /// Whether this is how the end of a log looks that is still being written: zeros or a page of a
    /// recycled segment. Any other reason can be damage; after a crash it can also be a record that
    /// never reached the disk as a whole.
    #[must_use]
    pub const fn is_unwritten(&self) -> bool {
        matches!(self, Self::Zeroed | Self::Recycled { .. })
    }
}

/// A record whose checksum holds but whose content is not what its resource manager writes: of an
/// unknown kind, or too short. It must not be skipped: what it did is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record at {at} of resource manager '{rmgr}', info 0x{info:02X}: {what}")]
pub struct MalformedRecord {
    /// Start of the record.
    pub at: Lsn,
    /// Its resource manager.
    pub rmgr: ResourceManager,
    /// Its info byte.
    pub info: u8,
    /// What does not fit.
    pub what: &'static str,
}
