//! `rollforward incident open`: from an alert, or from what a person says.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use recovery::alert::{self, Alert, PAYLOAD_LEN_MAX, Payload, Source, Status};
use recovery::journal::{
    Home, Incident, IncidentEntry, IncidentState, append_incident, incidents_and_damaged,
    open_incident,
};
use recovery::plan::Parameters;
use stdx::{Clock, SystemClock};

use super::super::Context;
use super::super::recover::named;
use super::super::target_arguments::parse_time;
use crate::config::{Config, Error as ConfigError, SecretRef};
use crate::failure::Error;
use crate::orchestra::attend::{Told, attend, say};
use crate::orchestra::{open_home, persons};
use crate::secrets;
use crate::wiring::block_on;

/// Arguments of `incident open`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The service; may be left out when there is only one, or when the alert names it
    service: Option<String>,
    /// What happened
    #[arg(long, value_name = "TEXT", default_value = "")]
    summary: String,
    /// When it was noticed [default: when the alert says, or now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    started_at: Option<jiff::Timestamp>,
    #[command(flatten)]
    facts: super::say::Facts,
    /// An alert of Alertmanager, CloudWatch (SNS), PagerDuty, or JSON with `summary`; `-`: from
    /// standard input
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Whose alert it is: alertmanager, cloudwatch, pagerduty or generic [default: whose it looks
    /// like]
    #[arg(long, value_name = "KIND", requires = "from", value_parser = source)]
    source: Option<Source>,
    /// Refuse an SNS envelope that was not signed with this certificate's key
    #[arg(long, value_name = "CERT_PEM", requires = "from", requires = "topics")]
    verify_signature: Option<PathBuf>,
    /// Refuse an SNS envelope of any other topic; may be given several times. SNS signs everybody's
    #[arg(long = "topic", value_name = "ARN", requires = "verify_signature")]
    topics: Vec<String>,
    /// Refuse a body that this header (X-PagerDuty-Signature, X-Rollforward-Signature) does not fit
    #[arg(long, value_name = "VALUE", requires = "from", requires = "secret")]
    signature: Option<String>,
    /// The secret that signs: env:NAME or file:/path
    #[arg(long, value_name = "REFERENCE", requires = "signature")]
    secret: Option<String>,
    /// Who says it [default: who sent the alert, or the user]
    #[arg(long = "as", value_name = "PERSON")]
    person: Option<String>,
}

fn source(text: &str) -> Result<Source, String> {
    let known = "alertmanager, cloudwatch, pagerduty or generic";
    Source::parse(text).ok_or_else(|| format!("expected {known}, seen '{text}'"))
}

/// What became of one alert.
#[derive(Debug, serde::Serialize)]
struct Outcome {
    incident: Option<String>,
    service: String,
    new: bool,
    alert: String,
    told: Vec<Told>,
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let (payload, verified) = match &arguments.from {
        Some(path) => read(arguments, path)?,
        None => (spoken(), None),
    };
    let now = SystemClock::new().now();
    let mut came = Came::default();
    block_on(async {
        for alert in &payload.alerts {
            let services = services_of(&config, alert, arguments.service.as_deref())?;
            if services.is_empty() {
                came.unmatched.push(alert.summary.clone());
            }
            for service in services {
                let fields = fields(arguments, &service, alert, verified, payload.truncated, now);
                let by = by(arguments, alert);
                let entry = IncidentEntry { kind: "open".into(), at: now, by, fields };
                // One service that fails must not keep the others waiting.
                match take(context, &config, &service, alert, &entry).await {
                    Ok(outcome) => came.outcomes.push(outcome),
                    Err(error) => came.failed.push((service, error)),
                }
            }
        }
        match came {
            Came { outcomes, mut failed, .. } if outcomes.is_empty() && failed.len() == 1 => {
                Err(failed.remove(0).1)
            }
            Came { outcomes, failed, unmatched } if outcomes.is_empty() && failed.is_empty() => {
                Err(no_service(&unmatched))
            }
            came => Ok(print(context, &came, &payload, verified)),
        }
    })
}

