//! A plan as JSON, both ways, by hand: what is stored changes only on purpose.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    Alternative, Candidate, Class, Limits, Mode, Parameters, Plan, Stage, Step, StepId, StepKind,
    Target, UndoWhen,
};
use crate::service::{Escalation, Objectives, OnFailure, Person, Policy};

/// The version of this form.
const FORMAT: u64 = 1;

/// A text that is no plan, or one of a newer binary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field is missing or of another type.
    #[error("expected {expected} at '{at}'")]
    Field {
        /// The field.
        at: String,
        /// What should stand there.
        expected: &'static str,
    },
    /// A step that this binary does not know: the plan may be shown, not driven.
    #[error("step '{step}' is of kind '{kind}', which this version does not know")]
    UnknownKind {
        /// The step.
        step: String,
        /// Its kind.
        kind: String,
    },
    /// A form of a later version.
    #[error("expected a plan of format {FORMAT}, seen {0}")]
    Newer(u64),
}

impl Plan {
    /// The plan as JSON.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let (target_kind, target_value) = self.target.parts();
        let mut value = json!({
            "format": FORMAT,
            "binary": self.binary,
            "service": self.service,
            "mode": self.mode.text(),
            "method": self.method,
            "reason": self.reason,
            "target": { "kind": target_kind, "value": target_value },
            "steps": self.steps.iter().map(step_value).collect::<Vec<_>>(),
            "candidates": self.candidates.iter().map(candidate_value).collect::<Vec<_>>(),
            "alternatives": self.alternatives.iter().map(alternative_value).collect::<Vec<_>>(),
            "objectives": {
                "rpo_s": self.objectives.rpo.as_secs(), "rto_s": self.objectives.rto.as_secs(),
            },
            "policy": {
                "on_failure": self.policy.on_failure.text(),
                "final_persons": self.policy.final_persons,
                "extra_loss_s": self.policy.extra_loss.as_secs(),
                "keep_old_s": self.policy.keep_old.as_secs(),
            },
            "persons": self.persons.iter().map(|(name, person)| {
                (name.clone(), json!({ "key": person.key, "roles": person.roles }))
            }).collect::<Map<_, _>>(),
            "tell": self.tell,
            "escalate": self.escalate.iter().map(|it| json!({
                "channel": it.channel, "after_s": it.after.as_secs(), "to": it.to,
            })).collect::<Vec<_>>(),
            "has_door": self.has_door,
            "warnings": self.warnings,
            "predicted_loss_s": self.predicted_loss_s,
            "predicted_rto_s": self.predicted_rto_s(),
        });
        // Not there rather than null: plans from before have the same digest.
        if let (Some(site), Some(fields)) = (&self.site, value.as_object_mut()) {
            fields.insert("site".into(), Value::from(site.as_str()));
        }
        value
    }

    /// A plan from its JSON.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn from_value(value: &Value) -> Result<Self, WireError> {
        let reader = Reader { value, at: "plan".into() };
        let format = reader.number("format")?;
        if format != FORMAT {
            return Err(WireError::Newer(format));
        }
        let target = reader.child("target");
        let kind = target.text("kind")?;
        let objectives = reader.child("objectives");
        Ok(Self {
            binary: reader.text("binary")?,
            service: reader.text("service")?,
            mode: reader.parsed("mode", "a mode", Mode::parse)?,
            site: reader.optional_text("site")?,
            method: reader.text("method")?,
            reason: reader.text("reason")?,
            target: Target::from_parts(&kind, &target.text("value")?)
                .ok_or_else(|| target.wrong("kind", "a kind of target"))?,
            steps: reader.list("steps", read_step)?,
            candidates: reader.list("candidates", read_candidate)?,
            alternatives: reader.list("alternatives", read_alternative)?,
            objectives: Objectives {
                rpo: Duration::from_secs(objectives.number("rpo_s")?),
                rto: Duration::from_secs(objectives.number("rto_s")?),
            },
            policy: read_policy(&reader.child("policy"))?,
            persons: reader.map("persons", |person| {
                Ok(Person { key: person.text("key")?, roles: person.texts("roles")? })
            })?,
            tell: reader.texts("tell")?,
            escalate: reader.list("escalate", |it| {
                Ok(Escalation {
                    channel: it.text("channel")?,
                    after: Duration::from_secs(it.number("after_s")?),
                    to: it.text("to")?,
                })
            })?,
            has_door: reader.flag("has_door")?,
            warnings: reader.texts("warnings")?,
            predicted_loss_s: reader.optional_number("predicted_loss_s")?,
        })
    }
}

