//! One story: a run from its first record to its end, through everything that a seed brings.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use recovery::journal::{Appended, Entry, Home, HomeError, Loaded, Writer};
use recovery::runner::{Before, Driver, Ended, RunError, drive, take_over};
use recovery::testing::{VirtualClock, World, sample};
use repository::SetKeys;
use repository::seal::Secret;
use stdx::{Clock, Id};
use store::retry::{Retry, RetryPolicy};
use store::{MemoryStore, Store};

use crate::driver::{Listener, Watched};
use crate::judge;
use crate::people::{People, REQUESTER};
use crate::place::{self, Place};
use crate::process::{Fate, Machines, Process, Rates};
use crate::sky::Sky;
use crate::tally::{Kind, Tally};
use crate::witness::Witness;

const RUN: &str = "shop-1126-k7f3";

/// After so many turns of drivers nothing fails any more: the last ones must come to an end.
const TURNS: u32 = 30;

/// The last drivers, one after the other; between them somebody answers what the run asks.
const LAST_DRIVERS_MAX: u32 = 24;

/// A process that is killed lives at most so long, in seconds.
const KILLED_WITHIN_S: u64 = 900;

/// What happened, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// What it came from.
    pub seed: u64,
    /// How it ended.
    pub ended: String,
    /// Drivers that lived.
    pub drivers: u32,
    /// Records of its journal.
    pub records: usize,
    /// What was made to go wrong, and what persons said.
    pub tally: BTreeMap<Kind, u64>,
    /// A digest of who recorded what when: equal stories are equal in everything.
    pub trace: u64,
}

/// Lives through a seed.
///
/// # Errors
/// The seed, the promises that were broken, and in further lines the journal.
pub fn live(seed: u64) -> Result<Story, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(Site::live(seed)).map_err(|why| format!("seed {seed}: {why}"))
}

/// How rough a life is, of a thousand calls or points.
#[derive(Clone, Copy, Debug)]
struct Temper {
    store: u32,
    copy: u32,
    rates: Rates,
}

impl Temper {
    fn of(random: &mut fastrand::Rng) -> Self {
        let rates = Rates {
            deaths: random.u32(..50),
            pauses: random.u32(..16),
            naps: random.u32(..10),
            steps: random.u32(..20),
            ways: random.u32(..300),
        };
        Self { store: random.u32(..350), copy: random.u32(..700), rates }
    }
}

struct Site {
    random: fastrand::Rng,
    place: Place,
    world: World,
    /// The journal's home and its copy, as they are.
    home: Home,
    copy: Arc<dyn Store>,
    machines: Arc<Machines>,
    witness: Witness,
    people: People,
    tally: Tally,
    drivers: u32,
}

impl Site {
    async fn live(seed: u64) -> Result<Story, String> {
        let mut site = Self::of(seed).await?;
        let talk = tokio::spawn(site.people.clone().talk());
        for _ in 0..TURNS {
            if let Some(Ended::Closed { .. }) = site.turn().await {
                break;
            }
        }
        talk.abort();
        let ended = site.last().await?;
        let seen = site.witness.testimony().await?;
        let mut broken = judge::broken(&site.world, &seen, &site.people.said(), &ended);
        broken.extend(site.wrong_copies(&seen.loaded).await);
        if !broken.is_empty() {
            broken.dedup();
            return Err(format!("{}\n{}", broken.join("; "), told(&seen.loaded)));
        }
        let ended = match ended {
            Ended::Closed { verdict, .. } => verdict.text().into(),
            Ended::Waiting(_) => "waiting".into(),
        };
        let (records, trace) = (seen.loaded.records.len(), trace(&seen.loaded));
        let (drivers, tally) = (site.drivers, site.tally.taken());
        Ok(Story { seed, ended, drivers, records, tally, trace })
    }

