//! A container: a process in its own group.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

use super::environment::{Variables, expand};
use super::{entries, text};
use crate::account::{as_postgres, give_to_postgres};

/// What a container writes, both streams.
const LOG: &str = "log";

/// How much of it a status may hold; the kubelet's own bound (`MaxPodTerminationMessageLogLength`).
const MESSAGE_BYTES: usize = 2048;

/// A running container. Its whole group is killed on drop.
#[derive(Debug)]
pub(super) struct Container {
    child: Child,
    /// Its id may be another's by now.
    is_reaped: bool,
    pub(super) started: Timestamp,
}

/// How one ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    /// As shells tell it: 128 and the signal for one that a signal ended.
    pub(super) code: i32,
    pub(super) started: Timestamp,
    pub(super) finished: Timestamp,
    /// The end of what it wrote.
    pub(super) message: String,
}

impl Container {
    /// Starts the container `spec` in `folder`.
    pub(super) fn start(spec: &Value, folder: &Path, variables: &Variables) -> io::Result<Self> {
        prepare(folder)?;
        let word = |word: &Value| expand(word.as_str().unwrap_or_default(), variables);
        let words = entries(spec, "/command").iter().chain(entries(spec, "/args")).map(word);
        let words: Vec<String> = words.collect();
        let [program, arguments @ ..] = words.as_slice() else {
            return Err(io::Error::other("no command specified"));
        };
        let log = File::create(folder.join(LOG))?;
        let mut command = Command::new(program);
        as_postgres(&mut command)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", folder)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .current_dir(text(spec, "/workingDir").map_or(folder, Path::new))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        Ok(Self { child: command.spawn()?, is_reaped: false, started: Timestamp::now() })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        if let Some(pid) = self.id() {
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Ends it and all it has started.
    pub(super) fn kill(&self) {
        if let Some(pid) = self.id() {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }

    /// Returns how it ended, if it did.
    pub(super) fn ended(&mut self, folder: &Path) -> Option<Ended> {
        let status = self.child.try_wait().expect("look after a container")?;
        // As with a container: nothing outlives its first process.
        self.kill();
        self.is_reaped = true;
        Some(Ended {
            code: code(status),
            started: self.started,
            finished: Timestamp::now(),
            message: tail(folder),
        })
    }

    fn id(&self) -> Option<Pid> {
        if self.is_reaped {
            return None;
        }
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}

/// Makes the pod's folder.
fn prepare(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    give_to_postgres(folder);
    Ok(())
}

fn code(status: ExitStatus) -> i32 {
    let signal = || status.signal().map(|signal| 128 + signal);
    status.code().or_else(signal).expect("a process ends by itself or by a signal")
}

/// All that the last container of a pod wrote.
pub(super) fn log(folder: &Path) -> String {
    String::from_utf8_lossy(&fs::read(folder.join(LOG)).unwrap_or_default()).into_owned()
}

fn tail(folder: &Path) -> String {
    let text = log(folder);
    let from = text.len().saturating_sub(MESSAGE_BYTES);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at));
    text.get(from.unwrap_or_default()..).unwrap_or_default().to_owned()
}