fn step_value(step: &Step) -> Value {
    json!({
        "id": step.id.as_str(),
        "stage": step.stage.text(),
        "kind": step.kind.text(),
        "class": step.class.text(),
        "parameters": parameters_value(&step.parameters),
        "host": step.host,
        "identity": parameters_value(&step.identity),
        "effect": step.effect,
        "undo": step.undo,
        "undo_when": step.undo_when.text(),
        "command": step.command,
        "predicted_s": step.predicted_s,
        "base_s": step.base_s,
        "attempt_s": step.limits.attempt_s,
        "step_s": step.limits.step_s,
        "quiet_s": step.limits.quiet_s,
        "optional": step.is_optional,
    })
}

fn read_step(reader: &Reader<'_>) -> Result<Step, WireError> {
    let (id, kind) = (reader.text("id")?, reader.text("kind")?);
    let kind = StepKind::parse(&kind)
        .ok_or_else(|| WireError::UnknownKind { step: id.clone(), kind: kind.clone() })?;
    Ok(Step {
        id: StepId::from_text(&id),
        stage: reader.parsed("stage", "a stage", Stage::parse)?,
        kind,
        class: reader.parsed("class", "a class", Class::parse)?,
        parameters: reader.parameters("parameters")?,
        host: reader.optional_text("host")?,
        identity: reader.parameters("identity")?,
        effect: reader.text("effect")?,
        undo: reader.text("undo")?,
        undo_when: reader.parsed("undo_when", "when it is undone", UndoWhen::parse)?,
        command: reader.optional_text("command")?,
        predicted_s: reader.number("predicted_s")?,
        base_s: reader.number("base_s")?,
        limits: Limits {
            attempt_s: reader.number("attempt_s")?,
            step_s: reader.number("step_s")?,
            quiet_s: reader.number("quiet_s")?,
        },
        is_optional: reader.flag("optional")?,
    })
}

fn candidate_value(candidate: &Candidate) -> Value {
    json!({
        "name": candidate.name,
        "parameters": parameters_value(&candidate.parameters),
        "same_target": candidate.is_same_target,
        "extra_loss_s": candidate.extra_loss_s,
        "reason": candidate.reason,
    })
}

fn read_candidate(reader: &Reader<'_>) -> Result<Candidate, WireError> {
    Ok(Candidate {
        name: reader.text("name")?,
        parameters: reader.parameters("parameters")?,
        is_same_target: reader.flag("same_target")?,
        extra_loss_s: reader.number("extra_loss_s")?,
        reason: reader.text("reason")?,
    })
}

fn alternative_value(alternative: &Alternative) -> Value {
    json!({
        "method": alternative.method,
        "what": alternative.what,
        "rto_s": alternative.rto_s,
        "loss_s": alternative.loss_s,
        "reason": alternative.reason,
        "chosen": alternative.is_chosen,
    })
}

fn read_alternative(reader: &Reader<'_>) -> Result<Alternative, WireError> {
    Ok(Alternative {
        method: reader.text("method")?,
        what: reader.text("what")?,
        rto_s: reader.optional_number("rto_s")?,
        loss_s: reader.optional_number("loss_s")?,
        reason: reader.text("reason")?,
        is_chosen: reader.flag("chosen")?,
    })
}

