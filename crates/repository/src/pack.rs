//! Writing packs, and nodes into meta packs.

use bytes::{Bytes, BytesMut};

use crate::codec::Compression;
use crate::error::Error;
use crate::kind::Kind;
use crate::names::{self, PackId};
use crate::object::{FrameAt, ObjectWriter};
use crate::root::PackEntry;
use crate::seal::{SealedFrame, Sealer};
use crate::set::Repository;
use crate::tree::{Entry, Node, NodeRef, PAGE_LEN_TARGET, Page, node_digest};
use crate::uploads::Uploads;

/// Bytes handed to the store at once.
pub const PART_LEN: usize = 8 << 20;

/// A meta pack is closed when it has this many bytes.
const META_PACK_LEN_TARGET: u64 = 64 << 20;

/// One pack under way, in every member. Dropped without [`finish`](Self::finish), it never appears.
#[derive(Debug)]
pub struct PackWriter {
    id: PackId,
    object: ObjectWriter,
    uploads: Uploads,
    part: BytesMut,
}

impl PackWriter {
    /// Begins a pack under a fresh name and a fresh salt.
    ///
    /// # Errors
    /// When a member refuses the upload.
    pub async fn begin(repository: &Repository, kind: Kind) -> Result<Self, Error> {
        let id = PackId(stdx::Id::random());
        let object = ObjectWriter::new(repository.keys(), kind);
        let uploads = repository.upload(&names::pack(id)).await?;
        let mut part = BytesMut::with_capacity(PART_LEN + (1 << 20));
        part.extend_from_slice(&object.header(None));
        Ok(Self { id, object, uploads, part })
    }

    /// The pack's name.
    #[must_use]
    pub fn id(&self) -> PackId {
        self.id
    }

    /// The sealer for worker threads: frame numbers count from 0 in the order of
    /// [`append`](Self::append).
    #[must_use]
    pub fn sealer(&self) -> &Sealer {
        self.object.sealer()
    }

    /// Bytes so far, header included.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.object.len()
    }

    /// Whether no frame was appended yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.object.is_empty()
    }

    /// How many frames were appended.
    #[must_use]
    pub fn frame_count(&self) -> u64 {
        self.object.frame_count()
    }

    /// Appends the frame that was sealed under the number [`frame_count`](Self::frame_count).
    ///
    /// # Errors
    /// When a member's upload fails; the pack is then lost.
    pub async fn append(
        &mut self,
        frame: &SealedFrame,
        page_digests: Vec<u8>,
    ) -> Result<FrameAt, Error> {
        let at = self.object.push(frame, page_digests);
        self.part.extend_from_slice(&frame.bytes);
        if self.part.len() >= PART_LEN {
            let part = self.part.split().freeze();
            self.uploads.write(&part).await?;
            self.part.reserve(PART_LEN + (1 << 20));
        }
        Ok(at)
    }

    /// Like [`append`](Self::append), without copying the frame's bytes: stores gather them.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub async fn append_owned(
        &mut self,
        frame: SealedFrame,
        page_digests: Vec<u8>,
    ) -> Result<FrameAt, Error> {
        let at = self.object.push(&frame, page_digests);
        if !self.part.is_empty() {
            let part = self.part.split().freeze();
            self.uploads.write(&part).await?;
        }
        self.uploads.write(&Bytes::from(frame.bytes)).await?;
        Ok(at)
    }

    /// Writes the index and makes the pack appear, complete and durable, in every member.
    ///
    /// # Errors
    /// When a member fails; no backup refers to the pack yet, so nothing is lost but space.
    pub async fn finish(mut self) -> Result<PackEntry, Error> {
        let live: u64 = self.object.len() - crate::header::HEADER_LEN as u64;
        let (epoch, salt) = self.object.sealing();
        let tail = self.object.finish();
        let size = live + crate::header::HEADER_LEN as u64 + tail.len() as u64;
        self.part.extend_from_slice(&tail);
        let part: Bytes = self.part.freeze();
        self.uploads.write(&part).await?;
        self.uploads.finish().await?;
        Ok(PackEntry { id: self.id, size, live, epoch, salt })
    }

    /// Gives the pack up.
    ///
    /// # Errors
    /// When a member could not clean up; nothing is visible all the same.
    pub async fn abort(self) -> Result<(), Error> {
        self.uploads.abort().await
    }
}

/// Writes the nodes of one backup's tree into meta packs, entries in ascending order of path.
#[derive(Debug)]
pub struct TreeWriter<'r> {
    repository: &'r Repository,
    pack: PackWriter,
    finished: Vec<PackEntry>,
    entries: Vec<Entry>,
    entries_len: usize,
    levels: Vec<Vec<(Vec<u8>, NodeRef)>>,
}

