//! The run machine: what is, from what was recorded; what comes next, from what is. Pure.
//!
//! [`State::apply`] folds records; nothing else changes a state, so the journal alone reproduces
//! it. [`State::next`] says what a driver has to do now, and [`after_failure`] what a failed
//! attempt means. The driver ([`crate::runner`]) decides nothing.

mod apply;
mod next;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

pub use apply::ApplyError;
pub use next::{Awaited, FOREIGN_WRITES, Next};

use crate::canonical::{hex, sha256};
use crate::journal::{FailureClass, ServiceState, Verdict};
use crate::plan::{Parameters, Plan, PlanDigest, Step, StepKind, UndoWhen};

/// Attempts of one step in one generation, when each of them surely did nothing.
pub const ATTEMPTS_MAX: u32 = 5;

/// Attempts to undo a step.
pub const UNDO_ATTEMPTS_MAX: u32 = 3;

/// The first pause between attempts; doubled each time.
pub const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between attempts.
pub const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// How far a step is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not begun.
    Pending,
    /// About to act, or in the middle of it: only a probe tells.
    Intended,
    /// Its effect is there.
    Done,
    /// It failed, and another try would fail as well.
    Failed(Failed),
    /// A person left it out.
    Skipped,
    /// About to be undone.
    UndoIntended,
    /// Undone.
    Undone,
    /// It could not be undone.
    UndoFailed,
}

/// How a step failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What the failure allows.
    pub class: FailureClass,
    /// Its code.
    pub code: String,
    /// What was expected and seen.
    pub message: String,
    /// The operator's next move.
    pub hint: String,
}

/// A step's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepState {
    /// Grows only after a completed undo or when a person asks for a fresh try.
    pub generation: u32,
    /// Attempts of this generation that failed.
    pub attempts: u32,
    /// How far it is.
    pub status: Status,
    /// Whether it was intended or done in any generation that was not undone: it may have had an
    /// effect.
    pub may_have_acted: bool,
    /// Its deadline for one attempt, as it was intended last.
    pub deadline_s: u64,
}

/// What a run is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Going through its steps.
    Forward,
    /// Undoing what was restored, to restore from another candidate.
    FallingBack,
    /// Undoing its changes.
    RollingBack {
        /// Why.
        reason: String,
        /// Every step went through before.
        went_through: bool,
    },
    /// Waiting for a person's decision.
    Halted {
        /// Why.
        reason: String,
    },
    /// Over.
    Closed {
        /// How.
        verdict: Verdict,
        /// What serves users.
        service: ServiceState,
    },
}

/// Somebody's approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The gate.
    pub gate: String,
    /// Who.
    pub by: String,
    /// The requester alone, because nobody else answered.
    pub is_break_glass: bool,
}

/// Something that a channel could not be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untold {
    /// The channel.
    pub channel: String,
    /// What kind of news it is.
    pub what: String,
    /// What it should have heard.
    pub text: String,
}

/// A run as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its name.
    pub run: String,
    /// Its plan.
    pub plan: Plan,
    /// The plan's digest.
    pub digest: PlanDigest,
    /// Who asked for it.
    pub requester: String,
    /// Its incident.
    pub incident: String,
    /// When somebody or something noticed.
    pub alert_at: Timestamp,
    /// When a person declared it.
    pub declared_at: Timestamp,
    /// The requester has confirmed what the final steps cost.
    pub is_confirmed: bool,
    /// The run it went on from.
    pub supersedes: Option<String>,
    /// The plan's steps.
    pub steps: Vec<StepState>,
    /// Steps in the order in which they were first intended or found done.
    pub order: Vec<usize>,
    /// What the run is doing.
    pub phase: Phase,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// The candidate that is tried.
    pub candidate: usize,
    /// What steps found out, all together; later ones win.
    pub facts: Parameters,
    /// What objects were before they were touched.
    pub originals: Parameters,
    /// Approvals.
    pub approvals: Vec<Approval>,
    /// Moments of the clock.
    pub marks: BTreeMap<String, Timestamp>,
    /// Figures.
    pub measured: Parameters,
    /// How often the driver changed.
    pub epoch: u32,
    /// What channels could not be told.
    pub untold: Vec<Untold>,
    /// Whether the channels were ever told anything.
    pub has_told: bool,
    /// What was warned of.
    pub warned: Vec<String>,
    /// Messages that were read, by id.
    pub heard: Vec<String>,
    /// Messages that were refused: whose, and why.
    pub refused: Vec<(String, String)>,
}

impl State {
    /// The step at a position.
    #[must_use]
    pub fn step(&self, at: usize) -> Option<(&Step, &StepState)> {
        self.plan.steps.get(at).zip(self.steps.get(at))
    }

