//! What a record says.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::plan::wire::{Reader, WireError, parameters_value};
use crate::plan::{Parameters, Plan};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The service is declared restored; or a drill or copy went through.
    Restored,
    /// Our changes are undone.
    RolledBack,
    /// Some of our changes could not be undone.
    RolledBackWithErrors,
    /// It stands, and a person has to decide.
    Halted,
    /// Another run of the incident went on.
    Superseded,
}

impl Verdict {
    const ALL: [(&'static str, Self); 5] = [
        ("restored", Self::Restored),
        ("rolled_back", Self::RolledBack),
        ("rolled_back_with_errors", Self::RolledBackWithErrors),
        ("halted", Self::Halted),
        ("superseded", Self::Superseded),
    ];

    /// Its name.
    #[must_use]
    pub fn text(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, it)| *it == self).map_or("", |(name, _)| name)
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(name, _)| *name == text).map(|(_, it)| it)
    }
}

/// What serves users when a run has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceState {
    /// The restored database.
    New,
    /// The old database.
    Old,
    /// Nothing: the door is shut.
    Shut,
}

impl ServiceState {
    const ALL: [(&'static str, Self); 3] =
        [("new", Self::New), ("old", Self::Old), ("shut", Self::Shut)];

    /// Its name.
    #[must_use]
    pub fn text(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, it)| *it == self).map_or("", |(name, _)| name)
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(name, _)| *name == text).map(|(_, it)| it)
    }
}

/// What a failure allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// Surely nothing happened; another try may succeed.
    Retry,
    /// It may have happened: only a probe tells.
    Ambiguous,
    /// Another try fails as well.
    Terminal,
    /// The data themselves are unusable: another backup may serve.
    Data,
}

impl FailureClass {
    const ALL: [(&'static str, Self); 4] = [
        ("retry", Self::Retry),
        ("ambiguous", Self::Ambiguous),
        ("terminal", Self::Terminal),
        ("data", Self::Data),
    ];

    /// Its name.
    #[must_use]
    pub fn text(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, it)| *it == self).map_or("", |(name, _)| name)
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(name, _)| *name == text).map(|(_, it)| it)
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // fields are what their names say
pub enum Entry {
    /// The run begins: everything that it will ever need to know.
    Created {
        plan: Box<Plan>,
        requester: String,
        incident: String,
        /// When somebody or something noticed.
        alert_at: Timestamp,
        /// When a person declared it.
        declared_at: Timestamp,
        /// The requester has confirmed what the final steps cost.
        is_confirmed: bool,
        /// The run of the same incident that this one goes on from.
        supersedes: Option<String>,
        /// What objects were before the incident's first run touched them.
        originals: Parameters,
    },
    /// Another driver goes on.
    DriverChanged { by: String, reason: String },
    /// The driver lives.
    Heartbeat,
    /// What an object was before it is touched for the first time.
    Original { object: String, value: String },
    /// The step is about to act.
    Intent { step: String, generation: u32, attempt: u32, key: String, deadline_s: u64 },
    /// The step's effect is there, verified.
    Done {
        step: String,
        generation: u32,
        outputs: Parameters,
        was_there: bool,
        evidence: Option<String>,
    },
    /// An attempt failed.
    Failed {
        step: String,
        generation: u32,
        attempt: u32,
        class: FailureClass,
        code: String,
        message: String,
        hint: String,
    },
    /// A person leaves the step out.
    Skipped { step: String, by: String, reason: String },
    /// A person has the step begun afresh.
    Retried { step: String, by: String },
    /// The step is about to be undone.
    UndoIntent { step: String, generation: u32 },
    /// It is undone.
    Undone { step: String, generation: u32, note: String },
    /// It could not be undone.
    UndoFailed { step: String, generation: u32, code: String, message: String },
    /// A person approves a gate.
    Approved { gate: String, by: String, is_break_glass: bool, reason: String },
    /// A message was read: obeyed by what it carries, or refused. Never read again.
    Heard { message: String, by: String, refused: Option<String>, obeys: Option<Box<Self>> },
    /// No new step until it goes on.
    Paused { by: String },
    /// It goes on.
    Resumed { by: String },
    /// Another way to restore.
    Fallback { candidate: u32, reason: String },
    /// Our changes are being undone.
    RollbackBegun {
        reason: String,
        /// Every step went through before: a drill cleans up.
        went_through: bool,
    },
    /// A person has to decide.
    Halted { reason: String },
    /// A figure: `foreign_writes`, `newest_commit`.
    Measured { name: String, value: String },
    /// Something the operator must see.
    Warned { text: String },
    /// A channel was told, or could not be.
    Told { channel: String, what: String, outcome: String, text: Option<String> },
    /// The run is over.
    Closed { verdict: Verdict, service: ServiceState, reason: String },
}

