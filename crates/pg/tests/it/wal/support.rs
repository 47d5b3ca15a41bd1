//! Takes the WAL of a test's cluster from its data directory.

use std::fs;

use pg::wal::{ReadError, Record, RecordReader, WalBlockSize};
use pg::{Lsn, SegmentSize, TimelineId, WalSegment};
use testbed::postgres::Cluster;

/// All segments of timeline 1 in `pg_wal`, one after the other, the recycled ones at the end too.
pub(super) struct Wal {
    pub(super) begin: Lsn,
    pub(super) size: SegmentSize,
    pub(super) bytes: Vec<u8>,
}

/// How many bytes [`Wal::read`] feeds at a time: no divisor of anything.
const CHUNK: usize = 1_000_003;

impl Wal {
    pub(super) fn of(cluster: &Cluster, segment_mib: u32) -> Self {
        let size = SegmentSize::new(segment_mib << 20).unwrap();
        let folder = cluster.data_dir().join("pg_wal");
        let mut segments: Vec<WalSegment> = fs::read_dir(&folder)
            .unwrap()
            .filter_map(|entry| WalSegment::parse(entry.unwrap().file_name().to_str()?, size).ok())
            .filter(|segment| segment.timeline == TimelineId::FIRST)
            .collect();
        segments.sort_by_key(|segment| segment.begin(size));
        let begin = segments.first().expect("a WAL segment").begin(size);
        let mut bytes = Vec::new();
        for segment in segments {
            assert_eq!(begin + bytes.len() as u64, segment.begin(size), "a hole in pg_wal");
            bytes.extend(fs::read(folder.join(segment.name(size))).unwrap());
        }
        Self { begin, size, bytes }
    }

    pub(super) fn reader(&self) -> RecordReader {
        RecordReader::new(self.begin, self.size, WalBlockSize::DEFAULT)
    }

    /// Gives every record to `each` and returns how the log ends.
    pub(super) fn read(&self, each: impl FnMut(&Record<'_>)) -> ReadError {
        self.read_in(CHUNK, each).expect("the log ends inside what is there")
    }

    /// The same in pieces of `chunk` bytes; `None` when the log goes on past the last byte.
    pub(super) fn read_in(
        &self,
        chunk: usize,
        mut each: impl FnMut(&Record<'_>),
    ) -> Option<ReadError> {
        let mut reader = self.reader();
        for piece in self.bytes.chunks(chunk) {
            reader.feed(piece);
            loop {
                match reader.next_record() {
                    Ok(Some(record)) => each(&record),
                    Ok(None) => break,
                    Err(error) => return Some(error),
                }
            }
        }
        None
    }
}
