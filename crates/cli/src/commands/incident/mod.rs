//! `rollforward incident open|ack|note|tell|watch|list|show|close`.

mod open;
mod say;
mod tell;
mod watch;

use recovery::journal::{Incident, IncidentState, incidents_and_damaged, load_incident};

use super::Context;
use crate::orchestra::{open_home_of, open_homes};
use crate::output::table;
use crate::wiring::block_on;
use say::OneArguments;

/// Commands about incidents.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Open an incident, from an alert or by hand, and tell the service's channels
    Open(open::Arguments),
    /// Say that somebody has taken it: nobody else is asked
    Ack(OneArguments),
    /// Keep what is known by now
    Note(say::NoteArguments),
    /// Tell stakeholders, in the words of a template
    Tell(tell::Arguments),
    /// Tell what has to be told by now, also of runs that nobody drives, and who comes next when
    /// nobody answered; for cron
    #[command(alias = "escalate")]
    Watch,
    /// List incidents, newest first
    List,
    /// Show one with everything that was said
    Show(OneArguments),
    /// Close one
    Close(OneArguments),
}

pub(crate) fn run(context: &Context<'_>, command: &Command) -> anyhow::Result<u8> {
    match command {
        Command::Open(arguments) => open::run(context, arguments),
        Command::Ack(arguments) => say::ack(context, arguments),
        Command::Note(arguments) => say::note(context, arguments),
        Command::Tell(arguments) => tell::run(context, arguments),
        Command::Watch => watch::run(context),
        Command::Close(arguments) => say::close(context, arguments),
        Command::List => list(context),
        Command::Show(arguments) => show(context, arguments),
    }
}

const fn state(incident: &Incident) -> &'static str {
    match incident.state {
        IncidentState::Open => "open",
        IncidentState::Acknowledged => "acknowledged",
        IncidentState::Closed => "closed",
    }
}

fn list(context: &Context<'_>) -> anyhow::Result<u8> {
    let config = context.config()?;
    block_on(async {
        let mut found = Vec::new();
        for home in open_homes(&config, false, context.printer).await? {
            let (all, damaged) = incidents_and_damaged(&home).await?;
            found.extend(all);
            for error in damaged {
                context.printer.error_text(&format!("warning: an incident is left out: {error}"));
            }
        }
        found.sort_by_key(|incident| std::cmp::Reverse(incident.started));
        let mut rows = table(&["incident", "service", "state", "started", "summary"]);
        for incident in &found {
            rows.add_row([
                incident.id.clone(),
                incident.service.clone(),
                state(incident).to_owned(),
                incident.started.to_string(),
                incident.summary.clone(),
            ]);
        }
        let text = if found.is_empty() { "no incidents".into() } else { rows.to_string() };
        let document: Vec<serde_json::Value> = found
            .iter()
            .map(|incident| {
                serde_json::json!({
                    "incident": incident.id, "service": incident.service,
                    "state": state(incident), "started": incident.started.to_string(),
                    "summary": incident.summary, "runs": incident.runs(),
                })
            })
            .collect();
        context.printer.result(&serde_json::json!({ "incidents": document }), &text);
        Ok(0)
    })
}

fn show(context: &Context<'_>, arguments: &OneArguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    block_on(async {
        let home = open_home_of(&config, &arguments.id, false, context.printer).await?;
        let incident = load_incident(&home, &arguments.id).await?;
        let mut text = format!(
            "{}: service '{}', {}, started {}\n",
            incident.id,
            incident.service,
            state(&incident),
            incident.started
        );
        for entry in &incident.entries {
            let fields: Vec<String> =
                entry.fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            text.push_str(&format!(
                "  {} {} by {} {}\n",
                entry.at,
                entry.kind,
                entry.by,
                fields.join("; ")
            ));
        }
        let document = serde_json::json!({
            "incident": incident.id, "service": incident.service, "state": state(&incident),
            "entries": incident.entries.iter().map(|entry| serde_json::json!({
                "kind": entry.kind, "at": entry.at.to_string(), "by": entry.by, "fields": entry.fields,
            })).collect::<Vec<_>>(),
        });
        context.printer.result(&document, text.trim_end());
        Ok(0)
    })
}
