//! Takes a record's bytes apart: block references, page images, main data.
//!
//! PostgreSQL: `DecodeXLogRecord`, src/backend/access/transam/xlogreader.c; the layout is described
//! in src/include/access/xlogrecord.h.

use super::cursor::Cursor;
use super::record::{BlockImage, BlockRef, Compression, Fork, Record, RelFileLocator, Span};
use crate::{BlockNumber, MajorVersion, Xid};

const ID_BLOCK_MAX: u8 = 32;
const ID_TOPLEVEL_XID: u8 = 252;
const ID_ORIGIN: u8 = 253;
const ID_DATA_LONG: u8 = 254;
const ID_DATA_SHORT: u8 = 255;

const FORK_MASK: u8 = 0x0F;
const HAS_IMAGE: u8 = 0x10;
const HAS_DATA: u8 = 0x20;
const WILL_INIT: u8 = 0x40;
const SAME_RELATION: u8 = 0x80;

/// What a record has beside its blocks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parts {
    pub(super) origin: Option<u16>,
    pub(super) top_level_xid: Option<Xid>,
    pub(super) main: Span,
}

/// Fills `blocks` from the whole `record`, header included.
///
/// # Errors
/// What does not add up. Every span given out lies inside `record`.
pub(super) fn decode(
    record: &[u8],
    version: MajorVersion,
    blocks: &mut Vec<BlockRef>,
) -> Result<Parts, &'static str> {
    blocks.clear();
    let content = record.get(Record::HEADER_SIZE..).ok_or("no header")?;
    let mut headers = Cursor::new(content);
    let mut parts = Parts::default();
    let mut payload: u64 = 0;
    // The headers end where as many bytes are left as they promise.
    while headers.rest().len() as u64 > payload {
        let id = headers.u8().ok_or("a header is cut off")?;
        match id {
            ID_DATA_SHORT | ID_DATA_LONG => {
                let len =
                    if id == ID_DATA_SHORT { headers.u8().map(u32::from) } else { headers.u32() };
                parts.main.len = len.ok_or("the header of the main data is cut off")?;
                payload += u64::from(parts.main.len);
                break;
            }
            ID_ORIGIN => parts.origin = Some(headers.u16().ok_or("the origin is cut off")?),
            ID_TOPLEVEL_XID => {
                parts.top_level_xid = Some(headers.xid().ok_or("the top-level xid is cut off")?);
            }
            0..=ID_BLOCK_MAX => {
                let block = block_header(&mut headers, id, version, blocks.last())?;
                payload += u64::from(block.data.len);
                payload += block.image.map_or(0, |image| u64::from(image.bytes.len));
                blocks.push(block);
            }
            _ => return Err("unknown id of a header"),
        }
    }
    if headers.rest().len() as u64 != payload {
        return Err("the lengths of the parts do not add up to the length of the record");
    }
    place(record.len() - headers.rest().len(), blocks, &mut parts.main);
    Ok(parts)
}

/// Gives every part its place: images and data in the order of the blocks, then the main data.
#[allow(clippy::cast_possible_truncation)] // inside a record, whose length has 32 bits
fn place(payload_start: usize, blocks: &mut [BlockRef], main: &mut Span) {
    let mut at = payload_start as u32;
    for block in blocks {
        if let Some(image) = &mut block.image {
            image.bytes.start = at;
            at += image.bytes.len;
        }
        block.data.start = at;
        at += block.data.len;
    }
    main.start = at;
}

fn block_header(
    headers: &mut Cursor<'_>,
    id: u8,
    version: MajorVersion,
    before: Option<&BlockRef>,
) -> Result<BlockRef, &'static str> {
    const CUT: &str = "the header of a block is cut off";
    if before.is_some_and(|before| before.id >= id) {
        return Err("block ids out of order");
    }
    let flags = headers.u8().ok_or(CUT)?;
    let fork = Fork::from_number(u32::from(flags & FORK_MASK)).ok_or("unknown fork")?;
    let data = Span { start: 0, len: u32::from(headers.u16().ok_or(CUT)?) };
    if (flags & HAS_DATA != 0) != (data.len > 0) {
        return Err("a block's data flag and data length disagree");
    }
    let image = if flags & HAS_IMAGE != 0 { Some(image_header(headers, version)?) } else { None };
    let relation: RelFileLocator = if flags & SAME_RELATION == 0 {
        headers.relation().ok_or(CUT)?
    } else {
        before.ok_or("the first block has no relation")?.relation
    };
    let block = BlockNumber::new(headers.u32().ok_or(CUT)?);
    Ok(BlockRef { id, relation, fork, block, will_init: flags & WILL_INIT != 0, image, data })
}

/// The meaning of `bimg_info` bits, which changed in 15.
struct ImageFlags {
    has_hole: bool,
    apply: bool,
    compression: Compression,
}

impl ImageFlags {
    fn decode(info: u8, version: MajorVersion) -> Result<Self, &'static str> {
        let has_hole = info & 0x01 != 0;
        if version < MajorVersion::V15 {
            let compression = if info & 0x02 != 0 { Compression::Pglz } else { Compression::None };
            return Ok(Self { has_hole, apply: info & 0x04 != 0, compression });
        }
        let compression = match info & 0x1C {
            0x00 => Compression::None,
            0x04 => Compression::Pglz,
            0x08 => Compression::Lz4,
            0x10 => Compression::Zstd,
            _ => return Err("a page image with several kinds of compression"),
        };
        Ok(Self { has_hole, apply: info & 0x02 != 0, compression })
    }
}

