//! `rollforward restore CLUSTER --to DIR`: resolve, reserve, fill, and start if asked.

mod histories;
mod server;
mod settings;

use std::path::PathBuf;

use anyhow::Context as _;
use pg::recovery::TargetAction;
use repository::Repository;
use repository::lineage::{self, Lineage};
use repository::root;
use repository::target::{Resolved, Stop};
use serde::Serialize;
use stdx::{ByteCount, Clock, SystemClock};

use super::Context;
use super::target_arguments::TargetArguments;
use super::wal::ticket::{TICKET_FILE, Ticket};
use crate::config::{ClusterConfig, Config};
use crate::failure::Error;
use crate::progress::Progress;
use crate::wiring::{self, Purpose, block_on, open_set};

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cluster; may be left out when there is only one
    cluster: Option<String>,
    /// The new data directory: absent, or empty
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    target: TargetArguments,
    /// Use this repository of the set only
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// Only to look at: it never archives, and takes no timeline
    #[arg(long)]
    copy: bool,
    /// What to do at the target [default: promote]
    #[arg(long, value_enum, value_name = "ACTION")]
    action: Option<Action>,
    /// The restored cluster's port [default: a free one]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Put a tablespace, by oid or old path, into this directory; may be repeated
    #[arg(long, value_name = "OID=DIR", value_parser = settings::parse_tablespace)]
    tablespace: Vec<(String, PathBuf)>,
    /// Put every other tablespace below this folder
    #[arg(long, value_name = "DIR")]
    tablespaces: Option<PathBuf>,
    /// Start the server and wait until it has reached the target
    #[arg(long)]
    start: bool,
    /// Where PostgreSQL's programs are [default: found by the backup's version]
    #[arg(long, value_name = "DIR")]
    bin_directory: Option<PathBuf>,
    /// Threads that fetch and write [default: one per processor]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Also use the last, incomplete segment of a timeline that ended: the server it came from is
    /// lost
    #[arg(long)]
    allow_partial: bool,
}

/// What PostgreSQL does when it has reached the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Action {
    /// End recovery and take writes, on a new timeline
    Promote,
    /// Wait, so that the data can be looked at
    Pause,
    /// Stop the server
    Shutdown,
}

impl Arguments {
    /// Whether the restored cluster is only looked at: one that does not promote by itself is.
    fn is_copy(&self) -> bool {
        self.copy || self.action.is_some_and(|action| action != Action::Promote)
    }
}

/// What was restored, and where it stands.
#[derive(Debug, Serialize)]
struct Report {
    cluster: String,
    directory: PathBuf,
    backup: String,
    target: String,
    stop: String,
    timeline: u32,
    reserved_timeline: Option<u32>,
    newest_commit: Option<String>,
    port: u16,
    socket_directory: PathBuf,
    restore: String,
    size: u64,
    seconds: f64,
    bytes_per_second: u64,
    taken_out: Vec<String>,
    tablespaces: Vec<(u32, PathBuf)>,
    prepared_transactions: Vec<String>,
    server: Option<server::Started>,
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let cluster = config.cluster(arguments.cluster.as_deref())?;
    block_on(async {
        let only = arguments.repository.as_deref();
        let repository =
            open_set(&config, cluster, only, Purpose::Restore, context.printer).await?;
        if only.is_none() && repository.members().len() < cluster.repositories.len() {
            return Err(silent_member(cluster, &repository).into());
        }
        let report = restore(context, arguments, &config, cluster, &repository).await?;
        print(context, arguments, &report);
        Ok(0)
    })
}

/// Recovery asks for WAL that is nowhere: at its end, and for the histories of later timelines. A
/// repository that is silent cannot prove that, so recovery would stop there, hours from now.
fn silent_member(cluster: &ClusterConfig, repository: &Repository) -> Error {
    let answered: Vec<&str> =
        repository.members().iter().map(|member| member.name.as_str()).collect();
    Error::Refused {
        what: format!(
            "{} of {} repositories of cluster '{}' answer: {}",
            answered.len(),
            cluster.repositories.len(),
            cluster.name,
            answered.join(", ")
        ),
        hint: format!(
            "restore from one that answers: --repository {}",
            answered.first().copied().unwrap_or("NAME")
        ),
    }
}

async fn restore(
    context: &Context<'_>,
    arguments: &Arguments,
    config: &Config,
    cluster: &ClusterConfig,
    repository: &Repository,
) -> anyhow::Result<Report> {
    let lineage = lineage::of_cluster(repository, &cluster.name).await?;
    let request = arguments.target.request();
    context.printer.note(&format!("resolving {} …", request.target));
    let resolved = repository::target::resolve(repository, &lineage, &request).await?;
    let directory = std::path::absolute(&arguments.to)?;
    let root = root::read(repository, lineage.id, &resolved.backup.label).await?;
    let segment_size = pg::SegmentSize::new(u32::try_from(resolved.backup.segment_size)?)?;
    let options = restore::Options {
        directory: directory.clone(),
        tablespaces: restore::Remap {
            single: arguments.tablespace.clone(),
            below: arguments.tablespaces.clone(),
        },
        workers: arguments.workers.or(cluster.workers).unwrap_or_else(super::wal::default_threads),
        quarantine: settings::quarantine(arguments, config, cluster, &resolved, &directory)?,
        histories: histories::read(repository, &lineage, &resolved.path, segment_size).await?,
    };
    let progress = Progress::new("restore", context.printer);
    let restore_id = stdx::Id::random();
    // What cannot begin must not cost a timeline id.
    restore::check(repository, &root, &options, &progress).await?;
    let reserved = match arguments.is_copy() {
        true => None,
        false => {
            Some(settings::reserve(repository, &lineage, &resolved, &directory, restore_id).await?)
        }
    };
    let ticket = ticket(config, cluster, arguments, &lineage, &resolved, reserved, restore_id)?;
    context.printer.note(&format!(
        "restoring backup {} into '{}', then WAL up to {}",
        resolved.backup.label,
        directory.display(),
        resolved.end
    ));
    let restored =
        restore::restore(repository, &root, &options, &progress, &SystemClock::new()).await;
    progress.finish();
    let restored = restored?;
    let ticket_path = directory.join(TICKET_FILE);
    ticket.write(&ticket_path)?;
    wiring::hand_to_owner_of(&directory, &ticket_path)?;
    let mut report = report(cluster, &ticket, &resolved, &options, &restored, reserved);
    report.target = request.target.to_string();
    if arguments.start {
        let bin = arguments.bin_directory.as_ref().or(cluster.bin_directory.as_ref());
        let action = arguments.action.unwrap_or(Action::Promote);
        let started = server::start(context, cluster, &report, bin, &root, action).await;
        report.server = Some(started.context("start the restored cluster")?);
    }
    Ok(report)
}

