//! Applications that write: started and stopped by commands, or as units of systemd.

mod systemd;

use async_trait::async_trait;
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::{Step, StepKind};

use self::systemd::Systemd;
use crate::command::{self, PROBE_DEADLINE};

/// Every kind of writer that this binary can drive.
#[derive(Debug, Default)]
pub(crate) struct Writers {
    systemd: Systemd,
}

/// Which way an application is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// Whether an application runs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Runs {
    Yes,
    No,
    /// On its way, as systemd calls it.
    Between(Way),
}

impl Writers {
    /// Writers whose units are asked for at this address of D-Bus instead of the system's.
    pub(crate) fn at_bus(address: &str) -> Self {
        Self { systemd: Systemd { address: Some(address.into()) } }
    }

    pub(crate) fn of(&self, step: &Step) -> Option<&dyn Effect> {
        let kind = step.parameters.get("writer").map(String::as_str)?;
        matches!(kind, "command" | "systemd").then_some(self as &dyn Effect)
    }

    async fn runs(&self, context: &StepContext) -> Result<Runs, Failure> {
        match context.parameter("writer")? {
            "systemd" => self.systemd.runs(context.parameter("unit")?).await,
            _ => asked(context).await,
        }
    }

    async fn bring(&self, context: &StepContext, to_run: bool) -> Result<(), Failure> {
        let wanted = if to_run { Runs::Yes } else { Runs::No };
        if self.runs(context).await? == wanted {
            return Ok(());
        }
        match context.parameter("writer")? {
            "systemd" => self.systemd.bring(context.parameter("unit")?, to_run).await,
            _ => {
                let verb = if to_run { "start" } else { "stop" };
                command::run_well(&command::words(context, verb)?).await
            }
        }
    }
}

/// What its probe says: 0 is yes, 1 is no.
async fn asked(context: &StepContext) -> Result<Runs, Failure> {
    let ran = command::run(&command::words(context, "probe")?, Some(PROBE_DEADLINE)).await?;
    match ran.code {
        Some(0) => Ok(Runs::Yes),
        Some(1) => Ok(Runs::No),
        code => Err(Failure::ambiguous(
            "RF1101",
            format!("expected the probe to end with 0 or 1, seen {code:?}: {}", ran.said),
        )),
    }
}

fn starts(context: &StepContext) -> bool {
    matches!(context.step.kind, StepKind::StartWriter | StepKind::ActivateSite)
}

fn object(context: &StepContext) -> String {
    let name = context.parameters.get("name").or_else(|| context.parameters.get("unit"));
    format!("writer {}", name.map_or("", String::as_str))
}

#[async_trait]
impl Effect for Writers {
    async fn original(&self, context: &StepContext) -> Result<Option<(String, String)>, Failure> {
        // One that is on its way up or down was meant to run.
        let value = if self.runs(context).await? == Runs::No { "stopped" } else { "running" };
        Ok(Some((object(context), value.into())))
    }

    async fn probe(&self, context: &StepContext) -> Found {
        match self.runs(context).await {
            // On its way to somewhere else, one that crashes and is started again say, it has to be
            // told.
            Ok(Runs::Between(way)) if (way == Way::Up) == starts(context) => {
                Found::Running { progress: format!("{way:?}").to_lowercase() }
            }
            Ok(Runs::Between(_)) => Found::Absent,
            Ok(seen) if (seen == Runs::Yes) == starts(context) => Found::Done,
            Ok(_) => Found::Absent,
            Err(failure) => Found::Unknown(failure.message),
        }
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        self.bring(context, starts(context)).await
    }

    /// One that was stopped runs again if it ran; one that was started is stopped. One that was
    /// found as it should be is nobody's to change.
    async fn undo(&self, context: &StepContext) -> Result<String, Failure> {
        let Some(seen) = context.originals.get(&object(context)) else {
            return Ok("it was never touched".into());
        };
        let ran = seen == "running";
        if ran && context.step.kind == StepKind::ActivateSite {
            return Ok("it ran before: left so".into());
        }
        let to_run = !starts(context) && ran;
        self.bring(context, to_run).await?;
        let wanted = if to_run { Runs::Yes } else { Runs::No };
        match self.runs(context).await? == wanted {
            true => Ok(if to_run { "it runs again" } else { "it is stopped" }.into()),
            false => Err(Failure::retry("RF1101", "the command ended well, but changed nothing")),
        }
    }
}
