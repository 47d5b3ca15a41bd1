//! Why a target cannot be reached, and what can be instead.

use jiff::Timestamp;
use pg::Lsn;

use super::Commit;
use super::scan::Seen;
use super::search::Search;
use crate::coverage::Hole;
use crate::error::Error;
use crate::root::Summary;

fn error(search: &Search<'_>, reason: String, nearest: Vec<String>) -> Error {
    Error::Unreachable {
        cluster: search.source.cluster.clone(),
        target: format!("'{}'", search.request.target),
        reason,
        nearest,
    }
}

/// A segment is missing between the backup and the target.
pub(super) async fn hole(search: &Search<'_>, backup: &Summary, hole: Hole) -> Error {
    let mut nearest = Vec::new();
    if hole.begin() > backup.stop {
        nearest.extend(last_commit(search, backup, hole.first.number).await.map(commit));
    }
    nearest.extend(earliest_behind(search, hole.end()).map(consistency));
    let reason = format!("{hole}, and the way from backup '{}' leads through it", backup.label);
    error(search, reason, nearest)
}

/// No WAL is there at `lsn`.
pub(super) async fn absent(search: &Search<'_>, lsn: Lsn) -> Error {
    let number = search.number(lsn);
    let hole = search
        .coverage
        .holes()
        .into_iter()
        .find(|hole| (hole.first.number..=hole.last.number).contains(&number));
    if let Some(hole) = hole {
        let before = search.backups.iter().find(|backup| backup.stop <= hole.begin());
        let mut nearest = Vec::new();
        if let Some(backup) = before {
            nearest.extend(last_commit(search, backup, hole.first.number).await.map(commit));
        }
        nearest.extend(earliest_behind(search, hole.end()).map(consistency));
        return error(search, format!("it lies in a gap: {hole}"), nearest);
    }
    match search.coverage.last() {
        Some(last) if last.number <= number => {
            let end = last.end(search.coverage.size());
            let reason = format!("the archived WAL ends before it, in the segment up to {end}");
            error(search, reason, vec!["--latest".into()])
        }
        _ => too_early(search),
    }
}

/// No record starts where one was said to start.
pub(super) fn no_record(search: &Search<'_>, lsn: Lsn, next: Lsn) -> Error {
    let reason = format!("no record starts at {lsn}; the next one starts at {next}");
    error(search, reason, vec![format!("--target-lsn {next}")])
}

/// The target lies before the first point that any backup can reach.
pub(super) fn too_early(search: &Search<'_>) -> Error {
    let oldest = search.backups.iter().rev().find(|backup| search.covered(backup, backup.stop));
    let reason = match oldest {
        Some(oldest) => format!(
            "it lies before the oldest usable backup '{}' is consistent, at {} ({})",
            oldest.label, oldest.stop, oldest.stopped
        ),
        None => "there is no backup whose WAL is there".into(),
    };
    error(search, reason, oldest.map(consistency).into_iter().collect())
}

/// No transaction ended after the time: PostgreSQL would end with "recovery ended before configured
/// recovery target was reached".
pub(super) fn too_late(search: &Search<'_>, end: Lsn, seen: &Seen) -> Error {
    let last = seen.newest_commit.map_or_else(
        || "there is no commit since the backup".to_owned(),
        |last| format!("the last commit is of {}", last.time),
    );
    let reason = format!("no transaction ended after it in the WAL archived up to {end}; {last}");
    let mut nearest = vec!["--latest".to_owned()];
    nearest.extend(seen.newest_commit.map(commit));
    error(search, reason, nearest)
}

/// Neither transaction nor restore point was found.
pub(super) async fn unknown(search: &Search<'_>) -> Error {
    let oldest = search.backups.last().map_or(Lsn::INVALID, |backup| backup.redo);
    let last = search.coverage.last();
    let end = last.map_or(Lsn::INVALID, |last| last.end(search.coverage.size()));
    let reason = format!("no such record in the archived WAL from {oldest} to {end}");
    error(search, reason, vec!["--latest".into()])
}

/// The WAL that a backup itself needs is not all there.
pub(super) fn unfinished(search: &Search<'_>, backup: &Summary) -> Error {
    let reason = format!(
        "the WAL that backup '{}' itself needs, from {} to {}, is not all there",
        backup.label, backup.redo, backup.stop
    );
    let older = search.backups.iter().filter(|other| other.label != backup.label);
    error(search, reason, older.take(1).map(consistency).collect())
}

/// The last commit before the hole that begins with segment `missing`.
async fn last_commit(search: &Search<'_>, backup: &Summary, missing: u64) -> Option<Commit> {
    let last = missing.checked_sub(1)?;
    // Advice only: what cannot be read here is not what the caller asked for.
    let tail = search.wal().tail(backup.stop, last, Lsn::MAX).await;
    tail.ok().and_then(|(_, commit)| commit)
}

/// The first backup whose recovery needs nothing before `lsn`.
fn earliest_behind<'s>(search: &'s Search<'_>, lsn: Lsn) -> Option<&'s Summary> {
    search.backups.iter().rev().find(|backup| backup.redo >= lsn)
}

fn commit(commit: Commit) -> String {
    format!("--target-lsn {} (the commit of {})", commit.lsn, commit.time)
}

fn consistency(backup: &Summary) -> String {
    let time: Timestamp = backup.stopped;
    format!("--immediate --backup {} (consistent at {}, {time})", backup.label, backup.stop)
}
