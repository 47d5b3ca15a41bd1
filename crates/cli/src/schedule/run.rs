//! One run of a job: never two of a kind at a time, its outcome remembered, one line printed,
//! people told when it failed.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use rustix::fs::{FlockOperation, flock};
use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::Value;
use stdx::{Clock, SystemClock};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use super::record::{self, Ended, Kept, Record, Running};
use super::{metrics, watch};
use crate::config::{Config, Job};
use crate::wiring;

/// Longest output of a command that is kept in memory. Results are one line.
const OUTPUT_LEN_MAX: u64 = 4 << 20;

/// Longest message that is remembered, in characters.
const MESSAGE_LEN_MAX: usize = 500;

/// How a run of a job ended.
pub(crate) enum Came {
    /// It ran.
    Ended(Ended),
    /// Another one of its kind runs.
    Skipped,
}

/// Runs a job to its end.
pub(crate) async fn run(config: &Config, job: &Job) -> anyhow::Result<Came> {
    let lock = record::lock_file(config, &format!("{}.lock", job.kind()))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            skip(config, job)?;
            return Ok(Came::Skipped);
        }
        Err(errno) => return Err(errno).context("lock the kind of the job"),
    }
    // The command inherits the lock: as long as it runs no other of its kind begins, also when
    // this process was killed.
    fcntl_setfd(&lock, FdFlags::empty()).context("hand the lock on")?;
    let clock = SystemClock::new();
    let began = clock.now();
    // What cannot be noted is said at the end: the job itself is what matters.
    if let Err(error) = begin(config, job, began) {
        tracing::warn!("the record of job '{}': {error:#}", job.name);
    }
    let started = Instant::now();
    let ran = perform(config, job).await;
    let ended = ended(began, clock.now(), started.elapsed(), ran);
    let mut kept = open(config, job, began)?;
    kept.value.end(ended.clone());
    kept.store()?;
    watch::job(config, job, &mut kept).await?;
    drop(kept);
    // What is measured is not what was to be done.
    if let Err(error) = metrics::refresh(config, SignedDuration::ZERO).await {
        tracing::warn!("metrics are not written: {error:#}");
    }
    drop(lock);
    Ok(Came::Ended(ended))
}

/// A job's record, held.
pub(super) fn open(config: &Config, job: &Job, now: Timestamp) -> anyhow::Result<Kept<Record>> {
    Kept::open(config, &job.name, || Record::new(now))
}

fn skip(config: &Config, job: &Job) -> anyhow::Result<()> {
    let now = SystemClock::new().now();
    let mut kept = open(config, job, now)?;
    kept.value.skipped = Some(now);
    kept.store()
}

fn begin(config: &Config, job: &Job, now: Timestamp) -> anyhow::Result<()> {
    let mut kept = open(config, job, now)?;
    kept.value.bury(now);
    kept.value.running = Some(Running::here(now));
    kept.store()
}

/// What the command said.
struct Said {
    status: ExitStatus,
    document: Value,
    error: String,
}

async fn perform(config: &Config, job: &Job) -> anyhow::Result<Said> {
    let program = wiring::own_program()?;
    let mut command = Command::new(&program);
    command.args(["--json", "--quiet", "--config"]).arg(&config.path).args(&job.words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| shown(&program))?;
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let mut texts = (Vec::new(), Vec::new());
    let read_out = read(out.as_mut(), &mut texts.0);
    let read_err = read(err.as_mut(), &mut texts.1);
    let (status, ..) = tokio::join!(wait(&mut child), read_out, read_err);
    let stdout = String::from_utf8_lossy(&texts.0);
    let document = stdout.lines().last().and_then(|line| serde_json::from_str(line).ok());
    Ok(Said {
        status: status.with_context(|| shown(&program))?,
        document: document.unwrap_or_default(),
        error: String::from_utf8_lossy(&texts.1).into_owned(),
    })
}

fn shown(program: &Path) -> String {
    format!("run '{}'", program.display())
}

/// Reads to the end, and keeps the beginning.
async fn read(from: Option<&mut (impl AsyncReadExt + Unpin)>, into: &mut Vec<u8>) {
    let Some(from) = from else { return };
    let _ = (&mut *from).take(OUTPUT_LEN_MAX).read_to_end(into).await;
    let _ = tokio::io::copy(from, &mut tokio::io::sink()).await;
}

/// Waits for the command; who stops this process stops the command, which then gives up in order.
async fn wait(child: &mut Child) -> std::io::Result<ExitStatus> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    loop {
        tokio::select! {
            status = child.wait() => return status,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
}

fn ended(began: Timestamp, ended: Timestamp, took: Duration, ran: anyhow::Result<Said>) -> Ended {
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let failed = |message: String| Ended {
        began,
        ended,
        milliseconds,
        is_success: false,
        exit: None,
        message: Some(message),
        bytes: None,
        label: None,
    };
    let said = match ran {
        Ok(said) => said,
        Err(error) => return failed(format!("{error:#}")),
    };
    let is_success = said.status.success();
    let text = |pointer: &str| said.document.pointer(pointer).and_then(Value::as_str);
    let number = |pointer: &str| said.document.pointer(pointer).and_then(Value::as_u64);
    Ended {
        is_success,
        exit: said.status.code(),
        message: (!is_success).then(|| message(&said)),
        // A backup has a size, a verification what it read; a run of a service has a name.
        bytes: number("/backup/size").or_else(|| number("/dump/size")).or_else(|| number("/bytes")),
        label: text("/backup/label").or(text("/dump/label")).or(text("/run")).map(str::to_owned),
        ..failed(String::new())
    }
}

/// Why it failed: its own error, else how it ended and the last words on its standard error.
fn message(said: &Said) -> String {
    let error = said.document.pointer("/error");
    let field = |name: &str| error.and_then(|error| error.get(name)).and_then(Value::as_str);
    let text = match (field("code"), field("message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (None, Some(message)) => message.to_owned(),
        (_, None) => {
            let last = said.error.lines().rev().find(|line| !line.trim().is_empty());
            match (said.document.get("verdict").and_then(Value::as_str), last) {
                (Some(verdict), _) => format!("verdict '{verdict}'"),
                (None, Some(last)) => last.trim().to_owned(),
                (None, None) => said.status.to_string(),
            }
        }
    };
    text.chars().take(MESSAGE_LEN_MAX).collect()
}

/// One line, for journals and logs.
pub(crate) fn line(job: &Job, came: &Came) -> String {
    let name = format!("job={} run=\"{}\"", job.name, job.run());
    let Came::Ended(ended) = came else {
        return format!("{name} status=skipped reason=\"another one of its kind runs\"");
    };
    let status = if ended.is_success { "done" } else { "failed" };
    let (seconds, milliseconds) = (ended.milliseconds / 1000, ended.milliseconds % 1000);
    let mut line = format!("{name} status={status} seconds={seconds}.{milliseconds:03}");
    let optional = [
        ("exit", ended.exit.filter(|exit| *exit != 0).map(|exit| exit.to_string())),
        ("bytes", ended.bytes.map(|bytes| bytes.to_string())),
        ("label", ended.label.clone()),
        ("message", ended.message.as_ref().map(|text| format!("{text:?}"))),
    ];
    for (name, value) in optional {
        line.extend(value.map(|value| format!(" {name}={value}")));
    }
    line
}
