//! `rollforward incident watch`: tells what has to be told by now, and ends. For cron or a timer.

use recovery::journal::{Incident, IncidentState, incidents};
use stdx::{Clock, SystemClock};

use super::super::Context;
use crate::orchestra::attend::{Told, attend};
use crate::orchestra::open_home;
use crate::output::count;
use crate::wiring::block_on;

/// So long after its last entry a closed incident may still have to be told of.
const AFTERMATH_SECONDS: i64 = 86_400;

pub(super) fn run(context: &Context<'_>) -> anyhow::Result<u8> {
    let config = context.config()?;
    let clock = SystemClock::new();
    block_on(async {
        let home = open_home(&config, None, true, context.printer).await?;
        let recent = |incident: &Incident| {
            let last = incident.entries.last().map_or(incident.opened, |entry| entry.at);
            clock.now().duration_since(last).as_secs() < AFTERMATH_SECONDS
        };
        let mut told: Vec<Told> = Vec::new();
        let mut open = 0_usize;
        for incident in incidents(&home).await? {
            let is_open = incident.state != IncidentState::Closed;
            open += usize::from(is_open);
            if is_open || recent(&incident) {
                told.extend(attend(&config, &home, &incident.id, &clock).await?);
            }
        }
        let failed = told.iter().filter(|it| !it.is_heard()).count();
        let mut line = format!("{} open; told {}", count(open, "incident"), told.len() - failed);
        if failed > 0 {
            let names: Vec<String> = told
                .iter()
                .filter(|it| !it.is_heard())
                .map(|it| format!("'{}' ({})", it.channel, it.outcome))
                .collect();
            line.push_str(&format!("; not told: {}", names.join(", ")));
        }
        let document = serde_json::json!({ "open": open, "told": told });
        context.printer.result(&document, &line);
        Ok(if failed == 0 { 0 } else { 3 })
    })
}
