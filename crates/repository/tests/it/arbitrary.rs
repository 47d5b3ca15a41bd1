//! Bytes from anywhere are read or refused, and never make a decoder panic.

use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use repository::header::{HEADER_LEN, Header};
use repository::names::PackId;
use repository::object::{OpenObject, open_object, seal_object};
use repository::tree::{FileNode, Leaf, Node, Page};
use repository::{Codec, Compression, Kind, Repository, SetKeys, moved, root, wal_object};
use stdx::Id;
use store::{MemoryStore, Store};

use crate::samples;
use crate::support::member;

fn keys() -> SetKeys {
    SetKeys::plain(Id::from_bytes([3; 16]))
}

fn kind() -> impl Strategy<Value = Kind> {
    proptest::sample::select(Kind::ALL.to_vec())
}

/// Something like a stored structure: a map with small keys and values of every type, often not
/// quite in order.
fn structure() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        any::<u64>().prop_map(|n| encoded(|e| drop(e.u64(n)))),
        any::<i64>().prop_map(|n| encoded(|e| drop(e.i64(n)))),
        vec(any::<u8>(), 0..40).prop_map(|b| encoded(|e| drop(e.bytes(&b)))),
        Just(encoded(|e| drop(e.bytes(&[7; 16])))),
        Just(encoded(|e| drop(e.bytes(&[7; 32])))),
        "[a-z/.]{0,20}".prop_map(|t| encoded(|e| drop(e.str(&t)))),
        any::<bool>().prop_map(|b| encoded(|e| drop(e.bool(b)))),
        Just(encoded(|e| drop(e.null()))),
        vec(any::<u64>(), 0..8).prop_map(|n| encoded(|e| drop(e.encode(&n)))),
        vec(any::<u8>(), 0..12),
    ];
    let entry = (0..24_u8, value).prop_map(|(key, value)| [vec![key], value].concat());
    (vec(entry, 0..22), any::<bool>(), vec(any::<u8>(), 0..3)).prop_map(|(entries, map, rest)| {
        let count = u64::try_from(entries.len()).unwrap();
        let head = encoded(|e| drop(if map { e.map(count) } else { e.array(count) }));
        [head, entries.concat(), rest].concat()
    })
}

fn encoded(write: impl FnOnce(&mut minicbor::Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut minicbor::Encoder::new(&mut out));
    out
}

/// Wherever bytes with a good seal come from, what they say is read by these.
fn read_structures(frames: &[Vec<u8>]) {
    let _ = root::decode(frames);
    let _ = repository::dump::decode(frames);
    let _ = wal_object::assemble(&keys(), frames);
    let _ = moved::decode(frames, PackId(Id::from_bytes([7; 16])));
    for frame in frames {
        let _ = Page::decode(frame);
        let _ = FileNode::decode(frame);
        let _ = Leaf::decode(frame).map(|leaf| leaf.span());
    }
}

proptest! {
    #[test]
    fn any_bytes_as_a_header(bytes in vec(any::<u8>(), 0..300)) {
        let _ = Header::decode(&bytes);
    }

    #[test]
    fn any_bytes_as_an_object(bytes in vec(any::<u8>(), 0..600), kind in kind()) {
        let _ = open_object(&keys(), kind, &bytes);
    }

    #[test]
    fn any_bytes_behind_a_good_header(bytes in vec(any::<u8>(), 0..600), kind in kind()) {
        let whole = seal_object(&keys(), kind, &[b"x"], Compression::None).concat();
        let object = [&whole[..HEADER_LEN], &bytes].concat();
        let _ = open_object(&keys(), kind, &object);
        let open = OpenObject::new(&keys(), kind, &object).unwrap();
        let _ = open.lead(&object);
        let _ = open.frames(&bytes, object.len() as u64);
    }

    #[test]
    fn any_trailer(offset: u64, words: [u32; 3], codec: u8, kind in kind()) {
        let whole = seal_object(&keys(), kind, &[b"x", b"y"], Compression::None).concat();
        let mut trailer = offset.to_le_bytes().to_vec();
        for word in words {
            trailer.extend(word.to_le_bytes());
        }
        trailer.extend([codec, 0, 0, 0]);
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &trailer);
        trailer.extend(u32::try_from(crc).unwrap().to_le_bytes());
        trailer.extend(b"RLFE");
        let object = [&whole[..whole.len() - trailer.len()], &trailer].concat();
        prop_assert!(open_object(&keys(), kind, &object).is_err() || object == whole);
    }

    #[test]
    fn any_bytes_as_frames(frames in vec(vec(any::<u8>(), 0..200), 0..4)) {
        read_structures(&frames);
    }

    #[test]
    fn any_structure_as_frames(frames in vec(structure(), 0..4)) {
        read_structures(&frames);
    }

    #[test]
    fn any_bytes_to_expand(bytes in vec(any::<u8>(), 0..300), len in 0..100_000_usize) {
        let mut out = Vec::new();
        for codec in [Codec::None, Codec::Zstd, Codec::Lz4] {
            if codec.expand(&bytes, len, &mut out).is_ok() {
                prop_assert_eq!(out.len(), len);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_structure_in_the_place_of_any_record(
        frame in structure(),
        at in any::<prop::sample::Index>(),
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
            let repository = Repository::new(vec![member("m", &store)], Arc::new(keys()));
            let samples = samples::write(&repository).await;
            let (key, kind) = at.get(&samples.keys).clone();
            let parts = seal_object(&keys(), kind, &[&frame], Compression::None);
            store.delete(&key).await.unwrap();
            store.put_if_absent(&key, parts.into_iter().collect::<Vec<Bytes>>()).await.unwrap();
            // Read or refused; other objects of the kind may stand for it.
            let _ = samples::read_kind(&repository, &samples, kind).await;
            let _ = samples::read_all(&repository, &samples).await;
            let _ = repository::catalog::backups(&repository, samples.lineage.id).await.unwrap();
        });
    }
}
