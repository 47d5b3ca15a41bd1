//! What opens a repository, and what does not.

use std::sync::Arc;

use repository::key_file::KeyFile;
use repository::recovery_code::RecoveryCode;
use repository::unlock::{self, Method, NewRepository, NewSet, Unlock};
use repository::{Error, Kind, Repository};
use stdx::Diagnostic;
use store::{Key, MemoryStore, Store};
use zeroize::Zeroizing;

use crate::support::{self, key_file, member, now};

fn passphrase(text: &str) -> Unlock {
    Unlock::Passphrase(Zeroizing::new(text.to_owned()))
}

async fn open(store: &Arc<dyn Store>, unlock: &Unlock) -> Result<Repository, Error> {
    unlock::open(vec![member("m", store)], Some(unlock)).await
}

async fn put(repository: &Repository, name: &str) -> Key {
    let key = Key::new(name).unwrap();
    repository.create(Kind::Lease, &key, &[name.as_bytes()]).await.unwrap();
    key
}

async fn reads(repository: &Repository, name: &str) -> bool {
    let key = Key::new(name).unwrap();
    repository.read(Kind::Lease, &key).await.is_ok_and(|frames| frames == [name.as_bytes()])
}

#[tokio::test]
async fn each_kind_of_slot_opens_and_a_wrong_one_is_named() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let file = KeyFile::random();
    let code = RecoveryCode::random();
    let slots = [
        ("host".to_owned(), file.unlock("/etc/key")),
        ("paper".to_owned(), code.unlock()),
        ("person".to_owned(), passphrase("correct horse")),
    ];
    let new = NewRepository { slots: &slots, single_writer: false, created: now() };
    NewSet::draw(true).create_member(&store, &new).await.unwrap();
    let typed = RecoveryCode::parse(&code.render().to_lowercase()).unwrap();
    let read = KeyFile::parse("/etc/key", file.render().as_bytes()).unwrap();
    let good = [read.unlock("/etc/key"), typed.unlock(), passphrase("correct horse")];
    put(&open(&store, &good[0]).await.unwrap(), "a/b").await;
    for unlock in &good {
        assert!(reads(&open(&store, unlock).await.unwrap(), "a/b").await, "{unlock:?}");
    }
    for (unlock, named) in [
        (key_file(9), "key file '/etc/rollforward/key'"),
        (RecoveryCode::random().unlock(), "the recovery code"),
        (passphrase("correct horze"), "the passphrase"),
    ] {
        let error = open(&store, &unlock).await.unwrap_err();
        assert_eq!(error.info().code, "RF0305");
        assert_eq!(error.to_string(), format!("{named} does not open repository 'memory:'"));
        assert!(!error.hints().is_empty());
    }
    let error = unlock::open(vec![member("m", &store)], None).await.unwrap_err();
    assert_eq!(error.to_string(), "no key at all does not open repository 'memory:'");

    let methods: Vec<Method> =
        unlock::slots(&store).await.unwrap().into_iter().map(|slot| slot.method).collect();
    for method in [Method::KeyFile, Method::RecoveryCode, Method::Passphrase] {
        assert!(methods.contains(&method), "{method:?}");
    }
}

