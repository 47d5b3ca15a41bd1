//! `cargo run -p sim --release -- FIRST COUNT`: lives through seeds and says what came of them.
#![allow(clippy::print_stdout)] // its result

use std::collections::BTreeMap;
use std::process::ExitCode;

use rustix::time::{ClockId, clock_gettime};

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).map(|word| word.parse::<u64>());
    let (Some(Ok(first)), Some(Ok(count)), None) = (words.next(), words.next(), words.next())
    else {
        println!("usage: sim FIRST COUNT");
        return ExitCode::from(2);
    };
    let (mut ends, mut counts) = (BTreeMap::new(), BTreeMap::new());
    let (mut drivers, mut records, mut broken) = (0, 0, 0);
    for seed in first..first.saturating_add(count) {
        match sim::live(seed) {
            Ok(story) => {
                *ends.entry(story.ended).or_insert(0_u32) += 1;
                drivers += story.drivers;
                records += story.records;
                for (kind, number) in story.tally {
                    *counts.entry(kind).or_insert(0) += number;
                }
            }
            Err(why) => {
                // The journal follows, for whoever looks into one seed.
                let lines = if count == 1 { usize::MAX } else { 1 };
                why.lines().take(lines).for_each(|line| println!("{line}"));
                broken += 1;
            }
        }
    }
    let mut show = |kinds: &[sim::Kind]| -> u64 {
        let numbers = kinds.iter().map(|kind| {
            let number = counts.remove(kind).unwrap_or(0);
            println!("{number:>10}  {}: {}", kind.0, kind.1);
            number
        });
        numbers.sum()
    };
    let failures = show(sim::FAILURES);
    let said = show(sim::MESSAGES);
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu_ms = cpu.tv_sec * 1000 + cpu.tv_nsec / 1_000_000;
    let per_second = i64::try_from(failures).unwrap_or(i64::MAX) * 1000 / cpu_ms.max(1);
    println!("{count} seeds: {drivers} drivers, {records} records, {said} things said, {ends:?}");
    println!(
        "{failures} failures in {cpu_ms} ms of CPU, {per_second} in a second; {broken} broken"
    );
    ExitCode::from(u8::from(broken > 0))
}
