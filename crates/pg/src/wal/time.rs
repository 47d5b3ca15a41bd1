//! PostgreSQL's points in time.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

/// A point in time as PostgreSQL stores it: microseconds since 2000-01-01 00:00:00 UTC.
///
/// PostgreSQL: `TimestampTz`, src/include/datatype/timestamp.h.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimestampTz(i64);

/// Seconds from the Unix epoch to PostgreSQL's.
const EPOCH_OFFSET_S: i64 = 946_684_800;
const MICROS_PER_S: i64 = 1_000_000;

impl TimestampTz {
    /// Wraps microseconds since 2000-01-01 00:00:00 UTC.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 2000-01-01 00:00:00 UTC.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// From seconds since 1970, as checkpoints carry them (`pg_time_t`); saturates at the ends.
    #[must_use]
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_sub(EPOCH_OFFSET_S).saturating_mul(MICROS_PER_S))
    }

    /// The last microsecond at or before `time`. With it, "commit time > target" has the same
    /// answer as with the unrounded target, because commit times are whole microseconds.
    #[must_use]
    pub fn from_timestamp_floor(time: Timestamp) -> Self {
        let micros =
            time.as_nanosecond().div_euclid(1000) - i128::from(EPOCH_OFFSET_S * MICROS_PER_S);
        Self(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    /// The same point as a [`Timestamp`]; `None` outside the years -9999 to 9999, which only
    /// damaged or `infinity` values are.
    #[must_use]
    pub fn to_timestamp(self) -> Option<Timestamp> {
        let epoch = Timestamp::from_second(EPOCH_OFFSET_S).ok()?;
        epoch.checked_add(SignedDuration::from_micros(self.0)).ok()
    }
}

impl fmt::Display for TimestampTz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_timestamp() {
            Some(time) => fmt::Display::fmt(&time, f),
            None => write!(f, "{} µs from 2000-01-01", self.0),
        }
    }
}

impl fmt::Debug for TimestampTz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimestampTz({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_both_ways() {
        let time: Timestamp = "2026-11-21T01:50:56.123456Z".parse().unwrap();
        let stored = TimestampTz::from_timestamp_floor(time);
        assert_eq!(stored.to_timestamp(), Some(time));
        assert_eq!(TimestampTz::from_micros(0).to_string(), "2000-01-01T00:00:00Z");
        assert_eq!(TimestampTz::from_unix_seconds(EPOCH_OFFSET_S + 1).micros(), MICROS_PER_S);
    }

    #[test]
    fn rounds_down_and_survives_the_ends() {
        let time: Timestamp = "1999-12-31T23:59:59.9999995Z".parse().unwrap();
        assert_eq!(TimestampTz::from_timestamp_floor(time).micros(), -1);
        assert_eq!(TimestampTz::from_micros(i64::MIN).to_timestamp(), None);
        assert_eq!(TimestampTz::from_unix_seconds(i64::MIN).micros(), i64::MIN);
    }
}
