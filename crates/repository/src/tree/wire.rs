//! Nodes as they are stored: `docs/repository-format.md`, section "Backups".

use minicbor::{Decode, Encode};
use stdx::Id;

use super::{Content, Entry, EntryKind, Extent, FileNode, Leaf, Node, NodeRef, Page};
use crate::codec::Codec;
use crate::keys::Digest;
use crate::names::PackId;
use crate::object::{FrameAt, from_cbor, to_cbor};
use crate::seal::FrameShape;

#[derive(Encode, Decode)]
#[cbor(array)]
struct FrameWire {
    #[n(0)]
    pack: u32,
    #[n(1)]
    number: u64,
    #[n(2)]
    offset: u64,
    #[n(3)]
    sealed_len: u32,
    #[n(4)]
    codec: u8,
    #[n(5)]
    raw_len: u32,
}

#[derive(Clone, Copy, Encode, Decode)]
#[cbor(transparent)]
struct PackWire(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

#[derive(Encode, Decode)]
#[cbor(array)]
pub(crate) struct NodeRefWire {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pack: [u8; 16],
    #[n(1)]
    number: u64,
    #[n(2)]
    offset: u64,
    #[n(3)]
    sealed_len: u32,
    #[n(4)]
    codec: u8,
    #[n(5)]
    raw_len: u32,
    #[n(6)]
    #[cbor(with = "minicbor::bytes")]
    digest: [u8; 32],
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct LeafWire {
    #[n(0)]
    unit: u32,
    #[n(1)]
    packs: Vec<PackWire>,
    #[n(2)]
    frames: Vec<FrameWire>,
    #[n(3)]
    extents: Vec<Extent>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct FileNodeWire {
    #[n(0)]
    leaves: Vec<ChildLeafWire>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct ChildLeafWire {
    #[n(0)]
    begin: u64,
    #[n(1)]
    leaf: NodeRefWire,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct EntryWire {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    path: Vec<u8>,
    #[n(1)]
    kind: u8,
    #[n(2)]
    mode: u32,
    #[n(3)]
    owner: String,
    #[n(4)]
    group: String,
    #[n(5)]
    modified_us: i64,
    #[n(6)]
    size: u64,
    #[n(7)]
    #[cbor(with = "minicbor::bytes")]
    link: Option<Vec<u8>>,
    #[n(8)]
    #[cbor(with = "minicbor::bytes")]
    inline: Option<Vec<u8>>,
    #[n(9)]
    leaf: Option<LeafWire>,
    #[n(10)]
    node: Option<NodeRefWire>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct ChildPageWire {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    first: Vec<u8>,
    #[n(1)]
    page: NodeRefWire,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct PageWire {
    #[n(0)]
    entries: Option<Vec<EntryWire>>,
    #[n(1)]
    children: Option<Vec<ChildPageWire>>,
}

impl From<&NodeRef> for NodeRefWire {
    fn from(node: &NodeRef) -> Self {
        Self {
            pack: *node.pack.0.as_bytes(),
            number: node.at.shape.number,
            offset: node.at.offset,
            sealed_len: node.at.sealed_len,
            codec: node.at.shape.codec as u8,
            raw_len: node.at.shape.raw_len,
            digest: *node.digest.as_bytes(),
        }
    }
}

impl NodeRefWire {
    pub(crate) fn decode_ref(&self) -> Result<NodeRef, String> {
        Ok(NodeRef {
            pack: PackId(Id::from_bytes(self.pack)),
            at: frame_at(self.number, self.offset, self.sealed_len, self.codec, self.raw_len)?,
            digest: Digest::from_bytes(self.digest),
        })
    }
}

fn frame_at(
    number: u64,
    offset: u64,
    sealed_len: u32,
    codec: u8,
    raw_len: u32,
) -> Result<FrameAt, String> {
    let codec = Codec::from_byte(codec).ok_or_else(|| format!("unknown codec {codec}"))?;
    offset
        .checked_add(u64::from(sealed_len))
        .ok_or_else(|| format!("frame {number} lies at {offset}, past any object's end"))?;
    Ok(FrameAt { offset, sealed_len, shape: FrameShape { number, last: false, codec, raw_len } })
}

impl Leaf {
    fn to_wire(&self) -> LeafWire {
        let mut packs: Vec<PackId> = Vec::new();
        let frames = self
            .frames
            .iter()
            .map(|(pack, at)| {
                let known = packs.iter().rposition(|known| known == pack);
                let pack = known.unwrap_or_else(|| {
                    packs.push(*pack);
                    packs.len() - 1
                });
                FrameWire {
                    pack: crate::seal::len_u32(pack),
                    number: at.shape.number,
                    offset: at.offset,
                    sealed_len: at.sealed_len,
                    codec: at.shape.codec as u8,
                    raw_len: at.shape.raw_len,
                }
            })
            .collect();
        let packs = packs.iter().map(|pack| PackWire(*pack.0.as_bytes())).collect();
        LeafWire { unit: self.unit, packs, frames, extents: self.extents.clone() }
    }

    fn from_wire(wire: &LeafWire) -> Result<Self, String> {
        if wire.unit == 0 {
            return Err("a leaf with units of 0 bytes".into());
        }
        let mut frames = Vec::with_capacity(wire.frames.len());
        for frame in &wire.frames {
            let pack = wire.packs.get(frame.pack as usize);
            let pack = pack
                .ok_or_else(|| format!("frame of pack {} of {}", frame.pack, wire.packs.len()))?;
            let FrameWire { number, offset, sealed_len, codec, raw_len, .. } = *frame;
            let at = frame_at(number, offset, sealed_len, codec, raw_len)?;
            frames.push((PackId(Id::from_bytes(pack.0)), at));
        }
        let mut next = None;
        for extent in &wire.extents {
            let frame = frames.get(extent.frame as usize);
            let (_, at) = frame
                .ok_or_else(|| format!("extent in frame {} of {}", extent.frame, frames.len()))?;
            let units = u64::from(extent.slot) + u64::from(extent.count);
            let end = units.checked_mul(u64::from(wire.unit));
            if end.is_none_or(|end| end > u64::from(at.shape.raw_len)) {
                let (unit, len) = (wire.unit, at.shape.raw_len);
                return Err(format!("extent ends at unit {units} of {unit} bytes in {len}"));
            }
            if next.is_some_and(|next| next != extent.first) {
                return Err(format!("extents leave a hole before unit {}", extent.first));
            }
            next = extent.first.checked_add(u64::from(extent.count));
            if next.and_then(|next| next.checked_mul(u64::from(wire.unit))).is_none() {
                return Err(format!("extent begins at unit {}", extent.first));
            }
        }
        Ok(Self { unit: wire.unit, frames, extents: wire.extents.clone() })
    }
}

impl Node for Leaf {
    fn encode(&self) -> Vec<u8> {
        to_cbor(&self.to_wire())
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        Self::from_wire(&from_cbor(bytes)?)
    }
}

impl Node for FileNode {
    fn encode(&self) -> Vec<u8> {
        let leaves = self
            .leaves
            .iter()
            .map(|(begin, leaf)| ChildLeafWire { begin: *begin, leaf: leaf.into() })
            .collect();
        to_cbor(&FileNodeWire { leaves })
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let wire: FileNodeWire = from_cbor(bytes)?;
        let leaves: Result<Vec<_>, String> =
            wire.leaves.iter().map(|child| Ok((child.begin, child.leaf.decode_ref()?))).collect();
        let leaves = leaves?;
        if leaves.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a >= b)) {
            return Err("the leaves of a file are not in order".into());
        }
        Ok(Self { leaves })
    }
}

impl Entry {
    fn to_wire(&self) -> EntryWire {
        let (mut inline, mut leaf, mut node) = (None, None, None);
        match &self.content {
            Content::Inline(bytes) => inline = Some(bytes.clone()),
            Content::Leaf(content) => leaf = Some(content.to_wire()),
            Content::Node(content) => node = Some(content.into()),
        }
        EntryWire {
            path: self.path.clone(),
            kind: self.kind as u8,
            mode: self.mode,
            owner: self.owner.clone(),
            group: self.group.clone(),
            modified_us: self.modified_us,
            size: self.size,
            link: self.link.clone(),
            inline,
            leaf,
            node,
        }
    }

    fn from_wire(wire: EntryWire) -> Result<Self, String> {
        let kind = match wire.kind {
            0 => EntryKind::File,
            1 => EntryKind::Directory,
            2 => EntryKind::Symlink,
            3 => EntryKind::Attachment,
            other => return Err(format!("unknown kind of entry {other}")),
        };
        check_path(&wire.path)?;
        let content = match (wire.inline, &wire.leaf, &wire.node) {
            (Some(bytes), None, None) => {
                if bytes.len() as u64 != wire.size {
                    return Err(format!("{} inline bytes of a file of {}", bytes.len(), wire.size));
                }
                Content::Inline(bytes)
            }
            (None, Some(leaf), None) => {
                let leaf = Leaf::from_wire(leaf)?;
                if leaf.span() != (0, wire.size) {
                    return Err(format!(
                        "a leaf of {:?} in a file of {} bytes",
                        leaf.span(),
                        wire.size
                    ));
                }
                Content::Leaf(leaf)
            }
            (None, None, Some(node)) => Content::Node(node.decode_ref()?),
            _ => return Err("an entry with no content, or with two".into()),
        };
        Ok(Self {
            path: wire.path,
            kind,
            mode: wire.mode,
            owner: wire.owner,
            group: wire.group,
            modified_us: wire.modified_us,
            size: wire.size,
            link: wire.link,
            content,
        })
    }
}

/// A stored path must stay inside the directory it is restored to.
fn check_path(path: &[u8]) -> Result<(), String> {
    let good = !path.is_empty()
        && !path.contains(&0)
        && path.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."));
    if good {
        Ok(())
    } else {
        Err(format!("'{}' is not a relative path", String::from_utf8_lossy(path)))
    }
}

impl Node for Page {
    fn encode(&self) -> Vec<u8> {
        let wire = match self {
            Self::Entries(entries) => PageWire {
                entries: Some(entries.iter().map(Entry::to_wire).collect()),
                children: None,
            },
            Self::Children(children) => PageWire {
                entries: None,
                children: Some(
                    children
                        .iter()
                        .map(|(first, page)| ChildPageWire {
                            first: first.clone(),
                            page: page.into(),
                        })
                        .collect(),
                ),
            },
        };
        to_cbor(&wire)
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let wire: PageWire = from_cbor(bytes)?;
        match (wire.entries, wire.children) {
            (Some(entries), None) => {
                let entries: Result<Vec<Entry>, String> =
                    entries.into_iter().map(Entry::from_wire).collect();
                let entries = entries?;
                if entries.windows(2).any(|pair| matches!(pair, [a, b] if a.path >= b.path)) {
                    return Err("the entries of a page are not in order".into());
                }
                Ok(Self::Entries(entries))
            }
            (None, Some(children)) => {
                let children: Result<Vec<_>, String> = children
                    .into_iter()
                    .map(|child| Ok((child.first, child.page.decode_ref()?)))
                    .collect();
                let children = children?;
                if children.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a >= b)) {
                    return Err("the children of a page are not in order".into());
                }
                Ok(Self::Children(children))
            }
            _ => Err("a page with neither entries nor children, or with both".into()),
        }
    }
}
