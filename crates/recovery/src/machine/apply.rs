//! Folding records into a state.

use std::collections::BTreeMap;

use super::{Approval, Failed, Phase, State, Status, StepState, Untold};
use crate::journal::{Entry, Record};
use crate::plan::{PlanDigest, Stage, StepId, StepKind, UndoWhen};

/// A record that cannot follow the ones before it: the journal is not one that this machine wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {sequence} ({kind}) cannot stand here: {reason}")]
pub struct ApplyError {
    /// Its number.
    pub sequence: u32,
    /// Its type.
    pub kind: &'static str,
    /// Why.
    pub reason: String,
}

impl State {
    /// The state after a whole journal.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub fn replay(records: &[Record]) -> Result<Self, ApplyError> {
        let Some((first, rest)) = records.split_first() else {
            return Err(ApplyError { sequence: 0, kind: "", reason: "there is none".into() });
        };
        let mut state = Self::begin(first)?;
        for record in rest {
            state.apply(record)?;
        }
        Ok(state)
    }

    /// The state after the first record.
    ///
    /// # Errors
    /// [`ApplyError`] when it does not begin a run.
    pub fn begin(record: &Record) -> Result<Self, ApplyError> {
        let Entry::Created {
            plan,
            requester,
            incident,
            alert_at,
            declared_at,
            is_confirmed,
            supersedes,
            originals,
        } = &record.entry
        else {
            return Err(wrong(record, "a run begins with its plan".into()));
        };
        let fresh = StepState {
            generation: 1,
            attempts: 0,
            status: Status::Pending,
            may_have_acted: false,
            deadline_s: 0,
        };
        Ok(Self {
            run: record.run.clone(),
            digest: PlanDigest::of(plan),
            steps: vec![fresh; plan.steps.len()],
            plan: (**plan).clone(),
            requester: requester.clone(),
            incident: incident.clone(),
            alert_at: *alert_at,
            declared_at: *declared_at,
            is_confirmed: *is_confirmed,
            supersedes: supersedes.clone(),
            order: Vec::new(),
            phase: Phase::Forward,
            paused_by: None,
            candidate: 0,
            facts: BTreeMap::new(),
            originals: originals.clone(),
            approvals: Vec::new(),
            marks: BTreeMap::new(),
            measured: BTreeMap::new(),
            epoch: record.writer.epoch,
            untold: Vec::new(),
            has_told: false,
            warned: Vec::new(),
            heard: Vec::new(),
            refused: Vec::new(),
        })
    }

    /// The state after one more record.
    ///
    /// # Errors
    /// [`ApplyError`]; the state is then not to be used.
    pub fn apply(&mut self, record: &Record) -> Result<(), ApplyError> {
        if self.is_closed() && record.entry.must_understand() {
            return Err(wrong(record, "the run is over".into()));
        }
        match &record.entry {
            Entry::Created { .. } => return Err(wrong(record, "the run has begun before".into())),
            Entry::DriverChanged { .. } => {
                if record.writer.epoch <= self.epoch {
                    return Err(wrong(record, format!("epoch {} was before", record.writer.epoch)));
                }
                self.epoch = record.writer.epoch;
            }
            Entry::Original { object, value } => {
                // The first one counts.
                self.originals.entry(object.clone()).or_insert_with(|| value.clone());
            }
            Entry::Approved { gate, by, is_break_glass, .. } => self.approvals.push(Approval {
                gate: gate.clone(),
                by: by.clone(),
                is_break_glass: *is_break_glass,
            }),
            Entry::Heard { message, by, refused, obeys } => {
                self.heard.push(message.clone());
                self.refused.extend(refused.clone().map(|reason| (by.clone(), reason)));
                if let Some(entry) = obeys {
                    self.apply(&Record { entry: (**entry).clone(), ..record.clone() })?;
                }
            }
            Entry::Paused { by } => self.paused_by = Some(by.clone()),
            Entry::Resumed { .. } => self.paused_by = None,
            Entry::Fallback { candidate, .. } => self.fall_back(record, *candidate)?,
            Entry::RollbackBegun { reason, went_through } => {
                let (reason, went_through) = (reason.clone(), *went_through);
                self.phase = Phase::RollingBack { reason, went_through };
            }
            Entry::Halted { reason } => self.phase = Phase::Halted { reason: reason.clone() },
            Entry::Measured { name, value } => {
                drop(self.measured.insert(name.clone(), value.clone()));
            }
            Entry::Warned { text } => self.warned.push(text.clone()),
            Entry::Told { channel, what, outcome, text } => {
                self.told(channel, what, outcome, text.as_deref());
            }
            Entry::Closed { verdict, service, .. } => {
                self.phase = Phase::Closed { verdict: *verdict, service: *service };
            }
            Entry::Heartbeat => {}
            step => self.apply_to_step(record, step)?,
        }
        Ok(())
    }

    /// The moments of the clock that a step stands for: its record says when.
    fn mark(&mut self, at: usize, record: &Record) {
        let Some(step) = self.plan.steps.get(at) else { return };
        let is_last = !self.plan.steps.iter().skip(at + 1).any(|next| next.kind == step.kind);
        let name = match step.kind {
            kind if kind.is_fence() => "writes-stopped",
            StepKind::ProveApplication => "connected",
            // Users are back when they are led here; else when the door is open, or there is none.
            StepKind::SwitchTraffic if is_last => "healthy",
            StepKind::OpenDoor if !self.leads_traffic() => "healthy",
            StepKind::Smoke if is_last && !self.plan.has_door && !self.leads_traffic() => "healthy",
            _ => return,
        };
        self.marks.entry(name.into()).or_insert(record.wall);
    }

    fn leads_traffic(&self) -> bool {
        self.plan.steps.iter().any(|step| step.kind == StepKind::SwitchTraffic)
    }

    fn apply_to_step(&mut self, record: &Record, entry: &Entry) -> Result<(), ApplyError> {
        let id = entry.step().unwrap_or_default();
        let at = self
            .plan
            .position(&StepId::from_text(id))
            .ok_or_else(|| wrong(record, format!("the plan has no step '{id}'")))?;
        let Some(state) = self.steps.get_mut(at) else {
            return Err(wrong(record, format!("the plan has no step '{id}'")));
        };
        if let Some(generation) = generation_of(entry)
            && generation != state.generation
        {
            let reason = format!("expected generation {}, seen {generation}", state.generation);
            return Err(wrong(record, reason));
        }
        match entry {
            Entry::Intent { deadline_s, .. } => {
                state.deadline_s = *deadline_s;
                state.status = Status::Intended;
                state.may_have_acted = true;
            }
            Entry::Done { outputs, .. } => {
                state.status = Status::Done;
                state.may_have_acted = true;
                self.facts.extend(outputs.clone());
                self.mark(at, record);
            }
            Entry::Failed { attempt, class, code, message, hint, .. } => {
                state.attempts = *attempt;
                let is_final = !matches!(
                    class,
                    crate::journal::FailureClass::Retry | crate::journal::FailureClass::Ambiguous
                );
                if is_final {
                    state.status = Status::Failed(Failed {
                        class: *class,
                        code: code.clone(),
                        message: message.clone(),
                        hint: hint.clone(),
                    });
                }
            }
            Entry::Skipped { .. } => {
                state.status = Status::Skipped;
                self.leave_halt();
                return Ok(());
            }
            Entry::Retried { .. } => {
                state.generation += 1;
                state.attempts = 0;
                state.status = Status::Pending;
                self.leave_halt();
                return Ok(());
            }
            Entry::UndoIntent { .. } => state.status = Status::UndoIntended,
            Entry::Undone { .. } => self.undone(at),
            Entry::UndoFailed { .. } => state.status = Status::UndoFailed,
            _ => return Err(wrong(record, "it is about no step".into())),
        }
        if !self.order.contains(&at) {
            self.order.push(at);
        }
        Ok(())
    }

    /// A step that is undone for a fresh try, or for another candidate, begins anew.
    fn undone(&mut self, at: usize) {
        let begins_anew = matches!(self.phase, Phase::Forward | Phase::FallingBack);
        if let Some(state) = self.steps.get_mut(at) {
            state.may_have_acted = false;
            state.status = Status::Undone;
            if begins_anew {
                state.generation += 1;
                state.attempts = 0;
                state.status = Status::Pending;
            }
        }
        if self.phase == Phase::FallingBack && self.next_to_fall().is_none() {
            self.phase = Phase::Forward;
        }
    }

    fn fall_back(&mut self, record: &Record, candidate: u32) -> Result<(), ApplyError> {
        let candidate = candidate as usize;
        if candidate >= self.plan.candidates.len() {
            return Err(wrong(record, format!("the plan has no candidate {candidate}")));
        }
        self.candidate = candidate;
        for (step, state) in self.plan.steps.iter().zip(&mut self.steps) {
            let belongs = matches!(step.stage, Stage::Restore | Stage::Prove);
            if belongs && (step.undo_when == UndoWhen::Never || !state.may_have_acted) {
                if state.status != Status::Pending {
                    state.generation += 1;
                }
                state.attempts = 0;
                state.status = Status::Pending;
                state.may_have_acted = false;
            }
        }
        self.phase = match self.next_to_fall() {
            Some(_) => Phase::FallingBack,
            None => Phase::Forward,
        };
        Ok(())
    }

    /// The step of the restore that is to be undone next before another candidate is tried.
    pub(super) fn next_to_fall(&self) -> Option<usize> {
        self.order.iter().rev().copied().find(|at| {
            self.step(*at).is_some_and(|(step, state)| {
                matches!(step.stage, Stage::Restore | Stage::Prove)
                    && step.undo_when != UndoWhen::Never
                    && state.may_have_acted
            })
        })
    }

    fn leave_halt(&mut self) {
        if matches!(self.phase, Phase::Halted { .. }) {
            self.phase = Phase::Forward;
        }
    }

    fn told(&mut self, channel: &str, what: &str, outcome: &str, text: Option<&str>) {
        self.has_told |= outcome == "told";
        self.untold.retain(|it| it.channel != channel || it.what != what);
        if outcome != "told" {
            let text = text.unwrap_or_default().to_owned();
            self.untold.push(Untold { channel: channel.into(), what: what.into(), text });
        }
    }
}

fn generation_of(entry: &Entry) -> Option<u32> {
    match entry {
        Entry::Intent { generation, .. }
        | Entry::Done { generation, .. }
        | Entry::Failed { generation, .. }
        | Entry::UndoIntent { generation, .. }
        | Entry::Undone { generation, .. }
        | Entry::UndoFailed { generation, .. } => Some(*generation),
        _ => None,
    }
}

fn wrong(record: &Record, reason: String) -> ApplyError {
    ApplyError { sequence: record.sequence, kind: record.entry.kind(), reason }
}
