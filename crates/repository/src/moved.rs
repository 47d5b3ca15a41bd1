//! Where the frames of a compacted pack are now.
//!
//! Compaction seals the frames that are still needed anew into other packs, publishes
//! `moved/<old pack>`, and only then condemns the old pack. Trees go on naming the old places; a
//! reader that finds the old pack gone looks here. Frame 0 names the packs, the other frames list
//! the moves, so that no frame grows with the pack.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use stdx::Id;

use crate::codec::Codec;
use crate::error::Error;
use crate::kind::Kind;
use crate::names::{self, PackId};
use crate::object::{FrameAt, from_cbor, to_cbor};
use crate::seal::{FrameShape, len_u32};
use crate::set::{Put, Repository};

/// Moves in one frame of the object.
const MOVES_PER_FRAME: usize = 4096;

/// The frames of one old pack and where they are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The old pack.
    pub pack: PackId,
    /// By their number in the old pack: the new pack and the place in it.
    pub frames: BTreeMap<u64, (PackId, FrameAt)>,
}

#[derive(Encode, Decode)]
#[cbor(transparent)]
struct PackWire(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

#[derive(Encode, Decode)]
#[cbor(map)]
struct MovedWire {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pack: [u8; 16],
    #[n(1)]
    count: u64,
    #[n(2)]
    packs: Vec<PackWire>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct MoveWire {
    #[n(0)]
    old: u64,
    #[n(1)]
    pack: u32,
    #[n(2)]
    number: u64,
    #[n(3)]
    offset: u64,
    #[n(4)]
    sealed_len: u32,
    #[n(5)]
    codec: u8,
    #[n(6)]
    raw_len: u32,
}

/// Publishes where the frames of a pack are. The packs named must be in every member already.
///
/// # Errors
/// [`Error::Conflict`] when the pack was compacted before; an error of a store.
pub async fn publish(repository: &Repository, moved: &Moved) -> Result<(), Error> {
    let key = names::moved(moved.pack);
    let frames = encode(moved);
    let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    match repository.create(Kind::Moved, &key, &frames).await? {
        Put::New => Ok(()),
        Put::Exists => Err(Error::Conflict {
            key: key.to_string(),
            expected: "a pack that was not compacted".into(),
            seen: "one that was".into(),
        }),
    }
}

/// Where the frames of a pack are.
///
/// # Errors
/// `NotFound` when it was not compacted; damage; an error of a store.
pub async fn read(repository: &Repository, pack: PackId) -> Result<Moved, Error> {
    let key = names::moved(pack);
    let frames = repository.read(Kind::Moved, &key).await?;
    decode(&frames, pack).map_err(|reason| Error::Damaged {
        store: repository.address(),
        key: key.to_string(),
        reason,
    })
}

fn encode(moved: &Moved) -> Vec<Vec<u8>> {
    let mut places: BTreeMap<PackId, u32> = BTreeMap::new();
    for (pack, _) in moved.frames.values() {
        let next = len_u32(places.len());
        places.entry(*pack).or_insert(next);
    }
    let mut packs: Vec<(u32, PackId)> =
        places.iter().map(|(pack, place)| (*place, *pack)).collect();
    packs.sort_unstable();
    let moves: Vec<MoveWire> = moved
        .frames
        .iter()
        .map(|(old, (pack, at))| MoveWire {
            old: *old,
            pack: places.get(pack).copied().unwrap_or_default(),
            number: at.shape.number,
            offset: at.offset,
            sealed_len: at.sealed_len,
            codec: at.shape.codec as u8,
            raw_len: at.shape.raw_len,
        })
        .collect();
    let lead = MovedWire {
        pack: *moved.pack.0.as_bytes(),
        count: moves.len() as u64,
        packs: packs.iter().map(|(_, pack)| PackWire(*pack.0.as_bytes())).collect(),
    };
    let mut frames = vec![to_cbor(&lead)];
    frames.extend(moves.chunks(MOVES_PER_FRAME).map(|chunk| {
        let mut out = Vec::new();
        let mut encoder = minicbor::Encoder::new(&mut out);
        let encoded = encoder.encode(chunk).is_ok();
        assert!(encoded, "a stored structure encodes into memory");
        out
    }));
    frames
}

/// Reads what stands in the frames of a `moved` object.
///
/// # Errors
/// A sentence: which rule of the format they break.
pub fn decode(frames: &[Vec<u8>], pack: PackId) -> Result<Moved, String> {
    let (lead, rest) = frames.split_first().ok_or("an object without frames")?;
    let lead: MovedWire = from_cbor(lead)?;
    if lead.pack != *pack.0.as_bytes() {
        return Err(format!("it tells of pack {}", Id::from_bytes(lead.pack)));
    }
    let mut moved = BTreeMap::new();
    for frame in rest {
        let moves: Vec<MoveWire> = from_cbor(frame)?;
        for entry in &moves {
            let target = lead.packs.get(entry.pack as usize);
            let target = target.ok_or_else(|| {
                format!("frame {} went to pack {} of {}", entry.old, entry.pack, lead.packs.len())
            })?;
            moved.insert(entry.old, (PackId(Id::from_bytes(target.0)), place(entry)?));
        }
    }
    if moved.len() as u64 != lead.count {
        return Err(format!("expected {} moves, seen {}", lead.count, moved.len()));
    }
    Ok(Moved { pack, frames: moved })
}

fn place(entry: &MoveWire) -> Result<FrameAt, String> {
    let MoveWire { number, offset, sealed_len, codec, raw_len, .. } = *entry;
    let codec = Codec::from_byte(codec).ok_or_else(|| format!("unknown codec {codec}"))?;
    offset
        .checked_add(u64::from(sealed_len))
        .ok_or_else(|| format!("frame {number} lies at {offset}, past any object's end"))?;
    Ok(FrameAt { offset, sealed_len, shape: FrameShape { number, last: false, codec, raw_len } })
}
