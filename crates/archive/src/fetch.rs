//! One segment from the repository, with what is known of its completeness.

use std::io;

use pg::wal::SegmentHeader;
use pg::{SegmentSize, WalFileName, WalSegment};
use repository::lineage::Lineage;
use repository::wal_object::WalFile;
use repository::wal_read::{self, Sink};
use repository::{Repository, names, piece};
use stdx::durable::Draft;

use crate::content;
use crate::error::{Error, is_absent};

/// What the repository has of a segment. Content is always as long as a segment and of the right
/// cluster and place.
#[derive(Debug)]
pub(crate) enum Found {
    /// All of it: the draft holds it, proved.
    Whole,
    /// The first `len` bytes; zeros follow.
    Begun { content: Vec<u8>, len: u64 },
    /// Nothing: every member says so.
    Absent,
}

/// Fetches a segment into `draft`, as it was archived or from the pieces that make it up. Unless it
/// is [`Found::Whole`], what the draft holds means nothing.
///
/// # Errors
/// [`Error::Unproved`] when it cannot be read, or a member does not answer that could have it;
/// [`Error::File`]; the errors of [`content::check_segment`].
pub(crate) async fn segment(
    repository: &Repository,
    lineage: &Lineage,
    segment: WalSegment,
    size: SegmentSize,
    draft: &mut Draft,
) -> Result<Found, Error> {
    let name = segment.name(size);
    let unproved = |error| Error::unproved(&name, error);
    let file = WalFile::Segment(segment, size);
    let mut writing = Writing { draft: &mut *draft, head: Vec::new() };
    match wal_read::read_into(repository, lineage.id, &file, &mut writing).await {
        Ok(info) => {
            return check(&name, &writing.head, info.len, lineage, size).map(|()| Found::Whole);
        }
        Err(repository::Error::Content { source, .. }) => {
            return Err(Error::file("write", draft.path())(source));
        }
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
    check(&name, &content, content.len() as u64, lineage, size)?;
    if !held.complete {
        return Ok(Found::Begun { content, len: held.len.into() });
    }
    let written = draft.restart().and_then(|()| draft.write(&content));
    written.map_err(Error::file("write", draft.path())).map(|()| Found::Whole)
}

/// Writes a segment and keeps its first bytes.
struct Writing<'d> {
    draft: &'d mut Draft,
    head: Vec<u8>,
}

impl Sink for Writing<'_> {
    fn restart(&mut self) -> io::Result<()> {
        self.head.clear();
        self.draft.restart()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let missing = SegmentHeader::SIZE.saturating_sub(self.head.len());
        self.head.extend_from_slice(bytes.get(..missing).unwrap_or(bytes));
        self.draft.write(bytes)
    }
}

/// Checks that the bytes begin a segment of this cluster, place and size.
fn check(
    name: &str,
    head: &[u8],
    len: u64,
    lineage: &Lineage,
    size: SegmentSize,
) -> Result<(), Error> {
    let misnamed = |reason: String| Error::Misnamed { name: name.to_owned(), reason };
    let Ok(WalFileName::Segment(parsed)) = name.parse() else {
        return Err(misnamed("expected the name of a segment".into()));
    };
    let (_, header) = content::check_segment_head(parsed, head, len, lineage)?;
    if header.segment_size == size {
        Ok(())
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
