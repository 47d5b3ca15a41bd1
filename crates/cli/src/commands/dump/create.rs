//! `rollforward dump create CLUSTER`.

use std::path::PathBuf;

use backup::dump::{DumpOptions, DumpReport};
use serde::Serialize;
use stdx::{ByteCount, SystemClock};

use super::list::Row;
use crate::commands::Context;
use crate::commands::backup::stop_signal;
use crate::progress::Progress;
use crate::wiring::{Purpose, block_on, connect_options, open_set};

/// Arguments of `dump create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cluster; may be left out when there is only one
    cluster: Option<String>,
    /// Only this database; may be given several times [default: all that take sessions]
    #[arg(long = "database", value_name = "NAME")]
    databases: Vec<String>,
    /// How many pg_dump run at once [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: Option<u16>,
    /// A remark that stands beside the dump
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    /// Where PostgreSQL's programs are
    #[arg(long, value_name = "DIR")]
    bin_directory: Option<PathBuf>,
}

#[derive(Serialize)]
struct Outcome {
    cluster: String,
    dump: Row,
    streams: usize,
    seconds: f64,
    notes: Vec<String>,
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let cluster = config.cluster(arguments.cluster.as_deref())?;
    block_on(async {
        let repository = open_set(&config, cluster, None, Purpose::Write, context.printer).await?;
        let lineage = repository::lineage::of_cluster(&repository, &cluster.name).await?;
        let folders = arguments.bin_directory.iter().chain(&cluster.bin_directory);
        let options = DumpOptions {
            cluster: cluster.name.clone(),
            lineage: lineage.id,
            system_id: lineage.system_id,
            connection: connect_options(cluster)?,
            databases: arguments.databases.clone(),
            jobs: super::jobs(arguments.jobs.map(usize::from)),
            note: arguments.note.clone(),
            compression: cluster.compression,
            folders: folders.cloned().collect(),
            cancel: backup::Cancel::default(),
        };
        let cancel = options.cancel.clone();
        tokio::spawn(async move {
            if stop_signal().await.is_ok() {
                cancel.cancel();
            }
        });
        let progress = Progress::new("dump", context.printer);
        let clock = SystemClock::new();
        let report = backup::dump::create(&repository, &options, &progress, &clock).await;
        progress.finish();
        print(context, &cluster.name, &report?);
        Ok(0)
    })
}

fn print(context: &Context<'_>, cluster: &str, report: &DumpReport) {
    let summary = &report.summary;
    let seconds = summary.stopped.duration_since(summary.started).as_secs_f64();
    let outcome = Outcome {
        cluster: cluster.into(),
        dump: Row::from(summary),
        streams: report.streams,
        seconds,
        notes: report.notes.clone(),
    };
    let mut text = format!(
        "dump {} of cluster '{cluster}': {} in {} streams, {} stored, {seconds:.1} s; databases: {}",
        summary.label,
        ByteCount::new(summary.size),
        report.streams,
        ByteCount::new(summary.stored),
        summary.databases.join(", "),
    );
    for note in &report.notes {
        text.push_str(&format!("\nnote: {note}"));
    }
    context.printer.result(&outcome, &text);
    context.printer.next(&format!("rollforward dump list {cluster}"));
}
