//! `rollforward check`: what would stop a recovery today.

mod cluster;
mod repositories;
mod service;
mod templates;
mod traffic;

use recovery::service::{Database, Service};
use serde::Serialize;

use super::Context;
use crate::config::{ClusterConfig, Config};
use crate::output::table;
use crate::wiring::block_on;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cluster or service; without one every cluster and service is checked
    #[arg(value_name = "CLUSTER|SERVICE")]
    name: Option<String>,
    /// Do not write to the repositories: put-if-absent is then not proved
    #[arg(long)]
    read_only: bool,
}

/// How a finding counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Weight {
    /// As it should be.
    Good,
    /// Recovery works, but something is missing.
    Warning,
    /// A recovery would fail, or lose more than it must.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) weight: Weight,
    /// What was looked at.
    pub(crate) subject: String,
    /// What was seen.
    pub(crate) seen: String,
    /// What to do about it.
    pub(crate) next: Option<String>,
}

/// Collects findings.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    pub(crate) fn good(&mut self, subject: &str, seen: impl Into<String>) {
        self.0.push(Finding {
            weight: Weight::Good,
            subject: subject.into(),
            seen: seen.into(),
            next: None,
        });
    }

    pub(crate) fn warning(
        &mut self,
        subject: &str,
        seen: impl Into<String>,
        next: impl Into<String>,
    ) {
        self.0.push(Finding {
            weight: Weight::Warning,
            subject: subject.into(),
            seen: seen.into(),
            next: Some(next.into()),
        });
    }

    pub(crate) fn problem(
        &mut self,
        subject: &str,
        seen: impl Into<String>,
        next: impl Into<String>,
    ) {
        self.0.push(Finding {
            weight: Weight::Problem,
            subject: subject.into(),
            seen: seen.into(),
            next: Some(next.into()),
        });
    }

    /// A problem from an error, with its first hint.
    pub(crate) fn failed(&mut self, subject: &str, error: &anyhow::Error) {
        let hint =
            crate::failure::diagnostic(error).and_then(|error| error.hints().into_iter().next());
        self.problem(subject, format!("{error:#}"), hint.unwrap_or_default());
    }
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let (clusters, services) = named(&config, arguments.name.as_deref())?;
    block_on(async {
        let mut findings = Findings::default();
        findings.good("configuration", format!("'{}' is valid", config.path.display()));
        templates::check(&config, &mut findings);
        for cluster in clusters {
            repositories::check(&config, cluster, arguments.read_only, &mut findings).await;
            cluster::check(context, &config, cluster, &mut findings).await;
        }
        for service in services {
            service::check(&config, service, &mut findings).await;
            traffic::check(service, &mut findings).await;
        }
        Ok(print(context, &findings.0))
    })
}

/// A service is checked with its cluster, a cluster with its services.
fn named<'c>(
    config: &'c Config,
    name: Option<&str>,
) -> anyhow::Result<(Vec<&'c ClusterConfig>, Vec<&'c Service>)> {
    let of = |service: &Service| match &service.database {
        Database::Cluster(place) => config.clusters.get(&place.cluster.name),
        Database::Rds(_) => None,
    };
    match name {
        None => Ok((config.clusters.values().collect(), config.services.values().collect())),
        Some(name) if !config.clusters.contains_key(name) && config.services.contains_key(name) => {
            let service = config.service(Some(name))?;
            Ok((of(service).into_iter().collect(), vec![service]))
        }
        Some(name) => {
            let cluster = config.cluster(Some(name))?;
            let on_it = |service: &&Service| of(service).is_some_and(|it| it.name == cluster.name);
            Ok((vec![cluster], config.services.values().filter(on_it).collect()))
        }
    }
}

fn print(context: &Context<'_>, findings: &[Finding]) -> u8 {
    let mut list = table(&["", "what", "seen"]);
    for finding in findings {
        let mark = match finding.weight {
            Weight::Good => "ok",
            Weight::Warning => "warning",
            Weight::Problem => "PROBLEM",
        };
        let next = finding.next.as_ref().filter(|next| !next.is_empty());
        let seen =
            next.map_or_else(|| finding.seen.clone(), |next| format!("{}\n→ {next}", finding.seen));
        list.add_row([mark, &finding.subject, &seen]);
    }
    context.printer.result(&findings, &list.to_string());
    let problems = findings.iter().filter(|finding| finding.weight == Weight::Problem).count();
    let warnings = findings.iter().filter(|finding| finding.weight == Weight::Warning).count();
    context.printer.note(&format!(
        "{}, {}",
        crate::output::count(problems, "problem"),
        crate::output::count(warnings, "warning")
    ));
    if problems > 0 { 3 } else { 0 }
}
