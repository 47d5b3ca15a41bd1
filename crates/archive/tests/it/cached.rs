//! The cache of small objects: fewer requests, the same answers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use archive::cache::Cached;
use repository::lineage;
use repository::seal::Secret;
use repository::unlock::{self, NewRepository, NewSet, Unlock};
use repository::{Member, Repository};
use store::testing::{FaultPlan, Faulty, Operation};
use store::{MemoryStore, Store};

use crate::support::{now, run};

fn key_file() -> Unlock {
    Unlock::KeyFile { origin: "test".into(), secret: Secret::from_bytes([7; 32]) }
}

/// A repository with one cluster, in a store that counts requests.
async fn repository() -> (Arc<Faulty>, lineage::Lineage) {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let new = NewRepository {
        slots: &[("host".into(), key_file())],
        single_writer: false,
        created: now(),
    };
    NewSet::draw(true).create_member(&memory, &new).await.unwrap();
    let opened = open(Arc::clone(&memory)).await;
    let lineage = lineage::register(&opened, "shop", pg::SystemId::new(1), now()).await.unwrap();
    (Arc::new(Faulty::new(memory, FaultPlan::new(1))), lineage)
}

async fn open(store: Arc<dyn Store>) -> Repository {
    let member = Member { name: "m0".into(), store };
    unlock::open(vec![member], Some(&key_file())).await.unwrap()
}

/// What an archive command asks of the store before it has a segment to store.
async fn requests(store: &Arc<Faulty>, folder: &Path, lineage: &lineage::Lineage) -> u64 {
    let before = store.calls(Operation::Get);
    let inner: Arc<dyn Store> = Arc::clone(store) as _;
    let opened = open(Arc::new(Cached::new(inner, folder))).await;
    assert_eq!(lineage::read(&opened, lineage.id).await.unwrap(), *lineage);
    store.calls(Operation::Get) - before
}

#[test]
fn the_second_process_reads_only_the_descriptor() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let (store, lineage) = repository().await;
        let first = requests(&store, folder.path(), &lineage).await;
        let second = requests(&store, folder.path(), &lineage).await;
        assert!(first >= 4, "descriptor, slot, data key, lineage: {first}");
        assert_eq!(second, 1);
    });
}

#[test]
fn a_damaged_or_deleted_cache_only_costs_requests() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let (store, lineage) = repository().await;
        let first = requests(&store, folder.path(), &lineage).await;
        let set = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let files: BTreeSet<_> =
            fs::read_dir(&set).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len() as u64, first - 1);
        for file in &files {
            let mut bytes = fs::read(file).unwrap();
            bytes.truncate(bytes.len() / 2);
            fs::write(file, bytes).unwrap();
        }
        assert_eq!(requests(&store, folder.path(), &lineage).await, first);
        assert_eq!(requests(&store, folder.path(), &lineage).await, 1);
        fs::remove_dir_all(folder.path()).unwrap();
        assert_eq!(requests(&store, folder.path(), &lineage).await, first);
    });
}

#[test]
fn a_new_set_at_the_same_address_is_not_opened_with_the_old_ones_keys() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let (old, lineage) = repository().await;
        requests(&old, folder.path(), &lineage).await;
        let (new, other) = repository().await;
        let first = requests(&new, folder.path(), &other).await;
        assert!(first >= 4, "nothing of the old set is used: {first}");
    });
}
