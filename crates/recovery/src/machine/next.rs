//! What a driver has to do now.

use std::collections::BTreeSet;

use super::{Failed, Phase, State, Status};
use crate::journal::{Entry, FailureClass, ServiceState, Verdict};
use crate::plan::{Class, Mode, Parameters, Stage, StepKind};

/// The figure that decides whether users have written into the new database.
pub const FOREIGN_WRITES: &str = "foreign_writes";

/// What a driver has to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Perform a step; it begins with a probe.
    Perform(usize),
    /// Undo a step.
    Undo(usize),
    /// Record something.
    Append(Entry),
    /// Count the writes of others in the new database, and record the figure.
    CountWrites,
    /// Nothing, until somebody says something.
    Await(Awaited),
    /// Nothing more.
    Finished,
}

/// What a run waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Somebody paused it.
    Resume {
        /// Who.
        by: String,
    },
    /// Approvals.
    Approval {
        /// The gate.
        gate: String,
        /// How many more.
        missing: u32,
        /// What it is about.
        text: String,
    },
    /// A person's decision: retry, skip or abort.
    Decision {
        /// Why.
        reason: String,
    },
}

impl State {
    /// What has to be done now.
    #[must_use]
    pub fn next(&self) -> Next {
        if matches!(self.phase, Phase::Closed { .. }) {
            return Next::Finished;
        }
        if let Some(by) = &self.paused_by {
            return Next::Await(Awaited::Resume { by: by.clone() });
        }
        match &self.phase {
            Phase::Forward => self.forward(),
            Phase::FallingBack => self.falling_back(),
            Phase::RollingBack { reason, went_through } => self.backward(reason, *went_through),
            Phase::Halted { reason } => Next::Await(Awaited::Decision { reason: reason.clone() }),
            Phase::Closed { .. } => Next::Finished,
        }
    }

    fn forward(&self) -> Next {
        let Some(at) = self.current() else { return self.went_through() };
        let Some((step, state)) = self.step(at) else { return Next::Finished };
        match (&state.status, step.kind) {
            (Status::Failed(failed), _) => self.failed(at, failed),
            // Undone for a fresh try: not finished yet.
            (Status::UndoIntended, _) => Next::Undo(at),
            (Status::UndoFailed, _) => Next::Append(Entry::Halted {
                reason: format!("step {} could not be cleaned up", step.id),
            }),
            (_, StepKind::PointOfNoReturn) => match self.missing_at_the_point(at) {
                0 => self.record(at),
                missing => Next::Await(Awaited::Approval {
                    gate: step.id.to_string(),
                    missing,
                    text: step.parameters.get("cost").cloned().unwrap_or_default(),
                }),
            },
            (_, StepKind::Confirm) => match self.approved_by(step.id.as_str()).is_empty() {
                false => self.record(at),
                true => Next::Await(Awaited::Approval {
                    gate: step.id.to_string(),
                    missing: 1,
                    text: step.parameters.get("text").cloned().unwrap_or_default(),
                }),
            },
            _ => Next::Perform(at),
        }
    }

    /// A step that has no effect outside the journal.
    fn record(&self, at: usize) -> Next {
        let Some((step, state)) = self.step(at) else { return Next::Finished };
        Next::Append(Entry::Done {
            step: step.id.to_string(),
            generation: state.generation,
            outputs: Parameters::new(),
            was_there: false,
            evidence: None,
        })
    }

    /// Who approved a gate.
    fn approved_by(&self, gate: &str) -> BTreeSet<&str> {
        let ours = self.approvals.iter().filter(|approval| approval.gate == gate);
        ours.map(|approval| approval.by.as_str()).collect()
    }

    /// How many persons are missing at the point of no return: the requester counts as one, once
    /// the cost is confirmed.
    fn missing_at_the_point(&self, at: usize) -> u32 {
        let Some((step, _)) = self.step(at) else { return 0 };
        let gate = step.id.as_str();
        let glass =
            self.approvals.iter().any(|approval| approval.gate == gate && approval.is_break_glass);
        if glass {
            return 0;
        }
        let mut persons = self.approved_by(gate);
        if self.is_confirmed {
            persons.insert(&self.requester);
        }
        let needed = self.plan.policy.final_persons.max(1);
        needed.saturating_sub(u32::try_from(persons.len()).unwrap_or(u32::MAX))
    }

