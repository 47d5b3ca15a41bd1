//! `run show` and `run watch`.

use std::time::Duration;

use recovery::machine::{Next, State, Status};
use recovery::plan::duration_text;
use recovery::report::Report;

use super::super::Context;
use crate::orchestra::show::{entry_line, waiting};
use crate::orchestra::{files, open_home};
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
        let home = open_home(&config, None, false, context.printer).await?;
        let loaded = home.load(&arguments.run).await?;
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

pub(super) fn watch(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    block_on(async {
        let home = open_home(&config, None, false, context.printer).await?;
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
