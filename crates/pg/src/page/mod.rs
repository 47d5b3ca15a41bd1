//! Pages of relation files: header, checksum, and whether a page is whole.

mod checksum;

use std::fmt;

use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::{BlockNumber, Lsn};

pub use checksum::page_checksum;

/// The size of a cluster's pages: a power of two from 1 to 32 KiB, chosen when PostgreSQL was
/// built. Comes from `pg_control`.
///
/// PostgreSQL: `BLCKSZ`, src/include/pg_config_manual.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockSize(u32);

/// The bytes per page are not a power of two from 1 to 32 KiB.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a power of two from 1 KiB to 32 KiB as block size, seen {seen} bytes")]
pub struct BlockSizeError {
    seen: u32,
}

impl BlockSize {
    /// 8 KiB, what PostgreSQL is built with unless told otherwise.
    pub const DEFAULT: Self = Self(8 << 10);

    /// Checks a size in bytes.
    ///
    /// # Errors
    /// [`BlockSizeError`] for anything but a power of two from 1 KiB to 32 KiB.
    pub fn new(bytes: u32) -> Result<Self, BlockSizeError> {
        if bytes.is_power_of_two() && (1 << 10..=32 << 10).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(BlockSizeError { seen: bytes })
        }
    }

    /// The size in bytes.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for BlockSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB", self.0 >> 10)
    }
}

/// The first 24 bytes of a page, without any judgement of them.
///
/// PostgreSQL: `PageHeaderData`, src/include/storage/bufpage.h.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned, Debug)]
#[repr(C)]
pub struct PageHeader {
    lsn_high: U32,
    lsn_low: U32,
    checksum: U16,
    flags: U16,
    lower: U16,
    upper: U16,
    special: U16,
    page_size_version: U16,
    prune_xid: U32,
}

impl PageHeader {
    /// The header of `page`; `None` when it has fewer than 24 bytes.
    #[must_use]
    pub fn of(page: &[u8]) -> Option<&Self> {
        Self::ref_from_prefix(page).ok().map(|(header, _)| header)
    }

    /// The end of the last WAL record that changed the page. PostgreSQL: `pd_lsn`.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        Lsn::new(u64::from(self.lsn_high.get()) << 32 | u64::from(self.lsn_low.get()))
    }

    /// The stored checksum. PostgreSQL: `pd_checksum`.
    #[must_use]
    pub fn checksum(&self) -> u16 {
        self.checksum.get()
    }

    /// Flag bits. PostgreSQL: `pd_flags`.
    #[must_use]
    pub fn flags(&self) -> u16 {
        self.flags.get()
    }

    /// The offset of the free space's first byte. PostgreSQL: `pd_lower`.
    #[must_use]
    pub fn lower(&self) -> u16 {
        self.lower.get()
    }

    /// The offset after the free space's last byte; 0 on a page that was never written.
    /// PostgreSQL: `pd_upper`.
    #[must_use]
    pub fn upper(&self) -> u16 {
        self.upper.get()
    }

    /// The offset of the access method's own space. PostgreSQL: `pd_special`.
    #[must_use]
    pub fn special(&self) -> u16 {
        self.special.get()
    }

    /// The page's size in bytes and its layout version, 4 since PostgreSQL 8.3.
    /// PostgreSQL: `pd_pagesize_version`.
    #[must_use]
    pub fn size_and_version(&self) -> (u16, u8) {
        let both = self.page_size_version.get();
        (both & 0xFF00, both.to_le_bytes()[0])
    }

    /// Whether PostgreSQL takes the page as allocated and never written. PostgreSQL: `PageIsNew`.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.upper.get() == 0
    }

    /// The tests of `PageIsVerified`: known flags, and the three offsets in order and inside.
    fn is_sane(&self, page_len: usize) -> bool {
        const VALID_FLAGS: u16 = 0x0007; // PD_VALID_FLAG_BITS
        const MAX_ALIGN: u16 = 8; // MAXIMUM_ALIGNOF on every platform PostgreSQL 14-18 builds on
        self.flags() & !VALID_FLAGS == 0
            && self.lower() <= self.upper()
            && self.upper() <= self.special()
            && usize::from(self.special()) <= page_len
            && self.special().is_multiple_of(MAX_ALIGN)
    }
}

/// What a page looks like, as PostgreSQL would judge it when it reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageState {
    /// Allocated, never written, all zero: legal.
    New,
    /// The checksum is right and the header is sane.
    Valid,
    /// The stored checksum is not that of the content: torn or damaged.
    Mismatch {
        /// The checksum of the content at this block number.
        expected: u16,
        /// The checksum in the header.
        seen: u16,
    },
    /// The header says "never written", yet there is content: damaged.
    NotZero,
    /// The checksum is right or not asked for, and flags or offsets are impossible: damaged.
    BadHeader,
    /// The bytes are not one page of a legal size: a file was cut inside a page.
    WrongSize {
        /// How many bytes there are.
        seen: usize,
    },
}

impl PageState {
    /// Whether PostgreSQL would accept the page.
    #[must_use]
    pub const fn is_intact(self) -> bool {
        matches!(self, Self::New | Self::Valid)
    }
}

/// Judges `page`, which stands at `block` of its fork, in a cluster with data checksums.
///
/// A page being written while it is read can fail; whether a failure is real is for the caller to
/// find out by reading again. The LSN in the header is no excuse: a damaged one is arbitrary.
///
/// PostgreSQL: `PageIsVerified` (before 18 `PageIsVerifiedExtended`),
/// src/backend/storage/page/bufpage.c.
#[must_use]
pub fn verify_page(page: &[u8], block: BlockNumber) -> PageState {
    judge(page, |header| {
        let (expected, seen) = (page_checksum(page, block), header.checksum());
        (expected != seen).then_some(PageState::Mismatch { expected, seen })
    })
}

