//! The command line as clap sees it. Each command's own arguments stand beside its code.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::output::Printer;
use crate::{commands, failure};

/// Protects PostgreSQL, finds the last good moment, restores it there and proves it.
#[derive(Debug, Parser)]
#[command(name = "rollforward", version, disable_help_subcommand = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 found a problem, 4 refused, \
    5 waiting for approval, 6 rolled back, \
    7 halted, 8 another process has it. `wal get` has PostgreSQL's: see `rollforward wal get --help`.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// The configuration [default: rollforward.toml here, then /etc/rollforward/rollforward.toml]
    #[arg(long, global = true, value_name = "FILE", env = "ROLLFORWARD_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON document (or JSON lines) on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print nothing but results and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The whole story on this machine: protect, destroy, locate, recover, prove
    Demo(commands::demo::Arguments),
    /// Write a configuration from what is found here, create the repository and its keys
    Init(commands::init::Arguments),
    /// Say what would stop a recovery today
    Check(commands::check::Arguments),
    /// Make a backup
    Backup(commands::backup::Arguments),
    /// List the backups of a cluster
    Backups(commands::backups::Arguments),
    /// Logical dumps: make, list and restore them
    Dump {
        #[command(subcommand)]
        command: commands::dump::Command,
    },
    /// Show what can be reached, or whether one target can
    Window(commands::window::Arguments),
    /// Push, get and inspect WAL
    Wal {
        #[command(subcommand)]
        command: commands::wal::Command,
    },
    /// Find destructive transactions and the target just before them
    Locate(commands::locate::Arguments),
    /// Restore a cluster into an empty directory
    Restore(commands::restore::Arguments),
    /// Make a restored cluster the production of its lineage
    Adopt(commands::adopt::Arguments),
    /// Show every step of a recovery, with effect, undo and time; nothing is touched
    Plan(commands::plan::Arguments),
    /// The plan as Markdown that a person can follow
    Runbook(commands::runbook::Arguments),
    /// Recover a service: from the alert to "declared restored"
    Recover(Box<commands::recover::Arguments>),
    /// The same with other bindings: touches nothing of production
    Drill(commands::drill::Arguments),
    /// Healthy, degraded, damaged or unrecoverable, with the evidence
    Diagnose(commands::diagnose::Arguments),
    /// List recovery runs
    Runs(commands::runs::Arguments),
    /// Look at a run, say something to it, go on with it
    Run {
        #[command(subcommand)]
        command: commands::run::Command,
    },
    /// What a run came to; or check a report's signature
    Report(commands::report::Arguments),
    /// What drills showed, until it is mended
    Finding {
        #[command(subcommand)]
        command: commands::finding::Command,
    },
    /// Open, acknowledge, list, show and close incidents
    Incident {
        #[command(subcommand)]
        command: commands::incident::Command,
    },
    /// What a recovery needs in Kubernetes
    Kubernetes {
        #[command(subcommand)]
        command: commands::kubernetes::Command,
    },
    /// Keys of those who request and approve
    Person {
        #[command(subcommand)]
        command: commands::person::Command,
    },
    /// Prove that what is in the repository can be read
    Verify(commands::verify::Arguments),
    /// Run jobs by themselves, and watch them
    Schedule {
        #[command(subcommand)]
        command: commands::schedule::Command,
    },
    /// Print what is measured, for Prometheus
    Metrics(commands::metrics::Arguments),
    /// Add, rotate, list, remove and prove keys
    Key {
        #[command(subcommand)]
        command: commands::key::Command,
    },
    /// Describe an error code
    Explain(commands::explain::Arguments),
    /// Print completions for a shell
    Completions(commands::completions::Arguments),
    /// Print the version
    Version,
}

/// Answers words that are no command: with what was asked for (help, the version), or with an error
/// that has a code, like every other one.
pub(crate) fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
    }
    let is_given = |option: &str| std::env::args_os().any(|word| word == option);
    let global = Global { config: None, json: is_given("--json"), quiet: false };
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let text = text.split("\n\nFor more information").next().unwrap_or(text).trim_end();
    failure::report(&failure::Error::Usage(text.into()).into(), &Printer::new(&global))
}
