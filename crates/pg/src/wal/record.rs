//! One WAL record and its block references.

use std::fmt;

use crate::{BlockNumber, Lsn, MajorVersion, Oid, TimelineId, Xid};

/// Names a relation's files: not the table's OID, and changed by whatever rewrites the table.
///
/// PostgreSQL: `RelFileLocator` (`RelFileNode` until 15), src/include/storage/relfilelocator.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelFileLocator {
    /// The tablespace, 1663 for `pg_default`.
    pub tablespace: Oid,
    /// The database; [`Oid::INVALID`] for relations shared by all databases.
    pub database: Oid,
    /// The relation's file number, `pg_class.relfilenode`.
    pub relation: Oid,
}

impl RelFileLocator {
    /// Bytes in a record.
    pub(super) const SIZE: usize = 12;
}

impl fmt::Display for RelFileLocator {
    /// `tablespace/database/relation`, as `pg_waldump` writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tablespace, self.database, self.relation)
    }
}

/// The part of a relation that a block lies in.
///
/// PostgreSQL: `ForkNumber`, src/include/common/relpath.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fork {
    /// The data.
    Main,
    /// The free space map.
    FreeSpaceMap,
    /// The visibility map.
    VisibilityMap,
    /// What an unlogged relation is reset to after a crash.
    Init,
}

impl Fork {
    /// The fork of a number in a record; `None` when there is none of that number.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Main),
            1 => Some(Self::FreeSpaceMap),
            2 => Some(Self::VisibilityMap),
            3 => Some(Self::Init),
            _ => None,
        }
    }

    /// The suffix of the fork's files, as `pg_waldump` prints it: `main`, `fsm`, `vm`, `init`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::FreeSpaceMap => "fsm",
            Self::VisibilityMap => "vm",
            Self::Init => "init",
        }
    }
}

/// The part of PostgreSQL that wrote a record and knows how to replay it.
///
/// PostgreSQL: `RmgrId`, src/include/access/rmgrlist.h. The numbers are the same in 13 to 18.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceManager(u8);

/// Names as `pg_waldump` prints them, by number.
const NAMES: [&str; 22] = [
    "XLOG",
    "Transaction",
    "Storage",
    "CLOG",
    "Database",
    "Tablespace",
    "MultiXact",
    "RelMap",
    "Standby",
    "Heap2",
    "Heap",
    "Btree",
    "Hash",
    "Gin",
    "Gist",
    "Sequence",
    "SPGist",
    "BRIN",
    "CommitTs",
    "ReplicationOrigin",
    "Generic",
    "LogicalMessage",
];

impl ResourceManager {
    /// Checkpoints, switches, full page images.
    pub const XLOG: Self = Self(0);
    /// Commit, abort, prepare.
    pub const TRANSACTION: Self = Self(1);
    /// Relation files created and truncated.
    pub const STORAGE: Self = Self(2);
    /// Databases created and dropped.
    pub const DATABASE: Self = Self(4);
    /// Tablespaces created and dropped.
    pub const TABLESPACE: Self = Self(5);
    /// What hot standbys need to know: locks, running transactions.
    pub const STANDBY: Self = Self(8);
    /// The second set of heap records.
    pub const HEAP2: Self = Self(9);
    /// Rows inserted, updated, deleted.
    pub const HEAP: Self = Self(10);

    /// The first number an extension may take (PostgreSQL 15 and later).
    const FIRST_CUSTOM: u8 = 128;

    /// The resource manager of a number; `None` when `version` has none of that number.
    #[must_use]
    pub fn new(number: u8, version: MajorVersion) -> Option<Self> {
        let built_in = usize::from(number) < NAMES.len();
        let custom = number >= Self::FIRST_CUSTOM && version >= MajorVersion::V15;
        (built_in || custom).then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for ResourceManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0)) {
            Some(name) => f.write_str(name),
            None => write!(f, "custom{:03}", self.0),
        }
    }
}

impl fmt::Debug for ResourceManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResourceManager({self})")
    }
}

/// How a page image is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// PostgreSQL's own.
    Pglz,
    /// LZ4 (PostgreSQL 15 and later).
    Lz4,
    /// Zstandard (PostgreSQL 15 and later).
    Zstd,
}

/// Where bytes lie in a record; always inside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) len: u32,
}

impl Span {
    /// The bytes; empty instead of a panic if a span is used with another record.
    pub(super) fn of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let start = self.start as usize;
        bytes.get(start..start + self.len as usize).unwrap_or_default()
    }
}

/// A full page image in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockImage {
    /// Whether replay puts the image in place; false when it is only there for consistency checks.
    pub apply: bool,
    /// How the image is compressed.
    pub compression: Compression,
    /// Where the bytes of the page begin that were left out of the image because they are zero.
    pub hole_offset: u16,
    /// How many were left out; `None` when only the page size tells: page size minus image length.
    pub hole_length: Option<u16>,
    pub(super) bytes: Span,
}

