//! What the clear descriptor of a repository says, and how far that is believed.

use std::sync::Arc;

use jiff::Timestamp;
use stdx::Id;
use store::Store;

use super::wire::DescriptorWire;
use super::{clear_frame, damaged, time};
use crate::error::Error;
use crate::kind::Kind;
use crate::names;
use crate::object::from_cbor;

/// What the clear descriptor says of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The set it belongs to.
    pub set: Id,
    /// This member.
    pub member: Id,
    /// Whether objects are encrypted.
    pub encrypted: bool,
    /// Whether it was declared to have one writer only, because put-if-absent is not honoured.
    pub single_writer: bool,
    /// When the member was created.
    pub created: Timestamp,
}

/// Reads the clear descriptor.
///
/// # Errors
/// [`Error::NoRepository`] when there is none.
pub async fn describe(store: &Arc<dyn Store>) -> Result<Descriptor, Error> {
    let key = names::descriptor();
    let bytes = match store.get(&key).await {
        Err(store::Error::NotFound { .. }) => {
            return Err(Error::NoRepository { store: store.address().into() });
        }
        other => other?,
    };
    let (set, frame) = clear_frame(store, Kind::Descriptor, &key, &bytes)?;
    let wire: DescriptorWire = from_cbor(&frame).map_err(|why| damaged(store, &key, why))?;
    if wire.encryption > 1 {
        let reason = format!("encryption method {}", wire.encryption);
        return Err(Error::Newer { key: key.to_string(), reason });
    }
    Ok(Descriptor {
        set,
        member: Id::from_bytes(wire.member),
        encrypted: wire.encryption == 1,
        single_writer: wire.single_writer,
        created: time(wire.created_us),
    })
}

/// A descriptor that says "not encrypted" where that cannot be true.
pub(super) fn downgraded(store: &Arc<dyn Store>, because: &str) -> Error {
    damaged(
        store,
        &names::descriptor(),
        format!("it says that nothing is encrypted, but {because}"),
    )
}