/// How many pages one page of the levels above refers to.
const CHILDREN_PER_PAGE: usize = 512;

impl<'r> TreeWriter<'r> {
    /// Begins a tree.
    ///
    /// # Errors
    /// When a member refuses the upload.
    pub async fn begin(repository: &'r Repository) -> Result<Self, Error> {
        let pack = PackWriter::begin(repository, Kind::MetaPack).await?;
        Ok(Self {
            repository,
            pack,
            finished: Vec::new(),
            entries: Vec::new(),
            entries_len: 0,
            levels: Vec::new(),
        })
    }

    /// Stores a leaf or a file node.
    ///
    /// # Errors
    /// When a member's upload fails.
    pub async fn put<N: Node>(&mut self, node: &N) -> Result<NodeRef, Error> {
        if self.pack.len() > META_PACK_LEN_TARGET {
            let next = PackWriter::begin(self.repository, Kind::MetaPack).await?;
            let full = std::mem::replace(&mut self.pack, next);
            self.finished.push(full.finish().await?);
        }
        let raw = node.encode();
        let number = self.pack.frame_count();
        let frame = self.pack.sealer().seal(number, false, &raw, Compression::Zstd(3));
        let at = self.pack.append(&frame, Vec::new()).await?;
        let digest = node_digest(self.repository.keys(), &raw);
        Ok(NodeRef { pack: self.pack.id(), at, digest })
    }

    /// Adds the next entry; paths ascend.
    ///
    /// # Errors
    /// When a member's upload fails.
    ///
    /// # Panics
    /// When paths do not ascend: the tree could not be searched.
    pub async fn add(&mut self, entry: Entry) -> Result<(), Error> {
        let ascends = self.entries.last().is_none_or(|last| last.path < entry.path);
        assert!(ascends, "entries are added in order of path");
        self.entries_len += entry_len(&entry);
        self.entries.push(entry);
        if self.entries_len >= PAGE_LEN_TARGET {
            self.close_page().await?;
        }
        Ok(())
    }

    /// Completes the tree: its top page and the packs it wrote.
    ///
    /// # Errors
    /// When a member's upload fails.
    pub async fn finish(mut self) -> Result<(NodeRef, Vec<PackEntry>), Error> {
        if !self.entries.is_empty() || self.levels.is_empty() {
            self.close_page().await?;
        }
        let mut level = 0;
        let top = loop {
            let children = self.levels.get_mut(level).map(std::mem::take).unwrap_or_default();
            let above = self.levels.len() > level + 1;
            match (children.as_slice(), above) {
                ([(_, only)], false) => break *only,
                ([], true) => {}
                _ => self.close_level(level, children).await?,
            }
            level += 1;
        };
        let entry = self.pack.finish().await?;
        self.finished.push(entry);
        Ok((top, self.finished))
    }

    async fn close_page(&mut self) -> Result<(), Error> {
        let entries = std::mem::take(&mut self.entries);
        self.entries_len = 0;
        let first = entries.first().map(|entry| entry.path.clone()).unwrap_or_default();
        let node = self.put(&Page::Entries(entries)).await?;
        self.add_child(0, first, node).await
    }

    async fn add_child(
        &mut self,
        level: usize,
        first: Vec<u8>,
        node: NodeRef,
    ) -> Result<(), Error> {
        let (mut level, mut first, mut node) = (level, first, node);
        loop {
            if self.levels.len() <= level {
                self.levels.push(Vec::new());
            }
            let Some(children) = self.levels.get_mut(level) else { return Ok(()) };
            children.push((first, node));
            if children.len() < CHILDREN_PER_PAGE {
                return Ok(());
            }
            let full = std::mem::take(children);
            first = full.first().map(|(first, _)| first.clone()).unwrap_or_default();
            node = self.put(&Page::Children(full)).await?;
            level += 1;
        }
    }

    async fn close_level(
        &mut self,
        level: usize,
        children: Vec<(Vec<u8>, NodeRef)>,
    ) -> Result<(), Error> {
        let first = children.first().map(|(first, _)| first.clone()).unwrap_or_default();
        let node = self.put(&Page::Children(children)).await?;
        self.add_child(level + 1, first, node).await
    }
}

/// Roughly what an entry adds to its page.
fn entry_len(entry: &Entry) -> usize {
    let content = match &entry.content {
        crate::tree::Content::Inline(bytes) => bytes.len(),
        crate::tree::Content::Leaf(leaf) => leaf.frames.len() * 40 + leaf.extents.len() * 10,
        crate::tree::Content::Node(_) => 80,
    };
    entry.path.len() + entry.link.as_ref().map_or(0, Vec::len) + content + 48
}
