//! What must hold in the end, whatever happened.

use std::collections::{BTreeMap, BTreeSet};

use recovery::journal::{Entry, MessageKind, Record, Verdict, check_chain};
use recovery::machine::{State, Status};
use recovery::plan::{Mode, Step, StepId, StepKind, UndoWhen};
use recovery::runner::Ended;
use recovery::testing::{Snapshot, World};

use crate::people::Said;
use crate::witness::Testimony;

/// Every promise that was broken.
pub(crate) fn broken(
    world: &World,
    seen: &Testimony,
    said: &BTreeMap<String, Said>,
    ended: &Ended,
) -> Vec<String> {
    let mut broken = world.violations();
    broken.extend(seen.broken.iter().cloned());
    let stored = (0..).zip(seen.loaded.stored.iter().map(|bytes| &bytes[..]));
    if let Err(error) = check_chain(stored) {
        broken.push(format!("the chain: {error}"));
    }
    match State::replay(&seen.loaded.records) {
        Err(error) => broken.push(format!("the journal does not give the state: {error}")),
        Ok(state) if state != seen.state => {
            broken.push("the journal gives another state than record by record".into());
        }
        Ok(state) => match (ended, state.is_closed()) {
            (Ended::Closed { .. }, false) => broken.push("closed, and not in the journal".into()),
            (Ended::Waiting(_), true) => broken.push("waits, and is closed in the journal".into()),
            _ => {}
        },
    }
    broken.extend(wrongly_heard(&seen.loaded.records, said));
    broken.extend(wrongly_passed(&seen.state, &seen.loaded.records, said));
    if let Ended::Closed { verdict, .. } = ended {
        broken.extend(lost_undos(seen, *verdict));
        broken.extend(wrong_end(seen, &world.snapshot(), *verdict));
    }
    broken
}

/// Messages that were obeyed and must not be, or were read twice.
fn wrongly_heard(records: &[Record], said: &BTreeMap<String, Said>) -> Vec<String> {
    let mut heard = BTreeSet::new();
    let mut wrong = Vec::new();
    for record in records {
        let Entry::Heard { message, refused, obeys, .. } = &record.entry else { continue };
        if !heard.insert(message) {
            wrong.push(format!("message {message} was read twice"));
        }
        match said.get(message) {
            None => wrong.push(format!("message {message} was never sent")),
            Some(said) if !said.counts && (refused.is_none() || obeys.is_some()) => {
                wrong.push(format!("obeyed what does not count: {said:?}"));
            }
            Some(_) => {}
        }
    }
    wrong
}

/// The point of no return, passed by fewer persons than the plan wants.
fn wrongly_passed(
    state: &State,
    records: &[Record],
    said: &BTreeMap<String, Said>,
) -> Option<String> {
    let is_point = |step: &str| {
        let at = state.plan.position(&StepId::from_text(step));
        at.and_then(|at| state.step(at))
            .is_some_and(|(step, _)| step.kind == StepKind::PointOfNoReturn)
    };
    let passed = records
        .iter()
        .position(|record| matches!(&record.entry, Entry::Done { step, .. } if is_point(step)))?;
    let mut persons = BTreeSet::new();
    if state.is_confirmed {
        persons.insert(state.requester.as_str());
    }
    for record in records.iter().take(passed) {
        let Entry::Heard { message, obeys: Some(_), .. } = &record.entry else { continue };
        if let Some(Said { person, kind: MessageKind::Approve { gate, .. }, counts: true }) =
            said.get(message)
            && is_point(gate)
        {
            persons.insert(person);
        }
    }
    let needed = state.plan.policy.final_persons as usize;
    (persons.len() < needed)
        .then(|| format!("passed the point of no return with {persons:?} of {needed}"))
}

/// Effects that stand although the run says that they were taken back.
fn lost_undos(seen: &Testimony, verdict: Verdict) -> Vec<String> {
    let state = &seen.state;
    let mut stuck = state.plan.steps.iter().zip(&state.steps);
    let stuck = stuck.rposition(|(_, it)| it.status == Status::UndoFailed);
    let is_lost = |at: usize, step: &Step| {
        let is_kept = step.undo_when == UndoWhen::Reopening && state.keeps_shut();
        // Behind one that could not be undone nothing may be lost; before it, it may stand on it.
        let is_told = verdict == Verdict::RolledBackWithErrors && stuck.is_some_and(|it| at <= it);
        seen.standing.contains(step.id.as_str()) && !is_kept && !is_told
    };
    let takes_back = match verdict {
        Verdict::RolledBack | Verdict::RolledBackWithErrors => true,
        Verdict::Restored => state.plan.mode != Mode::Incident,
        Verdict::Halted | Verdict::Superseded => false,
    };
    let lost =
        state.plan.steps.iter().enumerate().filter(|(at, it)| takes_back && is_lost(*at, it));
    lost.map(|(_, step)| format!("{}: the undo of {} is lost", verdict.text(), step.id)).collect()
}

/// What of the world contradicts the verdict.
fn wrong_end(seen: &Testimony, end: &Snapshot, verdict: Verdict) -> Vec<String> {
    let (state, plan) = (&seen.state, &seen.state.plan);
    let is_fencing = plan.steps.iter().any(|step| step.kind.is_fence());
    let is_done = |kind: StepKind| {
        let mut steps = plan.steps.iter().zip(&state.steps);
        steps.any(|(step, it)| step.kind == kind && it.status == Status::Done)
    };
    let is_open = !end.is_door_shut && end.stopped.is_empty();
    let mut wrong = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            wrong.push(format!("{}: {what}: {end:?}", verdict.text()));
        }
    };
    match verdict {
        Verdict::Restored if plan.mode == Mode::Incident => {
            must(is_open, "users are back");
            must(end.setting != "old", "the setting points to the new database");
            must(end.is_fenced || !is_fencing, "the old one is fenced");
            must(end.made == [end.setting.clone()], "what the setting points to is there, alone");
        }
        Verdict::Restored | Verdict::RolledBack => {
            must(end.setting == "old", "the setting is the old one");
            must(end.made.is_empty(), "nothing that was made is left");
            if plan.mode == Mode::Incident && !state.keeps_shut() {
                must(is_open && !end.is_fenced, "the old database serves");
            }
            if is_done(StepKind::ShutDoor) {
                must(end.is_door_shut, "users are kept out");
            }
        }
        Verdict::RolledBackWithErrors | Verdict::Halted | Verdict::Superseded => {}
    }
    wrong
}
