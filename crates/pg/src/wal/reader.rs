//! Turns consecutive WAL bytes into verified records.

mod records;

use std::fmt::Write as _;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::decode::{self, Parts};
use super::error::{EndReason, HeaderError, ReadError};
use super::page::{PageHeader, SegmentHeader, WalBlockSize};
use super::record::{BlockRef, Record, ResourceManager};
use super::rmgr::xlog;
use crate::{Lsn, MajorVersion, SegmentSize, SystemId, TimelineId, Xid};

/// Reassembly space that is kept from one record to the next, in bytes. Longer records are rare
/// (a commit that drops very many relations, a logical message), so their space is given back.
const SCRATCH_KEPT_MAX: usize = 1 << 20;

/// A decoder that is fed the bytes of consecutive segments, in pieces of any length, and gives
/// their records in order, each verified: page headers, CRC-32C, the link to the record before.
///
/// Bytes must be fed from [`RecordReader::position`] on, without a gap. Between two calls of
/// [`RecordReader::feed`], take records until there are none: then the reader holds less than one
/// record that is not complete, plus what was fed last.
///
/// A record that begins on an earlier page than the first one fed is passed over; so is the rest of
/// a segment after a switch, and a record that a crash left unfinished and that was given up since.
///
/// PostgreSQL: `XLogReadRecord` and `XLogFindNextRecord`, src/backend/access/transam/xlogreader.c.
#[derive(Debug)]
pub struct RecordReader {
    from: Lsn,
    segment_size: SegmentSize,
    block_size: WalBlockSize,
    system_id: Option<SystemId>,
    timelines: Vec<TimelineId>,
    /// Bytes fed; those before `head` are done with.
    buffer: Vec<u8>,
    head: usize,
    /// Where the byte at `head` lies.
    at: Lsn,
    /// Bytes before this position are passed over.
    skip_to: Lsn,
    state: State,
    /// The pieces so far of a record that crosses pages.
    scratch: Vec<u8>,
    blocks: Vec<BlockRef>,
    page: Option<PageHeader>,
    /// Start of the last record.
    previous: Option<Lsn>,
    end: Lsn,
    /// Start of a record given up, until the record comes that says so.
    given_up: Option<Lsn>,
    /// Start of the page or record being looked at: what an error names.
    suspect: Lsn,
    failed: Option<ReadError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No record has begun yet; the page may go on with an earlier one.
    Seeking,
    /// A record starts at `at`.
    Between,
    /// `scratch` has the first bytes of a record.
    Within { start: Lsn, total: u32 },
}

/// A complete record's bytes.
#[derive(Clone, Copy)]
enum Place {
    Buffer { offset: usize, len: usize },
    Scratch,
}

enum Step {
    NeedBytes,
    Moved,
    Complete(Lsn, Place),
}

struct Found {
    start: Lsn,
    end: Lsn,
    place: Place,
    header: Checked,
    parts: Parts,
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawRecord {
    total_len: U32,
    xid: U32,
    prev: U64,
    info: u8,
    rmgr: u8,
    padding: [u8; 2],
    crc: U32,
}

#[derive(Clone, Copy)]
struct Checked {
    xid: Xid,
    prev: Lsn,
    info: u8,
    rmgr: ResourceManager,
    crc: u32,
    version: MajorVersion,
    timeline: TimelineId,
}

const RECORD_ALIGNMENT: u64 = 8;

fn align(lsn: Lsn) -> Lsn {
    Lsn::new(lsn.get().next_multiple_of(RECORD_ALIGNMENT))
}

impl RecordReader {
    /// A reader that gives every record that starts at or after `from`. It is fed from the start of
    /// the page that holds `from`, which [`RecordReader::position`] tells.
    #[must_use]
    pub fn new(from: Lsn, segment_size: SegmentSize, block_size: WalBlockSize) -> Self {
        let page_start = Lsn::new(from.get() - block_size.offset(from));
        Self {
            from,
            segment_size,
            block_size,
            system_id: None,
            timelines: Vec::new(),
            buffer: Vec::new(),
            head: 0,
            at: page_start,
            skip_to: page_start,
            state: State::Seeking,
            scratch: Vec::new(),
            blocks: Vec::new(),
            page: None,
            previous: None,
            end: from,
            given_up: None,
            suspect: page_start,
            failed: None,
        }
    }

