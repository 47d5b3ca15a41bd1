//! `rollforward finding list|add|close`: what drills showed, until it is mended.

use recovery::journal::{
    FINDING_PREFIX, Home, Incident, IncidentEntry, IncidentState, append_incident, findings,
    load_incident,
};
use recovery::plan::Parameters;
use recovery::report::Report;
use serde_json::{Value, json};
use stdx::{Clock, SystemClock};

use super::Context;
use super::recover::named;
use crate::failure::Error;
use crate::orchestra::{open_home, open_home_of, open_homes, persons};
use crate::output::table;
use crate::wiring::block_on;

/// Commands about findings.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List what is not mended yet, newest first
    List(ListArguments),
    /// Note something that a drill showed
    Add(AddArguments),
    /// Say how it was mended
    Close(CloseArguments),
}

/// Arguments of `finding list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArguments {
    /// The service; without one those of all
    service: Option<String>,
    /// Those that are mended as well
    #[arg(long)]
    all: bool,
}

/// Arguments of `finding add`.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArguments {
    /// The service
    service: String,
    /// What was seen
    text: String,
    /// The run that showed it
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Who says so
    #[arg(long = "as", value_name = "PERSON")]
    person: Option<String>,
}

/// Arguments of `finding close`.
#[derive(Debug, clap::Args)]
pub(crate) struct CloseArguments {
    /// The finding
    id: String,
    /// How it was mended
    #[arg(long, value_name = "TEXT")]
    note: String,
    /// Who says so
    #[arg(long = "as", value_name = "PERSON")]
    person: Option<String>,
}

pub(crate) fn run(context: &Context<'_>, command: &Command) -> anyhow::Result<u8> {
    match command {
        Command::List(arguments) => list(context, arguments),
        Command::Add(arguments) => add(context, arguments),
        Command::Close(arguments) => close(context, arguments),
    }
}

/// What a drill showed by itself: objectives that were missed, and steps that failed.
pub(crate) async fn of_drill(home: &Home, report: &Report) -> anyhow::Result<Vec<String>> {
    let misses = report.misses().into_iter().map(|miss| format!("missed {miss}"));
    let failed = report.steps.iter().filter_map(|step| {
        let failure = step.failure.as_ref()?;
        Some(format!("step {} failed: {failure}", step.id))
    });
    let mut texts: Vec<String> = misses.chain(failed).collect();
    texts.dedup();
    let (service, run) = (&report.state.plan.service, Some(report.run.as_str()));
    for text in &texts {
        open(home, service, text, run, "rollforward").await?;
    }
    Ok(texts)
}

async fn open(
    home: &Home,
    service: &str,
    text: &str,
    run: Option<&str>,
    by: &str,
) -> anyhow::Result<String> {
    let id = format!("{FINDING_PREFIX}{}", named(service));
    let now = SystemClock::new().now();
    let mut fields = Parameters::from([
        ("service".into(), service.into()),
        ("summary".into(), text.into()),
        ("started".into(), now.to_string()),
    ]);
    fields.extend(run.map(|run| ("run".to_owned(), run.to_owned())));
    let entry = IncidentEntry { kind: "open".into(), at: now, by: by.into(), fields };
    append_incident(home, &id, &entry).await?;
    Ok(id)
}

fn document(finding: &Incident) -> Value {
    let said = |kind: &str, name: &str| {
        let entry = finding.entries.iter().find(|entry| entry.kind == kind);
        entry.and_then(|entry| entry.fields.get(name)).cloned()
    };
    json!({
        "finding": finding.id, "service": finding.service, "text": finding.summary,
        "opened": finding.opened.to_string(), "run": said("open", "run"),
        "state": if finding.state == IncidentState::Closed { "mended" } else { "open" },
        "note": said("close", "note"),
    })
}

fn list(context: &Context<'_>, arguments: &ListArguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    block_on(async {
        if let Some(name) = &arguments.service {
            config.service(Some(name))?;
        }
        let mut found = Vec::new();
        for home in open_homes(&config, false, context.printer).await? {
            found.extend(findings(&home).await?);
        }
        found.retain(|finding| {
            let is_open = finding.state != IncidentState::Closed;
            let is_meant = arguments.service.as_ref().is_none_or(|it| *it == finding.service);
            is_meant && (is_open || arguments.all)
        });
        let documents: Vec<Value> = found.iter().map(document).collect();
        let mut rows = table(&["finding", "service", "opened", "state", "what"]);
        for it in &documents {
            let cell = |name: &str| it[name].as_str().unwrap_or_default().to_owned();
            rows.add_row(["finding", "service", "opened", "state", "text"].map(cell));
        }
        let text = if found.is_empty() { "no findings".into() } else { rows.to_string() };
        context.printer.result(&json!({ "findings": documents }), &text);
        Ok(0)
    })
}

fn add(context: &Context<'_>, arguments: &AddArguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let service = config.service(Some(&arguments.service))?;
    let by = persons::requester(arguments.person.as_deref());
    block_on(async {
        let home = open_home(&config, Some(service), true, context.printer).await?;
        let run = arguments.run.as_deref();
        let id = open(&home, &service.name, &arguments.text, run, &by).await?;
        context.printer.result(&json!({ "finding": id }), &format!("finding {id}"));
        context.printer.next(&format!("rollforward finding close {id} --note HOW"));
        Ok(0)
    })
}

fn close(context: &Context<'_>, arguments: &CloseArguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let by = persons::requester(arguments.person.as_deref());
    block_on(async {
        let home = open_home_of(&config, &arguments.id, true, context.printer).await?;
        if !arguments.id.starts_with(FINDING_PREFIX) {
            let what = format!("expected a finding, {FINDING_PREFIX}…, seen '{}'", arguments.id);
            return Err(Error::Usage(what).into());
        }
        let finding = load_incident(&home, &arguments.id).await?;
        if finding.state != IncidentState::Closed {
            let fields = Parameters::from([("note".into(), arguments.note.clone())]);
            let now = SystemClock::new().now();
            let entry = IncidentEntry { kind: "close".into(), at: now, by, fields };
            append_incident(&home, &arguments.id, &entry).await?;
        }
        let closed = load_incident(&home, &arguments.id).await?;
        context.printer.result(&document(&closed), &format!("{} is mended", closed.id));
        Ok(0)
    })
}
