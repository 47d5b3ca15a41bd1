//! Objects that are not what was written.

use std::sync::Arc;

use bytes::Bytes;
use repository::names::{self, Label};
use repository::{Error, Kind, Repository, catalog, unlock};
use stdx::Diagnostic;
use store::{Key, MemoryStore, Store};

use crate::samples::{self, Samples};
use crate::support::{self, key_file};

/// Puts other bytes under a name.
pub(crate) async fn replace(store: &Arc<dyn Store>, key: &Key, bytes: Vec<u8>) {
    store.delete(key).await.unwrap();
    store.put_if_absent(key, vec![Bytes::from(bytes)]).await.unwrap();
}

fn names_it(error: &Error, key: &Key) -> bool {
    error.to_string().contains(key.as_str())
}

#[tokio::test]
async fn there_is_a_sample_of_every_kind() {
    let (repository, _) = support::in_memory().await;
    let samples = samples::write(&repository).await;
    for kind in Kind::ALL {
        let expected = !samples::NOT_SEALED_HERE.contains(&kind)
            || matches!(kind, Kind::Descriptor | Kind::KeySlot | Kind::KeyEpoch);
        assert_eq!(!samples::of_kind(&samples, kind).is_empty(), expected, "{kind:?}");
    }
    samples::read_all(&repository, &samples).await.unwrap();
}

#[tokio::test]
async fn every_flipped_bit_in_every_kind_of_object_is_refused_and_named() {
    let (repository, store) = support::in_memory().await;
    let samples = samples::write(&repository).await;
    // Those in the clear are sealed with a checksum under the set's id.
    let clear = Repository::new(
        repository.members().to_vec(),
        Arc::new(repository::SetKeys::plain(repository.keys().set())),
    );
    for (key, kind) in &samples.keys {
        let in_clear = matches!(kind, Kind::Descriptor | Kind::KeySlot | Kind::KeyEpoch);
        let reader = if in_clear { &clear } else { &repository };
        let good = store.get(key).await.unwrap().to_vec();
        assert!(reader.read(*kind, key).await.is_ok(), "{key}");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            replace(&store, key, bad).await;
            match reader.read(*kind, key).await {
                Ok(_) => panic!("bit {bit} of '{key}' ({kind:?}) was not seen"),
                Err(error) => assert!(names_it(&error, key), "bit {bit} of '{key}': {error}"),
            }
        }
        replace(&store, key, good).await;
    }
}

#[tokio::test]
async fn every_cut_and_every_appendix_is_refused_and_named() {
    let (repository, store) = support::in_memory().await;
    let samples = samples::write(&repository).await;
    let sealed = samples.keys.iter().filter(|(_, kind)| !samples::NOT_SEALED_HERE.contains(kind));
    for (key, kind) in sealed {
        let good = store.get(key).await.unwrap().to_vec();
        let longer = [good.as_slice(), b"\0"].concat();
        let cuts = (0..good.len()).map(|len| good[..len].to_vec());
        for bad in cuts.chain([longer]) {
            let len = bad.len();
            replace(&store, key, bad).await;
            let error = repository.read(*kind, key).await.unwrap_err();
            assert!(names_it(&error, key), "{len} bytes of '{key}': {error}");
        }
        store.delete(key).await.unwrap();
        let error = repository.read(*kind, key).await.unwrap_err();
        assert!(matches!(&error, Error::Store(store::Error::NotFound { .. })), "{error}");
        assert!(names_it(&error, key), "{error}");
        replace(&store, key, good).await;
    }
}

/// Reads everything; each damage must surface somewhere.
async fn must_fail(repository: &Repository, samples: &Samples, key: &Key) {
    // Anew, so that no header of a pack is remembered.
    let fresh = Repository::new(repository.members().to_vec(), Arc::clone(repository.keys()));
    let error = samples::read_all(&fresh, samples).await.unwrap_err();
    assert!(names_it(&error, key), "'{key}': {error}");
}

#[tokio::test]
async fn a_damaged_or_missing_pack_is_named_when_a_frame_of_it_is_read() {
    let (repository, store) = support::in_memory().await;
    let samples = samples::write(&repository).await;
    let key = names::pack(samples.pack);
    let good = store.get(&key).await.unwrap().to_vec();
    let last = samples.frames.last().unwrap();
    let cut = usize::try_from(last.offset).unwrap() + 3;
    replace(&store, &key, good[..cut].to_vec()).await;
    must_fail(&repository, &samples, &key).await;
    let mut flipped = good.clone();
    flipped[cut] ^= 0x10;
    replace(&store, &key, flipped).await;
    must_fail(&repository, &samples, &key).await;
    store.delete(&key).await.unwrap();
    must_fail(&repository, &samples, &key).await;
    replace(&store, &key, good).await;
    samples::read_all(&repository, &samples).await.unwrap();
}

