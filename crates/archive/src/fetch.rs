//! One segment from the repository, with what is known of its completeness.

use pg::{SegmentSize, WalFileName, WalSegment};
use repository::lineage::Lineage;
use repository::wal_object::{self, WalFile};
use repository::{Repository, names, piece};

use crate::content;
use crate::error::{Error, is_absent};

/// What the repository has of a segment. Content is always as long as a segment and of the right
/// cluster and place.
#[derive(Debug)]
pub(crate) enum Found {
    /// All of it.
    Whole(Vec<u8>),
    /// The first `len` bytes; zeros follow.
    Begun { content: Vec<u8>, len: u64 },
    /// Nothing: every member says so.
    Absent,
}

/// Fetches a segment, as it was archived or from the pieces that make it up.
///
/// # Errors
/// [`Error::Unproved`] when it cannot be read, or a member does not answer that could have it; the
/// errors of [`content::check_segment`].
pub(crate) async fn segment(
    repository: &Repository,
    lineage: &Lineage,
    segment: WalSegment,
    size: SegmentSize,
) -> Result<Found, Error> {
    let name = segment.name(size);
    let unproved = |error| Error::unproved(&name, error);
    match archived(repository, lineage, segment, size).await {
        Ok(content) => return checked(&name, content, lineage, size).map(Found::Whole),
        Err(error) if is_absent(&error) => {}
        Err(error) => return Err(unproved(error)),
    }
    let prefix = format!("{}{name}/", names::pieces(lineage.id, segment.timeline));
    if listed_everywhere(repository, &prefix).await.map_err(unproved)?.is_empty() {
        return Ok(Found::Absent);
    }
    let held = piece::held(repository, lineage.id, segment.timeline, size).await;
    let held = held.map_err(unproved)?.into_iter().find(|held| held.segment == segment);
    let joined = piece::assemble(repository, lineage.id, segment, size).await.map_err(unproved)?;
    let (Some(held), Some((_, content))) = (held, joined) else { return Ok(Found::Absent) };
    let content = checked(&name, content, lineage, size)?;
    Ok(match held.complete {
        true => Found::Whole(content),
        false => Found::Begun { content, len: held.len.into() },
    })
}

/// The segment as it was pushed. Unlike [`wal_object::get`], pieces do not stand in for it.
async fn archived(
    repository: &Repository,
    lineage: &Lineage,
    segment: WalSegment,
    size: SegmentSize,
) -> Result<Vec<u8>, repository::Error> {
    let file = WalFile::Segment(segment, size);
    let key = names::wal(lineage.id, segment, size);
    let frames = repository.read(file.kind(), &key).await?;
    let damaged = |reason: String| repository::Error::Damaged {
        store: repository.address(),
        key: key.to_string(),
        reason,
    };
    let (info, content) = wal_object::assemble(repository.keys(), &frames).map_err(damaged)?;
    if info.lineage == lineage.id && info.name == file.name() {
        Ok(content)
    } else {
        Err(damaged(format!("it holds '{}' of lineage {}", info.name, info.lineage)))
    }
}

/// The content, if it is a segment of this cluster, place and size.
fn checked(
    name: &str,
    content: Vec<u8>,
    lineage: &Lineage,
    size: SegmentSize,
) -> Result<Vec<u8>, Error> {
    let misnamed = |reason: String| Error::Misnamed { name: name.to_owned(), reason };
    let Ok(WalFileName::Segment(parsed)) = name.parse() else {
        return Err(misnamed("expected the name of a segment".into()));
    };
    let (_, header) = content::check_segment(parsed, &content, lineage)?;
    if header.segment_size == size {
        Ok(content)
    } else {
        Err(misnamed(format!("expected segments of {size}, seen {}", header.segment_size)))
    }
}

/// The keys below `prefix` in any member, when every member answers: a silent one could have more.
pub(crate) async fn listed_everywhere(
    repository: &Repository,
    prefix: &str,
) -> Result<Vec<store::Key>, repository::Error> {
    let mut keys = Vec::new();
    for member in repository.members() {
        let keys_of = std::sync::Arc::clone(repository.keys());
        let alone = Repository::new(vec![member.clone()], keys_of);
        keys.extend(alone.list(prefix).await?.into_iter().map(|meta| meta.key));
    }
    Ok(keys)
}
