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