    /// Whether the point of no return was passed.
    #[must_use]
    pub fn is_past_the_point(&self) -> bool {
        let mut steps = self.plan.steps.iter().zip(&self.steps);
        steps.any(|(step, state)| {
            step.kind == StepKind::PointOfNoReturn && state.status == Status::Done
        })
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed { .. })
    }

    /// A step's parameters, with what the candidate that is tried says instead.
    #[must_use]
    pub fn parameters(&self, at: usize) -> Parameters {
        let Some(step) = self.plan.steps.get(at) else { return Parameters::new() };
        let mut parameters = step.parameters.clone();
        if step.stage == crate::plan::Stage::Restore
            && let Some(candidate) = self.plan.candidates.get(self.candidate)
        {
            parameters.extend(candidate.parameters.clone());
        }
        parameters
    }

    /// The key of a step in its present generation: what a provider marks its effect with.
    #[must_use]
    pub fn key(&self, at: usize) -> String {
        let Some((step, state)) = self.step(at) else { return String::new() };
        let text = format!("{}\n{}\n{}", self.run, step.id, state.generation);
        hex(&sha256(text.as_bytes())[..12])
    }

    /// Whether a step counts as gone through.
    #[must_use]
    pub fn is_passed(&self, at: usize) -> bool {
        let Some((step, state)) = self.step(at) else { return true };
        match &state.status {
            Status::Done | Status::Skipped => true,
            Status::Failed(_) => step.is_optional,
            _ => false,
        }
    }

    /// The first step that was not gone through.
    #[must_use]
    pub fn current(&self) -> Option<usize> {
        (0..self.plan.steps.len()).find(|at| !self.is_passed(*at))
    }

    /// Whether a rollback undoes the step.
    #[must_use]
    pub fn is_to_be_undone(&self, at: usize) -> bool {
        let Some((step, state)) = self.step(at) else { return false };
        let wanted = match step.undo_when {
            UndoWhen::Never => false,
            UndoWhen::Always => true,
            UndoWhen::Reopening => !self.keeps_shut(),
        };
        wanted
            && state.may_have_acted
            && !matches!(state.status, Status::Undone | Status::UndoFailed)
    }

    /// Whether a failure leaves door, writers and fence as they are. Where nothing of them is done,
    /// half of it helps nobody: then it is taken back.
    #[must_use]
    pub fn keeps_shut(&self) -> bool {
        self.plan.policy.on_failure == crate::service::OnFailure::StayShut
            && self.is_shut(&[Status::Done])
    }

    /// Whether a step that keeps users out has one of these statuses.
    #[must_use]
    pub(crate) fn is_shut(&self, statuses: &[Status]) -> bool {
        let shuts = |kind: StepKind| {
            kind.is_fence() || matches!(kind, StepKind::ShutDoor | StepKind::StopWriter)
        };
        let mut steps = self.plan.steps.iter().zip(&self.steps);
        steps.any(|(step, state)| shuts(step.kind) && statuses.contains(&state.status))
    }

    /// Predicted seconds until the door is open, from what was not gone through.
    #[must_use]
    pub fn predicted_rest_s(&self) -> u64 {
        let rest =
            self.plan.steps.iter().enumerate().filter(|(at, step)| {
                step.stage <= crate::plan::Stage::Open && !self.is_passed(*at)
            });
        rest.map(|(_, step)| step.predicted_s).sum()
    }

    /// What an RTO miss would be, when one is predicted: expected and allowed seconds.
    #[must_use]
    pub fn predicted_miss(&self, now: Timestamp) -> Option<(u64, u64)> {
        let elapsed = now.duration_since(self.alert_at).as_secs().max(0).unsigned_abs();
        let expected = elapsed + self.predicted_rest_s();
        let allowed = self.plan.objectives.rto.as_secs();
        (expected > allowed).then_some((expected, allowed))
    }
}

/// What a driver does after an attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    /// Wait, then probe again: never act blindly.
    Again(Duration),
    /// Record it: the step has failed.
    GiveUp,
}

/// What a failed attempt means. `attempts` counts it; `elapsed` is the time since the step's first
/// attempt, `allowed` what the plan gives it.
#[must_use]
pub fn after_failure(
    class: FailureClass,
    attempts: u32,
    elapsed: Duration,
    allowed: Duration,
) -> AfterFailure {
    let is_final = matches!(class, FailureClass::Terminal | FailureClass::Data);
    if is_final || attempts >= ATTEMPTS_MAX || elapsed >= allowed {
        return AfterFailure::GiveUp;
    }
    AfterFailure::Again(pause(attempts))
}

/// The pause before another attempt.
#[must_use]
pub fn pause(attempts: u32) -> Duration {
    let doubled = RETRY_PAUSE.saturating_mul(1 << attempts.saturating_sub(1).min(10));
    doubled.min(RETRY_PAUSE_MAX)
}