    async fn of(seed: u64) -> Result<Self, String> {
        let mut random = fastrand::Rng::with_seed(seed);
        let tally = Tally::default();
        let place = Place::of(&mut random)?;
        let world = place.world();
        place::misbehave(&place.plan, &world, &mut random, &tally);
        let keys = SetKeys::encrypted(
            Id::from_bytes([7; 16]),
            &Secret::random(),
            BTreeMap::from([(1, Secret::random())]),
        );
        let memory = || -> Arc<dyn Store> {
            Arc::new(MemoryStore::with_clock(Arc::new(VirtualClock::at(sample::now()))))
        };
        let home = Home { store: memory(), keys: Arc::new(keys), copies: Vec::new() };
        begin(&home, &place).await?;
        let witness = Witness::of(home.clone(), RUN, &world).await?;
        let people = People::new(&home, RUN, &place.plan, &witness, random.u64(..), &tally);
        let (copy, machines) = (memory(), Machines::new());
        Ok(Self { random, place, world, home, copy, machines, witness, people, tally, drivers: 0 })
    }

    /// One driver, or some at once, until all of them have ended.
    async fn turn(&mut self) -> Option<Ended> {
        let count = match self.random.u8(..8) {
            0..=4 => 1,
            5..=6 => 2,
            _ => 3,
        };
        // A driver that is joined by another one may not be declared dead.
        let before = match count == 1 && self.random.bool() {
            true => Before::Dead,
            false => Before::Unknown,
        };
        let mut lives = Vec::new();
        for number in 0..count {
            if number > 0 {
                self.tally.count("process", "is joined by another one");
            }
            lives.push(self.life(before));
        }
        let ended = join_all(lives).await.into_iter().flatten().last();
        if let Some(Ended::Waiting(awaited)) = &ended
            && self.random.u8(..10) < 7
        {
            self.people.answer(awaited).await;
        }
        ended
    }

    /// A driver that everything befalls; `None`: it came to nothing.
    fn life(&mut self, before: Before) -> impl Future<Output = Option<Ended>> + use<> {
        let temper = Temper::of(&mut self.random);
        let late = Duration::from_secs(self.random.u64(..120));
        let killed = (self.random.u8(..6) == 0)
            .then(|| Duration::from_secs(self.random.u64(1..KILLED_WITHIN_S)));
        let tally = self.tally.clone();
        let (driver, fate) = self.driver(Some(temper));
        // Who is declared dead is so with all that it had sent.
        let late = if before == Before::Dead { late + place::ATTEMPT_MAX } else { late };
        async move {
            tokio::time::sleep(late).await;
            let process = Process::new(fate, attempt(driver, before));
            let Some(killed) = killed else { return process.await.ok() };
            match tokio::time::timeout(killed, process).await {
                Ok(ended) => ended.ok(),
                Err(_) => {
                    tally.count("process", "is killed at any time");
                    None
                }
            }
        }
    }

    /// Nothing fails any more, and somebody answers: it must come to an end.
    async fn last(&mut self) -> Result<Ended, String> {
        self.world.silence("pager", false);
        let mut ended = None;
        for _ in 0..LAST_DRIVERS_MAX {
            let (driver, _) = self.driver(None);
            match attempt(driver, Before::Unknown).await {
                Ok(Ended::Waiting(awaited)) => {
                    self.people.answer(&awaited).await;
                    ended = Some(Ended::Waiting(awaited));
                }
                Ok(closed) => return Ok(closed),
                Err(RunError::OtherHost { .. }) => {}
                // Something that was sent before arrives only now.
                Err(RunError::Journal(HomeError::Lost { .. })) => {}
                Err(error) => return Err(format!("the last driver failed: {error}")),
            }
        }
        ended.ok_or_else(|| "the last drivers came to nothing".into())
    }

