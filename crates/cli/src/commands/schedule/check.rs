//! `rollforward schedule check`: the watchdog.

use super::Context;
use crate::output::{count, table};
use crate::schedule::{facts, metrics, watch};
use crate::wiring::block_on;

/// Arguments of `schedule check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(super) fn run(context: &Context<'_>, _arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    block_on(async {
        let wrong = watch::all(&config).await?;
        metrics::refresh(&config, facts::KEPT_FOR).await?;
        let mut list = table(&["about", "what", "seen"]);
        for found in &wrong {
            list.add_row([&found.subject, found.what, &found.text]);
        }
        let text = match wrong.is_empty() {
            true => {
                let jobs = count(config.schedule.jobs.len(), "job");
                format!("{jobs} on time, everything that was written is archived")
            }
            false => list.to_string(),
        };
        context.printer.result(&serde_json::json!({ "wrong": wrong }), &text);
        context.printer.next("rollforward schedule list");
        Ok(if wrong.is_empty() { 0 } else { 3 })
    })
}
