//! `rollforward init`: from nothing to a protected cluster; run again, it completes what is
//! missing.

pub(crate) mod cluster;
mod config_text;
mod from_repository;
mod recovery_code;
mod repositories;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;
use stdx::{Clock, SystemClock};

use super::Context;
use crate::config::{Config, DEFAULT_PATHS};
use crate::failure::Error;
use crate::wiring::block_on;

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A repository to create, URL or NAME=URL; may be repeated: they then hold the same bytes
    #[arg(long = "repository", value_name = "[NAME=]URL")]
    repositories: Vec<String>,
    /// The name of the cluster to protect
    #[arg(long, value_name = "NAME", default_value = "main")]
    cluster: String,
    /// How to connect to its server, in libpq's form
    #[arg(
        long,
        value_name = "CONNINFO",
        default_value = "host=/run/postgresql user=postgres dbname=postgres"
    )]
    connection: String,
    /// Its data directory [default: what the server says]
    #[arg(long, value_name = "DIR")]
    data_directory: Option<PathBuf>,
    /// Where this host keeps writer tokens and caches
    #[arg(long, value_name = "DIR", default_value = "/var/lib/rollforward")]
    state_directory: PathBuf,
    /// The key file; made when it is missing [default: beside the configuration]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Write the recovery code to this file instead of showing it once; one that is there is used
    #[arg(long, value_name = "FILE")]
    recovery_code_file: Option<PathBuf>,
    /// Where the recovery kit is written [default: beside the configuration]
    #[arg(long, value_name = "FILE")]
    kit: Option<PathBuf>,
    /// Store without encryption
    #[arg(long)]
    no_encryption: bool,
    /// Declare that only one host ever writes, for a store that does not honour put-if-absent
    #[arg(long)]
    single_writer: bool,
    /// Set archive_mode, archive_command and wal_level with ALTER SYSTEM
    #[arg(long)]
    enable_archiving: bool,
    /// This host and directory become the lineage's writer, and the one before is refused from now
    /// on: after a lost token, a renamed host or a moved directory of the same production
    #[arg(long)]
    take_over: bool,
    /// Fetch the configuration kept in this repository onto a bare machine
    #[arg(long, value_name = "URL", conflicts_with_all = ["repositories", "enable_archiving", "take_over"])]
    from_repository: Option<String>,
}

/// What `init` did.
#[derive(Debug, Serialize)]
struct Report {
    config: PathBuf,
    repositories: Vec<repositories::Made>,
    clusters: Vec<cluster::Made>,
    kit: Option<PathBuf>,
    recovery_code_file: Option<PathBuf>,
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let path = match &context.global.config {
        Some(path) => path.clone(),
        None => default_path(),
    };
    let path = std::path::absolute(&path)?;
    block_on(async {
        if let Some(url) = &arguments.from_repository {
            return from_repository::run(context, arguments, url, &path).await;
        }
        let now = SystemClock::new().now();
        let config = configuration(context, arguments, &path).await?;
        let report = converge(context, arguments, &config, now).await?;
        print(context, &report);
        Ok(0)
    })
}

fn default_path() -> PathBuf {
    let mut paths = DEFAULT_PATHS.iter().map(PathBuf::from);
    let existing = paths.clone().find(|path| path.exists());
    let fallback =
        if rustix::process::geteuid().is_root() { paths.next_back() } else { paths.next() };
    existing.or(fallback).unwrap_or_else(|| PathBuf::from("rollforward.toml"))
}

/// The configuration: read when it is there, else written from the arguments and the server.
async fn configuration(
    context: &Context<'_>,
    arguments: &Arguments,
    path: &Path,
) -> anyhow::Result<Config> {
    if path.exists() {
        if !arguments.repositories.is_empty() {
            return Err(Error::Refused {
                what: format!("configuration '{}' exists already", path.display()),
                hint: "edit it and run `rollforward init` without --repository, or name another file with --config".into(),
            }
            .into());
        }
        context.printer.note(&format!("configuration '{}' is kept", path.display()));
        return Ok(Config::load(Some(path))?);
    }
    if arguments.repositories.is_empty() {
        return Err(Error::Usage(
            "name at least one repository: --repository /path or --repository s3://bucket/prefix"
                .into(),
        )
        .into());
    }
    let text = config_text::compose(arguments, path).await?;
    let config = Config::parse(path, text)?;
    if let Some(folder) = path.parent() {
        stdx::durable::create_dir_all(folder)
            .with_context(|| format!("create folder '{}'", folder.display()))?;
    }
    stdx::durable::create_new(path, config.text.as_bytes(), 0o640)
        .with_context(|| format!("write configuration '{}'", path.display()))?;
    for cluster in config.clusters.values() {
        crate::wiring::hand_to_owner_of(&cluster.data_directory, path)?;
    }
    context.printer.note(&format!("wrote configuration '{}'", path.display()));
    Ok(config)
}

async fn converge(
    context: &Context<'_>,
    arguments: &Arguments,
    config: &Config,
    now: Timestamp,
) -> anyhow::Result<Report> {
    let mut report = Report {
        config: config.path.clone(),
        repositories: Vec::new(),
        clusters: Vec::new(),
        kit: None,
        recovery_code_file: arguments.recovery_code_file.clone(),
    };
    let mut sets: Vec<&[String]> = Vec::new();
    for cluster in config.clusters.values() {
        if !sets.contains(&cluster.repositories.as_slice()) {
            sets.push(&cluster.repositories);
        }
    }
    for set in sets {
        let made = repositories::ensure(context, arguments, config, set, now).await?;
        report.repositories.extend(made);
    }
    for cluster in config.clusters.values() {
        report.clusters.push(cluster::ensure(context, arguments, config, cluster, now).await?);
    }
    if report.repositories.iter().any(|made| made.created) {
        report.kit = Some(recovery_code::write_kit(arguments, config).await?);
    }
    Ok(report)
}

fn print(context: &Context<'_>, report: &Report) {
    let mut lines = Vec::new();
    for made in &report.repositories {
        let what = if made.created { "created" } else { "was there" };
        lines.push(format!(
            "repository '{}' at '{}': {what}, set {}",
            made.name, made.address, made.set
        ));
    }
    for made in &report.clusters {
        lines.push(format!(
            "cluster '{}': system identifier {}, lineage {}",
            made.name, made.system_identifier, made.lineage
        ));
    }
    if let Some(kit) = &report.kit {
        lines.push(format!(
            "recovery kit: '{}' (no secret in it: keep a copy elsewhere)",
            kit.display()
        ));
    }
    context.printer.result(report, &lines.join("\n"));
    for made in &report.clusters {
        for step in &made.steps {
            context.printer.note(&format!("to do: {step}"));
        }
    }
    let cluster = report.clusters.first().map_or("", |made| made.name.as_str());
    context
        .printer
        .next(&format!("rollforward check {cluster}, then rollforward backup {cluster}"));
}