    /// A driver on a machine of its own: own clock, own way to the stores.
    fn driver(&mut self, temper: Option<Temper>) -> (Driver, Arc<Fate>) {
        self.drivers += 1;
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes);
        let me = Id::from_bytes(bytes);
        let clock = self.machines.start();
        let rates = temper.map(|temper| temper.rates).unwrap_or_default();
        let (own, all) = (Arc::clone(&clock), Arc::clone(&self.machines));
        let seed = self.random.u64(..);
        let fate = Arc::new(Fate::new(seed, rates, own, all, self.tally.clone()));
        let watched = Watched::new(&self.world, &self.witness, me, &fate, &self.tally);
        let driver = Driver {
            effects: Arc::new(watched),
            home: self.way_home(temper, &fate),
            writer: writer(me),
            clock,
            observer: Arc::new(Listener { me, witness: self.witness.clone() }),
            faults: Arc::<Fate>::clone(&fate),
            host: self.place.host(&mut self.random),
            ends_when_waiting: true,
            pause: tokio::sync::watch::channel(false).1,
        };
        (driver, fate)
    }

    /// The stores as a driver reaches them.
    fn way_home(&mut self, temper: Option<Temper>, fate: &Arc<Fate>) -> Home {
        let rates = temper.map_or((0, 0), |temper| (temper.store, temper.copy));
        let mut sky = |inner: &Arc<dyn Store>, place, per_mille| -> Arc<dyn Store> {
            let luck = (self.random.u64(..), per_mille);
            let (fate, tally) = (Arc::clone(fate), self.tally.clone());
            Arc::new(Sky::over(Arc::clone(inner), place, luck, fate, tally))
        };
        let (store, copy) =
            (sky(&self.home.store, "store", rates.0), sky(&self.copy, "copy", rates.1));
        // The pauses are in the sky: they come from the seed there.
        let at_once = RetryPolicy {
            delay_first: Duration::ZERO,
            delay_max: Duration::ZERO,
            ..RetryPolicy::default()
        };
        Home {
            store: Arc::new(Retry::new(store, at_once)),
            keys: Arc::clone(&self.home.keys),
            copies: vec![("copy".into(), copy)],
        }
    }

    /// A copy may lack records; it must not have others.
    async fn wrong_copies(&self, loaded: &Loaded) -> Vec<String> {
        let listed = self.copy.list("", None, usize::MAX).await.unwrap_or_default();
        let ours: BTreeSet<_> = loaded.stored.iter().collect();
        let mut wrong = Vec::new();
        for meta in listed {
            match self.copy.get(&meta.key).await {
                Ok(bytes) if ours.contains(&bytes) => {}
                _ => wrong.push(format!("the copy has a '{}' of its own", meta.key)),
            }
        }
        wrong
    }
}

async fn begin(home: &Home, place: &Place) -> Result<(), String> {
    let clock = VirtualClock::at(sample::now());
    let entry = Entry::Created {
        plan: Box::new(place.plan.clone()),
        requester: REQUESTER.into(),
        incident: "shop-1126".into(),
        alert_at: clock.now(),
        declared_at: clock.now(),
        is_confirmed: true,
        supersedes: None,
        originals: BTreeMap::new(),
    };
    let mut end = Appended::nothing(RUN);
    let appended = home.append(&mut end, &writer(Id::from_bytes([1; 16])), &clock, entry).await;
    appended.map(drop).map_err(|error| error.to_string())
}

fn writer(id: Id) -> Writer {
    Writer { id, epoch: 1, binary: "0.1.0".into(), boot: "boot-1".into() }
}

async fn attempt(mut driver: Driver, before: Before) -> Result<Ended, RunError> {
    let loaded = take_over(&mut driver, RUN, before, REQUESTER, "the driver is gone").await?;
    drive(&driver, &loaded).await.map(|(ended, _)| ended)
}

/// The journal, a record a line: whose, when by the machine's clock, what.
fn told(loaded: &Loaded) -> String {
    let lines = loaded.records.iter().map(|record| {
        let (writer, at) = (record.writer.id.to_string(), record.boottime_ms / 1000);
        let (kind, step) = (record.entry.kind(), record.entry.step().unwrap_or_default());
        format!("{:>4} {} {at:>7} s  {kind} {step}\n", record.sequence, &writer[..4])
    });
    lines.collect()
}

/// Message ids and salts are random everywhere; all else comes from the seed.
fn trace(loaded: &Loaded) -> u64 {
    let mut hasher = DefaultHasher::new();
    for record in &loaded.records {
        (record.writer.epoch, record.writer.id.to_string(), record.boottime_ms).hash(&mut hasher);
        (record.wall.as_millisecond(), record.entry.kind(), record.entry.step()).hash(&mut hasher);
    }
    hasher.finish()
}