    /// Makes the reader refuse segments of any other cluster. Without it, the first segment start
    /// seen decides.
    #[must_use]
    pub fn expect_system(mut self, system_id: SystemId) -> Self {
        self.system_id = Some(system_id);
        self
    }

    /// Makes the reader refuse pages of timelines that are not among these, the path from the
    /// first to the target timeline. Without it, only a step back to an earlier timeline is
    /// refused.
    #[must_use]
    pub fn expect_timelines(mut self, timelines: Vec<TimelineId>) -> Self {
        self.timelines = timelines;
        self
    }

    /// Where the next byte fed must lie.
    #[must_use]
    pub fn position(&self) -> Lsn {
        self.at + (self.buffer.len() - self.head) as u64
    }

    /// The end of the last record read, which is the end of valid WAL after an error; where the
    /// reader was to begin, while there was none.
    #[must_use]
    pub const fn end(&self) -> Lsn {
        self.end
    }

    /// The start of the last record read.
    #[must_use]
    pub const fn last_start(&self) -> Option<Lsn> {
        self.previous
    }

    /// The start of a record whose rest has not been fed yet, if there is one. To go on later
    /// with another reader, start that one here.
    #[must_use]
    pub const fn unfinished(&self) -> Option<Lsn> {
        match self.state {
            State::Within { start, .. } => Some(start),
            State::Seeking | State::Between => None,
        }
    }

    /// The header of the page read last.
    #[must_use]
    pub const fn page(&self) -> Option<PageHeader> {
        self.page
    }

    /// Hands over the bytes from [`RecordReader::position`] on.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.head);
        self.head = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next record, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`ReadError`] where the bytes stop being valid WAL, with the reason; the same again at every
    /// later call. At the end of the log this is expected, in the middle of an archive it is
    /// damage.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        let found = loop {
            match self.find()? {
                None => return Ok(None),
                Some(found) if found.start >= self.from => break found,
                Some(_) => {}
            }
        };
        let bytes = self.bytes_of(found.place);
        Ok(Some(Record {
            start: found.start,
            end: found.end,
            prev: found.header.prev,
            timeline: found.header.timeline,
            version: found.header.version,
            xid: found.header.xid,
            rmgr: found.header.rmgr,
            info: found.header.info,
            origin: found.parts.origin,
            top_level_xid: found.parts.top_level_xid,
            blocks: &self.blocks,
            bytes,
            main: found.parts.main,
        }))
    }

    fn find(&mut self) -> Result<Option<Found>, ReadError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.step_to_record().map_err(|reason| {
            let error = ReadError { at: self.suspect, reason };
            self.failed = Some(error.clone());
            error
        })
    }

    fn step_to_record(&mut self) -> Result<Option<Found>, EndReason> {
        loop {
            if !self.pass_over() {
                return Ok(None);
            }
            let step = if self.block_size.offset(self.at) == 0 {
                self.enter_page()?
            } else {
                match self.state {
                    // After a page header, either there is something to pass over or not.
                    State::Seeking | State::Between => self.begin_record()?,
                    State::Within { start, total } => self.continue_record(start, total)?,
                }
            };
            match step {
                Step::NeedBytes => return Ok(None),
                Step::Moved => {}
                Step::Complete(start, place) => return self.complete(start, place).map(Some),
            }
        }
    }

    /// Drops bytes before `skip_to`; false when not all of them have been fed.
    fn pass_over(&mut self) -> bool {
        let wanted = self.skip_to.checked_sub(self.at).unwrap_or(0);
        let there = (self.buffer.len() - self.head) as u64;
        self.advance(usize::try_from(wanted.min(there)).unwrap_or(usize::MAX));
        wanted <= there
    }

    fn advance(&mut self, bytes: usize) {
        self.head += bytes;
        self.at = self.at + bytes as u64;
    }

    fn fed(&self) -> &[u8] {
        self.buffer.get(self.head..).unwrap_or_default()
    }

    fn bytes_of(&self, place: Place) -> &[u8] {
        match place {
            Place::Buffer { offset, len } => {
                self.buffer.get(offset..offset + len).unwrap_or_default()
            }
            Place::Scratch => &self.scratch,
        }
    }

    fn page_end(&self) -> Lsn {
        let into = self.block_size.offset(self.at);
        Lsn::new(self.at.get().saturating_add(u64::from(self.block_size.get()) - into))
    }
}

