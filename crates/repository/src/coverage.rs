//! Which segments of a timeline path are in the repository, by their names alone.

use std::collections::BTreeSet;
use std::fmt;

use pg::{Lsn, SegmentSize, TimelineId, WalSegment};

use crate::error::Error;
use crate::names::{self, LineageId};
use crate::piece;
use crate::set::Repository;
use crate::timeline::TimelinePath;

/// The segments on a timeline path that are there.
#[derive(Clone, Debug)]
pub struct Coverage {
    path: TimelinePath,
    size: SegmentSize,
    /// First and last number of each run without a hole, ascending.
    runs: Vec<(u64, u64)>,
    /// The last segment of which there are only pieces that make up no beginning: the log did go on
    /// so far.
    known_to: Option<u64>,
}

/// Segments that are missing before one of which there is something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The first one missing.
    pub first: WalSegment,
    /// The last one missing.
    pub last: WalSegment,
    /// The segments' size.
    pub size: SegmentSize,
}

impl Hole {
    /// Where the hole begins.
    #[must_use]
    pub const fn begin(&self) -> Lsn {
        self.first.begin(self.size)
    }

    /// The first position behind it.
    #[must_use]
    pub const fn end(&self) -> Lsn {
        self.last.end(self.size)
    }
}

impl fmt::Display for Hole {
    /// `WAL segment X is missing`, or `WAL segments X to Y are missing`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.first.name(self.size);
        if self.first == self.last {
            write!(f, "WAL segment '{first}' is missing")
        } else {
            write!(f, "WAL segments '{first}' to '{}' are missing", self.last.name(self.size))
        }
    }
}

impl Coverage {
    /// Lists what is there along `path`. Reads no object. Segments that pieces make up count: the
    /// last one on the path also when its pieces hold only its beginning.
    ///
    /// # Errors
    /// When no member of the set answers.
    pub async fn load(
        repository: &Repository,
        lineage: LineageId,
        path: &TimelinePath,
        size: SegmentSize,
    ) -> Result<Self, Error> {
        let mut present = BTreeSet::new();
        let (mut begun, mut broken) = (BTreeSet::new(), BTreeSet::new());
        let stretches = path.stretches();
        for (at, stretch) in stretches.iter().enumerate() {
            let first = stretch.begin.get() / size.get();
            let behind = stretches.get(at + 1).map(|next| next.begin.get() / size.get());
            let wanted = |number: u64| number >= first && behind.is_none_or(|end| number < end);
            let timeline = stretch.timeline;
            let complete = numbers(repository, lineage, timeline, size).await?;
            present.extend(complete.into_iter().filter(|number| wanted(*number)));
            for held in piece::held(repository, lineage, timeline, size).await? {
                let number = held.segment.number;
                if !wanted(number) {
                    continue;
                }
                match (held.complete, held.broken) {
                    (true, _) => drop(present.insert(number)),
                    (false, false) => drop(begun.insert(number)),
                    (false, true) => drop(broken.insert(number)),
                }
            }
        }
        // Only at the very end may a segment be there in part.
        let last = present.last().copied();
        let known_to =
            begun.iter().chain(&broken).max().copied().filter(|known| last < Some(*known));
        if known_to.is_some_and(|known| begun.contains(&known)) {
            present.extend(known_to);
        }
        Ok(Self { path: path.clone(), size, runs: runs(&present), known_to })
    }

    /// The path it was listed along.
    #[must_use]
    pub const fn path(&self) -> &TimelinePath {
        &self.path
    }

    /// The segments' size.
    #[must_use]
    pub const fn size(&self) -> SegmentSize {
        self.size
    }

    /// Whether segment `number` is there.
    #[must_use]
    pub fn has(&self, number: u64) -> bool {
        self.run_of(number).is_some()
    }

    /// The last segment that is there without a hole from `number` on; `None` when `number` itself
    /// is missing.
    #[must_use]
    pub fn contiguous_to(&self, number: u64) -> Option<u64> {
        self.run_of(number).map(|(_, last)| last)
    }

    /// The last segment that is there at all.
    #[must_use]
    pub fn last(&self) -> Option<WalSegment> {
        self.runs.last().map(|(_, last)| self.path.segment(*last, self.size))
    }

