//! Trees whose leaves list pages and whose unchanged nodes are their parents'.

use std::collections::BTreeMap;

use super::cbor::{Value, positions, structure};
use super::sealing::{Codec, Frame, Place};
use crate::Result;
use crate::cluster::{BLOCK, Item};
use crate::expected::{DIRECTORY_MODE, FILE_MODE};

/// Bytes of a file that one leaf covers.
pub(crate) const SPAN: usize = 16 << 20;

/// Where a unit of a file is: a frame (pack and number in it) and the first unit's place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) pack: [u8; 16],
    pub(crate) place: u64,
    pub(crate) slot: u32,
}

/// A pack: its frames, and where they lie. A place follows from lengths alone, so it is known
/// before the pack is sealed.
#[derive(Clone, Debug)]
pub(crate) struct Pack {
    pub(crate) id: [u8; 16],
    pub(crate) kind: u8,
    pub(crate) epoch: u32,
    pub(crate) frames: Vec<Frame>,
    pub(crate) places: Vec<Place>,
}

/// Every pack by its name.
pub(crate) type Packs = BTreeMap<[u8; 16], Pack>;

impl Pack {
    pub(crate) fn new(id: [u8; 16], kind: u8, epoch: u32) -> Self {
        Self { id, kind, epoch, frames: Vec::new(), places: Vec::new() }
    }

    /// Adds a frame.
    pub(crate) fn push(&mut self, frame: Frame) -> Result<Place> {
        let end = self.places.last().map_or(128, |last| last.offset + last.stored_len);
        let place = Place {
            number: self.places.len() as u64,
            offset: end,
            stored_len: frame.codec.compress(&frame.raw)?.len() as u64 + 16,
            codec: frame.codec,
            plain_len: frame.raw.len() as u64,
        };
        self.places.push(place);
        self.frames.push(frame);
        Ok(place)
    }

    /// Adds pages of a file as one frame, a sorted list of them, and notes where they are now.
    pub(crate) fn pages(
        &mut self,
        file: &[u8],
        blocks: &[u32],
        slots: &mut Vec<Slot>,
    ) -> Result<()> {
        let place = self.frames.len() as u64;
        let mut raw = Vec::new();
        for (slot, block) in (0..).zip(blocks) {
            let begin = *block as usize * BLOCK;
            raw.extend_from_slice(file.get(begin..begin + BLOCK).unwrap_or_default());
            let here = Slot { pack: self.id, place, slot };
            match slots.get_mut(*block as usize) {
                Some(slot) => *slot = here,
                None => slots.push(here),
            }
        }
        let codec = if place.is_multiple_of(3) { Codec::Lz4 } else { Codec::Zstd };
        self.push(Frame { raw, codec, pages: true })?;
        Ok(())
    }
}

fn place(packs: &Packs, pack: [u8; 16], number: u64) -> Option<Place> {
    packs.get(&pack)?.places.get(usize::try_from(number).ok()?).copied()
}

/// A leaf of the units `slots`, the first of which is unit `first` of the file.
pub(crate) fn leaf(
    packs_known: &Packs,
    unit: u64,
    first: u64,
    slots: &[(Slot, u64)],
) -> Option<Value> {
    let mut packs: Vec<[u8; 16]> = Vec::new();
    let mut frames: Vec<([u8; 16], u64)> = Vec::new();
    let mut extents: Vec<(u64, u64, usize, u32)> = Vec::new();
    let mut unit_number = first;
    for (slot, count) in slots {
        if !packs.contains(&slot.pack) {
            packs.push(slot.pack);
        }
        let frame = (slot.pack, slot.place);
        let known = frames.iter().position(|known| *known == frame);
        let at = known.unwrap_or_else(|| {
            frames.push(frame);
            frames.len() - 1
        });
        match extents.last_mut() {
            Some((_, run, frame, begin))
                if *frame == at && u64::from(*begin) + *run == u64::from(slot.slot) =>
            {
                *run += count;
            }
            _ => extents.push((unit_number, *count, at, slot.slot)),
        }
        unit_number += count;
    }
    let mut frame_values = Vec::new();
    for (pack, number) in &frames {
        let at = place(packs_known, *pack, *number)?;
        let pack = packs.iter().position(|known| known == pack)?;
        frame_values.push(positions([
            (pack as u64).into(),
            at.number.into(),
            at.offset.into(),
            at.stored_len.into(),
            (at.codec as u64).into(),
            at.plain_len.into(),
        ]));
    }
    let extents = extents.iter().map(|(first, count, frame, slot)| {
        let (frame, slot) = (*frame as u64, u64::from(*slot));
        positions([(*first).into(), (*count).into(), frame.into(), slot.into()])
    });
    Some(structure([
        (0, unit.into()),
        (1, Value::Array(packs.iter().map(Value::from).collect())),
        (2, Value::Array(frame_values)),
        (3, Value::Array(extents.collect())),
    ]))
}

/// A node reference.
pub(crate) fn reference(pack: [u8; 16], at: Place, digest: &[u8; 32]) -> Value {
    positions([
        (&pack).into(),
        at.number.into(),
        at.offset.into(),
        at.stored_len.into(),
        (at.codec as u64).into(),
        at.plain_len.into(),
        digest.into(),
    ])
}

/// Key 8, 9 or 10 of an entry, and its value.
pub(crate) type Content = (u64, Value);

/// An entry of a page.
pub(crate) fn entry(path: &[u8], item: &Item, content: Content) -> Value {
    let (kind, size, link) = match item {
        Item::File(bytes) | Item::Pages(bytes) => (0, bytes.len(), None),
        Item::Directory => (1, 0, None),
        Item::Link(to) => (2, 0, Some(to)),
        Item::Attachment(bytes) => (3, bytes.len(), None),
    };
    let mode = if kind == 1 { DIRECTORY_MODE } else { FILE_MODE };
    let mut known: Vec<(u64, Value)> = vec![
        (0, path.into()),
        (1, kind.into()),
        (2, u64::from(mode).into()),
        (3, "postgres".into()),
        (4, "postgres".into()),
        (5, super::NOW_US.into()),
        (6, (size as u64).into()),
    ];
    known.extend(link.map(|to| (7, to.as_slice().into())));
    known.push(content);
    structure(known)
}
