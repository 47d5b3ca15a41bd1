//! One online backup of a live cluster: begun, kept alive and ended in one session.

use std::sync::{Arc, Weak};
use std::time::Duration;

use pg::{Lsn, TimelineId};
use tokio::task::JoinHandle;

use crate::client::Ended;
use crate::rows::{Row, literal};
use crate::{Client, Error};

/// How often the session is used, so that no firewall or pooler finds it idle and cuts it.
const KEEPALIVE_PERIOD: Duration = Duration::from_secs(30);

/// A session that does not answer for this long is lost.
const KEEPALIVE_DEADLINE: Duration = Duration::from_secs(120);

/// How to begin.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// Checkpoint at full speed instead of spread over `checkpoint_completion_target`.
    pub fast: bool,
    /// What stands as LABEL in the backup label; at most 1023 bytes, no line break.
    pub label: String,
    /// Longest wait for the checkpoint; a spread one takes up to `checkpoint_timeout` and more.
    pub deadline: Duration,
}

/// A running backup. PostgreSQL ends it, as if it had never been, when the session ends; dropping
/// this value ends the session.
#[derive(Debug)]
pub struct BackupSession {
    client: Client,
    start: Lsn,
    timeline: TimelineId,
    in_recovery: bool,
    major: pg::MajorVersion,
    keepalive: JoinHandle<()>,
}

/// What PostgreSQL gives for a finished backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoppedBackup {
    /// Where it ended: the backup is consistent once WAL up to here is replayed.
    pub stop: Lsn,
    /// The content of `backup_label`, byte for byte.
    pub backup_label: Vec<u8>,
    /// The content of `tablespace_map`, byte for byte; empty if there must be no such file.
    pub tablespace_map: Vec<u8>,
}

impl BackupSession {
    /// Begins a backup, non-exclusive, in `client`'s session, and keeps that session alive.
    ///
    /// # Errors
    /// [`Error::ExclusiveBackup`] if one runs (14 only); [`Error::Sql`] 42501 without the right to;
    /// otherwise as [`Client::query_text`].
    ///
    /// PostgreSQL: `pg_backup_start` (15 and later), `pg_start_backup` (14),
    /// src/backend/access/transam/xlogfuncs.c.
    pub async fn start(client: Client, options: &StartOptions) -> Result<Self, Error> {
        const VERB: &str = "start the backup";
        let server = client.server().await?;
        let label = literal(&options.label);
        let call = if server.major.get() >= 15 {
            format!("pg_catalog.pg_backup_start({label}, {})", options.fast)
        } else {
            refuse_exclusive(&client, server.in_recovery).await?;
            format!("pg_catalog.pg_start_backup({label}, {}, false)", options.fast)
        };
        let sql = format!("SELECT {call} AS start");
        let rows = client.facts_within(VERB, &sql, options.deadline).await?;
        let start = match rows.first() {
            Some(row) => Row::new(row, VERB).parse("start")?,
            None => Lsn::INVALID,
        };
        let (sql, ended) = (Arc::downgrade(&client.sql), Arc::clone(&client.ended));
        let keepalive = tokio::spawn(keep_alive(sql, ended));
        Ok(Self {
            client,
            start,
            timeline: server.timeline,
            in_recovery: server.in_recovery,
            major: server.major,
            keepalive,
        })
    }

    /// The checkpoint's redo position, where replay of this backup begins.
    #[must_use]
    pub fn start_lsn(&self) -> Lsn {
        self.start
    }

    /// The timeline the server was on when the backup began.
    #[must_use]
    pub fn timeline(&self) -> TimelineId {
        self.timeline
    }

    /// Whether the server is a standby: then its WAL cannot be switched from here.
    #[must_use]
    pub fn in_recovery(&self) -> bool {
        self.in_recovery
    }

