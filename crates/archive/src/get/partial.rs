//! The last segment of a dead timeline.

use pg::wal::RecordReader;
use pg::{Lsn, WalSegment};
use repository::Repository;
use repository::lineage::Lineage;
use repository::names;
use repository::wal_object::{self, WalFile};

use super::GetRequest;
use crate::content;
use crate::error::{Error, is_absent};

/// Bytes of WAL fed to the reader at a time.
const FEED_LEN: usize = 1 << 20;

/// The folder of partial segments in a repository.
const FOLDER: &str = "partial";

/// The whole content of the incomplete segment that reaches furthest.
pub(super) async fn finalised(
    repository: &Repository,
    request: &GetRequest<'_>,
    segment: WalSegment,
) -> Result<Option<Vec<u8>>, Error> {
    let best = furthest(repository, request.lineage, segment, request.route.segment_size()).await;
    match best {
        Ok(best) => Ok(best.map(|partial| partial.content)),
        Err(Error::Repository(source)) => {
            Err(Error::Unproved { name: request.name.to_owned(), source })
        }
        Err(error) => Err(error),
    }
}

/// An incomplete segment that is kept in the repository.
#[derive(Clone, Debug)]
pub(crate) struct Partial {
    /// A whole segment's bytes; those behind `end` mean nothing.
    pub(crate) content: Vec<u8>,
    /// The end of its valid WAL.
    pub(crate) end: Lsn,
}

/// Of the partial segments kept for `segment`, the one whose valid WAL ends last.
pub(crate) async fn furthest(
    repository: &Repository,
    lineage: &Lineage,
    segment: WalSegment,
    size: pg::SegmentSize,
) -> Result<Option<Partial>, Error> {
    let mut best: Option<Partial> = None;
    for name in kept(repository, lineage, &segment.name(size)).await? {
        let (_, bytes) = match wal_object::get(repository, lineage.id, &WalFile::Partial(name)).await {
            Err(error) if is_absent(&error) => continue,
            other => other?,
        };
        let partial = measure(bytes, segment, size, lineage)?;
        if best.as_ref().is_none_or(|best| best.end < partial.end) {
            best = Some(partial);
        }
    }
    Ok(best)
}

/// The names of the partial segments kept for the segment `name`: PostgreSQL's own, and those that
/// salvage adds when it finds more.
async fn kept(repository: &Repository, lineage: &Lineage, name: &str) -> Result<Vec<String>, Error> {
    let first = format!("{name}.partial");
    let Some(key) = names::side_file(lineage.id, FOLDER, &first) else { return Ok(Vec::new()) };
    let folder = key.as_str().strip_suffix(&first).unwrap_or_default();
    let listed = repository.list(&format!("{folder}{name}.")).await?;
    let names = listed.iter().filter_map(|meta| meta.key.as_str().strip_prefix(folder));
    Ok(names.map(str::to_owned).collect())
}

/// Checks an incomplete segment and finds the end of its valid WAL. What lies behind it is left as
/// it is: PostgreSQL stops there by itself, as it does in its own `pg_wal` after a crash.
pub(crate) fn measure(
    content: Vec<u8>,
    segment: WalSegment,
    size: pg::SegmentSize,
    lineage: &Lineage,
) -> Result<Partial, Error> {
    let name = segment.name(size);
    let parsed = match name.parse() {
        Ok(pg::WalFileName::Segment(parsed)) => parsed,
        _ => return Err(Error::NotWal { name, reason: "expected a segment".into() }),
    };
    let (_, header) = content::check_segment(parsed, &content, lineage)?;
    let mut reader = RecordReader::new(segment.begin(size), size, header.block_size)
        .expect_system(lineage.system_id);
    'feeding: for chunk in content.chunks(FEED_LEN) {
        reader.feed(chunk);
        loop {
            match reader.next_record() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => break 'feeding,
            }
        }
    }
    let end = reader.end();
    Ok(Partial { content, end })
}