/// Judges `page` as far as that goes in a cluster without data checksums: by its header.
#[must_use]
pub fn verify_page_header(page: &[u8]) -> PageState {
    judge(page, |_| None)
}

fn judge(page: &[u8], mismatch: impl Fn(&PageHeader) -> Option<PageState>) -> PageState {
    let size = u32::try_from(page.len()).ok().and_then(|len| BlockSize::new(len).ok());
    let (Some(_), Some(header)) = (size, PageHeader::of(page)) else {
        return PageState::WrongSize { seen: page.len() };
    };
    if header.is_new() {
        return if is_zero(page) { PageState::New } else { PageState::NotZero };
    }
    match mismatch(header) {
        Some(state) => state,
        None if header.is_sane(page.len()) => PageState::Valid,
        None => PageState::BadHeader,
    }
}

fn is_zero(page: &[u8]) -> bool {
    let (words, rest) = page.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A sane heap page of `size` bytes with some content and the right checksum.
    fn page(size: usize, block: BlockNumber) -> Vec<u8> {
        let mut page: Vec<u8> = (0..size).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
        let half = |value: usize| u16::try_from(value).unwrap().to_le_bytes();
        page[10..12].copy_from_slice(&half(4));
        page[12..14].copy_from_slice(&half(28));
        page[14..16].copy_from_slice(&half(size / 2));
        page[16..18].copy_from_slice(&half(size));
        let checksum = page_checksum(&page, block);
        page[8..10].copy_from_slice(&checksum.to_le_bytes());
        page
    }

    #[test]
    fn takes_only_legal_block_sizes() {
        for kib in [1, 2, 4, 8, 16, 32] {
            assert_eq!(BlockSize::new(kib << 10).unwrap().to_string(), format!("{kib} KiB"));
        }
        for bad in [0, 512, 3 << 10, 64 << 10, u32::MAX] {
            assert!(BlockSize::new(bad).is_err());
        }
    }

    #[test]
    fn judges_pages_of_every_size() {
        for kib in [1, 2, 4, 8, 16, 32] {
            let block = BlockNumber::new(77);
            let good = page(kib << 10, block);
            assert_eq!(verify_page(&good, block), PageState::Valid);
            assert!(matches!(verify_page(&good, BlockNumber::new(78)), PageState::Mismatch { .. }));
            assert_eq!(verify_page(&vec![0; kib << 10], block), PageState::New);
        }
    }

    #[test]
    fn a_page_that_claims_to_be_new_must_be_zero() {
        let mut page = vec![0; 8192];
        page[8191] = 1;
        assert_eq!(verify_page(&page, BlockNumber::new(0)), PageState::NotZero);
        assert_eq!(verify_page_header(&page), PageState::NotZero);
    }

    #[test]
    fn a_right_checksum_does_not_excuse_an_impossible_header() {
        let block = BlockNumber::new(1);
        for (at, value) in [(10, 8u16), (12, 8000), (14, 8190), (16, 8191), (16, 8193)] {
            let mut page = page(8192, block);
            page[at..at + 2].copy_from_slice(&value.to_le_bytes());
            let checksum = page_checksum(&page, block);
            page[8..10].copy_from_slice(&checksum.to_le_bytes());
            let expect = if at == 14 { PageState::Valid } else { PageState::BadHeader };
            assert_eq!(verify_page(&page, block), expect, "offset {at}");
            assert_eq!(verify_page_header(&page), expect);
        }
    }

    #[test]
    fn a_part_of_a_page_is_no_page() {
        for len in [0, 7, 23, 24, 1023, 4097, 8191, 65536] {
            let state = verify_page(&vec![1; len], BlockNumber::new(0));
            assert_eq!(state, PageState::WrongSize { seen: len });
            assert!(!state.is_intact());
        }
    }

    #[test]
    fn shows_the_header() {
        let mut page = page(8192, BlockNumber::new(0));
        page[..8].copy_from_slice(&[0x16, 0, 0, 0, 0x48, 0xD8, 0x74, 0xB3]);
        page[18..20].copy_from_slice(&0x2004u16.to_le_bytes());
        let header = PageHeader::of(&page).unwrap();
        assert_eq!(header.lsn().to_string(), "16/B374D848");
        assert_eq!(header.size_and_version(), (8192, 4));
        assert_eq!((header.flags(), header.lower()), (4, 28));
        assert_eq!((header.upper(), header.special()), (4096, 8192));
        assert!(!header.is_new());
        assert!(PageHeader::of(&page[..23]).is_none());
    }

    #[test]
    fn flipped_bits_are_seen_as_far_as_sixteen_bits_of_checksum_can() {
        let block = BlockNumber::new(3);
        let mut page = page(8192, block);
        let missed = (0..8192 * 8).filter(|bit| {
            page[bit / 8] ^= 1 << (bit % 8);
            let missed = verify_page(&page, block).is_intact();
            page[bit / 8] ^= 1 << (bit % 8);
            missed
        });
        assert!(missed.count() < 8, "one in 65,535 can be missed");
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes: Vec<u8>, block: u32) {
            let _ = verify_page(&bytes, BlockNumber::new(block));
            let _ = verify_page_header(&bytes);
        }
    }
}
