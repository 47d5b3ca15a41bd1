//! Three backups, each written with only what changed; then compaction.

use std::collections::BTreeMap;

use super::cbor::{Value, positions, structure, texts};
use super::sealing::{Codec, Frame, Object};
use super::tree::{Content, Pack, Packs, SPAN, Slot, entry, leaf, reference};
use super::{Lineage, Making, NOW_US, text};
use crate::Result;
use crate::cluster::{BLOCK, BUSY, CONTROL, Cluster, Item, LARGE};
use crate::wal::SEGMENT_LEN;

/// Pages in a frame.
const FRAME_PAGES: usize = 16;
/// Files up to this length stand in the page of the tree.
const INLINE_LEN_MAX: usize = 512;

/// Paths at which a page of the tree begins: before, in, and behind a folder that never changes.
const BORDERS: [&[u8]; 4] = [b"", b"base/5", b"conf.d/", b"conf.d0"];

/// What the next backup takes over from the last one.
#[derive(Default)]
struct Known {
    packs: Packs,
    /// Sealed packs, in the order they were made.
    sealed: Vec<([u8; 16], Object)>,
    /// Where every page of every relation is.
    slots: BTreeMap<Vec<u8>, Vec<Slot>>,
    /// References to nodes, by their bytes.
    nodes: BTreeMap<Vec<u8>, Value>,
    /// Content of files, until they change.
    contents: BTreeMap<Vec<u8>, Content>,
    label: Option<String>,
}

/// One backup under way.
struct Run<'a> {
    before: Option<&'a Cluster>,
    cluster: &'a Cluster,
    generation: u64,
    data: Pack,
    nodes: Pack,
}

impl Run<'_> {
    fn epoch(&self) -> u32 {
        if self.generation < 3 { 1 } else { 2 }
    }

    /// Stores what changed of a file's content in the data pack.
    fn store(&mut self, known: &mut Known, path: &[u8], item: &Item) -> Result<()> {
        if self.before.is_some_and(|before| before.items.get(path) == Some(item)) {
            return Ok(());
        }
        let content = match item {
            Item::Directory | Item::Link(_) => (8, (&[]).into()),
            Item::File(bytes) | Item::Attachment(bytes) if bytes.len() <= INLINE_LEN_MAX => {
                (8, bytes.as_slice().into())
            }
            Item::File(bytes) | Item::Attachment(bytes) => return self.bytes(known, path, bytes),
            Item::Pages(bytes) => return self.pages(known, path, bytes),
        };
        known.contents.insert(path.to_vec(), content);
        Ok(())
    }

    /// Bytes that are no pages: a leaf whose units are single bytes.
    fn bytes(&mut self, known: &mut Known, path: &[u8], bytes: &[u8]) -> Result<()> {
        let mut slots = Vec::new();
        for raw in bytes.chunks(FRAME_PAGES * BLOCK) {
            let frame = Frame { raw: raw.to_vec(), codec: Codec::Zstd, pages: false };
            let place = self.data.push(frame)?.number;
            slots.push((Slot { pack: self.data.id, place, slot: 0 }, raw.len() as u64));
        }
        known.packs.insert(self.data.id, self.data.clone());
        let leaf = leaf(&known.packs, 1, 0, &slots).ok_or("a leaf's frames")?;
        known.contents.insert(path.to_vec(), (9, leaf));
        Ok(())
    }

    /// A relation's pages: all of them in runs at first, then what changed as sorted lists.
    fn pages(&mut self, known: &mut Known, path: &[u8], bytes: &[u8]) -> Result<()> {
        let all = u32::try_from(bytes.len() / BLOCK)?;
        let blocks: Vec<u32> = match self.before {
            Some(before) => before.changed(self.cluster, path).into_iter().collect(),
            None => (0..all).collect(),
        };
        let slots = known.slots.entry(path.to_vec()).or_default();
        for list in blocks.chunks(FRAME_PAGES) {
            self.data.pages(bytes, list, slots)?;
        }
        known.contents.remove(path);
        Ok(())
    }
}