    fn went_through(&self) -> Next {
        match self.plan.mode {
            Mode::Incident => Next::Append(Entry::Closed {
                verdict: Verdict::Restored,
                service: ServiceState::New,
                reason: "every step went through".into(),
            }),
            // The way back is part of what is tried.
            Mode::Drill | Mode::Copy => Next::Append(Entry::RollbackBegun {
                reason: format!("the {} is over", self.plan.mode.text()),
                went_through: true,
            }),
        }
    }

    /// A step has failed for good.
    fn failed(&self, at: usize, failed: &Failed) -> Next {
        let Some((step, _)) = self.step(at) else { return Next::Finished };
        let reason = format!("step {} failed: {}", step.id, failed.message);
        if self.is_past_the_point() {
            return Next::Append(Entry::Halted { reason });
        }
        let is_data = failed.class == FailureClass::Data;
        if is_data && matches!(step.stage, Stage::Restore | Stage::Prove) {
            let next = self.candidate + 1;
            if let Some(candidate) = self.plan.candidates.get(next) {
                let fallback =
                    Entry::Fallback { candidate: u32::try_from(next).unwrap_or(u32::MAX), reason };
                let allowed = candidate.is_same_target
                    || candidate.extra_loss_s <= self.plan.policy.extra_loss.as_secs();
                let gate = format!("fallback.{next}");
                return match allowed || !self.approved_by(&gate).is_empty() {
                    true => Next::Append(fallback),
                    false => Next::Await(Awaited::Approval {
                        gate,
                        missing: 1,
                        text: format!("{} loses {} s more", candidate.name, candidate.extra_loss_s),
                    }),
                };
            }
        }
        if self.users_may_have_written() {
            return match self.measured.get(FOREIGN_WRITES).map(|count| count == "0") {
                None => Next::CountWrites,
                Some(true) => Next::Append(Entry::RollbackBegun { reason, went_through: false }),
                Some(false) => Next::Append(Entry::Halted {
                    reason: format!(
                        "{reason}; users have written into the new database ({} transactions)",
                        self.measured.get(FOREIGN_WRITES).map_or("?", String::as_str)
                    ),
                }),
            };
        }
        Next::Append(Entry::RollbackBegun { reason, went_through: false })
    }

    /// Without a door users are back as soon as a writer runs.
    fn users_may_have_written(&self) -> bool {
        let mut steps = self.plan.steps.iter().zip(&self.steps);
        self.plan.mode == Mode::Incident
            && !self.plan.has_door
            && steps.any(|(step, state)| {
                step.kind == StepKind::StartWriter
                    && step.stage == Stage::Start
                    && state.may_have_acted
            })
    }

    fn falling_back(&self) -> Next {
        let Some(at) = self.next_to_fall() else { return self.forward() };
        match self.step(at) {
            Some((step, state)) if state.status == Status::UndoFailed => {
                let reason = format!("step {} could not be cleaned up", step.id);
                Next::Append(Entry::Halted { reason })
            }
            _ => Next::Undo(at),
        }
    }

    /// What a rollback has still to undo, in its order. What was done before something that cannot
    /// be taken back stays: the later one stands on it. A database that the setting still points to
    /// must not be removed.
    pub(crate) fn rest_to_undo(&self) -> impl Iterator<Item = usize> {
        let stuck = self.order.iter().rposition(|at| self.is_stuck(*at));
        let rest = self.order.iter().skip(stuck.map_or(0, |last| last + 1));
        rest.rev().copied().filter(|at| self.is_to_be_undone(*at))
    }

    fn backward(&self, reason: &str, went_through: bool) -> Next {
        if let Some(at) = self.rest_to_undo().next() {
            return Next::Undo(at);
        }
        let is_whole = self.steps.iter().all(|state| state.status != Status::UndoFailed);
        let verdict = match (is_whole, went_through) {
            (false, _) => Verdict::RolledBackWithErrors,
            (true, true) => Verdict::Restored,
            (true, false) => Verdict::RolledBack,
        };
        Next::Append(Entry::Closed { verdict, service: self.serves(), reason: reason.into() })
    }

    /// Whether something that others use is as we left it, because it could not be taken back.
    fn is_stuck(&self, at: usize) -> bool {
        self.step(at).is_some_and(|(step, state)| {
            step.class == Class::Undoable && state.status == Status::UndoFailed
        })
    }

    /// What serves users after a rollback.
    fn serves(&self) -> ServiceState {
        // One that could not be taken back is as shut as one that was left.
        let is_shut = self.is_shut(&[Status::Done, Status::UndoFailed]);
        match self.plan.mode == Mode::Incident && is_shut {
            true => ServiceState::Shut,
            false => ServiceState::Old,
        }
    }
}
