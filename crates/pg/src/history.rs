//! How a timeline came to be: the timelines before it and where each was left.

use crate::{Lsn, TimelineId};

/// The history of one timeline, as its `.history` file tells it. Timeline 1 has no such file and no
/// ancestors.
///
/// PostgreSQL: `readTimeLineHistory`, src/backend/access/transam/timeline.c.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineHistory {
    timeline: TimelineId,
    entries: Vec<HistoryEntry>,
}

/// One line of a history file: a timeline and where it was left for the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The timeline that was left.
    pub timeline: TimelineId,
    /// The position at which the next timeline starts.
    pub switch_point: Lsn,
    /// What PostgreSQL noted about it, such as `no recovery target specified`. Without line breaks.
    pub reason: String,
}

/// A stretch of the write-ahead log on the way to a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStretch {
    /// The timeline whose files hold the stretch.
    pub timeline: TimelineId,
    /// Where it begins; [`Lsn::INVALID`] (the log's start) for the oldest.
    pub begin: Lsn,
    /// The position at which the next timeline takes over; `None` for the timeline itself.
    pub end: Option<Lsn>,
}

/// The content is not the history of that timeline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimelineHistoryError {
    /// A line that is neither a comment nor blank nor a switch.
    #[error(
        "expected a timeline id and a switch point in line {line} of history of timeline {timeline}, seen '{seen}'"
    )]
    Syntax {
        /// The timeline whose history it is.
        timeline: TimelineId,
        /// The line, counted from 1.
        line: usize,
        /// Its content; bytes that are not UTF-8 are replaced.
        seen: String,
    },
    /// Timeline ids do not ascend, or an ancestor is not older than the timeline itself.
    #[error(
        "expected ascending timelines before {timeline} in its history, seen '{seen}' after '{before}'"
    )]
    Order {
        /// The timeline whose history it is.
        timeline: TimelineId,
        /// The id before; 0 when there is none.
        before: TimelineId,
        /// The id that does not fit.
        seen: TimelineId,
    },
}

impl TimelineHistory {
    /// The history of a timeline without ancestors, such as timeline 1.
    #[must_use]
    pub const fn without_ancestors(timeline: TimelineId) -> Self {
        Self { timeline, entries: Vec::new() }
    }

    /// Puts a history together from its switches, oldest first.
    ///
    /// # Errors
    /// [`TimelineHistoryError::Order`] unless the ids ascend and stay below `timeline`.
    pub fn new(
        timeline: TimelineId,
        entries: Vec<HistoryEntry>,
    ) -> Result<Self, TimelineHistoryError> {
        let mut before = TimelineId::default();
        for entry in &entries {
            if entry.timeline <= before || entry.timeline >= timeline {
                return Err(TimelineHistoryError::Order { timeline, before, seen: entry.timeline });
            }
            before = entry.timeline;
        }
        Ok(Self { timeline, entries })
    }

