//! Page headers of the write-ahead log.

use std::fmt;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::error::HeaderError;
use crate::{Lsn, MajorVersion, SegmentSize, SystemId, TimelineId};

/// `XLOG_PAGE_MAGIC` of each major, src/include/access/xlog_internal.h of its stable branch.
const MAGICS: [(u16, MajorVersion); 6] = [
    (0xD106, MajorVersion::V13),
    (0xD10D, MajorVersion::V14),
    (0xD110, MajorVersion::V15),
    (0xD113, MajorVersion::V16),
    (0xD116, MajorVersion::V17),
    (0xD118, MajorVersion::V18),
];

const FIRST_IS_CONTRECORD: u16 = 0x0001;
const LONG_HEADER: u16 = 0x0002;
const FIRST_IS_OVERWRITE_CONTRECORD: u16 = 0x0008;
/// `XLP_ALL_FLAGS`; the bit 0x0004 is `XLP_BKP_REMOVABLE`.
const ALL_FLAGS: u16 = 0x000F;

/// The size of a WAL page in bytes: a power of two from 1 KiB to 64 KiB, 8 KiB in all usual builds.
///
/// PostgreSQL: `XLOG_BLCKSZ`, configure option `--with-wal-blocksize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WalBlockSize(u32);

impl WalBlockSize {
    /// 8 KiB.
    pub const DEFAULT: Self = Self(8192);

    /// Wraps a size in bytes.
    ///
    /// # Errors
    /// [`HeaderError::BlockSize`] when PostgreSQL cannot be built with it.
    pub const fn new(bytes: u32) -> Result<Self, HeaderError> {
        if bytes.is_power_of_two() && bytes >= 1 << 10 && bytes <= 1 << 16 {
            Ok(Self(bytes))
        } else {
            Err(HeaderError::BlockSize { seen: bytes })
        }
    }

    /// Bytes.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The distance of `lsn` from the start of its page.
    pub(super) const fn offset(self, lsn: Lsn) -> u64 {
        lsn.get() & (self.0 as u64 - 1)
    }
}

impl Default for WalBlockSize {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for WalBlockSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The start of every WAL page.
///
/// PostgreSQL: `XLogPageHeaderData`, src/include/access/xlog_internal.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    /// The version that wrote the page.
    pub version: MajorVersion,
    /// The timeline of the first record on the page.
    pub timeline: TimelineId,
    /// Where the page lies in the log.
    pub address: Lsn,
    /// Bytes of a record begun on an earlier page that are still to come, on this page and later
    /// ones; `None` when the page begins with a record of its own.
    pub remaining: Option<u32>,
    /// Whether the record that should have gone on here was given up after a crash.
    pub overwrites_unfinished: bool,
    /// Whether this header is followed by the fields of a [`SegmentHeader`].
    pub is_long: bool,
}

/// The start of every WAL segment: says to which cluster the segment belongs.
///
/// PostgreSQL: `XLogLongPageHeaderData`, src/include/access/xlog_internal.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The part that every page has.
    pub page: PageHeader,
    /// The cluster.
    pub system_id: SystemId,
    /// The cluster's segment size.
    pub segment_size: SegmentSize,
    /// The cluster's WAL page size.
    pub block_size: WalBlockSize,
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawPage {
    magic: U16,
    info: U16,
    timeline: U32,
    address: U64,
    remaining: U32,
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawSegment {
    page: RawPage,
    padding: U32,
    system_id: U64,
    segment_size: U32,
    block_size: U32,
}

impl PageHeader {
    /// Bytes before the first record on a page. PostgreSQL: `SizeOfXLogShortPHD`.
    pub const SIZE: usize = 24;

    /// Decodes the first [`Self::SIZE`] bytes of a page.
    ///
    /// # Errors
    /// Any [`HeaderError`] but those about a segment's fields. The bytes are no WAL then.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let too_short = HeaderError::TooShort { expected: Self::SIZE, seen: bytes.len() };
        if bytes.len() < Self::SIZE {
            return Err(too_short);
        }
        let (raw, _) = RawPage::ref_from_prefix(bytes).map_err(|_| too_short)?;
        let magic = raw.magic.get();
        let version = MAGICS
            .iter()
            .find(|(known, _)| *known == magic)
            .map(|(_, version)| *version)
            .ok_or(HeaderError::Magic { seen: magic })?;
        let info = raw.info.get();
        if info & !ALL_FLAGS != 0 {
            return Err(HeaderError::Flags { seen: info });
        }
        Ok(Self {
            version,
            timeline: TimelineId::new(raw.timeline.get()),
            address: Lsn::new(raw.address.get()),
            remaining: (info & FIRST_IS_CONTRECORD != 0).then(|| raw.remaining.get()),
            overwrites_unfinished: info & FIRST_IS_OVERWRITE_CONTRECORD != 0,
            is_long: info & LONG_HEADER != 0,
        })
    }
}

