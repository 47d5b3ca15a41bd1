//! No key seals two frames under one nonce: over runs with failures, retries and resumes.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use pg::{SegmentSize, SystemId, TimelineId, WalSegment};
use proptest::prelude::*;
use repository::header::{HEADER_LEN, Header};
use repository::lineage::Lineage;
use repository::object::{OpenObject, TailError};
use repository::pack::PackWriter;
use repository::wal_object::{self, WalFile};
use repository::{Compression, Kind, Repository, SetKeys, lease, piece, unlock};
use store::testing::{Fault, FaultPlan, Faulty, OperationSet};
use store::{Created, Error, Key, MemoryStore, ObjectMeta, Store, Upload};

use crate::support::{self, key_file, member, now};

/// Keeps the bytes of every attempt to write, whatever comes of it.
#[derive(Debug, Clone)]
struct Recorder {
    inner: Arc<dyn Store>,
    attempts: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    fn note(&self, bytes: &[u8]) -> usize {
        let mut attempts = self.attempts.lock().unwrap();
        attempts.push(bytes.to_vec());
        attempts.len() - 1
    }
}

#[async_trait]
impl Store for Recorder {
    fn address(&self) -> &str {
        self.inner.address()
    }

    async fn get(&self, key: &Key) -> Result<Bytes, Error> {
        self.inner.get(key).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, Error> {
        self.inner.get_range(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, Error> {
        self.inner.head(key).await
    }

    async fn put_if_absent(&self, key: &Key, parts: Vec<Bytes>) -> Result<Created, Error> {
        self.note(&parts.concat());
        self.inner.put_if_absent(key, parts).await
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>, Error> {
        let inner = self.inner.upload(key).await?;
        let attempt = self.note(&[]);
        Ok(Box::new(Recording { inner, attempts: Arc::clone(&self.attempts), attempt }))
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Error> {
        self.inner.list(prefix, after, limit).await
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        self.inner.delete(key).await
    }
}

#[derive(Debug)]
struct Recording {
    inner: Box<dyn Upload>,
    attempts: Arc<Mutex<Vec<Vec<u8>>>>,
    attempt: usize,
}

#[async_trait]
impl Upload for Recording {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.attempts.lock().unwrap()[self.attempt].extend_from_slice(&bytes);
        self.inner.write(bytes).await
    }

    async fn finish(self: Box<Self>) -> Result<(), Error> {
        self.inner.finish().await
    }

    async fn abort(self: Box<Self>) -> Result<(), Error> {
        self.inner.abort().await
    }
}

/// What one attempt sealed: under which key, and which frames with which bytes.
type Sealed = ((u32, [u8; 32], Kind), BTreeMap<u64, Vec<u8>>);

/// Reads an attempt as far as it came. That each frame opens under its own number proves that none
/// was sealed under another's.
fn frames(keys: &SetKeys, attempt: &[u8]) -> Option<Sealed> {
    let header = Header::decode(attempt).ok()?;
    let object = OpenObject::new(keys, header.kind, attempt).unwrap();
    let mut frames = BTreeMap::new();
    match object.frames(attempt, attempt.len() as u64) {
        Ok(places) => {
            for place in &places {
                let begin = usize::try_from(place.at.offset).unwrap();
                let sealed = &attempt[begin..begin + place.at.sealed_len as usize];
                object.open_frame(place.at.shape, sealed).unwrap();
                frames.insert(place.at.shape.number, sealed.to_vec());
            }
            let index = places.last().map_or(HEADER_LEN, |last| {
                usize::try_from(last.at.offset).unwrap() + last.at.sealed_len as usize
            });
            frames.insert(places.len() as u64, attempt[index..].to_vec());
        }
        // Given up in the middle: everything behind the header stands for its frames.
        Err(TailError::Short(_) | TailError::Object(_)) => {
            frames.insert(0, attempt[HEADER_LEN..].to_vec());
        }
    }
    Some(((header.epoch, header.salt, header.kind), frames))
}

#[derive(Clone, Debug)]
enum Step {
    Segment { number: u64, fill: u8, threads: usize },
    Piece { start: u32, fill: u8 },
    Pack { frames: u64, give_up: bool },
    Lease,
    Register,
    Rotate,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u64, 0..2_u8, 1..4_usize)
            .prop_map(|(number, fill, threads)| Step::Segment { number, fill, threads }),
        2 => (0..4_u32, 0..2_u8).prop_map(|(start, fill)| Step::Piece { start, fill }),
        3 => (0..6_u64, any::<bool>()).prop_map(|(frames, give_up)| Step::Pack { frames, give_up }),
        1 => Just(Step::Lease),
        1 => Just(Step::Register),
        1 => Just(Step::Rotate),
    ]
}

/// Performs one step once. What fails is tried again by the caller, as a person or PostgreSQL
/// would.
async fn perform(
    repository: &Repository,
    shop: &Lineage,
    step: &Step,
) -> Result<(), repository::Error> {
    let provenance = support::provenance(shop.id, shop.system_id);
    let size = SegmentSize::DEFAULT;
    let segment = |number| WalSegment { timeline: TimelineId::FIRST, number };
    match step {
        Step::Segment { number, fill, threads } => {
            let content = Bytes::from(vec![*fill; 400_000]);
            let file = WalFile::Segment(segment(*number), size);
            let how = Compression::Lz4;
            wal_object::put(repository, &file, &content, provenance, how, *threads).await?;
        }
        Step::Piece { start, fill } => {
            let content = Bytes::from(vec![*fill; 200_000]);
            match piece::put(repository, segment(9), size, *start, &content, provenance).await {
                Err(repository::Error::Conflict { .. }) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        Step::Pack { frames, give_up } => {
            let mut pack = PackWriter::begin(repository, Kind::DataPack).await?;
            for number in 0..*frames {
                let raw = vec![u8::try_from(number).unwrap(); 3000];
                let frame = pack.sealer().seal(number, false, &raw, Compression::None);
                pack.append(&frame, Vec::new()).await?;
            }
            if *give_up {
                pack.abort().await?;
            } else {
                pack.finish().await?;
            }
        }
        Step::Lease => {
            let ttl = Duration::from_secs(60);
            let mut lease = lease::begin(repository, "host:1", "x", None, ttl).await?;
            lease::beat(repository, &mut lease).await?;
        }
        Step::Register => {
            let id = SystemId::new(8);
            repository::lineage::register(repository, "other", id, Timestamp::UNIX_EPOCH).await?;
        }
        Step::Rotate => {}
    }
    Ok(())
}

async fn run(seed: u64, steps: &[Step]) {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let calm = support::create(&[Arc::clone(&memory)]).await;
    let shop = support::lineage(&calm, SystemId::new(7)).await;
    let plan = FaultPlan::new(seed)
        .random(150, Fault::Before)
        .random(150, Fault::After)
        .striking(OperationSet::All);
    let faulty = Faulty::new(memory, plan);
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let store: Arc<dyn Store> =
        Arc::new(Recorder { inner: Arc::new(faulty.clone()), attempts: Arc::clone(&attempts) });
    let members = vec![member("m", &store)];
    let mut repository = Repository::new(members, Arc::clone(calm.keys()));
    for step in steps {
        if matches!(step, Step::Rotate) {
            // On the store without faults, and with a new process, so to speak.
            unlock::add_epoch(calm.members(), &key_file(1), now()).await.unwrap();
            let opened = unlock::open(calm.members().to_vec(), Some(&key_file(1))).await.unwrap();
            repository = Repository::new(vec![member("m", &store)], Arc::clone(opened.keys()));
        }
        let mut tries = 0;
        while perform(&repository, &shop, step).await.is_err() {
            tries += 1;
            assert!(tries < 100, "{step:?} never succeeds");
        }
    }
    check(repository.keys(), &attempts.lock().unwrap());
}

/// No two attempts share a key unless they have the same bytes.
fn check(keys: &SetKeys, attempts: &[Vec<u8>]) {
    let mut seen: HashMap<_, BTreeMap<u64, Vec<u8>>> = HashMap::new();
    for attempt in attempts {
        let Some((key, frames)) = frames(keys, attempt) else { continue };
        let sealed = seen.entry(key).or_default();
        for (number, bytes) in frames {
            let before = sealed.entry(number).or_insert_with(|| bytes.clone());
            assert!(*before == bytes, "two frames under {key:?}, number {number}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_key_and_nonce_come_twice(
        seed: u64,
        steps in proptest::collection::vec(step(), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(seed, &steps));
    }
}

#[test]
#[should_panic(expected = "two frames under")]
fn the_check_sees_a_key_that_is_used_twice() {
    let keys = SetKeys::plain(stdx::Id::from_bytes([1; 16]));
    let mut one = repository::object::ObjectWriter::new(&keys, Kind::Lease);
    let first = one.sealer().seal(0, false, b"one", Compression::None);
    let second = one.sealer().seal(0, false, b"two", Compression::None);
    let object = |frame: &repository::seal::SealedFrame| {
        [one.header(Some(frame)).as_ref(), frame.bytes.as_slice()].concat()
    };
    let attempts = [object(&first), object(&second)];
    one.push(&first, Vec::new());
    check(&keys, &attempts);
}
