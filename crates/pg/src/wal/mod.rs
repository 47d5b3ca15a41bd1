//! The write-ahead log: pages, records, and what the records say.
//!
//! [`SegmentHeader`] tells which cluster a segment file belongs to. [`RecordReader`] turns the
//! bytes of consecutive segments into verified [`Record`]s with all their block references. The
//! modules under [`rmgr`] read what a record of one resource manager means, and [`Activity`] adds
//! that up per transaction.
//!
//! Refuses to know: where the bytes come from, and the names behind relation file numbers.
//!
//! Read here are PostgreSQL 13 (untested) and 14 to 18, written on a little-endian machine: the
//! big-endian form has another byte order in the page magic and is refused as unknown.
//!
//! ```
//! use pg::wal::{EndReason, RecordReader, WalBlockSize};
//! use pg::{Lsn, SegmentSize};
//!
//! let start: Lsn = "0/1000000".parse()?;
//! let mut reader = RecordReader::new(start, SegmentSize::DEFAULT, WalBlockSize::DEFAULT);
//! assert!(reader.next_record()?.is_none()); // nothing fed yet
//! reader.feed(&[0; 8192]); // a page that was never written
//! let end = reader.next_record().unwrap_err();
//! assert_eq!((end.at, end.reason), (start, EndReason::Zeroed));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod activity;
pub mod reader;
pub mod record;
pub mod rmgr;

mod cursor;
mod decode;
mod error;
#[cfg(test)]
mod forge;
mod page;
mod time;

pub use activity::Activity;
pub use error::{EndReason, HeaderError, MalformedRecord, ReadError};
pub use page::{PageHeader, SegmentHeader, WalBlockSize};
pub use reader::RecordReader;
pub use record::{
    BlockImage, BlockRef, Compression, Fork, Record, RelFileLocator, ResourceManager,
};
pub use time::TimestampTz;
