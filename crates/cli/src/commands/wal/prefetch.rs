//! `rollforward wal prefetch`: the process behind `wal get` that stays a few segments ahead.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use archive::prefetch::{FillRequest, Spool, fill};

use super::super::Context;
use super::ticket::Ticket;
use crate::config::Config;
use crate::wiring::{Purpose, block_on, open_set};

/// How many segments it is ahead: at 16 MiB a second of replay of a fast disk.
const SEGMENTS_AHEAD: u64 = 16;

/// How long it stays when the spool is full and nobody takes anything.
const LINGER: Duration = Duration::from_secs(30);

/// Arguments of `wal prefetch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The spool folder
    folder: PathBuf,
    /// The ticket of the restore
    #[arg(long)]
    ticket: PathBuf,
    /// The number of the first segment to fetch
    #[arg(long)]
    next: u64,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    // It must outlive the restore command that started it, and its server's fast shutdown must not
    // wait for it.
    let _ = rustix::process::setsid();
    let ticket = Ticket::read(&arguments.ticket)?;
    let facts = ticket.facts()?;
    let config = Config::load(Some(&ticket.config))?;
    let cluster = config.cluster(Some(&ticket.cluster))?;
    // The spool lies beside what restore commands deliver, like any file in that folder.
    let spool = Spool::beside(&arguments.folder).context("the spool lies in a folder")?;
    block_on(async {
        let only = ticket.repository.as_deref();
        let repository = open_set(&config, cluster, only, Purpose::Read, context.printer).await?;
        let id = ticket.lineage.parse().context("the lineage of the restore ticket")?;
        let lineage = repository::lineage::read(&repository, id).await?;
        let request = FillRequest {
            spool: &spool,
            restore: &ticket.restore,
            lineage: &lineage,
            route: &facts.route,
            next: arguments.next,
            end: facts.end,
            count: SEGMENTS_AHEAD,
            linger: LINGER,
        };
        fill(&repository, &request).await?;
        Ok(0)
    })
}
