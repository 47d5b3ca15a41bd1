//! Writes WAL for unit tests: records on pages in segments, with right links and checksums, the way
//! a server lays them out.

use super::page::{PageHeader, SegmentHeader, WalBlockSize};
use super::record::Record;
use crate::{Lsn, MajorVersion, SegmentSize, SystemId, TimelineId, Xid};

/// A log in the making.
pub(super) struct Forge {
    pub(super) begin: Lsn,
    pub(super) bytes: Vec<u8>,
    pub(super) magic: u16,
    pub(super) timeline: TimelineId,
    pub(super) system_id: SystemId,
    /// Start of the last record, and where the next links back to.
    pub(super) last: Lsn,
}

pub(super) const SEGMENT: u64 = 1 << 20;
const BLOCK: u64 = 8192;

/// A record's content: main data, and blocks as raw header and data.
#[derive(Clone, Default)]
pub(super) struct Content {
    pub(super) rmgr: u8,
    pub(super) info: u8,
    pub(super) xid: u32,
    /// Block headers, complete.
    pub(super) headers: Vec<u8>,
    /// What the headers promise.
    pub(super) payload: Vec<u8>,
    pub(super) main: Vec<u8>,
}

pub(super) fn magic(version: MajorVersion) -> u16 {
    match version.get() {
        14 => 0xD10D,
        15 => 0xD110,
        16 => 0xD113,
        17 => 0xD116,
        18 => 0xD118,
        other => panic!("no magic of {other} here"),
    }
}

pub(super) fn reader(from: Lsn) -> super::RecordReader {
    let size = SegmentSize::new(1 << 20).unwrap();
    super::RecordReader::new(from, size, WalBlockSize::DEFAULT)
}

impl Forge {
    pub(super) fn new(version: MajorVersion) -> Self {
        Self {
            begin: Lsn::new(5 * SEGMENT),
            bytes: Vec::new(),
            magic: magic(version),
            timeline: TimelineId::FIRST,
            system_id: SystemId::new(77),
            last: Lsn::new(4 * SEGMENT + 40),
        }
    }

    pub(super) fn at(&self) -> Lsn {
        self.begin + self.bytes.len() as u64
    }

    /// Begins a page if one begins here. `remaining` bytes of a record go on on it.
    fn page(&mut self, remaining: u32, flags: u16) {
        let at = self.at().get();
        if !at.is_multiple_of(BLOCK) {
            return;
        }
        let is_long = at.is_multiple_of(SEGMENT);
        let info = u16::from(remaining > 0) | if is_long { 2 } else { 0 } | flags;
        let start = self.bytes.len();
        self.bytes.extend(self.magic.to_le_bytes());
        self.bytes.extend(info.to_le_bytes());
        self.bytes.extend(self.timeline.get().to_le_bytes());
        self.bytes.extend(at.to_le_bytes());
        self.bytes.extend(remaining.to_le_bytes());
        self.bytes.resize(start + PageHeader::SIZE, 0);
        if is_long {
            self.bytes.extend(self.system_id.get().to_le_bytes());
            self.bytes.extend(u32::try_from(SEGMENT).unwrap().to_le_bytes());
            self.bytes.extend(u32::try_from(BLOCK).unwrap().to_le_bytes());
            assert_eq!(self.bytes.len() - start, SegmentHeader::SIZE);
        }
    }

    /// Writes a record and returns its start.
    pub(super) fn record(&mut self, content: &Content) -> Lsn {
        self.page(0, 0);
        let start = self.at();
        let record = encode(content, self.last);
        self.write(&record);
        self.last = start;
        start
    }

    fn write(&mut self, record: &[u8]) {
        let mut rest = record;
        while !rest.is_empty() {
            self.page(u32::try_from(rest.len()).unwrap(), 0);
            let room = usize::try_from(BLOCK - self.at().get() % BLOCK).unwrap();
            let (piece, later) = rest.split_at(rest.len().min(room));
            self.bytes.extend(piece);
            rest = later;
        }
        self.pad_to(8);
    }

    pub(super) fn pad_to(&mut self, multiple: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(multiple), 0);
    }

    /// Ends the segment as a switch does.
    pub(super) fn switch(&mut self) -> Lsn {
        let start = self.record(&Content { info: 0x40, ..Content::default() });
        self.pad_to(usize::try_from(SEGMENT).unwrap());
        start
    }

    /// Gives up the last record: what lies on its last page and behind is written anew.
    pub(super) fn give_up_last(&mut self) -> Lsn {
        let given_up = self.last;
        let pages = self.bytes.len() / usize::try_from(BLOCK).unwrap();
        self.bytes.truncate(pages * usize::try_from(BLOCK).unwrap());
        assert!(self.at() > given_up, "the record lies on one page");
        self.page(0, 0x0008);
        given_up
    }

    /// A no-op of the log with `len` bytes of main data.
    pub(super) fn noop(len: usize) -> Content {
        Content { info: 0x20, main: vec![7; len], ..Content::default() }
    }
}

/// The bytes of a record that links back to `prev`.
pub(super) fn encode(content: &Content, prev: Lsn) -> Vec<u8> {
    let mut body = content.headers.clone();
    match content.main.len() {
        0 => {}
        len @ 1..=255 => body.extend([255, u8::try_from(len).unwrap()]),
        len => {
            body.push(254);
            body.extend(u32::try_from(len).unwrap().to_le_bytes());
        }
    }
    body.extend(&content.payload);
    body.extend(&content.main);
    let mut header = Vec::new();
    let total = Record::HEADER_SIZE + body.len();
    header.extend(u32::try_from(total).unwrap().to_le_bytes());
    header.extend(Xid::new(content.xid).get().to_le_bytes());
    header.extend(prev.get().to_le_bytes());
    header.extend([content.info, content.rmgr, 0, 0]);
    let covered = [body.as_slice(), header.as_slice()].concat();
    let crc = u32::try_from(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &covered));
    header.extend(crc.unwrap().to_le_bytes());
    header.extend(body);
    header
}
