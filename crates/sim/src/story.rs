//! One story: a run from its first record to its end, through everything that a seed brings.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use recovery::journal::{Appended, Entry, Home, Writer};
use recovery::plan::{Mode, Plan};
use recovery::runner::{Before, Driver, Ended, Faults, NoFaults, RunError, drive, take_over};
use recovery::service::{OnFailure, Policy};
use recovery::testing::{Misbehaviour, VirtualClock, World, sample};
use repository::SetKeys;
use repository::seal::Secret;
use stdx::{Clock, Id};
use store::retry::{Retry, RetryPolicy};
use store::testing::{Fault, FaultPlan, Faulty};
use store::{MemoryStore, Store};

use crate::driver::{Breaches, Misfortune, Silent, Watched};
use crate::judge;

const RUN: &str = "shop-1126-k7f3";

/// After so many drivers nothing fails any more: the last one must come to an end.
const LIVES: u32 = 12;

/// What happened, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// What it came from.
    pub seed: u64,
    /// How it ended.
    pub ended: String,
    /// Drivers that lived.
    pub drivers: u32,
    /// Drivers that died, lost the lease, or lost the store.
    pub failures: u32,
    /// Steps that were told to misbehave.
    pub misbehaviours: u32,
}

/// Lives through a seed.
///
/// # Errors
/// The promises that were broken, with the seed.
pub fn live(seed: u64) -> Result<Story, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(Site::of(seed)?.live()).map_err(|why| format!("seed {seed}: {why}"))
}

struct Site {
    random: fastrand::Rng,
    plan: Plan,
    world: World,
    keys: Arc<SetKeys>,
    breaches: Breaches,
    story: Story,
}

impl Site {
    fn of(seed: u64) -> Result<Self, String> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut service = sample::shop();
        if random.u8(..4) == 0 {
            service.door = None;
        }
        if random.bool() {
            let on_failure = OnFailure::ReopenOld;
            service.policy = Policy { on_failure, ..Policy::default() };
        }
        let mode = match random.u8(..6) {
            0 => Mode::Drill,
            1 => Mode::Copy,
            _ => Mode::Incident,
        };
        let plan = sample::plan(&service, mode, &sample::inventory());
        let plan = plan.map_err(|error| error.to_string())?;
        let world = World::new(plan.mode == Mode::Incident, plan.has_door);
        let keys = SetKeys::encrypted(
            Id::from_bytes([7; 16]),
            &Secret::random(),
            BTreeMap::from([(1, Secret::random())]),
        );
        let story = Story { seed, ended: String::new(), drivers: 0, failures: 0, misbehaviours: 0 };
        let keys = Arc::new(keys);
        Ok(Self { random, plan, world, keys, breaches: Breaches::default(), story })
    }

    /// Some steps misbehave, most of them in ways that pass.
    fn misbehave(&mut self) {
        use Misbehaviour as M;
        const PASSING: [M; 8] = [
            M::FailBefore,
            M::LoseAnswer,
            M::LoseRequest,
            M::Twice,
            M::Half,
            M::Hang,
            M::UndoFails,
            M::ProbeFails,
        ];
        for _ in 0..self.random.usize(..5) {
            let step = &self.plan.steps[self.random.usize(..self.plan.steps.len())];
            let how = match self.random.u8(..8) {
                0 => M::FailForGood,
                1 => M::BadData,
                _ => PASSING[self.random.usize(..PASSING.len())],
            };
            self.world.script(step.id.as_str(), &[how]);
            self.story.misbehaviours += 1;
        }
    }

    async fn live(mut self) -> Result<Story, String> {
        self.misbehave();
        let store: Arc<dyn Store> =
            Arc::new(MemoryStore::with_clock(Arc::new(VirtualClock::at(sample::now()))));
        let home = Home { store, keys: Arc::clone(&self.keys), copies: Vec::new() };
        self.begin(&home).await?;
        for _ in 0..LIVES {
            let (first, second) = (self.driver(&home, true), self.driver(&home, true));
            let before = if self.random.bool() { Before::Dead } else { Before::Unknown };
            // A driver that is joined by another one may not be declared dead.
            let ended = match self.random.u8(..4) {
                0 => {
                    let [one, two] = [first, second].map(|driver| attempt(driver, Before::Unknown));
                    let (one, two) = futures::join!(one, two);
                    self.count(2, u32::from(one.is_err()) + u32::from(two.is_err()));
                    one.or(two)
                }
                _ => {
                    let ended = attempt(first, before).await;
                    self.count(1, u32::from(ended.is_err()));
                    ended
                }
            };
            if ended.is_ok() {
                break;
            }
        }
        let ended = attempt(self.driver(&home, false), Before::Unknown).await;
        self.count(1, 0);
        let ended = ended.map_err(|error| format!("the last driver failed: {error}"))?;
        let loaded = home.load(RUN).await.map_err(|error| error.to_string())?;
        let mut broken = judge::broken(&self.plan, &self.world, &loaded, &ended);
        broken.extend(self.breaches.lock().unwrap_or_else(PoisonError::into_inner).drain(..));
        if !broken.is_empty() {
            return Err(broken.join("; "));
        }
        self.story.ended = match ended {
            Ended::Closed { verdict, .. } => verdict.text().into(),
            Ended::Waiting(_) => "waiting".into(),
        };
        Ok(self.story)
    }

    fn count(&mut self, drivers: u32, failures: u32) {
        self.story.drivers += drivers;
        self.story.failures += failures;
    }

    async fn begin(&self, home: &Home) -> Result<(), String> {
        let clock = VirtualClock::at(sample::now());
        let entry = Entry::Created {
            plan: Box::new(self.plan.clone()),
            requester: "oncall".into(),
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

    /// A driver on a machine of its own: own clock, own way to the store.
    fn driver(&mut self, home: &Home, is_unlucky: bool) -> Driver {
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes);
        let me = Id::from_bytes(bytes);
        let clock = Arc::new(VirtualClock::at(sample::now()));
        let faults: Arc<dyn Faults> = match is_unlucky {
            false => Arc::new(NoFaults),
            true => Arc::new(Misfortune {
                random: Mutex::new(fastrand::Rng::with_seed(self.random.u64(..))),
                deaths: self.random.u32(..40),
                naps: self.random.u32(..20),
                clock: Arc::clone(&clock),
            }),
        };
        let mut own = home.clone();
        if is_unlucky {
            let plan = FaultPlan::new(self.random.u64(..))
                .random(self.random.u32(..80), Fault::Before)
                .random(self.random.u32(..80), Fault::After)
                .random(self.random.u32(..30), Fault::PhantomConflict)
                .random(self.random.u32(..20), Fault::Late(Duration::from_secs(120)));
            let faulty = Faulty::new(Arc::clone(&home.store), plan);
            own.store = Arc::new(Retry::new(Arc::new(faulty), RetryPolicy::default()));
        }
        Driver {
            effects: Arc::new(Watched::new(&self.world, home, RUN, me, &self.breaches)),
            home: own,
            writer: writer(me),
            clock,
            observer: Arc::new(Silent),
            faults,
            host: "db1".into(),
            ends_when_waiting: true,
            pause: tokio::sync::watch::channel(false).1,
        }
    }
}

fn writer(id: Id) -> Writer {
    Writer { id, epoch: 1, binary: "0.1.0".into(), boot: "boot-1".into() }
}

async fn attempt(mut driver: Driver, before: Before) -> Result<Ended, RunError> {
    let loaded = take_over(&mut driver, RUN, before, "oncall", "the driver is gone").await?;
    drive(&driver, &loaded).await.map(|(ended, _)| ended)
}
