//! `run show` and `run watch`.

use std::time::Duration;

use recovery::journal::{Home, HomeError};
use recovery::machine::{Next, State, Status};
use recovery::plan::duration_text;
use recovery::report::Report;
use serde_json::Value;

use super::super::Context;
use crate::orchestra::show::{entry_line, waiting};
use crate::orchestra::{files, open_home_of};
use crate::wiring::block_on;

/// How often a watched journal is looked at.
const PERIOD: Duration = Duration::from_millis(500);

/// Arguments of `run show` and `run watch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The run, as `rollforward runs` lists it
    run: String,
}

fn status(state: &State, at: usize) -> &'static str {
    match state.steps.get(at).map(|step| &step.status) {
        Some(Status::Done) => "done",
        Some(Status::Intended) => "under way",
        Some(Status::Failed(_)) => "failed",
        Some(Status::Skipped) => "left out",
        Some(Status::UndoIntended) => "being undone",
        Some(Status::Undone) => "undone",
        Some(Status::UndoFailed) => "not undone",
        Some(Status::Pending) | None => "",
    }
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    block_on(async {
        let home = open_home_of(&config, &arguments.run, false, context.printer).await?;
        let loaded = match home.load(&arguments.run).await {
            Err(HomeError::Newer { reason, .. }) => {
                return show_newer(context, &home, &arguments.run, &reason).await;
            }
            loaded => loaded?,
        };
        let report = Report::of(&loaded)?;
        let state = &report.state;
        let mut text = format!(
            "{}: {} of service '{}', {} to {}: {}\n",
            report.run,
            state.plan.mode.text(),
            state.plan.service,
            state.plan.method,
            state.plan.target,
            report.verdict()
        );
        for (at, step) in state.plan.steps.iter().enumerate() {
            text.push_str(&format!(
                "{:>3}. {:<32} {}\n",
                at + 1,
                step.id.as_str(),
                status(state, at)
            ));
        }
        match state.next() {
            Next::Await(awaited) => text.push_str(&waiting(state, &awaited)),
            Next::Finished => {}
            _ => text.push_str(&format!(
                "{} to go{}",
                duration_text(state.predicted_rest_s()),
                match files::driver_is_gone(&config, &report.run) {
                    true => "; its driver is gone",
                    false => "",
                }
            )),
        }
        context.printer.result(&report.to_value(), text.trim_end());
        context.printer.next(&match report.ended {
            Some(_) => format!("rollforward report {}", report.run),
            None => format!("rollforward run watch {0}, or resume {0}", report.run),
        });
        Ok(0)
    })
}

/// A run that a newer version drives is shown as it is written, and not touched.
async fn show_newer(
    context: &Context<'_>,
    home: &Home,
    run: &str,
    reason: &str,
) -> anyhow::Result<u8> {
    let contents = home.contents(run).await?;
    let word = |value: &Value, pointer: &str| {
        value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let mut text = format!("{run}: {reason}; it is shown as it is written, and cannot be driven\n");
    let first = contents.first().unwrap_or(&Value::Null);
    let steps = first.pointer("/body/plan/steps").and_then(Value::as_array);
    for (at, step) in steps.into_iter().flatten().enumerate() {
        let line = format!("{:>3}. {:<32} {}\n", at + 1, word(step, "/id"), word(step, "/effect"));
        text.push_str(&line);
    }
    for record in &contents {
        let line =
            [word(record, "/wall"), word(record, "/type"), word(record, "/body/step")].join(" ");
        text.push_str(&format!("{}\n", line.trim_end()));
    }
    let newest = contents.last().map(|record| word(record, "/binary")).unwrap_or_default();
    let document = serde_json::json!({ "run": run, "newer": reason, "records": contents });
    context.printer.result(&document, text.trim_end());
    context
        .printer
        .next(&format!("use version {newest} to drive it; its runbook can be followed by hand"));
    Ok(0)
}

pub(super) fn watch(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    block_on(async {
        let home = open_home_of(&config, &arguments.run, false, context.printer).await?;
        let mut loaded = home.load(&arguments.run).await?;
        let mut shown = 0;
        loop {
            let state = State::replay(&loaded.records)?;
            for record in loaded.records.iter().skip(shown) {
                if context.printer.is_json() {
                    context.printer.document(&serde_json::json!({
                        "seq": record.sequence, "at": record.wall.to_string(),
                        "type": record.entry.kind(), "body": record.entry.to_value(),
                    }));
                } else if let Some(line) = entry_line(&state, &record.entry) {
                    context.printer.result(&line, &line);
                }
            }
            shown = loaded.records.len();
            if state.is_closed() {
                return Ok(0);
            }
            tokio::time::sleep(PERIOD).await;
            home.follow(&mut loaded).await?;
        }
    })
}
