//! Keeps a store's use within bounds: calls at a time, bytes per second.

use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::{Created, Error, Key, ObjectMeta, Store, Upload};

/// The bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Calls under way at a time; further ones wait. An open upload counts only while it writes.
    pub calls: Option<NonZeroUsize>,
    /// Bytes per second, sent and received together, on average.
    pub bytes_per_second: Option<NonZeroU64>,
}

/// A store within bounds. Clones share them.
#[derive(Clone, Debug)]
pub struct Limit {
    inner: Arc<dyn Store>,
    gate: Arc<Gate>,
}

impl Limit {
    /// `inner` within `limits`.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, limits: Limits) -> Self {
        let calls = limits.calls.map_or(Semaphore::MAX_PERMITS, NonZeroUsize::get);
        let gate = Gate {
            calls: Semaphore::new(calls.min(Semaphore::MAX_PERMITS)),
            rate: limits.bytes_per_second,
            free_at: Mutex::new(None),
        };
        Self { inner, gate: Arc::new(gate) }
    }
}

#[derive(Debug)]
struct Gate {
    calls: Semaphore,
    rate: Option<NonZeroU64>,
    /// When all bytes admitted so far will have passed at the rate.
    free_at: Mutex<Option<Instant>>,
}

impl Gate {
    async fn enter(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes the semaphore; were it closed, there would be no bound left to keep.
        self.calls.acquire().await.ok()
    }

    /// Waits until the bytes admitted before have passed, then admits `len` more.
    async fn admit(&self, len: u64) {
        let Some(rate) = self.rate else { return };
        let wait_until = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let begin = free_at.map_or(now, |free| free.max(now));
            *free_at = Some(begin + passing_time(len, rate));
            begin
        };
        tokio::time::sleep_until(wait_until).await;
    }

    async fn admit_parts(&self, parts: &[Bytes]) {
        self.admit(parts.iter().map(|part| part.len() as u64).sum()).await;
    }
}

fn passing_time(len: u64, rate: NonZeroU64) -> Duration {
    let nanos = u128::from(len) * 1_000_000_000 / u128::from(rate.get());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[async_trait]
impl Store for Limit {
    fn address(&self) -> &str {
        self.inner.address()
    }

    async fn get(&self, key: &Key) -> Result<Bytes, Error> {
        let _call = self.gate.enter().await;
        let bytes = self.inner.get(key).await?;
        // Its size is known only now: who comes next pays for it.
        self.gate.admit(bytes.len() as u64).await;
        Ok(bytes)
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, Error> {
        let _call = self.gate.enter().await;
        self.gate.admit(range.end.saturating_sub(range.start)).await;
        self.inner.get_range(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, Error> {
        let _call = self.gate.enter().await;
        self.inner.head(key).await
    }

    async fn put_if_absent(&self, key: &Key, parts: Vec<Bytes>) -> Result<Created, Error> {
        let _call = self.gate.enter().await;
        self.gate.admit_parts(&parts).await;
        self.inner.put_if_absent(key, parts).await
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>, Error> {
        let _call = self.gate.enter().await;
        let inner = self.inner.upload(key).await?;
        Ok(Box::new(LimitedUpload { inner, gate: Arc::clone(&self.gate) }))
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Error> {
        let _call = self.gate.enter().await;
        self.inner.list(prefix, after, limit).await
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        let _call = self.gate.enter().await;
        self.inner.delete(key).await
    }
}

#[derive(Debug)]
struct LimitedUpload {
    inner: Box<dyn Upload>,
    gate: Arc<Gate>,
}

#[async_trait]
impl Upload for LimitedUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        let _call = self.gate.enter().await;
        self.gate.admit(bytes.len() as u64).await;
        self.inner.write(bytes).await
    }

    async fn finish(self: Box<Self>) -> Result<(), Error> {
        let Self { inner, gate } = *self;
        let _call = gate.enter().await;
        inner.finish().await
    }

    async fn abort(self: Box<Self>) -> Result<(), Error> {
        self.inner.abort().await
    }
}