impl Entry {
    /// The name of its type.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::DriverChanged { .. } => "driver-changed",
            Self::Heartbeat => "heartbeat",
            Self::Original { .. } => "original",
            Self::Intent { .. } => "intent",
            Self::Done { .. } => "done",
            Self::Failed { .. } => "failed",
            Self::Skipped { .. } => "skipped",
            Self::Retried { .. } => "retried",
            Self::UndoIntent { .. } => "undo-intent",
            Self::Undone { .. } => "undone",
            Self::UndoFailed { .. } => "undo-failed",
            Self::Approved { .. } => "approved",
            Self::Heard { .. } => "heard",
            Self::Paused { .. } => "paused",
            Self::Resumed { .. } => "resumed",
            Self::Fallback { .. } => "fallback",
            Self::RollbackBegun { .. } => "rollback-begun",
            Self::Halted { .. } => "halted",
            Self::Measured { .. } => "measured",
            Self::Warned { .. } => "warned",
            Self::Told { .. } => "told",
            Self::Closed { .. } => "closed",
        }
    }

    /// Whether a reader that does not know the type must not drive the run.
    #[must_use]
    pub const fn must_understand(&self) -> bool {
        !matches!(
            self,
            Self::Heartbeat | Self::Measured { .. } | Self::Warned { .. } | Self::Told { .. }
        )
    }

    /// The step it is about.
    #[must_use]
    pub fn step(&self) -> Option<&str> {
        match self {
            Self::Intent { step, .. }
            | Self::Done { step, .. }
            | Self::Failed { step, .. }
            | Self::Skipped { step, .. }
            | Self::Retried { step, .. }
            | Self::UndoIntent { step, .. }
            | Self::Undone { step, .. }
            | Self::UndoFailed { step, .. } => Some(step),
            Self::Approved { gate, .. } => Some(gate),
            _ => None,
        }
    }

    /// Its body as JSON.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::Created {
                plan,
                requester,
                incident,
                alert_at,
                declared_at,
                is_confirmed,
                supersedes,
                originals,
            } => json!({
                "plan": plan.to_value(), "requester": requester, "incident": incident,
                "alert_at": alert_at.to_string(), "declared_at": declared_at.to_string(),
                "confirmed": is_confirmed, "supersedes": supersedes,
                "originals": parameters_value(originals),
            }),
            Self::DriverChanged { by, reason } => json!({ "by": by, "reason": reason }),
            Self::Original { object, value } => json!({ "object": object, "value": value }),
            Self::Intent { step, generation, attempt, key, deadline_s } => json!({
                "step": step, "generation": generation, "attempt": attempt, "key": key,
                "deadline_s": deadline_s,
            }),
            Self::Done { step, generation, outputs, was_there, evidence } => json!({
                "step": step, "generation": generation, "outputs": parameters_value(outputs),
                "was_there": was_there, "evidence": evidence,
            }),
            Self::Failed { step, generation, attempt, class, code, message, hint } => json!({
                "step": step, "generation": generation, "attempt": attempt,
                "class": class.text(), "code": code, "message": message, "hint": hint,
            }),
            Self::Skipped { step, by, reason } => {
                json!({ "step": step, "by": by, "reason": reason })
            }
            Self::Retried { step, by } => json!({ "step": step, "by": by }),
            Self::UndoIntent { step, generation } => {
                json!({ "step": step, "generation": generation })
            }
            Self::Undone { step, generation, note } => {
                json!({ "step": step, "generation": generation, "note": note })
            }
            Self::UndoFailed { step, generation, code, message } => json!({
                "step": step, "generation": generation, "code": code, "message": message,
            }),
            other => other.value_of_the_run(),
        }
    }

    /// The bodies of entries that are about no step.
    fn value_of_the_run(&self) -> Value {
        match self {
            Self::Approved { gate, by, is_break_glass, reason } => json!({
                "gate": gate, "by": by, "break_glass": is_break_glass, "reason": reason,
            }),
            Self::Heard { message, by, refused, obeys } => json!({
                "message": message, "by": by, "refused": refused,
                "obeys": obeys.as_ref().map(|entry| {
                    json!({ "type": entry.kind(), "body": entry.to_value() })
                }),
            }),
            Self::Paused { by } | Self::Resumed { by } => json!({ "by": by }),
            Self::Fallback { candidate, reason } => {
                json!({ "candidate": candidate, "reason": reason })
            }
            Self::RollbackBegun { reason, went_through } => {
                json!({ "reason": reason, "went_through": went_through })
            }
            Self::Halted { reason } => json!({ "reason": reason }),
            Self::Measured { name, value } => json!({ "name": name, "value": value }),
            Self::Warned { text } => json!({ "text": text }),
            Self::Told { channel, what, outcome, text } => {
                json!({ "channel": channel, "what": what, "outcome": outcome, "text": text })
            }
            Self::Closed { verdict, service, reason } => json!({
                "verdict": verdict.text(), "service": service.text(), "reason": reason,
            }),
            _ => json!({}),
        }
    }

    /// The entry of that type and body; `None` when the type is not known here.
    ///
    /// # Errors
    /// A body that does not fit its type.
    pub fn from_value(kind: &str, body: &Value) -> Result<Option<Self>, WireError> {
        let reader = Reader { value: body, at: kind.into() };
        let it = &reader;
        Ok(Some(match kind {
            "created" => created(it)?,
            "driver-changed" => {
                Self::DriverChanged { by: it.text("by")?, reason: it.text("reason")? }
            }
            "heartbeat" => Self::Heartbeat,
            "original" => Self::Original { object: it.text("object")?, value: it.text("value")? },
            "intent" => Self::Intent {
                step: it.text("step")?,
                generation: small(it, "generation")?,
                attempt: small(it, "attempt")?,
                key: it.text("key")?,
                deadline_s: it.number("deadline_s")?,
            },
            "done" => Self::Done {
                step: it.text("step")?,
                generation: small(it, "generation")?,
                outputs: it.parameters("outputs")?,
                was_there: it.flag("was_there")?,
                evidence: it.optional_text("evidence")?,
            },
            "failed" => failed(it)?,
            "skipped" => Self::Skipped {
                step: it.text("step")?,
                by: it.text("by")?,
                reason: it.text("reason")?,
            },
            "retried" => Self::Retried { step: it.text("step")?, by: it.text("by")? },
            "undo-intent" => {
                Self::UndoIntent { step: it.text("step")?, generation: small(it, "generation")? }
            }
            "undone" => Self::Undone {
                step: it.text("step")?,
                generation: small(it, "generation")?,
                note: it.text("note")?,
            },
            "undo-failed" => Self::UndoFailed {
                step: it.text("step")?,
                generation: small(it, "generation")?,
                code: it.text("code")?,
                message: it.text("message")?,
            },
            _ => return of_the_run(kind, it),
        }))
    }
}

