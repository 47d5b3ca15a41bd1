//! Fetching one WAL file: what a restore command does.
//!
//! PostgreSQL takes a missing file for the end of the archive and may promote then. So absence is
//! only told when every repository of the set says so *and* recovery may end there; see
//! [`crate::verdict`] for how anything else has to be told.

mod deliver;
mod history;

use std::path::Path;
use std::time::Duration;

use pg::wal::{PageHeader, RecordReader, SegmentHeader};
use pg::{Lsn, SegmentName, TimelineId, WalFileName, WalSegment};
use repository::Repository;
use repository::lineage::Lineage;
use repository::wal_object::{self, WalFile};
use repository::{names, piece};

use crate::content;
use crate::error::{Error, is_absent};
use crate::fetch::{self, Found};
use crate::route::Route;
use crate::verdict::Verdict;

pub use history::{from_own_folder, placeholder};

/// How often a standby asks a silent repository before it is told "not yet", and how long it waits
/// in between. PostgreSQL itself asks again after five seconds (`wal_retrieve_retry_interval`).
const STANDBY_ATTEMPTS_MAX: u32 = 3;
const STANDBY_DELAY: Duration = Duration::from_millis(500);

/// Bytes of WAL given to the decoder at a time.
const FEED_LEN: usize = 1 << 20;

/// What to fetch, for which restore.
#[derive(Clone, Copy, Debug)]
pub struct GetRequest<'a> {
    /// The name: `%f` of the restore command.
    pub name: &'a str,
    /// Where it goes: `%p` made absolute. The folder exists; a file there is replaced.
    pub destination: &'a Path,
    /// The lineage the restored cluster comes from.
    pub lineage: &'a Lineage,
    /// The timelines recovery follows; without stretches, any.
    pub route: &'a Route,
    /// The position up to which recovery needs every byte of WAL: the end of the last record it
    /// must read. `None`: as far as the repository has WAL without a hole.
    pub end: Option<Lsn>,
    /// The timeline id reserved for the promotion of this restore.
    pub reserved: Option<TimelineId>,
    /// The cluster runs as a standby (`standby.signal`).
    pub standby: bool,
    /// Whether a dead timeline is finalised: its last, incomplete segment may be used.
    pub allow_partial: bool,
}

impl GetRequest<'_> {
    fn hole(&self, end: String) -> Error {
        Error::Hole { name: self.name.to_owned(), end }
    }
}

/// Fetches one file. Whatever happens, the destination holds the whole file or what was there
/// before.
pub async fn get(repository: &Repository, request: &GetRequest<'_>) -> Verdict {
    let mut attempt = 1;
    loop {
        match attempt_get(repository, request).await {
            Ok(true) => return Verdict::Delivered,
            Ok(false) => return Verdict::Absent,
            Err(error) if request.standby && error.is_outage() => {
                if attempt >= STANDBY_ATTEMPTS_MAX {
                    tracing::error!(%error, name = request.name, "the standby has to wait");
                    return Verdict::Absent;
                }
                attempt += 1;
                tokio::time::sleep(STANDBY_DELAY).await;
            }
            Err(error) => return Verdict::Failed(error),
        }
    }
}

/// Whether the file was delivered; otherwise it is absent and may be.
async fn attempt_get(repository: &Repository, request: &GetRequest<'_>) -> Result<bool, Error> {
    let name: WalFileName =
        request.name.parse().map_err(|error: pg::wal_file_name::ParseWalFileNameError| {
            Error::NotWal { name: request.name.to_owned(), reason: error.to_string() }
        })?;
    match name {
        WalFileName::Segment(segment) => get_segment(repository, request, segment).await,
        WalFileName::History(timeline) => history::get(repository, request, timeline).await,
        WalFileName::BackupHistory { .. } => {
            let file = WalFile::BackupHistory(name.to_string());
            get_small(repository, request, &file).await
        }
        // Under its own name it is what it says, for whoever asks for that.
        WalFileName::Partial(_) => {
            get_small(repository, request, &WalFile::Partial(name.to_string())).await
        }
    }
}

