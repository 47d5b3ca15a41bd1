//! PostgreSQL's bytes and names, majors 14 to 18 (13 and 19 where it costs nothing): values in,
//! values out.
//!
//! Refuses to know: files, the network, the clock, our repository. Uses no other crate of ours.
//!
//! Invariant: bytes and text from outside are decoded or refused with an error; none makes a
//! function of this crate panic.
//!
//! ```
//! use pg::{Lsn, SegmentSize, TimelineId, WalSegment};
//! let stop: Lsn = "A2/80000000".parse()?;
//! let size = SegmentSize::DEFAULT;
//! let last = WalSegment::ending_at(stop, TimelineId::new(1), size);
//! assert_eq!(last.name(size), "00000001000000A20000007F");
//! # Ok::<(), pg::lsn::ParseLsnError>(())
//! ```

pub mod lsn;
pub mod number;
pub mod version;

pub mod history;
pub mod segment;
pub mod wal_file_name;

pub mod backup_label;
pub mod control;
pub mod page;
pub mod relation_file;

pub mod layout;
pub mod recovery;

pub mod wal;

pub use backup_label::{BackupLabel, TablespaceMap};
pub use control::{ControlFile, ControlFileError};
pub use history::TimelineHistory;
pub use lsn::Lsn;
pub use number::{BlockNumber, FullXid, Oid, SystemId, TimelineId, Xid};
pub use page::{BlockSize, page_checksum};
pub use relation_file::RelationFile;
pub use segment::{SegmentName, SegmentSize, WalSegment};
pub use version::MajorVersion;
pub use wal_file_name::WalFileName;