    /// The holes before segments of which there is something, ascending.
    #[must_use]
    pub fn holes(&self) -> Vec<Hole> {
        let starts = self.runs.iter().map(|(first, _)| *first).skip(1).chain(self.lost_end());
        let ends = self.runs.iter().map(|(_, last)| *last + 1);
        ends.zip(starts).map(|(first, next)| self.hole(first, next - 1)).collect()
    }

    /// The first hole at or behind segment `number`: also one that begins with it, or that reaches
    /// back from the first segment there is. `None` when nothing behind it is there.
    #[must_use]
    pub fn hole_from(&self, number: u64) -> Option<Hole> {
        let first_missing = self.contiguous_to(number).map_or(number, |last| last + 1);
        let mut starts = self.runs.iter().map(|(first, _)| *first).chain(self.lost_end());
        let next = starts.find(|first| *first > first_missing)?;
        Some(self.hole(first_missing, next - 1))
    }

    /// The number behind the last segment that is known of, when its content is not there.
    fn lost_end(&self) -> Option<u64> {
        self.known_to.filter(|known| !self.has(*known)).map(|known| known + 1)
    }

    fn hole(&self, first: u64, last: u64) -> Hole {
        let segment = |number| self.path.segment(number, self.size);
        Hole { first: segment(first), last: segment(last), size: self.size }
    }

    fn run_of(&self, number: u64) -> Option<(u64, u64)> {
        self.runs.iter().find(|(first, last)| (*first..=*last).contains(&number)).copied()
    }
}

/// The numbers of the complete segments on a timeline.
async fn numbers(
    repository: &Repository,
    lineage: LineageId,
    timeline: TimelineId,
    size: SegmentSize,
) -> Result<Vec<u64>, Error> {
    let listed = repository.list(&names::wal_prefix(lineage, timeline)).await?;
    let number = |meta: &store::ObjectMeta| {
        let (_, name) = meta.key.as_str().rsplit_once('/')?;
        let segment = WalSegment::parse(name, size).ok()?;
        (segment.timeline == timeline).then_some(segment.number)
    };
    Ok(listed.iter().filter_map(number).collect())
}

fn runs(numbers: &BTreeSet<u64>) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use pg::TimelineHistory;

    use super::*;

    fn coverage(numbers: &[u64]) -> Coverage {
        let path = TimelinePath::new(TimelineHistory::without_ancestors(TimelineId::FIRST));
        let runs = runs(&numbers.iter().copied().collect());
        Coverage { path, size: SegmentSize::DEFAULT, runs, known_to: None }
    }

    #[test]
    fn a_hole_is_what_is_missing_between_two_segments() {
        let coverage = coverage(&[3, 4, 5, 8, 10]);
        let holes: Vec<String> = coverage.holes().iter().map(Hole::to_string).collect();
        assert_eq!(
            holes,
            [
                "WAL segments '000000010000000000000006' to '000000010000000000000007' are missing",
                "WAL segment '000000010000000000000009' is missing",
            ]
        );
        assert_eq!(coverage.contiguous_to(3), Some(5));
        assert_eq!(coverage.contiguous_to(6), None);
        assert_eq!(coverage.last().unwrap().number, 10);
        let from =
            |number| coverage.hole_from(number).map(|hole| (hole.first.number, hole.last.number));
        assert_eq!(from(3), Some((6, 7)));
        assert_eq!(from(7), Some((7, 7)));
        assert_eq!(from(1), Some((1, 2)));
        assert_eq!(from(10), None);
        assert_eq!(from(11), None);
    }

    #[test]
    fn what_is_known_to_have_been_there_is_a_hole_at_the_end() {
        let known = Coverage { known_to: Some(8), ..coverage(&[3, 4]) };
        let holes: Vec<_> =
            known.holes().iter().map(|hole| (hole.first.number, hole.last.number)).collect();
        assert_eq!(holes, [(5, 8)]);
        assert_eq!(known.hole_from(3).unwrap().last.number, 8);
        assert_eq!(known.hole_from(8).unwrap().first.number, 8);
        assert!(known.hole_from(9).is_none());
        assert_eq!(known.last().unwrap().number, 4);
        let whole = Coverage { known_to: Some(4), ..coverage(&[3, 4]) };
        assert!(whole.holes().is_empty() && whole.hole_from(3).is_none());
    }

    #[test]
    fn nothing_there_has_no_holes() {
        let coverage = coverage(&[]);
        assert!(coverage.holes().is_empty() && coverage.last().is_none());
        assert!(coverage.hole_from(1).is_none());
    }
}
