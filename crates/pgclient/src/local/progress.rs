//! Whether a server that is not there yet still gets on.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{log, process};
use crate::local::Postmaster;

/// How often the signs are looked at; they cost a walk through `/proc`.
const SAMPLE_PERIOD: Duration = Duration::from_millis(500);

/// What changes as long as a server gets on: its log, and what the processes that work during start
/// and shutdown have done. Idle servers change none of it, and neither does a `restore_command`
/// that hangs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Signs {
    log_bytes: u64,
    workers: Vec<(String, u64)>,
    other: String,
}

/// Measures how long nothing has moved.
#[derive(Debug)]
pub(super) struct Progress {
    signs: Signs,
    sampled: Option<Instant>,
    moved: Instant,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { signs: Signs::default(), sampled: None, moved: Instant::now() }
    }

    /// Looks again, if it is time to, and returns for how long nothing has moved. `other` is a sign
    /// that the caller sees, such as a position.
    pub(super) fn quiet_for(
        &mut self,
        data_dir: &Path,
        log: &Path,
        postmaster: Option<&Postmaster>,
        other: &str,
    ) -> Duration {
        if self.sampled.is_none_or(|at| at.elapsed() >= SAMPLE_PERIOD) {
            self.sampled = Some(Instant::now());
            let collected = log::collected(data_dir).map_or(0, |file| log::size(&file));
            let signs = Signs {
                log_bytes: log::size(log) + collected,
                workers: postmaster.map_or_else(Vec::new, |found| workers(found.pid)),
                other: format!("{other} {:?}", postmaster.map(|found| found.state)),
            };
            if signs != self.signs {
                self.signs = signs;
                self.moved = Instant::now();
            }
        }
        self.moved.elapsed()
    }
}

/// Titles and processor time of the startup process and the checkpointer. The startup process shows
/// the segment it works on in its title, and its time includes that of its `restore_command`s.
fn workers(postmaster: u32) -> Vec<(String, u64)> {
    let mut workers: Vec<(String, u64)> = process::all()
        .into_iter()
        .filter_map(|pid| Some((pid, process::stat(pid)?)))
        .filter(|(_, stat)| stat.parent == postmaster)
        .map(|(pid, stat)| (process::title(pid), stat.ticks))
        .filter(|(title, _)| title.contains("startup") || title.contains("checkpointer"))
        .collect();
    workers.sort();
    workers
}
