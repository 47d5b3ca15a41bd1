//! Signs of life of a running backup, so that expiry deletes nothing it refers to.
//!
//! Each heartbeat is an object of its own, `lease/<id>/<beat>`; the highest is in force and expires
//! its time to live after it was written, by the *store's* clock. Nothing is ever rewritten.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use minicbor::{Decode, Encode};
use stdx::Id;
use store::Key;

use crate::error::Error;
use crate::kind::Kind;
use crate::names::{self, Label};
use crate::object::{from_cbor, to_cbor};
use crate::set::{Put, Repository};

/// How long a heartbeat holds unless another comes: several times what a slow store needs.
pub const TTL_DEFAULT: Duration = Duration::from_secs(15 * 60);

/// What a running writer says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: Id,
    /// Who: host and process.
    pub owner: String,
    /// What for: the label of the backup that is being made.
    pub purpose: String,
    /// The backup whose packs it may refer to.
    pub parent: Option<Label>,
    /// The key epoch it seals with.
    pub epoch: u32,
    /// How long a heartbeat holds.
    pub ttl: Duration,
    /// Which heartbeat this is, from 1: the last that was tried.
    pub beat: u32,
}

/// A lease as found in the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What its last heartbeat says.
    pub lease: Lease,
    /// When that was written, by the store's clock.
    pub beaten: Timestamp,
}

impl Found {
    /// When it expires, by the store's clock.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        let ttl = SignedDuration::try_from(self.lease.ttl).unwrap_or(SignedDuration::MAX);
        self.beaten.checked_add(ttl).unwrap_or(Timestamp::MAX)
    }
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct LeaseWire {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    id: [u8; 16],
    #[n(1)]
    owner: String,
    #[n(2)]
    purpose: String,
    #[n(3)]
    parent: Option<String>,
    #[n(4)]
    epoch: u32,
    #[n(5)]
    ttl_s: u64,
    #[n(6)]
    beat: u32,
}

/// Begins a lease; from here on it protects.
///
/// # Errors
/// An error of a store: there is no protection then.
pub async fn begin(
    repository: &Repository,
    owner: &str,
    purpose: &str,
    parent: Option<Label>,
    ttl: Duration,
) -> Result<Lease, Error> {
    let lease = Lease {
        id: Id::random(),
        owner: owner.into(),
        purpose: purpose.into(),
        parent,
        epoch: repository.keys().current_epoch(),
        ttl,
        beat: 1,
    };
    put(repository, &lease).await?;
    Ok(lease)
}

/// Prolongs a lease: call it at least three times per time to live.
///
/// Each attempt takes the next number, also after one that failed: that one may have reached some
/// members, and no two heartbeats have the same bytes.
///
/// # Errors
/// [`Error::Conflict`] when there is a heartbeat of that number: the answer to an attempt was lost,
/// or somebody else beats under its id; an error of a store. Try again until the last heartbeat
/// that succeeded has expired; after that the backup must be given up.
pub async fn beat(repository: &Repository, lease: &mut Lease) -> Result<(), Error> {
    lease.beat = lease.beat.saturating_add(1);
    put(repository, lease).await?;
    // What stays behind only costs space: the highest number counts.
    if let Err(error) = remove_before(repository, lease).await {
        tracing::debug!(%error, "old heartbeats stay behind");
    }
    Ok(())
}

/// Removes the heartbeats before the last one.
async fn remove_before(repository: &Repository, lease: &Lease) -> Result<(), Error> {
    for meta in repository.list(&format!("{}{}/", names::LEASES, lease.id)).await? {
        if parse(&meta.key).is_some_and(|(_, beat)| beat < lease.beat) {
            repository.delete(&meta.key).await?;
        }
    }
    Ok(())
}

/// Ends a lease: removes all of its heartbeats.
///
/// # Errors
/// An error of a store; what stays expires by itself.
pub async fn end(repository: &Repository, lease: &Lease) -> Result<(), Error> {
    for meta in repository.list(&format!("{}{}/", names::LEASES, lease.id)).await? {
        repository.delete(&meta.key).await?;
    }
    Ok(())
}

/// Every lease in the repository, expired or not, by id.
///
/// # Errors
/// Damage: what a lease protects is unknown then, so nothing may be deleted; an error of a store.
pub async fn list(repository: &Repository) -> Result<Vec<Found>, Error> {
    let mut last: BTreeMap<Id, (u32, Timestamp, Key)> = BTreeMap::new();
    for meta in repository.list(names::LEASES).await? {
        if let Some((id, beat)) = parse(&meta.key) {
            let known = last.get(&id).is_some_and(|(known, ..)| *known > beat);
            if !known {
                last.insert(id, (beat, meta.modified, meta.key));
            }
        }
    }
    let mut found = Vec::with_capacity(last.len());
    for (_, (_, beaten, key)) in last {
        match read(repository, &key).await {
            Ok(lease) => found.push(Found { lease, beaten }),
            // Ended, or beaten again, between the two requests: then it is found next time, and
            // whoever deletes looks twice.
            Err(Error::Store(store::Error::NotFound { .. })) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

async fn put(repository: &Repository, lease: &Lease) -> Result<(), Error> {
    let key = names::lease(lease.id, lease.beat);
    let wire = to_cbor(&LeaseWire {
        id: *lease.id.as_bytes(),
        owner: lease.owner.clone(),
        purpose: lease.purpose.clone(),
        parent: lease.parent.as_ref().map(ToString::to_string),
        epoch: lease.epoch,
        ttl_s: lease.ttl.as_secs(),
        beat: lease.beat,
    });
    match repository.create(Kind::Lease, &key, &[&wire]).await? {
        Put::New => Ok(()),
        Put::Exists => Err(Error::Conflict {
            key: key.to_string(),
            expected: "a free name".into(),
            seen: "a heartbeat".into(),
        }),
    }
}

async fn read(repository: &Repository, key: &Key) -> Result<Lease, Error> {
    let frames = repository.read(Kind::Lease, key).await?;
    let frame = frames.first().map(Vec::as_slice).unwrap_or_default();
    decode(frame, key).map_err(|reason| Error::Damaged {
        store: repository.address(),
        key: key.to_string(),
        reason,
    })
}

fn decode(frame: &[u8], key: &Key) -> Result<Lease, String> {
    let wire: LeaseWire = from_cbor(frame)?;
    let id = Id::from_bytes(wire.id);
    if names::lease(id, wire.beat) != *key {
        return Err(format!("it is heartbeat {} of lease {id}", wire.beat));
    }
    let parent = wire.parent.as_deref().map(str::parse::<Label>).transpose();
    Ok(Lease {
        id,
        owner: wire.owner,
        purpose: wire.purpose,
        parent: parent.map_err(|error| error.to_string())?,
        epoch: wire.epoch,
        ttl: Duration::from_secs(wire.ttl_s),
        beat: wire.beat,
    })
}

fn parse(key: &Key) -> Option<(Id, u32)> {
    let (id, beat) = key.as_str().strip_prefix(names::LEASES)?.split_once('/')?;
    Some((id.parse().ok()?, u32::from_str_radix(beat, 16).ok()?))
}
