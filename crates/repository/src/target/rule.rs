//! PostgreSQL's rules for where a recovery stops.

use jiff::Timestamp;
use pg::wal::rmgr::xact::{Ended, Xact};
use pg::wal::rmgr::xlog::Xlog;
use pg::wal::{MalformedRecord, Record, ResourceManager, TimestampTz};
use pg::{FullXid, Lsn};

/// What the record to stop at is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The first that starts at or after this position.
    From(Lsn),
    /// A commit or rollback later than this, or (not `inclusive`) at it or later.
    Time { time: TimestampTz, inclusive: bool },
    /// The commit or rollback of this transaction. `near` widens the ids of records.
    Xid { xid: FullXid, near: Option<FullXid> },
    /// A restore point.
    Name(Vec<u8>),
    /// None: read to the end.
    Never,
}

/// What a record means for targets.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meaning<'a> {
    /// The end of a transaction, or its preparation.
    Xact(Xact<'a>),
    /// A record of the log itself.
    Xlog(Xlog<'a>),
    /// Nothing.
    Other,
}

impl<'a> Meaning<'a> {
    pub(super) fn of(record: &Record<'a>) -> Result<Self, MalformedRecord> {
        Ok(match record.rmgr {
            ResourceManager::TRANSACTION => Self::Xact(Xact::decode(record)?),
            ResourceManager::XLOG => Self::Xlog(Xlog::decode(record)?),
            _ => Self::Other,
        })
    }

    /// The end of a transaction; a preparation is none.
    pub(super) const fn ended(&self) -> Option<Ended<'a>> {
        match self {
            Self::Xact(
                Xact::Commit(ended)
                | Xact::CommitPrepared(ended)
                | Xact::Abort(ended)
                | Xact::AbortPrepared(ended),
            ) => Some(*ended),
            _ => None,
        }
    }
}

impl Rule {
    /// The rule of `recovery_target_time`.
    pub(super) fn time(time: Timestamp, inclusive: bool) -> Self {
        let floor = TimestampTz::from_timestamp_floor(time);
        let rounded_down = floor.to_timestamp().is_some_and(|floor| floor < time);
        // Commit times are whole microseconds, so "at T or later" means the next whole one.
        let ceiling = TimestampTz::from_micros(floor.micros().saturating_add(1));
        let time = if !inclusive && rounded_down { ceiling } else { floor };
        Self::Time { time, inclusive }
    }

    pub(super) fn matches(&self, record: &Record<'_>, meaning: &Meaning<'_>) -> bool {
        match self {
            Self::From(lsn) => record.start >= *lsn,
            Self::Time { time, inclusive } => meaning.ended().is_some_and(|ended| {
                if *inclusive { ended.time > *time } else { ended.time >= *time }
            }),
            Self::Xid { xid, near } => meaning.ended().is_some_and(|ended| {
                let same = ended.xid == xid.xid();
                let epoch = near.map(|near| near.nearest(ended.xid).epoch());
                same && (xid.epoch() == 0 || epoch.is_none_or(|epoch| epoch == xid.epoch()))
            }),
            Self::Name(wanted) => matches!(
                meaning,
                Meaning::Xlog(Xlog::RestorePoint { name, .. }) if name == wanted
            ),
            Self::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_between_two_microseconds_is_rounded_to_keep_the_answer() {
        let check = |time: &str, inclusive, expect: &str| {
            let Rule::Time { time, .. } = Rule::time(time.parse().unwrap(), inclusive) else {
                panic!("not a rule of time")
            };
            assert_eq!(time.to_string(), expect);
        };
        check("2026-11-21T01:00:00.0000005Z", true, "2026-11-21T01:00:00Z");
        check("2026-11-21T01:00:00.0000005Z", false, "2026-11-21T01:00:00.000001Z");
        check("2026-11-21T01:00:00.000001Z", false, "2026-11-21T01:00:00.000001Z");
    }
}
