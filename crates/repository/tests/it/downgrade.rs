//! The descriptor is in the clear: whoever can write to the store can replace it.

use std::sync::Arc;

use repository::unlock::{self, NewRepository, NewSet};
use repository::{Error, names};
use store::{MemoryStore, Store};

use crate::support::{self, key_file, member};

/// `encrypted` with its descriptor replaced by one that says "not encrypted".
async fn downgrade(encrypted: &Arc<dyn Store>) {
    let plain: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let new = NewRepository { slots: &[], single_writer: false, created: support::now() };
    NewSet::draw(false).create_member(&plain, &new).await.unwrap();
    let forged = plain.get(&names::descriptor()).await.unwrap();
    encrypted.delete(&names::descriptor()).await.unwrap();
    encrypted.put_if_absent(&names::descriptor(), vec![forged]).await.unwrap();
}

fn is_refused(error: &Error, because: &str) {
    assert!(matches!(error, Error::Damaged { key, .. } if key == "rollforward"), "{error}");
    assert!(error.to_string().contains(because), "{error}");
}

#[tokio::test]
async fn a_key_at_hand_refuses_a_repository_that_claims_not_to_be_encrypted() {
    let (_, store) = support::in_memory().await;
    let key = key_file(1);
    let open = || unlock::open(vec![member("main", &store)], Some(&key));
    assert!(open().await.is_ok());
    downgrade(&store).await;
    is_refused(&open().await.unwrap_err(), "a key for it is configured");
}

#[tokio::test]
async fn nothing_is_added_to_a_repository_that_claims_not_to_be_encrypted() {
    let (_, store) = support::in_memory().await;
    downgrade(&store).await;
    let new: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let (key, spare) = (key_file(1), key_file(2));
    let slots = [("spare".to_owned(), key_file(2))];
    let everything = async || store.list("", None, 1000).await.unwrap();
    let before = everything().await;
    let because = "a key for it is configured";
    let error = unlock::add_slot(&store, &key, "spare", &spare, support::now()).await.unwrap_err();
    is_refused(&error, because);
    let members = [member("main", &store)];
    is_refused(&unlock::add_epoch(&members, &key, support::now()).await.unwrap_err(), because);
    // A key for the set, or one for the new member: either says what the set must be.
    for (present, slots) in
        [(Some(&key), &slots[..0]), (None, &slots[..]), (Some(&key), &slots[..])]
    {
        let new_member = NewRepository { slots, single_writer: false, created: support::now() };
        let joined = unlock::join_member(&store, present, &new, &new_member).await;
        is_refused(&joined.unwrap_err(), because);
    }
    // Nor when the key is not at hand, and nor beside one that tells the truth.
    is_refused(&unlock::describe_set(&members, true).await.unwrap_err(), because);
    assert!(!unlock::describe_set(&members, false).await.unwrap().encrypted);
    assert_eq!(everything().await, before);
    assert!(new.list("", None, 1).await.unwrap().is_empty());
}