/// A block that a record changes or names.
///
/// PostgreSQL: `DecodedBkpBlock`, src/include/access/xlogreader.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRef {
    /// Its number within the record, 0 to 32, ascending, not always without gaps.
    pub id: u8,
    /// The relation.
    pub relation: RelFileLocator,
    /// The fork.
    pub fork: Fork,
    /// The block.
    pub block: BlockNumber,
    /// Whether replay makes the page anew, without reading it.
    pub will_init: bool,
    /// The page image, if there is one.
    pub image: Option<BlockImage>,
    pub(super) data: Span,
}

impl BlockRef {
    /// Whether the record carries an image of the page.
    #[must_use]
    pub const fn has_image(&self) -> bool {
        self.image.is_some()
    }

    /// Whether replay puts an image of the page in place, whatever the page was before.
    #[must_use]
    pub fn applies_image(&self) -> bool {
        self.image.is_some_and(|image| image.apply)
    }
}

/// A WAL record whose checksum and link to its predecessor have been verified. Borrows from the
/// reader that gave it.
///
/// PostgreSQL: `XLogRecord`, src/include/access/xlogrecord.h.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Where the record starts; what a recovery target LSN is compared with.
    pub start: Lsn,
    /// The first position after the record, rounded up to 8 bytes; for a segment switch the end of
    /// the segment. At the end of a page this is the next page's start: its header is not skipped.
    pub end: Lsn,
    /// Where the record before starts.
    pub prev: Lsn,
    /// The timeline of the page on which the record ends.
    pub timeline: TimelineId,
    /// The version that wrote the record.
    pub version: MajorVersion,
    /// The transaction or subtransaction; [`Xid::INVALID`] for what no transaction did.
    pub xid: Xid,
    /// Who wrote it.
    pub rmgr: ResourceManager,
    /// What it is: the upper four bits mean what the resource manager says.
    pub info: u8,
    /// The replication origin, when the change was replicated here.
    pub origin: Option<u16>,
    /// The top-level transaction, stated once in the first record of a subtransaction when
    /// `wal_level` is `logical`.
    pub top_level_xid: Option<Xid>,
    pub(super) blocks: &'a [BlockRef],
    pub(super) bytes: &'a [u8],
    pub(super) main: Span,
}

impl<'a> Record<'a> {
    /// Bytes before the record's content. PostgreSQL: `SizeOfXLogRecord`.
    pub const HEADER_SIZE: usize = 24;

    /// The longest record: 1020 MiB, for any version. PostgreSQL: `XLogRecordMaxSize`,
    /// src/include/access/xlogrecord.h of 16 and later; before, `MaxAllocSize` was the limit, which
    /// no record came near.
    pub const SIZE_MAX: u32 = 1020 << 20;

    /// The length in bytes, headers and page images included, page headers in between not.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // a record is never longer than SIZE_MAX
    pub const fn total_len(&self) -> u32 {
        self.bytes.len() as u32
    }

    /// The record as it lies in the log, page headers taken out.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The blocks, in the order of their ids.
    #[must_use]
    pub const fn blocks(&self) -> &'a [BlockRef] {
        self.blocks
    }

    /// The block with this id, if the record has it.
    #[must_use]
    pub fn block(&self, id: u8) -> Option<&'a BlockRef> {
        self.blocks.iter().find(|block| block.id == id)
    }

    /// The content that belongs to no block.
    #[must_use]
    pub fn main_data(&self) -> &'a [u8] {
        self.main.of(self.bytes)
    }

    /// The content that belongs to one of this record's blocks; empty when there is none.
    #[must_use]
    pub fn block_data(&self, block: &BlockRef) -> &'a [u8] {
        block.data.of(self.bytes)
    }

    /// The stored bytes of an image of this record: without the hole, and compressed as it says.
    #[must_use]
    pub fn image_bytes(&self, image: &BlockImage) -> &'a [u8] {
        image.bytes.of(self.bytes)
    }

    /// The kind of the record within its resource manager: the info byte without the bits that
    /// belong to the log itself.
    #[must_use]
    pub const fn operation(&self) -> u8 {
        self.info & 0xF0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn custom_resource_managers_exist_since_15() {
        assert_eq!(ResourceManager::new(128, MajorVersion::V14), None);
        assert_eq!(
            ResourceManager::new(128, MajorVersion::V15).map(|rmgr| rmgr.to_string()),
            Some("custom128".to_owned())
        );
        assert_eq!(ResourceManager::new(22, MajorVersion::V18), None);
        assert_eq!(ResourceManager::HEAP.to_string(), "Heap");
    }
}
