//! Orders to a running server, and how it fares.

use std::time::Duration;

use jiff::Timestamp;
use pg::Lsn;

use crate::rows::{Row, literal, setting_name, setting_value};
use crate::{Client, Error};

/// How archiving fares (`pg_stat_archiver`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiverStatus {
    /// Files archived since the counters were reset.
    pub archived_count: u64,
    /// The last file archived.
    pub last_archived: Option<String>,
    /// When.
    pub last_archived_time: Option<Timestamp>,
    /// Attempts that failed since the counters were reset.
    pub failed_count: u64,
    /// The last file whose archiving failed.
    pub last_failed: Option<String>,
    /// When.
    pub last_failed_time: Option<Timestamp>,
}

/// Whether replay pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseState {
    /// It runs.
    NotPaused,
    /// It is asked to, and not there yet.
    Requested,
    /// It stands still.
    Paused,
}

/// Where replay is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayState {
    /// Whether the server is in recovery at all; when not, the rest is what remained.
    pub in_recovery: bool,
    /// End of the last record replayed; `None` if nothing was.
    pub replayed: Option<Lsn>,
    /// End of the WAL received by streaming.
    pub received: Option<Lsn>,
    /// Commit time of the last transaction replayed.
    pub last_commit: Option<Timestamp>,
    /// Whether it pauses.
    pub pause: PauseState,
}

impl Client {
    /// Where the next WAL record will be inserted. Not in recovery.
    ///
    /// # Errors
    /// As [`Client::query_text`]; SQLSTATE 55000 in recovery.
    pub async fn current_wal_lsn(&self) -> Result<Lsn, Error> {
        let sql = "SELECT pg_catalog.pg_current_wal_insert_lsn() AS lsn";
        self.fact("read the WAL position", sql, lsn).await
    }

    /// Ends the current segment, so that it can be archived. Returns the end of its last record;
    /// nothing happens, and the start of the current segment comes back, if it has none.
    ///
    /// # Errors
    /// As [`Client::current_wal_lsn`].
    pub async fn switch_wal(&self) -> Result<Lsn, Error> {
        self.fact("switch the WAL segment", "SELECT pg_catalog.pg_switch_wal() AS lsn", lsn).await
    }

    /// Writes a named point into the WAL that recovery can aim at; returns its end.
    ///
    /// # Errors
    /// As [`Client::current_wal_lsn`]; SQLSTATE 22023 for a name of 64 bytes or more.
    pub async fn create_restore_point(&self, name: &str) -> Result<Lsn, Error> {
        let sql = format!("SELECT pg_catalog.pg_create_restore_point({}) AS lsn", literal(name));
        self.fact("create a restore point", &sql, lsn).await
    }

    /// Runs a checkpoint (on a standby a restart point), at full speed.
    ///
    /// # Errors
    /// As [`Client::query_text`].
    pub async fn checkpoint(&self, deadline: Duration) -> Result<(), Error> {
        self.simple("run a checkpoint", "CHECKPOINT", deadline).await.map(drop)
    }

    /// Writes one setting into `postgresql.auto.conf`; [`Client::reload`] or a restart makes it
    /// count. `value` is what would stand in the file; a list is split at its commas.
    ///
    /// # Errors
    /// As [`Client::query_text`]; 42704 for an unknown setting, 22023 for a bad value.
    pub async fn alter_system(&self, name: &str, value: &str) -> Result<(), Error> {
        let value = setting_value(name, value);
        self.run(&format!("ALTER SYSTEM SET {} = {value}", setting_name(name))).await
    }

    /// Takes one setting out of `postgresql.auto.conf`.
    ///
    /// # Errors
    /// As [`Client::alter_system`].
    pub async fn alter_system_reset(&self, name: &str) -> Result<(), Error> {
        self.run(&format!("ALTER SYSTEM RESET {}", setting_name(name))).await
    }

    /// Makes the server read its configuration again. It does so soon, not before this returns.
    ///
    /// # Errors
    /// As [`Client::query_text`].
    pub async fn reload(&self) -> Result<(), Error> {
        let sql = "SELECT pg_catalog.pg_reload_conf() AS done";
        self.fact("reload the configuration", sql, |row| row.bool("done")).await.map(drop)
    }

