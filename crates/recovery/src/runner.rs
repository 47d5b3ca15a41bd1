//! Driving a run: performs what the machine says, journals before and after, holds the lease.
//!
//! The runner decides nothing. Whatever kills it at any point, another one goes on from the
//! journal.

mod drive;
mod inbox;
mod step;
mod takeover;

use std::sync::Arc;
use std::time::Duration;

use stdx::Clock;

use crate::effect::{Effects, Found};
use crate::journal::{Appended, Entry, Home, HomeError, Writer};
use crate::machine::{ApplyError, Awaited, State};

pub use drive::{Ended, drive};
pub use takeover::{Before, take_over};

/// A lease lives so long after the newest record (design, section 6).
pub const LEASE_TTL: Duration = Duration::from_secs(90);

/// A driver that appends nothing else says at least so often that it lives.
pub const HEARTBEAT: Duration = Duration::from_secs(20);

/// No effect begins when the lease has less than this left: it could outlive the lease.
pub const LEASE_MARGIN: Duration = Duration::from_secs(30);

/// How often messages are looked for.
pub const INBOX_PERIOD: Duration = Duration::from_millis(500);

/// How often something under way is looked at.
pub const OBSERVE_PERIOD: Duration = Duration::from_millis(250);

/// Points at which a driver can be made to die, for tests: before and after everything that counts.
pub trait Faults: Send + Sync {
    /// Whether to die here. `what` names the point: `append:intent`, `act:shut.door`.
    fn dies_at(&self, when: When, what: &str) -> bool;
}

/// On which side of what counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before it.
    Before,
    /// After it, before it is known.
    After,
}

/// Never dies.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFaults;

impl Faults for NoFaults {
    fn dies_at(&self, _when: When, _what: &str) -> bool {
        false
    }
}

/// What a driver tells whoever watches.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// Something was recorded.
    Recorded(&'a Entry),
    /// A step is under way.
    Progress {
        /// The step.
        step: &'a str,
        /// How far it is.
        text: &'a str,
    },
    /// The run waits.
    Waiting(&'a Awaited),
    /// A copy of the journal is behind.
    CopyFailed {
        /// The copy.
        name: &'a str,
        /// What it said.
        reason: String,
    },
    /// A message was refused.
    Refused {
        /// Whose.
        person: &'a str,
        /// Why.
        reason: &'a str,
    },
}

/// Watches a driver.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, state: &State, event: &Event<'_>);
}

/// Why a driver ended without finishing.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] HomeError),
    /// A record cannot follow the ones before it.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A fault that a test asked for.
    #[error("died at {0}")]
    Died(String),
    /// This binary cannot perform a step.
    #[error("step '{step}' of kind '{kind}' cannot be performed here")]
    NoProvider {
        /// The step.
        step: String,
        /// Its kind.
        kind: &'static str,
    },
    /// The machine named a step that the plan does not have: a bug.
    #[error("the plan has no step number {0}")]
    NoStep(usize),
    /// A step needs another host.
    #[error("step '{step}' must be performed on host '{host}', this is '{here}'")]
    OtherHost {
        /// The step.
        step: String,
        /// Where.
        host: String,
        /// Where this is.
        here: String,
    },
}

/// Everything a driver needs.
pub struct Driver {
    /// The journal's home.
    pub home: Home,
    /// Who writes.
    pub writer: Writer,
    /// What performs steps.
    pub effects: Arc<dyn Effects>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Who watches.
    pub observer: Arc<dyn Observer>,
    /// Where it dies, in tests.
    pub faults: Arc<dyn Faults>,
    /// This host's name.
    pub host: String,
    /// Whether it ends when a person has to say something, instead of waiting.
    pub ends_when_waiting: bool,
    /// Whether somebody wants it to pause after the step.
    pub pause: tokio::sync::watch::Receiver<bool>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("writer", &self.writer).finish_non_exhaustive()
    }
}

/// A run in the hands of a driver.
pub(crate) struct Drive<'d> {
    pub(crate) driver: &'d Driver,
    pub(crate) state: State,
    pub(crate) end: Appended,
    /// When the newest record of ours was confirmed, by CLOCK_BOOTTIME.
    pub(crate) confirmed: Duration,
}

impl Drive<'_> {
    /// Records something; when this returns, it counts.
    pub(crate) async fn append(&mut self, entry: Entry) -> Result<(), RunError> {
        let point = format!("append:{}", entry.kind());
        self.fault(When::Before, &point)?;
        let began = self.driver.clock.boottime();
        let driver = self.driver;
        let appended = driver.home.append(&mut self.end, &driver.writer, &*driver.clock, entry);
        let (record, failed) = appended.await?;
        // The lease runs from before the put: the store's clock may have begun then.
        self.confirmed = began;
        self.fault(When::After, &point)?;
        self.state.apply(&record)?;
        for copy in failed {
            let reason = copy.error.to_string();
            self.tell(&Event::CopyFailed { name: &copy.name, reason });
        }
        self.tell(&Event::Recorded(&record.entry));
        Ok(())
    }

    /// Renews the lease until it is good for a new effect: an answer that came late gives one that
    /// is over already, and another driver may have the run by then.
    pub(crate) async fn hold_lease(&mut self) -> Result<(), RunError> {
        while !self.has_lease() {
            self.append(Entry::Heartbeat).await?;
        }
        Ok(())
    }

    /// Whether the lease is good for a new effect.
    pub(crate) fn has_lease(&self) -> bool {
        self.lease_age() + LEASE_MARGIN < LEASE_TTL
    }

    pub(crate) fn lease_age(&self) -> Duration {
        self.driver.clock.boottime().saturating_sub(self.confirmed)
    }

    pub(crate) fn fault(&self, when: When, what: &str) -> Result<(), RunError> {
        match self.driver.faults.dies_at(when, what) {
            true => Err(RunError::Died(format!("{when:?} {what}"))),
            false => Ok(()),
        }
    }

    pub(crate) fn tell(&self, event: &Event<'_>) {
        self.driver.observer.event(&self.state, event);
    }
}

/// For people.
pub(crate) fn found_text(found: &Found) -> String {
    match found {
        Found::Absent => "it is not there".into(),
        Found::Running { progress } => format!("it is under way: {progress}"),
        Found::Done => "it is there".into(),
        Found::Broken(what) => format!("something half-made is there: {what}"),
        Found::Foreign(what) => format!("something that is not ours is there: {what}"),
        Found::Unknown(why) => format!("it cannot be told: {why}"),
        Found::Refused(failure) => format!("it cannot be told: {}", failure.message),
    }
}
