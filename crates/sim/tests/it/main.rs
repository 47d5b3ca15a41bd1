//! Many seeds, the same ones each time and some new ones. A seed that breaks something is printed:
//! `cargo run -p sim -- SEED 1` lives through it again.
#![allow(clippy::panic, clippy::print_stdout)] // helpers of tests are tests

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Seeds that are lived through each time.
const SAME: u64 = 280;

/// Seeds that nobody has lived through yet.
const NEW: u64 = 160;

/// Lives through seeds; how often what happened.
fn all(seeds: impl Iterator<Item = u64>) -> BTreeMap<String, u64> {
    let mut seen = BTreeMap::new();
    for seed in seeds {
        let story = sim::live(seed).unwrap_or_else(|why| panic!("{why}"));
        *seen.entry(story.ended).or_default() += 1;
        for ((place, what), count) in story.tally {
            *seen.entry(format!("{place}: {what}")).or_default() += count;
        }
    }
    seen
}

#[test]
fn no_promise_is_broken_by_the_same_seeds() {
    let seen = all(0..SAME);
    let ends = ["restored", "rolled_back", "rolled_back_with_errors"].map(str::to_owned);
    let kinds = sim::FAILURES.iter().chain(sim::MESSAGES);
    let kinds = kinds.map(|(place, what)| format!("{place}: {what}"));
    for what in ends.into_iter().chain(kinds) {
        assert!(seen.contains_key(&what), "'{what}' did not happen: {seen:?}");
    }
}

#[test]
fn no_promise_is_broken_by_new_seeds() {
    let first = RandomState::new().build_hasher().finish() >> 1;
    println!("seeds from {first}");
    all(first..first + NEW);
}

#[test]
fn a_seed_gives_the_same_story_again() {
    for seed in 0..10 {
        assert_eq!(sim::live(seed), sim::live(seed));
    }
}
