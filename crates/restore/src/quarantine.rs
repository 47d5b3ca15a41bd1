//! Quarantine: a restored cluster harms nobody until it is adopted.
//!
//! It has its own port, loopback only, a client authentication of its own, no synchronous standby
//! names, no upstream, no logical replication workers, no cron launcher. One meant as a look or a
//! drill archives nothing; one that may become production has archiving on with `wal push --hold`,
//! which keeps its WAL in `pg_wal` until it is adopted.

use std::path::{Path, PathBuf};

use pg::MajorVersion;
use pg::recovery::{ArchiveRecovery, RecoveryTarget, RecoverySettings, TargetAction, TargetTimeline};
use repository::root::Root;

use crate::Error;

/// Client authentication of a cluster in quarantine, in its data directory.
pub const HBA_FILE: &str = "rollforward.hba.conf";

/// Libraries that start work of their own when the server starts.
const LAUNCHER_LIBRARIES: [&str; 3] = ["pg_cron", "pgagent", "pg_timetable"];

/// What a restored cluster is meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destiny {
    /// To be looked at, drilled or plundered: it never archives.
    Copy,
    /// It may become production: its WAL is kept until it is adopted.
    Production {
        /// `archive_command` that answers "not yet" until the cluster is adopted.
        hold_command: String,
    },
}

/// The settings of one restored cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// What it is meant for.
    pub destiny: Destiny,
    /// Its port, on loopback and its socket.
    pub port: u16,
    /// Folder of its socket; short, because a socket's path has at most 107 bytes.
    pub socket_directory: PathBuf,
    /// How it recovers; `None` leaves the backup to replay only what its own directory holds.
    pub recovery: Option<ArchiveRecovery>,
    /// Who may connect: lines of `pg_hba.conf`.
    pub hba: String,
}

impl Quarantine {
    /// Recovery from the archive along one timeline.
    #[must_use]
    pub fn recovery(
        restore_command: String,
        timeline: pg::TimelineId,
        target: Option<RecoveryTarget>,
        action: TargetAction,
    ) -> ArchiveRecovery {
        ArchiveRecovery { restore_command, timeline: TargetTimeline::Id(timeline), target, action }
    }

    pub(crate) fn recovers(&self) -> bool {
        self.recovery.is_some()
    }

    /// Files beside the settings.
    pub(crate) fn files(&self) -> [(&'static str, &str); 1] {
        [(HBA_FILE, &self.hba)]
    }

    /// `auto` with our block at its end.
    pub(crate) fn apply(&self, root: &Root, auto: &str) -> Result<String, Error> {
        let failed = |reason: String| Error::Settings { reason };
        let major = MajorVersion::from_server_version_num(root.summary.server_version)
            .map_err(|error| failed(error.to_string()))?;
        let mut block = RecoverySettings::new(major);
        for (name, value) in self.settings(root) {
            if pg::recovery::has_setting(major, name) {
                block.add(name, &value).map_err(|error| failed(error.to_string()))?;
            }
        }
        if let Some(recovery) = &self.recovery {
            block.add_recovery(recovery).map_err(|error| failed(error.to_string()))?;
        }
        block.apply(auto).map_err(|error| failed(error.to_string()))
    }

    fn settings(&self, root: &Root) -> Vec<(&'static str, String)> {
        let source = &root.details.settings;
        let (archive_mode, archive_command) = match &self.destiny {
            Destiny::Copy => ("off", String::new()),
            Destiny::Production { hold_command } => ("on", hold_command.clone()),
        };
        let mut settings = vec![
            ("listen_addresses", "127.0.0.1".into()),
            ("port", self.port.to_string()),
            ("unix_socket_directories", self.socket_directory.display().to_string()),
            ("hba_file", HBA_FILE.into()),
            ("ssl", "off".into()),
            ("synchronous_standby_names", String::new()),
            ("synchronized_standby_slots", String::new()),
            ("primary_conninfo", String::new()),
            ("primary_slot_name", String::new()),
            ("max_logical_replication_workers", "0".into()),
            ("archive_mode", archive_mode.into()),
            ("archive_library", String::new()),
            ("archive_command", archive_command),
            ("hot_standby", "on".into()),
        ];
        // Replay stops when one of these is lower than on the source (CheckRequiredParameterValues).
        for name in [
            "max_connections",
            "max_worker_processes",
            "max_wal_senders",
            "max_prepared_transactions",
            "max_locks_per_transaction",
        ] {
            if let Some(value) = source.get(name) {
                settings.push((name, value.clone()));
            }
        }
        if let Some(libraries) = source.get("shared_preload_libraries") {
            settings.push(("shared_preload_libraries", without_launchers(libraries)));
        }
        settings
    }
}

fn without_launchers(libraries: &str) -> String {
    let kept: Vec<&str> = libraries
        .split(',')
        .map(|name| name.trim().trim_matches('"'))
        .filter(|name| {
            let base = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".so");
            !name.is_empty() && !LAUNCHER_LIBRARIES.contains(&base)
        })
        .collect();
    kept.join(", ")
}

/// Whether the cluster in `directory` is in quarantine: our block stands in its settings.
///
/// # Errors
/// The file system's.
pub fn is_quarantined(directory: &Path) -> Result<bool, Error> {
    let path = directory.join("postgresql.auto.conf");
    let text = std::fs::read_to_string(&path).map_err(|error| Error::file("read", &path, error))?;
    Ok(text.lines().any(|line| line.trim() == pg::recovery::BEGIN_MARK))
}

/// Lifts the quarantine: our block is replaced by `settings` (name and value), which the adopted
/// cluster needs; with none of them the block is gone. Takes effect at the next start.
///
/// # Errors
/// [`Error::NotQuarantined`]; the file system's.
pub fn lift(
    directory: &Path,
    settings: &[(&str, String)],
    major: MajorVersion,
) -> Result<(), Error> {
    let path = directory.join("postgresql.auto.conf");
    if !is_quarantined(directory)? {
        return Err(Error::NotQuarantined {
            path: directory.into(),
            reason: format!("expected '{}' in postgresql.auto.conf", pg::recovery::BEGIN_MARK),
        });
    }
    let text = std::fs::read_to_string(&path).map_err(|error| Error::file("read", &path, error))?;
    let failed = |error: pg::recovery::RecoveryError| Error::Settings { reason: error.to_string() };
    let mut block = RecoverySettings::new(major);
    for (name, value) in settings {
        block.add(name, value).map_err(failed)?;
    }
    let text = if settings.is_empty() {
        pg::recovery::strip_block(&text).map_err(failed)?
    } else {
        block.apply(&text).map_err(failed)?
    };
    stdx::durable::write_atomic(&path, text.as_bytes(), 0o600)
        .map_err(|error| Error::file("write", &path, error))
}

#[cfg(test)]
mod tests {
    use super::without_launchers;

    #[test]
    fn takes_out_what_would_start_work_of_its_own() {
        for (seen, expect) in [
            ("", ""),
            ("pg_stat_statements, pg_cron", "pg_stat_statements"),
            ("\"pg_cron\",auto_explain", "auto_explain"),
            ("$libdir/pg_cron.so", ""),
        ] {
            assert_eq!(without_launchers(seen), expect);
        }
    }
}
