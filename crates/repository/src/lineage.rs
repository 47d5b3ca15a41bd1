//! Lineages: whose history it is, who may write it, where it goes on.

use jiff::Timestamp;
use minicbor::{Decode, Encode};
use pg::{SystemId, TimelineId};
use stdx::Id;
use store::Key;

use crate::error::Error;
use crate::kind::Kind;
use crate::names::{self, LineageId};
use crate::object::{from_cbor, to_cbor};
use crate::set::{Put, Repository};

/// Why a state changed when the writer in force began a new timeline by itself.
pub const PROMOTED_IN_PLACE: &str = "promoted in place";

/// A lineage's first record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// Its id.
    pub id: LineageId,
    /// The cluster's name when it was registered.
    pub cluster: String,
    /// The cluster's system identifier.
    pub system_id: SystemId,
    /// When it was registered.
    pub created: Timestamp,
}

/// A host and data directory that may write into a lineage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// Its id.
    pub id: Id,
    /// The host's name when it was registered.
    pub host: String,
    /// The data directory on that host.
    pub data_directory: String,
    /// Keyed digest of the token the host keeps outside the data directory.
    pub token_digest: [u8; 32],
    /// When it was registered.
    pub created: Timestamp,
}

/// Where a lineage goes on: which timeline is current and who writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Counts from 1; the highest is in force.
    pub number: u32,
    /// The current timeline. WAL and backups of an older one are refused.
    pub timeline: TimelineId,
    /// The writer in force: the production of this lineage.
    pub writer: Id,
    /// Why it changed: `registered`, `taken over`, `adopted`, or [`PROMOTED_IN_PLACE`].
    pub reason: String,
    /// When.
    pub since: Timestamp,
}

