//! Packs that expiry is about to delete.
//!
//! `condemned/<pack>` is written first; the pack goes only after every lease of that time has
//! expired and nothing refers to it. A backup never adopts a condemned pack.

use std::collections::BTreeSet;

use jiff::Timestamp;
use minicbor::{Decode, Encode};
use stdx::Id;

use crate::error::Error;
use crate::kind::Kind;
use crate::names::{self, PackId};
use crate::object::{from_cbor, to_cbor};
use crate::set::Repository;

/// Where all of them lie.
const PREFIX: &str = "condemned/";

/// A pack that is about to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condemned {
    /// The pack.
    pub pack: PackId,
    /// Why: `expired`, or `compacted`.
    pub reason: String,
    /// Who: host and process.
    pub owner: String,
    /// When, by the clock of whoever did it; the store's counts for waiting.
    pub condemned: Timestamp,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct CondemnedWire {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pack: [u8; 16],
    #[n(1)]
    reason: String,
    #[n(2)]
    owner: String,
    #[n(3)]
    condemned_us: i64,
}

/// Condemns a pack. One that is condemned already stays so.
///
/// # Errors
/// An error of a store.
pub async fn condemn(repository: &Repository, condemned: &Condemned) -> Result<(), Error> {
    let wire = to_cbor(&CondemnedWire {
        pack: *condemned.pack.0.as_bytes(),
        reason: condemned.reason.clone(),
        owner: condemned.owner.clone(),
        condemned_us: condemned.condemned.as_microsecond(),
    });
    let key = names::condemned(condemned.pack);
    repository.create(Kind::Condemned, &key, &[&wire]).await?;
    Ok(())
}

/// Every condemned pack, by name alone: what a backup looks at before it refers to packs of others.
///
/// # Errors
/// When no member of the set answers.
pub async fn list(repository: &Repository) -> Result<BTreeSet<PackId>, Error> {
    let listed = repository.list(PREFIX).await?;
    let pack = |meta: &store::ObjectMeta| {
        meta.key.as_str().strip_prefix(PREFIX)?.parse::<Id>().ok().map(PackId)
    };
    Ok(listed.iter().filter_map(pack).collect())
}

/// What condemns a pack.
///
/// # Errors
/// `NotFound` when nothing does; damage; an error of a store.
pub async fn read(repository: &Repository, pack: PackId) -> Result<Condemned, Error> {
    let key = names::condemned(pack);
    let frames = repository.read(Kind::Condemned, &key).await?;
    let frame = frames.first().map(Vec::as_slice).unwrap_or_default();
    decode(frame, pack).map_err(|reason| Error::Damaged {
        store: repository.address(),
        key: key.to_string(),
        reason,
    })
}

fn decode(frame: &[u8], pack: PackId) -> Result<Condemned, String> {
    let wire: CondemnedWire = from_cbor(frame)?;
    if wire.pack != *pack.0.as_bytes() {
        return Err(format!("it condemns pack {}", Id::from_bytes(wire.pack)));
    }
    Ok(Condemned {
        pack,
        reason: wire.reason,
        owner: wire.owner,
        condemned: Timestamp::from_microsecond(wire.condemned_us)
            .map_err(|error| error.to_string())?,
    })
}
