//! A log of PostgreSQL 17 in segments of 1 MiB: commits, each segment ended by a switch.

use pg::{SegmentSize, TimelineId, WalSegment};

use crate::Result;

/// Bytes in a segment.
pub(crate) const SEGMENT_LEN: usize = 1 << 20;

/// PostgreSQL: `XLOG_PAGE_MAGIC` of 17.
const MAGIC: u16 = 0xD116;
/// Records of commits in one segment.
const COMMITS: u64 = 20;
/// The first commit of segment 0: 2026-11-21 02:00 UTC in microseconds since 2000-01-01.
const BEGIN_US: i64 = 848_541_600_000_000;

/// The size of every segment here.
pub(crate) fn size() -> Result<SegmentSize> {
    Ok(SegmentSize::new(1 << 20)?)
}

/// PostgreSQL's name of a segment.
pub(crate) fn name(timeline: u32, number: u64) -> Result<String> {
    Ok(WalSegment { timeline: TimelineId::new(timeline), number }.name(size()?))
}

/// The bytes of one segment.
pub(crate) fn segment(system_id: u64, timeline: u32, number: u64) -> Vec<u8> {
    let address = number * SEGMENT_LEN as u64;
    let mut bytes = Vec::with_capacity(SEGMENT_LEN);
    bytes.extend_from_slice(&MAGIC.to_le_bytes());
    bytes.extend_from_slice(&2_u16.to_le_bytes()); // XLP_LONG_HEADER
    bytes.extend_from_slice(&timeline.to_le_bytes());
    bytes.extend_from_slice(&address.to_le_bytes());
    bytes.extend_from_slice(&[0; 8]); // nothing goes on here, and padding
    bytes.extend_from_slice(&system_id.to_le_bytes());
    bytes.extend_from_slice(&(1_u32 << 20).to_le_bytes());
    bytes.extend_from_slice(&8192_u32.to_le_bytes());
    // The switch record of the segment before, which has the same layout.
    let mut last = address - SEGMENT_LEN as u64 + 40 + COMMITS * COMMIT_LEN;
    for commit in 0..COMMITS {
        let count = number * COMMITS + commit;
        let time = BEGIN_US + i64::try_from(count).unwrap_or_default() * 1_000_000;
        let xid = 700 + u32::try_from(count).unwrap_or_default();
        let start = address + bytes.len() as u64;
        let main = [&[0xff, 8][..], &time.to_le_bytes()].concat(); // XLR_BLOCK_ID_DATA_SHORT
        record(&mut bytes, xid, last, (0x00, 1), &main); // XLOG_XACT_COMMIT
        last = start;
    }
    record(&mut bytes, 0, last, (0x40, 0), &[]); // XLOG_SWITCH
    bytes.resize(SEGMENT_LEN, 0);
    bytes
}

/// Header and time of a commit, aligned.
const COMMIT_LEN: u64 = 40;

/// Appends a record: info and resource manager, then headers and data as they are.
fn record(bytes: &mut Vec<u8>, xid: u32, last: u64, (info, manager): (u8, u8), rest: &[u8]) {
    let total = u32::try_from(24 + rest.len()).unwrap_or_default();
    let mut head = Vec::with_capacity(24);
    head.extend_from_slice(&total.to_le_bytes());
    head.extend_from_slice(&xid.to_le_bytes());
    head.extend_from_slice(&last.to_le_bytes());
    head.extend_from_slice(&[info, manager, 0, 0]);
    let crc = crc32c(&[rest, &head].concat());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(rest);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
}

/// CRC-32C.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    u32::try_from(crc).unwrap_or_default()
}
