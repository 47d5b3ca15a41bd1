//! `rollforward schedule list`.

use jiff::Timestamp;
use serde::Serialize;

use super::Context;
use crate::output::table;
use crate::schedule::record::{self, Ended};

/// Arguments of `schedule list`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

#[derive(Serialize)]
struct Row {
    job: String,
    run: String,
    at: String,
    running: bool,
    last: Option<Ended>,
    last_success: Option<Ended>,
    successes: u64,
    failures: u64,
    /// When another one of its kind last kept it from running.
    skipped: Option<Timestamp>,
    alarms: Vec<String>,
    #[serde(skip)]
    is_skipped: bool,
}

pub(super) fn run(context: &Context<'_>, _arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let mut rows = Vec::new();
    for job in config.schedule.jobs.values() {
        let record = record::look(&config, &job.name);
        let known = record.as_ref();
        rows.push(Row {
            job: job.name.clone(),
            run: job.run(),
            at: job.at.on_calendar(),
            running: known.is_some_and(|it| it.running.as_ref().is_some_and(|it| it.lives())),
            last: known.and_then(|record| record.last.clone()),
            last_success: known.and_then(|record| record.last_success.clone()),
            successes: known.map_or(0, |record| record.successes),
            failures: known.map_or(0, |record| record.failures),
            skipped: known.and_then(|record| record.skipped),
            is_skipped: known.is_some_and(record::Record::is_skipped),
            alarms: known.map(|it| it.alarms.keys().cloned().collect()).unwrap_or_default(),
        });
    }
    let mut list = table(&["job", "run", "at", "last", "last success", "alarms"]);
    for row in &rows {
        let last = match (&row.last, row.running) {
            (_, true) => "runs now".to_owned(),
            (None, false) => "never".to_owned(),
            (Some(last), false) => {
                format!("{} {}", if last.is_success { "done" } else { "failed" }, last.ended)
            }
        };
        let last = match row.skipped.filter(|_| row.is_skipped) {
            Some(at) => format!("{last}; skipped {at}"),
            None => last,
        };
        let success = row.last_success.as_ref().map(|last| last.ended.to_string());
        let alarms = row.alarms.join(", ");
        list.add_row([&row.job, &row.run, &row.at, &last, &success.unwrap_or_default(), &alarms]);
    }
    context.printer.result(&serde_json::json!({ "jobs": rows }), &list.to_string());
    context.printer.next("rollforward schedule print");
    Ok(0)
}