impl Making {
    /// `generations` backups of a cluster that changes in between; packs of the first lineage are
    /// compacted afterwards.
    pub(super) fn backups(
        &mut self,
        lineage: &Lineage,
        mut cluster: Cluster,
        generations: u64,
    ) -> Result<()> {
        let mut known = Known::default();
        let mut before: Option<Cluster> = None;
        for generation in 1..=generations {
            match generation {
                1 => {}
                2 => {
                    cluster.write(BUSY, [3, 7, 8, 20, 39, 40, 41]);
                    cluster.write(LARGE, [5, 16]);
                }
                _ => cluster.write(BUSY, [0, 8, 21, 41]),
            }
            self.backup(lineage, &mut known, before.as_ref(), &cluster, generation)?;
            before = Some(cluster.clone());
        }
        let is_compacted = generations > 1;
        for (id, object) in known.sealed.iter().skip(if is_compacted { 2 } else { 0 }) {
            self.put_pack(*id, object)?;
        }
        if is_compacted {
            self.compact(&known)?;
            self.condemn()?;
        }
        Ok(())
    }

    fn backup(
        &mut self,
        lineage: &Lineage,
        known: &mut Known,
        before: Option<&Cluster>,
        cluster: &Cluster,
        generation: u64,
    ) -> Result<()> {
        let [data, nodes] = [self.set.noise.id(), self.set.noise.id()];
        let mut run = Run {
            before,
            cluster,
            generation,
            data: Pack::new(data, 11, 1),
            nodes: Pack::new(nodes, 12, 1),
        };
        (run.data.epoch, run.nodes.epoch) = (run.epoch(), run.epoch());
        for (path, item) in &cluster.items {
            run.store(known, path, item)?;
        }
        known.packs.insert(data, run.data.clone());
        let top = self.tree(&mut run, known)?;
        known.packs.insert(nodes, run.nodes.clone());
        for pack in [&run.data, &run.nodes] {
            let object = self.set.object(pack.kind, pack.epoch, false, &pack.frames)?;
            known.sealed.push((pack.id, object));
        }
        let label = format!("20261121T0{generation}0000Z-fut{generation}");
        self.root(lineage, known, &run, &label, top)?;
        self.expected.backup(&label, cluster);
        known.label = Some(label);
        Ok(())
    }

    /// The tree's pages. One whose bytes are the parent's is shared by reference.
    fn tree(&mut self, run: &mut Run<'_>, known: &mut Known) -> Result<Value> {
        let mut parts: BTreeMap<&[u8], Vec<(&[u8], Value)>> = BTreeMap::new();
        let cluster = run.cluster;
        for (path, item) in &cluster.items {
            let border = BORDERS.iter().rev().find(|border| path.as_slice() >= **border);
            let content = self.content(run, known, path, item)?;
            let entry = entry(path, item, content);
            parts.entry(border.copied().unwrap_or_default()).or_default().push((path, entry));
        }
        let mut children = Vec::new();
        for entries in parts.into_values() {
            let first = entries.first().map(|(path, _)| *path).unwrap_or_default();
            let entries = entries.into_iter().map(|(_, entry)| entry).collect();
            let node = self.node(run, known, &structure([(0, Value::Array(entries))]))?;
            children.push(positions([first.into(), node]));
        }
        self.node(run, known, &structure([(1, Value::Array(children))]))
    }

    /// A reference to a node: the parent's when it is the same.
    fn node(&mut self, run: &mut Run<'_>, known: &mut Known, node: &Value) -> Result<Value> {
        let raw = node.encode();
        if let Some(shared) = known.nodes.get(&raw) {
            return Ok(shared.clone());
        }
        let at = run.nodes.push(Frame::of(node))?;
        let reference = reference(run.nodes.id, at, &self.set.digest(&raw)?);
        known.nodes.insert(raw, reference.clone());
        Ok(reference)
    }

