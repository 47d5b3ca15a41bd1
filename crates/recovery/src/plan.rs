//! A plan: every step with its exact effect, its undo and its predicted time; immutable once made.
//!
//! A run stores the whole plan and follows that copy, whatever a file says later. The digest of its
//! canonical JSON is what people approve.

mod digest;
mod kind;
mod redact;
mod runbook;
mod target;
mod text;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::fmt;

pub use digest::{PlanDigest, confirmation};
pub use kind::StepKind;
pub use redact::without_secrets;
pub use runbook::runbook;
pub use target::Target;
pub use text::{duration_text, night_screen, plan_text, type_to_start};
pub use wire::WireError;

use crate::service::{Escalation, Objectives, Persons, Policy};

/// Named values of a step: what a provider needs to perform it. No secrets.
pub type Parameters = BTreeMap<String, String>;

/// Where a step stands in the order of a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Is the plan still right; what state is everything in.
    Assess,
    /// The door, then the writers.
    Shut,
    /// Fence, salvage, safety copy, target.
    Secure,
    /// The new database.
    Restore,
    /// That it is what was there.
    Prove,
    /// The sibling goes first.
    Stage,
    /// The connection setting.
    Switch,
    /// The writers, behind the door; smoke tests.
    Start,
    /// The point of no return, then the door.
    Open,
    /// The new database is protected again.
    Protect,
    /// People and systems are told.
    Tell,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [(&'static str, Self); 11] = [
        ("assess", Self::Assess),
        ("shut", Self::Shut),
        ("secure", Self::Secure),
        ("restore", Self::Restore),
        ("prove", Self::Prove),
        ("stage", Self::Stage),
        ("switch", Self::Switch),
        ("start", Self::Start),
        ("open", Self::Open),
        ("protect", Self::Protect),
        ("tell", Self::Tell),
    ];

    /// The stage of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(name, _)| *name == text).map(|(_, stage)| stage)
    }

    /// Its name.
    #[must_use]
    pub fn text(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, stage)| *stage == self).map_or("", |(name, _)| name)
    }
}

/// What a step may touch: journalling, approval and retry follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Only what the run itself made: may be repeated freely.
    Own,
    /// Something that was there before, and can be put back.
    Undoable,
    /// Something that nobody can put back.
    Final,
}

impl Class {
    /// Its name.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Undoable => "undoable",
            Self::Final => "final",
        }
    }

    /// The class of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Own, Self::Undoable, Self::Final].into_iter().find(|class| class.text() == text)
    }
}

/// When a step is undone after a failure before the point of no return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UndoWhen {
    /// There is nothing to undo.
    Never,
    /// In every rollback.
    Always,
    /// Only when the old database shall serve again.
    Reopening,
}

impl UndoWhen {
    /// Its name.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Always => "always",
            Self::Reopening => "reopening",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Never, Self::Always, Self::Reopening].into_iter().find(|when| when.text() == text)
    }
}

/// How long a step may take, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One attempt.
    pub attempt_s: u64,
    /// The step, all attempts together.
    pub step_s: u64,
    /// Without a sign of progress.
    pub quiet_s: u64,
}

/// `<stage>.<verb>[.<object>]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(String);

impl StepId {
    /// The id of a step; every character of `object` that does not fit becomes a hyphen.
    #[must_use]
    pub fn new(stage: Stage, verb: &str, object: &str) -> Self {
        let fit = |c: char| if c.is_ascii_alphanumeric() || "-_/".contains(c) { c } else { '-' };
        let object: String = object.chars().map(fit).collect();
        match object.is_empty() {
            true => Self(format!("{}.{verb}", stage.text())),
            false => Self(format!("{}.{verb}.{object}", stage.text())),
        }
    }

