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
use crate::set::Member;

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

/// What the members of a set say of it, which is believed only as far as they agree: the first
/// one's descriptor. `has_key` says that a key for the set is configured, whether or not it is at
/// hand: then no descriptor's word is taken that nothing is encrypted, for whoever can write to a
/// store can rewrite it.
///
/// Whoever writes to a set without opening it first asks this before its first write.
///
/// # Errors
/// [`Error::NoRepository`]; [`Error::NotOneSet`]; [`Error::Damaged`] where "not encrypted" cannot
/// be true; or an error of a store.
pub async fn describe_set(members: &[Member], has_key: bool) -> Result<Descriptor, Error> {
    let mut first: Option<Descriptor> = None;
    for Member { store, .. } in members {
        let seen = describe(store).await?;
        if let Some(expected) = first.as_ref().filter(|expected| expected.set != seen.set) {
            return Err(Error::NotOneSet {
                store: store.address().into(),
                expected: expected.set.to_string(),
                seen: seen.set.to_string(),
            });
        }
        if has_key && !seen.encrypted {
            return Err(downgraded(store, "a key for it is configured"));
        }
        if first.as_ref().is_some_and(|expected| expected.encrypted != seen.encrypted) {
            return Err(downgraded(store, "another member says the opposite"));
        }
        first.get_or_insert(seen);
    }
    first.ok_or_else(|| Error::NoRepository { store: String::new() })
}

/// A descriptor that says "not encrypted" where that cannot be true.
fn downgraded(store: &Arc<dyn Store>, because: &str) -> Error {
    damaged(
        store,
        &names::descriptor(),
        format!("it says that nothing is encrypted, but {because}"),
    )
}
