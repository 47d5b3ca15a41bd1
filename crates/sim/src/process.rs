//! What befalls a driver's process: death, a stop, a closed lid, a clock that is set.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use recovery::runner::{Faults, LEASE_TTL, When};
use recovery::testing::{VirtualClock, sample};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::tally::Tally;

/// The longest pause of a process, in seconds.
const PAUSE_S_MAX: u64 = 2 * 3600;

/// While a machine sleeps, others look at the journal for so long, in seconds.
const ASLEEP_S_MAX: u64 = 8;

/// How often something befalls a process, of a thousand points at which it may.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    pub(crate) deaths: u32,
    pub(crate) pauses: u32,
    pub(crate) naps: u32,
    pub(crate) steps: u32,
    pub(crate) ways: u32,
}

/// All machines' clocks: while one machine sleeps, time goes on everywhere.
pub(crate) struct Machines {
    clocks: Mutex<Vec<Arc<VirtualClock>>>,
    slept: watch::Sender<Duration>,
}

impl Machines {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { clocks: Mutex::default(), slept: watch::channel(Duration::ZERO).0 })
    }

    /// A machine that was started now.
    pub(crate) fn start(&self) -> Arc<VirtualClock> {
        let clock = Arc::new(VirtualClock::at(sample::now()));
        let mut clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        clocks.push(Arc::clone(&clock));
        clock
    }

    fn sleep(&self, time: Duration) {
        for clock in self.clocks.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            clock.suspend(time);
        }
        self.slept.send_modify(|slept| *slept += time);
    }

    /// Waits for something that goes on while machines sleep.
    pub(crate) async fn pass(&self, time: Duration) {
        let (began, mut slept) = (Instant::now(), self.slept.subscribe());
        let before = *slept.borrow_and_update();
        loop {
            let gone = began.elapsed() + slept.borrow_and_update().saturating_sub(before);
            let Some(rest) = time.checked_sub(gone).filter(|rest| !rest.is_zero()) else { return };
            tokio::select! {
                biased;
                () = sleep(rest) => {}
                _ = slept.changed() => {}
            }
        }
    }
}

/// One process's fate.
pub(crate) struct Fate {
    random: Mutex<fastrand::Rng>,
    rates: Rates,
    /// Its machine's clock.
    own: Arc<VirtualClock>,
    machines: Arc<Machines>,
    stopped_until: Mutex<Option<Instant>>,
    tally: Tally,
}

impl Fate {
    pub(crate) fn new(
        seed: u64,
        rates: Rates,
        own: Arc<VirtualClock>,
        machines: Arc<Machines>,
        tally: Tally,
    ) -> Self {
        let random = Mutex::new(fastrand::Rng::with_seed(seed));
        Self { random, rates, own, machines, stopped_until: Mutex::default(), tally }
    }

    fn draw<T>(&self, from: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        from(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn strikes(&self, per_mille: u32) -> bool {
        self.draw(|random| random.u32(..1000)) < per_mille
    }

    /// Something may befall the process here, and takes hold the next time it waits.
    pub(crate) fn befall(&self) {
        if self.strikes(self.rates.pauses) {
            let is_long = self.draw(fastrand::Rng::bool);
            let ttl = LEASE_TTL.as_secs();
            let (range, what) = match is_long {
                true => (ttl..PAUSE_S_MAX, "pauses longer than the lease"),
                false => (1..ttl, "pauses shorter than the lease"),
            };
            self.stop(Duration::from_secs(self.draw(|random| random.u64(range))));
            self.tally.count("process", what);
        }
        if self.strikes(self.rates.naps) {
            self.sleep(Duration::from_secs(self.draw(|random| random.u64(1..PAUSE_S_MAX))));
            self.tally.count("process", "its machine is suspended");
        }
        if self.strikes(self.rates.steps) {
            let by = self.draw(|random| random.i64(-7200..7200));
            self.own.step(jiff::SignedDuration::from_secs(by));
            self.tally.count("process", "its wall clock steps");
        }
    }

    /// All clocks go on, the process does not.
    fn stop(&self, time: Duration) {
        let mut until = self.stopped_until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = (*until).max(Some(Instant::now() + time));
    }

    /// The machine sleeps: timers stand still, CLOCK_BOOTTIME goes on. Virtual time has one pace
    /// for all timers, so the time is added to every
    /// machine's CLOCK_BOOTTIME, and the others get
    /// a moment in which they see that and this one sees nothing.
    fn sleep(&self, time: Duration) {
        self.machines.sleep(time);
        self.stop(Duration::from_secs(self.draw(|random| random.u64(1..ASLEEP_S_MAX))));
    }

    fn stopped_until(&self) -> Option<Instant> {
        let until = *self.stopped_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.filter(|until| *until > Instant::now())
    }

    /// All machines.
    pub(crate) fn machines(&self) -> Arc<Machines> {
        Arc::clone(&self.machines)
    }

    /// How long a request that changes something is on its way; `None`: no time.
    pub(crate) fn way(&self, limit: Duration) -> Option<Duration> {
        if limit.is_zero() || !self.strikes(self.rates.ways) {
            return None;
        }
        self.tally.count("step", "is done late, whatever becomes of the driver");
        Some(limit.mul_f64(self.draw(fastrand::Rng::f64)))
    }

    /// Waits while the process is stopped.
    pub(crate) async fn running(&self) {
        while let Some(until) = self.stopped_until() {
            sleep_until(until).await;
        }
    }
}

impl Faults for Fate {
    fn dies_at(&self, _when: When, _what: &str) -> bool {
        self.befall();
        let dies = self.strikes(self.rates.deaths);
        if dies {
            self.tally.count("process", "dies at a point");
        }
        dies
    }
}

/// A driver as a process: it stands still while it is stopped, whatever it waits for.
pub(crate) struct Process<T> {
    inner: Pin<Box<dyn Future<Output = T> + Send>>,
    fate: Arc<Fate>,
    stopped: Option<Pin<Box<Sleep>>>,
}

impl<T> Process<T> {
    pub(crate) fn new(fate: Arc<Fate>, inner: impl Future<Output = T> + Send + 'static) -> Self {
        Self { inner: Box::pin(inner), fate, stopped: None }
    }
}

impl<T> Future for Process<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        loop {
            if let Some(stopped) = &mut self.stopped {
                ready!(stopped.as_mut().poll(context));
                self.stopped = None;
            }
            match self.fate.stopped_until() {
                Some(until) => self.stopped = Some(Box::pin(sleep_until(until))),
                None => return self.inner.as_mut().poll(context),
            }
        }
    }
}
