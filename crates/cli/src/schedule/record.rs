//! What is remembered of a job, beside the host's other state: its runs and its alarms.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::orchestra::files;
use crate::wiring;

/// A run that came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) began: Timestamp,
    pub(crate) ended: Timestamp,
    pub(crate) milliseconds: u64,
    pub(crate) is_success: bool,
    /// The exit code; `None`: it was killed.
    pub(crate) exit: Option<i32>,
    /// What was said when it failed.
    pub(crate) message: Option<String>,
    pub(crate) bytes: Option<u64>,
    pub(crate) label: Option<String>,
}

/// A run under way: which process it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) began: Timestamp,
    pub(crate) boot: String,
    pub(crate) pid: u32,
    pub(crate) started: String,
}

/// Something that is wrong and of which people were told, or are to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Alarm {
    pub(crate) since: Timestamp,
    pub(crate) text: String,
    /// Channels that have heard of it.
    pub(crate) told: Vec<String>,
}

/// Alarms by what they are about.
pub(crate) type Alarms = BTreeMap<String, Alarm>;

/// Everything that is remembered of one job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Since when it is known: a job that never ran is late from here on.
    pub(crate) since: Timestamp,
    pub(crate) running: Option<Running>,
    pub(crate) last: Option<Ended>,
    pub(crate) last_success: Option<Ended>,
    /// Bytes of the success before the last one.
    pub(crate) bytes_before: Option<u64>,
    pub(crate) successes: u64,
    pub(crate) failures: u64,
    /// When a run last ended at once, because another one of its kind ran.
    #[serde(default)]
    pub(crate) skipped: Option<Timestamp>,
    #[serde(default)]
    pub(crate) alarms: Alarms,
}

impl Record {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            since: now,
            running: None,
            last: None,
            last_success: None,
            bytes_before: None,
            successes: 0,
            failures: 0,
            skipped: None,
            alarms: Alarms::new(),
        }
    }

    /// A run came to its end.
    pub(crate) fn end(&mut self, ended: Ended) {
        self.running = None;
        if ended.is_success {
            self.successes = self.successes.saturating_add(1);
            self.bytes_before = self.last_success.as_ref().and_then(|last| last.bytes);
            self.last_success = Some(ended.clone());
        } else {
            self.failures = self.failures.saturating_add(1);
        }
        self.last = Some(ended);
    }

    /// Whether it was skipped after its last run began.
    pub(crate) fn is_skipped(&self) -> bool {
        let began = self.last.as_ref().map(|last| last.began);
        self.skipped.is_some_and(|skipped| began.is_none_or(|began| skipped > began))
    }

    /// A run whose process is gone without a word has failed.
    pub(crate) fn bury(&mut self, now: Timestamp) {
        let Some(running) = self.running.take_if(|running| !running.lives()) else { return };
        let took = now.duration_since(running.began).as_millis();
        self.end(Ended {
            began: running.began,
            ended: now,
            milliseconds: u64::try_from(took).unwrap_or(0),
            is_success: false,
            exit: None,
            message: Some("its process is gone: it was killed, or the machine stopped".into()),
            bytes: None,
            label: None,
        });
    }
}

impl Running {
    /// This process.
    pub(crate) fn here(began: Timestamp) -> Self {
        let pid = std::process::id();
        let started = files::started(pid).unwrap_or_default();
        Self { began, boot: files::boot_id(), pid, started }
    }

    pub(crate) fn lives(&self) -> bool {
        self.boot == files::boot_id()
            && files::started(self.pid).is_some_and(|seen| seen == self.started)
    }
}

/// Where jobs are remembered.
pub(crate) fn folder(config: &Config) -> PathBuf {
    config.state_directory.join("jobs")
}

/// A value in a file that one process at a time looks at and changes.
pub(crate) struct Kept<T> {
    pub(crate) value: T,
    path: PathBuf,
    state_directory: PathBuf,
    /// Released when it is closed.
    _lock: File,
}