    /// The session, for facts that must be asked while the backup runs.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns only when the session is lost, and with it the backup: race it with the copying.
    pub async fn lost(&self) -> Error {
        let mut ended = self.client.ended.subscribe();
        // The sender lives in the client: waiting cannot fail.
        let reason = ended.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        self.gone(reason.unwrap_or_default())
    }

    /// Fails if the session is known to be lost.
    ///
    /// # Errors
    /// [`Error::BackupSessionLost`].
    pub fn check(&self) -> Result<(), Error> {
        let ended = self.client.ended.borrow().clone();
        match ended {
            Some(reason) => Err(self.gone(reason)),
            None => Ok(()),
        }
    }

    /// Ends the backup without waiting for its last segment to be archived, which is the caller's
    /// to see to. The session ends, too.
    ///
    /// # Errors
    /// [`Error::BackupSessionLost`] if the session did not live to this call or through it: there
    /// is no backup then. [`Error::Sql`] if PostgreSQL refuses, as after a standby's promotion.
    ///
    /// PostgreSQL: `pg_backup_stop`, `pg_stop_backup`, src/backend/access/transam/xlogfuncs.c.
    pub async fn stop(self, deadline: Duration) -> Result<StoppedBackup, Error> {
        const VERB: &str = "stop the backup";
        self.check()?;
        let call = if self.major.get() >= 15 {
            "pg_catalog.pg_backup_stop(false)"
        } else {
            "pg_catalog.pg_stop_backup(false, false)"
        };
        // Through bytea, in the database's own encoding: the label must not be converted on its
        // way.
        let sql = format!(
            "SELECT lsn, {} AS label, {} AS map FROM {call}",
            hex_of("labelfile"),
            hex_of("spcmapfile")
        );
        let rows = match self.client.facts_within(VERB, &sql, deadline).await {
            Err(Error::Lost { reason, .. }) => return Err(self.gone(reason)),
            other => other?,
        };
        let row = rows.first().map(|row| Row::new(row, VERB)).ok_or(Error::Unexpected {
            verb: VERB,
            expected: "one row".into(),
            seen: "none".into(),
        })?;
        Ok(StoppedBackup {
            stop: row.parse("lsn")?,
            backup_label: row.hex("label")?,
            tablespace_map: row.hex("map")?,
        })
    }

    fn gone(&self, reason: String) -> Error {
        Error::BackupSessionLost { start: self.start, reason }
    }
}

impl Drop for BackupSession {
    fn drop(&mut self) {
        self.keepalive.abort();
    }
}

fn hex_of(column: &str) -> String {
    format!(
        "pg_catalog.encode(pg_catalog.convert_to({column}, pg_catalog.getdatabaseencoding()), 'hex')"
    )
}

/// 14 still has exclusive backups, whose label lies in the data directory and would be copied.
async fn refuse_exclusive(client: &Client, in_recovery: bool) -> Result<(), Error> {
    if in_recovery {
        return Ok(()); // a standby has none, and must not be asked
    }
    let sql = "SELECT pg_catalog.pg_is_in_backup() AS exclusive";
    match client.fact("look for an exclusive backup", sql, |row| row.bool("exclusive")).await? {
        true => Err(Error::ExclusiveBackup { address: client.address().to_owned() }),
        false => Ok(()),
    }
}

/// Uses the session until it fails or its owner lets it go. A session that ends is noticed by its
/// own task; here it is one that hangs.
async fn keep_alive(sql: Weak<tokio_postgres::Client>, ended: Ended) {
    loop {
        tokio::time::sleep(KEEPALIVE_PERIOD).await;
        let Some(sql) = sql.upgrade() else { return };
        let answer = tokio::time::timeout(KEEPALIVE_DEADLINE, sql.simple_query("SELECT 1")).await;
        if answer.is_err() {
            let silence = KEEPALIVE_DEADLINE.as_secs();
            ended.send_replace(Some(format!("it did not answer for {silence} s")));
            return;
        }
    }
}