    /// How archiving fares.
    ///
    /// # Errors
    /// As [`Client::query_text`].
    pub async fn archiver_status(&self) -> Result<ArchiverStatus, Error> {
        let sql = "SELECT archived_count, last_archived_wal,
                extract(epoch FROM last_archived_time) AS archived_at,
                failed_count, last_failed_wal, extract(epoch FROM last_failed_time) AS failed_at
            FROM pg_catalog.pg_stat_archiver";
        self.fact("read the archiver's state", sql, |row| {
            Ok(ArchiverStatus {
                archived_count: row.parse("archived_count")?,
                last_archived: row.opt_string("last_archived_wal")?,
                last_archived_time: row.opt_time("archived_at")?,
                failed_count: row.parse("failed_count")?,
                last_failed: row.opt_string("last_failed_wal")?,
                last_failed_time: row.opt_time("failed_at")?,
            })
        })
        .await
    }

    /// Ends all other clients' sessions, of every database; returns how many were told to. New ones
    /// may come at once: shut the door first.
    ///
    /// # Errors
    /// As [`Client::query_text`].
    pub async fn terminate_others(&self) -> Result<u64, Error> {
        let sql = "SELECT count(*) FILTER (WHERE pg_catalog.pg_terminate_backend(pid)) AS told
            FROM pg_catalog.pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()";
        self.fact("end other sessions", sql, |row| row.parse("told")).await
    }

    /// How many other clients have a session, of every database.
    ///
    /// # Errors
    /// As [`Client::query_text`].
    pub async fn other_sessions(&self) -> Result<u64, Error> {
        let sql = "SELECT count(*) AS number FROM pg_catalog.pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()";
        self.fact("count other sessions", sql, |row| row.parse("number")).await
    }

    /// Ends recovery and opens the server for writing; returns when it is open.
    ///
    /// # Errors
    /// [`Error::Timeout`] if it is not open after `deadline` (promotion goes on); otherwise as
    /// [`Client::query_text`], SQLSTATE 55000 outside of recovery.
    pub async fn promote(&self, deadline: Duration) -> Result<(), Error> {
        const VERB: &str = "promote";
        let seconds = deadline.as_secs().max(1);
        let sql = format!("SELECT pg_catalog.pg_promote(true, {seconds}) AS open");
        let rows = self.facts_within(VERB, &sql, deadline + Duration::from_secs(5)).await?;
        match rows.first().map(|row| Row::new(row, VERB).bool("open")).transpose()? {
            Some(true) => Ok(()),
            _ => Err(Error::Timeout {
                address: self.address().to_owned(),
                verb: VERB,
                after: deadline,
            }),
        }
    }

    /// Where replay is and whether it pauses.
    ///
    /// # Errors
    /// As [`Client::query_text`].
    pub async fn replay_state(&self) -> Result<ReplayState, Error> {
        // Asking for the pause state outside of recovery is an error, and recovery may end between
        // two statements, but not within one row's CASE: it ends only after the last replay.
        let sql = "SELECT pg_catalog.pg_is_in_recovery() AS in_recovery,
                pg_catalog.pg_last_wal_replay_lsn() AS replayed,
                pg_catalog.pg_last_wal_receive_lsn() AS received,
                extract(epoch FROM pg_catalog.pg_last_xact_replay_timestamp()) AS last_commit,
                CASE WHEN pg_catalog.pg_is_in_recovery()
                    THEN pg_catalog.pg_get_wal_replay_pause_state() ELSE 'not paused' END AS pause";
        self.fact("read the state of replay", sql, |row| {
            Ok(ReplayState {
                in_recovery: row.bool("in_recovery")?,
                replayed: row.opt_parse("replayed")?,
                received: row.opt_parse("received")?,
                last_commit: row.opt_time("last_commit")?,
                pause: match row.text("pause")? {
                    "not paused" => PauseState::NotPaused,
                    "pause requested" => PauseState::Requested,
                    "paused" => PauseState::Paused,
                    other => return Err(row.unexpected("pause", "a pause state", other)),
                },
            })
        })
        .await
    }

    /// Lets a paused replay go on; with `recovery_target_action = 'pause'` the server then
    /// promotes.
    ///
    /// # Errors
    /// As [`Client::query_text`]; SQLSTATE 55000 outside of recovery.
    pub async fn resume_replay(&self) -> Result<(), Error> {
        self.facts("resume replay", "SELECT pg_catalog.pg_wal_replay_resume()").await.map(drop)
    }

    /// Whether the server answers a query now.
    ///
    /// # Errors
    /// As [`Client::query_text`].
    pub async fn ready(&self) -> Result<(), Error> {
        self.facts("ask for a sign of life", "SELECT 1").await.map(drop)
    }

    async fn run(&self, sql: &str) -> Result<(), Error> {
        // ALTER SYSTEM must be the only statement of its message.
        self.simple("change the configuration", sql, crate::client::CALL_DEADLINE).await.map(drop)
    }
}

fn lsn(row: Row<'_>) -> Result<Lsn, Error> {
    row.parse("lsn")
}
