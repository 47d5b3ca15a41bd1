//! The way through a lineage's timelines to the one that a recovery aims at.
//!
//! PostgreSQL is always told the target timeline as a number: its own search for the latest one
//! stops at the first id that is missing, and then stays on an older timeline without a word.

use pg::history::PathStretch;
use pg::{Lsn, SegmentSize, TimelineHistory, TimelineId, WalSegment};

use crate::error::Error;
use crate::lineage;
use crate::names::{self, LineageId};
use crate::set::Repository;
use crate::wal_object::{self, WalFile};

/// The timelines from the start of the log to a target timeline, and which stretch each gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelinePath {
    history: TimelineHistory,
    stretches: Vec<PathStretch>,
}

impl TimelinePath {
    /// The path that a history tells.
    #[must_use]
    pub fn new(history: TimelineHistory) -> Self {
        let stretches = history.path();
        Self { history, stretches }
    }

    /// The target timeline: where the path ends.
    #[must_use]
    pub const fn timeline(&self) -> TimelineId {
        self.history.timeline()
    }

    /// The history behind the path.
    #[must_use]
    pub const fn history(&self) -> &TimelineHistory {
        &self.history
    }

    /// The stretches, oldest first; the last one is the target timeline and has no end.
    #[must_use]
    pub fn stretches(&self) -> &[PathStretch] {
        &self.stretches
    }

    /// Every timeline on the path, oldest first.
    #[must_use]
    pub fn timelines(&self) -> Vec<TimelineId> {
        self.stretches.iter().map(|stretch| stretch.timeline).collect()
    }

    /// Whether a cluster that has replayed up to `lsn` on `timeline` can go on along this path.
    #[must_use]
    pub fn contains(&self, timeline: TimelineId, lsn: Lsn) -> bool {
        self.history.contains(timeline, lsn)
    }

    /// The file that holds segment `number` on this path. The segment in which a timeline begins is
    /// taken from the newer timeline, whose file has the older one's bytes up to the switch.
    ///
    /// PostgreSQL: `XLogFileReadAnyTLI`, src/backend/access/transam/xlogrecovery.c. That function
    /// falls back to an older timeline's file when the newer one's is missing, and would replay
    /// what was written there *after* the switch; this path never does.
    #[must_use]
    pub fn segment(&self, number: u64, size: SegmentSize) -> WalSegment {
        let begins_by = |stretch: &&PathStretch| stretch.begin.get() / size.get() <= number;
        let stretch = self.stretches.iter().rev().find(begins_by);
        let timeline = stretch.map_or(self.timeline(), |stretch| stretch.timeline);
        WalSegment { timeline, number }
    }

    /// Where a backup that stopped at (`timeline`, `stop`) leaves this path; `None` when it lies on
    /// it.
    #[must_use]
    pub fn reason_off(&self, timeline: TimelineId, stop: Lsn) -> Option<String> {
        if self.contains(timeline, stop) {
            return None;
        }
        let target = self.timeline();
        Some(match self.history.switch_point(timeline) {
            Some(left) => format!(
                "ends at {stop} on timeline {timeline}, which timeline {target} left at {left} already"
            ),
            None => format!("is on timeline {timeline}, which is no ancestor of timeline {target}"),
        })
    }
}

/// The path to `timeline`, from its history in the repository. Like PostgreSQL, a timeline without
/// a history file is taken as one without ancestors.
///
/// # Errors
/// [`Error::Damaged`] when the history is not one; or an error of the store.
pub async fn path_to(
    repository: &Repository,
    lineage: LineageId,
    timeline: TimelineId,
) -> Result<TimelinePath, Error> {
    if timeline == TimelineId::FIRST {
        return Ok(TimelinePath::new(TimelineHistory::without_ancestors(timeline)));
    }
    let content = match wal_object::get(repository, lineage, &WalFile::History(timeline)).await {
        Ok((_, content)) => content,
        Err(Error::Store(store::Error::NotFound { .. })) => {
            return Ok(TimelinePath::new(TimelineHistory::without_ancestors(timeline)));
        }
        Err(error) => return Err(error),
    };
    let history = TimelineHistory::parse(timeline, &content).map_err(|error| Error::Damaged {
        store: repository.address(),
        key: names::history(lineage, timeline).to_string(),
        reason: error.to_string(),
    })?;
    Ok(TimelinePath::new(history))
}

/// The timeline that a recovery aims at when it is told none: the current one of the lineage's
/// state; without a state the highest that has a history; else the first.
///
/// # Errors
/// Damage; an error of a store.
pub async fn latest(repository: &Repository, lineage: LineageId) -> Result<TimelineId, Error> {
    if let Some(state) = lineage::state(repository, lineage).await? {
        return Ok(state.timeline);
    }
    let listed = repository.list(&names::histories(lineage)).await?;
    let number = |meta: &store::ObjectMeta| {
        let (_, last) = meta.key.as_str().rsplit_once('/')?;
        u32::from_str_radix(last, 16).ok().filter(|number| *number != 0)
    };
    Ok(listed.iter().filter_map(number).max().map_or(TimelineId::FIRST, TimelineId::new))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(timeline: u32, history: &str) -> TimelinePath {
        let timeline = TimelineId::new(timeline);
        TimelinePath::new(TimelineHistory::parse(timeline, history.as_bytes()).unwrap())
    }

    #[test]
    fn the_newer_timeline_has_the_segment_in_which_it_begins() {
        let path = path(3, "1\t0/2500000\ta\n2\t0/4000000\tb\n");
        let check = |number, name: &str| {
            let size = SegmentSize::DEFAULT;
            assert_eq!(path.segment(number, size).name(size), name);
        };
        check(1, "000000010000000000000001");
        check(2, "000000020000000000000002"); // timeline 2 begins inside
        check(3, "000000020000000000000003");
        check(4, "000000030000000000000004"); // timeline 3 begins on the boundary
        check(99, "000000030000000000000063");
    }

    #[test]
    fn says_why_a_backup_is_not_on_the_path() {
        let path = path(3, "1\t0/2500000\ta\n");
        let off =
            |timeline, lsn: &str| path.reason_off(TimelineId::new(timeline), lsn.parse().unwrap());
        assert_eq!(off(1, "0/2500000"), None);
        assert_eq!(off(3, "0/3000000"), None);
        assert_eq!(
            off(1, "0/2500001").unwrap(),
            "ends at 0/2500001 on timeline 1, which timeline 3 left at 0/2500000 already"
        );
        assert_eq!(
            off(2, "0/2500001").unwrap(),
            "is on timeline 2, which is no ancestor of timeline 3"
        );
    }
}
