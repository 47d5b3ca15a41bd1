//! Leases, condemned packs, and packs that were compacted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use repository::condemned::{self, Condemned};
use repository::moved::{self, Moved};
use repository::names::{self, PackId};
use repository::pack::PackWriter;
use repository::{Compression, Error, Kind, Repository, lease};
use stdx::{Clock, Id};
use store::testing::{Fault, FaultPlan, Faulty, Operation};
use store::{MemoryStore, Store};

use crate::support::{self, now};
use crate::{damage, samples};

/// A clock that a test sets.
#[derive(Debug)]
struct Hands(Mutex<Timestamp>);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn boottime(&self) -> Duration {
        Duration::ZERO
    }
}

#[tokio::test]
async fn a_lease_lives_from_beat_to_beat_by_the_stores_clock() {
    let clock = Arc::new(Hands(Mutex::new(now())));
    let store: Arc<dyn Store> = Arc::new(MemoryStore::with_clock(Arc::<Hands>::clone(&clock)));
    let repository = support::create(&[store]).await;
    let parent = Some("base".parse().unwrap());
    let ttl = Duration::from_secs(60);
    let mut lease = lease::begin(&repository, "host:1", "next", parent, ttl).await.unwrap();
    assert_eq!((lease.beat, lease.epoch), (1, 1));
    let minute = SignedDuration::from_mins(1);
    let found = lease::list(&repository).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].lease, found[0].expires()), (&lease, now() + minute));
    *clock.0.lock().unwrap() = now() + SignedDuration::from_secs(30);
    for beat in 2..=4 {
        lease::beat(&repository, &mut lease).await.unwrap();
        assert_eq!(lease.beat, beat);
    }
    let found = lease::list(&repository).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].lease, lease);
    assert_eq!(found[0].expires(), now() + SignedDuration::from_secs(90));
    // One object is left: the beats before were removed.
    assert_eq!(repository.list(names::LEASES).await.unwrap().len(), 1);
    lease::end(&repository, &lease).await.unwrap();
    assert!(lease::list(&repository).await.unwrap().is_empty());
}

#[tokio::test]
async fn nobody_beats_twice_under_one_number() {
    let (repository, _) = support::in_memory().await;
    let mut lease =
        lease::begin(&repository, "host:1", "next", None, lease::TTL_DEFAULT).await.unwrap();
    let mut copy = lease.clone();
    lease::beat(&repository, &mut lease).await.unwrap();
    let error = lease::beat(&repository, &mut copy).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    // The next attempt is for the next number.
    lease::beat(&repository, &mut copy).await.unwrap();
    assert_eq!(copy.beat, 3);
}

/// A heartbeat that one of two members did not take: what the other one has must not stand in the
/// way of the next ones.
#[tokio::test]
async fn a_lease_outlives_a_heartbeat_that_failed() {
    // The first put is of the lease itself.
    let put = |plan: FaultPlan, nth, fault| plan.at(Operation::Put, nth, fault);
    let none = || FaultPlan::new(1);
    let once = put(none(), 1, Fault::Before);
    let twice = put(once.clone(), 2, Fault::Before);
    let answer_lost = put(none(), 1, Fault::After).at(Operation::Get, 0, Fault::Before);
    for (plan, failures) in [(once, 1), (twice, 2), (answer_lost, 1)] {
        let stores: [Arc<dyn Store>; 2] =
            [Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new())];
        let healthy = support::create(&stores).await;
        let [first, second] = stores;
        let faulty: Arc<dyn Store> = Arc::new(Faulty::new(second, plan));
        let members = vec![support::member("m0", &first), support::member("m1", &faulty)];
        let repository = Repository::new(members, Arc::clone(healthy.keys()));
        let ttl = lease::TTL_DEFAULT;
        let mut lease = lease::begin(&repository, "host:1", "next", None, ttl).await.unwrap();
        for _ in 0..failures {
            lease::beat(&repository, &mut lease).await.unwrap_err();
        }
        for _ in 0..2 {
            lease::beat(&repository, &mut lease).await.unwrap();
            let found = lease::list(&repository).await.unwrap();
            assert_eq!(
                found.into_iter().map(|found| found.lease).collect::<Vec<_>>(),
                [lease.clone()]
            );
            // What failed was removed as well.
            assert_eq!(repository.list(names::LEASES).await.unwrap().len(), 1);
        }
    }
}

#[tokio::test]
async fn a_condemned_pack_is_listed_by_name() {
    let (repository, _) = support::in_memory().await;
    let packs: BTreeSet<PackId> = (1..4).map(|byte| PackId(Id::from_bytes([byte; 16]))).collect();
    for pack in &packs {
        let sentence = Condemned {
            pack: *pack,
            reason: "expired".into(),
            owner: "host:1".into(),
            condemned: now(),
        };
        condemned::condemn(&repository, &sentence).await.unwrap();
        condemned::condemn(&repository, &sentence).await.unwrap();
        assert_eq!(condemned::read(&repository, *pack).await.unwrap(), sentence);
    }
    assert_eq!(condemned::list(&repository).await.unwrap(), packs);
}

