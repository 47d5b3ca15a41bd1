//! Restoring beside: our own `restore --start`, in a directory that carries the step's key.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use pgclient::local::StopMode;
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::Parameters;

use super::commands::{repository, target};
use super::{QUIET_MAX, control, postmaster, server, user, value};
use crate::OwnProgram;

/// The file beside the directory that says whose it is.
const MARK: &str = "rollforward-run";

/// How long a restore that is told to stop may take.
const STOP_MAX: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct RestoreBeside {
    own: OwnProgram,
}

impl RestoreBeside {
    pub(crate) fn new(own: OwnProgram) -> Self {
        Self { own }
    }
}

fn directory(context: &StepContext) -> Result<PathBuf, Failure> {
    Ok(PathBuf::from(context.parameter("directory")?))
}

fn mark(directory: &Path) -> PathBuf {
    directory.with_extension(MARK)
}

/// What the mark of this step says: run, step and key.
fn marked(context: &StepContext) -> String {
    format!("{} {} {}\n", context.run, context.step.id, context.key)
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none())
}

/// Processes of ours that restore into the directory.
fn restores(directory: &Path) -> Vec<u32> {
    let wanted = directory.as_os_str().as_encoded_bytes();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words.contains(&b"restore".as_slice())
            && words.windows(2).any(|pair| pair[0] == b"--to" && pair[1] == wanted)
    })
    .collect()
}

/// How much is there: changes while a restore goes on.
fn progress(directory: &Path) -> String {
    let base = directory.join("base");
    let folders = std::fs::read_dir(&base).map_or(0, Iterator::count);
    let mut bytes = 0;
    let mut pending = vec![base];
    while let Some(folder) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => pending.push(entry.path()),
                Ok(meta) => bytes += meta.len(),
                Err(_) => {}
            }
        }
    }
    let replayed = super::control(directory)
        .map_or_else(|_| String::new(), |control| format!(", checkpoint {}", control.checkpoint));
    format!("{folders} databases, {}{replayed}", stdx::ByteCount::new(bytes))
}

fn look(context: &StepContext) -> Result<Found, Failure> {
    let directory = directory(context)?;
    let seen = match std::fs::read_to_string(mark(&directory)) {
        Ok(seen) => Some(seen),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Ok(Found::Unknown(error.to_string())),
    };
    match seen {
        None if is_empty(&directory) => return Ok(Found::Absent),
        None => return Ok(Found::Foreign(format!("'{}' is not empty", directory.display()))),
        Some(seen) if seen != marked(context) => {
            return Ok(Found::Foreign(format!("'{}' is of {}", directory.display(), seen.trim())));
        }
        Some(_) => {}
    }
    if !restores(&directory).is_empty() {
        return Ok(Found::Running { progress: progress(&directory) });
    }
    if is_empty(&directory) {
        return Ok(Found::Absent);
    }
    match postmaster(&directory)? {
        Some(_) => Ok(Found::Done),
        None => Ok(Found::Broken(format!("no server runs in '{}'", directory.display()))),
    }
}

async fn end_restores(directory: &Path) -> Result<(), Failure> {
    let mut waited = Duration::ZERO;
    loop {
        let pids = restores(directory);
        if pids.is_empty() {
            return Ok(());
        }
        for pid in &pids {
            let _ = tokio::process::Command::new("kill").arg(pid.to_string()).status().await;
        }
        if waited > STOP_MAX {
            return Err(Failure::retry("RF1101", format!("restores {pids:?} do not end")));
        }
        tokio::time::sleep(POLL).await;
        waited += POLL;
    }
}

#[async_trait]
impl Effect for RestoreBeside {
    async fn probe(&self, context: &StepContext) -> Found {
        look(context).unwrap_or_else(|failure| Found::Unknown(failure.message))
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        let directory = directory(context)?;
        let path = mark(&directory);
        match stdx::durable::create_new(&path, marked(context).as_bytes(), 0o644) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(Failure::terminal("RF1104", format!("'{}': {error}", path.display()))
                    .hint("may this user write there?"));
            }
        }
        if postmaster(&directory).is_ok_and(|found| found.is_some()) {
            return Ok(());
        }
        let mut words = vec!["restore".to_owned(), context.parameter("cluster")?.to_owned()];
        words.extend(["--to".into(), directory.display().to_string()]);
        words.extend(target(context)?.options());
        words.extend(repository(context));
        if let Some(backup) = context.parameters.get("backup") {
            words.extend(["--backup".into(), backup.clone()]);
        }
        if let Some(bin) = context.parameters.get("bin_directory") {
            words.extend(["--bin-directory".into(), bin.clone()]);
        }
        if context.parameters.get("copy").is_some_and(|copy| copy == "true") {
            words.push("--copy".into());
        }
        words.push("--start".into());
        self.own.run(&words).await.map(drop)
    }

    async fn verify(&self, context: &StepContext) -> Result<Parameters, Failure> {
        let directory = directory(context)?;
        let found = postmaster(&directory)?.ok_or_else(|| {
            Failure::retry("RF1105", format!("no server runs in '{}'", directory.display()))
        })?;
        let options = found.connect_options(&user(context)?).ok_or_else(|| {
            Failure::retry("RF1105", "the restored server says no address".to_owned())
        })?;
        let client = pgclient::Client::connect(&options)
            .await
            .map_err(|error| Failure::retry("RF1105", error.to_string()))?;
        if value(&client, "SELECT pg_is_in_recovery()::text").await?.as_deref() != Some("false") {
            return Err(Failure::retry("RF1105", "the restored server is still in recovery"));
        }
        let control = control(&directory)?;
        let mut outputs = Parameters::from([
            ("directory".into(), directory.display().to_string()),
            ("host".into(), found.listen_address.clone().unwrap_or_else(|| "127.0.0.1".into())),
            ("port".into(), found.port.unwrap_or_default().to_string()),
            ("new_system_id".into(), control.system_id.to_string()),
        ]);
        let socket = found.socket_dir.map(|path| path.display().to_string());
        outputs.extend(socket.map(|path| ("socket".to_owned(), path)));
        let facts = [
            (
                "newest_commit",
                "SELECT to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
            ),
            ("new_timeline", "SELECT timeline_id::text FROM pg_control_checkpoint()"),
            ("version", "SHOW server_version"),
        ];
        for (name, sql) in facts {
            outputs.extend(value(&client, sql).await?.map(|seen| (name.to_owned(), seen)));
        }
        Ok(outputs)
    }

    async fn undo(&self, context: &StepContext) -> Result<String, Failure> {
        let directory = directory(context)?;
        let path = mark(&directory);
        match std::fs::read_to_string(&path) {
            Ok(seen) if seen == marked(context) => {}
            Ok(seen) => {
                return Err(Failure::terminal(
                    "RF1010",
                    format!("'{}' is of {}", directory.display(), seen.trim()),
                ));
            }
            // Never begun, or gone before.
            Err(_) => return Ok("nothing was there".into()),
        }
        end_restores(&directory).await?;
        if postmaster(&directory).is_ok_and(|found| found.is_some()) {
            let local = server(context, &directory).await?;
            local
                .stop(StopMode::Immediate, QUIET_MAX)
                .await
                .map_err(|error| Failure::retry("RF1105", error.to_string()))?;
        }
        let io = |error: std::io::Error| {
            Failure::retry("RF1104", format!("'{}': {error}", directory.display()))
        };
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        let _ = std::fs::remove_file(directory.with_extension("log"));
        // The mark last: until then a repeat knows whose it is.
        stdx::durable::remove(&path).map_err(io)?;
        Ok(format!("'{}' is removed", directory.display()))
    }
}
