//! Effects that take time, and are watched.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use recovery::effect::{Effect, Effects, Failure, Found, StepContext};
use recovery::machine::State;
use recovery::plan::{Parameters, Step};
use recovery::runner::{Event, Observer};
use recovery::testing::{World, WorldEffects};
use stdx::Id;
use tokio::time::Instant;

use crate::process::{Fate, Machines};
use crate::tally::Tally;
use crate::witness::Witness;

/// Says nothing to anybody, and shows the witness what the driver holds for true.
pub(crate) struct Listener {
    pub(crate) me: Id,
    pub(crate) witness: Witness,
}

impl Observer for Listener {
    fn event(&self, state: &State, event: &Event<'_>) {
        if let Event::Recorded(_) = event {
            self.witness.recorded(self.me, state);
        }
    }
}

/// The world's effects, by one driver.
pub(crate) struct Watched {
    inner: WorldEffects,
    effect: WatchedEffect,
    tally: Tally,
}

struct WatchedEffect {
    world: World,
    inner: WorldEffects,
    witness: Witness,
    me: Id,
    fate: Arc<Fate>,
}

impl Watched {
    pub(crate) fn new(
        world: &World,
        witness: &Witness,
        me: Id,
        fate: &Arc<Fate>,
        tally: &Tally,
    ) -> Self {
        let effect = WatchedEffect {
            world: world.clone(),
            inner: world.effects(),
            witness: witness.clone(),
            me,
            fate: Arc::clone(fate),
        };
        Self { inner: world.effects(), effect, tally: tally.clone() }
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
        let told = self.inner.tell(channel, what, text).await;
        if told.is_err() {
            self.tally.count("channel", "is silent");
        }
        told
    }
}

impl WatchedEffect {
    fn world(&self, context: &StepContext) -> Result<&dyn Effect, Failure> {
        let none = || Failure::terminal("RF1090", "the world has no such effect");
        self.inner.of(&context.step).ok_or_else(none)
    }

    fn request(&self, is_undo: bool, context: &StepContext) -> Request {
        Request {
            world: self.world.clone(),
            witness: self.witness.clone(),
            machines: self.fate.machines(),
            me: self.me,
            is_undo,
            context: context.clone(),
        }
    }

    /// An effect is more than one request: the first one looks something up, the last one changes
    /// it. The process may stand still between them. How long the last one is on its way.
    async fn prepared(&self, is_undo: bool, context: &StepContext) -> Option<Duration> {
        let began = Instant::now();
        self.witness.sends(self.me, is_undo, context);
        tokio::time::sleep(Duration::from_millis(40)).await;
        self.fate.befall();
        self.fate.running().await;
        self.witness.sends(self.me, is_undo, context);
        // It arrives within the attempt's deadline: that is what the deadline is for.
        let limit = Duration::from_secs(context.step.limits.attempt_s);
        self.fate.way(limit.saturating_sub(began.elapsed()))
    }
}

/// A request that is on its way: it arrives, whatever becomes of who sent it.
struct Request {
    world: World,
    witness: Witness,
    machines: Arc<Machines>,
    me: Id,
    is_undo: bool,
    context: StepContext,
}

impl Request {
    async fn sent(self, way: Option<Duration>) -> Result<String, Failure> {
        let Some(way) = way else { return self.arrives().await };
        let arriving = tokio::spawn(async move {
            self.machines.pass(way).await;
            self.witness.arrives(self.me, self.is_undo, &self.context);
            self.arrives().await
        });
        let lost = |_| Err(Failure::ambiguous("RF1093", "no answer"));
        arriving.await.unwrap_or_else(lost)
    }

    async fn arrives(self) -> Result<String, Failure> {
        let Self { world, witness, is_undo, context, .. } = self;
        let effects = world.effects();
        let Some(effect) = effects.of(&context.step) else {
            return Err(Failure::terminal("RF1090", "the world has no such effect"));
        };
        if is_undo {
            let undone = effect.undo(&context).await?;
            witness.did(true, &context);
            return Ok(undone);
        }
        let before = world.acts();
        let acted = effect.act(&context).await;
        // The world acts at once, or never answers: nobody else acts in between.
        if world.acts() > before {
            witness.did(false, &context);
        }
        acted.map(|()| String::new())
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
        let way = self.prepared(false, context).await;
        self.request(false, context).sent(way).await.map(drop)
    }

    async fn verify(&self, context: &StepContext) -> Result<Parameters, Failure> {
        self.world(context)?.verify(context).await
    }

    async fn undo(&self, context: &StepContext) -> Result<String, Failure> {
        let way = self.prepared(true, context).await;
        self.request(true, context).sent(way).await
    }
}
