//! `rollforward wal`: what PostgreSQL's archive and restore commands call, and what people ask.

pub(crate) mod get;
mod prefetch;
mod push;
pub(crate) mod salvage;
mod status;
pub(crate) mod ticket;

use super::Context;

pub(crate) use push::default_threads;

/// The verbs of `wal`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Archive one WAL file: archive_command = 'rollforward wal push %p'
    Push(push::Arguments),
    /// Fetch one WAL file: restore_command = 'rollforward wal get %f %p'
    Get(get::Arguments),
    /// Show what is archived, and what is missing
    Status(status::Arguments),
    /// Store what can still be read of a failed server's WAL
    Salvage(salvage::Arguments),
    /// Fetch segments ahead of a recovery (started by `wal get`)
    #[command(hide = true)]
    Prefetch(prefetch::Arguments),
}

pub(crate) fn run(context: &Context<'_>, command: &Command) -> anyhow::Result<u8> {
    match command {
        Command::Push(arguments) => push::run(context, arguments),
        Command::Get(arguments) => get::run(context, arguments),
        Command::Status(arguments) => status::run(context, arguments),
        Command::Salvage(arguments) => salvage::run(context, arguments),
        Command::Prefetch(arguments) => prefetch::run(context, arguments),
    }
}
