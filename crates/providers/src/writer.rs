//! Applications that write: started and stopped by commands, or as units of systemd.

use async_trait::async_trait;
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::{Step, StepKind};

use crate::command::{self, PROBE_DEADLINE};

/// Every kind of writer that this binary can drive.
#[derive(Debug)]
pub(crate) struct Writers;

impl Writers {
    pub(crate) fn of(&self, step: &Step) -> Option<&dyn Effect> {
        let kind = step.parameters.get("writer").map(String::as_str)?;
        matches!(kind, "command" | "systemd").then_some(self as &dyn Effect)
    }
}

/// The words that start, stop or ask.
fn words(context: &StepContext, verb: &str) -> Result<Vec<String>, Failure> {
    if context.parameter("writer")? != "systemd" {
        return command::words(context, verb);
    }
    let unit = context.parameter("unit")?;
    Ok(match verb {
        "probe" => ["systemctl", "is-active", "--quiet", unit],
        verb => ["systemctl", verb, "--", unit],
    }
    .map(str::to_owned)
    .to_vec())
}

/// Whether it runs: 0 says yes; 1, and systemd's 3, say no.
async fn runs(context: &StepContext) -> Result<bool, Failure> {
    let ran = command::run(&words(context, "probe")?, Some(PROBE_DEADLINE)).await?;
    match ran.code {
        Some(0) => Ok(true),
        Some(1 | 3 | 4) => Ok(false),
        code => Err(Failure::ambiguous(
            "RF1101",
            format!("expected the probe to end with 0 or 1, seen {code:?}: {}", ran.said),
        )),
    }
}

fn starts(context: &StepContext) -> bool {
    context.step.kind == StepKind::StartWriter
}

fn object(context: &StepContext) -> String {
    let name = context.parameters.get("name").or_else(|| context.parameters.get("unit"));
    format!("writer {}", name.map_or("", String::as_str))
}

async fn bring(context: &StepContext, to_run: bool) -> Result<(), Failure> {
    if runs(context).await? != to_run {
        command::run_well(&words(context, if to_run { "start" } else { "stop" })?).await?;
    }
    Ok(())
}

#[async_trait]
impl Effect for Writers {
    async fn original(&self, context: &StepContext) -> Result<Option<(String, String)>, Failure> {
        let value = if runs(context).await? { "running" } else { "stopped" };
        Ok(Some((object(context), value.into())))
    }

    async fn probe(&self, context: &StepContext) -> Found {
        match runs(context).await {
            Ok(running) if running == starts(context) => Found::Done,
            Ok(_) => Found::Absent,
            Err(failure) => Found::Unknown(failure.message),
        }
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        bring(context, starts(context)).await
    }

    /// One that was stopped runs again if it ran; one that was started is stopped.
    async fn undo(&self, context: &StepContext) -> Result<String, Failure> {
        let ran = context.originals.get(&object(context)).is_none_or(|seen| seen == "running");
        let to_run = !starts(context) && ran;
        bring(context, to_run).await?;
        match runs(context).await? == to_run {
            true => Ok(if to_run { "it runs again" } else { "it is stopped" }.into()),
            false => Err(Failure::retry("RF1101", "the command ended well, but changed nothing")),
        }
    }
}
