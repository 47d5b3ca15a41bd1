//! Messages: found, checked, journaled, obeyed.

use stdx::Id;

use super::{Drive, Event, RunError};
use crate::journal::{Entry, Message, MessageKind, read_inbox};
use crate::machine::{Phase, State, Status};
use crate::plan::{StepId, StepKind};
use crate::service::{APPROVING_ROLES, DRIVING_ROLES};

impl Drive<'_> {
    /// Deals with every message that came since.
    pub(super) async fn read_inbox(&mut self) -> Result<(), RunError> {
        let State { run, plan, digest, heard, .. } = &self.state;
        let known: Vec<Id> = heard.iter().filter_map(|id| id.parse().ok()).collect();
        let messages = match read_inbox(&self.driver.home, run, plan, *digest, &known).await {
            Ok(messages) => messages,
            // Nobody is heard for a moment; the next append tells whether the home is lost.
            Err(_) => return Ok(()),
        };
        for received in messages {
            let refused = received.refused.or_else(|| self.refuse(&received.message));
            let by = received.message.person.clone();
            if let Some(reason) = &refused {
                self.tell(&Event::Refused { person: &by, reason });
            }
            if self.state.is_closed() {
                continue;
            }
            let obeys = match &refused {
                Some(_) => None,
                None => self.entry_of(&received.message).map(Box::new),
            };
            self.append(Entry::Heard { message: received.id.to_string(), by, refused, obeys })
                .await?;
        }
        Ok(())
    }

    /// What a message asks for, as a record; `None` when it was obeyed before.
    fn entry_of(&self, message: &Message) -> Option<Entry> {
        let by = message.person.clone();
        match &message.kind {
            MessageKind::Approve { gate, is_break_glass, reason } => {
                let known = self.state.approvals.iter().any(|it| it.gate == *gate && it.by == by);
                (!known).then(|| Entry::Approved {
                    gate: gate.clone(),
                    by,
                    is_break_glass: *is_break_glass,
                    reason: reason.clone(),
                })
            }
            MessageKind::Pause => self.state.paused_by.is_none().then_some(Entry::Paused { by }),
            MessageKind::Resume => self.state.paused_by.is_some().then_some(Entry::Resumed { by }),
            MessageKind::Retry(step) => Some(Entry::Retried { step: step.clone(), by }),
            MessageKind::Skip { step, reason } => {
                Some(Entry::Skipped { step: step.clone(), by, reason: reason.clone() })
            }
            MessageKind::Abort(reason) => Some(Entry::RollbackBegun {
                reason: format!("aborted by {by}: {reason}"),
                went_through: false,
            }),
        }
    }

    /// Why a well-signed message does not count now.
    fn refuse(&self, message: &Message) -> Option<String> {
        if self.state.is_closed() {
            return Some("the run is over".into());
        }
        let person = self.state.plan.persons.get(&message.person);
        let is_approval = matches!(message.kind, MessageKind::Approve { .. });
        if !is_approval && person.is_some_and(|person| !person.is_one_of(&DRIVING_ROLES)) {
            return Some(format!(
                "'{}' has no role that drives runs: {}",
                message.person,
                DRIVING_ROLES.join(" or ")
            ));
        }
        match &message.kind {
            MessageKind::Approve { is_break_glass, gate, .. } => {
                self.refuse_approval(message, gate, *is_break_glass)
            }
            MessageKind::Abort(_) if self.state.is_past_the_point() => {
                Some("the point of no return is passed".into())
            }
            MessageKind::Abort(_) if matches!(self.state.phase, Phase::RollingBack { .. }) => {
                Some("it is rolling back already".into())
            }
            MessageKind::Retry(step) | MessageKind::Skip { step, .. } => {
                let at = self.state.plan.position(&StepId::from_text(step));
                let Some((step, state)) = at.and_then(|at| self.state.step(at)) else {
                    return Some(format!("the plan has no step '{step}'"));
                };
                let is_skip = matches!(message.kind, MessageKind::Skip { .. });
                let is_needed = step.kind == StepKind::PointOfNoReturn || step.kind.is_fence();
                if is_skip && is_needed {
                    return Some(format!("step '{}' cannot be left out", step.id));
                }
                let waits = matches!(
                    state.status,
                    Status::Failed(_) | Status::Pending | Status::UndoFailed
                );
                (!waits).then(|| format!("step '{}' is under way or done", step.id))
            }
            MessageKind::Pause | MessageKind::Resume | MessageKind::Abort(_) => None,
        }
    }

    fn refuse_approval(&self, message: &Message, gate: &str, is_glass: bool) -> Option<String> {
        let is_gate = gate.starts_with("fallback.")
            || self.state.plan.position(&StepId::from_text(gate)).is_some();
        if !is_gate {
            return Some(format!("there is no gate '{gate}'"));
        }
        let is_point = self
            .state
            .plan
            .steps
            .iter()
            .any(|step| step.id.as_str() == gate && step.kind == StepKind::PointOfNoReturn);
        let by_requester = message.person == self.state.requester;
        if is_point && by_requester && self.state.is_confirmed && !is_glass {
            return Some("the requester counts once".into());
        }
        if is_glass && !by_requester {
            return Some("breaking the glass is for the requester".into());
        }
        let person = self.state.plan.persons.get(&message.person);
        let may_approve = person.is_none_or(|person| person.is_one_of(&APPROVING_ROLES));
        (!may_approve).then(|| format!("'{}' has no role that approves", message.person))
    }
}
