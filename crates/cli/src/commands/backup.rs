//! `rollforward backup CLUSTER`.

use serde::Serialize;
use stdx::{ByteCount, SystemClock};

use super::Context;
use super::backups::Row;
use crate::failure::Error;
use crate::progress::Progress;
use crate::wiring::{self, Purpose, block_on, connect_options, open_set};

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cluster; may be left out when there is only one
    cluster: Option<String>,
    /// Copy every page, whatever earlier backups hold (today every backup does)
    #[arg(long)]
    full: bool,
    /// Spread the first checkpoint out instead of making it at once
    #[arg(long)]
    spread_checkpoint: bool,
    /// A remark that stands in PostgreSQL's backup label
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
}

#[derive(Serialize)]
struct Outcome {
    cluster: String,
    backup: Row,
    files: u64,
    seconds: f64,
    bytes_per_second: u64,
    waited_for_wal_seconds: f64,
    pages_reread: u64,
    damaged: Vec<String>,
    warnings: Vec<String>,
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let cluster = config.cluster(arguments.cluster.as_deref())?;
    block_on(async {
        let repository = open_set(&config, cluster, None, Purpose::Write, context.printer).await?;
        let lineage = repository::lineage::of_cluster(&repository, &cluster.name).await?;
        let connection = connect_options(cluster)?;
        let directory = cluster.data_directory.clone();
        let mut options = backup::Options::new(&cluster.name, lineage.id, directory, connection);
        let token = wiring::token_path(&config, &cluster.name);
        options.writer = Some(archive::Credential::read(&token)?.writer);
        options.compression = cluster.compression;
        options.workers = cluster.workers.unwrap_or(options.workers);
        options.fast_checkpoint = !arguments.spread_checkpoint;
        options.label_note.clone_from(&arguments.note);
        let cancel = options.cancel.clone();
        tokio::spawn(async move {
            if stop_signal().await.is_ok() {
                cancel.cancel();
            }
        });
        let progress = Progress::new("backup", context.printer);
        let report = backup::full(&repository, &options, &progress, &SystemClock::new()).await;
        progress.finish();
        let report = report?;
        // A bare machine gets the services with it, too.
        if let Err(error) = super::init::cluster::keep_config_of_backup(&repository, &config).await
        {
            let what = "the repository does not have this configuration";
            context.printer.note(&format!("warning: {what}: {error:#}"));
        }
        Ok(print(context, &cluster.name, &report))
    })
}

/// Ctrl-C or a stop by the system: uploads are given up properly, nothing of the backup stays.
pub(crate) async fn stop_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn print(context: &Context<'_>, cluster: &str, report: &backup::Report) -> u8 {
    let statistics = &report.statistics;
    let seconds = statistics.copying.as_secs_f64();
    #[allow(clippy::cast_possible_truncation)] // a rate for people
    let rate = (statistics.bytes_read as f64 / seconds.max(0.001)) as u64;
    let outcome = Outcome {
        cluster: cluster.into(),
        backup: Row::from(&report.summary),
        files: statistics.files,
        seconds,
        bytes_per_second: rate,
        waited_for_wal_seconds: statistics.waiting_for_wal.as_secs_f64(),
        pages_reread: statistics.pages_reread,
        damaged: report
            .damaged
            .iter()
            .map(|page| format!("{} block {}", page.path, page.block))
            .collect(),
        warnings: report.warnings.clone(),
    };
    let mut text = format!(
        "backup {} of cluster '{cluster}': {} in {} files, {} stored, {seconds:.1} s, {}/s",
        report.summary.label,
        ByteCount::new(report.summary.size),
        statistics.files,
        ByteCount::new(report.summary.stored),
        ByteCount::new(rate),
    );
    for warning in &report.warnings {
        text.push_str(&format!("\nwarning: {warning}"));
    }
    for page in &outcome.damaged {
        text.push_str(&format!("\ndamaged in the source: {page}"));
    }
    context.printer.result(&outcome, &text);
    if report.summary.damaged_pages > 0 {
        let failure = Error::Failed {
            what: format!("{} pages of the source are damaged", report.summary.damaged_pages),
            hint: String::new(),
        };
        context
            .printer
            .error_text(&format!("problem: {failure}; the backup holds them as they are"));
        context
            .printer
            .next("look at the tables named; restore the newest backup without damage beside");
        return 3;
    }
    context.printer.next(&format!("rollforward window {cluster}"));
    0
}