/// Pages.
impl RecordReader {
    fn enter_page(&mut self) -> Result<Step, EndReason> {
        self.suspect = self.unfinished().unwrap_or(self.at);
        let is_segment_start = self.segment_size.offset(self.at) == 0;
        let size = if is_segment_start { SegmentHeader::SIZE } else { PageHeader::SIZE };
        let Some(bytes) = self.fed().get(..size) else { return Ok(Step::NeedBytes) };
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(EndReason::Zeroed);
        }
        let page = PageHeader::decode(bytes).map_err(EndReason::Header)?;
        if page.address != self.at {
            return Err(EndReason::Recycled { expected: self.at, seen: page.address });
        }
        if page.is_long != is_segment_start {
            let address = self.at;
            let error = HeaderError::Length { address, long_expected: is_segment_start };
            return Err(EndReason::Header(error));
        }
        if is_segment_start {
            let header = SegmentHeader::decode(bytes).map_err(EndReason::Header)?;
            self.check_segment(&header)?;
        }
        self.check_page(&page)?;
        self.follow_page(&page, size)?;
        self.page = Some(page);
        self.advance(size);
        Ok(Step::Moved)
    }

    fn check_segment(&mut self, header: &SegmentHeader) -> Result<(), EndReason> {
        let expected = *self.system_id.get_or_insert(header.system_id);
        if header.system_id != expected {
            return Err(EndReason::System { expected, seen: header.system_id });
        }
        if header.segment_size != self.segment_size || header.block_size != self.block_size {
            return Err(EndReason::Sizes {
                expected: self.segment_size.get(),
                expected_block: self.block_size.get(),
                seen: header.segment_size.get(),
                seen_block: header.block_size.get(),
            });
        }
        Ok(())
    }

    fn check_page(&self, page: &PageHeader) -> Result<(), EndReason> {
        if !self.timelines.is_empty() && !self.timelines.contains(&page.timeline) {
            let expected = list(&self.timelines);
            return Err(EndReason::Timeline { expected, seen: page.timeline });
        }
        let Some(before) = &self.page else { return Ok(()) };
        if page.timeline < before.timeline {
            let expected = format!("{} or later", before.timeline);
            return Err(EndReason::Timeline { expected, seen: page.timeline });
        }
        if page.version != before.version {
            return Err(EndReason::Version { expected: before.version, seen: page.version });
        }
        Ok(())
    }

    /// Decides what stands behind the page's header.
    fn follow_page(&mut self, page: &PageHeader, header_size: usize) -> Result<(), EndReason> {
        match (self.state, page.remaining) {
            (State::Seeking, None) => self.state = State::Between,
            (State::Seeking, Some(remaining)) => {
                let rest_end = align(self.at + header_size as u64 + u64::from(remaining));
                self.skip_to = rest_end.min(self.page_end());
                if rest_end < self.page_end() {
                    self.state = State::Between;
                }
            }
            (State::Between, None) => {}
            (State::Between, Some(_)) => return Err(EndReason::UnexpectedContinuation),
            (State::Within { start, .. }, _) if page.overwrites_unfinished => {
                self.given_up = Some(start);
                self.state = State::Between;
            }
            (State::Within { .. }, None) => return Err(EndReason::MissingContinuation),
            (State::Within { total, .. }, Some(seen)) => {
                let expected = u64::from(total) - self.scratch.len() as u64;
                if u64::from(seen) != expected {
                    let expected = u32::try_from(expected).unwrap_or(u32::MAX);
                    return Err(EndReason::ContinuationLength { expected, seen });
                }
            }
        }
        Ok(())
    }
}

fn list(timelines: &[TimelineId]) -> String {
    let mut text = String::new();
    for timeline in timelines {
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{comma}{timeline}"); // a String takes everything
    }
    text
}

#[cfg(test)]
mod tests;
