//! Waiting until the WAL that makes the backup consistent is in the repository.

use std::time::Duration;

use pg::{Lsn, SegmentSize, TimelineId, WalSegment};
use pgclient::Client;
use repository::set::Member;
use repository::wal_object::{self, Provenance, WalFile};
use repository::{Compression, LineageId, Repository, names};
use stdx::{Clock, Id};

use crate::error::Error;
use crate::options::Options;
use crate::progress::Progress;

/// Between two looks, the first and the longest: each look that finds nothing doubles it. The
/// archiver takes tens of milliseconds a segment; a remote store is not to be asked all the time.
const LOOK_PAUSE_MIN: Duration = Duration::from_millis(10);
const LOOK_PAUSE_MAX: Duration = Duration::from_millis(500);

/// Segments asked for in one listing.
const LIST_PAGE: usize = 1000;

/// A backup's WAL: the segments of one timeline from `first` to `last`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needed {
    pub(crate) first: WalSegment,
    pub(crate) last: WalSegment,
    pub(crate) size: SegmentSize,
}

impl Needed {
    pub(crate) fn new(redo: Lsn, stop: Lsn, timeline: TimelineId, size: SegmentSize) -> Self {
        let first = WalSegment::containing(redo, timeline, size);
        Self { first, last: WalSegment::ending_at(stop, timeline, size), size }
    }
}

/// Returns when every member has every segment.
///
/// # Errors
/// [`Error::WalNotArchived`] when nothing arrives for `options.wal_timeout`.
pub(crate) async fn wait(
    repository: &Repository,
    options: &Options,
    needed: Needed,
    client: &Client,
    clock: &dyn Clock,
    progress: &dyn Progress,
) -> Result<(), Error> {
    for member in repository.members() {
        let mut next = needed.first;
        let mut since = clock.monotonic();
        let mut told = false;
        let mut pause = LOOK_PAUSE_MIN;
        while next.number <= needed.last.number {
            let before = next;
            next = arrived(member, options.lineage, next, needed).await?;
            if next != before {
                since = clock.monotonic();
                pause = LOOK_PAUSE_MIN;
                continue;
            }
            if !told {
                told = true;
                progress.note(&format!(
                    "waiting for WAL segment {} to be archived",
                    next.name(needed.size)
                ));
            }
            let quiet = clock.monotonic().saturating_sub(since);
            if quiet >= options.wal_timeout {
                return Err(Error::WalNotArchived {
                    cluster: options.cluster.clone(),
                    segment: next.name(needed.size),
                    repository: member.store.address().to_owned(),
                    quiet,
                    archiver: archiver(client).await,
                });
            }
            tokio::time::sleep(pause.min(options.wal_timeout)).await;
            pause = (pause * 2).min(LOOK_PAUSE_MAX);
        }
    }
    Ok(())
}

/// The first segment from `next` on that the member does not have.
async fn arrived(
    member: &Member,
    lineage: LineageId,
    next: WalSegment,
    needed: Needed,
) -> Result<WalSegment, Error> {
    let prefix = names::wal_prefix(lineage, next.timeline);
    let after = next
        .number
        .checked_sub(1)
        .map(|number| names::wal(lineage, WalSegment { number, ..next }, needed.size));
    let listed = member.store.list(&prefix, after.as_ref(), LIST_PAGE).await;
    let mut next = next;
    for meta in listed.map_err(repository::Error::from)? {
        if next.number > needed.last.number || meta.key != names::wal(lineage, next, needed.size) {
            break;
        }
        next = next.next();
    }
    Ok(next)
}

/// What the server says of its archiver, for the error.
async fn archiver(client: &Client) -> String {
    let status = match client.archiver_status().await {
        Ok(status) => status,
        Err(error) => return format!("the server does not tell why ({error})"),
    };
    match (status.last_failed, status.last_failed_time) {
        (Some(segment), Some(time)) if status.last_archived_time.is_none_or(|last| last < time) => {
            format!(
                "archiving of '{segment}' failed at {}, {} failures in all",
                time.strftime("%Y-%m-%dT%H:%M:%SZ"),
                status.failed_count
            )
        }
        _ => match status.last_archived {
            Some(segment) => format!(
                "the server archived '{segment}' last and reports no failure; is it archiving here?"
            ),
            None => "the server has archived nothing yet and reports no failure".to_owned(),
        },
    }
}

/// Makes sure that the timeline's history is in the repository: no recovery can follow a timeline
/// without it. A server on which archiving was turned on after its promotion never archives it.
///
/// # Errors
/// [`Error::NoHistory`]; an error of the repository, also when another history is there.
pub(crate) async fn ensure_history(
    repository: &Repository,
    options: &Options,
    timeline: TimelineId,
    system_id: pg::SystemId,
    writer: Option<Id>,
    clock: &dyn Clock,
) -> Result<(), Error> {
    if timeline <= TimelineId::FIRST {
        return Ok(());
    }
    let file = WalFile::History(timeline);
    let path = options.data_directory.join("pg_wal").join(file.name());
    let missing =
        |reason: String| Error::NoHistory { cluster: options.cluster.clone(), timeline, reason };
    let content = match std::fs::read(&path) {
        Ok(content) => content,
        // The server may have removed it once archived.
        Err(error) => {
            let there = wal_object::get(repository, options.lineage, &file).await;
            return there.map(drop).map_err(|_| missing(format!("'{}': {error}", path.display())));
        }
    };
    let provenance = Provenance {
        lineage: options.lineage,
        system_id,
        writer: writer.unwrap_or(Id::from_bytes([0; 16])),
        written: clock.now(),
    };
    let content = bytes::Bytes::from(content);
    let how = Compression::default();
    match wal_object::put(repository, &file, &content, provenance, how, 1).await? {
        wal_object::WalPut::Stored | wal_object::WalPut::AlreadyThere => Ok(()),
        wal_object::WalPut::Conflict { kept, .. } => {
            Err(missing(format!("another one is there; the server's was kept as '{kept}'")))
        }
    }
}
