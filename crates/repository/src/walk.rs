//! Reading the tree of a backup, in order of path, in bounded memory.

use crate::error::Error;
use crate::kind::Kind;
use crate::names;
use crate::set::Repository;
use crate::tree::{Content, Entry, FileNode, Leaf, Node, NodeRef, Page, node_digest};

/// Levels of pages: 512 children each reach far past any number of files.
const DEPTH_MAX: usize = 8;

/// Reads one node and proves that it is the one referred to.
///
/// # Errors
/// Damage, or an error of the store.
pub async fn read_node<N: Node>(repository: &Repository, node: &NodeRef) -> Result<N, Error> {
    let mut bytes = Vec::new();
    repository
        .read_frames(Kind::MetaPack, node.pack, &[node.at], |_, raw| {
            bytes.clear();
            bytes.extend_from_slice(raw);
            Ok(())
        })
        .await?;
    let damaged = |reason| Error::Damaged {
        store: repository.address(),
        key: names::pack(node.pack).to_string(),
        reason,
    };
    if node_digest(repository.keys(), &bytes) != node.digest {
        return Err(damaged(format!("frame {} is not the node referred to", node.at.shape.number)));
    }
    N::decode(&bytes).map_err(damaged)
}

/// The entries of a tree in ascending order of path.
#[derive(Debug)]
pub struct Walk<'r> {
    repository: &'r Repository,
    /// Pages still to read, the next one last.
    pending: Vec<(NodeRef, usize)>,
    entries: std::vec::IntoIter<Entry>,
}

impl<'r> Walk<'r> {
    /// Walks the tree below `top`.
    #[must_use]
    pub fn new(repository: &'r Repository, top: NodeRef) -> Self {
        Self { repository, pending: vec![(top, 0)], entries: Vec::new().into_iter() }
    }

    /// The next entry.
    ///
    /// # Errors
    /// Damage, or an error of the store.
    pub async fn next(&mut self) -> Result<Option<Entry>, Error> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Ok(Some(entry));
            }
            let Some((node, depth)) = self.pending.pop() else { return Ok(None) };
            if depth > DEPTH_MAX {
                return Err(Error::Damaged {
                    store: self.repository.address(),
                    key: names::pack(node.pack).to_string(),
                    reason: format!("the tree is deeper than {DEPTH_MAX} levels"),
                });
            }
            match read_node(self.repository, &node).await? {
                Page::Entries(entries) => self.entries = entries.into_iter(),
                Page::Children(children) => self
                    .pending
                    .extend(children.into_iter().rev().map(|(_, child)| (child, depth + 1))),
            }
        }
    }
}

/// The leaves of a file that is not inline, in order.
///
/// # Errors
/// Damage, or an error of the store.
pub async fn leaves(repository: &Repository, content: &Content) -> Result<Vec<Leaf>, Error> {
    match content {
        Content::Inline(_) => Ok(Vec::new()),
        Content::Leaf(leaf) => Ok(vec![leaf.clone()]),
        Content::Node(node) => {
            let file: FileNode = read_node(repository, node).await?;
            let mut leaves = Vec::with_capacity(file.leaves.len());
            for (_, leaf) in &file.leaves {
                leaves.push(read_node(repository, leaf).await?);
            }
            Ok(leaves)
        }
    }
}

/// The whole content of a small file or attachment.
///
/// # Errors
/// [`Error::Limit`] above 64 MiB; damage, or an error of the store.
pub async fn read_small(repository: &Repository, entry: &Entry) -> Result<Vec<u8>, Error> {
    const SMALL_LEN_MAX: u64 = 64 << 20;
    if entry.size > SMALL_LEN_MAX {
        let reason = format!("expected at most {SMALL_LEN_MAX} bytes, seen {}", entry.size);
        return Err(Error::Limit { what: "a file read at once", reason });
    }
    if let Content::Inline(bytes) = &entry.content {
        return Ok(bytes.clone());
    }
    let mut content = Vec::new();
    for leaf in leaves(repository, &entry.content).await? {
        for extent in &leaf.extents {
            let Some((pack, at)) = leaf.frames.get(extent.frame as usize) else { continue };
            let begin = extent.slot as usize * leaf.unit as usize;
            let end = begin + extent.count as usize * leaf.unit as usize;
            repository
                .read_frames(Kind::DataPack, *pack, &[*at], |_, raw| {
                    content.extend_from_slice(raw.get(begin..end).unwrap_or_default());
                    Ok(())
                })
                .await?;
        }
    }
    Ok(content)
}