/// What became of everything.
#[derive(Default)]
struct Came {
    outcomes: Vec<Outcome>,
    /// Services whose incident could be neither opened nor found.
    failed: Vec<(String, anyhow::Error)>,
    /// Alerts that are nobody's.
    unmatched: Vec<String>,
}

/// Reads an alert, and whether it is known to be its sender's.
fn read(arguments: &Arguments, path: &Path) -> anyhow::Result<(Payload, Option<bool>)> {
    let mut bytes = Vec::new();
    let limit = PAYLOAD_LEN_MAX as u64 + 1;
    if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    } else {
        let file = std::fs::File::open(path);
        let file = file.with_context(|| format!("read alert '{}'", path.display()))?;
        file.take(limit).read_to_end(&mut bytes)?;
    }
    let mut verified = false;
    if let Some(path) = &arguments.verify_signature {
        let certificate = std::fs::read_to_string(path);
        let certificate =
            certificate.with_context(|| format!("read certificate '{}'", path.display()))?;
        alert::signature::check_sns(&bytes, &certificate)?;
        alert::signature::check_topic(&bytes, &arguments.topics)?;
        verified = true;
    }
    if let (Some(header), Some(reference)) = (&arguments.signature, &arguments.secret) {
        let reference = SecretRef::parse(reference).ok_or_else(|| {
            Error::Usage("--secret: expected 'env:NAME' or 'file:/path', never the secret".into())
        })?;
        let secret = secrets::resolve(&reference, "the alert's sender")?;
        alert::signature::check_hmac(&bytes, header, &secret)?;
        verified = true;
    }
    Ok((alert::parse_as(&bytes, arguments.source)?, Some(verified)))
}

/// What a person says on the command line.
fn spoken() -> Payload {
    let alert = Alert {
        source: Source::Generic,
        key: None,
        subject: None,
        status: Status::Firing,
        summary: String::new(),
        started: None,
        severity: None,
        labels: Parameters::new(),
        links: Vec::new(),
    };
    Payload { alerts: vec![alert], truncated: 0 }
}

/// The services that an alert is about.
fn services_of(
    config: &Config,
    alert: &Alert,
    given: Option<&str>,
) -> Result<Vec<String>, ConfigError> {
    if let Some(given) = given {
        return Ok(vec![config.service(Some(given))?.name.clone()]);
    }
    if is_of_schedule(alert) {
        return Ok(Vec::new());
    }
    if let Some(ours) = ours(alert) {
        return Ok(config.services.get(ours).map(|it| it.name.clone()).into_iter().collect());
    }
    let fits = |labels: &std::collections::BTreeMap<String, String>| {
        labels.iter().all(|(name, value)| alert.labels.get(name) == Some(value))
    };
    let matched = config.about.iter().filter(|(_, about)| about.alerts.iter().any(fits));
    let matched: Vec<String> = matched.map(|(name, _)| name.clone()).collect();
    if !matched.is_empty() {
        return Ok(matched);
    }
    if let Some(name) = alert.labels.get("service") {
        return Ok(config.services.get(name).map(|it| it.name.clone()).into_iter().collect());
    }
    // The only service takes every alert, unless it says which ones are its own.
    if config.about.values().any(|about| !about.alerts.is_empty()) {
        return Ok(Vec::new());
    }
    match (config.services.len(), alert.source) {
        (1, _) | (_, Source::Generic) => Ok(vec![config.service(None)?.name.clone()]),
        _ => Ok(Vec::new()),
    }
}

/// The service of an alert that we have triggered ourselves: a pager sends it back.
fn ours(alert: &Alert) -> Option<&str> {
    providers::service_of_key(alert.labels.get("incident_key")?)
}

/// Whether it is an alarm of a job of ours that comes back: it is no incident of any service.
fn is_of_schedule(alert: &Alert) -> bool {
    let key = alert.labels.get("incident_key");
    key.is_some_and(|key| key.starts_with(providers::SCHEDULE_ALIAS_PREFIX))
}