    /// Reads the content of `timeline`'s history file: one switch per line, oldest first; comments
    /// (`#`) and blank lines are passed over, as is whatever stands behind the switch point.
    ///
    /// # Errors
    /// [`TimelineHistoryError`] where PostgreSQL would refuse the file, too.
    pub fn parse(timeline: TimelineId, bytes: &[u8]) -> Result<Self, TimelineHistoryError> {
        let mut entries = Vec::new();
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = String::from_utf8_lossy(line);
            let line = line.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            entries.push(HistoryEntry::parse(line).ok_or_else(|| {
                TimelineHistoryError::Syntax { timeline, line: index + 1, seen: line.to_owned() }
            })?);
        }
        Self::new(timeline, entries)
    }

    /// The content of the history file: one line per switch, in PostgreSQL's form.
    ///
    /// PostgreSQL: `writeTimeLineHistory` (which also leaves blank lines between them).
    #[must_use]
    pub fn render(&self) -> String {
        let line = |entry: &HistoryEntry| {
            let reason = entry.reason.replace(['\n', '\r'], " ");
            format!("{}\t{}\t{}\n", entry.timeline, entry.switch_point, reason)
        };
        self.entries.iter().map(line).collect()
    }

    /// The timeline whose history this is.
    #[must_use]
    pub const fn timeline(&self) -> TimelineId {
        self.timeline
    }

    /// The switches, oldest first; empty for a timeline without ancestors.
    #[must_use]
    pub fn entries(&self) -> &[HistoryEntry] {
        &self.entries
    }

    /// The way from the start of the log to this timeline, oldest first; the last stretch is the
    /// timeline itself and has no end.
    ///
    /// When a recovery that aims at timeline 2 stops before the point at which 2 began, PostgreSQL
    /// still writes 2 as the parent. So a later switch cuts off everything behind it, and timelines
    /// of which then nothing is left are not on the way.
    #[must_use]
    pub fn path(&self) -> Vec<PathStretch> {
        let begins = [Lsn::INVALID].into_iter().chain(self.entries.iter().map(|e| e.switch_point));
        let ends = self.entries.iter().map(|e| (e.timeline, Some(e.switch_point)));
        let mut path = Vec::with_capacity(self.entries.len() + 1);
        for (begin, (timeline, end)) in begins.zip(ends.chain([(self.timeline, None)])) {
            path.retain_mut(|stretch: &mut PathStretch| {
                stretch.end = stretch.end.map(|end| end.min(begin));
                stretch.end.is_none_or(|end| stretch.begin <= end)
            });
            path.push(PathStretch { timeline, begin, end });
        }
        path
    }

    /// The timeline whose files hold the byte at `lsn` on the way to this timeline.
    ///
    /// PostgreSQL: `tliOfPointInHistory`.
    #[must_use]
    pub fn timeline_of(&self, lsn: Lsn) -> TimelineId {
        let holds =
            |stretch: &PathStretch| stretch.begin <= lsn && stretch.end.is_none_or(|end| lsn < end);
        self.path().into_iter().find(holds).map_or(self.timeline, |stretch| stretch.timeline)
    }

    /// Where `timeline` is left on the way to this one; `None` for this timeline itself and for
    /// those not on the way.
    ///
    /// PostgreSQL: `tliSwitchPoint`.
    #[must_use]
    pub fn switch_point(&self, timeline: TimelineId) -> Option<Lsn> {
        self.path().into_iter().find(|stretch| stretch.timeline == timeline)?.end
    }

    /// Whether a cluster that has replayed up to `lsn` on `timeline` can go on to this timeline:
    /// what decides if a backup that stopped there can be recovered along it. Both ends of a
    /// timeline's stretch count, because a position says what lies *before* it.
    ///
    /// PostgreSQL: the check of `minRecoveryPoint` in src/backend/access/transam/xlogrecovery.c,
    /// "requested timeline is not a child of this server's history".
    #[must_use]
    pub fn contains(&self, timeline: TimelineId, lsn: Lsn) -> bool {
        self.path().into_iter().any(|stretch| {
            stretch.timeline == timeline
                && stretch.begin <= lsn
                && stretch.end.is_none_or(|end| lsn <= end)
        })
    }
}

