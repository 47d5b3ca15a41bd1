//! A clock that goes with tokio's virtual time, and can be put to sleep like a laptop.

use std::sync::Mutex;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use stdx::Clock;
use tokio::time::Instant;

/// Virtual time: tokio's, plus time slept, plus steps of the wall clock.
#[derive(Debug)]
pub struct VirtualClock {
    base: Timestamp,
    started: Instant,
    shifts: Mutex<Shifts>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Shifts {
    slept: Duration,
    stepped: SignedDuration,
}

impl VirtualClock {
    /// A clock that shows `base` now. Call it inside a tokio runtime whose time is paused.
    #[must_use]
    pub fn at(base: Timestamp) -> Self {
        Self { base, started: Instant::now(), shifts: Mutex::default() }
    }

    /// The machine sleeps: CLOCK_BOOTTIME and the wall clock go on, CLOCK_MONOTONIC stands.
    pub fn suspend(&self, time: Duration) {
        if let Ok(mut shifts) = self.shifts.lock() {
            shifts.slept += time;
        }
    }

    /// The wall clock is set.
    pub fn step(&self, by: SignedDuration) {
        if let Ok(mut shifts) = self.shifts.lock() {
            shifts.stepped = shifts.stepped.saturating_add(by);
        }
    }

    fn shifts(&self) -> Shifts {
        self.shifts.lock().map(|shifts| *shifts).unwrap_or_default()
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let shifts = self.shifts();
        let gone = SignedDuration::try_from(self.started.elapsed() + shifts.slept);
        let gone = gone.unwrap_or(SignedDuration::ZERO).saturating_add(shifts.stepped);
        self.base.checked_add(gone).unwrap_or(self.base)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn boottime(&self) -> Duration {
        self.started.elapsed() + self.shifts().slept
    }
}
