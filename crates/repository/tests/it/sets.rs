//! Sets of two repositories, one of which is not well.

use std::sync::Arc;

use repository::{Error, Kind, names};
use store::{MemoryStore, Store};

use crate::damage::replace;
use crate::{samples, support};

fn stores() -> [Arc<dyn Store>; 2] {
    [Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new())]
}

#[tokio::test]
async fn members_hold_the_same_bytes() {
    let stores = stores();
    let set = support::create(&stores).await;
    let samples = samples::write(&set).await;
    for (key, kind) in &samples.keys {
        if !matches!(kind, Kind::Descriptor | Kind::KeySlot) {
            assert_eq!(
                stores[0].get(key).await.unwrap(),
                stores[1].get(key).await.unwrap(),
                "{key}"
            );
        }
    }
}

#[tokio::test]
async fn what_one_member_lost_or_damaged_is_read_from_the_other() {
    for (broken, whole) in [(0, "m1"), (1, "m0")] {
        let stores = stores();
        let set = support::create(&stores).await;
        let samples = samples::write(&set).await;
        let expected = samples::read_all(&set, &samples).await.unwrap();
        let damaged = format!("m{broken}");
        let sealed =
            samples.keys.iter().filter(|(_, kind)| !samples::NOT_SEALED_HERE.contains(kind));
        for (at, (key, _)) in sealed.enumerate() {
            let store = &stores[broken];
            let good = store.get(key).await.unwrap().to_vec();
            match at % 3 {
                0 => store.delete(key).await.unwrap(),
                1 => replace(store, key, good[..good.len() / 2].to_vec()).await,
                _ => {
                    let mut bad = good.clone();
                    let middle = bad.len() / 2;
                    bad[middle] ^= 1;
                    replace(store, key, bad).await;
                }
            }
        }
        let fresh = repository::Repository::new(set.members().to_vec(), Arc::clone(set.keys()));
        assert_eq!(samples::read_all(&fresh, &samples).await.unwrap(), expected);
        let alone = fresh.only(whole).unwrap();
        assert_eq!(samples::read_all(&alone, &samples).await.unwrap(), expected);
        let alone = fresh.only(&damaged).unwrap();
        assert!(samples::read_all(&alone, &samples).await.is_err());
        assert!(fresh.only("m2").is_none());
    }
}

#[tokio::test]
async fn damage_in_both_members_says_more_than_absence_in_one() {
    let stores = stores();
    let set = support::create(&stores).await;
    let samples = samples::write(&set).await;
    let key = names::pack(samples.pack);
    let mut bad = stores[0].get(&key).await.unwrap().to_vec();
    for byte in bad.iter_mut().skip(128) {
        *byte ^= 0x55;
    }
    replace(&stores[0], &key, bad).await;
    stores[1].delete(&key).await.unwrap();
    let error = set
        .read_frames(Kind::DataPack, samples.pack, &samples.frames, |_, _| Ok(()))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Damaged { key: named, .. } if named == key.as_str()),
        "{error}"
    );
}

#[tokio::test]
async fn what_only_one_member_has_is_listed() {
    let stores = stores();
    let set = support::create(&stores).await;
    let samples = samples::write(&set).await;
    let key = samples::backup_key(&samples);
    stores[0].delete(&key).await.unwrap();
    let catalog = repository::catalog::backups(&set, samples.lineage.id).await.unwrap();
    assert_eq!(catalog.backups.len(), 2);
    let alone = set.only("m0").unwrap();
    let catalog = repository::catalog::backups(&alone, samples.lineage.id).await.unwrap();
    assert_eq!(catalog.backups.len(), 1);
}
