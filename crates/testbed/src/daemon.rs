//! A server as a process of a test: its own folder, its log, its end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::account::{as_postgres, give_to_postgres};
use crate::tools::INSTALL_COMMAND;
use crate::{Workdir, poll};

const DEADLINE: Duration = Duration::from_secs(60);

/// Longest wait for a process that was asked to end.
const LEAVE_DEADLINE: Duration = Duration::from_secs(10);

/// A running process that ends on drop.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a program as user `postgres`; what it says goes to `NAME.log` in the folder.
    pub(crate) fn start(folder: &Workdir, name: &str, command: &mut Command) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("open the log");
        give_to_postgres(&log);
        let out = file.try_clone().expect("a second handle");
        as_postgres(command).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(out).stderr(file);
        let spawned = command.spawn();
        let child = spawned.unwrap_or_else(|error| panic!("{name}: {error}: `{INSTALL_COMMAND}`"));
        Self { child, log }
    }

    /// Waits until it is ready; shows its log when it ends instead.
    pub(crate) fn wait(&mut self, what: &str, ready: impl Fn() -> bool) {
        poll(DEADLINE, what, || {
            if let Some(status) = self.child.try_wait().expect("ask for its state") {
                panic!("{what}: it ended with {status}:\n{}", self.said());
            }
            ready()
        });
    }

    /// What it has said.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks it to end, with what it started, and waits; after a while it is ended.
    pub(crate) fn leave(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).output();
        let began = std::time::Instant::now();
        while began.elapsed() < LEAVE_DEADLINE && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::yield_now();
        }
        self.end();
    }

    /// Ends it.
    pub(crate) fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether somebody takes connections at a port of 127.0.0.1.
pub(crate) fn listens(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// Runs a program to its end.
pub(crate) fn ran(command: &mut Command) {
    let output = as_postgres(command).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}: `{INSTALL_COMMAND}`"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
}

/// Runs a program to its end with a text on its standard input.
pub(crate) fn fed(command: &mut Command, text: impl AsRef<Path>) {
    let file = File::open(text).expect("open the text");
    let output = as_postgres(command).stdin(file).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}: `{INSTALL_COMMAND}`"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
}
