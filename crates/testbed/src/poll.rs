//! Waiting for a condition, with a deadline.

use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(15);

/// Waits until `condition` holds.
///
/// # Panics
/// After `deadline`, with `what` in the message: a verb phrase such as "the backup to finish".
pub fn poll(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    poll_for(deadline, what, || condition().then_some(()));
}

/// Waits until `attempt` returns a value, and returns it.
///
/// # Panics
/// After `deadline`, with `what` in the message.
pub fn poll_for<T>(deadline: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(started.elapsed() < deadline, "waited {deadline:?} in vain for {what}");
        thread::sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_the_first_success_is_returned() {
        let mut calls = 0;
        let value = poll_for(Duration::from_secs(5), "three calls", || {
            calls += 1;
            (calls == 3).then_some(calls)
        });
        assert_eq!(value, 3);
    }

    #[test]
    #[should_panic(expected = "waited 20ms in vain for the impossible")]
    fn the_deadline_names_what_was_waited_for() {
        poll(Duration::from_millis(20), "the impossible", || false);
    }
}
