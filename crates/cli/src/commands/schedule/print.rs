//! `rollforward schedule print`.

use super::{Context, must_be_runnable};
use crate::schedule::text;
use crate::wiring;

/// Arguments of `schedule print`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Timers and services of systemd (the default)
    #[arg(long, conflicts_with = "cron")]
    systemd: bool,
    /// A crontab: with `user` a file of /etc/cron.d, else a user's own
    #[arg(long)]
    cron: bool,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    must_be_runnable(&config)?;
    let program = wiring::own_program()?;
    if arguments.cron {
        let text = text::crontab(&config, &program)?;
        context.printer.result(&serde_json::json!({ "crontab": text }), text.trim_end());
        context.printer.next("rollforward schedule install --cron FILE");
        return Ok(0);
    }
    let units = text::units(&config, &program);
    let shown: Vec<String> =
        units.iter().map(|(name, content)| format!("# {name}\n{content}")).collect();
    let document: serde_json::Map<String, serde_json::Value> =
        units.iter().map(|(name, content)| (name.clone(), content.clone().into())).collect();
    context.printer.result(&serde_json::json!({ "units": document }), shown.join("\n").trim_end());
    context.printer.next("rollforward schedule install --systemd /etc/systemd/system");
    Ok(0)
}