fn by(arguments: &Arguments, alert: &Alert) -> String {
    match (&arguments.person, &arguments.from) {
        (None, Some(_)) => alert.source.text().to_owned(),
        (person, _) => persons::requester(person.as_deref()),
    }
}

fn fields(
    arguments: &Arguments,
    service: &str,
    alert: &Alert,
    verified: Option<bool>,
    truncated: u64,
    now: jiff::Timestamp,
) -> Parameters {
    let summary = match arguments.summary.is_empty() {
        true => alert.summary.clone(),
        false => alert::shown(&arguments.summary),
    };
    let started = arguments.started_at.or(alert.started).unwrap_or(now);
    let mut fields = Parameters::from([
        ("service".into(), service.to_owned()),
        ("summary".into(), summary),
        ("started".into(), started.to_string()),
    ]);
    let severity = alert.severity.map(|severity| severity.text().to_owned());
    let optional = [
        ("severity", severity),
        ("alert.key", alert.key.clone()),
        ("alert.subject", alert.subject.clone()),
        ("links", (!alert.links.is_empty()).then(|| alert.links.join(" "))),
        ("truncated", (truncated > 0).then(|| truncated.to_string())),
        ("alert.source", verified.map(|_| alert.source.text().to_owned())),
        ("alert.verified", verified.map(|it| if it { "yes" } else { "no" }.to_owned())),
    ];
    fields.extend(optional.into_iter().filter_map(|(name, it)| Some((name.to_owned(), it?))));
    fields.extend(arguments.facts.fields());
    fields
}

/// Does what an alert asks for, and tells whom it concerns.
async fn take(
    context: &Context<'_>,
    config: &Config,
    service: &str,
    alert: &Alert,
    entry: &IncidentEntry,
) -> anyhow::Result<Outcome> {
    let home = open_home(config, Some(config.service(Some(service))?), true, context.printer);
    let home = home.await?;
    let known = known(context, &home, service, alert).await?;
    let (incident, new) = match (&alert.status, known) {
        // Repeats are one incident.
        (Status::Firing, Some(known)) => (Some(known.id), false),
        (Status::Firing, None) if ours(alert).is_some() => (None, false),
        (Status::Firing, None) => {
            let opened = open_incident(&home, service, &named(service), entry).await?;
            (Some(opened.id), opened.is_new)
        }
        (_, None) => (None, false),
        (status, Some(known)) => {
            note(&home, &known, alert, status, entry).await?;
            (Some(known.id), false)
        }
    };
    let told = match &incident {
        Some(id) => attend(config, &home, id, &SystemClock::new()).await?,
        None => Vec::new(),
    };
    let alert = match &alert.status {
        Status::Firing => "firing",
        Status::Resolved => "resolved",
        Status::Acknowledged(_) => "acknowledged",
        Status::Said(_) => "noted",
    };
    Ok(Outcome { incident, service: service.into(), new, alert: alert.into(), told })
}

/// The incident that an alert has opened, or belongs to, before.
async fn known(
    context: &Context<'_>,
    home: &Home,
    service: &str,
    alert: &Alert,
) -> anyhow::Result<Option<Incident>> {
    let (all, damaged) = incidents_and_damaged(home).await?;
    for error in damaged {
        context.printer.error_text(&format!("warning: an incident is left out: {error}"));
    }
    let is_it = |it: &Incident| match (&alert.status, &alert.key, &alert.subject) {
        _ if ours(alert).is_some() => it.state != IncidentState::Closed,
        (Status::Firing, Some(key), _) if alert.source.names_each_time() => {
            it.has_said("alert.key", key)
        }
        // The same key after it was over is another time.
        (Status::Firing, Some(key), _) => it.fires(key),
        (Status::Firing, None, _) | (_, _, None) => false,
        (_, _, Some(subject)) => it.has_said("alert.subject", subject),
    };
    Ok(all.into_iter().find(|it| it.service == service && is_it(it)))
}