/// The entries that are about no step.
fn of_the_run(kind: &str, it: &Reader<'_>) -> Result<Option<Entry>, WireError> {
    Ok(Some(match kind {
        "approved" => Entry::Approved {
            gate: it.text("gate")?,
            by: it.text("by")?,
            is_break_glass: it.flag("break_glass")?,
            reason: it.text("reason")?,
        },
        "heard" => return heard(it),
        "paused" => Entry::Paused { by: it.text("by")? },
        "resumed" => Entry::Resumed { by: it.text("by")? },
        "fallback" => {
            Entry::Fallback { candidate: small(it, "candidate")?, reason: it.text("reason")? }
        }
        "rollback-begun" => Entry::RollbackBegun {
            reason: it.text("reason")?,
            went_through: it.flag("went_through")?,
        },
        "halted" => Entry::Halted { reason: it.text("reason")? },
        "measured" => Entry::Measured { name: it.text("name")?, value: it.text("value")? },
        "warned" => Entry::Warned { text: it.text("text")? },
        "told" => Entry::Told {
            channel: it.text("channel")?,
            what: it.text("what")?,
            outcome: it.text("outcome")?,
            text: it.optional_text("text")?,
        },
        "closed" => Entry::Closed {
            verdict: it.parsed("verdict", "a verdict", Verdict::parse)?,
            service: it.parsed("service", "what serves", ServiceState::parse)?,
            reason: it.text("reason")?,
        },
        _ => return Ok(None),
    }))
}

/// `None` when what it obeys is of a type that is not known here.
fn heard(it: &Reader<'_>) -> Result<Option<Entry>, WireError> {
    let obeys = it.child("obeys");
    let entry = match obeys.value.is_null() {
        true => None,
        false => match Entry::from_value(&obeys.text("type")?, obeys.child("body").value)? {
            Some(entry) => Some(Box::new(entry)),
            None => return Ok(None),
        },
    };
    Ok(Some(Entry::Heard {
        message: it.text("message")?,
        by: it.text("by")?,
        refused: it.optional_text("refused")?,
        obeys: entry,
    }))
}

fn created(it: &Reader<'_>) -> Result<Entry, WireError> {
    Ok(Entry::Created {
        plan: Box::new(Plan::from_value(it.child("plan").value)?),
        requester: it.text("requester")?,
        incident: it.text("incident")?,
        alert_at: time(it, "alert_at")?,
        declared_at: time(it, "declared_at")?,
        is_confirmed: it.flag("confirmed")?,
        supersedes: it.optional_text("supersedes")?,
        originals: it.parameters("originals")?,
    })
}

fn failed(it: &Reader<'_>) -> Result<Entry, WireError> {
    Ok(Entry::Failed {
        step: it.text("step")?,
        generation: small(it, "generation")?,
        attempt: small(it, "attempt")?,
        class: it.parsed("class", "a class of failure", FailureClass::parse)?,
        code: it.text("code")?,
        message: it.text("message")?,
        hint: it.text("hint")?,
    })
}

fn small(it: &Reader<'_>, field: &str) -> Result<u32, WireError> {
    u32::try_from(it.number(field)?).map_err(|_| it.wrong(field, "a small number"))
}

fn time(it: &Reader<'_>, field: &str) -> Result<Timestamp, WireError> {
    it.text(field)?.parse().map_err(|_| it.wrong(field, "a time"))
}
