//! The tree below a backup's root: directory pages, file nodes, leaves. Stored in meta packs.
//!
//! An unchanged node is shared between backups by reference, so nodes name packs by id and never by
//! a position in one backup's tables.

mod wire;

use minicbor::{Decode, Encode};

use crate::keys::{Digest, SetKeys};
use crate::names::PackId;
use crate::object::FrameAt;

pub(crate) use wire::NodeRefWire;

/// How much of a file one leaf covers, in bytes.
pub const LEAF_SPAN: u64 = 16 << 20;

/// Files up to this many bytes stand in the directory page itself.
pub const INLINE_LEN_MAX: usize = 512;

/// A directory page is closed when it has grown to this many bytes.
pub const PAGE_LEN_TARGET: usize = 64 << 10;

/// The most bytes of plain content in one data frame.
pub const FRAME_LEN: usize = 128 << 10;

/// Where a node is: its frame, and the digest that proves it is the one meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRef {
    /// The meta pack.
    pub pack: PackId,
    /// The frame in it.
    pub at: FrameAt,
    /// Keyed digest of the node's plain bytes.
    pub digest: Digest,
}

/// What an entry of the tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// A regular file of the data directory.
    File = 0,
    /// A directory.
    Directory = 1,
    /// A symbolic link; a tablespace's link below `pg_tblspc` is one.
    Symlink = 2,
    /// Something recorded beside the data directory and not restored into it: configuration outside
    /// PGDATA, globals, relation names. Its path begins with [`ATTACHMENT_PREFIX`].
    Attachment = 3,
}

/// First path component of everything that is recorded beside the data directory.
pub const ATTACHMENT_PREFIX: &str = "@rollforward/";

/// One file, directory or link of the data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path relative to the data directory, `/`-separated, bytes as the file system has them.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner's name, or its number when it had no name.
    pub owner: String,
    /// Group's name, or its number when it had no name.
    pub group: String,
    /// Modification time in microseconds since 1970-01-01 UTC.
    pub modified_us: i64,
    /// Length in bytes.
    pub size: u64,
    /// Where a link points.
    pub link: Option<Vec<u8>>,
    /// A file's content.
    pub content: Content,
}

/// Where a file's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Here.
    Inline(Vec<u8>),
    /// In the frames of one leaf.
    Leaf(Leaf),
    /// In the leaves that a file node lists.
    Node(NodeRef),
}

/// The frames that hold up to [`LEAF_SPAN`] bytes of a file.
///
/// Content is counted in units: pages of a relation file, or single bytes (`unit` = 1). Extents are
/// in ascending order and cover the leaf without holes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaf {
    /// Bytes in a unit: the block size, or 1.
    pub unit: u32,
    /// The frames used.
    pub frames: Vec<(PackId, FrameAt)>,
    /// Which units are where.
    pub extents: Vec<Extent>,
}

/// A run of units in one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Extent {
    /// First unit, counted from the start of the file.
    #[n(0)]
    pub first: u64,
    /// How many units.
    #[n(1)]
    pub count: u32,
    /// Position in [`Leaf::frames`].
    #[n(2)]
    pub frame: u32,
    /// First unit inside the frame.
    #[n(3)]
    pub slot: u32,
}

/// A large file: its leaves in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileNode {
    /// Each leaf and the byte of the file it begins at.
    pub leaves: Vec<(u64, NodeRef)>,
}

/// One page of the tree of directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// Entries in ascending order of path.
    Entries(Vec<Entry>),
    /// Pages below, each with the path of its first entry.
    Children(Vec<(Vec<u8>, NodeRef)>),
}

/// A node as it is stored; see the module of the same name in `docs/repository-format.md`.
pub trait Node: Sized {
    /// The node's canonical bytes.
    fn encode(&self) -> Vec<u8>;

    /// Reads a node.
    ///
    /// # Errors
    /// A sentence: which rule of the format the bytes break.
    fn decode(bytes: &[u8]) -> Result<Self, String>;
}

/// The digest a [`NodeRef`] carries.
#[must_use]
pub fn node_digest(keys: &SetKeys, bytes: &[u8]) -> Digest {
    keys.digest(bytes)
}

impl Leaf {
    /// First byte of the file that the leaf covers, and how many bytes it covers.
    #[must_use]
    pub fn span(&self) -> (u64, u64) {
        let begin = self.extents.first().map_or(0, |extent| extent.first);
        let units: u64 = self.extents.iter().map(|extent| u64::from(extent.count)).sum();
        (begin * u64::from(self.unit), units * u64::from(self.unit))
    }
}
