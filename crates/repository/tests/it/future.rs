//! Objects of versions to come.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use repository::seal::Secret;
use repository::tree::{Content, Extent, FileNode, Leaf, Node, Page};
use repository::{Error, Kind, Repository, SetKeys};
use stdx::{Diagnostic, Id};
use store::{Key, MemoryStore, Store};

use crate::forge::{Forge, with_unknown_key};
use crate::samples::{self, Samples};
use crate::support::{entry, member};

const DATA_KEY: [u8; 32] = [42; 32];

fn known_keys(set: Id) -> SetKeys {
    let epochs = BTreeMap::from([(1, Secret::from_bytes(DATA_KEY))]);
    SetKeys::encrypted(set, &Secret::from_bytes([43; 32]), epochs)
}

fn repository(set: Id, encrypted: bool) -> (Repository, Arc<dyn Store>) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let keys = if encrypted { known_keys(set) } else { SetKeys::plain(set) };
    (Repository::new(vec![member("m", &store)], Arc::new(keys)), store)
}

fn forge(set: Id, encrypted: bool) -> Forge {
    Forge {
        set,
        data_key: encrypted.then_some(DATA_KEY),
        epoch: u32::from(encrypted),
        version: 1,
        required: 0,
        optional: 0,
    }
}

/// Kinds whose frames besides the first hold bytes of the user and no structures.
fn only_the_first(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::WalSegment
            | Kind::WalPiece
            | Kind::TimelineHistory
            | Kind::BackupHistory
            | Kind::WalPartial
            | Kind::WalConflict
    )
}

/// Writes every object of `from` anew into `to`, as a later version might.
async fn rewrite(from: &Repository, to: &Arc<dyn Store>, samples: &Samples, forge: &Forge) {
    for (key, kind) in &samples.keys {
        let frames = from.read(*kind, key).await.unwrap();
        let pack = matches!(kind, Kind::DataPack | Kind::MetaPack);
        let later: Vec<Vec<u8>> = frames
            .iter()
            .enumerate()
            .map(|(at, frame)| match (pack, at > 0 && only_the_first(*kind)) {
                (false, false) => with_unknown_key(frame),
                _ => frame.clone(),
            })
            .collect();
        let bytes = if pack {
            // Trees name the places in packs, so these stay byte for byte.
            from.members()[0].store.get(key).await.unwrap().to_vec()
        } else {
            forge.object(*kind as u8, &later)
        };
        to.put_if_absent(key, vec![Bytes::from(bytes)]).await.unwrap();
    }
}

#[tokio::test]
async fn unknown_optional_bits_and_unknown_fields_are_skipped() {
    for encrypted in [true, false] {
        let set = Id::from_bytes([3; 16]);
        let (today, _) = repository(set, encrypted);
        let samples = samples::write(&today).await;
        let (later, store) = repository(set, encrypted);
        let forge = Forge { optional: 0x8000_0001, ..forge(set, encrypted) };
        rewrite(&today, &store, &samples, &forge).await;
        let expected = samples::read_all(&today, &samples).await.unwrap();
        assert_eq!(samples::read_all(&later, &samples).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn required_bits_versions_kinds_and_codecs_of_the_future_are_refused_by_name() {
    let set = Id::from_bytes([3; 16]);
    let (repository, store) = repository(set, true);
    let key = Key::new("some/object").unwrap();
    let check = async |forge: Forge, kind: u8, expect: &str| {
        store.delete(&key).await.unwrap();
        let bytes = forge.object(kind, &[b"x".to_vec()]);
        store.put_if_absent(&key, vec![Bytes::from(bytes)]).await.unwrap();
        let error = repository.read(Kind::Lease, &key).await.unwrap_err();
        assert_eq!(error.info().code, "RF0302", "{error}");
        assert_eq!(
            error.to_string(),
            format!("object 'some/object' needs a newer rollforward: {expect}")
        );
    };
    let today = forge(set, true);
    check(Forge { version: 2, ..today }, 21, "format version 2").await;
    check(Forge { required: 1 << 7, ..today }, 21, "required feature bits 0x00000080").await;
    check(today, 99, "object kind 99").await;
    store.delete(&key).await.unwrap();
    let bytes = today.object(21, &[b"x".to_vec()]);
    store.put_if_absent(&key, vec![Bytes::from(bytes)]).await.unwrap();
    assert_eq!(repository.read(Kind::Lease, &key).await.unwrap(), [b"x"]);
}

#[test]
fn nodes_with_unknown_fields_are_read() {
    fn check<N: Node + PartialEq + std::fmt::Debug>(node: &N) {
        let later = with_unknown_key(&node.encode());
        assert_ne!(later, node.encode());
        assert_eq!(N::decode(&later).as_ref(), Ok(node));
    }
    check(&Page::Entries(vec![entry("PG_VERSION"), entry("base/1/1")]));
    check(&Page::Children(Vec::new()));
    check(&FileNode::default());
    let extents = vec![Extent { first: 0, count: 0, frame: 0, slot: 0 }];
    let leaf = Leaf { unit: 8192, frames: Vec::new(), extents: Vec::new() };
    check(&leaf);
    let dangling = Leaf { extents, ..leaf };
    assert!(Leaf::decode(&dangling.encode()).is_err());
    let empty = Page::Entries(vec![repository::tree::Entry {
        content: Content::Inline(Vec::new()),
        ..entry("x")
    }]);
    check(&empty);
}

#[tokio::test]
async fn a_newer_epoch_than_the_keys_have_is_told_from_damage() {
    let set = Id::from_bytes([3; 16]);
    let (repository, store) = repository(set, true);
    let key = Key::new("some/object").unwrap();
    let bytes = Forge { epoch: 7, ..forge(set, true) }.object(21, &[b"x".to_vec()]);
    store.put_if_absent(&key, vec![Bytes::from(bytes)]).await.unwrap();
    let error = repository.read(Kind::Lease, &key).await.unwrap_err();
    assert!(matches!(error, Error::WrongKey { epoch: 7, .. }), "{error}");
}
