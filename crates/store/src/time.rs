//! What time it is where objects get theirs: whoever judges how old an object is must not trust the
//! clock of its own host.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use stdx::Id;

use crate::{Error, Key, Store};

/// The time by the store's clock: that of an object below `proof/`, which is written and removed.
/// `id` names it and is used once.
///
/// # Errors
/// The store could not be asked.
pub async fn time(store: &Arc<dyn Store>, id: Id) -> Result<Timestamp, Error> {
    let name = format!("proof/{id}");
    let Ok(key) = Key::new(&name) else { unreachable!("'{name}' is a key") };
    store.put_if_absent(&key, vec![Bytes::from_static(b"what time is it?")]).await?;
    let seen = store.head(&key).await;
    // Also when it could not be asked: nothing of it stays.
    store.delete(&key).await?;
    Ok(seen?.modified)
}
