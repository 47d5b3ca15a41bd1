//! `rollforward incident watch`: tells what has to be told by now, and ends. For cron or a timer.

use recovery::journal::{Incident, IncidentState, incidents_and_damaged};
use stdx::{Clock, SystemClock};

use super::super::Context;
use crate::orchestra::attend::{Told, attend};
use crate::orchestra::driverless::{Seen, attend_runs};
use crate::orchestra::open_homes;
use crate::output::count;
use crate::wiring::block_on;

/// So long after its last entry a closed incident may still have to be told of.
const AFTERMATH_SECONDS: i64 = 86_400;

pub(super) fn run(context: &Context<'_>) -> anyhow::Result<u8> {
    let config = context.config()?;
    let clock = SystemClock::new();
    block_on(async {
        let recent = |incident: &Incident| {
            let last = incident.entries.last().map_or(incident.opened, |entry| entry.at);
            clock.now().duration_since(last).as_secs() < AFTERMATH_SECONDS
        };
        let (mut told, mut runs) = (Vec::<Told>::new(), Vec::new());
        let (mut open, mut errors) = (0_usize, Vec::<String>::new());
        for home in open_homes(&config, true, context.printer).await? {
            let (all, damaged) = incidents_and_damaged(&home).await?;
            errors.extend(damaged.iter().map(ToString::to_string));
            for incident in all {
                let is_open = incident.state != IncidentState::Closed;
                open += usize::from(is_open);
                if !is_open && !recent(&incident) {
                    continue;
                }
                // One that fails must not keep the others waiting.
                match attend(&config, &home, &incident.id, &clock).await {
                    Ok(heard) => told.extend(heard),
                    Err(error) => errors.push(format!("incident '{}': {error:#}", incident.id)),
                }
            }
            runs.extend(attend_runs(&config, &home, &clock, context.printer).await?);
        }
        for error in &errors {
            context.printer.error_text(&format!("warning: {error}"));
        }
        Ok(print(context, open, &told, &runs, &errors))
    })
}

fn print(
    context: &Context<'_>,
    open: usize,
    told: &[Told],
    runs: &[Seen],
    errors: &[String],
) -> u8 {
    let all: Vec<&Told> = told.iter().chain(runs.iter().flat_map(|seen| &seen.told)).collect();
    let failed: Vec<String> = all
        .iter()
        .filter(|it| !it.is_heard())
        .map(|it| format!("'{}' ({})", it.channel, it.outcome))
        .collect();
    let mut line = format!("{} open", count(open, "incident"));
    if !runs.is_empty() {
        let names: Vec<&str> = runs.iter().map(|seen| seen.run.as_str()).collect();
        line.push_str(&format!("; without a driver: {}", names.join(", ")));
    }
    line.push_str(&format!("; told {}", all.len() - failed.len()));
    if !failed.is_empty() {
        line.push_str(&format!("; not told: {}", failed.join(", ")));
    }
    let document = serde_json::json!({
        "open": open, "told": told, "driverless": runs, "damaged": errors,
    });
    context.printer.result(&document, &line);
    match (errors.is_empty(), failed.is_empty()) {
        (false, _) => 1,
        (true, false) => 3,
        (true, true) => 0,
    }
}
