//! `rollforward backups CLUSTER`.

use repository::root::Summary;
use serde::Serialize;
use stdx::ByteCount;

use super::Context;
use crate::orchestra::measured::{self, Measured};
use crate::output::table;
use crate::wiring::{Purpose, block_on, open_set};

/// Arguments of `backups`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cluster; may be left out when there is only one
    cluster: Option<String>,
    /// Look into this repository only
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
}

/// One backup as it is listed.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    label: String,
    kind: &'static str,
    started: String,
    stopped: String,
    timeline: u32,
    start_lsn: String,
    stop_lsn: String,
    size: u64,
    stored: u64,
    server_version: u32,
    damaged_pages: u64,
    /// The last run of this host that restored it and went through.
    #[serde(skip_serializing_if = "Option::is_none")]
    proved: Option<Measured>,
}

impl From<&Summary> for Row {
    fn from(summary: &Summary) -> Self {
        Self {
            label: summary.label.to_string(),
            kind: if summary.parent.is_some() { "incremental" } else { "full" },
            started: summary.started.to_string(),
            stopped: summary.stopped.to_string(),
            timeline: summary.timeline.get(),
            start_lsn: summary.start.to_string(),
            stop_lsn: summary.stop.to_string(),
            size: summary.size,
            stored: summary.stored,
            server_version: summary.server_version,
            damaged_pages: summary.damaged_pages,
            proved: None,
        }
    }
}

#[derive(Serialize)]
struct Listing {
    cluster: String,
    backups: Vec<Row>,
    problems: Vec<String>,
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let cluster = config.cluster(arguments.cluster.as_deref())?;
    block_on(async {
        let only = arguments.repository.as_deref();
        let repository = open_set(&config, cluster, only, Purpose::Read, context.printer).await?;
        let lineage = repository::lineage::of_cluster(&repository, &cluster.name).await?;
        let catalog = repository::catalog::backups(&repository, lineage.id).await?;
        let mut proofs = measured::of_cluster(&config, &cluster.name);
        let mut rows: Vec<Row> = catalog.backups.iter().map(Row::from).collect();
        for row in &mut rows {
            row.proved = proofs.remove(&row.label);
        }
        let listing = Listing {
            cluster: cluster.name.clone(),
            backups: rows,
            problems: catalog
                .problems
                .iter()
                .map(|problem| format!("{}: {}", problem.key, problem.error))
                .collect(),
        };
        print(context, &listing);
        Ok(if listing.problems.is_empty() { 0 } else { 3 })
    })
}

fn print(context: &Context<'_>, listing: &Listing) {
    let mut text = if listing.backups.is_empty() {
        format!("no backups of cluster '{}'", listing.cluster)
    } else {
        let mut list = table(&[
            "label", "kind", "stopped", "timeline", "stop", "size", "stored", "proved", "",
        ]);
        for row in &listing.backups {
            let damage = match row.damaged_pages {
                0 => String::new(),
                pages => format!("{pages} damaged pages"),
            };
            list.add_row([
                row.label.clone(),
                row.kind.into(),
                row.stopped.clone(),
                row.timeline.to_string(),
                row.stop_lsn.clone(),
                ByteCount::new(row.size).to_string(),
                ByteCount::new(row.stored).to_string(),
                row.proved.as_ref().map_or_else(|| "never".into(), Measured::text),
                damage,
            ]);
        }
        list.to_string()
    };
    for problem in &listing.problems {
        text.push_str(&format!("\nproblem: {problem}"));
    }
    context.printer.result(listing, &text);
    match listing.backups.is_empty() {
        true => context.printer.next(&format!("rollforward backup {}", listing.cluster)),
        false => context.printer.next(&format!("rollforward window {}", listing.cluster)),
    }
}
