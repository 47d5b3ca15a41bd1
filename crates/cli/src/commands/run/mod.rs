//! `rollforward run …`: look at one run, say something to it, go on with it.

mod go_on;
mod remove_old;
mod say;
mod show;

use std::path::PathBuf;

use super::Context;

/// Commands about one run.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show every step of a run, and what it waits for
    Show(show::Arguments),
    /// Follow a run while it goes
    Watch(show::Arguments),
    /// Approve what a run waits for
    Approve(say::ApproveArguments),
    /// Let a run pause after its present step
    Pause(say::Arguments),
    /// Go on with a run that was paused, or whose driver is gone
    Resume(go_on::Arguments),
    /// Begin a step afresh
    Retry(say::StepArguments),
    /// Go on without a step
    Skip(say::SkipArguments),
    /// Undo what a run has done
    Abort(say::AbortArguments),
    /// Become the driver of a run whose driver may be gone
    Takeover(go_on::Arguments),
    /// Remove the cluster or database that a run has replaced, for good
    RemoveOld(remove_old::Arguments),
}

/// Who speaks.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Speaker {
    /// Who says it
    #[arg(long = "as", value_name = "PERSON")]
    person: Option<String>,
    /// The person's key file [default: NAME.person beside the configuration]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

pub(crate) fn run(context: &Context<'_>, command: &Command) -> anyhow::Result<u8> {
    match command {
        Command::Show(arguments) => show::run(context, arguments),
        Command::Watch(arguments) => show::watch(context, arguments),
        Command::Approve(arguments) => say::approve(context, arguments),
        Command::Pause(arguments) => say::pause(context, arguments),
        Command::Resume(arguments) => go_on::resume(context, arguments),
        Command::Retry(arguments) => say::retry(context, arguments),
        Command::Skip(arguments) => say::skip(context, arguments),
        Command::Abort(arguments) => say::abort(context, arguments),
        Command::Takeover(arguments) => go_on::takeover(context, arguments),
        Command::RemoveOld(arguments) => remove_old::run(context, arguments),
    }
}
