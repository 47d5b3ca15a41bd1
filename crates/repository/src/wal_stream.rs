//! Records of the archived WAL along a timeline path.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use pg::wal::{ReadError, Record, RecordReader, SegmentHeader};
use pg::{Lsn, SegmentSize, SystemId, WalSegment};
use tokio::task::JoinHandle;

use crate::coverage::{Coverage, Hole};
use crate::error::Error;
use crate::names::LineageId;
use crate::set::Repository;
use crate::wal_object::{self, WalFile};

/// Bytes of segments that may be under way or waiting at once: enough to hide a store's latency at
/// 16 MiB, and still one segment ahead when they are larger.
const AHEAD_BYTES_MAX: u64 = 64 << 20;

/// How many bytes the decoder is fed at once: it moves what it has not used to the front each time.
const FEED_LEN: usize = 256 << 10;

/// Whose WAL is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalSource {
    /// The lineage.
    pub lineage: LineageId,
    /// The cluster's name, for messages.
    pub cluster: String,
    /// The cluster's system identifier: segments of another one are refused.
    pub system_id: SystemId,
}

/// Where a stream ended, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEnd {
    /// The end of the last valid record: everything before it was seen.
    pub at: Lsn,
    /// Why.
    pub why: EndKind,
}

/// Why a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndKind {
    /// All that is archived was read.
    Archived,
    /// The segment that goes on is missing, and later ones are there.
    Hole(Hole),
    /// The last segment there is does not go on: it was archived from a server that stopped inside
    /// it. The reason is how it looks there; a record torn by a crash is one of them.
    Torn(ReadError),
    /// The limit that was set.
    Limit,
}

/// Decodes records from a position on. Segments are fetched, opened and checked ahead, on tasks of
/// their own; decoding runs on the caller's.
#[derive(Debug)]
pub struct WalStream {
    repository: Arc<Repository>,
    source: WalSource,
    coverage: Coverage,
    reader: RecordReader,
    /// The decoded segment, and how many of its bytes were fed.
    current: Option<(WalSegment, Vec<u8>, usize)>,
    /// Segments under way, in order.
    ahead: VecDeque<(WalSegment, Fetch)>,
    /// The next segment to ask for.
    next: u64,
    /// The last segment to ask for.
    limit: u64,
}

/// A task that is stopped when nobody wants its result any more.
#[derive(Debug)]
struct Fetch(JoinHandle<Result<Vec<u8>, Error>>);

impl Drop for Fetch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl WalStream {
    /// A stream of the records that start at or after `from`. Must be made inside a tokio runtime.
    ///
    /// # Errors
    /// [`Error::WalMissing`] when the segment of `from` is not there; [`Error::WalDamaged`] when it
    /// is not what it should be; an error of a store.
    pub async fn begin(
        repository: &Repository,
        source: &WalSource,
        coverage: &Coverage,
        from: Lsn,
    ) -> Result<Self, Error> {
        Self::begin_limited(repository, source, coverage, from, u64::MAX).await
    }

