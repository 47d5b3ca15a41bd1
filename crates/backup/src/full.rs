//! One full backup, from the first question to the published root.

use std::time::Duration;

use jiff::Timestamp;
use pg::{BackupLabel, Lsn};
use pgclient::{BackupSession, Client, StartOptions, StoppedBackup};
use repository::root::{self, Root, Summary};
use repository::{Label, Repository};
use stdx::Clock;

use crate::copy::{Copy, check_control};
use crate::error::Error;
use crate::hold::Hold;
use crate::options::Options;
use crate::preflight::{self, Ready};
use crate::progress::Progress;
use crate::report::Report;
use crate::{control_file, wal};

/// How long `pg_backup_stop` may take; it writes two records and switches the segment.
const STOP_TIMEOUT: Duration = Duration::from_secs(300);

/// `pg_backup_start` takes at most 1023 bytes; ours and PostgreSQL's own fit well below.
const LABEL_LEN_MAX: usize = 1000;

/// Makes a full backup of the cluster that runs on `options.data_directory`, into every member of
/// `repository`. When it returns, the backup exists, and the WAL that makes it consistent is there.
///
/// A backup of a damaged source is kept and flagged: see [`Summary::damaged_pages`].
///
/// Dropping the future stops the work, too; [`Options::cancel`] also waits until what was uploaded
/// is given up.
///
/// # Errors
/// See [`Error`]. No backup exists then; packs that could not be removed cost space only. The one
/// exception is an error while the root itself is created: whether it is there is then open.
pub async fn full(
    repository: &Repository,
    options: &Options,
    progress: &dyn Progress,
    clock: &dyn Clock,
) -> Result<Report, Error> {
    let ready = Box::pin(preflight::check(repository, options)).await?;
    let label = Label::new(clock.now());
    let hold = Hold::begin(repository, &label, clock).await?;
    let run = Run { repository, options, progress, clock, ready, label, hold };
    let made = Box::pin(run.make()).await;
    run.hold.end().await;
    made
}

/// A backup that PostgreSQL has begun.
struct Run<'a> {
    repository: &'a Repository,
    options: &'a Options,
    progress: &'a dyn Progress,
    clock: &'a dyn Clock,
    ready: Ready,
    label: Label,
    hold: Hold<'a>,
}

/// What the root is made of, once PostgreSQL has ended the backup.
struct Stopped {
    label: BackupLabel,
    raw: StoppedBackup,
    /// After `pg_backup_start` returned: whatever committed before the redo did so earlier.
    started: Timestamp,
    stopped: Timestamp,
}

/// What PostgreSQL writes as LABEL: one line, not too long.
fn label_text(name: &str, note: &str) -> String {
    let mut text = format!("{name} {}", note.replace(['\r', '\n'], " "));
    while text.len() > LABEL_LEN_MAX {
        text.pop();
    }
    text.trim_end().to_owned()
}