/// A timeline id that a restore has taken for its promotion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The timeline id.
    pub timeline: TimelineId,
    /// The timeline it branches from.
    pub parent: TimelineId,
    /// Which restore took it.
    pub owner: Id,
    /// Where that restore lies: host and directory.
    pub place: String,
    /// When.
    pub taken: Timestamp,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct LineageWire {
    #[n(0)]
    cluster: String,
    #[n(1)]
    system_id: u64,
    #[n(2)]
    created_us: i64,
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    id: [u8; 16],
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct WriterWire {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    id: [u8; 16],
    #[n(1)]
    host: String,
    #[n(2)]
    data_directory: String,
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    token_digest: [u8; 32],
    #[n(4)]
    created_us: i64,
    #[n(5)]
    #[cbor(with = "minicbor::bytes")]
    lineage: [u8; 16],
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct StateWire {
    #[n(0)]
    number: u32,
    #[n(1)]
    timeline: u32,
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    writer: [u8; 16],
    #[n(3)]
    reason: String,
    #[n(4)]
    since_us: i64,
    #[n(5)]
    #[cbor(with = "minicbor::bytes")]
    lineage: [u8; 16],
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct ReservationWire {
    #[n(0)]
    timeline: u32,
    #[n(1)]
    parent: u32,
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    owner: [u8; 16],
    #[n(3)]
    place: String,
    #[n(4)]
    taken_us: i64,
    #[n(5)]
    #[cbor(with = "minicbor::bytes")]
    lineage: [u8; 16],
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct BindingWire {
    #[n(0)]
    cluster: String,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    lineage: [u8; 16],
}

/// Registers a lineage and binds the cluster's name to it. A name that is bound to an older lineage
/// (the cluster was created anew) is bound to this one from now on.
///
/// # Errors
/// [`Error::Conflict`] when another process binds the name at the same moment; an error of a store.
pub async fn register(
    repository: &Repository,
    cluster: &str,
    system_id: SystemId,
    now: Timestamp,
) -> Result<Lineage, Error> {
    let id = LineageId(Id::random());
    let lineage = LineageWire {
        cluster: cluster.into(),
        system_id: system_id.get(),
        created_us: now.as_microsecond(),
        id: *id.0.as_bytes(),
    };
    repository.create(Kind::Lineage, &names::lineage(id), &[&to_cbor(&lineage)]).await?;
    let last = repository.last(&names::cluster_prefix(cluster)).await?;
    let number = last.as_ref().and_then(number_of).unwrap_or(0) + 1;
    let key = names::cluster(cluster, number);
    let binding = BindingWire { cluster: cluster.into(), lineage: *id.0.as_bytes() };
    taken(&key, repository.create(Kind::ClusterName, &key, &[&to_cbor(&binding)]).await?)?;
    Ok(Lineage { id, cluster: cluster.into(), system_id, created: now })
}

/// The lineage a cluster's name is bound to.
///
/// # Errors
/// [`Error::NoCluster`]; damage; an error of a store.
pub async fn of_cluster(repository: &Repository, cluster: &str) -> Result<Lineage, Error> {
    let Some(key) = repository.last(&names::cluster_prefix(cluster)).await? else {
        return Err(Error::NoCluster { name: cluster.into(), store: repository.address() });
    };
    let wire: BindingWire = read_one(repository, Kind::ClusterName, &key).await?;
    if wire.cluster != cluster {
        let reason = format!("it binds '{}', expected '{cluster}'", wire.cluster);
        return Err(Error::Damaged { store: repository.address(), key: key.to_string(), reason });
    }
    read(repository, LineageId(Id::from_bytes(wire.lineage))).await
}

/// A lineage's first record.
///
/// # Errors
/// `NotFound`; damage; an error of a store.
pub async fn read(repository: &Repository, id: LineageId) -> Result<Lineage, Error> {
    let key = names::lineage(id);
    let wire: LineageWire = read_one(repository, Kind::Lineage, &key).await?;
    bound(repository, &key, wire.id, id, &key)?;
    Ok(Lineage {
        id,
        cluster: wire.cluster,
        system_id: SystemId::new(wire.system_id),
        created: time(wire.created_us),
    })
}

/// Registers a writer. `token` is kept by the host; the repository keeps its digest.
///
/// # Errors
/// An error of a store.
pub async fn add_writer(
    repository: &Repository,
    lineage: LineageId,
    host: &str,
    data_directory: &str,
    token: &[u8],
    now: Timestamp,
) -> Result<Writer, Error> {
    let writer = Writer {
        id: Id::random(),
        host: host.into(),
        data_directory: data_directory.into(),
        token_digest: *repository.keys().digest(token).as_bytes(),
        created: now,
    };
    let wire = WriterWire {
        id: *writer.id.as_bytes(),
        host: writer.host.clone(),
        data_directory: writer.data_directory.clone(),
        token_digest: writer.token_digest,
        created_us: now.as_microsecond(),
        lineage: *lineage.0.as_bytes(),
    };
    let key = names::writer(lineage, writer.id);
    repository.create(Kind::Writer, &key, &[&to_cbor(&wire)]).await?;
    Ok(writer)
}

/// One registered writer.
///
/// # Errors
/// `NotFound`; damage; an error of a store.
pub async fn read_writer(
    repository: &Repository,
    lineage: LineageId,
    id: Id,
) -> Result<Writer, Error> {
    let key = names::writer(lineage, id);
    let wire: WriterWire = read_one(repository, Kind::Writer, &key).await?;
    let named = names::writer(lineage, Id::from_bytes(wire.id));
    bound(repository, &key, wire.lineage, lineage, &named)?;
    Ok(Writer {
        id: Id::from_bytes(wire.id),
        host: wire.host,
        data_directory: wire.data_directory,
        token_digest: wire.token_digest,
        created: time(wire.created_us),
    })
}

/// The state in force, if the lineage has one yet.
///
/// # Errors
/// Damage; an error of a store.
pub async fn state(repository: &Repository, lineage: LineageId) -> Result<Option<State>, Error> {
    match repository.last(&names::states(lineage)).await? {
        Some(key) => read_state(repository, lineage, &key).await.map(Some),
        None => Ok(None),
    }
}

/// The timeline that was current when the writer of `state` was put in force: it has written that
/// one and, by promotions in place, those up to the state's.
///
/// # Errors
/// Damage; an error of a store.
pub async fn entered_at(
    repository: &Repository,
    lineage: LineageId,
    state: &State,
) -> Result<TimelineId, Error> {
    let mut first = state.clone();
    while first.reason == PROMOTED_IN_PLACE && first.number > 1 {
        let key = names::state(lineage, first.number - 1);
        first = read_state(repository, lineage, &key).await?;
    }
    Ok(first.timeline)
}

async fn read_state(
    repository: &Repository,
    lineage: LineageId,
    key: &Key,
) -> Result<State, Error> {
    let wire: StateWire = read_one(repository, Kind::LineageState, key).await?;
    bound(repository, key, wire.lineage, lineage, &names::state(lineage, wire.number))?;
    Ok(State {
        number: wire.number,
        timeline: TimelineId::new(wire.timeline),
        writer: Id::from_bytes(wire.writer),
        reason: wire.reason,
        since: time(wire.since_us),
    })
}

/// Puts the next state in force.
///
/// # Errors
/// [`Error::Conflict`] when another process did so first: read the state again.
pub async fn advance(
    repository: &Repository,
    lineage: LineageId,
    state: &State,
) -> Result<(), Error> {
    let key = names::state(lineage, state.number);
    let wire = StateWire {
        number: state.number,
        timeline: state.timeline.get(),
        writer: *state.writer.as_bytes(),
        reason: state.reason.clone(),
        since_us: state.since.as_microsecond(),
        lineage: *lineage.0.as_bytes(),
    };
    taken(&key, repository.create(Kind::LineageState, &key, &[&to_cbor(&wire)]).await?)
}

/// Takes a timeline id for a promotion. Of restores that try the same id one gets it.
///
/// # Errors
/// [`Error::Conflict`] when it is taken: try the next one. An error of a store.
pub async fn reserve(
    repository: &Repository,
    lineage: LineageId,
    reservation: &Reservation,
) -> Result<(), Error> {
    let key = names::reservation(lineage, reservation.timeline);
    let wire = ReservationWire {
        timeline: reservation.timeline.get(),
        parent: reservation.parent.get(),
        owner: *reservation.owner.as_bytes(),
        place: reservation.place.clone(),
        taken_us: reservation.taken.as_microsecond(),
        lineage: *lineage.0.as_bytes(),
    };
    taken(&key, repository.create(Kind::TimelineReservation, &key, &[&to_cbor(&wire)]).await?)
}

/// The reservation of a timeline id, if it is taken.
///
/// # Errors
/// Damage; an error of a store.
pub async fn reservation(
    repository: &Repository,
    lineage: LineageId,
    timeline: TimelineId,
) -> Result<Option<Reservation>, Error> {
    let key = names::reservation(lineage, timeline);
    let wire: ReservationWire = match read_one(repository, Kind::TimelineReservation, &key).await {
        Err(Error::Store(store::Error::NotFound { .. })) => return Ok(None),
        other => other?,
    };
    let named = names::reservation(lineage, TimelineId::new(wire.timeline));
    bound(repository, &key, wire.lineage, lineage, &named)?;
    Ok(Some(Reservation {
        timeline: TimelineId::new(wire.timeline),
        parent: TimelineId::new(wire.parent),
        owner: Id::from_bytes(wire.owner),
        place: wire.place,
        taken: time(wire.taken_us),
    }))
}

/// Every timeline id that is taken or has a history in the repository, in ascending order.
///
/// # Errors
/// An error of a store.
pub async fn timelines_taken(
    repository: &Repository,
    lineage: LineageId,
) -> Result<Vec<TimelineId>, Error> {
    let mut found = Vec::new();
    for prefix in [names::reservations(lineage), names::histories(lineage)] {
        let listed = repository.list(&prefix).await?;
        found.extend(listed.iter().filter_map(|meta| number_of(&meta.key)).map(TimelineId::new));
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

async fn read_one<T>(repository: &Repository, kind: Kind, key: &Key) -> Result<T, Error>
where
    T: for<'b> Decode<'b, ()>,
{
    let frames = repository.read(kind, key).await?;
    let frame = frames.first().map(Vec::as_slice).unwrap_or_default();
    from_cbor(frame).map_err(|reason| Error::Damaged {
        store: repository.address(),
        key: key.to_string(),
        reason,
    })
}

/// Proves that a record is the one meant: of this lineage, and under the name that its content
/// makes. Whoever can write to the store could otherwise put one record in the place of another.
fn bound(
    repository: &Repository,
    key: &Key,
    seen: [u8; 16],
    lineage: LineageId,
    named: &Key,
) -> Result<(), Error> {
    let seen = LineageId(Id::from_bytes(seen));
    if seen == lineage && named == key {
        return Ok(());
    }
    let reason = format!("it is of lineage {seen}, or belongs under '{named}'");
    Err(Error::Damaged { store: repository.address(), key: key.to_string(), reason })
}

/// The number a name ends with, in eight hexadecimal digits.
fn number_of(key: &Key) -> Option<u32> {
    let (_, last) = key.as_str().rsplit_once('/')?;
    u32::from_str_radix(last, 16).ok()
}

fn taken(key: &Key, put: Put) -> Result<(), Error> {
    match put {
        Put::New => Ok(()),
        Put::Exists => Err(Error::Conflict {
            key: key.to_string(),
            expected: "a free name".into(),
            seen: "one taken by somebody else".into(),
        }),
    }
}

fn time(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}