impl HistoryEntry {
    fn parse(line: &str) -> Option<Self> {
        let (id, rest) = line.split_once(|c: char| c.is_ascii_whitespace())?;
        let rest = rest.trim_start();
        let end = rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len());
        let (lsn, reason) = rest.split_at_checked(end)?;
        let digits = id.bytes().all(|byte| byte.is_ascii_digit());
        let timeline = TimelineId::new(id.parse().ok().filter(|id| digits && *id != 0)?);
        let reason = reason.trim().to_owned();
        Some(Self { timeline, switch_point: lsn.parse().ok()?, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TLI: fn(u32) -> TimelineId = TimelineId::new;

    fn history(timeline: u32, text: &str) -> TimelineHistory {
        TimelineHistory::parse(TLI(timeline), text.as_bytes()).unwrap()
    }

    fn path_text(history: &TimelineHistory) -> String {
        let stretch = |s: &PathStretch| match s.end {
            Some(end) => format!("{}:{}-{end}", s.timeline, s.begin),
            None => format!("{}:{}-", s.timeline, s.begin),
        };
        history.path().iter().map(stretch).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn reads_what_postgresql_writes() {
        let check = |timeline, text: &str, expect: &str| {
            assert_eq!(path_text(&history(timeline, text)), expect);
        };
        check(1, "", "1:0/0-");
        check(2, "1\t0/3000000\tno recovery target specified\n", "1:0/0-0/3000000 2:0/3000000-");
        check(
            3,
            "1\t0/A000198\tbefore 2000-01-01 00:00:00+00\n\n2\t0/B0000A0\tat restore point \"x\"\n",
            "1:0/0-0/A000198 2:0/A000198-0/B0000A0 3:0/B0000A0-",
        );
        check(9, "# a comment\n \n  1 0/5\r\n4\t1/0", "1:0/0-0/5 4:0/5-1/0 9:1/0-");
    }

    #[test]
    fn a_timeline_recovered_to_before_its_parents_begin_has_a_grandparent_only() {
        let history = history(3, "1\t0/5000000\tx\n2\t0/4000000\ty\n");
        assert_eq!(path_text(&history), "1:0/0-0/4000000 3:0/4000000-");
        assert_eq!(history.timeline_of("0/3FFFFFF".parse().unwrap()), TLI(1));
        assert_eq!(history.timeline_of("0/5000000".parse().unwrap()), TLI(3));
        assert!(!history.contains(TLI(2), "0/5000000".parse().unwrap()));
        assert!(!history.contains(TLI(1), "0/4800000".parse().unwrap()));
    }

    #[test]
    fn refuses_what_postgresql_refuses() {
        let check = |timeline, text: &[u8], expect: &str| {
            let error = TimelineHistory::parse(TLI(timeline), text).unwrap_err();
            assert_eq!(error.to_string(), expect);
        };
        check(
            3,
            b"\nx\t0/1\n",
            "expected a timeline id and a switch point in line 2 of history of timeline 3, seen 'x\t0/1'",
        );
        check(
            3,
            b"1\n",
            "expected a timeline id and a switch point in line 1 of history of timeline 3, seen '1'",
        );
        check(
            3,
            b"2\t0/1\tx\n1\t0/2\tx\n",
            "expected ascending timelines before 3 in its history, seen '1' after '2'",
        );
        check(
            3,
            b"3\t0/1\tx\n",
            "expected ascending timelines before 3 in its history, seen '3' after '0'",
        );
        assert!(TimelineHistory::parse(TLI(3), b"1\t\xff/1\n").is_err());
        assert!(TimelineHistory::parse(TLI(3), b"+1\t0/1\n").is_err());
    }

    #[test]
    fn answers_which_positions_lie_on_the_way() {
        let history = history(4, "1\t0/100\ta\n3\t0/200\tb\n");
        let check = |timeline, lsn, expect| {
            assert_eq!(
                history.contains(TLI(timeline), Lsn::new(lsn)),
                expect,
                "{timeline} {lsn:x}"
            );
        };
        check(1, 0x0FF, true);
        check(1, 0x100, true); // stopped exactly where the next begins
        check(1, 0x101, false); // went on behind the switch: lost history
        check(2, 0x100, false); // a sibling
        check(3, 0x100, true);
        check(3, 0x0FF, false);
        check(3, 0x200, true);
        check(4, 0x200, true);
        check(4, u64::MAX, true);
        assert_eq!(history.timeline_of(Lsn::new(0x0FF)), TLI(1));
        assert_eq!(history.timeline_of(Lsn::new(0x100)), TLI(3));
        assert_eq!(history.timeline_of(Lsn::new(0x200)), TLI(4));
        assert_eq!(history.switch_point(TLI(3)), Some(Lsn::new(0x200)));
        assert_eq!(history.switch_point(TLI(4)), None);
    }

    proptest! {
        #[test]
        fn rendered_histories_are_read_back(
            switches in proptest::collection::vec((1u32..5, any::<u64>(), "[ -~]{0,20}"), 0..6)
        ) {
            let mut id = 0;
            let entries = switches.into_iter().map(|(step, lsn, reason)| {
                id += step;
                let reason = reason.trim().to_owned();
                HistoryEntry { timeline: TLI(id), switch_point: Lsn::new(lsn), reason }
            }).collect();
            let history = TimelineHistory::new(TLI(100), entries).unwrap();
            let read = TimelineHistory::parse(TLI(100), history.render().as_bytes());
            prop_assert_eq!(read, Ok(history));
        }

        #[test]
        fn the_path_never_runs_backwards(
            lsns in proptest::collection::vec(0u64..50, 0..6),
            at in 0u64..50,
        ) {
            let entries = (1..).zip(&lsns).map(|(id, lsn)| HistoryEntry {
                timeline: TLI(id), switch_point: Lsn::new(*lsn), reason: String::new(),
            }).collect();
            let history = TimelineHistory::new(TLI(100), entries).unwrap();
            let path = history.path();
            prop_assert_eq!(path.first().unwrap().begin, Lsn::INVALID);
            prop_assert!(path.windows(2).all(|pair| pair[0].end == Some(pair[1].begin)));
            prop_assert!(history.contains(history.timeline_of(Lsn::new(at)), Lsn::new(at)));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = TimelineHistory::parse(TLI(7), &bytes);
        }

        #[test]
        fn any_line_is_read_or_refused(text in "[0-9]{0,3}[ \t]{0,2}[0-9A-F/]{0,9}.{0,5}") {
            let _ = TimelineHistory::parse(TLI(7), text.as_bytes());
        }
    }
}
