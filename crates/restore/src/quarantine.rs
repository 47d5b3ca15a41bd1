//! Quarantine: a restored cluster harms nobody until it is adopted.
//!
//! It has its own port, loopback only, a client authentication of its own, no synchronous standby
//! names, no upstream, no logical replication workers, no cron launcher. One meant as a look or a
//! drill archives nothing; one that may become production has archiving on with `wal push --hold`,
//! which keeps its WAL in `pg_wal` until it is adopted.

mod lift;

use std::path::{Path, PathBuf};

use pg::MajorVersion;
use pg::recovery::{
    ArchiveRecovery, RecoverySettings, RecoveryTarget, TargetAction, TargetTimeline,
};
use repository::root::Root;

use crate::Error;

pub use lift::{is_quarantined, lift};

/// Client authentication of a cluster in quarantine, in its data directory.
pub const HBA_FILE: &str = "rollforward.hba.conf";

/// Our block once more, in the data directory: `ALTER SYSTEM` rewrites `postgresql.auto.conf` and
/// drops the marks in it, and then only this file tells which settings are the quarantine's.
pub const QUARANTINE_FILE: &str = "rollforward.quarantine";

/// Libraries that start work of their own when the server starts: jobs, and replication from or to
/// others. None of them is needed to replay WAL.
const LAUNCHER_LIBRARIES: [&str; 13] = [
    "pg_cron",
    "pg_partman_bgw",
    "pg_squeeze",
    "pg_task",
    "pglogical",
    "spock",
    "bdr",
    "pg_timetable",
    "pg_net",
    "pg_dbms_job",
    "pg_failover_slots",
    "pgautofailover",
    "citus",
];

/// The last major with the setting `stats_temp_directory`.
const STATS_FOLDER_LAST: u32 = 14;

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

    /// Our block, and the libraries that are not loaded.
    pub(crate) fn block(
        &self,
        root: &Root,
        directory: &Path,
    ) -> Result<(String, Vec<String>), Error> {
        let failed = |reason: String| Error::Settings { reason };
        let major = MajorVersion::from_server_version_num(root.summary.server_version)
            .map_err(|error| failed(error.to_string()))?;
        let mut block = RecoverySettings::new(major);
        for (name, value) in self.settings(root, major, directory) {
            if pg::recovery::has_setting(major, name) {
                block.add(name, &value).map_err(|error| failed(error.to_string()))?;
            }
        }
        let mut left_out = Vec::new();
        if let Some(libraries) = root.details.settings.get("shared_preload_libraries") {
            let (kept, launchers) = without_launchers(libraries);
            if !launchers.is_empty() {
                let kept = kept.join(", ");
                block
                    .add("shared_preload_libraries", &kept)
                    .map_err(|error| failed(error.to_string()))?;
                let name = |library| format!("shared_preload_libraries {library}");
                left_out = launchers.into_iter().map(name).collect();
            }
        }
        if let Some(recovery) = &self.recovery {
            block.add_recovery(recovery).map_err(|error| failed(error.to_string()))?;
        }
        Ok((block.render(), left_out))
    }

    fn settings(
        &self,
        root: &Root,
        major: MajorVersion,
        directory: &Path,
    ) -> Vec<(&'static str, String)> {
        let source = &root.details.settings;
        let (archive_mode, archive_command) = match &self.destiny {
            Destiny::Copy => ("off", String::new()),
            Destiny::Production { hold_command } => ("on", hold_command.clone()),
        };
        let mut settings = vec![
            ("listen_addresses", "127.0.0.1".into()),
            ("port", self.port.to_string()),
            ("unix_socket_directories", self.socket_directory.display().to_string()),
            // The data directory may be open to the group, and the socket trusts whoever gets in.
            ("unix_socket_permissions", "0700".into()),
            // A relative path would be looked for where the server happens to be started.
            ("hba_file", directory.join(HBA_FILE).display().to_string()),
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
            // Its log is where the one who starts it sees it, not among the original's.
            ("logging_collector", "off".into()),
            ("log_destination", "stderr".into()),
            // The original may have taken all huge pages there are.
            ("huge_pages", "try".into()),
        ];
        // Its tables need the library; its jobs would reach other systems.
        if source.get("shared_preload_libraries").is_some_and(|all| all.contains("timescaledb")) {
            settings.push(("timescaledb.max_background_workers", "0".into()));
        }
        if major.get() <= STATS_FOLDER_LAST {
            // Debian's lies in /run, where the original's is.
            settings.push(("stats_temp_directory", "pg_stat_tmp".into()));
        }
        // Replay stops when one of these is lower than on the source
        // (CheckRequiredParameterValues).
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
        settings
    }
}

/// The libraries to load, and those left out.
fn without_launchers(libraries: &str) -> (Vec<&str>, Vec<&str>) {
    let names = libraries.split(',').map(|name| name.trim().trim_matches('"'));
    names.filter(|name| !name.is_empty()).partition(|name| {
        let base = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".so");
        !LAUNCHER_LIBRARIES.contains(&base)
    })
}

#[cfg(test)]
mod tests {
    use super::without_launchers;

    #[test]
    fn takes_out_what_would_start_work_of_its_own() {
        let check = |seen: &str, kept: &[&str], out: &[&str]| {
            assert_eq!(without_launchers(seen), (kept.to_vec(), out.to_vec()), "{seen}");
        };
        check("", &[], &[]);
        check("pg_stat_statements, pg_cron", &["pg_stat_statements"], &["pg_cron"]);
        check("\"pglogical\",auto_explain", &["auto_explain"], &["pglogical"]);
        check("$libdir/pg_cron.so", &[], &["$libdir/pg_cron.so"]);
    }
}
