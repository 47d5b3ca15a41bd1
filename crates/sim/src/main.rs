//! `cargo run -p sim --release -- FIRST COUNT`: lives through seeds and says what came of them.
#![allow(clippy::print_stdout)] // its result

use std::collections::BTreeMap;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).map(|word| word.parse::<u64>());
    let (Some(Ok(first)), Some(Ok(count)), None) = (words.next(), words.next(), words.next())
    else {
        println!("usage: sim FIRST COUNT");
        return ExitCode::from(2);
    };
    let (mut ends, mut drivers, mut failures, mut broken) = (BTreeMap::new(), 0, 0, 0);
    for seed in first..first.saturating_add(count) {
        match sim::live(seed) {
            Ok(story) => {
                *ends.entry(story.ended).or_insert(0_u32) += 1;
                drivers += story.drivers;
                failures += story.failures + story.misbehaviours;
            }
            Err(why) => {
                println!("{why}");
                broken += 1;
            }
        }
    }
    println!("{count} seeds: {drivers} drivers, {failures} failures, {ends:?}, {broken} broken");
    ExitCode::from(u8::from(broken > 0))
}
