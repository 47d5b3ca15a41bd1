//! What must hold, whatever happened.

use recovery::journal::{Loaded, Verdict, check_chain};
use recovery::machine::State;
use recovery::plan::{Mode, Plan};
use recovery::runner::Ended;
use recovery::service::OnFailure;
use recovery::testing::World;

/// Every promise that was broken.
pub(crate) fn broken(plan: &Plan, world: &World, loaded: &Loaded, ended: &Ended) -> Vec<String> {
    let mut broken = world.violations();
    let stored = (0..).zip(loaded.stored.iter().map(|bytes| &bytes[..]));
    if let Err(error) = check_chain(stored) {
        broken.push(format!("the chain: {error}"));
    }
    match State::replay(&loaded.records) {
        Err(error) => broken.push(format!("the journal does not give the state: {error}")),
        Ok(state) => match (ended, state.is_closed()) {
            (Ended::Closed { .. }, false) => broken.push("closed, and not in the journal".into()),
            (Ended::Waiting(_), true) => broken.push("waits, and is closed in the journal".into()),
            _ => {}
        },
    }
    if let (Ended::Closed { verdict, .. }, Mode::Incident) = (ended, plan.mode) {
        broken.extend(wrong_end(plan, world, *verdict));
    }
    broken
}

/// What of the world contradicts the verdict.
fn wrong_end(plan: &Plan, world: &World, verdict: Verdict) -> Vec<String> {
    let end = world.snapshot();
    let is_open = !end.is_door_shut && end.stopped.is_empty();
    let mut wrong = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            wrong.push(format!("{}: {what}: {end:?}", verdict.text()));
        }
    };
    match verdict {
        Verdict::Restored => {
            must(is_open, "users are back");
            must(end.setting != "old", "the setting points to the new database");
            must(end.is_fenced, "the old one is fenced");
            must(end.made.contains(&end.setting), "what the setting points to is there");
        }
        Verdict::RolledBack => {
            must(end.setting == "old", "the setting is the old one");
            must(end.made.is_empty(), "nothing that was made is left");
            if plan.policy.on_failure == OnFailure::ReopenOld {
                must(is_open && !end.is_fenced, "the old database serves");
            }
        }
        Verdict::RolledBackWithErrors | Verdict::Halted | Verdict::Superseded => {}
    }
    wrong
}
