//! `rollforward incident open|ack|list|show|close`.

use recovery::journal::{
    Incident, IncidentEntry, IncidentState, append_incident, incidents, load_incident,
};
use recovery::plan::Parameters;
use stdx::{Clock, SystemClock};

use super::Context;
use super::recover::named;
use super::target_arguments::parse_time;
use crate::orchestra::{open_home, persons};
use crate::output::table;
use crate::wiring::block_on;

/// Commands about incidents.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Open an incident
    Open(OpenArguments),
    /// Say that somebody has taken it
    Ack(OneArguments),
    /// List incidents, newest first
    List,
    /// Show one with everything that was said
    Show(OneArguments),
    /// Close one
    Close(OneArguments),
}

/// Arguments of `incident open`.
#[derive(Debug, clap::Args)]
pub(crate) struct OpenArguments {
    /// The service; may be left out when there is only one
    service: Option<String>,
    /// What happened
    #[arg(long, value_name = "TEXT", default_value = "")]
    summary: String,
    /// When it was noticed [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    started_at: Option<jiff::Timestamp>,
    /// An alert as JSON: `summary` and `started_at` are taken from it
    #[arg(long, value_name = "FILE")]
    from: Option<std::path::PathBuf>,
    /// Who says it
    #[arg(long = "as", value_name = "PERSON")]
    person: Option<String>,
}

/// Arguments of the commands about one incident.
#[derive(Debug, clap::Args)]
pub(crate) struct OneArguments {
    /// The incident
    id: String,
    /// Who says it
    #[arg(long = "as", value_name = "PERSON")]
    person: Option<String>,
}

pub(crate) fn run(context: &Context<'_>, command: &Command) -> anyhow::Result<u8> {
    match command {
        Command::Open(arguments) => open(context, arguments),
        Command::Ack(arguments) => note(context, arguments, "ack"),
        Command::Close(arguments) => note(context, arguments, "close"),
        Command::List => list(context),
        Command::Show(arguments) => show(context, arguments),
    }
}

fn open(context: &Context<'_>, arguments: &OpenArguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let service = config.service(arguments.service.as_deref())?;
    let alert: serde_json::Value = match &arguments.from {
        Some(path) => serde_json::from_str(&std::fs::read_to_string(path)?)?,
        None => serde_json::Value::Null,
    };
    let text = |name: &str| alert.get(name).and_then(serde_json::Value::as_str);
    let now = SystemClock::new().now();
    let told = text("started_at").and_then(|text| text.parse().ok());
    let started = arguments.started_at.or(told).unwrap_or(now);
    let summary = match arguments.summary.is_empty() {
        true => text("summary").unwrap_or("").to_owned(),
        false => arguments.summary.clone(),
    };
    block_on(async {
        let home = open_home(&config, Some(service), true, context.printer).await?;
        let there = incidents(&home).await?.into_iter().find(|incident| {
            incident.service == service.name && incident.state != IncidentState::Closed
        });
        // Repeats are one incident.
        let (id, kind) = match there {
            Some(incident) => (incident.id, "note"),
            None => (named(&service.name), "open"),
        };
        let entry = IncidentEntry {
            kind: kind.into(),
            at: now,
            by: persons::requester(arguments.person.as_deref()),
            fields: Parameters::from([
                ("service".into(), service.name.clone()),
                ("summary".into(), summary.clone()),
                ("started".into(), started.to_string()),
            ]),
        };
        append_incident(&home, &id, &entry).await?;
        let document = serde_json::json!({ "incident": id, "new": kind == "open" });
        context.printer.result(&document, &format!("incident {id}"));
        context.printer.next(&format!(
            "rollforward diagnose {0}; rollforward recover {0} --before-incident --started-at {started}",
            service.name
        ));
        Ok(0)
    })
}

fn note(context: &Context<'_>, arguments: &OneArguments, kind: &str) -> anyhow::Result<u8> {
    let config = context.config()?;
    block_on(async {
        let home = open_home(&config, None, true, context.printer).await?;
        load_incident(&home, &arguments.id).await?;
        let entry = IncidentEntry {
            kind: kind.into(),
            at: SystemClock::new().now(),
            by: persons::requester(arguments.person.as_deref()),
            fields: Parameters::new(),
        };
        append_incident(&home, &arguments.id, &entry).await?;
        let document = serde_json::json!({ "incident": arguments.id, "said": kind });
        context.printer.result(&document, &format!("{}: {kind}", arguments.id));
        Ok(0)
    })
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
        let home = open_home(&config, None, false, context.printer).await?;
        let found = incidents(&home).await?;
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
        let home = open_home(&config, None, false, context.printer).await?;
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