impl Run<'_> {
    async fn make(&self) -> Result<Report, Error> {
        let begun = self.clock.monotonic();
        let session = self.unless_stopped(self.start()).await?;
        // A search for a time scans from the redo on. A commit between an earlier `started` and
        // the redo would be in the files and never be seen by it.
        let started = self.clock.now();
        let starting = self.clock.monotonic().saturating_sub(begun);
        let (_, control) = control_file::read(&self.options.data_directory).await?;
        check_control(&self.options.data_directory, &control, session.start_lsn())?;
        let checksums = self.ready.control.has_data_checksums();
        let mut copy = Copy::begin(
            self.repository,
            self.options,
            &self.ready.geometry,
            checksums,
            self.progress,
        )
        .await?;
        copy.appender.statistics.starting = starting;
        match Box::pin(self.finish(&mut copy, session, started)).await {
            Ok(report) => Ok(report),
            Err(Failure::Undecided(error)) => Err(error),
            Err(Failure::NoBackup(error)) => {
                copy.appender.abandon().await;
                Err(error)
            }
        }
    }

    async fn start(&self) -> Result<BackupSession, Error> {
        let name = format!("rollforward backup {}", self.label);
        let connection = self.options.connection.with_application_name(&name);
        let client = Client::connect(&connection).await?;
        self.progress.note("waiting for the checkpoint that the backup begins with");
        let start = StartOptions {
            fast: self.options.fast_checkpoint,
            label: label_text(&name, &self.options.label_note),
            deadline: self.options.start_timeout,
        };
        Ok(BackupSession::start(client, &start).await?)
    }

    async fn finish(
        &self,
        copy: &mut Copy<'_>,
        session: BackupSession,
        started: Timestamp,
    ) -> Result<Report, Failure> {
        let begun = self.clock.monotonic();
        let until_stop = async {
            let stopped = self.copy_until_stop(copy, session, started).await?;
            copy.tree().await?;
            let finished = copy.appender.finish().await?;
            Ok::<_, Error>((stopped, finished))
        };
        let (stopped, (tree, packs)) = Box::pin(self.unless_stopped(until_stop)).await?;
        copy.appender.statistics.copying = self.clock.monotonic().saturating_sub(begun);

        let waiting = self.clock.monotonic();
        self.unless_stopped(self.wait_for_wal(&stopped)).await?;
        copy.appender.statistics.waiting_for_wal = self.clock.monotonic().saturating_sub(waiting);

        let summary = self.summary(copy, &stopped, tree);
        let mut details = std::mem::take(&mut copy.details);
        details.backup_label = stopped.raw.backup_label;
        details.tablespace_map = stopped.raw.tablespace_map;
        details.tablespaces = std::mem::take(&mut copy.tablespaces);
        details.made_by = concat!("rollforward ", env!("CARGO_PKG_VERSION")).to_owned();
        let root = Root { summary, packs, details };
        // From here on an error leaves open whether the backup exists: its packs must stay.
        root::publish(self.repository, &root)
            .await
            .map_err(|error| Failure::Undecided(error.into()))?;
        Ok(Report {
            summary: root.summary,
            statistics: copy.appender.statistics,
            damaged: std::mem::take(&mut copy.appender.damaged),
            warnings: std::mem::take(&mut copy.warnings),
        })
    }

    /// Everything that needs the backup's session, and its end.
    async fn copy_until_stop(
        &self,
        copy: &mut Copy<'_>,
        session: BackupSession,
        started: Timestamp,
    ) -> Result<Stopped, Error> {
        let directory = &self.options.data_directory;
        let (redo, timeline) = (session.start_lsn(), session.timeline());
        let work = async {
            copy.files(self.options.workers).await?;
            self.progress.note("recording roles, relations and settings");
            copy.facts(&self.ready.client, &self.ready.server, directory).await?;
            copy.control(directory, redo).await
        };
        tokio::select! {
            done = work => done?,
            error = session.lost() => return Err(error.into()),
        }
        let raw = session.stop(STOP_TIMEOUT).await?;
        let label = parse_label(&raw, redo)?;
        if label.start_timeline != timeline {
            let reason = format!("expected timeline {timeline}, seen {}", label.start_timeline);
            return Err(Error::Label { reason });
        }
        Ok(Stopped { label, raw, started, stopped: self.clock.now() })
    }

    async fn wait_for_wal(&self, stopped: &Stopped) -> Result<(), Error> {
        let timeline = stopped.label.start_timeline;
        let server = &self.ready.server;
        let needed = wal::Needed::new(
            stopped.label.start_lsn,
            stopped.raw.stop,
            timeline,
            server.wal_segment_size,
        );
        let writer = self.options.writer.or(self.ready.state.as_ref().map(|state| state.writer));
        wal::ensure_history(
            self.repository,
            self.options,
            timeline,
            server.system_id,
            writer,
            self.clock,
        )
        .await?;
        wal::wait(
            self.repository,
            self.options,
            needed,
            &self.ready.client,
            self.clock,
            self.progress,
        )
        .await
    }

    async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            done = work => done,
            () = self.options.cancel.cancelled() => {
                Err(Error::Cancelled { cluster: self.options.cluster.clone() })
            }
            error = self.hold.lost(self.clock) => Err(error.into()),
        }
    }

    fn summary(
        &self,
        copy: &Copy<'_>,
        stopped: &Stopped,
        tree: repository::tree::NodeRef,
    ) -> Summary {
        let (server, control) = (&self.ready.server, &self.ready.control);
        Summary {
            label: self.label.clone(),
            lineage: self.options.lineage,
            cluster: self.options.cluster.clone(),
            parent: None,
            system_id: server.system_id,
            server_version: server.version_num,
            timeline: stopped.label.start_timeline,
            redo: stopped.label.start_lsn,
            start: stopped.label.start_lsn,
            stop: stopped.raw.stop,
            started: stopped.started,
            stopped: stopped.stopped,
            size: copy.size,
            stored: copy.appender.statistics.bytes_packed,
            entries: copy.entries,
            block_size: control.block_size.get(),
            segment_size: server.wal_segment_size.get(),
            checksums: control.has_data_checksums(),
            damaged_pages: copy.appender.damaged_count,
            tree,
        }
    }
}

/// How a backup failed.
enum Failure {
    /// It does not exist: its packs are garbage.
    NoBackup(Error),
    /// It may exist.
    Undecided(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::NoBackup(error)
    }
}

/// The label must be of the backup that was started.
fn parse_label(raw: &StoppedBackup, redo: Lsn) -> Result<BackupLabel, Error> {
    let text = String::from_utf8_lossy(&raw.backup_label);
    let label =
        BackupLabel::parse(&text).map_err(|error| Error::Label { reason: error.to_string() })?;
    if label.start_lsn != redo {
        let reason = format!("expected a start at {redo}, seen {}", label.start_lsn);
        return Err(Error::Label { reason });
    }
    if raw.stop < redo {
        return Err(Error::Label {
            reason: format!("it stops at {}, before its start {redo}", raw.stop),
        });
    }
    Ok(label)
}

#[cfg(test)]
mod tests {
    use super::{LABEL_LEN_MAX, label_text};

    #[test]
    fn a_note_becomes_one_line_that_postgresql_takes() {
        assert_eq!(label_text("rollforward backup x", ""), "rollforward backup x");
        assert_eq!(label_text("b", "before\nthe move"), "b before the move");
        assert_eq!(label_text("b", &"ä".repeat(2000)).len(), LABEL_LEN_MAX);
    }
}