fn image_header(
    headers: &mut Cursor<'_>,
    version: MajorVersion,
) -> Result<BlockImage, &'static str> {
    const CUT: &str = "the header of a page image is cut off";
    let len = headers.u16().ok_or(CUT)?;
    let hole_offset = headers.u16().ok_or(CUT)?;
    let flags = ImageFlags::decode(headers.u8().ok_or(CUT)?, version)?;
    let hole_length = match (flags.has_hole, flags.compression) {
        (false, _) => Some(0),
        (true, Compression::None) => None,
        (true, _) => Some(headers.u16().ok_or(CUT)?),
    };
    if len == 0 || (!flags.has_hole && hole_offset != 0) || (flags.has_hole && hole_offset == 0) {
        return Err("a page image with an impossible hole");
    }
    Ok(BlockImage {
        apply: flags.apply,
        compression: flags.compression,
        hole_offset,
        hole_length,
        bytes: Span { start: 0, len: u32::from(len) },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::forge::{Content, encode};
    use super::*;
    use crate::{Lsn, Oid};

    fn decoded(content: &Content, version: u32) -> Result<(Vec<BlockRef>, Parts), &'static str> {
        let mut blocks = Vec::new();
        let version = MajorVersion::new(version).unwrap();
        let parts = decode(&encode(content, Lsn::INVALID), version, &mut blocks)?;
        Ok((blocks, parts))
    }

    fn relation() -> Vec<u8> {
        [1663_u32, 5, 16_384].iter().flat_map(|oid| oid.to_le_bytes()).collect()
    }

    /// Block 0 with an image and three bytes of data, block 2 of the same relation's map without.
    fn two_blocks(image_info: u8, hole_length: &[u8]) -> Content {
        let mut headers = vec![0, HAS_IMAGE | HAS_DATA, 3, 0];
        headers.extend([10, 0, 24, 0, image_info]);
        headers.extend(hole_length);
        headers.extend(relation());
        headers.extend(7_u32.to_le_bytes());
        headers.extend([2, 2 | WILL_INIT | SAME_RELATION, 0, 0]);
        headers.extend(8_u32.to_le_bytes());
        headers.extend([ID_ORIGIN, 9, 0, ID_TOPLEVEL_XID, 5, 0, 0, 0]);
        let payload = b"image.....abc".to_vec();
        Content { headers, payload, main: b"main".to_vec(), ..Content::default() }
    }

    #[test]
    fn blocks_images_and_data_find_their_place() {
        let content = two_blocks(0x03, &[]);
        let (blocks, parts) = decoded(&content, 16).unwrap();
        let bytes = encode(&content, Lsn::INVALID);
        assert_eq!(parts.main.of(&bytes), b"main");
        assert_eq!((parts.origin, parts.top_level_xid), (Some(9), Some(Xid::new(5))));
        let [first, second] = blocks.as_slice() else { panic!("{blocks:?}") };
        let image = first.image.unwrap();
        assert_eq!(image.bytes.of(&bytes), b"image.....");
        assert_eq!((image.apply, image.hole_length), (true, None));
        assert_eq!(first.data.of(&bytes), b"abc");
        assert_eq!(second.relation, first.relation);
        assert_eq!(second.relation.relation, Oid::new(16_384));
        assert_eq!((second.id, second.fork), (2, Fork::VisibilityMap));
        assert!(second.will_init && !second.has_image());
        assert_eq!(second.block, BlockNumber::new(8));
    }

    #[test]
    fn image_flags_changed_in_15() {
        let image = |info: u8, hole: &[u8], version| {
            let image = decoded(&two_blocks(info, hole), version).unwrap().0[0].image.unwrap();
            (image.apply, image.compression, image.hole_length)
        };
        assert_eq!(image(0x05, &[], 14), (true, Compression::None, None));
        assert_eq!(image(0x03, &[100, 0], 14), (false, Compression::Pglz, Some(100)));
        assert_eq!(image(0x03, &[], 15), (true, Compression::None, None));
        assert_eq!(image(0x05, &[100, 0], 15), (false, Compression::Pglz, Some(100)));
        assert_eq!(image(0x0B, &[100, 0], 17), (true, Compression::Lz4, Some(100)));
        assert_eq!(image(0x13, &[100, 0], 18), (true, Compression::Zstd, Some(100)));
        assert!(decoded(&two_blocks(0x0D, &[100, 0]), 15).is_err());
    }

    #[test]
    fn parts_that_do_not_add_up_are_refused() {
        let check = |change: fn(&mut Content), expect: &str| {
            let mut content = two_blocks(0x03, &[]);
            change(&mut content);
            assert_eq!(decoded(&content, 16).unwrap_err(), expect);
        };
        let lengths = "the lengths of the parts do not add up to the length of the record";
        check(|content| content.payload.push(0), lengths);
        check(|content| content.headers[0] = 40, "unknown id of a header");
        check(|content| content.headers[0] = 2, "block ids out of order");
        check(
            |content| content.headers[1] = HAS_IMAGE,
            "a block's data flag and data length disagree",
        );
        check(|content| content.headers[1] |= 0x0E, "unknown fork");
        check(|content| content.headers[1] |= SAME_RELATION, "the first block has no relation");
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            version in 13_u32..=18,
        ) {
            let mut blocks = Vec::new();
            let version = MajorVersion::new(version).unwrap();
            if let Ok(parts) = decode(&bytes, version, &mut blocks) {
                prop_assert!(parts.main.start as usize + parts.main.len as usize <= bytes.len());
            }
        }
    }
}