#[tokio::test]
async fn an_object_under_another_ones_name_is_refused() {
    let (repository, store) = support::in_memory().await;
    let samples = samples::write(&repository).await;
    let elsewhere = support::lineage(&repository, samples.lineage.system_id).await;
    // A whole lineage copied under another one's id: each record says whose it is.
    let mut refused = Vec::new();
    for (key, kind) in &samples.keys {
        let (from, to) = (samples.lineage.id.to_string(), elsewhere.id.to_string());
        if !key.as_str().contains(&from) || *kind == Kind::WalConflict {
            continue;
        }
        let copied = Key::new(key.as_str().replace(&from, &to)).unwrap();
        replace(&store, &copied, store.get(key).await.unwrap().to_vec()).await;
        refused.push((copied, *kind));
    }
    let foreign = samples.of_lineage(elsewhere);
    for (key, kind) in refused {
        let result = samples::read_kind(&repository, &foreign, kind).await;
        let error = result.expect_err(&format!("{kind:?} '{key}'"));
        assert_eq!(error.info().code, "RF0301", "{kind:?}: {error}");
    }
}

#[tokio::test]
async fn another_sets_objects_are_told_from_damage() {
    let (repository, store) = support::in_memory().await;
    let samples = samples::write(&repository).await;
    let (other, other_store) = support::in_memory().await;
    let key = samples::backup_key(&samples);
    let bytes = store.get(&key).await.unwrap();
    other_store.put_if_absent(&key, vec![bytes]).await.unwrap();
    let error = other.read(Kind::BackupRoot, &key).await.unwrap_err();
    assert_eq!(error.info().code, "RF0303", "{error}");
    assert!(names_it(&error, &key));
}

#[tokio::test]
async fn an_unsealed_object_is_not_taken_into_an_encrypted_set() {
    let (repository, store) = support::in_memory().await;
    let samples = samples::write(&repository).await;
    let plain = Repository::new(
        repository.members().to_vec(),
        Arc::new(repository::SetKeys::plain(repository.keys().set())),
    );
    let key = names::state(samples.lineage.id, 1);
    let frames = repository.read(Kind::LineageState, &key).await.unwrap();
    store.delete(&key).await.unwrap();
    plain.create(Kind::LineageState, &key, &[&frames[0]]).await.unwrap();
    let error = repository.read(Kind::LineageState, &key).await.unwrap_err();
    assert!(error.to_string().ends_with("it is not sealed, but this set is encrypted"), "{error}");
}

#[tokio::test]
async fn a_damaged_root_is_reported_and_hides_no_other_backup() {
    let (repository, store) = support::in_memory().await;
    let samples = samples::write(&repository).await;
    let key = samples::backup_key(&samples);
    let mut bytes = store.get(&key).await.unwrap().to_vec();
    bytes[200] ^= 1;
    replace(&store, &key, bytes).await;
    // One that ends in its header, and one that no label names.
    let short: Label = "short".parse().unwrap();
    replace(&store, &names::backup(samples.lineage.id, &short), vec![1; 40]).await;
    let odd = Key::new(format!("{}not_a_label", names::backups(samples.lineage.id))).unwrap();
    replace(&store, &odd, vec![1; 40]).await;
    let catalog = catalog::backups(&repository, samples.lineage.id).await.unwrap();
    let labels: Vec<String> =
        catalog.backups.iter().map(|backup| backup.label.to_string()).collect();
    assert_eq!(labels, ["other"]);
    let mut problems: Vec<&str> =
        catalog.problems.iter().map(|problem| problem.key.as_str()).collect();
    problems.sort_unstable();
    let folder = names::backups(samples.lineage.id);
    let expected = ["base", "not_a_label", "short"].map(|name| format!("{folder}{name}"));
    assert_eq!(problems, expected);
    assert!(catalog.problems.iter().all(|problem| problem.error.info().code == "RF0301"));
}

#[tokio::test]
async fn a_damaged_slot_or_data_key_is_named_when_the_repository_is_opened() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    support::create(&[Arc::clone(&store)]).await;
    for prefix in [names::SLOTS, names::EPOCHS] {
        let key = store.list(prefix, None, 1).await.unwrap()[0].key.clone();
        let good = store.get(&key).await.unwrap().to_vec();
        for at in [20, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 4;
            replace(&store, &key, bad).await;
            let members = vec![support::member("m", &store)];
            let error = unlock::open(members, Some(&key_file(1))).await.unwrap_err();
            assert!(names_it(&error, &key), "{error}");
        }
        replace(&store, &key, good).await;
    }
}