fn read_policy(reader: &Reader<'_>) -> Result<Policy, WireError> {
    let on_failure = match reader.text("on_failure")?.as_str() {
        "stay-shut" => OnFailure::StayShut,
        "reopen-old" => OnFailure::ReopenOld,
        _ => return Err(reader.wrong("on_failure", "stay-shut or reopen-old")),
    };
    Ok(Policy {
        on_failure,
        final_persons: u32::try_from(reader.number("final_persons")?)
            .map_err(|_| reader.wrong("final_persons", "a small number"))?,
        extra_loss: Duration::from_secs(reader.number("extra_loss_s")?),
        keep_old: Duration::from_secs(reader.number("keep_old_s")?),
    })
}

/// Named texts as a JSON object.
#[must_use]
pub(crate) fn parameters_value(parameters: &Parameters) -> Value {
    parameters.iter().map(|(name, text)| (name.clone(), json!(text))).collect::<Map<_, _>>().into()
}

/// Walks over JSON and names the place of what is wrong.
#[derive(Debug)]
pub(crate) struct Reader<'v> {
    pub(crate) value: &'v Value,
    pub(crate) at: String,
}

impl<'v> Reader<'v> {
    pub(crate) fn wrong(&self, field: &str, expected: &'static str) -> WireError {
        WireError::Field { at: format!("{}.{field}", self.at), expected }
    }

    pub(crate) fn child(&self, field: &str) -> Self {
        let value = self.value.get(field).unwrap_or(&Value::Null);
        Reader { value, at: format!("{}.{field}", self.at) }
    }

    pub(crate) fn text(&self, field: &str) -> Result<String, WireError> {
        let found = self.value.get(field).and_then(Value::as_str);
        found.map(str::to_owned).ok_or_else(|| self.wrong(field, "text"))
    }

    pub(crate) fn optional_text(&self, field: &str) -> Result<Option<String>, WireError> {
        match self.value.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.text(field).map(Some),
        }
    }

    pub(crate) fn number(&self, field: &str) -> Result<u64, WireError> {
        let found = self.value.get(field).and_then(Value::as_u64);
        found.ok_or_else(|| self.wrong(field, "a number"))
    }

    pub(crate) fn optional_number(&self, field: &str) -> Result<Option<u64>, WireError> {
        match self.value.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.number(field).map(Some),
        }
    }

    pub(crate) fn flag(&self, field: &str) -> Result<bool, WireError> {
        let found = self.value.get(field).and_then(Value::as_bool);
        found.ok_or_else(|| self.wrong(field, "true or false"))
    }

    pub(crate) fn parsed<T>(
        &self,
        field: &str,
        expected: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, WireError> {
        parse(&self.text(field)?).ok_or_else(|| self.wrong(field, expected))
    }

    pub(crate) fn list<T>(
        &self,
        field: &str,
        read: impl Fn(&Reader<'_>) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let items = self.value.get(field).and_then(Value::as_array);
        let items = items.ok_or_else(|| self.wrong(field, "a list"))?;
        let numbered = items.iter().enumerate();
        numbered
            .map(|(number, value)| {
                read(&Reader { value, at: format!("{}.{field}[{number}]", self.at) })
            })
            .collect()
    }

    pub(crate) fn texts(&self, field: &str) -> Result<Vec<String>, WireError> {
        self.list(field, |item| {
            item.value
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| WireError::Field { at: item.at.clone(), expected: "text" })
        })
    }

    pub(crate) fn map<T>(
        &self,
        field: &str,
        read: impl Fn(&Reader<'_>) -> Result<T, WireError>,
    ) -> Result<BTreeMap<String, T>, WireError> {
        let members = self.value.get(field).and_then(Value::as_object);
        let members = members.ok_or_else(|| self.wrong(field, "an object"))?;
        members
            .iter()
            .map(|(name, value)| {
                let at = format!("{}.{field}.{name}", self.at);
                Ok((name.clone(), read(&Reader { value, at })?))
            })
            .collect()
    }

    pub(crate) fn parameters(&self, field: &str) -> Result<Parameters, WireError> {
        self.map(field, |item| {
            item.value
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| WireError::Field { at: item.at.clone(), expected: "text" })
        })
    }
}
