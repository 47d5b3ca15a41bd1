//! Many seeds, the same ones each time and some new ones. A seed that breaks something is printed:
//! `cargo run -p sim -- SEED 1` lives through it again.
#![allow(clippy::panic)] // helpers of tests are tests

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Lives through seeds; every way to end must have been seen.
fn all(seeds: impl Iterator<Item = u64>) -> BTreeMap<String, u32> {
    let mut ends = BTreeMap::new();
    for seed in seeds {
        let story = sim::live(seed).unwrap_or_else(|why| panic!("{why}"));
        *ends.entry(story.ended).or_default() += 1;
    }
    ends
}

#[test]
fn no_promise_is_broken_by_the_same_seeds() {
    let ends = all(0..300);
    for end in ["restored", "rolled_back", "waiting"] {
        assert!(ends.contains_key(end), "{ends:?}");
    }
}

#[test]
fn no_promise_is_broken_by_new_seeds() {
    let first = RandomState::new().build_hasher().finish() >> 1;
    all(first..first + 100);
}