async fn get_segment(
    repository: &Repository,
    request: &GetRequest<'_>,
    name: SegmentName,
) -> Result<bool, Error> {
    let size = request.route.segment_size();
    let segment = name.segment(size).map_err(|error| Error::NotWal {
        name: request.name.to_owned(),
        reason: error.to_string(),
    })?;
    if !on_route(request, segment)? {
        return Ok(false);
    }
    let mut draft = deliver::begin(request.destination)?;
    let found = fetch::segment(repository, request.lineage, segment, size, &mut draft).await?;
    let content = match found {
        Found::Whole => return deliver::finish(draft).map(|()| true),
        Found::Begun { content, len } => {
            may_end_at(repository, request, segment, segment.begin(size) + len).await?;
            // A standby waits for the rest instead.
            (!request.standby || request.allow_partial).then_some(content)
        }
        Found::Absent => match partial(repository, request, segment).await? {
            Some((content, reach)) => {
                may_end_at(repository, request, segment, reach).await?;
                Some(content)
            }
            None => {
                may_end_at(repository, request, segment, segment.begin(size)).await?;
                None
            }
        },
    };
    match content {
        Some(content) => deliver::deliver(request.destination, &content).map(|()| true),
        None => Ok(false),
    }
}

/// Whether recovery may be given the segment, if it is there.
///
/// Where a timeline branches off inside a segment, PostgreSQL asks for the newer timeline's file
/// first and then for the older one's, which goes on with what was written *after* the branch: it
/// would replay that as well.
fn on_route(request: &GetRequest<'_>, segment: WalSegment) -> Result<bool, Error> {
    let (route, size) = (request.route, request.route.segment_size());
    if route.target().is_none() {
        return Ok(true);
    }
    // A standby that searches its way may be behind or ahead of what is current here: for it this
    // is "not yet", and then it searches again, or streams.
    let waits = request.standby && route.is_searched();
    if !route.timelines().any(|timeline| timeline == segment.timeline) {
        if waits {
            tracing::warn!(name = request.name, path = route.describe(), "not on the way");
            return Ok(false);
        }
        return Err(Error::OffPath { name: request.name.to_owned(), path: route.describe() });
    }
    match route.file(segment.number) {
        Some(file) if file != segment && waits => {
            tracing::debug!(name = request.name, "another timeline has this segment");
            Ok(false)
        }
        Some(file) if file != segment => match request.end {
            Some(end) if end <= segment.begin(size) => Ok(false),
            _ => Err(Error::Hole {
                name: file.name(size),
                end: format!("timeline {}", route.target().unwrap_or(file.timeline)),
            }),
        },
        _ => Ok(true),
    }
}

/// Checks that recovery may find the end of the log at `reach`, which lies in `segment`. A standby
/// finds none: it waits for more.
///
/// # Errors
/// [`Error::Hole`] when recovery needs what comes behind.
async fn may_end_at(
    repository: &Repository,
    request: &GetRequest<'_>,
    segment: WalSegment,
    reach: Lsn,
) -> Result<(), Error> {
    match request.end {
        _ if request.standby => Ok(()),
        Some(end) if reach < end => Err(request.hole(end.to_string())),
        Some(_) => Ok(()),
        None => match later(repository, request, segment, reach).await? {
            Some(name) => Err(request.hole(format!("segment '{name}'"))),
            None => Ok(()),
        },
    }
}

