//! `rollforward dump`: logical dumps, ours and those of others.

pub(crate) mod create;
pub(crate) mod list;
pub(crate) mod restore;
pub(crate) mod source;
pub(crate) mod verify;

use std::path::PathBuf;

use backup::dump::plain::PlainSource;

use super::Context;
use crate::config::dumps::DumpsConfig;
use crate::wiring::open_store;

/// Subcommands of `dump`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Dump databases of a running cluster into its repositories
    Create(create::Arguments),
    /// List the dumps of a cluster, and those of others that the configuration names
    List(list::Arguments),
    /// Restore one database of a dump into a new or an empty one
    Restore(Box<restore::Arguments>),
    /// Read a dump of others to its end; those of ours are covered by `rollforward verify`
    Verify(verify::Arguments),
}

pub(crate) fn run(context: &Context<'_>, command: &Command) -> anyhow::Result<u8> {
    match command {
        Command::Create(arguments) => create::run(context, arguments),
        Command::List(arguments) => list::run(context, arguments),
        Command::Restore(arguments) => restore::run(context, arguments),
        Command::Verify(arguments) => verify::run(context, arguments),
    }
}

/// How many programs run at once unless told otherwise: one a core.
fn jobs(asked: Option<usize>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    asked.unwrap_or_else(cores).max(1)
}

/// Dumps of others, ready to be read.
fn plain(others: &DumpsConfig, bin_directory: Option<&PathBuf>) -> anyhow::Result<PlainSource> {
    let folders = bin_directory.into_iter().chain(&others.bin_directory);
    Ok(PlainSource {
        name: others.place.name.clone(),
        store: open_store(&others.place, false)?,
        open: others.open.clone(),
        folders: folders.cloned().collect(),
    })
}
