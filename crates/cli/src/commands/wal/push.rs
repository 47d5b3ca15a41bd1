//! `rollforward wal push PATH`.

use std::path::PathBuf;

use archive::push::{PushRequest, Pushed, push};
use serde::Serialize;
use stdx::{Clock, SystemClock};

use super::super::Context;
use crate::config::{ClusterConfig, Config};
use crate::failure::Error;
use crate::wiring::{self, block_on, open_store};

/// Arguments of `wal push`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The file to archive: `%p`
    path: PathBuf,
    /// The cluster [default: the one whose data directory this runs in]
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Refuse until the cluster is adopted: set in restored clusters
    #[arg(long)]
    hold: bool,
}

#[derive(Serialize)]
struct Outcome {
    name: String,
    outcome: &'static str,
    kept_as: Option<String>,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let cluster = cluster_of(&config, arguments)?;
    let path = std::path::absolute(&arguments.path)?;
    let credential =
        archive::credential::Credential::read(&wiring::token_path(&config, &cluster.name))?;
    block_on(async {
        let repository = open_cached(&config, cluster).await?;
        let host = wiring::host_name();
        let request = PushRequest {
            path: &path,
            credential: &credential,
            host: &host,
            hold: arguments.hold,
            compression: cluster.compression,
            threads: cluster.workers.unwrap_or_else(default_threads),
            now: SystemClock::new().now(),
        };
        let pushed = push(&repository, &request).await?;
        let (outcome, kept_as) = match pushed {
            Pushed::Stored => ("stored", None),
            Pushed::AlreadyThere => ("already there", None),
            Pushed::KeptBeside { key } => ("kept beside", Some(key)),
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if context.printer.is_json() {
            context.printer.document(&Outcome { name, outcome, kept_as });
        }
        Ok(0)
    })
}

fn cluster_of<'a>(config: &'a Config, arguments: &Arguments) -> anyhow::Result<&'a ClusterConfig> {
    if let Some(name) = &arguments.cluster {
        return Ok(config.cluster(Some(name))?);
    }
    // PostgreSQL runs the command in the data directory.
    let here = std::env::current_dir()?;
    match config.cluster_of_directory(&here) {
        Some(cluster) => Ok(cluster),
        None if config.clusters.len() == 1 => Ok(config.cluster(None)?),
        None => Err(Error::Usage(format!(
            "'{}' is the data directory of no configured cluster: name one with --cluster",
            here.display()
        ))
        .into()),
    }
}

/// The set with a cache of its small immutable objects: this process lives for one segment only.
async fn open_cached(
    config: &Config,
    cluster: &ClusterConfig,
) -> anyhow::Result<repository::Repository> {
    let cache = wiring::cache_directory(config);
    let mut members = Vec::new();
    let mut keys = Vec::new();
    for name in &cluster.repositories {
        let Some(table) = config.repositories.get(name) else { continue };
        keys.extend(table.keys.iter().cloned());
        let store = open_store(table, false)?;
        let store = std::sync::Arc::new(archive::cache::Cached::new(store, &cache));
        members.push(repository::Member { name: name.clone(), store });
    }
    wiring::open_with(members, &keys, &format!("cluster '{}'", cluster.name)).await
}

pub(crate) fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
