//! What was done to a run, counted by kind.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Where something goes wrong, and how.
pub type Kind = (&'static str, &'static str);

/// Every way in which something is made to go wrong. What persons say is no failure.
pub const FAILURES: &[Kind] = &[
    ("process", "dies at a point"),
    ("process", "is killed at any time"),
    ("process", "pauses shorter than the lease"),
    ("process", "pauses longer than the lease"),
    ("process", "its machine is suspended"),
    ("process", "its wall clock steps"),
    ("process", "is joined by another one"),
    ("store", "answers 500"),
    ("store", "does it, and the answer is lost"),
    ("store", "answers 409"),
    ("store", "answers 412, and nothing is there"),
    ("store", "does it, and answers 412"),
    ("store", "does it late"),
    ("store", "does it, and answers late"),
    ("store", "does it twice, the second time later"),
    ("store", "answers 500, and does it later"),
    ("store", "reads half of an object"),
    ("store", "is down for a while"),
    ("copy", "answers 500"),
    ("copy", "does it, and the answer is lost"),
    ("copy", "answers 409"),
    ("copy", "answers 412, and nothing is there"),
    ("copy", "does it, and answers 412"),
    ("copy", "does it late"),
    ("copy", "does it, and answers late"),
    ("copy", "does it twice, the second time later"),
    ("copy", "answers 500, and does it later"),
    ("copy", "is down for a while"),
    ("step", "fails before"),
    ("step", "loses the answer"),
    ("step", "loses the request"),
    ("step", "is done twice"),
    ("step", "is done by half"),
    ("step", "hangs"),
    ("step", "is done late, whatever becomes of the driver"),
    ("step", "fails for good"),
    ("step", "finds bad data"),
    ("step", "cannot be probed"),
    ("step", "cannot be undone at first"),
    ("step", "cannot be undone"),
    ("channel", "is silent"),
    ("person", "says something unsigned"),
    ("person", "signs with another's key"),
    ("person", "means another plan"),
    ("person", "means another target"),
    ("person", "has no right to"),
];

/// What persons say, as it should be.
pub const MESSAGES: &[Kind] = &[
    ("said", "pause"),
    ("said", "resume"),
    ("said", "abort"),
    ("said", "retry"),
    ("said", "skip"),
    ("said", "approve"),
];

/// Counts by kind. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<Mutex<BTreeMap<Kind, u64>>>);

impl Tally {
    pub(crate) fn count(&self, place: &'static str, what: &'static str) {
        debug_assert!(
            FAILURES.iter().chain(MESSAGES).any(|kind| *kind == (place, what)),
            "{place}: {what}"
        );
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((place, what)).or_default() += 1;
    }

    pub(crate) fn taken(&self) -> BTreeMap<Kind, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