impl SegmentHeader {
    /// Bytes before the first record of a segment. PostgreSQL: `SizeOfXLogLongPHD`.
    pub const SIZE: usize = 40;

    /// Decodes the first [`Self::SIZE`] bytes of a segment file.
    ///
    /// # Errors
    /// A [`HeaderError`] when this is no start of a WAL segment of a version read here. Nothing may
    /// be concluded from the file's name then.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let page = PageHeader::decode(bytes)?;
        if !page.is_long {
            return Err(HeaderError::Length { address: page.address, long_expected: true });
        }
        let too_short = |_| HeaderError::TooShort { expected: Self::SIZE, seen: bytes.len() };
        let (raw, _) = RawSegment::ref_from_prefix(bytes).map_err(too_short)?;
        let seen = raw.segment_size.get();
        let segment_size = SegmentSize::new(seen).map_err(|_| HeaderError::SegmentSize { seen })?;
        let block_size = WalBlockSize::new(raw.block_size.get())?;
        if segment_size.offset(page.address) != 0 {
            return Err(HeaderError::Address { seen: page.address });
        }
        let system_id = SystemId::new(raw.system_id.get());
        Ok(Self { page, system_id, segment_size, block_size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long_header() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(0xD113_u16.to_le_bytes());
        bytes.extend((LONG_HEADER | FIRST_IS_CONTRECORD).to_le_bytes());
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend(0x16_B300_0000_u64.to_le_bytes());
        bytes.extend(77_u32.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(7_301_000_000_000_000_001_u64.to_le_bytes());
        bytes.extend((16_u32 << 20).to_le_bytes());
        bytes.extend(8192_u32.to_le_bytes());
        bytes
    }

    #[test]
    fn decodes_a_segment_start() {
        let header = SegmentHeader::decode(&long_header()).unwrap();
        assert_eq!(header.page.version, MajorVersion::V16);
        assert_eq!(header.page.timeline, TimelineId::new(3));
        assert_eq!(header.page.address.to_string(), "16/B3000000");
        assert_eq!(header.page.remaining, Some(77));
        assert_eq!(header.system_id.get(), 7_301_000_000_000_000_001);
        assert_eq!(header.segment_size, SegmentSize::DEFAULT);
        assert_eq!(header.block_size, WalBlockSize::DEFAULT);
    }

    #[test]
    fn refuses_what_is_no_segment_start() {
        let check = |change: fn(&mut Vec<u8>), expect: &str| {
            let mut bytes = long_header();
            change(&mut bytes);
            assert_eq!(SegmentHeader::decode(&bytes).unwrap_err().to_string(), expect);
        };
        check(|b| b.truncate(39), "expected at least 40 bytes of a WAL page, seen 39");
        check(|b| b.truncate(2), "expected at least 24 bytes of a WAL page, seen 2");
        check(|b| b[0] = 0, "expected a WAL page magic of PostgreSQL 14 to 18, seen 0xD100");
        check(|b| b[3] = 0x80, "expected known WAL page flags, seen 0x8003");
        check(|b| b[2] = 1, "expected a long page header at 16/B3000000");
        check(
            |b| b[9] = 0x20,
            "expected the start of a WAL segment, seen page address 16/B3002000",
        );
        check(
            |b| b[33] = 1,
            "expected a WAL segment size from 1 MiB to 1 GiB, seen 16777472 bytes",
        );
        check(|b| b[37] = 0, "expected a WAL block size from 1 KiB to 64 KiB, seen 0 bytes");
    }
}
