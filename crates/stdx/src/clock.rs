//! Time as a value that is passed in, so that decisions can be replayed.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Where the time comes from. Facts and decisions take a `Timestamp`; only shells hold a clock.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The wall clock. It may step; use it for records and for people, never for deadlines.
    fn now(&self) -> Timestamp;

    /// Time since an arbitrary fixed point, never stepping back. For durations and deadlines.
    fn monotonic(&self) -> Duration;

    /// Time since the machine started, the time it slept included (CLOCK_BOOTTIME). For what must
    /// not outlive a closed lid: a lease.
    fn boottime(&self) -> Duration;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic zero is now.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place that reads it
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn boottime(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
    }
}
