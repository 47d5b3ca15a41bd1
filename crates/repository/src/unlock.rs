//! Creating and opening repositories: descriptor, key slots, wrapped data keys.
//!
//! A slot wraps the set's one root key under a secret that somebody or some machine holds; the root
//! key wraps one data key per epoch. Opening runs at most one slot's derivation: for a key file and
//! a recovery code that is a hash, for a passphrase Argon2id.

mod descriptor;
mod method;
mod wire;
mod wrap;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use jiff::Timestamp;
use stdx::Id;
use store::{Key, Store};

use crate::error::Error;
use crate::keys::SetKeys;
use crate::kind::Kind;
use crate::names;
use crate::object::{from_cbor, open_object, to_cbor};
use crate::seal::Secret;
use crate::set::{Member, Put, Repository, explain};
pub use descriptor::{Descriptor, describe, describe_set};
pub use method::{ARGON2_DEFAULT, ArgonCost, Method, Unlock};
use wire::{DescriptorWire, EpochWire, SlotWire};
use wrap::{
    epoch_binding, epoch_wrapping, seal_epoch, slot_binding, slot_wrapping, unwrap_key, wrap_key,
};

/// A slot as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotInfo {
    /// Its id.
    pub id: Id,
    /// How it is opened.
    pub method: Method,
    /// What its maker called it.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
}

/// What a new repository is made with.
#[derive(Debug)]
pub struct NewRepository<'a> {
    /// The first slots: name and secret. Empty means: without encryption.
    pub slots: &'a [(String, Unlock)],
    /// Declared to have one writer only.
    pub single_writer: bool,
    /// Now.
    pub created: Timestamp,
}

/// A fresh set's secrets, to create its members with.
#[derive(Debug)]
pub struct NewSet {
    set: Id,
    root: Option<Secret>,
    data: Option<Secret>,
    /// The first data key as it is stored: the same bytes in every member.
    epoch: OnceLock<Vec<Bytes>>,
}

impl NewSet {
    /// Draws the set id and, when encrypted, root and first data key.
    #[must_use]
    pub fn draw(encrypted: bool) -> Self {
        let secret = || encrypted.then(Secret::random);
        Self { set: Id::random(), root: secret(), data: secret(), epoch: OnceLock::new() }
    }

    /// The set's id.
    #[must_use]
    pub fn id(&self) -> Id {
        self.set
    }

    /// The keys, open.
    #[must_use]
    pub fn keys(&self) -> SetKeys {
        match (&self.root, &self.data) {
            (Some(root), Some(data)) => {
                SetKeys::encrypted(self.set, root, BTreeMap::from([(1, data.clone())]))
            }
            _ => SetKeys::plain(self.set),
        }
    }

    /// Writes a member of this set: slots and data key first, the descriptor last, so that an
    /// interrupted creation leaves nothing that looks like a repository.
    ///
    /// # Errors
    /// [`Error::RepositoryExists`] when there is one; or an error of the store.
    pub async fn create_member(
        &self,
        store: &Arc<dyn Store>,
        new: &NewRepository<'_>,
    ) -> Result<(), Error> {
        self.must_be_free(store).await?;
        let clear = clear_repository(store, self.set);
        if let (Some(root), Some(data)) = (&self.root, &self.data) {
            for (name, unlock) in new.slots {
                put_slot(&clear, root, name, unlock, new.created).await?;
            }
            let object = self.epoch.get_or_init(|| seal_epoch(&clear, root, 1, data, new.created));
            let key = names::epoch(1);
            if clear.create_sealed(&key, object.clone()).await? == Put::Exists {
                return Err(left_over(&key));
            }
        }
        let wire = DescriptorWire {
            member: *Id::random().as_bytes(),
            encryption: u8::from(self.root.is_some()),
            single_writer: new.single_writer,
            created_us: new.created.as_microsecond(),
        };
        match clear.create(Kind::Descriptor, &names::descriptor(), &[&to_cbor(&wire)]).await? {
            Put::New => Ok(()),
            Put::Exists => {
                let set = describe(store).await?.set.to_string();
                Err(Error::RepositoryExists { store: store.address().into(), set })
            }
        }
    }

