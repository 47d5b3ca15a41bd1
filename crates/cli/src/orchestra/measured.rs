//! What runs of a service took on this host, kept beside its other state for later predictions.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use recovery::journal::{Loaded, Verdict};
use recovery::report::Report;
use recovery::service::Database;
use recovery::timings::{self, Timings};
use serde::{Deserialize, Serialize};

use super::files;
use crate::config::Config;

/// Runs that are remembered.
const KEPT_MAX: usize = 50;

/// One run that went through.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// The run.
    pub(crate) run: String,
    /// `incident`, `drill` or `copy`.
    pub(crate) mode: String,
    /// The backup it was restored from.
    pub(crate) backup: Option<String>,
    /// When it ended.
    pub(crate) at: Timestamp,
    /// RTO, in milliseconds.
    pub(crate) rto_ms: Option<i64>,
    /// RPO reached, in milliseconds.
    pub(crate) rpo_ms: Option<i64>,
    /// What its steps took, against what was guessed.
    pub(crate) timings: Timings,
}

fn path(config: &Config, service: &str) -> PathBuf {
    config.state_directory.join("measured").join(format!("{service}.json"))
}

/// Every run of a service that was measured here, the newest last. A file that cannot be read says
/// nothing: predictions are guesses then.
pub(crate) fn runs(config: &Config, service: &str) -> Vec<Measured> {
    let text = std::fs::read_to_string(path(config, service)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

impl Measured {
    /// For people: `2026-11-26, RTO 5.812 s`.
    pub(crate) fn text(&self) -> String {
        let rto = self.rto_ms.map_or_else(String::new, |ms| {
            #[allow(clippy::cast_precision_loss)] // a figure for people
            let seconds = ms as f64 / 1000.0;
            format!(", RTO {seconds:.1} s")
        });
        format!("{}{rto}", self.at.strftime("%Y-%m-%d"))
    }
}

/// The last proof of each backup of a cluster, by label.
pub(crate) fn of_cluster(config: &Config, cluster: &str) -> BTreeMap<String, Measured> {
    let on_it = config.services.values().filter(|service| match &service.database {
        Database::Cluster(place) => place.cluster.name == cluster,
        Database::Rds(_) => false,
    });
    let runs = on_it.flat_map(|service| runs(config, &service.name));
    // Later ones replace earlier ones.
    runs.filter_map(|run| Some((run.backup.clone()?, run))).collect()
}

/// What steps of a service take.
pub(crate) fn timings(config: &Config, service: &str) -> Timings {
    let runs: Vec<Timings> = runs(config, service).into_iter().map(|run| run.timings).collect();
    timings::median(&runs)
}

/// Remembers a run that went through.
pub(crate) fn remember(config: &Config, report: &Report, loaded: &Loaded) -> anyhow::Result<()> {
    let Some((Verdict::Restored, _, at)) = report.ended else { return Ok(()) };
    let state = &report.state;
    let service = &state.plan.service;
    let candidate = state.plan.candidates.get(state.candidate);
    let mut known = runs(config, service);
    known.retain(|run| run.run != report.run);
    known.push(Measured {
        run: report.run.clone(),
        mode: state.plan.mode.text().into(),
        backup: candidate.and_then(|it| it.parameters.get("backup").cloned()),
        at,
        rto_ms: report.rto_ms,
        rpo_ms: report.rpo_ms,
        timings: timings::of_run(loaded)?,
    });
    let newest = known.len().saturating_sub(KEPT_MAX);
    let kept = known.get(newest..).unwrap_or_default();
    files::write(&path(config, service), &serde_json::to_string_pretty(kept)?)
}
