//! Runs that nobody drives: found in the journals' home, and told to their channels. Safe to
//! repeat, from any host that has the repository.

use std::sync::Arc;

use recovery::duty::driverless::{Driverless, FORGOTTEN_AFTER, LOG_PREFIX};
use recovery::journal::{Home, HomeError, Incident, IncidentEntry, append_incident, load_incident};
use recovery::machine::State;
use recovery::plan::Plan;
use stdx::{Clock, Id};

use super::attend::{Told, tell};
use super::channels::about_run;
use super::driver::providers;
use crate::config::Config;
use crate::output::Printer;

/// A run without a driver, and who was told of it now.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Seen {
    pub(crate) run: String,
    pub(crate) service: String,
    pub(crate) told: Vec<Told>,
}

/// Tells of every run of a service of ours that has not ended and that nobody drives.
pub(crate) async fn attend_runs(
    config: &Config,
    home: &Home,
    clock: &dyn Clock,
    printer: &Printer,
) -> anyhow::Result<Vec<Seen>> {
    let mut seen = Vec::new();
    let mut store_time = None;
    for newest in home.newest_records().await? {
        let age = clock.now().duration_since(newest.written).unsigned_abs();
        if age >= FORGOTTEN_AFTER || home.ended_with(&newest).await? {
            continue;
        }
        // A host whose clock is wrong must not take drivers that live for dead ones.
        let now = match store_time {
            Some(now) => now,
            None => *store_time.insert(store::time(&home.store, Id::random()).await?),
        };
        match attend_run(config, home, &newest.run, now, clock).await {
            Ok(found) => seen.extend(found),
            Err(error) => printer.error_text(&format!("warning: run '{}': {error:#}", newest.run)),
        }
    }
    Ok(seen)
}

async fn attend_run(
    config: &Config,
    home: &Home,
    run: &str,
    now: jiff::Timestamp,
    clock: &dyn Clock,
) -> anyhow::Result<Option<Seen>> {
    let loaded = home.load(run).await?;
    let state = State::replay(&loaded.records)?;
    let Plan { service, tell: channels, escalate, .. } = &state.plan;
    if !config.services.contains_key(service) {
        return Ok(None);
    }
    let Some(found) = Driverless::of(&loaded, &state, now) else { return Ok(None) };
    let id = match state.incident.as_str() {
        "" => format!("{LOG_PREFIX}{run}"),
        incident => incident.to_owned(),
    };
    let due = |log: &[IncidentEntry]| found.duties(log, channels, escalate, clock.now());
    let mut seen = Seen { run: run.into(), service: service.clone(), told: Vec::new() };
    let log = told_before(home, &id).await?;
    if due(&log).is_empty() {
        return Ok(Some(seen));
    }
    if log.is_empty() {
        append_incident(home, &id, &found.opening(service, clock.now())).await?;
    }
    // Another host may look in the same second: one of all tells.
    let teller = Id::random().to_string();
    append_incident(home, &id, &found.telling(&teller, false, clock.now())).await?;
    let log = load_incident(home, &id).await?;
    if found.is_told_by(&log.entries, &teller) {
        let due = due(&log.entries);
        let incident = Some(&log).filter(|_| !state.incident.is_empty());
        seen.told = tell_all(config, home, &id, (&state, incident), &found, due, clock).await?;
        append_incident(home, &id, &found.telling(&teller, true, clock.now())).await?;
    }
    Ok(Some(seen))
}

/// What was said of the run's incident, or in a log of its own.
async fn told_before(home: &Home, id: &str) -> Result<Vec<IncidentEntry>, HomeError> {
    match load_incident(home, id).await {
        Ok(log) => Ok(log.entries),
        Err(HomeError::NoRun { .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Tells all at once: one that does not answer must not keep the others waiting.
async fn tell_all(
    config: &Config,
    home: &Home,
    log: &str,
    (state, incident): (&State, Option<&Incident>),
    found: &Driverless,
    due: Vec<recovery::duty::Duty>,
    clock: &dyn Clock,
) -> anyhow::Result<Vec<Told>> {
    let teller = providers(config, about_run(config, state, incident))?;
    let mut under_way = tokio::task::JoinSet::new();
    for duty in due {
        let text = found.message(&duty, clock.now());
        under_way.spawn(tell(Arc::clone(&teller), duty, text));
    }
    let mut told = Vec::new();
    while let Some(joined) = under_way.join_next().await {
        let (duty, outcome) = joined?;
        append_incident(home, log, &duty.entry(clock.now(), "rollforward", &outcome)).await?;
        told.push(Told { channel: duty.channel, what: duty.what.text(), outcome });
    }
    told.sort_by(|a, b| a.channel.cmp(&b.channel));
    Ok(told)
}