    /// Refuses a place that has a repository.
    async fn must_be_free(&self, store: &Arc<dyn Store>) -> Result<(), Error> {
        match describe(store).await {
            Ok(there) => Err(Error::RepositoryExists {
                store: store.address().into(),
                set: there.set.to_string(),
            }),
            Err(Error::NoRepository { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Opens a set: every member must be of one set, and `unlock` must open a slot of one of them.
///
/// # Errors
/// As [`describe_set`]; [`Error::NoSlotOpens`]; or an error of a store.
/// A member that does not answer fails the opening; callers who can do without leave it out.
pub async fn open(members: Vec<Member>, unlock: Option<&Unlock>) -> Result<Repository, Error> {
    let descriptor = describe_set(&members, unlock.is_some()).await?;
    if !descriptor.encrypted {
        return Ok(Repository::new(members, Arc::new(SetKeys::plain(descriptor.set))));
    }
    let mut failed = None;
    for member in &members {
        match open_keys(&member.store, descriptor.set, unlock).await {
            Ok((_, keys)) => return Ok(Repository::new(members, Arc::new(keys))),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Err(failed.unwrap_or_else(|| Error::NoRepository { store: String::new() }))
}

/// Lists the slots of one member.
///
/// # Errors
/// An error of the store, or a damaged slot.
pub async fn slots(store: &Arc<dyn Store>) -> Result<Vec<SlotInfo>, Error> {
    let mut found = Vec::new();
    for (key, wire) in slot_wires(store).await? {
        let id = key.as_str().strip_prefix(names::SLOTS).and_then(|id| id.parse().ok());
        let method = Method::from_byte(wire.method);
        if let (Some(id), Some(method)) = (id, method) {
            found.push(SlotInfo { id, method, name: wire.name, created: time(wire.created_us) });
        }
    }
    Ok(found)
}

/// Adds a slot to one member. `present` opens an existing one.
///
/// # Errors
/// As [`describe_set`], [`Error::NoSlotOpens`], or an error of the store.
pub async fn add_slot(
    store: &Arc<dyn Store>,
    present: &Unlock,
    name: &str,
    added: &Unlock,
    created: Timestamp,
) -> Result<Id, Error> {
    let set = describe_set(&[nameless(store)], true).await?.set;
    let root = open_root(store, set, Some(present)).await?;
    let clear = clear_repository(store, set);
    put_slot(&clear, &root, name, added, created).await
}

/// Adds an epoch with a fresh data key, which seals everything from then on, to every member.
/// Opens one slot and rewrites nothing. Epochs that one member has and another lacks, because an
/// earlier call was interrupted, are copied first.
///
/// # Errors
/// As [`describe_set`], before anything is written; [`Error::NoSlotOpens`]; [`Error::Conflict`]
/// when another process added one at the same moment; an error of a store. Calling it again
/// completes what was begun.
pub async fn add_epoch(
    members: &[Member],
    unlock: &Unlock,
    created: Timestamp,
) -> Result<u32, Error> {
    let first = members.first().ok_or_else(|| Error::NoRepository { store: String::new() })?;
    let set = describe_set(members, true).await?.set;
    share_epochs(members, set).await?;
    let (root, keys) = open_keys(&first.store, set, Some(unlock)).await?;
    let epoch = keys.current_epoch() + 1;
    // The first member alone decides between two processes. Written to all at once, each could win
    // in one member, and one epoch would mean two keys.
    let clear = clear_repository(&first.store, set);
    let key = names::epoch(epoch);
    let object = seal_epoch(&clear, &root, epoch, &Secret::random(), created);
    if clear.create_sealed(&key, object).await? == Put::Exists {
        return Err(epoch_conflict(&key));
    }
    share_epochs(members, set).await?;
    Ok(epoch)
}

/// Makes every member have every data key that one of them has, byte for byte.
async fn share_epochs(members: &[Member], set: Id) -> Result<(), Error> {
    let mut known: BTreeMap<Key, Bytes> = BTreeMap::new();
    for member in members {
        for (key, bytes) in epoch_objects(&member.store).await? {
            if known.insert(key.clone(), bytes.clone()).is_some_and(|before| before != bytes) {
                return Err(epoch_conflict(&key));
            }
        }
    }
    for member in members {
        let clear = clear_repository(&member.store, set);
        for (key, bytes) in &known {
            if clear.create_sealed(key, vec![bytes.clone()]).await? == Put::Exists {
                return Err(epoch_conflict(key));
            }
        }
    }
    Ok(())
}

/// A data key without a descriptor: nothing that is made around it could be opened.
fn left_over(key: &Key) -> Error {
    let expected = "an empty place".to_owned();
    let seen = "the rest of a creation that was interrupted: remove it".to_owned();
    Error::Conflict { key: key.to_string(), expected, seen }
}

fn epoch_conflict(key: &Key) -> Error {
    let expected = "the same data key in every member".to_owned();
    Error::Conflict { key: key.to_string(), expected, seen: "two".into() }
}

/// Makes `store` a member of an existing set with slots of its own; `present` opens the set.
///
/// # Errors
/// As [`describe_set`], [`Error::RepositoryExists`], [`Error::NoSlotOpens`], or an error of a
/// store.
pub async fn join_member(
    existing: &Arc<dyn Store>,
    present: Option<&Unlock>,
    store: &Arc<dyn Store>,
    new: &NewRepository<'_>,
) -> Result<(), Error> {
    let has_key = present.is_some() || !new.slots.is_empty();
    let descriptor = describe_set(&[nameless(existing)], has_key).await?;
    let set = descriptor.set;
    if !descriptor.encrypted {
        let plain = NewSet { set, root: None, data: None, epoch: OnceLock::new() };
        return plain.create_member(store, new).await;
    }
    let (root, keys) = open_keys(existing, set, present).await?;
    let joined = NewSet { set, root: Some(root), data: keys.epoch(1), epoch: OnceLock::new() };
    joined.must_be_free(store).await?;
    let clear = clear_repository(store, set);
    for (key, bytes) in epoch_objects(existing).await? {
        let parts = vec![bytes];
        if key == names::epoch(1) {
            // `create_member` writes it, byte for byte.
            joined.epoch.get_or_init(|| parts);
        } else if clear.create_sealed(&key, parts).await? == Put::Exists {
            return Err(left_over(&key));
        }
    }
    joined.create_member(store, new).await
}

fn clear_repository(store: &Arc<dyn Store>, set: Id) -> Repository {
    Repository::new(vec![nameless(store)], Arc::new(SetKeys::plain(set)))
}

/// A member whose name nobody will see.
fn nameless(store: &Arc<dyn Store>) -> Member {
    Member { name: String::new(), store: Arc::clone(store) }
}

async fn open_keys(
    store: &Arc<dyn Store>,
    set: Id,
    unlock: Option<&Unlock>,
) -> Result<(Secret, SetKeys), Error> {
    let root = open_root(store, set, unlock).await?;
    let mut epochs = BTreeMap::new();
    for (key, bytes) in epoch_objects(store).await? {
        let (_, frame) = clear_frame(store, Kind::KeyEpoch, &key, &bytes)?;
        let wire: EpochWire = from_cbor(&frame).map_err(|why| damaged(store, &key, why))?;
        let wrapping = epoch_wrapping(&root, set, &wire.salt);
        let data = unwrap_key(&wrapping, &epoch_binding(set, wire.epoch), &wire.wrapped)
            .ok_or_else(|| damaged(store, &key, "it does not authenticate".into()))?;
        if names::epoch(wire.epoch) != key || wire.epoch == 0 {
            return Err(damaged(store, &key, format!("it holds epoch {}", wire.epoch)));
        }
        epochs.insert(wire.epoch, data);
    }
    if epochs.is_empty() {
        return Err(Error::NoRepository { store: store.address().into() });
    }
    let keys = SetKeys::encrypted(set, &root, epochs);
    Ok((root, keys))
}

async fn open_root(
    store: &Arc<dyn Store>,
    set: Id,
    unlock: Option<&Unlock>,
) -> Result<Secret, Error> {
    let no_slot = |secret: String| Error::NoSlotOpens { store: store.address().into(), secret };
    let unlock = unlock.ok_or_else(|| no_slot("no key at all".into()))?;
    for (key, wire) in slot_wires(store).await? {
        if Method::from_byte(wire.method) != Some(unlock.method()) {
            continue;
        }
        let Some(wrapping) = slot_wrapping(unlock, set, &wire.salt, wire.argon) else { continue };
        if let Some(root) =
            unwrap_key(&wrapping, &slot_binding(set, &key, wire.method), &wire.wrapped)
        {
            return Ok(root);
        }
    }
    Err(no_slot(unlock.describe()))
}

async fn slot_wires(store: &Arc<dyn Store>) -> Result<Vec<(Key, SlotWire)>, Error> {
    let mut wires = Vec::new();
    for meta in store.list(names::SLOTS, None, 1000).await? {
        let bytes = store.get(&meta.key).await?;
        let (_, frame) = clear_frame(store, Kind::KeySlot, &meta.key, &bytes)?;
        let wire = from_cbor(&frame).map_err(|why| damaged(store, &meta.key, why))?;
        wires.push((meta.key, wire));
    }
    Ok(wires)
}

async fn epoch_objects(store: &Arc<dyn Store>) -> Result<Vec<(Key, Bytes)>, Error> {
    let mut objects = Vec::new();
    for meta in store.list(names::EPOCHS, None, 1000).await? {
        let bytes = store.get(&meta.key).await?;
        objects.push((meta.key, bytes));
    }
    Ok(objects)
}

async fn put_slot(
    clear: &Repository,
    root: &Secret,
    name: &str,
    unlock: &Unlock,
    created: Timestamp,
) -> Result<Id, Error> {
    let (id, set) = (Id::random(), clear.keys().set());
    let key = names::slot(id);
    let mut salt = [0; 32];
    stdx::id::fill_random(&mut salt);
    let argon = matches!(unlock, Unlock::Passphrase(_)).then_some(ARGON2_DEFAULT);
    let wrapping = slot_wrapping(unlock, set, &salt, argon)
        .ok_or(Error::Limit { what: "an Argon2id cost", reason: format!("{argon:?}") })?;
    let method = unlock.method() as u8;
    let wire = SlotWire {
        method,
        name: name.into(),
        created_us: created.as_microsecond(),
        salt,
        argon,
        wrapped: wrap_key(&wrapping, &slot_binding(set, &key, method), root),
    };
    clear.create(Kind::KeySlot, &key, &[&to_cbor(&wire)]).await?;
    Ok(id)
}

/// The only frame of an object that is always in the clear.
fn clear_frame(
    store: &Arc<dyn Store>,
    kind: Kind,
    key: &Key,
    bytes: &[u8],
) -> Result<(Id, Vec<u8>), Error> {
    let named = |set, error| explain(store.address(), set, key, error);
    let header = crate::header::Header::decode(bytes)
        .map_err(|error| named(Id::from_bytes([0; 16]), error.into()))?;
    let keys = SetKeys::plain(header.set);
    let frames = open_object(&keys, kind, bytes).map_err(|error| named(header.set, error))?;
    let frame = frames.into_iter().next();
    Ok((header.set, frame.ok_or_else(|| damaged(store, key, "it holds no frame".into()))?))
}

fn damaged(store: &Arc<dyn Store>, key: &Key, reason: String) -> Error {
    Error::Damaged { store: store.address().into(), key: key.to_string(), reason }
}

fn time(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}
