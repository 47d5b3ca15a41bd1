//! What the shop counts.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;

/// Counters since the start, shared by the worker and the API.
#[derive(Debug)]
pub(crate) struct Stats {
    started: Instant,
    counts: Mutex<Counts>,
}

/// What `/api/stats` shows.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Counts {
    pub(crate) writes_per_second: f64,
    pub(crate) orders_placed: u64,
    pub(crate) orders_moved_on: u64,
    pub(crate) write_failures: u64,
    pub(crate) reconnects: u64,
    pub(crate) last_order: Option<i64>,
    pub(crate) last_order_at: Option<Timestamp>,
    pub(crate) last_failure: Option<String>,
    pub(crate) last_failure_at: Option<Timestamp>,
    pub(crate) uptime_s: f64,
}

impl Stats {
    pub(crate) fn new(writes_per_second: f64) -> Self {
        let counts = Counts {
            writes_per_second,
            orders_placed: 0,
            orders_moved_on: 0,
            write_failures: 0,
            reconnects: 0,
            last_order: None,
            last_order_at: None,
            last_failure: None,
            last_failure_at: None,
            uptime_s: 0.0,
        };
        Self { started: Instant::now(), counts: Mutex::new(counts) }
    }

    pub(crate) fn placed(&self, order: i64) {
        self.change(|counts| {
            counts.orders_placed += 1;
            counts.last_order = Some(order);
            counts.last_order_at = Some(now());
        });
    }

    pub(crate) fn moved_on(&self) {
        self.change(|counts| counts.orders_moved_on += 1);
    }

    pub(crate) fn reconnected(&self) {
        self.change(|counts| counts.reconnects += 1);
    }

    pub(crate) fn failed(&self, why: String) {
        self.change(|counts| {
            counts.write_failures += 1;
            counts.last_failure = Some(why);
            counts.last_failure_at = Some(now());
        });
    }

    pub(crate) fn snapshot(&self) -> Counts {
        let mut counts = self.change(|counts| counts.clone());
        counts.uptime_s = self.started.elapsed().as_secs_f64();
        counts
    }

    fn change<T>(&self, change: impl FnOnce(&mut Counts) -> T) -> T {
        // Counters are whole after every change, also if a thread died of something else.
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[allow(clippy::disallowed_methods)] // an application of its own, without the product's clock
fn now() -> Timestamp {
    Timestamp::now()
}
