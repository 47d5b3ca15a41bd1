//! `rollforward runbook SERVICE`: the plan as Markdown that a person can follow.

use recovery::plan::{Mode, runbook};

use super::Context;
use super::plan::{Wanted, make};
use crate::wiring::block_on;

/// Arguments of `runbook`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    wanted: Wanted,
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let service = config.service(arguments.wanted.service.as_deref())?;
    block_on(async {
        let (plan, _) = make(&config, service, &arguments.wanted, Mode::Incident).await?;
        let text = runbook(&plan);
        context.printer.result(&serde_json::json!({ "markdown": text }), text.trim_end());
        Ok(0)
    })
}