    /// An id as it stands in a plan or was typed.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its id.
    pub id: StepId,
    /// Its stage.
    pub stage: Stage,
    /// What is done.
    pub kind: StepKind,
    /// What it may touch.
    pub class: Class,
    /// What a provider needs.
    pub parameters: Parameters,
    /// The host that must perform it; `None`: any driver.
    pub host: Option<String>,
    /// What the object must be, compared before each act: names and their values.
    pub identity: Parameters,
    /// What it does, for people.
    pub effect: String,
    /// How it is undone, or why not, for people.
    pub undo: String,
    /// When it is undone.
    pub undo_when: UndoWhen,
    /// The command that a person would type, without secrets.
    pub command: Option<String>,
    /// How long it will take.
    pub predicted_s: u64,
    /// How long it would take as far as is known without a measurement.
    pub base_s: u64,
    /// How long it may take.
    pub limits: Limits,
    /// A failure is noted, and the run goes on.
    pub is_optional: bool,
}

/// One way to restore, tried in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// For people: `backup 20261126T050745Z-a3hz`.
    pub name: String,
    /// What replaces parameters of the steps of stage `restore`.
    pub parameters: Parameters,
    /// Whether it reaches the same target; if not, it loses more.
    pub is_same_target: bool,
    /// The additional loss, in seconds.
    pub extra_loss_s: u64,
    /// Why it stands here.
    pub reason: String,
}

/// What another way would have cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// The method.
    pub method: String,
    /// For people.
    pub what: String,
    /// Predicted time to recovery; `None`: not known.
    pub rto_s: Option<u64>,
    /// Predicted loss; `None`: not known.
    pub loss_s: Option<u64>,
    /// Why it was not taken, or why it was.
    pub reason: String,
    /// Whether it is the one of this plan.
    pub is_chosen: bool,
}

/// What kind of run a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Production is recovered.
    Incident,
    /// Everything with other bindings; production is only read.
    Drill,
    /// Restores and proves, switches nothing.
    Copy,
}

impl Mode {
    /// Its name.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Incident => "incident",
            Self::Drill => "drill",
            Self::Copy => "copy",
        }
    }

    /// The mode of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Incident, Self::Drill, Self::Copy].into_iter().find(|mode| mode.text() == text)
    }
}

/// A whole plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The version of the binary that compiled it.
    pub binary: String,
    /// The service.
    pub service: String,
    /// What kind of run.
    pub mode: Mode,
    /// The standby site that it is for; `None`: the service's own place.
    pub site: Option<String>,
    /// The method.
    pub method: String,
    /// Why this method.
    pub reason: String,
    /// Where the data shall be taken from.
    pub target: Target,
    /// Its steps, in order.
    pub steps: Vec<Step>,
    /// Ways to restore; the first is tried first.
    pub candidates: Vec<Candidate>,
    /// All methods that were weighed, the chosen one among them.
    pub alternatives: Vec<Alternative>,
    /// The objectives of the service.
    pub objectives: Objectives,
    /// The policy of the service.
    pub policy: Policy,
    /// Who may approve.
    pub persons: Persons,
    /// Channels that are told.
    pub tell: Vec<String>,
    /// Who is told when nobody answers.
    pub escalate: Vec<Escalation>,
    /// Whether users are kept out until the end.
    pub has_door: bool,
    /// Remarks that the operator must see.
    pub warnings: Vec<String>,
    /// Loss between the damage and what is restored, in seconds, as far as known.
    pub predicted_loss_s: Option<u64>,
}

impl Plan {
    /// The predicted time from the start to an open door, in seconds.
    #[must_use]
    pub fn predicted_rto_s(&self) -> u64 {
        let until_open = self.steps.iter().filter(|step| step.stage <= Stage::Open);
        until_open.map(|step| step.predicted_s).sum()
    }

    /// The predicted time of the steps from `from` on until the door is open, in seconds.
    #[must_use]
    pub fn predicted_from_s(&self, from: usize) -> u64 {
        let rest = self.steps.iter().skip(from).filter(|step| step.stage <= Stage::Open);
        rest.map(|step| step.predicted_s).sum()
    }

    /// The position of a step.
    #[must_use]
    pub fn position(&self, id: &StepId) -> Option<usize> {
        self.steps.iter().position(|step| step.id == *id)
    }

    /// The number, counted from 1, of the last step before which everything can be undone.
    #[must_use]
    pub fn way_back_until(&self) -> Option<usize> {
        self.steps.iter().position(|step| step.kind == StepKind::PointOfNoReturn).map(|at| at + 1)
    }
}
