//! Running one of PostgreSQL's programs with its input or output in our hands.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;

use pgclient::{ConnectOptions, Secret};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::error::DumpError;

/// What is kept of a program's messages: a restore with more has more wrong with it than anybody
/// reads, and what is cut off counts as an error.
pub(super) const MESSAGES_LEN_MAX: usize = 4 << 20;

/// A program to be run.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) variables: Vec<(&'static str, Secret)>,
    /// What it does, for errors.
    pub(super) what: String,
}

/// What a program wrote to standard error.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) text: String,
    /// Whether there was more than is kept.
    pub(super) is_cut: bool,
}

impl Program {
    pub(super) fn new(path: PathBuf, connection: &ConnectOptions, what: String) -> Self {
        Self { path, arguments: Vec::new(), variables: connection.environment(), what }
    }

    pub(super) fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Starts it with messages in English and without anything else of our environment. It is
    /// killed when the child is dropped.
    pub(super) fn spawn(&self, stdin: Stdio, stdout: Stdio) -> Result<Child, DumpError> {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).current_dir("/").env_clear();
        command.env("LC_ALL", "C").env("PATH", "/usr/bin:/bin");
        for (name, value) in &self.variables {
            command.env(name, value.expose());
        }
        command.stdin(stdin).stdout(stdout).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().map_err(|error| self.failed(error.to_string()))
    }

    pub(super) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    pub(super) fn failed(&self, reason: String) -> DumpError {
        DumpError::Program { program: self.name(), what: self.what.clone(), reason }
    }
}

/// Reads messages to their end.
pub(super) async fn messages(stream: Option<impl AsyncRead + Unpin>) -> Said {
    let Some(mut stream) = stream else { return Said::default() };
    let (mut kept, mut is_cut) = (Vec::new(), false);
    let mut buffer = vec![0; 16 << 10];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(len) => {
                let room = MESSAGES_LEN_MAX.saturating_sub(kept.len());
                is_cut |= len > room;
                kept.extend_from_slice(buffer.get(..len.min(room)).unwrap_or_default());
            }
        }
    }
    Said { text: String::from_utf8_lossy(&kept).into_owned(), is_cut }
}

/// The end of what a program said, for an error.
pub(super) fn last_lines(said: &Said) -> String {
    const LINES_MAX: usize = 6;
    let lines: Vec<&str> = said.text.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(LINES_MAX);
    lines.get(from..).unwrap_or_default().join("; ")
}
