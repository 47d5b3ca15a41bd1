//! Repeats what may succeed the next time.
//!
//! Only [`Error::Unavailable`] is repeated: after full-jitter exponential back-off, a bounded
//! number of times and never beyond a total duration. An unavailable put-if-absent may have taken
//! effect; the repeat then finds the object and the caller is told `Exists`, which it has to
//! resolve by reading back. `New` is only said when a put that was answered said so.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use crate::{Created, Error, Key, ObjectMeta, Store, Upload};

/// How often and how long to repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Calls in all, the first included; at least one is made.
    pub attempts_max: u32,
    /// Upper bound of the first pause; it doubles with every further one.
    pub delay_first: Duration,
    /// Upper bound of any pause.
    pub delay_max: Duration,
    /// No further attempt begins this long after the first one began.
    pub elapsed_max: Duration,
}

impl Default for RetryPolicy {
    /// Six attempts within two minutes: a store that restarts is ridden out (the pauses add up to
    /// about six seconds on average), and an archive command still returns while its answer
    /// matters.
    fn default() -> Self {
        Self {
            attempts_max: 6,
            delay_first: Duration::from_millis(200),
            delay_max: Duration::from_secs(10),
            elapsed_max: Duration::from_secs(120),
        }
    }
}

impl RetryPolicy {
    /// The pause after the attempt number `attempt` (from 0): evenly random between nothing and a
    /// bound that doubles, so that many callers that failed together do not come back together.
    fn delay(&self, attempt: u32) -> Duration {
        let doubled =
            self.delay_first.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX));
        let bound = doubled.min(self.delay_max);
        let mut random = [0; 4];
        stdx::id::fill_random(&mut random);
        bound.mul_f64(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX))
    }

    /// Calls until it succeeds, fails for good, or the policy ends; then the last error.
    ///
    /// # Errors
    /// Whatever `call` fails with last.
    pub async fn run<T, F, R>(&self, mut call: F) -> Result<T, Error>
    where
        F: FnMut() -> R,
        R: Future<Output = Result<T, Error>>,
    {
        let begun = Instant::now();
        let mut attempt = 0;
        loop {
            let error = match call().await {
                Err(error @ Error::Unavailable { .. }) => error,
                done => return done,
            };
            let delay = self.delay(attempt);
            attempt = attempt.saturating_add(1);
            if attempt >= self.attempts_max || begun.elapsed() + delay > self.elapsed_max {
                return Err(error);
            }
            tracing::debug!(%error, attempt, ?delay, "store call is repeated");
            tokio::time::sleep(delay).await;
        }
    }
}

/// A store whose calls are repeated while it is unavailable. An upload's writes and finish cannot
/// be repeated from outside (their bytes are gone): a store with parts repeats each part itself.
#[derive(Clone, Debug)]
pub struct Retry {
    inner: Arc<dyn Store>,
    policy: RetryPolicy,
}

impl Retry {
    /// `inner`, repeated by `policy`.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, policy: RetryPolicy) -> Self {
        Self { inner, policy }
    }
}

#[async_trait]
impl Store for Retry {
    fn address(&self) -> &str {
        self.inner.address()
    }

    async fn get(&self, key: &Key) -> Result<Bytes, Error> {
        self.policy.run(|| self.inner.get(key)).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, Error> {
        self.policy.run(|| self.inner.get_range(key, range.clone())).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, Error> {
        self.policy.run(|| self.inner.head(key)).await
    }

    async fn put_if_absent(&self, key: &Key, parts: Vec<Bytes>) -> Result<Created, Error> {
        self.policy.run(|| self.inner.put_if_absent(key, parts.clone())).await
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>, Error> {
        self.policy.run(|| self.inner.upload(key)).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Error> {
        self.policy.run(|| self.inner.list(prefix, after, limit)).await
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        self.policy.run(|| self.inner.delete(key)).await
    }
}
