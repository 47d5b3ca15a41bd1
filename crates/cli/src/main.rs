//! The `rollforward` binary: arguments, settings, wiring, printing. The only place where
//! everything meets; it decides nothing that a library crate could decide.

#![allow(clippy::disallowed_methods)] // a shell: it reads the environment and the clock

mod args;
mod commands;
mod config;
mod explain;
mod failure;
mod members;
mod orchestra;
mod output;
mod progress;
mod schedule;
mod secrets;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Keys are in memory, and `wal get` ends by SIGABRT on purpose: no core file of this process.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    // PostgreSQL reads this command's exit code as the state of the archive: it has rules of its
    // own, also for a wrong argument and a panic, and must be as quick as a rename.
    if let Some(code) = commands::wal::get::run_if_asked() {
        return code;
    }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments = match args::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return args::refuse(&error),
    };
    output::start_log(&arguments.global);
    let printer = output::Printer::new(&arguments.global);
    match commands::run(arguments, &printer) {
        Ok(code) => ExitCode::from(code),
        Err(error) => failure::report(&error, &printer),
    }
}
