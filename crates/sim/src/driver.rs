//! Drivers that die, stall and act only with the lease.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use recovery::effect::{Effect, Effects, Failure, Found, StepContext};
use recovery::journal::Home;
use recovery::machine::State;
use recovery::plan::{Parameters, Step};
use recovery::runner::{Event, Faults, Observer, When};
use recovery::testing::{VirtualClock, World, WorldEffects};
use stdx::Id;

/// Says nothing to anybody.
pub(crate) struct Silent;

impl Observer for Silent {
    fn event(&self, _state: &State, _event: &Event<'_>) {}
}

/// Dies or is suspended at random points.
pub(crate) struct Misfortune {
    pub(crate) random: Mutex<fastrand::Rng>,
    /// Of a thousand points, at how many it dies.
    pub(crate) deaths: u32,
    /// Of a thousand points, at how many its machine sleeps for some minutes.
    pub(crate) naps: u32,
    pub(crate) clock: Arc<VirtualClock>,
}

impl Faults for Misfortune {
    fn dies_at(&self, _when: When, _what: &str) -> bool {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        if random.u32(..1000) < self.naps {
            self.clock.suspend(std::time::Duration::from_secs(random.u64(1..600)));
        }
        if random.u32(..1000) < self.naps {
            let by = jiff::SignedDuration::from_secs(random.i64(-7200..7200));
            self.clock.step(by);
        }
        random.u32(..1000) < self.deaths
    }
}

/// Breaches that the world cannot see: acts of a driver that is not the one of the journal.
pub(crate) type Breaches = Arc<Mutex<Vec<String>>>;

/// The world's effects, by one driver.
pub(crate) struct Watched {
    inner: WorldEffects,
    effect: WatchedEffect,
}

/// Notes each act that begins while the journal's newest record is another driver's.
struct WatchedEffect {
    world: WorldEffects,
    home: Home,
    run: String,
    me: Id,
    breaches: Breaches,
}

impl Watched {
    pub(crate) fn new(world: &World, home: &Home, run: &str, me: Id, breaches: &Breaches) -> Self {
        let effect = WatchedEffect {
            world: world.effects(),
            home: home.clone(),
            run: run.into(),
            me,
            breaches: Arc::clone(breaches),
        };
        Self { inner: world.effects(), effect }
    }
}

#[async_trait]
impl Effects for Watched {
    fn of(&self, step: &Step) -> Option<&dyn Effect> {
        self.inner.of(step).map(|_| &self.effect as &dyn Effect)
    }

    async fn count_foreign_writes(&self, context: &StepContext) -> Result<u64, Failure> {
        self.inner.count_foreign_writes(context).await
    }

    async fn tell(&self, channel: &str, what: &str, text: &str) -> Result<(), Failure> {
        self.inner.tell(channel, what, text).await
    }
}

impl WatchedEffect {
    fn world(&self, context: &StepContext) -> Result<&dyn Effect, Failure> {
        let none = || Failure::terminal("RF1090", "the world has no such effect");
        self.world.of(&context.step).ok_or_else(none)
    }

    async fn must_hold_the_lease(&self, verb: &str, context: &StepContext) {
        let Ok(loaded) = self.home.load(&self.run).await else { return };
        let newest = loaded.records.last().map(|record| record.writer.id);
        if newest != Some(self.me) {
            let breach = format!("{verb} {} without the lease", context.step.id);
            self.breaches.lock().unwrap_or_else(PoisonError::into_inner).push(breach);
        }
    }
}

#[async_trait]
impl Effect for WatchedEffect {
    async fn original(&self, context: &StepContext) -> Result<Option<(String, String)>, Failure> {
        self.world(context)?.original(context).await
    }

    async fn precheck(&self, context: &StepContext) -> Result<(), Failure> {
        self.world(context)?.precheck(context).await
    }

    async fn probe(&self, context: &StepContext) -> Found {
        match self.world(context) {
            Ok(world) => world.probe(context).await,
            Err(failure) => Found::Unknown(failure.message),
        }
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        self.must_hold_the_lease("acted", context).await;
        self.world(context)?.act(context).await
    }

    async fn verify(&self, context: &StepContext) -> Result<Parameters, Failure> {
        self.world(context)?.verify(context).await
    }

    async fn undo(&self, context: &StepContext) -> Result<String, Failure> {
        self.must_hold_the_lease("undid", context).await;
        self.world(context)?.undo(context).await
    }
}
