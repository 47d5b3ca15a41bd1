//! WAL that is known to be missing.
//!
//! A gap record lies under `gap/<lineage>/<timeline>/<begin>-<end>`, positions in sixteen
//! hexadecimal digits, end exclusive. It is a hint: segments that are found later override it.

use jiff::Timestamp;
use minicbor::{Decode, Encode};
use pg::{Lsn, TimelineId};
use stdx::Id;
use store::Key;

use crate::error::Error;
use crate::kind::Kind;
use crate::names::{self, LineageId};
use crate::object::{from_cbor, to_cbor};
use crate::set::Repository;

/// A stretch of WAL that somebody found missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The timeline.
    pub timeline: TimelineId,
    /// Where it begins.
    pub begin: Lsn,
    /// The first position behind it.
    pub end: Lsn,
    /// How it came about, for example `slot 'x' was lost`.
    pub reason: String,
    /// The writer that noticed.
    pub writer: Id,
    /// When.
    pub noticed: Timestamp,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct GapWire {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    lineage: [u8; 16],
    #[n(1)]
    timeline: u32,
    #[n(2)]
    begin: u64,
    #[n(3)]
    end: u64,
    #[n(4)]
    reason: String,
    #[n(5)]
    #[cbor(with = "minicbor::bytes")]
    writer: [u8; 16],
    #[n(6)]
    noticed_us: i64,
}

/// Notes a gap in every member. One that is known already is left as it is.
///
/// # Errors
/// [`Error::Limit`] for a gap that ends before it begins; an error of a store.
pub async fn put(repository: &Repository, lineage: LineageId, gap: &Gap) -> Result<(), Error> {
    let bad = |reason: String| Error::Limit { what: "a gap", reason };
    if gap.begin >= gap.end {
        return Err(bad(format!("it begins at {} and ends at {}", gap.begin, gap.end)));
    }
    let folder = names::gaps(lineage, gap.timeline);
    let key = Key::new(format!("{folder}{:016x}-{:016x}", gap.begin.get(), gap.end.get()))
        .map_err(|error| bad(error.to_string()))?;
    let wire = GapWire {
        lineage: *lineage.0.as_bytes(),
        timeline: gap.timeline.get(),
        begin: gap.begin.get(),
        end: gap.end.get(),
        reason: gap.reason.clone(),
        writer: *gap.writer.as_bytes(),
        noticed_us: gap.noticed.as_microsecond(),
    };
    repository.create(Kind::WalGap, &key, &[&to_cbor(&wire)]).await?;
    Ok(())
}

/// The gaps that were noted on a timeline, in order of their beginning, filled since or not.
///
/// # Errors
/// Damage; an error of a store.
pub async fn list(
    repository: &Repository,
    lineage: LineageId,
    timeline: TimelineId,
) -> Result<Vec<Gap>, Error> {
    let mut gaps = Vec::new();
    for meta in repository.list(&names::gaps(lineage, timeline)).await? {
        let frames = repository.read(Kind::WalGap, &meta.key).await?;
        let frame = frames.first().map(Vec::as_slice).unwrap_or_default();
        let gap = decode(frame, lineage, timeline).map_err(|reason| Error::Damaged {
            store: repository.address(),
            key: meta.key.to_string(),
            reason,
        })?;
        gaps.push(gap);
    }
    gaps.sort_by_key(|gap| (gap.begin, gap.end));
    Ok(gaps)
}

fn decode(frame: &[u8], lineage: LineageId, timeline: TimelineId) -> Result<Gap, String> {
    let wire: GapWire = from_cbor(frame)?;
    if wire.lineage != *lineage.0.as_bytes() || wire.timeline != timeline.get() {
        let seen = LineageId(Id::from_bytes(wire.lineage));
        return Err(format!("it is of timeline {} of lineage {seen}", wire.timeline));
    }
    Ok(Gap {
        timeline,
        begin: Lsn::new(wire.begin),
        end: Lsn::new(wire.end),
        reason: wire.reason,
        writer: Id::from_bytes(wire.writer),
        noticed: Timestamp::from_microsecond(wire.noticed_us).map_err(|error| error.to_string())?,
    })
}