/// What the alert's sender says later: noted. Only an acknowledgement changes the incident, when it
/// is known to be the sender's: whoever can reach the receiver could silence everybody.
async fn note(
    home: &Home,
    known: &Incident,
    alert: &Alert,
    status: &Status,
    entry: &IncidentEntry,
) -> anyhow::Result<()> {
    let (kind, text) = match status {
        Status::Resolved => ("resolved", "the alert is over where it came from"),
        Status::Acknowledged(_) if known.state != IncidentState::Closed => {
            match entry.fields.get("alert.verified").is_some_and(|it| it == "yes") {
                true => ("ack", ""),
                false => ("note", "acknowledged there; not verified, so nobody has taken it here"),
            }
        }
        Status::Acknowledged(_) | Status::Firing => return Ok(()),
        Status::Said(text) => ("note", text.as_str()),
    };
    let by = match status {
        Status::Acknowledged(by) => format!("{by} ({})", entry.by),
        _ => entry.by.clone(),
    };
    let key = alert.key.clone().unwrap_or_default();
    let is_same = |it: &IncidentEntry| {
        it.kind == kind
            && it.fields.get("said.key") == Some(&key)
            && it.fields.get("text").is_some_and(|seen| seen == text)
    };
    // What was said of it before it fired again counts no more.
    let fired = |it: &IncidentEntry| it.fields.get("alert.key") == Some(&key);
    let since = known.entries.iter().rposition(fired).unwrap_or(0);
    if known.entries.iter().skip(since).any(is_same) {
        return Ok(());
    }
    let fields = Parameters::from([("said.key".into(), key), ("text".into(), text.to_owned())]);
    let entry = IncidentEntry { kind: kind.into(), at: entry.at, by, fields };
    Ok(append_incident(home, &known.id, &entry).await?)
}

fn no_service(unmatched: &[String]) -> anyhow::Error {
    if unmatched.is_empty() {
        return Error::Usage("the payload has no alerts".into()).into();
    }
    Error::Refused {
        what: format!("no service for '{}'", unmatched.join("', '")),
        hint: "say which alerts are whose: [service.NAME] alerts = [{ alertname = \"…\" }], or a \
               label 'service'; or name the service"
            .into(),
    }
    .into()
}

fn print(context: &Context<'_>, came: &Came, payload: &Payload, verified: Option<bool>) -> u8 {
    let printer = context.printer;
    let Came { outcomes, failed, unmatched } = came;
    let text: Vec<String> = outcomes
        .iter()
        .map(|it| match &it.incident {
            Some(id) if it.new => format!("incident {id}"),
            Some(id) => format!("incident {id}: {}", it.alert),
            None => format!("no incident of '{}': {}", it.service, it.alert),
        })
        .collect();
    let first = outcomes.first();
    let document = serde_json::json!({
        "incident": first.and_then(|it| it.incident.clone()),
        "new": first.is_some_and(|it| it.new),
        "incidents": outcomes, "unmatched": unmatched,
        "failed": failed.iter().map(|(service, error)| serde_json::json!({
            "service": service, "error": format!("{error:#}"),
        })).collect::<Vec<_>>(),
        "truncated": payload.truncated, "verified": verified,
    });
    printer.result(&document, &text.join("\n"));
    if verified == Some(false) {
        printer.note("the alert was not verified: whoever can reach the receiver may have sent it");
    }
    if payload.truncated > 0 {
        printer.error_text(&format!(
            "warning: the sender left out {}: look there",
            crate::output::count(payload.truncated, "alert")
        ));
    }
    for summary in unmatched {
        printer.error_text(&format!("warning: no service for '{summary}': no incident"));
    }
    for (service, error) in failed {
        printer.error_text(&format!("error: no incident of '{service}': {error:#}"));
    }
    let heard = outcomes.iter().filter(|it| !say(&it.told, printer)).count() == 0;
    if !heard {
        printer.next("tell people by other means; `rollforward incident watch` tries again");
    } else if let Some(it) = first.filter(|it| it.new) {
        printer.next(&format!(
            "rollforward diagnose {0}; rollforward recover {0} --before-incident --started-at TIME",
            it.service
        ));
    }
    match (failed.is_empty(), heard && unmatched.is_empty()) {
        (false, _) => 1,
        (true, false) => 3,
        (true, true) => 0,
    }
}
