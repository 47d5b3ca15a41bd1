//! One module a command: its arguments, `run`, and what it prints.

pub(crate) mod adopt;
pub(crate) mod backup;
pub(crate) mod backups;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod diagnose;
pub(crate) mod drill;
pub(crate) mod dump;
pub(crate) mod explain;
pub(crate) mod finding;
pub(crate) mod incident;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod kubernetes;
pub(crate) mod locate;
pub(crate) mod metrics;
pub(crate) mod person;
pub(crate) mod plan;
pub(crate) mod recover;
pub(crate) mod report;
pub(crate) mod restore;
pub(crate) mod run;
pub(crate) mod runbook;
pub(crate) mod runs;
pub(crate) mod schedule;
pub(crate) mod target_arguments;
pub(crate) mod verify;
pub(crate) mod version;
pub(crate) mod wal;
pub(crate) mod window;

use crate::args::{Arguments, Command, Global};
use crate::config::Config;
use crate::output::Printer;

/// What every command is handed.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) global: Global,
    pub(crate) printer: &'a Printer,
}

impl Context<'_> {
    /// The configuration of this host.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        Ok(Config::load(self.global.config.as_deref())?)
    }
}

/// Runs the command; the number is the process's exit code.
pub(crate) fn run(arguments: Arguments, printer: &Printer) -> anyhow::Result<u8> {
    let context = Context { global: arguments.global, printer };
    match arguments.command {
        Command::Demo(arguments) => demo::run(&context, &arguments),
        Command::Init(arguments) => init::run(&context, &arguments),
        Command::Check(arguments) => check::run(&context, &arguments),
        Command::Backup(arguments) => backup::run(&context, &arguments),
        Command::Backups(arguments) => backups::run(&context, &arguments),
        Command::Window(arguments) => window::run(&context, &arguments),
        Command::Dump { command } => dump::run(&context, &command),
        Command::Wal { command } => wal::run(&context, &command),
        Command::Locate(arguments) => locate::run(&context, &arguments),
        Command::Restore(arguments) => restore::run(&context, &arguments),
        Command::Adopt(arguments) => adopt::run(&context, &arguments),
        Command::Plan(arguments) => plan::run(&context, &arguments),
        Command::Runbook(arguments) => runbook::run(&context, &arguments),
        Command::Recover(arguments) => recover::run(&context, &arguments),
        Command::Drill(arguments) => drill::run(&context, &arguments),
        Command::Diagnose(arguments) => diagnose::run(&context, &arguments),
        Command::Runs(arguments) => runs::run(&context, &arguments),
        Command::Run { command } => run::run(&context, &command),
        Command::Report(arguments) => report::run(&context, &arguments),
        Command::Finding { command } => finding::run(&context, &command),
        Command::Incident { command } => incident::run(&context, &command),
        Command::Kubernetes { command } => kubernetes::run(&context, &command),
        Command::Person { command } => person::run(&context, &command),
        Command::Verify(arguments) => verify::run(&context, &arguments),
        Command::Schedule { command } => schedule::run(&context, &command),
        Command::Metrics(arguments) => metrics::run(&context, &arguments),
        Command::Key { command } => key::run(&context, &command),
        Command::Explain(arguments) => explain::run(&context, &arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Version => Ok(version::run(&context)),
    }
}
