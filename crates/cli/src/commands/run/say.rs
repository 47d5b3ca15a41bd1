//! What a person says to a run: signed, and left in its inbox.

use recovery::journal::{Message, MessageKind, send};
use recovery::machine::{Awaited, Next, State, Status};
use recovery::plan::PlanDigest;
use stdx::{Clock, SystemClock};

use super::super::Context;
use super::Speaker;
use crate::failure::Error;
use crate::orchestra::{files, open_home_of, persons};
use crate::secrets;
use crate::wiring::block_on;

/// Arguments of `run pause`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The run
    run: String,
    #[command(flatten)]
    speaker: Speaker,
}

/// Arguments of `run approve`.
#[derive(Debug, clap::Args)]
pub(crate) struct ApproveArguments {
    /// The run
    run: String,
    /// What is approved [default: what the run waits for]
    #[arg(long, value_name = "STEP")]
    gate: Option<String>,
    /// Nobody else answers: the requester approves alone, types what it costs, and says why
    #[arg(long, value_name = "REASON")]
    break_glass: Option<String>,
    /// What it costs, as the run shows it: for scripts
    #[arg(long, value_name = "TEXT")]
    cost: Option<String>,
    #[command(flatten)]
    speaker: Speaker,
}

/// Arguments of `run retry`.
#[derive(Debug, clap::Args)]
pub(crate) struct StepArguments {
    /// The run
    run: String,
    /// The step [default: the one that failed]
    #[arg(long, value_name = "STEP")]
    step: Option<String>,
    #[command(flatten)]
    speaker: Speaker,
}

/// Arguments of `run skip`.
#[derive(Debug, clap::Args)]
pub(crate) struct SkipArguments {
    /// The run
    run: String,
    /// The step
    #[arg(long, value_name = "STEP")]
    step: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    speaker: Speaker,
}

/// Arguments of `run abort`.
#[derive(Debug, clap::Args)]
pub(crate) struct AbortArguments {
    /// The run
    run: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    speaker: Speaker,
}

/// Leaves a message; `kind` sees the run as it stands.
fn say(
    context: &Context<'_>,
    run: &str,
    speaker: &Speaker,
    kind: impl FnOnce(&State) -> anyhow::Result<MessageKind>,
) -> anyhow::Result<u8> {
    let config = context.config()?;
    block_on(async {
        let home = open_home_of(&config, run, true, context.printer).await?;
        let loaded = home.load(run).await?;
        let state = State::replay(&loaded.records)?;
        if state.is_closed() {
            return Err(Error::Refused {
                what: format!("run '{run}' is over"),
                hint: format!("rollforward report {run}"),
            }
            .into());
        }
        let person = persons::requester(speaker.person.as_deref());
        let key = persons::signer(&config, &person, speaker.key_file.as_deref())?;
        let message = Message {
            run: run.into(),
            digest: PlanDigest::of(&state.plan).to_string(),
            target: state.plan.target.to_string(),
            person: person.clone(),
            at: SystemClock::new().now(),
            kind: kind(&state)?,
        };
        let id = send(&home, &message, key.as_ref()).await?;
        let document = serde_json::json!({ "message": id.to_string(), "run": run, "by": person });
        context.printer.result(&document, &format!("said to {run}"));
        context.printer.next(&match files::driver_is_gone(&config, run) {
            true => format!("its driver is gone: rollforward run resume {run}"),
            false => format!("rollforward run watch {run}"),
        });
        Ok(0)
    })
}

pub(super) fn pause(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    say(context, &arguments.run, &arguments.speaker, |_| Ok(MessageKind::Pause))
}

pub(super) fn approve(context: &Context<'_>, arguments: &ApproveArguments) -> anyhow::Result<u8> {
    say(context, &arguments.run, &arguments.speaker, |state| {
        let (waits_for, text) = match state.next() {
            Next::Await(Awaited::Approval { gate, text, .. }) => (Some(gate), text),
            _ => (None, String::new()),
        };
        let gate = arguments.gate.clone().or(waits_for).ok_or_else(|| {
            Error::Usage("the run waits for no approval; name one with --gate".into())
        })?;
        if let Some(reason) = &arguments.break_glass {
            let typed = match &arguments.cost {
                Some(cost) => cost.clone(),
                None => secrets::ask(&format!("type \"{text}\": "))?,
            };
            if typed != text {
                return Err(Error::Refused {
                    what: format!("expected \"{text}\", seen \"{typed}\""),
                    hint: "nothing was approved".into(),
                }
                .into());
            }
            return Ok(MessageKind::Approve { gate, is_break_glass: true, reason: reason.clone() });
        }
        Ok(MessageKind::Approve { gate, is_break_glass: false, reason: String::new() })
    })
}

pub(super) fn retry(context: &Context<'_>, arguments: &StepArguments) -> anyhow::Result<u8> {
    say(context, &arguments.run, &arguments.speaker, |state| {
        let failed = state
            .plan
            .steps
            .iter()
            .zip(&state.steps)
            .find(|(_, step)| matches!(step.status, Status::Failed(_) | Status::UndoFailed));
        let step = arguments.step.clone().or(failed.map(|(step, _)| step.id.to_string()));
        step.map(MessageKind::Retry)
            .ok_or_else(|| Error::Usage("no step has failed; name one with --step".into()).into())
    })
}

pub(super) fn skip(context: &Context<'_>, arguments: &SkipArguments) -> anyhow::Result<u8> {
    let kind = MessageKind::Skip { step: arguments.step.clone(), reason: arguments.reason.clone() };
    say(context, &arguments.run, &arguments.speaker, |_| Ok(kind))
}

pub(super) fn abort(context: &Context<'_>, arguments: &AbortArguments) -> anyhow::Result<u8> {
    let kind = MessageKind::Abort(arguments.reason.clone());
    say(context, &arguments.run, &arguments.speaker, |_| Ok(kind))
}
