//! WAL segments and their names, for every legal segment size.

use std::fmt;

use crate::{Lsn, TimelineId};

/// The size of a cluster's WAL segments: a power of two from 1 MiB to 1 GiB, fixed by `initdb`.
/// Comes from `pg_control` or a segment's long header; the arithmetic of names depends on it.
///
/// PostgreSQL: `IsValidWalSegSize`, src/include/access/xlog_internal.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentSize(u32);

/// A WAL segment: 1 ⁄ [`SegmentSize`] of a timeline's log. `number` counts from the log's start.
///
/// PostgreSQL: `XLogSegNo`, src/include/access/xlogdefs.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalSegment {
    /// The timeline in the segment's name.
    pub timeline: TimelineId,
    /// The segment's place, counted from 0 at LSN 0/0.
    pub number: u64,
}

/// The bytes per segment are not a power of two from 1 MiB to 1 GiB.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a power of two from 1 MiB to 1 GiB as WAL segment size, seen {seen} bytes")]
pub struct SegmentSizeError {
    seen: u32,
}

/// The text does not name a WAL segment of this size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected the name of a WAL segment of {size} bytes, seen '{seen}'")]
pub struct ParseSegmentError {
    seen: String,
    size: u32,
}

impl SegmentSize {
    /// 16 MiB, what `initdb` chooses unless told otherwise.
    pub const DEFAULT: Self = Self(16 << 20);

    const MIN: u32 = 1 << 20;
    const MAX: u32 = 1 << 30;

    /// Checks a size in bytes.
    ///
    /// # Errors
    /// [`SegmentSizeError`] for anything but a power of two from 1 MiB to 1 GiB.
    pub fn new(bytes: u32) -> Result<Self, SegmentSizeError> {
        if bytes.is_power_of_two() && (Self::MIN..=Self::MAX).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(SegmentSizeError { seen: bytes })
        }
    }

    /// The size in bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0 as u64
    }

    /// How many segments share the middle eight digits of their names: 4 GiB of log.
    ///
    /// PostgreSQL: `XLogSegmentsPerXLogId`.
    #[must_use]
    pub const fn segments_per_log(self) -> u64 {
        (1 << 32) / self.get()
    }

    /// How far into its segment `lsn` is, in bytes.
    ///
    /// PostgreSQL: `XLogSegmentOffset`.
    #[must_use]
    pub const fn offset(self, lsn: Lsn) -> u64 {
        lsn.get() & (self.get() - 1)
    }
}

impl Default for SegmentSize {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for SegmentSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0 >> 20)
    }
}

impl WalSegment {
    /// Returns the segment that holds `lsn`.
    ///
    /// An LSN on a boundary belongs to the segment it *starts*; for a stop LSN, where the last byte
    /// counts, use [`WalSegment::ending_at`]. (SQL `pg_walfile_name` answered with the segment
    /// before until PostgreSQL 16, and like this function since 17.)
    ///
    /// PostgreSQL: `XLByteToSeg`, src/include/access/xlog_internal.h.
    #[must_use]
    pub const fn containing(lsn: Lsn, timeline: TimelineId, size: SegmentSize) -> Self {
        Self { timeline, number: lsn.get() / size.get() }
    }

    /// Returns the segment that holds the last byte before `lsn`: the one that must be archived for
    /// the log to be there *up to* `lsn`. On a boundary that is the segment which ends there. For
    /// LSN 0/0, before which there is no byte, it is segment 0.
    ///
    /// PostgreSQL: `XLByteToPrevSeg`, src/include/access/xlog_internal.h.
    #[must_use]
    pub const fn ending_at(lsn: Lsn, timeline: TimelineId, size: SegmentSize) -> Self {
        Self { timeline, number: lsn.get().saturating_sub(1) / size.get() }
    }

    /// The file name: timeline, upper and lower part of the number, eight hexadecimal digits each.
    ///
    /// PostgreSQL: `XLogFileName`, src/include/access/xlog_internal.h.
    #[must_use]
    pub fn name(self, size: SegmentSize) -> String {
        let per_log = size.segments_per_log();
        let log = (self.number / per_log) & 0xFFFF_FFFF;
        format!("{:08X}{:08X}{:08X}", self.timeline.get(), log, self.number % per_log)
    }

    /// Reads a segment's file name. Stricter than `IsXLogFileName`: the last group must be one that
    /// this segment size can produce, and the timeline must not be 0.
    ///
    /// # Errors
    /// [`ParseSegmentError`] for every other text, among it names that only another size makes: the
    /// caller has the wrong size, or the file is of another cluster.
    ///
    /// PostgreSQL: `XLogFromFileName`, src/include/access/xlog_internal.h.
    pub fn parse(name: &str, size: SegmentSize) -> Result<Self, ParseSegmentError> {
        SegmentName::parse(name)
            .and_then(|name| name.segment(size).ok())
            .ok_or_else(|| ParseSegmentError { seen: name.to_owned(), size: size.0 })
    }

    /// The position of the segment's first byte.
    #[must_use]
    pub const fn begin(self, size: SegmentSize) -> Lsn {
        Lsn::new(self.number.saturating_mul(size.get()))
    }

    /// The position after the segment's last byte; of the very last segment, [`Lsn::MAX`].
    #[must_use]
    pub const fn end(self, size: SegmentSize) -> Lsn {
        Lsn::new(self.number.saturating_add(1).saturating_mul(size.get()))
    }

    /// The segment after this one on the same timeline.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { timeline: self.timeline, number: self.number.saturating_add(1) }
    }
}

/// The three groups of a segment's name, before the segment size is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    timeline: TimelineId,
    log: u32,
    low: u32,
}

