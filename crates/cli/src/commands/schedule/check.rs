//! `rollforward schedule check`: the watchdog.

use super::Context;
use crate::config::Config;
use crate::output::{count, table};
use crate::schedule::watch::{self, Seen};
use crate::schedule::{facts, metrics};
use crate::wiring::block_on;

/// Arguments of `schedule check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(super) fn run(context: &Context<'_>, _arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    block_on(async {
        let mut seen = watch::all(&config).await;
        if let Err(error) = metrics::refresh(&config, facts::KEPT_FOR).await {
            seen.errors.push(format!("metrics: {error:#}"));
        }
        context.printer.result(
            &serde_json::json!({
                "wrong": seen.wrong, "unknown": seen.unknown, "errors": seen.errors,
            }),
            &text(&config, &seen),
        );
        for error in &seen.errors {
            context.printer.error_text(&format!("error: {error}"));
        }
        context.printer.next("rollforward schedule list");
        // What could not be looked at was told to nobody: the timer has to fail.
        Ok(match (seen.errors.is_empty(), seen.wrong.is_empty()) {
            (false, _) => 1,
            (true, false) => 3,
            (true, true) => 0,
        })
    })
}

fn text(config: &Config, seen: &Seen) -> String {
    if !seen.wrong.is_empty() {
        let mut list = table(&["about", "what", "seen"]);
        for found in &seen.wrong {
            list.add_row([&found.subject, found.what, &found.text]);
        }
        return list.to_string();
    }
    let archived = match seen.unknown.is_empty() {
        true => "everything that was written is archived".to_owned(),
        false => format!("what was written is not known of '{}'", seen.unknown.join("', '")),
    };
    match seen.errors.len() {
        0 => format!("{} on time, {archived}", count(config.schedule.jobs.len(), "job")),
        errors => format!("{} not looked at; {archived}", count(errors, "subject")),
    }
}
