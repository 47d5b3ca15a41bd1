//! A file's content in the tree, built frame by frame.

use repository::object::FrameAt;
use repository::pack::TreeWriter;
use repository::tree::{Content, Extent, FRAME_LEN, FileNode, LEAF_SPAN, Leaf};
use repository::{Error, PackId};

/// Files of so many frames stand with their leaf in the directory page. More go into a node of
/// their own, because all entries wait in memory until the tree is written, in order of path.
const FRAMES_IN_PAGE_MAX: usize = 4;

/// What is known of a file whose bytes are in the repository.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// Bytes, which may be less than were listed.
    pub(crate) size: u64,
    pub(crate) content: Content,
}

impl Stored {
    pub(crate) fn inline(bytes: Vec<u8>) -> Self {
        Self { size: bytes.len() as u64, content: Content::Inline(bytes) }
    }

    /// A small file's part of one frame.
    pub(crate) fn part(pack: PackId, at: FrameAt, unit: u32, begin: usize, len: usize) -> Self {
        if len == 0 {
            return Self::inline(Vec::new());
        }
        let units = |bytes: usize| u32::try_from(bytes / unit as usize).unwrap_or(u32::MAX);
        let extent = Extent { first: 0, count: units(len), frame: 0, slot: units(begin) };
        let leaf = Leaf { unit, frames: vec![(pack, at)], extents: vec![extent] };
        Self { size: len as u64, content: Content::Leaf(leaf) }
    }
}

/// Takes the frames of one file in order.
#[derive(Debug)]
pub(crate) struct FileBuilder {
    unit: u32,
    /// Bytes so far, in all leaves.
    size: u64,
    /// The leaf being filled.
    leaf: Leaf,
    /// Leaves already stored.
    file: FileNode,
    /// Whether the file was found to end here: what was read behind a short frame came after a
    /// truncation, and WAL holds it.
    ended: bool,
}

impl FileBuilder {
    pub(crate) fn new(unit: u32) -> Self {
        Self {
            unit,
            size: 0,
            leaf: Leaf { unit, ..Leaf::default() },
            file: FileNode::default(),
            ended: false,
        }
    }

    /// Adds the next frame and says whether the file uses it.
    pub(crate) async fn frame(
        &mut self,
        tree: &mut TreeWriter<'_>,
        pack: PackId,
        at: FrameAt,
    ) -> Result<bool, Error> {
        let len = u64::from(at.shape.raw_len);
        self.ended |= len == 0 || !self.size.is_multiple_of(FRAME_LEN as u64);
        if self.ended {
            return Ok(false);
        }
        if self.leaf_len() >= LEAF_SPAN {
            self.store_leaf(tree).await?;
        }
        let unit = u64::from(self.unit);
        self.leaf.extents.push(Extent {
            first: self.size / unit,
            count: u32::try_from(len / unit).unwrap_or(u32::MAX),
            frame: u32::try_from(self.leaf.frames.len()).unwrap_or(u32::MAX),
            slot: 0,
        });
        self.leaf.frames.push((pack, at));
        self.size += len;
        Ok(true)
    }

    /// Completes the file.
    pub(crate) async fn finish(mut self, tree: &mut TreeWriter<'_>) -> Result<Stored, Error> {
        if self.size == 0 {
            return Ok(Stored::inline(Vec::new()));
        }
        if self.file.leaves.is_empty() && self.leaf.frames.len() <= FRAMES_IN_PAGE_MAX {
            self.leaf.frames.shrink_to_fit();
            self.leaf.extents.shrink_to_fit();
            return Ok(Stored { size: self.size, content: Content::Leaf(self.leaf) });
        }
        self.store_leaf(tree).await?;
        let node = tree.put(&self.file).await?;
        Ok(Stored { size: self.size, content: Content::Node(node) })
    }

    fn leaf_len(&self) -> u64 {
        self.size - self.leaf_begin()
    }

    fn leaf_begin(&self) -> u64 {
        let first = self.leaf.extents.first().map(|extent| extent.first * u64::from(self.unit));
        first.unwrap_or(self.size)
    }

    async fn store_leaf(&mut self, tree: &mut TreeWriter<'_>) -> Result<(), Error> {
        let begin = self.leaf_begin();
        let full = std::mem::replace(&mut self.leaf, Leaf { unit: self.unit, ..Leaf::default() });
        self.file.leaves.push((begin, tree.put(&full).await?));
        Ok(())
    }
}