fn ticket(
    config: &Config,
    cluster: &ClusterConfig,
    arguments: &Arguments,
    lineage: &Lineage,
    resolved: &Resolved,
    reserved: Option<pg::TimelineId>,
    restore: stdx::Id,
) -> anyhow::Result<Ticket> {
    let bytes = u32::try_from(resolved.backup.segment_size)?;
    Ok(Ticket::new(
        restore,
        &config.path,
        &cluster.name,
        arguments.repository.as_deref(),
        lineage,
        resolved.path.stretches(),
        pg::SegmentSize::new(bytes)?,
        Some(resolved.end),
        reserved,
        arguments.allow_partial,
    ))
}

fn report(
    cluster: &ClusterConfig,
    ticket: &Ticket,
    resolved: &Resolved,
    options: &restore::Options,
    restored: &restore::Report,
    reserved: Option<pg::TimelineId>,
) -> Report {
    let stop = match resolved.stop {
        Stop::AtRecord { lsn, inclusive: true } => format!("after the record at {lsn}"),
        Stop::AtRecord { lsn, inclusive: false } => format!("before the record at {lsn}"),
        Stop::Consistency => "at consistency".into(),
        Stop::EndOfWal => format!("at the end of the WAL, {}", resolved.end),
    };
    let seconds = restored.duration.as_secs_f64();
    #[allow(clippy::cast_possible_truncation)] // a rate for people
    let rate = (restored.size.get() as f64 / seconds.max(0.001)) as u64;
    let prepared = resolved.prepared.as_deref().unwrap_or_default();
    Report {
        cluster: cluster.name.clone(),
        directory: restored.directory.clone(),
        backup: resolved.backup.label.to_string(),
        target: String::new(),
        stop,
        timeline: resolved.timeline.get(),
        reserved_timeline: reserved.map(pg::TimelineId::get),
        newest_commit: resolved.newest_commit.map(|commit| commit.time.to_string()),
        port: options.quarantine.port,
        socket_directory: options.quarantine.socket_directory.clone(),
        restore: ticket.restore.clone(),
        size: restored.size.get(),
        seconds,
        bytes_per_second: rate,
        taken_out: restored.taken_out.clone(),
        tablespaces: restored.tablespaces.clone(),
        prepared_transactions: prepared
            .iter()
            .map(|transaction| {
                transaction.gid.clone().unwrap_or_else(|| transaction.xid.to_string())
            })
            .collect(),
        server: None,
    }
}

fn print(context: &Context<'_>, arguments: &Arguments, report: &Report) {
    let mut text = format!(
        "restored backup {} of cluster '{}' into '{}': {}, {:.1} s, {}/s\nrecovery stops {}",
        report.backup,
        report.cluster,
        report.directory.display(),
        ByteCount::new(report.size),
        report.seconds,
        ByteCount::new(report.bytes_per_second),
        report.stop,
    );
    if let Some(commit) = &report.newest_commit {
        text.push_str(&format!("; newest commit {commit}"));
    }
    text.push_str(&format!(
        "\nin quarantine: port {} on loopback, socket in '{}'",
        report.port,
        report.socket_directory.display()
    ));
    for line in &report.taken_out {
        text.push_str(&format!("\ntaken out of effect: {line}"));
    }
    for gid in &report.prepared_transactions {
        text.push_str(&format!(
            "\nprepared transaction pending at the target, with its locks: {gid}"
        ));
    }
    if let Some(server) = &report.server {
        text.push_str(&format!("\nserver runs (process {}): {}", server.pid, server.state));
    }
    context.printer.result(report, &text);
    let psql = format!("psql -h {} -p {}", report.socket_directory.display(), report.port);
    let next = match (&report.server, arguments.is_copy()) {
        (None, _) => {
            format!("pg_ctl -D {} start; it recovers by itself", report.directory.display())
        }
        (Some(_), true) => psql,
        (Some(_), false) => format!(
            "look at it: {psql}; then rollforward adopt {} --at {}",
            report.cluster,
            report.directory.display()
        ),
    };
    context.printer.next(&next);
}

impl From<Action> for TargetAction {
    fn from(action: Action) -> Self {
        match action {
            Action::Promote => Self::Promote,
            Action::Pause => Self::Pause,
            Action::Shutdown => Self::Shutdown,
        }
    }
}

/// Now, by the machine's clock.
fn now() -> jiff::Timestamp {
    SystemClock::new().now()
}
