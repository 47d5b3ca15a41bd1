//! What is measured, in Prometheus' text format, for node_exporter's textfile collector.
//!
//! Source: prometheus.io/docs/instrumenting/exposition_formats; names and units by
//! prometheus.io/docs/practices/naming. Checked with `promtool check metrics`.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use stdx::{Clock, SystemClock};

use super::facts::{self, Cluster, ServiceFacts};
use super::record::{self, Record};
use super::watch::{self, Archiving};
use crate::config::{Config, Job};

/// Readable for the exporter, which is another user.
const MODE: u32 = 0o644;

/// The page so far.
#[derive(Default)]
struct Page(String);

/// One value and its label.
type Sample<'s> = (&'s str, Option<f64>);

impl Page {
    /// A metric with one label, and its samples; one without samples is left out.
    fn metric(&mut self, kind: &str, name: &str, help: &str, label: &str, samples: &[Sample<'_>]) {
        let known = samples.iter().filter_map(|(value, sample)| Some((*value, (*sample)?)));
        let known: Vec<(String, f64)> = known
            .map(|(value, sample)| (format!("{label}=\"{}\"", escaped(value)), sample))
            .collect();
        self.labelled(kind, name, help, &known);
    }

    fn labelled(&mut self, kind: &str, name: &str, help: &str, samples: &[(String, f64)]) {
        if samples.is_empty() {
            return;
        }
        let name = format!("rollforward_{name}");
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in samples {
            let _ = writeln!(self.0, "{name}{{{labels}}} {value}");
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn seconds(time: Timestamp) -> f64 {
    #[allow(clippy::cast_precision_loss)] // milliseconds since 1970 are exact
    let milliseconds = time.as_millisecond() as f64;
    milliseconds / 1000.0
}

#[allow(clippy::cast_precision_loss)] // a figure for a graph
fn number(value: u64) -> f64 {
    value as f64
}

fn flag(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

/// The whole page; what is asked of repositories may be `age_max` old.
pub(crate) async fn page(config: &Config, age_max: SignedDuration) -> anyhow::Result<String> {
    let now = SystemClock::new().now();
    let mut page = Page::default();
    let mut jobs = Vec::new();
    for job in config.schedule.jobs.values() {
        jobs.push((job, record::look(config, &job.name)));
    }
    job_metrics(&mut page, &jobs);
    let known = facts::all(config, age_max).await?;
    let clusters: Vec<(String, Cluster)> = known.clusters.into_iter().collect();
    backup_metrics(&mut page, &clusters);
    window_metrics(&mut page, config, &clusters, now)?;
    verified(&mut page, &jobs);
    service_metrics(&mut page, &known.services.into_iter().collect::<Vec<_>>());
    let none = [(String::from("version=\"") + env!("CARGO_PKG_VERSION") + "\"", 1.0)];
    page.labelled("gauge", "build_info", "The version of the program that wrote this.", &none);
    Ok(page.0)
}

/// Writes the page where the configuration says.
pub(crate) async fn refresh(config: &Config, age_max: SignedDuration) -> anyhow::Result<()> {
    use anyhow::Context as _;
    let Some(path) = &config.schedule.metrics else { return Ok(()) };
    let page = page(config, age_max).await?;
    stdx::durable::write_atomic(path, page.as_bytes(), MODE)
        .with_context(|| format!("write '{}'", path.display()))?;
    // The umask may have taken the exporter's bits.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(MODE);
    std::fs::set_permissions(path, mode).with_context(|| format!("open '{}'", path.display()))
}

fn job_metrics(page: &mut Page, jobs: &[(&Job, Option<Record>)]) {
    let known =
        || jobs.iter().filter_map(|(job, record)| Some((job.name.as_str(), record.as_ref()?)));
    let each = |value: &dyn Fn(&Record) -> Option<f64>| -> Vec<Sample<'_>> {
        known().map(|(name, record)| (name, value(record))).collect()
    };
    let last = |record: &Record| record.last.as_ref().map(|last| seconds(last.ended));
    page.metric(
        "gauge",
        "job_last_run_timestamp_seconds",
        "When a job last ended.",
        "job",
        &each(&last),
    );
    let good = |record: &Record| record.last_success.as_ref().map(|last| seconds(last.ended));
    page.metric(
        "gauge",
        "job_last_success_timestamp_seconds",
        "When a job last succeeded.",
        "job",
        &each(&good),
    );
    let took =
        |record: &Record| record.last.as_ref().map(|last| number(last.milliseconds) / 1000.0);
    page.metric(
        "gauge",
        "job_last_duration_seconds",
        "How long its last run took.",
        "job",
        &each(&took),
    );
    let is_good = |record: &Record| record.last.as_ref().map(|last| flag(last.is_success));
    page.metric(
        "gauge",
        "job_last_success",
        "Whether its last run succeeded.",
        "job",
        &each(&is_good),
    );
    let running =
        |record: &Record| Some(flag(record.running.as_ref().is_some_and(|it| it.lives())));
    page.metric("gauge", "job_running", "Whether it runs now.", "job", &each(&running));
    let late = |record: &Record| Some(flag(record.alarms.contains_key("job late")));
    page.metric("gauge", "job_late", "Whether its last success is too old.", "job", &each(&late));
    let runs: Vec<(String, f64)> = known()
        .flat_map(|(name, record)| {
            let label = |outcome: &str| format!("job=\"{}\",outcome=\"{outcome}\"", escaped(name));
            [
                (label("success"), number(record.successes)),
                (label("failure"), number(record.failures)),
            ]
        })
        .collect();
    page.labelled("counter", "job_runs_total", "Runs of a job that ended, by outcome.", &runs);
}

fn backup_metrics(page: &mut Page, clusters: &[(String, Cluster)]) {
    let each = |value: &dyn Fn(&Cluster) -> Option<f64>| -> Vec<Sample<'_>> {
        clusters.iter().map(|(name, facts)| (name.as_str(), value(facts))).collect()
    };
    let mut gauge = |name: &str, help: &str, value: &dyn Fn(&Cluster) -> Option<f64>| {
        page.metric("gauge", name, help, "cluster", &each(value));
    };
    gauge("repository_up", "Whether the repositories of a cluster answered.", &|facts| {
        Some(flag(facts.is_answered))
    });
    gauge("backups", "Backups of a cluster.", &|facts| {
        facts.is_answered.then(|| number(facts.backups))
    });
    gauge("backup_last_timestamp_seconds", "When the newest backup ended.", &|facts| {
        facts.backup_at.map(seconds)
    });
    gauge("backup_last_size_bytes", "What the newest backup restores.", &|facts| {
        facts.backup_bytes.map(number)
    });
    gauge("backup_last_stored_bytes", "What the newest backup takes.", &|facts| {
        facts.backup_stored.map(number)
    });
    gauge("backup_last_duration_seconds", "How long the newest backup took.", &|facts| {
        facts.backup_seconds
    });
    gauge("dumps", "Dumps of a cluster.", &|facts| facts.dumps.map(number));
    gauge("dump_last_timestamp_seconds", "The moment of the newest dump's content.", &|facts| {
        facts.dump_at.map(seconds)
    });
    gauge("dump_last_size_bytes", "How much the newest dump holds.", &|facts| {
        facts.dump_bytes.map(number)
    });
    gauge("wal_last_archived_timestamp_seconds", "When WAL was last archived.", &|facts| {
        facts.archived_at.map(seconds)
    });
}

fn window_metrics(
    page: &mut Page,
    config: &Config,
    clusters: &[(String, Cluster)],
    now: Timestamp,
) -> anyhow::Result<()> {
    let each = |value: &dyn Fn(&Cluster) -> Option<Timestamp>| -> Vec<Sample<'_>> {
        clusters.iter().map(|(name, facts)| (name.as_str(), value(facts).map(seconds))).collect()
    };
    page.metric(
        "gauge",
        "window_earliest_timestamp_seconds",
        "The earliest moment that can be restored without a gap up to the latest.",
        "cluster",
        &each(&|facts| facts.earliest),
    );
    page.metric(
        "gauge",
        "window_latest_timestamp_seconds",
        "The latest moment that can be restored.",
        "cluster",
        &each(&|facts| facts.latest),
    );
    let mut ages = Vec::new();
    for (name, _) in clusters {
        let path = record::folder(config).join(format!("{}.json", watch::archiving_name(name)));
        let text = std::fs::read_to_string(path).ok();
        let known = text.and_then(|text| serde_json::from_str::<Archiving>(&text).ok());
        #[allow(clippy::cast_precision_loss)] // a figure for a graph
        let age = known.and_then(|known| watch::age(&known, now)).map(|age| age as f64);
        ages.push((name.as_str(), age));
    }
    page.metric(
        "gauge",
        "rpo_age_seconds",
        "How old the oldest write is that is not archived; 0 when all are, none when unknown.",
        "cluster",
        &ages,
    );
    Ok(())
}

/// The last verification of each cluster by a job.
fn verified(page: &mut Page, jobs: &[(&Job, Option<Record>)]) {
    let is_verify = |job: &Job| job.words.first().is_some_and(|word| word == "verify");
    let mut last: std::collections::BTreeMap<&str, f64> = std::collections::BTreeMap::new();
    for (job, record) in jobs.iter().filter(|(job, _)| is_verify(job)) {
        let cluster = job.words.get(1).filter(|word| !word.starts_with('-'));
        let success = record.as_ref().and_then(|record| record.last_success.as_ref());
        if let (Some(cluster), Some(success)) = (cluster, success) {
            let at = last.entry(cluster).or_insert(0.0);
            *at = at.max(seconds(success.ended));
        }
    }
    let samples: Vec<Sample<'_>> = last.into_iter().map(|(name, at)| (name, Some(at))).collect();
    let help = "When a job last verified the cluster's repositories without a finding.";
    page.metric("gauge", "verify_last_success_timestamp_seconds", help, "cluster", &samples);
}

fn service_metrics(page: &mut Page, services: &[(String, ServiceFacts)]) {
    let each = |value: &dyn Fn(&ServiceFacts) -> Option<f64>| -> Vec<Sample<'_>> {
        services.iter().map(|(name, facts)| (name.as_str(), value(facts))).collect()
    };
    let mut gauge = |name: &str, help: &str, value: &dyn Fn(&ServiceFacts) -> Option<f64>| {
        page.metric("gauge", name, help, "service", &each(value));
    };
    gauge("objective_rpo_seconds", "How much a service may lose.", &|facts| {
        Some(facts.rpo.as_secs_f64())
    });
    gauge("objective_rto_seconds", "How long a service may be down.", &|facts| {
        Some(facts.rto.as_secs_f64())
    });
    gauge("predicted_rto_seconds", "How long a recovery would take now.", &|facts| {
        facts.predicted_rto_s.map(number)
    });
    gauge("drill_last_timestamp_seconds", "When a drill last went through.", &|facts| {
        facts.drill_at.map(seconds)
    });
    gauge("drill_last_rto_seconds", "How long the last drill took.", &|facts| {
        #[allow(clippy::cast_precision_loss)] // a figure for a graph
        facts.drill_rto_ms.map(|ms| ms as f64 / 1000.0)
    });
}
