//! The history files that a restored cluster has from its first start.

use archive::route::Route;
use pg::{SegmentSize, TimelineId};
use repository::Repository;
use repository::lineage::Lineage;
use repository::timeline::TimelinePath;
use repository::wal_object::{self, WalFile};

/// The history files of the timelines on the way, as they are archived; timeline 1 has none.
/// `wal get` answers from them when no repository can: see [`archive::get::from_own_folder`].
///
/// # Errors
/// Damage; an error of a store.
pub(super) async fn read(
    repository: &Repository,
    lineage: &Lineage,
    path: &TimelinePath,
    segment_size: SegmentSize,
) -> anyhow::Result<Vec<(TimelineId, Vec<u8>)>> {
    let route = Route::along(path, segment_size);
    let mut histories = Vec::new();
    for timeline in route.timelines().filter(|timeline| *timeline != TimelineId::FIRST) {
        match wal_object::get(repository, lineage.id, &WalFile::History(timeline)).await {
            Ok((_, content)) if route.has_history(timeline, &content) => {
                histories.push((timeline, content));
            }
            // Recovery needs only the one at the end of the way, which told this way; it says so
            // itself when that is missing.
            Ok(_) => tracing::warn!(%timeline, "its history tells another way"),
            Err(repository::Error::Store(store::Error::NotFound { .. })) => {
                tracing::warn!(%timeline, "its history is not archived");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(histories)
}
