//! How long steps really took, for the predictions of later plans.

use std::collections::BTreeMap;

use crate::journal::{Entry, Loaded};
use crate::machine::{ApplyError, State};

/// So many runs are looked back at: a machine that was exchanged must not count for ever.
pub const RUNS_MAX: usize = 5;

/// For a kind of step: what it took, in thousandths of what would be guessed without a measurement.
/// A database that grew makes the guess grow, and with it the prediction.
pub type Timings = BTreeMap<String, u64>;

/// What one run took. Only steps that were begun and ended by one driver, at the first attempt,
/// say something.
///
/// # Errors
/// The journal is not one that this machine wrote.
pub fn of_run(loaded: &Loaded) -> Result<Timings, ApplyError> {
    let state = State::replay(&loaded.records)?;
    let mut begun: BTreeMap<&str, (u32, u64)> = BTreeMap::new();
    let mut taken: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for record in &loaded.records {
        match &record.entry {
            Entry::Intent { step, attempt: 1, .. } => {
                begun.insert(step, (record.writer.epoch, record.boottime_ms));
            }
            Entry::Failed { step, .. } => drop(begun.remove(step.as_str())),
            Entry::Done { step, was_there: false, .. } => {
                let Some((epoch, since)) = begun.remove(step.as_str()) else { continue };
                let planned = state.plan.steps.iter().find(|it| it.id.as_str() == step);
                let Some(planned) = planned.filter(|_| epoch == record.writer.epoch) else {
                    continue;
                };
                let sum = taken.entry(planned.kind.text().into()).or_default();
                sum.0 += record.boottime_ms.saturating_sub(since);
                sum.1 += planned.base_s;
            }
            _ => {}
        }
    }
    // Milliseconds for seconds are thousandths.
    let ratios = taken.into_iter().filter(|(_, (_, base))| *base > 0);
    Ok(ratios.map(|(kind, (took, base))| (kind, (took / base).max(1))).collect())
}

/// The median of the newest runs, by kind of step; `runs` has the newest last.
#[must_use]
pub fn median(runs: &[Timings]) -> Timings {
    let newest = runs.get(runs.len().saturating_sub(RUNS_MAX)..).unwrap_or(runs);
    let mut all: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (kind, ratio) in newest.iter().flatten() {
        all.entry(kind).or_default().push(*ratio);
    }
    let middle = all.into_iter().filter_map(|(kind, mut ratios)| {
        ratios.sort_unstable();
        Some((kind.to_owned(), *ratios.get(ratios.len() / 2)?))
    });
    middle.collect()
}

/// What a step of this kind will take, in seconds, where `base_s` would be guessed.
#[must_use]
pub fn predicted_s(timings: &Timings, kind: &str, base_s: u64) -> u64 {
    match timings.get(kind) {
        Some(ratio) => base_s.saturating_mul(*ratio).div_ceil(1000).max(1),
        None => base_s,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_the_newest_runs_counts() {
        let run = |ratio: u64| Timings::from([("restore-cluster".into(), ratio)]);
        let runs = [9000, 500, 700, 400, 600, 100].map(run);
        let middle = median(&runs);
        assert_eq!(middle["restore-cluster"], 500, "the oldest is forgotten");
        assert_eq!(median(&[]), Timings::new());
        assert_eq!(predicted_s(&middle, "restore-cluster", 40), 20);
        assert_eq!(predicted_s(&middle, "restore-cluster", 1), 1, "never nothing");
        assert_eq!(predicted_s(&middle, "fence", 15), 15, "not measured: the guess");
    }
}
