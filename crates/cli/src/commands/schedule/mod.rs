//! `rollforward schedule …`: what runs by itself.

pub(crate) mod check;
pub(crate) mod install;
pub(crate) mod list;
pub(crate) mod print;
pub(crate) mod run;

use super::Context;
use crate::config::Config;
use crate::failure::Error;

/// What is done with the schedule.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the jobs: when they run, what came of them
    List(list::Arguments),
    /// Print units of systemd or a crontab
    Print(print::Arguments),
    /// Write units of systemd or a crontab, shown before
    Install(install::Arguments),
    /// Remove what `install` wrote
    Remove(install::Arguments),
    /// Run a job now, as the timer does
    Run(run::Arguments),
    /// Say what is late, failed or behind, and tell who has not heard: a timer runs it
    Check(check::Arguments),
}

pub(crate) fn run(context: &Context<'_>, command: &Command) -> anyhow::Result<u8> {
    match command {
        Command::List(arguments) => list::run(context, arguments),
        Command::Print(arguments) => print::run(context, arguments),
        Command::Install(arguments) => install::run(context, arguments, true),
        Command::Remove(arguments) => install::run(context, arguments, false),
        Command::Run(arguments) => run::run(context, arguments),
        Command::Check(arguments) => check::run(context, arguments),
    }
}

/// Refuses a schedule that this program cannot follow: before the night, not in it.
fn must_be_runnable(config: &Config) -> anyhow::Result<()> {
    use clap::Parser;
    if config.schedule.jobs.is_empty() {
        return Err(Error::Usage(format!(
            "'{}' declares no job: [schedule.job.NAME]",
            config.path.display()
        ))
        .into());
    }
    for job in config.schedule.jobs.values() {
        let words = std::iter::once("rollforward").chain(job.words.iter().map(String::as_str));
        if let Err(error) = crate::args::Arguments::try_parse_from(words) {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            let why = first.strip_prefix("error: ").unwrap_or(first);
            return Err(Error::Usage(format!("job '{}', '{}': {why}", job.name, job.run())).into());
        }
    }
    Ok(())
}
