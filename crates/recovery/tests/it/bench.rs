//! A run in a world: begun, driven, killed at a point, gone on with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use recovery::inventory::Inventory;
use recovery::journal::{Entry, Home, Loaded, Writer};
use recovery::machine::State;
use recovery::plan::{Mode, Plan, StepKind};
use recovery::runner::{
    Before, Driver, Ended, Event, Faults, NoFaults, Observer, RunError, When, drive, take_over,
};
use recovery::service::Service;
use recovery::testing::{Snapshot, VirtualClock, World, sample};
use repository::SetKeys;
use repository::seal::Secret;
use stdx::{Clock, Id};
use store::{MemoryStore, Store};

pub(crate) const RUN: &str = "shop-1126-k7f3";

/// Dies at the point with this number, or at none, and counts.
#[derive(Debug, Default)]
pub(crate) struct Nth {
    die_at: Option<usize>,
    count: AtomicUsize,
    pub(crate) names: Mutex<Vec<String>>,
}

impl Nth {
    pub(crate) fn at(number: usize) -> Self {
        Self { die_at: Some(number), ..Self::default() }
    }
}

impl Faults for Nth {
    fn dies_at(&self, when: When, what: &str) -> bool {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.push(format!("{when:?} {what}"));
        self.die_at == Some(number)
    }
}

struct Quiet;

impl Observer for Quiet {
    fn event(&self, _state: &State, _event: &Event<'_>) {}
}

/// A world, a journal and a clock.
pub(crate) struct Bench {
    pub(crate) world: World,
    pub(crate) home: Home,
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) plan: Plan,
}

/// How a run ended and what it left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) ended: Ended,
    pub(crate) world: Snapshot,
}

impl Bench {
    pub(crate) fn new(service: &Service, mode: Mode) -> Self {
        Self::of(service, mode, &sample::inventory())
    }

    pub(crate) fn of(service: &Service, mode: Mode, inventory: &Inventory) -> Self {
        let plan = sample::plan(service, mode, inventory).unwrap();
        Self::with(plan)
    }

    pub(crate) fn with(plan: Plan) -> Self {
        let clock = Arc::new(VirtualClock::at(sample::now()));
        let store = MemoryStore::with_clock(Arc::<VirtualClock>::clone(&clock));
        let keys = SetKeys::encrypted(
            Id::from_bytes([7; 16]),
            &Secret::random(),
            BTreeMap::from([(1, Secret::random())]),
        );
        let home = Home { store: Arc::new(store), keys: Arc::new(keys), copies: Vec::new() };
        let has_door = plan.steps.iter().any(|step| step.kind == StepKind::ShutDoor);
        let world = World::new(plan.mode == Mode::Incident, has_door);
        Self { world, home, clock, plan }
    }

    /// The same with the journal behind another store, which holds the same objects.
    pub(crate) fn behind(mut self, wrap: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>) -> Self {
        self.home.store = wrap(Arc::clone(&self.home.store));
        self
    }

    pub(crate) fn driver(&self, faults: Arc<dyn Faults>) -> Driver {
        Driver {
            home: self.home.clone(),
            writer: Writer {
                id: Id::random(),
                epoch: 1,
                binary: "0.1.0".into(),
                boot: "boot-1".into(),
            },
            effects: Arc::new(self.world.effects()),
            clock: Arc::<VirtualClock>::clone(&self.clock),
            observer: Arc::new(Quiet),
            faults,
            host: "db1".into(),
            ends_when_waiting: true,
            pause: tokio::sync::watch::channel(false).1,
        }
    }

    pub(crate) fn created(&self) -> Entry {
        Entry::Created {
            plan: Box::new(self.plan.clone()),
            requester: "oncall".into(),
            incident: "shop-1126".into(),
            alert_at: self.clock.now(),
            declared_at: self.clock.now(),
            is_confirmed: true,
            supersedes: None,
            originals: BTreeMap::new(),
        }
    }

    /// Begins the run: its first record.
    pub(crate) async fn begin(&self, driver: &Driver) -> Loaded {
        let mut end = recovery::journal::Appended::nothing(RUN);
        let entry = self.created();
        self.home.append(&mut end, &driver.writer, &*self.clock, entry).await.unwrap();
        self.home.load(RUN).await.unwrap()
    }

    /// Begins the run, if the store lets it.
    pub(crate) async fn try_begin(&self, driver: &Driver) -> Option<Loaded> {
        let mut end = recovery::journal::Appended::nothing(RUN);
        let entry = self.created();
        self.home.append(&mut end, &driver.writer, &*self.clock, entry).await.ok()?;
        self.home.load(RUN).await.ok()
    }

    /// Begins and drives.
    pub(crate) async fn run(&self, faults: Arc<dyn Faults>) -> Result<Outcome, RunError> {
        let driver = self.driver(faults);
        let loaded = self.begin(&driver).await;
        let (ended, _) = drive(&driver, &loaded).await?;
        Ok(Outcome { ended, world: self.world.snapshot() })
    }

    /// Takes over and drives to the end.
    pub(crate) async fn go_on(&self, before: Before) -> Result<Outcome, RunError> {
        let mut driver = self.driver(Arc::new(NoFaults));
        let loaded = take_over(&mut driver, RUN, before, "oncall", "the driver died").await?;
        let (ended, _) = drive(&driver, &loaded).await?;
        Ok(Outcome { ended, world: self.world.snapshot() })
    }

    pub(crate) async fn state(&self) -> State {
        State::replay(&self.home.load(RUN).await.unwrap().records).unwrap()
    }

    /// The journal alone gives the state, and no order of safety was broken.
    pub(crate) async fn check(&self) {
        assert_eq!(self.world.violations(), Vec::<String>::new());
        self.state().await;
    }
}
