//! Timeline histories, and the ids that a promotion must not take.

use pg::TimelineId;
use repository::Repository;
use repository::wal_object::{self, WalFile};

use super::{GetRequest, deliver};
use crate::error::{Error, is_absent};

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
    use pg::TimelineHistory;

    use super::*;

    #[test]
    fn a_placeholder_is_a_history_that_postgresql_can_read() {
        let text = placeholder(TimelineId::new(2), TimelineId::new(4), TimelineId::new(6));
        let history = TimelineHistory::parse(TimelineId::new(4), text.as_bytes()).unwrap();
        assert_eq!(history.entries().len(), 1);
    }
}
