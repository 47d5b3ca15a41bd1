//! Segments fetched before PostgreSQL asks for them.
//!
//! They wait in a spool folder beside the destination, on the same file system, so that giving one
//! to PostgreSQL is a rename. [`take`] does that with nothing but the file system: no repository,
//! no key. [`fill`] runs in a process of its own and stays a few segments ahead.
//!
//! The spool holds `restore` (for which restore it is), `lock` (held by the one filler), `next`
//! (where a reader that found nothing goes on), complete segments under their names, and the marks
//! `<name>.coming` of those under way. Whatever is killed at any point, a segment's name only ever
//! stands for the whole, durable segment.

mod fill;
mod spool;

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use pg::wal::SegmentHeader;
use pg::{SegmentSize, SystemId, WalFileName};

use crate::content;

pub use fill::{FillRequest, Filled, fill};
pub use spool::Spool;

/// How long to wait for a segment that a running filler has begun to fetch: fetching it twice
/// would take as long. A stalled filler is not waited for longer.
const COMING_MAX: Duration = Duration::from_secs(5);
const COMING_INTERVAL: Duration = Duration::from_millis(1);

/// What a segment must be to be taken from the spool.
#[derive(Clone, Copy, Debug)]
pub struct Expectations<'a> {
    /// The restore that asks, in any words that no other restore uses.
    pub restore: &'a str,
    /// The cluster's system identifier.
    pub system_id: SystemId,
    /// The cluster's segment size.
    pub segment_size: SegmentSize,
}

/// Moves the segment `name` from the spool beside `destination` to `destination`. `None`, and
/// nothing changed, when it is not there, is of another restore or another cluster, or is no
/// segment: it then has to be fetched.
#[must_use]
pub fn take(name: &str, destination: &Path, expected: &Expectations<'_>) -> Option<()> {
    let Ok(WalFileName::Segment(parsed)) = name.parse() else { return None };
    let spool = Spool::beside(destination)?;
    if spool.restore().as_deref() != Some(expected.restore) {
        return None;
    }
    let waiting = spool.segment(name);
    let mut file = open_when_come(&spool, name)?;
    if file.metadata().ok()?.len() != expected.segment_size.get() {
        return None;
    }
    let mut bytes = [0; SegmentHeader::SIZE];
    file.read_exact(&mut bytes).ok()?;
    let (_, header) = content::check_header(parsed, &bytes, expected.system_id, "").ok()?;
    if header.segment_size != expected.segment_size {
        return None;
    }
    // Its bytes are durable since before it got this name, and PostgreSQL makes the new name so.
    fs::rename(waiting, destination).ok()
}

/// Opens the segment, after waiting for it while a filler is about to bring it.
fn open_when_come(spool: &Spool, name: &str) -> Option<File> {
    let path = spool.segment(name);
    let began = Instant::now();
    loop {
        if let Ok(file) = File::open(&path) {
            return Some(file);
        }
        if !spool.is_coming(name) || !spool.is_filling() || began.elapsed() > COMING_MAX {
            // It may have come between the two looks.
            return File::open(&path).ok();
        }
        std::thread::sleep(COMING_INTERVAL);
    }
}
