//! Filling the spool.

use std::time::Duration;

use pg::{Lsn, WalSegment};
use repository::Repository;
use repository::lineage::Lineage;
use stdx::durable::Draft;
use tokio::time::Instant;

use super::spool::Spool;
use crate::error::Error;
use crate::fetch::{self, Found};
use crate::route::Route;

/// The most bytes that wait in a spool, but for one segment that is larger.
const SPOOL_BYTES_MAX: u64 = 256 << 20;

/// How often a full spool is looked at: PostgreSQL replays a segment in a tenth of a second.
const INTERVAL: Duration = Duration::from_millis(10);

/// What to fill a spool with.
#[derive(Clone, Copy, Debug)]
pub struct FillRequest<'a> {
    /// Where.
    pub spool: &'a Spool,
    /// For which restore: see [`super::Expectations`].
    pub restore: &'a str,
    /// The lineage.
    pub lineage: &'a Lineage,
    /// The timelines that recovery follows.
    pub route: &'a Route,
    /// The number of the first segment to fetch.
    pub next: u64,
    /// The position up to which recovery needs WAL.
    pub end: Option<Lsn>,
    /// How many segments to be ahead.
    pub count: u64,
    /// How long to stay when the spool is full and nothing is taken.
    pub linger: Duration,
}

/// Why a filler ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// The next segment is in no repository, or past the end of recovery.
    End,
    /// The spool stayed full: recovery is over, or slow.
    Idle,
    /// Another filler is at work.
    Busy,
}

/// Keeps the spool filled until there is nothing more to fetch or nobody takes anything.
///
/// # Errors
/// A repository that fails, a segment that is not what its name says, or a full disk. Nothing is
/// lost: whoever asks for the segment meets the same error and tells PostgreSQL.
pub async fn fill(repository: &Repository, request: &FillRequest<'_>) -> Result<Filled, Error> {
    let spool = request.spool;
    let Some(filling) = spool.lock()? else { return Ok(Filled::Busy) };
    spool.claim(request.restore, &filling)?;
    let by_bytes = SPOOL_BYTES_MAX / request.route.segment_size().get();
    let ahead = request.count.min(by_bytes).max(1);
    let mut next = request.next;
    let mut redirected = spool.next();
    discard_outside(request, next, ahead)?;
    let mut idle_since = Instant::now();
    let mut waiting_before = u64::MAX;
    loop {
        let told = spool.next();
        if told != redirected {
            redirected = told;
            if let Some(number) = redirected.as_deref().and_then(|name| number_of(request, name)) {
                next = number;
                discard_outside(request, next, ahead)?;
            }
        }
        let waiting = spool.segments()?.len() as u64;
        if waiting >= ahead {
            if waiting != waiting_before {
                idle_since = Instant::now();
            } else if idle_since.elapsed() >= request.linger {
                return Ok(Filled::Idle);
            }
            waiting_before = waiting;
            tokio::time::sleep(INTERVAL).await;
            continue;
        }
        waiting_before = u64::MAX;
        let Some(segment) = wanted(request, next) else { return Ok(Filled::End) };
        if !bring(repository, request, segment).await? {
            return Ok(Filled::End);
        }
        next += 1;
    }
}

/// The file of the next segment, unless recovery needs none.
fn wanted(request: &FillRequest<'_>, next: u64) -> Option<WalSegment> {
    let segment = request.route.file(next)?;
    let begin = segment.begin(request.route.segment_size());
    request.end.is_none_or(|end| begin < end).then_some(segment)
}

async fn bring(
    repository: &Repository,
    request: &FillRequest<'_>,
    segment: WalSegment,
) -> Result<bool, Error> {
    let size = request.route.segment_size();
    let name = segment.name(size);
    if request.spool.segment(&name).exists() {
        return Ok(true);
    }
    let whole = async |draft: &mut Draft| {
        // One that has only begun may go on later: whoever asks for it decides what it is worth.
        match fetch::segment(repository, request.lineage, segment, size, draft).await? {
            Found::Whole => Ok(true),
            Found::Begun { .. } | Found::Absent => Ok(false),
        }
    };
    request.spool.bring(&name, whole).await
}

/// Removes the segments that recovery has passed or does not ask for next.
fn discard_outside(request: &FillRequest<'_>, next: u64, ahead: u64) -> Result<(), Error> {
    for name in request.spool.segments()? {
        let wanted = number_of(request, &name).is_some_and(|number| {
            (next..next.saturating_add(ahead)).contains(&number)
                && request
                    .route
                    .file(number)
                    .is_some_and(|segment| segment.name(request.route.segment_size()) == name)
        });
        if !wanted {
            request.spool.discard(&name);
        }
    }
    Ok(())
}

fn number_of(request: &FillRequest<'_>, name: &str) -> Option<u64> {
    WalSegment::parse(name, request.route.segment_size()).ok().map(|segment| segment.number)
}