    /// As [`begin`](Self::begin), reading no segment behind the one of number `limit`.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub async fn begin_limited(
        repository: &Repository,
        source: &WalSource,
        coverage: &Coverage,
        from: Lsn,
        limit: u64,
    ) -> Result<Self, Error> {
        let size = coverage.size();
        let number = from.get() / size.get();
        let alone = Repository::new(repository.members().to_vec(), Arc::clone(repository.keys()));
        let mut stream = Self {
            repository: Arc::new(alone),
            source: source.clone(),
            coverage: coverage.clone(),
            // Replaced below, when the first segment has told its page size.
            reader: RecordReader::new(from, size, pg::wal::WalBlockSize::DEFAULT),
            current: None,
            ahead: VecDeque::new(),
            next: number,
            limit,
        };
        if !coverage.has(number) {
            return Err(stream.missing(coverage.path().segment(number, size)));
        }
        if let Some((segment, bytes)) = stream.fetch_next().await? {
            let header = stream.check_segment(segment, &bytes)?;
            stream.reader = RecordReader::new(from, size, header.block_size)
                .expect_system(source.system_id)
                .expect_timelines(coverage.path().timelines());
            let skipped = size.offset(stream.reader.position());
            let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
            stream.current = Some((segment, bytes, skipped));
        }
        Ok(stream)
    }

    /// Hands records to `visit`, in order, until it breaks or the WAL ends. Called again after a
    /// break, it goes on with the next record.
    ///
    /// # Errors
    /// [`Error::WalDamaged`] for bytes that are not valid WAL in front of a segment that is there;
    /// an error of a store; what `visit` returned.
    pub async fn run<F>(&mut self, mut visit: F) -> Result<Option<StreamEnd>, Error>
    where
        F: FnMut(&Record<'_>) -> Result<ControlFlow<()>, Error>,
    {
        loop {
            loop {
                match self.reader.next_record() {
                    Ok(Some(record)) => {
                        if visit(&record)?.is_break() {
                            return Ok(None);
                        }
                    }
                    Ok(None) => break,
                    Err(error) => return self.ended_early(error).map(Some),
                }
            }
            if self.feed() {
                continue;
            }
            // Let the other tasks of this thread run: a segment is some ten milliseconds of work.
            tokio::task::yield_now().await;
            match self.fetch_next().await? {
                Some((segment, bytes)) => {
                    self.check_segment(segment, &bytes)?;
                    self.current = Some((segment, bytes, 0));
                }
                None => return Ok(Some(self.ended())),
            }
        }
    }

    /// The end of the last record seen.
    #[must_use]
    pub fn position(&self) -> Lsn {
        self.reader.end()
    }

    /// The segment's error for one that should be there.
    fn missing(&self, segment: WalSegment) -> Error {
        let name = segment.name(self.coverage.size());
        Error::WalMissing { cluster: self.source.cluster.clone(), name }
    }

    fn damaged(&self, at: Lsn, reason: String) -> Error {
        Error::WalDamaged { cluster: self.source.cluster.clone(), lsn: at.to_string(), reason }
    }

    /// Feeds the next bytes of the current segment; false when it is used up.
    fn feed(&mut self) -> bool {
        let Some((_, bytes, fed)) = &mut self.current else { return false };
        let rest = bytes.get(*fed..).unwrap_or_default();
        let piece = rest.get(..FEED_LEN).unwrap_or(rest);
        self.reader.feed(piece);
        *fed += piece.len();
        !piece.is_empty()
    }

    /// The next segment in order, with the ones behind it under way; `None` at the end.
    async fn fetch_next(&mut self) -> Result<Option<(WalSegment, Vec<u8>)>, Error> {
        self.current = None;
        let size = self.coverage.size();
        let ahead_max = usize::try_from(AHEAD_BYTES_MAX / size.get()).unwrap_or(1).clamp(1, 4);
        while self.ahead.len() < ahead_max
            && self.next <= self.limit
            && self.coverage.has(self.next)
        {
            let segment = self.coverage.path().segment(self.next, size);
            self.ahead.push_back((segment, self.start_fetch(segment, size)));
            self.next += 1;
        }
        let Some((segment, mut fetch)) = self.ahead.pop_front() else { return Ok(None) };
        match (&mut fetch.0).await {
            Ok(Ok(bytes)) => Ok(Some((segment, bytes))),
            Ok(Err(Error::Store(store::Error::NotFound { .. }))) => Err(self.missing(segment)),
            Ok(Err(error)) => Err(error),
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(self.missing(segment)), // the runtime is shutting down
            },
        }
    }

    fn start_fetch(&self, segment: WalSegment, size: SegmentSize) -> Fetch {
        let (repository, lineage) = (Arc::clone(&self.repository), self.source.lineage);
        Fetch(tokio::spawn(async move {
            let file = WalFile::Segment(segment, size);
            wal_object::get(&repository, lineage, &file).await.map(|(_, bytes)| bytes)
        }))
    }

    /// Proves that the bytes are those of this segment of this cluster.
    fn check_segment(&self, segment: WalSegment, bytes: &[u8]) -> Result<SegmentHeader, Error> {
        let size = self.coverage.size();
        let begin = segment.begin(size);
        let header = SegmentHeader::decode(bytes)
            .map_err(|error| self.damaged(begin, format!("'{}': {error}", segment.name(size))))?;
        let expected = (self.source.system_id, size, begin);
        let seen = (header.system_id, header.segment_size, header.page.address);
        if expected == seen && bytes.len() as u64 == size.get() {
            return Ok(header);
        }
        let reason = format!(
            "'{}': expected {} bytes of cluster {} at {begin}, seen {} of cluster {} at {}",
            segment.name(size),
            size.get(),
            self.source.system_id,
            bytes.len(),
            header.system_id,
            header.page.address,
        );
        Err(self.damaged(begin, reason))
    }

    /// The bytes stopped being WAL: the end of the log in the last segment, damage before.
    fn ended_early(&self, error: ReadError) -> Result<StreamEnd, Error> {
        let number = self.current.as_ref().map_or(0, |(segment, ..)| segment.number);
        if self.coverage.last().is_some_and(|last| last.number <= number) {
            return Ok(StreamEnd { at: self.reader.end(), why: EndKind::Torn(error) });
        }
        Err(self.damaged(error.at, error.reason.to_string()))
    }

    fn ended(&self) -> StreamEnd {
        let at = self.reader.end();
        if self.next > self.limit {
            return StreamEnd { at, why: EndKind::Limit };
        }
        let why = self.coverage.hole_from(self.next).map_or(EndKind::Archived, EndKind::Hole);
        StreamEnd { at, why }
    }
}
