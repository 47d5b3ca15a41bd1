//! What a finished backup came to.

use std::time::Duration;

use pg::BlockNumber;
use repository::root::Summary;

/// How many damaged pages a report names; all are counted.
pub const DAMAGED_PAGES_NAMED_MAX: usize = 1000;

/// A finished backup.
#[derive(Clone, Debug)]
pub struct Report {
    /// What a listing shows of it; `damaged_pages` above 0 means that the source is damaged.
    pub summary: Summary,
    /// How it went.
    pub statistics: Statistics,
    /// The first [`DAMAGED_PAGES_NAMED_MAX`] pages whose checksum was wrong and stayed wrong.
    pub damaged: Vec<DamagedPage>,
    /// What an operator should know, one sentence each.
    pub warnings: Vec<String>,
}

/// A page that is damaged in the source. The backup holds it as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedPage {
    /// The file, relative to the data directory.
    pub path: String,
    /// The page's number in its fork, counted over all segment files.
    pub block: BlockNumber,
}

/// How a backup went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    /// Regular files in the backup.
    pub files: u64,
    /// Bytes read of them.
    pub bytes_read: u64,
    /// Bytes in packs.
    pub bytes_packed: u64,
    /// Frames of data.
    pub frames: u64,
    /// Packs, of data and of the tree.
    pub packs: u64,
    /// Files that were gone when their turn came: dropped meanwhile.
    pub vanished: u64,
    /// Files that were shorter when read than when listed: truncated meanwhile.
    pub shrunk: u64,
    /// Pages that were read again because they were caught in the middle of a write.
    pub pages_reread: u64,
    /// Time for the first checkpoint.
    pub starting: Duration,
    /// Time for reading, sealing and storing.
    pub copying: Duration,
    /// Time from the stop of the backup until its WAL was in the repository.
    pub waiting_for_wal: Duration,
}
