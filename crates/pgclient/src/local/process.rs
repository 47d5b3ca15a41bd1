//! Starting programs under another account, and watching processes through `/proc`.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::{oneshot, watch};

use super::RunAs;
use crate::Error;

/// How much of a program's output an error repeats, from its end.
const OUTPUT_IN_ERROR_MAX: usize = 2000;

/// How a program ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// A process started here; its end is noticed whether or not anybody waits for it.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) ended: watch::Receiver<Option<String>>,
}

/// Runs a program to its end, in `/` and with messages in English.
///
/// # Errors
/// [`Error::Program`] if it cannot be started, fails, or is not done after `deadline` (it is
/// killed).
pub(super) async fn run(
    program: &Path,
    args: Vec<String>,
    run_as: &RunAs,
    deadline: Duration,
) -> Result<Finished, Error> {
    let failed = |reason: String| Error::Program { program: program.to_owned(), reason };
    let mut command = Command::new(program);
    command.args(args).current_dir("/").env("LC_ALL", "C").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let (pid_sender, pid) = oneshot::channel();
    let (output_sender, output) = oneshot::channel();
    let account = run_as.clone();
    // A thread of its own, because it takes on the account.
    thread::spawn(move || {
        let output = account.assume().and_then(|()| command.spawn()).and_then(|child| {
            // Whoever does not listen any more needs neither.
            let _ = pid_sender.send(child.id());
            child.wait_with_output()
        });
        let _ = output_sender.send(output);
    });
    let pid = pid.await.ok();
    let output = match tokio::time::timeout(deadline, output).await {
        Ok(Ok(output)) => output.map_err(|error| failed(error.to_string()))?,
        Ok(Err(_)) => return Err(failed("its watcher ended".into())),
        Err(_) => {
            if let Some(pid) = pid {
                let _ = signal(pid, Signal::KILL); // it may have ended just now
            }
            return Err(failed(format!("it was not done after {} s", deadline.as_secs())));
        }
    };
    let finished = Finished {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    if !finished.status.success() {
        let said = end_of(finished.stderr.trim(), OUTPUT_IN_ERROR_MAX);
        return Err(failed(format!("{}: {said}", finished.status)));
    }
    Ok(finished)
}

/// Starts a process that outlives this one. Its end, with status, shows in `ended`.
pub(super) async fn start(mut command: Command, run_as: &RunAs) -> io::Result<Started> {
    let (started_sender, started) = oneshot::channel();
    let account = run_as.clone();
    thread::spawn(move || {
        let mut child = match account.assume().and_then(|()| command.spawn()) {
            Ok(child) => child,
            Err(error) => {
                let _ = started_sender.send(Err(error)); // nobody listens: nobody to tell
                return;
            }
        };
        // Its copies of the log's descriptors must not stay open here.
        drop(command);
        let (ended_sender, ended) = watch::channel(None);
        let _ = started_sender.send(Ok(Started { pid: child.id(), ended }));
        let how = match child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        ended_sender.send_replace(Some(how));
    });
    started.await.unwrap_or_else(|_| Err(io::Error::other("its watcher ended")))
}

/// Sends a signal; a process that is gone is an error of kind `NotFound`'s errno, ESRCH.
pub(super) fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    kill_process(pid, signal).map_err(Into::into)
}

/// One line of `/proc/PID/stat` as far as it is needed (proc(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) state: char,
    pub(super) parent: u32,
    /// Processor time of it and of its children that have ended, in clock ticks.
    pub(super) ticks: u64,
}

/// `None` if there is no such process.
pub(super) fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything, a parenthesis too.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        ticks,
    })
}

/// Whether the process exists and is not a corpse that only waits to be collected.
pub(super) fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

/// Every process of the machine.
pub(super) fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The title a process shows, its arguments separated by blanks.
pub(super) fn title(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned()
}

/// The last `max` bytes of `text`, more or less, from the start of a character.
fn end_of(text: &str, max: usize) -> &str {
    let from = text.len().saturating_sub(max);
    (from..text.len()).find_map(|at| text.get(at..)).unwrap_or_default()
}
