//! Running SQL through `psql`.

use std::io::{Seek, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::Install;
use crate::account::as_postgres;

/// Where a server can be reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address<'a> {
    pub(super) socket_dir: &'a Path,
    pub(super) port: u16,
}

/// Returns a `psql` that prints values only (unaligned, tuples only, fields separated by `|`),
/// reads no start file, and stops at the first error.
pub(super) fn command(address: Address<'_>, database: &str) -> Command {
    let mut command = Command::new(Install::psql());
    as_postgres(&mut command);
    command
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres"])
        .arg("-h")
        .arg(address.socket_dir)
        .args(["-p", &address.port.to_string(), "-d", database]);
    command
}

/// Runs `sql`, each statement by itself, and returns what came of it.
pub(super) fn run(address: Address<'_>, database: &str, sql: &str) -> Output {
    // A file and not a pipe: psql answers while it reads, and both pipes could fill up.
    let mut script = tempfile::tempfile_in("/tmp").expect("make a file for the statements");
    script.write_all(sql.as_bytes()).expect("write the statements");
    script.rewind().expect("rewind the statements");
    command(address, database).stdin(Stdio::from(script)).output().expect("run psql")
}
