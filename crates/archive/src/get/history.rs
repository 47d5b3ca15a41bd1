//! Timeline histories, and the ids that a promotion must not take.

use std::path::Path;

use pg::{TimelineId, WalFileName};
use repository::Repository;
use repository::wal_object::{self, WalFile};

use super::{GetRequest, deliver};
use crate::error::{Error, is_absent};
use crate::route::Route;

/// Delivers a file that is the history of a timeline on the way from `folder`, the `pg_wal` of the
/// restored cluster itself, where the restore has put it; says whether it did. Without one that
/// fits the way the repository has to answer.
///
/// When PostgreSQL promotes, it copies its parent's history, and asks for that after it has removed
/// `recovery.signal`. A restore command that fails then ends the server where its next start knows
/// no target any more, so this answer needs no repository. A history is never replaced: what was
/// copied is what the repository has.
///
/// PostgreSQL: `writeTimeLineHistory`, src/backend/access/transam/timeline.c, and its callers.
///
/// # Errors
/// [`Error::File`] when it cannot be delivered; the destination is then what it was before.
pub fn from_own_folder(
    name: &str,
    folder: &Path,
    route: &Route,
    destination: &Path,
) -> Result<bool, Error> {
    let Ok(WalFileName::History(timeline)) = name.parse() else { return Ok(false) };
    if !route.timelines().any(|on_way| on_way == timeline) {
        return Ok(false);
    }
    match std::fs::read(folder.join(name)) {
        Ok(content) if route.has_history(timeline, &content) => {
            deliver::deliver(destination, &content).map(|()| true)
        }
        Ok(_) => {
            tracing::warn!(name, folder = %folder.display(), "not the history of this way");
            Ok(false)
        }
        Err(error) => {
            tracing::debug!(name, folder = %folder.display(), %error, "no history of our own");
            Ok(false)
        }
    }
}

/// Delivers the history of `timeline`, a placeholder for it, or neither.
///
/// Before it promotes, PostgreSQL asks for the histories of the ids after its own until one is
/// missing, and takes that id. Two restores of one cluster would choose the same. So of the ids up
/// to the reserved one those that are free look taken, and the reserved one is absent.
///
/// PostgreSQL: `findNewestTimeLine`, src/backend/access/transam/timeline.c.
pub(super) async fn get(
    repository: &Repository,
    request: &GetRequest<'_>,
    timeline: TimelineId,
) -> Result<bool, Error> {
    let is_on_path = request.route.timelines().any(|on_path| on_path == timeline);
    if let (true, Some(end), false) =
        (request.route.is_searched(), request.route.target(), is_on_path)
    {
        return searched(request, timeline, end);
    }
    let reserved = request.reserved.filter(|_| !is_on_path);
    if reserved.is_some_and(|reserved| timeline > reserved) {
        return Ok(false);
    }
    let file = WalFile::History(timeline);
    let found = match wal_object::get(repository, request.lineage.id, &file).await {
        Ok((_, content)) => Some(content),
        Err(error) if is_absent(&error) => None,
        Err(error) => return Err(Error::unproved(request.name, error)),
    };
    let target = request.route.target();
    let content = match (found, reserved) {
        (Some(_), Some(reserved)) if timeline == reserved => {
            return Err(Error::TimelineTaken { timeline });
        }
        (Some(content), _) => content,
        (None, Some(reserved)) if timeline < reserved && target.is_some_and(|id| timeline > id) => {
            placeholder(target.unwrap_or(TimelineId::FIRST), timeline, reserved).into_bytes()
        }
        // The first timeline never has one.
        (None, _) if is_on_path && timeline != TimelineId::FIRST && !request.standby => {
            return Err(request.hole(format!("timeline {}", target.unwrap_or(timeline))));
        }
        (None, _) => return Ok(false),
    };
    deliver::deliver(request.destination, &content)?;
    Ok(true)
}

/// Answers a PostgreSQL that searches the latest timeline and asks for one that does not lead
/// there.
fn searched(
    request: &GetRequest<'_>,
    timeline: TimelineId,
    end: TimelineId,
) -> Result<bool, Error> {
    if timeline > end || timeline == TimelineId::FIRST {
        return Ok(false);
    }
    let before = request.route.timelines().filter(|on_path| *on_path < timeline).last();
    let parent = before.unwrap_or(TimelineId::FIRST);
    deliver::deliver(request.destination, placeholder(parent, timeline, end).as_bytes())?;
    Ok(true)
}

/// A history file for `timeline`, an id that leads nowhere: PostgreSQL only looks whether there is
/// one. Should anybody read it, it branches from `parent` at the start of the log.
#[must_use]
pub fn placeholder(parent: TimelineId, timeline: TimelineId, wanted: TimelineId) -> String {
    format!(
        "# rollforward: id {timeline} is passed over on the way to {wanted}\n\
         {parent}\t0/0\tplaceholder\n"
    )
}

#[cfg(test)]
mod tests {
    use pg::{SegmentSize, TimelineHistory};

    use super::*;

    #[test]
    fn only_a_history_that_fits_the_way_comes_from_the_own_folder() {
        let dir = tempfile::tempdir().unwrap();
        let destination = dir.path().join("RECOVERYHISTORY");
        let text = b"1\t0/2500000\tx\n2\t0/4000000\ty\n";
        let history = TimelineHistory::parse(TimelineId::new(3), text).unwrap();
        let route = Route::new(history.path(), SegmentSize::DEFAULT);
        let get = |name| from_own_folder(name, dir.path(), &route, &destination).unwrap();
        let put = |name, content: &[u8]| std::fs::write(dir.path().join(name), content).unwrap();
        assert!(!get("00000003.history"), "there is none");
        for cut in 0..text.len() {
            put("00000003.history", &text[..cut]);
            // The reason at the end of a line is for people, and its line break is not needed.
            assert_eq!(get("00000003.history"), cut >= text.len() - 3, "{cut}");
            let _ = std::fs::remove_file(&destination);
        }
        put("00000003.history", text);
        put("00000002.history", text);
        put("00000004.history", text);
        put("000000030000000000000004", text);
        for other in ["00000002.history", "00000004.history", "000000030000000000000004", "x"] {
            assert!(!get(other) && !destination.exists(), "{other}");
        }
        assert!(get("00000003.history"));
        assert_eq!(std::fs::read(&destination).unwrap(), text);
        let nowhere = dir.path().join("absent/RECOVERYHISTORY");
        from_own_folder("00000003.history", dir.path(), &route, &nowhere).unwrap_err();
    }

    #[test]
    fn a_placeholder_is_a_history_that_postgresql_can_read() {
        let text = placeholder(TimelineId::new(2), TimelineId::new(4), TimelineId::new(6));
        let history = TimelineHistory::parse(TimelineId::new(4), text.as_bytes()).unwrap();
        assert_eq!(history.entries().len(), 1);
    }
}
