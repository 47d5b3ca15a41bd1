//! Which segment files lie on the way to a timeline, as PostgreSQL chooses them.

use pg::history::PathStretch;
use pg::{SegmentSize, TimelineHistory, TimelineId, WalSegment};
use repository::timeline::TimelinePath;

/// The way through the timelines that a recovery follows, and the size of its segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    stretches: Vec<PathStretch>,
    segment_size: SegmentSize,
    is_searched: bool,
}

impl Route {
    /// The way along `stretches`, oldest first ([`pg::TimelineHistory::path`]).
    #[must_use]
    pub fn new(stretches: Vec<PathStretch>, segment_size: SegmentSize) -> Self {
        Self { stretches, segment_size, is_searched: false }
    }

    /// The way along `path`.
    #[must_use]
    pub fn along(path: &TimelinePath, segment_size: SegmentSize) -> Self {
        Self::new(path.stretches().to_vec(), segment_size)
    }

    /// The same way for a PostgreSQL that is not told its end, and searches it: with
    /// `recovery_target_timeline = 'latest'` it takes the timeline before the first one that has no
    /// history. So ids on the way to the end that were given up look taken, and none is behind it.
    ///
    /// PostgreSQL: `findNewestTimeLine`, src/backend/access/transam/timeline.c.
    #[must_use]
    pub fn searched(self) -> Self {
        Self { is_searched: true, ..self }
    }

    /// Whether PostgreSQL searches the end of the way by itself.
    #[must_use]
    pub const fn is_searched(&self) -> bool {
        self.is_searched
    }

    /// The segment size.
    #[must_use]
    pub const fn segment_size(&self) -> SegmentSize {
        self.segment_size
    }

    /// The timelines, ascending.
    pub fn timelines(&self) -> impl Iterator<Item = TimelineId> + '_ {
        self.stretches.iter().map(|stretch| stretch.timeline)
    }

    /// The timeline it leads to.
    #[must_use]
    pub fn target(&self) -> Option<TimelineId> {
        self.stretches.last().map(|stretch| stretch.timeline)
    }

    /// The file that holds segment `number`: the segment in which a timeline begins is taken from
    /// that timeline, which has the bytes before its begin as well. `None` without any stretch.
    ///
    /// PostgreSQL: `XLogFileReadAnyTLI`, src/backend/access/transam/xlogrecovery.c.
    #[must_use]
    pub fn file(&self, number: u64) -> Option<WalSegment> {
        let begin_number = |stretch: &PathStretch| stretch.begin.get() / self.segment_size.get();
        let newest_first = self.stretches.iter().rev();
        let stretch = newest_first.clone().find(|stretch| begin_number(stretch) <= number)?;
        Some(WalSegment { timeline: stretch.timeline, number })
    }

    /// Whether `content` is the history of `timeline` as this way has it: the same timelines before
    /// it, left at the same positions. False for a timeline that is not on the way.
    #[must_use]
    pub fn has_history(&self, timeline: TimelineId, content: &[u8]) -> bool {
        let Some(at) = self.timelines().position(|on_way| on_way == timeline) else { return false };
        let Ok(history) = TimelineHistory::parse(timeline, content) else { return false };
        let told = history.path();
        // Where the timeline itself is left only the later histories tell.
        let begins = |stretch: &PathStretch| (stretch.timeline, stretch.begin);
        told.len() == at + 1
            && told.iter().map(begins).eq(self.stretches.iter().take(at + 1).map(begins))
    }

    /// The timelines as a list for messages.
    pub(crate) fn describe(&self) -> String {
        let timelines: Vec<String> = self.timelines().map(|id| id.to_string()).collect();
        timelines.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use pg::TimelineHistory;

    use super::*;

    #[test]
    fn a_timeline_begins_with_the_segment_it_branches_in() {
        let text = b"1\t0/2500000\tx\n3\t0/4000000\ty\n";
        let history = TimelineHistory::parse(TimelineId::new(5), text).unwrap();
        let route = Route::new(history.path(), SegmentSize::DEFAULT);
        let check = |number, expect: u32| {
            let file = route.file(number).unwrap();
            assert_eq!((file.timeline.get(), file.number), (expect, number));
        };
        check(0, 1);
        check(1, 1);
        check(2, 3); // in the middle of which 3 begins
        check(3, 3);
        check(4, 5); // at whose start 5 begins
        check(1000, 5);
        assert_eq!(route.describe(), "1, 3, 5");
        assert_eq!(Route::new(Vec::new(), SegmentSize::DEFAULT).file(1), None);
    }

    #[test]
    fn a_history_is_known_by_what_it_tells_of_the_way() {
        let text = b"1\t0/2500000\tx\n3\t0/4000000\ty\n";
        let history = TimelineHistory::parse(TimelineId::new(5), text).unwrap();
        let route = Route::new(history.path(), SegmentSize::DEFAULT);
        let check = |timeline, content: &[u8], expect| {
            let seen = route.has_history(TimelineId::new(timeline), content);
            assert_eq!(seen, expect, "{timeline}: {}", String::from_utf8_lossy(content));
        };
        check(5, text, true);
        check(3, b"1\t0/2500000\tfor another reason\n", true);
        check(1, b"", true);
        check(3, text, false); // not a history of 3
        check(5, b"1\t0/2500000\tx\n", false); // cut off
        check(5, b"1\t0/2500000\tx\n3\t0/4000008\ty\n", false);
        check(5, b"1\t0/2500000\tx\n2\t0/3000000\tx\n3\t0/4000000\ty\n", false);
        check(3, b"", false);
        check(3, b"2\t0/2500000\tx\n", false);
        check(3, b"\0\0\0", false);
        check(2, b"1\t0/2500000\tx\n", false); // not on the way
        check(6, text, false);
    }
}