/// Seals the frames of a pack anew into others, `share` of them each, and removes the pack.
async fn compact(repository: &Repository, old: PackId, frames: &Moved, share: usize) -> Moved {
    let mut moved = Moved { pack: old, frames: BTreeMap::new() };
    let places: Vec<_> = frames.frames.iter().collect();
    for places in places.chunks(share) {
        let mut writer = PackWriter::begin(repository, Kind::DataPack).await.unwrap();
        for (number, (pack, at)) in places {
            let mut raw = Vec::new();
            let keep = |_: usize, bytes: &[u8]| {
                raw = bytes.to_vec();
                Ok(())
            };
            repository.read_frames(Kind::DataPack, *pack, &[*at], keep).await.unwrap();
            let next = writer.frame_count();
            let frame = writer.sealer().seal(next, false, &raw, Compression::Lz4);
            let at = writer.append(&frame, Vec::new()).await.unwrap();
            moved.frames.insert(**number, (writer.id(), at));
        }
        writer.finish().await.unwrap();
    }
    moved::publish(repository, &moved).await.unwrap();
    repository.delete(&names::pack(old)).await.unwrap();
    moved
}

#[tokio::test]
async fn frames_are_found_after_two_compactions_and_not_invented() {
    let (repository, _) = support::in_memory().await;
    let samples = samples::write(&repository).await;
    let expected: Vec<Vec<u8>> = (0..4).map(samples::page).collect();
    let here = samples.frames.iter().map(|at| (at.shape.number, (samples.pack, *at)));
    let here = Moved { pack: samples.pack, frames: here.collect() };
    let first = compact(&repository, samples.pack, &here, 3).await;
    let packs: BTreeSet<PackId> = first.frames.values().map(|(pack, _)| *pack).collect();
    assert_eq!(packs.len(), 2);
    for pack in packs {
        let of_pack = first.frames.values().filter(|(of, _)| *of == pack);
        let of_pack = of_pack.map(|(pack, at)| (at.shape.number, (*pack, *at)));
        compact(&repository, pack, &Moved { pack, frames: of_pack.collect() }, 1).await;
    }
    let fresh = Repository::new(repository.members().to_vec(), Arc::clone(repository.keys()));
    // Twice: the second time from what is remembered.
    for _ in 0..2 {
        let mut seen = vec![Vec::new(); 4];
        fresh
            .read_frames(Kind::DataPack, samples.pack, &samples.frames, |at, raw| {
                seen[at] = raw.to_vec();
                Ok(())
            })
            .await
            .unwrap();
        assert_eq!(seen, expected);
    }
    // A frame that was not moved is lost, and says where it should have been.
    let mut unknown = samples.frames[0];
    unknown.shape.number = 77;
    let error = fresh
        .read_frames(Kind::DataPack, samples.pack, &[unknown], |_, _| Ok(()))
        .await
        .unwrap_err();
    assert!(error.to_string().contains(names::moved(samples.pack).as_str()), "{error}");
    let again = moved::publish(&repository, &first).await.unwrap_err();
    assert!(matches!(again, Error::Conflict { .. }), "{again}");
}

#[tokio::test]
async fn packs_that_lead_in_a_circle_are_lost_and_end_the_search() {
    let (repository, store) = support::in_memory().await;
    let samples = samples::write(&repository).await;
    let there = PackId(Id::from_bytes([8; 16]));
    for (from, to) in [(samples.pack, there), (there, samples.pack)] {
        let frames = samples.frames.iter().map(|at| (at.shape.number, (to, *at)));
        let circle = Moved { pack: from, frames: frames.collect() };
        moved::publish(&repository, &circle).await.unwrap();
    }
    store.delete(&names::pack(samples.pack)).await.unwrap();
    let fresh = Repository::new(repository.members().to_vec(), Arc::clone(repository.keys()));
    let error = fresh
        .read_frames(Kind::DataPack, samples.pack, &samples.frames, |_, _| Ok(()))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Store(store::Error::NotFound { .. })), "{error}");
    damage::replace(&store, &names::moved(samples.pack), b"rubbish".to_vec()).await;
    let fresh = Repository::new(repository.members().to_vec(), Arc::clone(repository.keys()));
    let error = fresh
        .read_frames(Kind::DataPack, samples.pack, &samples.frames, |_, _| Ok(()))
        .await
        .unwrap_err();
    assert!(error.to_string().contains(names::moved(samples.pack).as_str()), "{error}");
}