    /// Key 8, 9 or 10 of an entry.
    fn content(
        &mut self,
        run: &mut Run<'_>,
        known: &mut Known,
        path: &[u8],
        item: &Item,
    ) -> Result<Content> {
        if let Some(content) = known.contents.get(path) {
            return Ok(content.clone());
        }
        let Item::Pages(bytes) = item else { return Err("content that nothing stored".into()) };
        let slots = known.slots.get(path).cloned().unwrap_or_default();
        let slots: Vec<(Slot, u64)> = slots.into_iter().map(|slot| (slot, 1)).collect();
        let mut leaves = Vec::new();
        for (number, part) in slots.chunks(SPAN / BLOCK).enumerate() {
            let first = (number * SPAN / BLOCK) as u64;
            leaves.push(leaf(&known.packs, BLOCK as u64, first, part).ok_or("a leaf's frames")?);
        }
        let content = if bytes.len() <= SPAN {
            (9, leaves.pop().ok_or("a relation without pages")?)
        } else {
            let mut children = Vec::new();
            for (number, leaf) in leaves.iter().enumerate() {
                let node = self.node(run, known, leaf)?;
                children.push(positions([((number * SPAN) as u64).into(), node]));
            }
            (10, self.node(run, known, &structure([(0, Value::Array(children))]))?)
        };
        known.contents.insert(path.to_vec(), content.clone());
        Ok(content)
    }

    fn root(
        &mut self,
        lineage: &Lineage,
        known: &Known,
        run: &Run<'_>,
        label: &str,
        top: Value,
    ) -> Result<()> {
        let generation = run.generation;
        let begin = (2 + generation) * SEGMENT_LEN as u64;
        let started = NOW_US + generation * 3_600_000_000;
        let lens = run.cluster.items.values().map(|item| match item {
            Item::File(bytes) | Item::Pages(bytes) => bytes.len() as u64,
            Item::Directory | Item::Link(_) | Item::Attachment(_) => 0,
        });
        let restored = |item: &&Item| !matches!(item, Item::Attachment(_));
        let entries = run.cluster.items.values().filter(restored).count() as u64;
        let mut summary: Vec<(u64, Value)> = vec![
            (0, label.into()),
            (1, (&lineage.id).into()),
            (2, lineage.name.into()),
            (4, self.system_id.into()),
            (5, 170_010.into()),
            (6, 1.into()),
            (7, (begin + 40).into()),
            (8, (begin + 40).into()),
            (9, (begin + 200).into()),
            (10, started.into()),
            (11, (started + 60_000_000).into()),
            (12, lens.sum::<u64>().into()),
            (13, 100_000.into()),
            (14, entries.into()),
            (15, 8192.into()),
            (16, (SEGMENT_LEN as u64).into()),
            (17, Value::Bool(true)),
            (18, 0.into()),
            (19, top),
            (20, 2.into()),
        ];
        summary.extend(known.label.as_deref().map(|parent| (3, parent.into())));
        let packs = known.sealed.iter().map(|(id, object)| {
            let live: u64 = object.places.iter().map(|at| at.stored_len).sum();
            let (size, epoch) = (object.bytes.len() as u64, u64::from(object.epoch));
            let (size, live, epoch) = (size.into(), live.into(), epoch.into());
            positions([id.into(), size, live, epoch, (&object.salt).into()])
        });
        let packs: Vec<Value> = packs.collect();
        let (first, others) = packs.split_at(1);
        let [first, others] = [first, others].map(|part| Value::Array(part.to_vec()));
        let key = format!("backup/{}/{label}", text(lineage.id));
        self.record(
            &key,
            10,
            run.epoch(),
            &[structure(summary), first, others, details(2 + generation)],
        )
    }

    fn put_pack(&self, id: [u8; 16], object: &Object) -> Result<()> {
        let id = text(id);
        self.put(&format!("pack/{}/{id}", id.get(24..).unwrap_or_default()), object)
    }