impl<T: Serialize + for<'t> Deserialize<'t>> Kept<T> {
    /// Waits for the file and reads it; `new` when there is none. One whose content cannot be read
    /// is set aside and an alarm until somebody takes it away: what people were told must not be
    /// forgotten in silence, and nothing else must stop because of it.
    pub(crate) fn open(
        config: &Config,
        name: &str,
        new: impl FnOnce() -> T,
    ) -> anyhow::Result<Self> {
        let lock = lock_file(config, &format!("{name}.json.lock"))?;
        flock(&lock, FlockOperation::LockExclusive).context("wait for a job's record")?;
        let path = folder(config).join(format!("{name}.json"));
        let value = match read(&path) {
            Ok(value) => value.unwrap_or_else(new),
            Err(Unreadable::Content(error)) => {
                let aside = aside(&path);
                std::fs::rename(&path, &aside)
                    .with_context(|| format!("set '{}' aside", path.display()))?;
                tracing::warn!("set aside as '{}': {error:#}", aside.display());
                new()
            }
            Err(Unreadable::File(error)) => return Err(error),
        };
        let state_directory = config.state_directory.clone();
        Ok(Self { value, path, state_directory, _lock: lock })
    }

    /// Where a record lies that could not be read, until somebody takes it away.
    pub(crate) fn set_aside(&self) -> Option<PathBuf> {
        Some(aside(&self.path)).filter(|path| path.exists())
    }

    /// Writes the value, atomically.
    pub(crate) fn store(&self) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&self.value)?;
        files::write(&self.path, &text)?;
        wiring::hand_to_owner_of(&self.state_directory, &self.path)
    }
}

/// A job's record, without waiting for whoever changes it; `None` also when it cannot be read,
/// which the watchdog tells.
pub(crate) fn look(config: &Config, job: &str) -> Option<Record> {
    let path = folder(config).join(format!("{job}.json"));
    match read(&path) {
        Ok(record) => record,
        Err(Unreadable::Content(error) | Unreadable::File(error)) => {
            tracing::warn!("{error:#}");
            None
        }
    }
}

/// Why a record is not known.
enum Unreadable {
    /// What is in it is no record.
    Content(anyhow::Error),
    /// The file is there and cannot be read.
    File(anyhow::Error),
}

fn read<T: for<'t> Deserialize<'t>>(path: &Path) -> Result<Option<T>, Unreadable> {
    let shown = || format!("read '{}'", path.display());
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Unreadable::File(anyhow::Error::new(error).context(shown())));
        }
    };
    let value = serde_json::from_slice(&bytes);
    value.map(Some).map_err(|error| Unreadable::Content(anyhow::Error::new(error).context(shown())))
}

fn aside(path: &Path) -> PathBuf {
    path.with_extension("json.unreadable")
}

/// A file of the folder of jobs that is only locked. What the superuser makes belongs to whoever
/// runs the jobs.
pub(crate) fn lock_file(config: &Config, name: &str) -> anyhow::Result<File> {
    let folder = folder(config);
    stdx::durable::create_dir_all(&folder)
        .with_context(|| format!("make '{}'", folder.display()))?;
    let path = folder.join(name);
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.open(&path).with_context(|| format!("open '{}'", path.display()))?;
    for made in [&folder, &path] {
        wiring::hand_to_owner_of(&config.state_directory, made)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ended(is_success: bool, bytes: u64) -> Ended {
        Ended {
            began: at(0),
            ended: at(1),
            milliseconds: 1000,
            is_success,
            exit: Some(i32::from(!is_success)),
            message: None,
            bytes: Some(bytes),
            label: None,
        }
    }

    #[test]
    fn runs_are_counted_and_the_size_before_the_last_one_is_kept() {
        let mut record = Record::new(at(0));
        record.end(ended(true, 10));
        record.end(ended(false, 0));
        record.end(ended(true, 4));
        assert_eq!((record.successes, record.failures), (2, 1));
        assert_eq!(record.bytes_before, Some(10), "what failed has no size");
    }

    #[test]
    fn a_process_that_is_gone_has_failed_and_one_that_lives_has_not() {
        let mut record = Record::new(at(0));
        record.running = Some(Running::here(at(5)));
        record.bury(at(9));
        assert!(record.running.is_some() && record.last.is_none());
        record.running = Some(Running { started: "1".into(), ..Running::here(at(5)) });
        record.bury(at(9));
        let last = record.last.unwrap();
        assert_eq!((last.is_success, last.exit, last.milliseconds), (false, None, 4000));
        assert_eq!((record.running, record.failures), (None, 1));
    }
}
