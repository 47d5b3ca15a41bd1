//! What is measured of clusters and services, by the program's own commands.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use recovery::service::{Database, Service};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stdx::{Clock, SystemClock};
use tokio::process::Command;

use crate::config::Config;
use crate::orchestra::{files, measured};
use crate::wiring;

/// Longest wait for the server.
const ASK_DEADLINE: Duration = Duration::from_secs(20);

/// Longest wait for one of our commands.
const OWN_DEADLINE: Duration = Duration::from_secs(300);

/// The watchdog looks every few minutes; asking repositories and making plans is for once an hour.
pub(crate) const KEPT_FOR: SignedDuration = SignedDuration::from_hours(1);

/// How far a server has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) xid: String,
    pub(super) segment: String,
}

/// What a cluster's server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// It is written to.
    Primary(Position),
    /// It writes nothing of its own.
    Standby,
    /// It cannot be asked, and why.
    Unknown(String),
}

impl Server {
    /// Why it cannot be asked.
    pub(super) fn unknown(&self) -> Option<&str> {
        match self {
            Self::Unknown(why) => Some(why),
            Self::Primary(_) | Self::Standby => None,
        }
    }
}

/// What is known of a cluster; what could not be found out is missing.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Cluster {
    pub(super) is_answered: bool,
    pub(super) backups: u64,
    pub(super) backup_at: Option<Timestamp>,
    pub(super) backup_bytes: Option<u64>,
    pub(super) backup_stored: Option<u64>,
    pub(super) backup_seconds: Option<f64>,
    pub(super) dumps: Option<u64>,
    /// The moment of the newest dump's content.
    pub(super) dump_at: Option<Timestamp>,
    pub(super) dump_bytes: Option<u64>,
    pub(super) earliest: Option<Timestamp>,
    pub(super) latest: Option<Timestamp>,
    pub(super) archived_at: Option<Timestamp>,
}

/// What is known of a service.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ServiceFacts {
    pub(super) rpo: Duration,
    pub(super) rto: Duration,
    pub(super) predicted_rto_s: Option<u64>,
    pub(super) drill_at: Option<Timestamp>,
    pub(super) drill_rto_ms: Option<i64>,
}

/// The strictest objective of the services on a cluster.
pub(crate) fn rpo(config: &Config, cluster: &str) -> Option<Duration> {
    let on_it = config.services.values().filter(|service| is_on(service, cluster));
    on_it.map(|service| service.objectives.rpo).min()
}

fn is_on(service: &Service, cluster: &str) -> bool {
    matches!(&service.database, Database::Cluster(place) if place.cluster.name == cluster)
}

/// Asks the server what it is, and how far it has written.
pub(super) async fn server(config: &Config, cluster: &str) -> Server {
    match ask(config, cluster).await {
        Ok(Some(position)) => Server::Primary(position),
        Ok(None) => Server::Standby,
        Err(error) => Server::Unknown(format!("{error:#}")),
    }
}

/// How far the server has written; `None`: it is a standby.
async fn ask(config: &Config, cluster: &str) -> anyhow::Result<Option<Position>> {
    let client = wiring::connect(config.cluster(Some(cluster))?).await?;
    // On a standby the second function is an error, and is not called.
    let sql = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text, \
               CASE WHEN NOT pg_is_in_recovery() \
               THEN pg_walfile_name(pg_current_wal_insert_lsn()) END";
    let rows = client.query_text(sql, ASK_DEADLINE).await?;
    let mut row = rows.into_iter().flatten();
    let xid = row.next().flatten();
    let segment = row.next().flatten();
    Ok(xid.zip(segment).map(|(xid, segment)| Position { xid, segment }))
}

/// The newest archived segment of every timeline; `None`: it cannot be found out.
pub(super) async fn archived(config: &Config, cluster: &str) -> Option<Vec<String>> {
    let status = own(config, &["wal", "status", cluster]).await?;
    let timelines = status.pointer("/timelines").and_then(Value::as_array)?;
    let last = timelines.iter().filter_map(|it| it.get("last").and_then(Value::as_str));
    Some(last.map(str::to_owned).collect())
}

/// What one of our commands prints, also when it found a problem.
async fn own(config: &Config, words: &[&str]) -> Option<Value> {
    let mut command = Command::new(wiring::own_program().ok()?);
    command.args(["--json", "--quiet", "--config"]).arg(&config.path).args(words);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(OWN_DEADLINE, command.output()).await.ok()?.ok()?;
    let is_told = matches!(output.status.code(), Some(0 | 3));
    let text = String::from_utf8_lossy(&output.stdout);
    is_told.then(|| text.lines().last().and_then(|line| serde_json::from_str(line).ok()))?
}