    /// The first backup's packs are gone: their frames lie in other packs now, sealed anew under
    /// the second epoch, and some of them were moved twice.
    fn compact(&mut self, known: &Known) -> Result<()> {
        let [(data, _), (nodes, _), ..] = known.sealed.as_slice() else {
            return Err("the first backup has two packs".into());
        };
        let pack = |id| known.packs.get(id).ok_or("a pack that was written");
        let halves = self.relocate(pack(data)?, 2)?;
        let [even, odd] = halves.as_slice() else { return Err("two halves".into()) };
        let mut left = vec![even.clone()];
        left.extend(self.relocate(odd, 1)?);
        left.extend(self.relocate(pack(nodes)?, 1)?);
        for pack in left {
            let object = self.set.object(pack.kind, pack.epoch, false, &pack.frames)?;
            self.put_pack(pack.id, &object)?;
        }
        Ok(())
    }

    /// Deals the frames of a pack out to `parts` others, and tells where each is.
    fn relocate(&mut self, old: &Pack, parts: usize) -> Result<Vec<Pack>> {
        let fresh = |_| Pack::new(self.set.noise.id(), old.kind, 2);
        let mut packs: Vec<Pack> = (0..parts).map(fresh).collect();
        let mut moves = Vec::new();
        for (number, frame) in old.frames.iter().enumerate() {
            let part = number % parts;
            let at = packs.get_mut(part).ok_or("a part")?.push(frame.clone())?;
            moves.push(positions([
                (number as u64).into(),
                (part as u64).into(),
                at.number.into(),
                at.offset.into(),
                at.stored_len.into(),
                (at.codec as u64).into(),
                at.plain_len.into(),
            ]));
        }
        let lead = structure([
            (0, (&old.id).into()),
            (1, (moves.len() as u64).into()),
            (2, Value::Array(packs.iter().map(|pack| (&pack.id).into()).collect())),
        ]);
        let (some, others) = moves.split_at(moves.len() / 2);
        let [some, others] = [some, others].map(|part| Value::Array(part.to_vec()));
        self.record(&format!("moved/{}", text(old.id)), 24, 2, &[lead, some, others])?;
        Ok(packs)
    }

    /// A pack that nothing refers to, about to go.
    fn condemn(&mut self) -> Result<()> {
        let id = self.set.noise.id();
        let frame = Frame { raw: vec![7; 3000], codec: Codec::Lz4, pages: false };
        let object = self.set.object(11, 1, false, &[frame])?;
        self.put_pack(id, &object)?;
        let record = structure([
            (0, (&id).into()),
            (1, "expired".into()),
            (2, "db1:4711".into()),
            (3, NOW_US.into()),
        ]);
        self.record(&format!("condemned/{}", text(id)), 23, 2, &[record])
    }
}

/// `first` is the number of the segment in which the backup begins.
fn details(first: u64) -> Value {
    let label = format!(
        "START WAL LOCATION: 0/{first:X}00028 (file 0000000100000000000000{first:02X})\n\
         CHECKPOINT LOCATION: 0/{first:X}00050\nBACKUP METHOD: streamed\nBACKUP FROM: primary\n\
         START TIME: 2026-11-21 02:00:00 UTC\nLABEL: rollforward\nSTART TIMELINE: 1\n"
    );
    structure([
        (0, label.as_bytes().into()),
        (1, b"16500 /srv/fast disk/ts\n".into()),
        (2, CONTROL.into()),
        (3, Value::Array(vec![positions([16500.into(), "/srv/fast disk/ts".into()])])),
        (4, texts(&[("max_connections", "100"), ("wal_level", "replica")])),
        (5, texts(&[("shop/plpgsql", "1.0")])),
        (6, texts(&[("c/C.UTF-8", "2.36")])),
        (7, Value::Array(vec![positions([5.into(), "shop".into()])])),
        (8, "rollforward from the future".into()),
    ])
}
