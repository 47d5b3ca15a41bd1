//! The data checksum of a page: 32 interleaved FNV-1a sums, so that processors can work on many of
//! them at once.

use crate::BlockNumber;

/// How many sums run side by side. PostgreSQL: `N_SUMS`.
const LANES: usize = 32;
/// One 32-bit word for each sum.
const ROW_LEN: usize = LANES * 4;
/// PostgreSQL: `FNV_PRIME`.
const PRIME: u32 = 16_777_619;
/// Where the header holds the checksum, which counts as zero while it is computed.
const CHECKSUM_AT: std::ops::Range<usize> = 8..10;

type Sums = [u32; LANES];

/// Where each sum starts. PostgreSQL: `checksumBaseOffsets`.
const START: Sums = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// The checksum of `page` at `block` of its fork, as the header should hold it; never 0. What the
/// header does hold is left out of the sum.
///
/// `page` is one page of a legal size ([`crate::page::BlockSize`]); of other slices only the whole
/// 128-byte rows count, so the result then means nothing ([`crate::page::verify_page`] refuses
/// them).
///
/// PostgreSQL: `pg_checksum_page`, src/include/storage/checksum_impl.h, the same in 9.3 to 19.
#[must_use]
#[allow(clippy::cast_possible_truncation)] // at most 65534 + 1 after the division's rest
pub fn page_checksum(page: &[u8], block: BlockNumber) -> u16 {
    let (rows, _) = page.as_chunks::<ROW_LEN>();
    let mut sums = START;
    if let Some((first, rest)) = rows.split_first() {
        let mut header_row = *first;
        header_row[CHECKSUM_AT].fill(0);
        mix(&mut sums, &header_row);
        for row in rest {
            mix(&mut sums, row);
        }
    }
    let zeros = [0; ROW_LEN];
    mix(&mut sums, &zeros);
    mix(&mut sums, &zeros);
    let folded = sums.iter().fold(block.get(), |folded, sum| folded ^ sum);
    (folded % 65535 + 1) as u16
}

/// One round over all sums; without branches and without order between them, so that it becomes
/// vector instructions. PostgreSQL: `CHECKSUM_COMP`.
#[inline(always)]
fn mix(sums: &mut Sums, row: &[u8; ROW_LEN]) {
    let (words, _) = row.as_chunks::<4>();
    for (sum, word) in sums.iter_mut().zip(words) {
        let mixed = *sum ^ u32::from_le_bytes(*word);
        *sum = mixed.wrapping_mul(PRIME) ^ (mixed >> 17);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_checksum_does_not_count() {
        let mut page = vec![9; 8192];
        let before = page_checksum(&page, BlockNumber::new(5));
        page[CHECKSUM_AT].fill(0xAB);
        assert_eq!(page_checksum(&page, BlockNumber::new(5)), before);
        page[10] ^= 1;
        assert_ne!(page_checksum(&page, BlockNumber::new(5)), before);
    }

    #[test]
    fn is_never_zero_and_depends_on_the_block() {
        let page = vec![1; 1024];
        let sums: Vec<u16> =
            (0..70_000).map(|block| page_checksum(&page, BlockNumber::new(block))).collect();
        assert!(sums.iter().all(|sum| *sum != 0));
        assert_ne!(sums[0], sums[1]);
    }
}
