//! Doors: what keeps users out.

mod http;
mod pgbouncer;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::{Step, StepKind};

use crate::Secrets;
use crate::command::{self, PROBE_DEADLINE};
use http::HttpDoor;

/// Every kind of door that this binary can move.
pub(crate) struct Doors {
    http: HttpDoor,
}

impl Doors {
    pub(crate) fn new(secrets: Arc<dyn Secrets>) -> Result<Self, String> {
        Ok(Self { http: HttpDoor::new(secrets)? })
    }

    pub(crate) fn of(&self, step: &Step) -> Option<&dyn Effect> {
        let kind = step.parameters.get("door").map(String::as_str)?;
        matches!(kind, "file" | "command" | "http" | "pgbouncer").then_some(self as &dyn Effect)
    }

    async fn is_shut(&self, context: &StepContext) -> Result<bool, Failure> {
        match context.parameter("door")? {
            "file" => {
                let path = context.parameter("path")?;
                Path::new(path).try_exists().map_err(|error| {
                    Failure::ambiguous("RF1111", format!("'{path}' cannot be looked at: {error}"))
                })
            }
            "command" => {
                let words = command::words(context, "probe")?;
                let ran = command::run(&words, Some(PROBE_DEADLINE)).await?;
                match ran.code {
                    Some(0) => Ok(true),
                    Some(1) => Ok(false),
                    code => Err(Failure::ambiguous(
                        "RF1101",
                        format!(
                            "expected the probe to end with 0 or 1, seen {code:?}: {}",
                            ran.said
                        ),
                    )),
                }
            }
            "pgbouncer" => pgbouncer::is_paused(context).await,
            _ => self.http.is_shut(context).await,
        }
    }

    async fn move_to(&self, context: &StepContext, shut: bool) -> Result<(), Failure> {
        match (context.parameter("door")?, shut) {
            ("file", true) => {
                let path = context.parameter("path")?;
                let content = context.parameter("content")?;
                stdx::durable::write_atomic(Path::new(path), content.as_bytes(), 0o644).map_err(
                    |error| {
                        Failure::retry("RF1111", format!("'{path}' cannot be written: {error}"))
                    },
                )
            }
            ("file", false) => {
                let path = context.parameter("path")?;
                stdx::durable::remove(Path::new(path)).map_err(|error| {
                    Failure::retry("RF1111", format!("'{path}' cannot be removed: {error}"))
                })
            }
            ("command", shut) => {
                let words = command::words(context, if shut { "shut" } else { "open" })?;
                command::run_well(&words).await
            }
            ("pgbouncer", shut) => pgbouncer::pause(context, shut).await,
            (_, shut) => self.http.move_to(context, shut).await,
        }
    }
}

fn shuts(context: &StepContext) -> bool {
    context.step.kind == StepKind::ShutDoor
}

#[async_trait]
impl Effect for Doors {
    async fn original(&self, context: &StepContext) -> Result<Option<(String, String)>, Failure> {
        let value = if self.is_shut(context).await? { "shut" } else { "open" };
        Ok(Some(("door".into(), value.into())))
    }

    async fn probe(&self, context: &StepContext) -> Found {
        match self.is_shut(context).await {
            Ok(shut) if shut == shuts(context) => Found::Done,
            Ok(_) => Found::Absent,
            Err(failure) => Found::Unknown(failure.message),
        }
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        self.move_to(context, shuts(context)).await
    }

    /// As it was before the incident's first run touched it.
    async fn undo(&self, context: &StepContext) -> Result<String, Failure> {
        let Some(seen) = context.originals.get("door") else {
            return Ok("it was never touched".into());
        };
        let was_shut = seen == "shut";
        if self.is_shut(context).await? != was_shut {
            self.move_to(context, was_shut).await?;
        }
        match self.is_shut(context).await? == was_shut {
            true => {
                Ok(if was_shut { "it was shut before: left so" } else { "it is open again" }.into())
            }
            false => Err(Failure::retry("RF1111", "the door did not move")),
        }
    }
}
