//! Objects, frames and nodes of the repository format.

use repository::header::{HEADER_LEN, Header};
use repository::key_file::KeyFile;
use repository::names::{Label, LineageId, PackId};
use repository::object::{ObjectWriter, OpenObject, open_object};
use repository::recovery_code::RecoveryCode;
use repository::relation_map::{self, RelationMap};
use repository::tree::{FileNode, Leaf, Node, Page};
use repository::{Codec, Compression, Kind, SetKeys};
use stdx::Id;

use super::frames;

/// A set without encryption: what is read is checked, and nothing keeps the bytes out.
pub fn keys() -> SetKeys {
    SetKeys::plain(Id::from_bytes([7; 16]))
}

/// The kind that a byte chooses.
fn kind(byte: u8) -> Kind {
    Kind::ALL[usize::from(byte) % Kind::ALL.len()]
}

fn crc32c(bytes: &[u8]) -> u32 {
    u32::try_from(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes)).unwrap()
}

/// The header as it is, and with a CRC that fits.
pub fn header(bytes: &[u8]) {
    let _ = Header::decode(bytes);
    let Some(mut fitting) = bytes.first_chunk::<HEADER_LEN>().copied() else { return };
    let (body, crc) = fitting.split_at_mut(HEADER_LEN - 4);
    crc.copy_from_slice(&crc32c(body).to_le_bytes());
    if let Ok(header) = Header::decode(&fitting) {
        assert_eq!(Header::decode(&header.encode()), Ok(header));
    }
}

/// A whole object: byte 0 chooses the kind asked for.
pub fn object(bytes: &[u8]) {
    let Some((byte, object)) = bytes.split_first() else { return };
    let keys = keys();
    let _ = open_object(&keys, kind(*byte), object);
    // The same behind a good header.
    let good = ObjectWriter::new(&keys, kind(*byte)).header(None);
    let _ = open_object(&keys, kind(*byte), &[&good, object].concat());
    if let Ok(open) = OpenObject::new(&keys, kind(*byte), object) {
        let _ = open.lead(object);
        let _ = open.frames(object, object.len() as u64);
    }
}

/// An index that proves itself: four bytes of frame count, eight of what the trailer says of the
/// object's length too much, then the structure.
pub fn index(bytes: &[u8]) {
    let Some((count, rest)) = bytes.split_first_chunk::<4>() else { return };
    let Some((off, raw)) = rest.split_first_chunk::<8>() else { return };
    let keys = keys();
    let writer = ObjectWriter::new(&keys, Kind::DataPack);
    let number = u64::from(u32::from_le_bytes(*count));
    let sealed = writer.sealer().seal(number, true, raw, Compression::None);
    let header = writer.header(None);
    let offset = (HEADER_LEN as u64).wrapping_add(u64::from_le_bytes(*off));
    let mut trailer = offset.to_le_bytes().to_vec();
    for len in [sealed.bytes.len(), raw.len()] {
        trailer.extend_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
    }
    trailer.extend_from_slice(count);
    trailer.extend_from_slice(&[sealed.codec as u8, 0, 0, 0]);
    trailer.extend_from_slice(&crc32c(&trailer).to_le_bytes());
    trailer.extend_from_slice(b"RLFE");
    let object = [&header, sealed.bytes.as_slice(), &trailer].concat();
    let _ = open_object(&keys, Kind::DataPack, &object);
    if let Ok(open) = OpenObject::new(&keys, Kind::DataPack, &object) {
        let tail = &object[HEADER_LEN..];
        let _ = open.frames(tail, offset.wrapping_add((sealed.bytes.len() + 32) as u64));
    }
}

/// Expansion: a byte of codec, three of the length expected.
pub fn frame(bytes: &[u8]) {
    let Some(([codec, low, middle, high], packed)) = bytes.split_first_chunk::<4>() else { return };
    let Some(codec) = Codec::from_byte(codec % 3) else { return };
    let len = u32::from_le_bytes([*low, *middle, high % 32, 0]) as usize;
    let mut raw = Vec::new();
    if codec.expand(packed, len, &mut raw).is_ok() {
        assert_eq!(raw.len(), len);
    }
}

fn node<N: Node + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(node) = N::decode(bytes) {
        assert_eq!(N::decode(&node.encode()).as_ref(), Ok(&node));
    }
}

pub fn tree(bytes: &[u8]) {
    node::<Page>(bytes);
    node::<FileNode>(bytes);
    node::<Leaf>(bytes);
    if let Ok(leaf) = Leaf::decode(bytes) {
        let (begin, len) = leaf.span();
        assert!(begin.checked_add(len).is_some());
    }
}

pub fn root(bytes: &[u8]) {
    let _ = repository::root::decode(&frames(bytes));
    let _ = repository::dump::decode(&frames(bytes));
}

pub fn wal_object(bytes: &[u8]) {
    let _ = repository::wal_object::assemble(&keys(), &frames(bytes));
}

/// 16 bytes of the pack asked for, then frames.
pub fn moved(bytes: &[u8]) {
    let Some((pack, rest)) = bytes.split_first_chunk::<16>() else { return };
    let _ = repository::moved::decode(&frames(rest), PackId(Id::from_bytes(*pack)));
}

pub fn relation_map(bytes: &[u8]) {
    let _ = relation_map::database_of(bytes);
    if let Ok(map) = RelationMap::decode(bytes) {
        assert_eq!(RelationMap::decode(&map.encode()).unwrap(), map);
    }
}

pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(id) = text.parse::<LineageId>() {
        assert_eq!(id.to_string().parse::<LineageId>().unwrap(), id);
    }
    if let Ok(label) = text.parse::<Label>() {
        let lineage = LineageId(Id::from_bytes([1; 16]));
        let _ = repository::names::backup(lineage, &label);
    }
    let lineage = LineageId(Id::from_bytes([1; 16]));
    let _ = repository::names::side_file(lineage, "label", text);
    let _ = repository::names::cluster(text, 1);
    let _ = store::Key::new(text);
}

pub fn key_file(bytes: &[u8]) {
    if let Ok(key) = KeyFile::parse("x", bytes) {
        let again = KeyFile::parse("x", key.render().as_bytes()).unwrap();
        assert_eq!(again.fingerprint(), key.fingerprint());
    }
}

pub fn recovery_code(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(code) = RecoveryCode::parse(text) {
        assert!(RecoveryCode::parse(&code.render()).unwrap() == code);
        let _ = code.matches_groups(&[(1, text)]);
    }
}
