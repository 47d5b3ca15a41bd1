//! Telling what has to be told of an incident now. Safe to repeat, by any command.

use std::sync::Arc;

use recovery::duty::{Duty, HEARD, duties, message};
use recovery::effect::Effects;
use recovery::journal::{Home, HomeError, Incident, append_incident, load_incident};
use stdx::Clock;

use super::channels::about_incident;
use super::driver::providers;
use crate::config::Config;
use crate::output::Printer;

/// How telling went.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Told {
    pub(crate) channel: String,
    pub(crate) what: &'static str,
    pub(crate) outcome: String,
}

impl Told {
    pub(crate) fn is_heard(&self) -> bool {
        self.outcome == HEARD
    }
}

/// Tells every channel what it has to hear of an incident, and keeps how it went.
pub(crate) async fn attend(
    config: &Config,
    home: &Home,
    id: &str,
    clock: &dyn Clock,
) -> anyhow::Result<Vec<Told>> {
    let incident = load_incident(home, id).await?;
    let Some(service) = config.services.get(&incident.service) else { return Ok(Vec::new()) };
    let due = duties(&incident, &service.tell, &service.escalate, clock.now());
    if due.is_empty() {
        return Ok(Vec::new());
    }
    let about = about_incident(config, &incident);
    let runbook = about.values.get("runbook").cloned();
    let teller = providers(config, about)?;
    // One that does not answer must not keep the others waiting.
    let mut under_way = tokio::task::JoinSet::new();
    for duty in due {
        let text = message(&incident, &duty.what, runbook.as_deref(), clock.now());
        under_way.spawn(tell(Arc::clone(&teller), duty, text));
    }
    let mut told = Vec::new();
    while let Some(joined) = under_way.join_next().await {
        let (duty, outcome) = joined?;
        keep(home, &incident, &duty, &outcome, clock).await?;
        told.push(Told { channel: duty.channel, what: duty.what.text(), outcome });
    }
    told.sort_by(|a, b| a.channel.cmp(&b.channel));
    Ok(told)
}

pub(super) async fn tell(teller: Arc<dyn Effects>, duty: Duty, text: String) -> (Duty, String) {
    let told = teller.tell(&duty.channel, duty.what.text(), &text).await;
    let outcome = match told {
        Ok(()) => HEARD.to_owned(),
        Err(failure) if failure.hint.is_empty() => failure.message,
        Err(failure) => format!("{}; {}", failure.message, failure.hint),
    };
    (duty, outcome)
}

async fn keep(
    home: &Home,
    incident: &Incident,
    duty: &Duty,
    outcome: &str,
    clock: &dyn Clock,
) -> Result<(), HomeError> {
    let entry = duty.entry(clock.now(), "rollforward", outcome);
    append_incident(home, &incident.id, &entry).await
}

/// Says who was not told; whether anybody was, when there was somebody to tell.
pub(crate) fn say(told: &[Told], printer: &Printer) -> bool {
    for it in told {
        match it.is_heard() {
            true => printer.note(&format!("told '{}': {}", it.channel, it.what)),
            false => printer.error_text(&format!(
                "warning: '{}' was not told of '{}': {}",
                it.channel, it.what, it.outcome
            )),
        }
    }
    told.is_empty() || told.iter().any(Told::is_heard)
}