impl SegmentName {
    /// Reads 24 upper-case hexadecimal digits with a timeline that is not 0.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (timeline, rest) = hex_group(name)?;
        let (log, rest) = hex_group(rest)?;
        let (low, rest) = hex_group(rest)?;
        (rest.is_empty() && timeline != 0).then_some(Self {
            timeline: TimelineId::new(timeline),
            log,
            low,
        })
    }

    /// The timeline in the name.
    #[must_use]
    pub const fn timeline(self) -> TimelineId {
        self.timeline
    }

    /// The segment this names in a cluster with this segment size.
    ///
    /// # Errors
    /// [`ParseSegmentError`] when that size never makes this name.
    pub fn segment(self, size: SegmentSize) -> Result<WalSegment, ParseSegmentError> {
        let per_log = size.segments_per_log();
        if u64::from(self.low) < per_log {
            let number = u64::from(self.log) * per_log + u64::from(self.low);
            Ok(WalSegment { timeline: self.timeline, number })
        } else {
            Err(ParseSegmentError { seen: self.to_string(), size: size.0 })
        }
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}{:08X}{:08X}", self.timeline.get(), self.log, self.low)
    }
}

/// Splits eight upper-case hexadecimal digits off the front.
pub(crate) fn hex_group(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at_checked(8)?;
    let upper_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    let value = u32::from_str_radix(digits, 16).ok()?;
    upper_hex.then_some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u32 = 1 << 20;

    fn size(mib: u32) -> SegmentSize {
        SegmentSize::new(mib * MIB).unwrap()
    }

    #[test]
    fn takes_only_legal_sizes() {
        for good in [1, 2, 16, 64, 1024] {
            assert_eq!(SegmentSize::new(good * MIB).unwrap().get(), u64::from(good * MIB));
        }
        for bad in [0, 1, MIB / 2, 3 * MIB, 2048 * MIB, u32::MAX] {
            assert!(SegmentSize::new(bad).is_err(), "{bad}");
        }
        assert_eq!(SegmentSize::DEFAULT.to_string(), "16 MiB");
    }

    #[test]
    fn a_boundary_starts_one_segment_and_ends_another() {
        let check = |lsn: &str, mib, containing: &str, ending_at: &str| {
            let (lsn, tli, size) = (lsn.parse().unwrap(), TimelineId::new(1), size(mib));
            assert_eq!(WalSegment::containing(lsn, tli, size).name(size), containing);
            assert_eq!(WalSegment::ending_at(lsn, tli, size).name(size), ending_at);
        };
        check("0/1000000", 16, "000000010000000000000001", "000000010000000000000000");
        check("0/1000001", 16, "000000010000000000000001", "000000010000000000000001");
        check("1/0", 16, "000000010000000100000000", "0000000100000000000000FF");
        check("1/0", 1, "000000010000000100000000", "000000010000000000000FFF");
        check("1/0", 1024, "000000010000000100000000", "000000010000000000000003");
        check("A2/7F000028", 16, "00000001000000A20000007F", "00000001000000A20000007F");
        check("0/0", 16, "000000010000000000000000", "000000010000000000000000");
    }

    #[test]
    fn a_segment_spans_its_size() {
        let segment = WalSegment::parse("0000000200000001000000FF", size(16)).unwrap();
        assert_eq!(segment.begin(size(16)).to_string(), "1/FF000000");
        assert_eq!(segment.end(size(16)).to_string(), "2/0");
        assert_eq!(segment.next().name(size(16)), "000000020000000200000000");
    }

    #[test]
    fn refuses_names_of_another_size_or_kind() {
        let check = |name: &str, mib, good| {
            assert_eq!(WalSegment::parse(name, size(mib)).is_ok(), good, "{name} at {mib} MiB");
        };
        check("0000000100000000000000FF", 16, true);
        check("000000010000000000000100", 16, false);
        check("000000010000000000000100", 1, true);
        check("000000010000000000000004", 1024, false);
        check("FFFFFFFFFFFFFFFF000000FF", 16, true);
        check("000000000000000000000001", 16, false);
        check("0000000100000000000000ff", 16, false);
        check("00000001000000000000001", 16, false);
        check("0000000100000000000000011", 16, false);
        check("+0000001000000000000001A", 16, false);
        check("ä0000001000000000000001", 16, false);
    }

    #[test]
    fn the_last_segment_does_not_overflow() {
        let last = WalSegment::parse("FFFFFFFFFFFFFFFF000000FF", size(16)).unwrap();
        assert_eq!(last.begin(size(16)).to_string(), "FFFFFFFF/FF000000");
        assert_eq!(last.end(size(16)), Lsn::MAX);
        let beyond = WalSegment { timeline: TimelineId::FIRST, number: u64::MAX };
        assert_eq!(beyond.next().end(size(1024)), Lsn::MAX);
        assert_eq!(beyond.name(size(1)).len(), 24);
    }

    proptest! {
        #[test]
        fn names_round_trip(lsn: u64, tli in 1u32.., shift in 0u32..=10) {
            let size = size(1 << shift);
            let segment = WalSegment::containing(Lsn::new(lsn), TimelineId::new(tli), size);
            prop_assert_eq!(WalSegment::parse(&segment.name(size), size), Ok(segment));
            prop_assert!(segment.begin(size) <= Lsn::new(lsn));
            prop_assert!(Lsn::new(lsn) <= segment.end(size));
            prop_assert_eq!(segment.begin(size) + size.offset(Lsn::new(lsn)), Lsn::new(lsn));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,30}") {
            let _ = WalSegment::parse(&text, SegmentSize::DEFAULT);
        }
    }
}
