//! `rollforward wal salvage CLUSTER`: what the archiver did not get to before the server failed.

use std::path::PathBuf;

use archive::salvage::{Place, SalvageRequest, Salvaged, salvage};
use repository::Repository;
use repository::lineage::Lineage;
use serde::Serialize;
use stdx::{Clock, Id, SystemClock};

use super::super::Context;
use crate::failure::Error;
use crate::wiring::{self, Purpose, block_on, open_set};

/// Arguments of `wal salvage`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cluster; may be left out when there is only one
    cluster: Option<String>,
    /// The failed server's WAL folder [default: pg_wal of the configured data directory]
    #[arg(long, value_name = "DIR")]
    pg_wal: Option<PathBuf>,
    /// The folder is the failed production's, though it lies on another host or path than
    /// registered: its disk is mounted here
    #[arg(long, requires = "pg_wal")]
    elsewhere: bool,
}

/// What was salvaged.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) cluster: String,
    pub(crate) stored: Vec<String>,
    pub(crate) already_there: usize,
    pub(crate) conflicts: Vec<String>,
    pub(crate) tail: Option<String>,
    pub(crate) timeline: u32,
    pub(crate) end: String,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let cluster = config.cluster(arguments.cluster.as_deref())?;
    let folder = arguments.pg_wal.clone().unwrap_or_else(|| cluster.data_directory.join("pg_wal"));
    let token = wiring::token_path(&config, &cluster.name);
    let host = wiring::host_name();
    block_on(async {
        let repository = open_set(&config, cluster, None, Purpose::Write, context.printer).await?;
        let lineage = repository::lineage::of_cluster(&repository, &cluster.name).await?;
        let credential;
        let place = if arguments.elsewhere {
            Place::Elsewhere { writer: writer_in_force(&repository, &lineage).await? }
        } else {
            credential = archive::Credential::read(&token)?;
            Place::Registered { credential: &credential, host: &host }
        };
        let request = SalvageRequest {
            pg_wal: &folder,
            lineage: &lineage,
            place,
            compression: cluster.compression,
            threads: cluster.workers.unwrap_or_else(super::default_threads),
            now: SystemClock::new().now(),
        };
        let salvaged = salvage(&repository, &request).await?;
        let outcome = outcome(&cluster.name, salvaged);
        print(context, &outcome);
        Ok(if outcome.conflicts.is_empty() { 0 } else { 3 })
    })
}

/// Whose WAL it is that lies elsewhere: this host need not have a token of that cluster.
async fn writer_in_force(repository: &Repository, lineage: &Lineage) -> anyhow::Result<Id> {
    let state = repository::lineage::state(repository, lineage.id).await?;
    let none = || Error::Failed {
        what: "no writer of this history is in force yet: there is nothing to salvage for".into(),
        hint: "rollforward init".into(),
    };
    Ok(state.ok_or_else(none)?.writer)
}

fn outcome(cluster: &str, salvaged: Salvaged) -> Outcome {
    Outcome {
        cluster: cluster.into(),
        stored: salvaged.stored,
        already_there: salvaged.already_there,
        conflicts: salvaged.conflicts,
        tail: salvaged.tail.map(|tail| format!("{} up to {}", tail.name, tail.end)),
        timeline: salvaged.timeline.get(),
        end: salvaged.end.to_string(),
    }
}

fn print(context: &Context<'_>, outcome: &Outcome) {
    let mut text = format!(
        "{} files stored, {} were there; timeline {} ends at {}",
        outcome.stored.len(),
        outcome.already_there,
        outcome.timeline,
        outcome.end
    );
    if let Some(tail) = &outcome.tail {
        text.push_str(&format!("\nunfinished segment: {tail}"));
    }
    for conflict in &outcome.conflicts {
        text.push_str(&format!("\nconflict: '{conflict}' is archived with another content"));
    }
    context.printer.result(outcome, &text);
    context.printer.next(&format!("rollforward window {}", outcome.cluster));
}