#[tokio::test]
async fn the_same_key_in_another_repository_opens_nothing_there() {
    let (one, two): (Arc<dyn Store>, Arc<dyn Store>) =
        (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
    let first = support::create(&[Arc::clone(&one)]).await;
    support::create(&[Arc::clone(&two)]).await;
    let key = put(&first, "a/b").await;
    two.put_if_absent(&key, vec![one.get(&key).await.unwrap()]).await.unwrap();
    let second = open(&two, &key_file(1)).await.unwrap();
    assert_eq!(second.read(Kind::Lease, &key).await.unwrap_err().info().code, "RF0303");
    let mixed = vec![member("one", &one), member("two", &two)];
    let error = unlock::open(mixed, Some(&key_file(1))).await.unwrap_err();
    assert_eq!(error.info().code, "RF0308", "{error}");
}

#[tokio::test]
async fn objects_of_every_epoch_are_read_after_a_rotation() {
    let (one, two): (Arc<dyn Store>, Arc<dyn Store>) =
        (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
    let before = support::create(&[Arc::clone(&one), Arc::clone(&two)]).await;
    put(&before, "a/1").await;
    let members = before.members().to_vec();
    let slots = one.list(repository::names::SLOTS, None, 10).await.unwrap();
    assert_eq!(unlock::add_epoch(&members, &key_file(1), now()).await.unwrap(), 2);
    let after = unlock::open(members.clone(), Some(&key_file(1))).await.unwrap();
    assert_eq!(after.keys().current_epoch(), 2);
    put(&after, "a/2").await;
    assert!(reads(&after, "a/1").await && reads(&after, "a/2").await);
    // A process that was started before the rotation says what it lacks.
    let key = Key::new("a/2").unwrap();
    let error = before.read(Kind::Lease, &key).await.unwrap_err();
    assert!(matches!(error, Error::WrongKey { epoch: 2, .. }), "{error}");
    // Rotation opens one slot and rewrites none.
    assert_eq!(one.list(repository::names::SLOTS, None, 10).await.unwrap(), slots);
    for name in ["m0", "m1"] {
        let alone = after.only(name).unwrap();
        assert!(reads(&alone, "a/1").await && reads(&alone, "a/2").await, "{name}");
    }
    assert_eq!(one.get(&epoch_key(2)).await.unwrap(), two.get(&epoch_key(2)).await.unwrap());
}

fn epoch_key(epoch: u32) -> Key {
    repository::names::epoch(epoch)
}

#[tokio::test]
async fn an_interrupted_rotation_is_completed_by_the_next() {
    let (one, two): (Arc<dyn Store>, Arc<dyn Store>) =
        (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
    let set = support::create(&[Arc::clone(&one), Arc::clone(&two)]).await;
    let members = set.members().to_vec();
    unlock::add_epoch(&members[..1], &key_file(1), now()).await.unwrap();
    assert!(two.get(&epoch_key(2)).await.is_err());
    assert_eq!(unlock::add_epoch(&members, &key_file(1), now()).await.unwrap(), 3);
    for epoch in 1..=3 {
        let key = epoch_key(epoch);
        assert_eq!(one.get(&key).await.unwrap(), two.get(&key).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_racing_rotations_one_wins_and_members_agree() {
    let stores: [Arc<dyn Store>; 2] = [Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new())];
    let members = support::create(&stores).await.members().to_vec();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let members = members.clone();
            tokio::spawn(async move { unlock::add_epoch(&members, &key_file(1), now()).await })
        })
        .collect();
    let mut won = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(epoch) => won.push(epoch),
            Err(error) => assert!(matches!(error, Error::Conflict { .. }), "{error}"),
        }
    }
    won.sort_unstable();
    let expected: Vec<u32> = (2..).take(won.len()).collect();
    assert!(!won.is_empty());
    assert_eq!(won, expected);
    for epoch in 1..=won.last().copied().unwrap() {
        let key = epoch_key(epoch);
        assert_eq!(stores[0].get(&key).await.unwrap(), stores[1].get(&key).await.unwrap());
    }
}

#[tokio::test]
async fn a_slot_that_was_added_opens() {
    let (_, store) = support::in_memory().await;
    let code = RecoveryCode::random();
    let error =
        unlock::add_slot(&store, &key_file(2), "paper", &code.unlock(), now()).await.unwrap_err();
    assert!(matches!(error, Error::NoSlotOpens { .. }), "{error}");
    unlock::add_slot(&store, &key_file(1), "paper", &code.unlock(), now()).await.unwrap();
    open(&store, &code.unlock()).await.unwrap();
}

#[tokio::test]
async fn a_member_that_joins_has_the_same_keys_and_slots_of_its_own() {
    let (first, one) = support::in_memory().await;
    let key = put(&first, "a/1").await;
    unlock::add_epoch(first.members(), &key_file(1), now()).await.unwrap();
    let two: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let slots = [("other".to_owned(), key_file(2))];
    let new = NewRepository { slots: &slots, single_writer: false, created: now() };
    let error = unlock::join_member(&one, Some(&key_file(3)), &two, &new).await.unwrap_err();
    assert!(matches!(error, Error::NoSlotOpens { .. }), "{error}");
    assert!(matches!(unlock::describe(&two).await, Err(Error::NoRepository { .. })));
    unlock::join_member(&one, Some(&key_file(1)), &two, &new).await.unwrap();
    two.put_if_absent(&key, vec![one.get(&key).await.unwrap()]).await.unwrap();
    let alone = open(&two, &key_file(2)).await.unwrap();
    assert!(reads(&alone, "a/1").await);
    assert_eq!(alone.keys().current_epoch(), 2);
    assert!(open(&two, &key_file(1)).await.is_err());
    let error = unlock::join_member(&one, Some(&key_file(1)), &two, &new).await.unwrap_err();
    assert_eq!(error.info().code, "RF0307", "{error}");
    // Either key opens the set.
    for unlock in [key_file(1), key_file(2)] {
        let both = vec![member("one", &one), member("two", &two)];
        let set = unlock::open(both, Some(&unlock)).await.unwrap();
        assert!(reads(&set, "a/1").await);
    }
}

#[tokio::test]
async fn what_an_interrupted_creation_left_is_told_and_not_built_on() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let slots = [("host".to_owned(), key_file(1))];
    let new = NewRepository { slots: &slots, single_writer: false, created: now() };
    let first = NewSet::draw(true);
    first.create_member(&store, &new).await.unwrap();
    store.delete(&repository::names::descriptor()).await.unwrap();
    let error = NewSet::draw(true).create_member(&store, &new).await.unwrap_err();
    assert!(error.to_string().contains("the rest of a creation that was interrupted"), "{error}");
    // The same creation goes on where it was.
    first.create_member(&store, &new).await.unwrap();
    open(&store, &key_file(1)).await.unwrap();
}

#[tokio::test]
async fn no_repository_and_one_that_is_there_are_told() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let error = open(&store, &key_file(1)).await.unwrap_err();
    assert_eq!(error.to_string(), "no repository at 'memory:'");
    support::create(&[Arc::clone(&store)]).await;
    let new = NewRepository { slots: &[], single_writer: false, created: now() };
    let error = NewSet::draw(false).create_member(&store, &new).await.unwrap_err();
    assert_eq!(error.info().code, "RF0307", "{error}");
}
