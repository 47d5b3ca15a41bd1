//! Making steps: predictions, limits, and how restoring is counted.

use crate::inventory::{BackupFact, Inventory};
use crate::method::Choice;
use crate::plan::{Class, Limits, Parameters, Stage, Step, StepId, StepKind, Target, UndoWhen};
use crate::timings::{self, Timings};

/// Every step is given at least this, in seconds, however little it should take.
const ATTEMPT_S_MIN: u64 = 60;

/// An attempt may take so many times what was predicted.
const ATTEMPT_FACTOR: u64 = 6;

/// A measurement lets an attempt's limit grow at most so many times: a drill on a machine that
/// slept must not make everybody wait for days.
const LIMIT_GROWTH_MAX: u64 = 4;

/// All attempts of a step together, in attempts.
const STEP_ATTEMPTS: u64 = 4;

/// Without a sign of progress.
const QUIET_S: u64 = 600;

/// A step under construction.
#[derive(Clone, Debug)]
pub(super) struct Draft(Step);

/// Begins a step.
pub(super) fn step(stage: Stage, verb: &str, object: &str, kind: StepKind) -> Draft {
    Draft(Step {
        id: StepId::new(stage, verb, object),
        stage,
        kind,
        class: Class::Own,
        parameters: Parameters::new(),
        host: None,
        identity: Parameters::new(),
        effect: String::new(),
        undo: "nothing to undo: it only looks".into(),
        undo_when: UndoWhen::Never,
        command: None,
        predicted_s: 2,
        base_s: 2,
        limits: Limits { attempt_s: ATTEMPT_S_MIN, step_s: 0, quiet_s: QUIET_S },
        is_optional: false,
    })
}

impl Draft {
    pub(super) fn effect(mut self, text: impl Into<String>) -> Self {
        self.0.effect = text.into();
        self
    }

    pub(super) fn undo(mut self, class: Class, when: UndoWhen, text: impl Into<String>) -> Self {
        self.0.class = class;
        self.0.undo_when = when;
        self.0.undo = text.into();
        self
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.parameters.insert(name.into(), value.into());
        self
    }

    pub(super) fn with_all(mut self, parameters: Parameters) -> Self {
        self.0.parameters.extend(parameters);
        self
    }

    pub(super) fn maybe(self, name: &str, value: Option<&String>) -> Self {
        match value {
            Some(value) => self.with(name, value.clone()),
            None => self,
        }
    }

    pub(super) fn host(mut self, host: Option<&String>) -> Self {
        self.0.host = host.cloned();
        self
    }

    pub(super) fn identity(mut self, identity: &Parameters) -> Self {
        self.0.identity = identity.clone();
        self
    }

    pub(super) fn command(mut self, text: impl Into<String>) -> Self {
        self.0.command = Some(text.into());
        self
    }

    pub(super) fn maybe_command(mut self, text: Option<String>) -> Self {
        self.0.command = text;
        self
    }

    pub(super) fn predicted(mut self, seconds: u64) -> Self {
        self.0.predicted_s = seconds.max(1);
        self
    }

    /// An attempt may take at least so long, however little is predicted.
    pub(super) fn patient(mut self, seconds: u64) -> Self {
        self.0.limits.attempt_s = self.0.limits.attempt_s.max(seconds);
        self
    }

    pub(super) fn optional(mut self) -> Self {
        self.0.is_optional = true;
        self
    }

    pub(super) fn done(mut self) -> Step {
        let attempt = (self.0.predicted_s * ATTEMPT_FACTOR).max(self.0.limits.attempt_s);
        self.0.limits.attempt_s = attempt;
        self.0.limits.step_s = attempt * STEP_ATTEMPTS;
        self.0.base_s = self.0.predicted_s;
        self.0
    }
}

/// Predicts a step by what such steps took before. Its limits grow with it, and never shrink: one
/// quick drill must not end a slow night.
pub(super) fn by_experience(step: &mut Step, timings: &Timings) {
    step.predicted_s = timings::predicted_s(timings, step.kind.text(), step.base_s);
    let most = step.limits.attempt_s.saturating_mul(LIMIT_GROWTH_MAX);
    let attempt = step.predicted_s.saturating_mul(ATTEMPT_FACTOR).min(most);
    let attempt = attempt.max(step.limits.attempt_s);
    step.limits.attempt_s = attempt;
    step.limits.step_s = attempt * STEP_ATTEMPTS;
}

/// Words for a shell, quoted where they have to be.
pub(super) fn shell(words: &[String]) -> String {
    let plain = |word: &str| {
        !word.is_empty()
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@+%".contains(c))
    };
    let quoted = words.iter().map(|word| match plain(word) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// The backup that a cluster is restored from: the newest valid one that reaches the target.
pub(super) fn backup_for<'i>(choice: &Choice, inventory: &'i Inventory) -> Option<&'i BackupFact> {
    let reaches = |backup: &&BackupFact| {
        backup.is_valid && (backup.reaches_target || choice.target == Target::Immediate)
    };
    inventory.backups.iter().find(reaches)
}

/// Restoring a cluster and replaying its WAL, in seconds.
pub(super) fn restore_s(choice: &Choice, inventory: &Inventory) -> u64 {
    let speeds = &inventory.speeds;
    let (size, wal) = backup_for(choice, inventory)
        .map_or((inventory.size, 0), |backup| (backup.size, backup.wal_to_target));
    let wal = if choice.target == Target::Immediate { 0 } else { wal };
    size.div_ceil(speeds.restore.max(1)) + wal.div_ceil(speeds.replay.max(1)) + 5
}