fn time(value: &Value, pointer: &str) -> Option<Timestamp> {
    value.pointer(pointer)?.as_str()?.parse().ok()
}

/// Everything that is known, and when it was found out.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Facts {
    at: Timestamp,
    pub(super) clusters: BTreeMap<String, Cluster>,
    pub(super) services: BTreeMap<String, ServiceFacts>,
}

/// Everything that is known, at most so old.
pub(super) async fn all(config: &Config, age_max: SignedDuration) -> anyhow::Result<Facts> {
    let path = super::record::folder(config).join("known_facts.json");
    let now = SystemClock::new().now();
    let known = std::fs::read_to_string(&path).ok();
    let known = known.and_then(|text| serde_json::from_str::<Facts>(&text).ok());
    if let Some(known) = known.filter(|known| {
        let age = now.duration_since(known.at);
        age >= SignedDuration::ZERO
            && age < age_max
            && known.clusters.keys().eq(config.clusters.keys())
            && known.services.keys().eq(config.services.keys())
    }) {
        return Ok(known);
    }
    let (clusters, services) = (clusters(config).await, services(config).await);
    let facts = Facts { at: now, clusters, services };
    files::write(&path, &serde_json::to_string(&facts)?)?;
    wiring::hand_to_owner_of(&config.state_directory, &path)?;
    Ok(facts)
}

/// Every cluster's facts.
async fn clusters(config: &Config) -> BTreeMap<String, Cluster> {
    let mut all = BTreeMap::new();
    for name in config.clusters.keys() {
        all.insert(name.clone(), cluster(config, name).await);
    }
    all
}

async fn cluster(config: &Config, name: &str) -> Cluster {
    let mut facts = Cluster::default();
    let Some(listing) = own(config, &["backups", name]).await else { return facts };
    facts.is_answered = true;
    let backups = listing.pointer("/backups").and_then(Value::as_array);
    let backups = backups.map(Vec::as_slice).unwrap_or_default();
    facts.backups = backups.len() as u64;
    if let Some(last) = backups.iter().max_by_key(|backup| time(backup, "/stopped")) {
        facts.backup_at = time(last, "/stopped");
        facts.backup_bytes = last.pointer("/size").and_then(Value::as_u64);
        facts.backup_stored = last.pointer("/stored").and_then(Value::as_u64);
        let span = time(last, "/started").zip(facts.backup_at);
        facts.backup_seconds = span.map(|(from, until)| until.duration_since(from).as_secs_f64());
    }
    dumps(config, name, &mut facts).await;
    if let Some(window) = own(config, &["window", name]).await {
        let spans = window.pointer("/spans").and_then(Value::as_array);
        let last = spans.and_then(|spans| spans.last());
        facts.earliest = last.and_then(|span| time(span, "/first_commit"));
        facts.latest = last.and_then(|span| time(span, "/last_commit"));
    }
    if let Some(status) = own(config, &["wal", "status", name]).await {
        facts.archived_at = time(&status, "/newest");
    }
    facts
}

/// What there is of dumps of ours.
async fn dumps(config: &Config, name: &str, facts: &mut Cluster) {
    let Some(listing) = own(config, &["dump", "list", name]).await else { return };
    let dumps = listing.pointer("/dumps").and_then(Value::as_array);
    let dumps = dumps.map(Vec::as_slice).unwrap_or_default();
    facts.dumps = Some(dumps.len() as u64);
    if let Some(last) = dumps.iter().max_by_key(|dump| time(dump, "/started")) {
        facts.dump_at = time(last, "/started");
        facts.dump_bytes = last.pointer("/size").and_then(Value::as_u64);
    }
}

/// Every service's facts.
async fn services(config: &Config) -> BTreeMap<String, ServiceFacts> {
    let mut all = BTreeMap::new();
    for (name, service) in &config.services {
        let plan = own(config, &["plan", name, "--latest"]).await;
        let runs = measured::runs(config, name);
        let drill = runs.iter().rev().find(|run| run.mode == "drill");
        let facts = ServiceFacts {
            rpo: service.objectives.rpo,
            rto: service.objectives.rto,
            predicted_rto_s: plan.as_ref().and_then(predicted),
            drill_at: drill.map(|run| run.at),
            drill_rto_ms: drill.and_then(|run| run.rto_ms),
        };
        all.insert(name.clone(), facts);
    }
    all
}

fn predicted(document: &Value) -> Option<u64> {
    let plan = recovery::plan::Plan::from_value(document.get("plan")?).ok()?;
    Some(plan.predicted_rto_s())
}