/// The last segment of a dead timeline, as PostgreSQL archives it at a promotion, when it may stand
/// for the whole one, and where its valid WAL ends. What lies behind that PostgreSQL finds out as
/// after a crash.
async fn partial(
    repository: &Repository,
    request: &GetRequest<'_>,
    segment: WalSegment,
) -> Result<Option<(Vec<u8>, Lsn)>, Error> {
    if !request.allow_partial {
        return Ok(None);
    }
    let file = WalFile::Partial(format!("{}.partial", request.name));
    match wal_object::get(repository, request.lineage.id, &file).await {
        Ok((_, content)) => {
            let Ok(WalFileName::Segment(name)) = request.name.parse() else { return Ok(None) };
            let (_, header) = content::check_segment(name, &content, request.lineage)?;
            let reach = valid_end(&header, segment, &content, request.lineage);
            Ok(Some((content, reach)))
        }
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(Error::unproved(request.name, error)),
    }
}

/// The end of the last record in a segment that ends somewhere; the segment's begin if it has none.
fn valid_end(
    header: &SegmentHeader,
    segment: WalSegment,
    content: &[u8],
    lineage: &Lineage,
) -> Lsn {
    let begin = segment.begin(header.segment_size);
    let mut reader = RecordReader::new(begin, header.segment_size, header.block_size)
        .expect_system(lineage.system_id);
    for chunk in content.chunks(FEED_LEN) {
        reader.feed(chunk);
        while let Ok(Some(_)) = reader.next_record() {}
    }
    // The reader passes over a record that began in the segment before.
    let mut rest = u64::from(header.page.remaining.unwrap_or(0));
    let page_len = u64::from(header.block_size.get());
    let (mut page, mut head) = (0, SegmentHeader::SIZE as u64);
    while rest > page_len - head && page + page_len < header.segment_size.get() {
        rest -= page_len - head;
        (page, head) = (page + page_len, PageHeader::SIZE as u64);
    }
    let straddler = begin + (page + head + rest).min(header.segment_size.get());
    if header.page.remaining.is_some() { reader.end().max(straddler) } else { reader.end() }
}

/// The name of an archived segment or piece that lies behind `segment`, or `reach` in it, on the
/// way: then `segment` is a hole, and not the end.
async fn later(
    repository: &Repository,
    request: &GetRequest<'_>,
    segment: WalSegment,
    reach: Lsn,
) -> Result<Option<String>, Error> {
    let size = request.route.segment_size();
    let newer = request.route.timelines().filter(|timeline| *timeline > segment.timeline);
    for timeline in std::iter::once(segment.timeline).chain(newer) {
        let prefix = names::wal_prefix(request.lineage.id, timeline);
        let listed = fetch::listed_everywhere(repository, &prefix)
            .await
            .map_err(|error| Error::unproved(request.name, error))?;
        let found = listed.iter().filter_map(|key| {
            let name = key.as_str().strip_prefix(&prefix)?;
            let seen = WalSegment::parse(name, size).ok()?;
            (seen.number > segment.number).then(|| name.to_owned())
        });
        if let Some(name) = found.min() {
            return Ok(Some(name));
        }
        let prefix = names::pieces(request.lineage.id, timeline);
        let listed = fetch::listed_everywhere(repository, &prefix)
            .await
            .map_err(|error| Error::unproved(request.name, error))?;
        let ranges =
            listed.iter().filter_map(|key| piece::parse(key.as_str().strip_prefix(&prefix)?, size));
        let behind = ranges
            .filter(|range| range.segment.begin(size) + u64::from(range.end) > reach)
            .min_by_key(|range| range.segment.number);
        if let Some(range) = behind {
            return Ok(Some(range.segment.name(size)));
        }
    }
    Ok(None)
}

/// A file that is not replayed and may be absent at any time.
async fn get_small(
    repository: &Repository,
    request: &GetRequest<'_>,
    file: &WalFile,
) -> Result<bool, Error> {
    match wal_object::get(repository, request.lineage.id, file).await {
        Ok((_, content)) => {
            deliver::deliver(request.destination, &content)?;
            Ok(true)
        }
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(Error::unproved(request.name, error)),
    }
}
