//! Counts what a store is asked: calls, errors, bytes, time.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use stdx::ByteCount;
use tokio::time::Instant;

use crate::{Created, Error, Key, ObjectMeta, Store, Upload};

/// Kinds of calls that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Whole objects and ranges.
    Read,
    /// Size and time.
    Head,
    /// Put-if-absent.
    Put,
    /// Streamed writes, their starts and ends.
    Upload,
    /// Listings, by page.
    List,
    /// Deletions.
    Delete,
}

impl Call {
    /// All kinds, in the order of [`Meter::totals`].
    pub const ALL: [Self; 6] =
        [Self::Read, Self::Head, Self::Put, Self::Upload, Self::List, Self::Delete];

    /// A lower-case name for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Head => "head",
            Self::Put => "put",
            Self::Upload => "upload",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// Upper bounds of the latency buckets; one more bucket holds what is slower. From a file in the
/// page cache to a remote store in trouble, a factor of four apart.
pub const LATENCY_BOUNDS: [Duration; 10] = [
    Duration::from_micros(60),
    Duration::from_micros(250),
    Duration::from_millis(1),
    Duration::from_millis(4),
    Duration::from_millis(16),
    Duration::from_millis(64),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(16),
];

const BUCKETS: usize = LATENCY_BOUNDS.len() + 1;

/// What was counted of one kind of call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Calls that ended.
    pub calls: u64,
    /// Those of them that ended with an error; `NotFound` is an answer, not an error.
    pub errors: u64,
    /// Bytes of objects moved by calls that succeeded.
    pub bytes: ByteCount,
    /// Time spent in all of them together.
    pub busy: Duration,
    /// The slowest.
    pub slowest: Duration,
    /// Calls by latency: below each of [`LATENCY_BOUNDS`], then the rest.
    pub latency: [u64; BUCKETS],
}

/// The counts of one store; shared with its [`Metered`].
#[derive(Debug, Default)]
pub struct Meter {
    counters: [Counter; Call::ALL.len()],
}

#[derive(Debug, Default)]
struct Counter {
    calls: AtomicU64,
    errors: AtomicU64,
    bytes: AtomicU64,
    busy_micros: AtomicU64,
    slowest_micros: AtomicU64,
    latency: [AtomicU64; BUCKETS],
}

impl Meter {
    /// What was counted of `call` so far.
    #[must_use]
    pub fn totals(&self, call: Call) -> Totals {
        let counter = self.counter(call);
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        Totals {
            calls: load(&counter.calls),
            errors: load(&counter.errors),
            bytes: ByteCount::new(load(&counter.bytes)),
            busy: Duration::from_micros(load(&counter.busy_micros)),
            slowest: Duration::from_micros(load(&counter.slowest_micros)),
            latency: std::array::from_fn(|at| load(&counter.latency[at])),
        }
    }

    fn counter(&self, call: Call) -> &Counter {
        &self.counters[call as usize]
    }

    async fn count<T>(
        &self,
        call: Call,
        bytes: impl FnOnce(&T) -> usize,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let begun = Instant::now();
        let result = work.await;
        let elapsed = begun.elapsed();
        let counter = self.counter(call);
        match &result {
            Ok(value) => {
                counter.bytes.fetch_add(bytes(value) as u64, Ordering::Relaxed);
            }
            Err(Error::NotFound { .. }) => {}
            Err(_) => {
                counter.errors.fetch_add(1, Ordering::Relaxed);
            }
        }
        counter.add(elapsed);
        result
    }
}

impl Counter {
    fn add(&self, elapsed: Duration) {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS.partition_point(|bound| *bound <= elapsed);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.busy_micros.fetch_add(micros, Ordering::Relaxed);
        self.slowest_micros.fetch_max(micros, Ordering::Relaxed);
        self.latency[bucket].fetch_add(1, Ordering::Relaxed);
    }
}

/// A store whose calls are counted.
#[derive(Clone, Debug)]
pub struct Metered {
    inner: Arc<dyn Store>,
    meter: Arc<Meter>,
}

impl Metered {
    /// `inner`, counted by `meter`.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }
}

fn no_bytes<T>(_: &T) -> usize {
    0
}

#[async_trait]
impl Store for Metered {
    fn address(&self) -> &str {
        self.inner.address()
    }

    async fn get(&self, key: &Key) -> Result<Bytes, Error> {
        self.meter.count(Call::Read, Bytes::len, self.inner.get(key)).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, Error> {
        self.meter.count(Call::Read, Bytes::len, self.inner.get_range(key, range)).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, Error> {
        self.meter.count(Call::Head, no_bytes, self.inner.head(key)).await
    }

    async fn put_if_absent(&self, key: &Key, parts: Vec<Bytes>) -> Result<Created, Error> {
        let len = parts.iter().map(Bytes::len).sum();
        let stored = |created: &Created| if *created == Created::New { len } else { 0 };
        self.meter.count(Call::Put, stored, self.inner.put_if_absent(key, parts)).await
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>, Error> {
        let inner = self.meter.count(Call::Upload, no_bytes, self.inner.upload(key)).await?;
        Ok(Box::new(MeteredUpload { inner, meter: Arc::clone(&self.meter) }))
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Error> {
        self.meter.count(Call::List, no_bytes, self.inner.list(prefix, after, limit)).await
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        self.meter.count(Call::Delete, no_bytes, self.inner.delete(key)).await
    }
}

#[derive(Debug)]
struct MeteredUpload {
    inner: Box<dyn Upload>,
    meter: Arc<Meter>,
}

#[async_trait]
impl Upload for MeteredUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        let len = bytes.len();
        self.meter.count(Call::Upload, |()| len, self.inner.write(bytes)).await
    }

    async fn finish(self: Box<Self>) -> Result<(), Error> {
        let Self { inner, meter } = *self;
        meter.count(Call::Upload, no_bytes, inner.finish()).await
    }

    async fn abort(self: Box<Self>) -> Result<(), Error> {
        let Self { inner, meter } = *self;
        meter.count(Call::Upload, no_bytes, inner.abort()).await
    }
}
