//! The loop: what comes next, until nothing does.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Drive, Driver, Event, RunError};
use crate::journal::{Appended, Entry, Loaded, ServiceState, Verdict};
use crate::machine::{Awaited, Next, Phase, State, Untold};
use crate::plan::{Mode, StepKind, runbook};

/// How long the loop sleeps while it waits for a person.
const WAIT_PERIOD: Duration = Duration::from_millis(500);

/// How often a channel that could not be told is tried again at the end.
const TELL_ATTEMPTS_MAX: u32 = 3;

/// A channel that did not take a page is tried again after this pause, which doubles.
const PAGE_PAUSE: Duration = Duration::from_secs(30);

/// So often a channel that does not answer is told that nobody answered.
const ESCALATION_TRIES_MAX: u32 = 10;

/// So much of what a channel could not be told is kept, in characters: it is told late.
const UNTOLD_LEN_MAX: usize = 4000;

/// The longest pause between two pages to a channel that takes none.
const PAGE_PAUSE_MAX: Duration = Duration::from_secs(900);

/// How a driver ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The run is over.
    Closed {
        /// How.
        verdict: Verdict,
        /// What serves users.
        service: ServiceState,
    },
    /// The run waits for somebody; another driver may go on.
    Waiting(Awaited),
}

/// Drives a run from where its journal stands. A new run's journal holds its first record.
///
/// # Errors
/// [`RunError`]: the run is not over, and another driver may go on.
pub async fn drive(driver: &Driver, loaded: &Loaded) -> Result<(Ended, State), RunError> {
    let state = State::replay(&loaded.records)?;
    let end: Appended = loaded.end.clone();
    let confirmed = driver.clock.boottime();
    let mut run = Drive { driver, state, end, confirmed };
    let ended = run.go().await?;
    Ok((ended, run.state))
}

/// What is waited for, and who was told of it.
struct Waits {
    what: Awaited,
    since: Duration,
    /// Channels that were asked.
    asked: Vec<String>,
    /// How it went with channels that were to hear that nobody answered.
    escalated: BTreeMap<String, Asked>,
    /// When channels that did not answer are tried again, and the pause after that.
    again: Duration,
    pause: Duration,
}

/// How it went with a channel that was to hear something.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    tries: u32,
    has_heard: bool,
}

impl Waits {
    fn new(what: &Awaited, since: Duration) -> Self {
        let (asked, escalated) = (Vec::new(), BTreeMap::new());
        Self { what: what.clone(), since, asked, escalated, again: since, pause: PAGE_PAUSE }
    }
}

impl Drive<'_> {
    async fn go(&mut self) -> Result<Ended, RunError> {
        let mut waits: Option<Waits> = None;
        self.tell_that_it_began().await?;
        loop {
            self.read_inbox().await?;
            self.heed_pause().await?;
            self.warn_of_a_miss().await?;
            match self.state.next() {
                Next::Perform(at) => self.perform(at).await?,
                Next::Undo(at) => self.undo(at).await?,
                Next::CountWrites => self.count_writes().await?,
                Next::Append(entry) => self.record(entry).await?,
                Next::Await(awaited) => {
                    if waits.as_ref().is_none_or(|waits| waits.what != awaited) {
                        self.tell(&Event::Waiting(&awaited));
                        waits = Some(Waits::new(&awaited, self.driver.clock.monotonic()));
                    }
                    if let Some(waits) = &mut waits {
                        self.page(waits).await?;
                        self.escalate(waits).await?;
                    }
                    if self.driver.ends_when_waiting {
                        return Ok(Ended::Waiting(awaited));
                    }
                    tokio::time::sleep(WAIT_PERIOD).await;
                    self.beat().await?;
                    continue;
                }
                Next::Finished => {
                    let Phase::Closed { verdict, service } = self.state.phase else {
                        continue;
                    };
                    self.tell_what_was_not().await?;
                    return Ok(Ended::Closed { verdict, service });
                }
            }
            waits = None;
        }
    }

    /// Records what the machine decided, with the moments of the clock that belong to it.
    async fn record(&mut self, entry: Entry) -> Result<(), RunError> {
        self.hold_lease().await?;
        let told = match &entry {
            Entry::RollbackBegun { reason, went_through: false } => {
                Some(("rolling back", reason.clone()))
            }
            Entry::Halted { reason } => Some(("halted", reason.clone())),
            Entry::Fallback { reason, .. } => Some(("falling back", reason.clone())),
            Entry::Closed { verdict, service, reason } => Some((
                verdict.text(),
                format!("{}; service: {}; {reason}", verdict.text(), service.text()),
            )),
            _ => None,
        };
        // People are told before the run is over, so that it stands in the journal.
        if let (Entry::Closed { .. }, Some((what, text))) = (&entry, &told) {
            self.tell_channels(what, text).await?;
            return self.append(entry).await;
        }
        self.append(entry).await?;
        match told {
            Some((what, text)) => self.tell_channels(what, &text).await,
            None => Ok(()),
        }
    }

    /// Tells every channel of the service; a channel that is down does not stop the run.
    pub(super) async fn tell_channels(&mut self, what: &str, text: &str) -> Result<(), RunError> {
        for channel in self.state.plan.tell.clone() {
            self.tell_channel(&channel, what, text).await?;
        }
        Ok(())
    }

    async fn tell_channel(
        &mut self,
        channel: &str,
        what: &str,
        text: &str,
    ) -> Result<bool, RunError> {
        let told = self.driver.effects.tell(channel, what, text).await;
        let outcome = match told {
            Ok(()) => "told".to_owned(),
            Err(failure) => failure.message,
        };
        let heard = outcome == "told";
        self.keep(channel, what, outcome, text).await.map(|()| heard)
    }

    /// Records how telling went, and what was not heard.
    async fn keep(
        &mut self,
        channel: &str,
        what: &str,
        outcome: String,
        text: &str,
    ) -> Result<(), RunError> {
        let text = (outcome != "told").then(|| text.chars().take(UNTOLD_LEN_MAX).collect());
        let (channel, what) = (channel.into(), what.into());
        self.append(Entry::Told { channel, what, outcome, text }).await
    }

    /// The channels that could not be told get another try when the run is over.
    async fn tell_what_was_not(&mut self) -> Result<(), RunError> {
        for _ in 0..TELL_ATTEMPTS_MAX {
            for Untold { channel, what, text } in self.state.untold.clone() {
                let late = format!("told late, the run is over: {text}");
                let told = self.driver.effects.tell(&channel, &what, &late).await;
                let outcome = told.map_or_else(|failure| failure.message, |()| "told".to_owned());
                self.keep(&channel, &what, outcome, &text).await?;
            }
            if self.state.untold.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(WAIT_PERIOD).await;
        }
        Ok(())
    }

    /// People hear that a recovery has begun, with what they would do by hand if nothing else came.
    async fn tell_that_it_began(&mut self) -> Result<(), RunError> {
        let plan = &self.state.plan;
        let is_silent = plan.mode != Mode::Incident || self.state.has_told || plan.tell.is_empty();
        if is_silent || self.state.is_closed() {
            return Ok(());
        }
        let text = format!(
            "recovery of {} to {}, ready in {}\nrollforward run watch {}\n\n{}",
            plan.service,
            plan.target,
            crate::plan::duration_text(plan.predicted_rto_s()),
            self.state.run,
            runbook(plan)
        );
        self.tell_channels("recovery begun", &text).await
    }

    /// Tells every channel that somebody has to approve, until each has heard it. What halts a run
    /// was told before.
    async fn page(&mut self, waits: &mut Waits) -> Result<(), RunError> {
        let Awaited::Approval { gate, missing, text } = &waits.what else { return Ok(()) };
        let now = self.driver.clock.monotonic();
        if now < waits.again {
            return Ok(());
        }
        let run = &self.state.run;
        let text = format!(
            "{gate} waits for {missing} more approval(s): {text}\nrollforward run approve {run} --gate {gate}"
        );
        for channel in self.state.plan.tell.clone() {
            if !waits.asked.contains(&channel)
                && self.tell_channel(&channel, "waits for approval", &text).await?
            {
                waits.asked.push(channel);
            }
        }
        waits.again = now + waits.pause;
        waits.pause = (waits.pause * 2).min(PAGE_PAUSE_MAX);
        Ok(())
    }

    /// Tells those who come next that nobody has answered.
    async fn escalate(&mut self, waits: &mut Waits) -> Result<(), RunError> {
        let text = match &waits.what {
            // Who paused it knows.
            Awaited::Resume { .. } => return Ok(()),
            Awaited::Approval { gate, text, .. } => format!("{gate} waits for approval: {text}"),
            Awaited::Decision { reason } => format!("halted: {reason}"),
        };
        let waited = self.driver.clock.monotonic().saturating_sub(waits.since);
        for escalation in self.state.plan.escalate.clone() {
            let asked = waits.escalated.get(&escalation.channel).copied().unwrap_or_default();
            let is_over = asked.has_heard || asked.tries > ESCALATION_TRIES_MAX;
            if is_over || waited < escalation.after.saturating_add(PAGE_PAUSE * asked.tries) {
                continue;
            }
            let text = format!(
                "nobody has answered for {}: {} is asked now; {text}\nrollforward run show {}",
                crate::plan::duration_text(waited.as_secs()),
                escalation.to,
                self.state.run
            );
            let channel = escalation.channel;
            let has_heard = self.tell_channel(&channel, "nobody answered", &text).await?;
            waits.escalated.insert(channel, Asked { tries: asked.tries + 1, has_heard });
        }
        Ok(())
    }

    async fn heed_pause(&mut self) -> Result<(), RunError> {
        let wants = *self.driver.pause.borrow();
        if wants && self.state.paused_by.is_none() && !self.state.is_closed() {
            self.append(Entry::Paused { by: "the terminal".into() }).await?;
        }
        Ok(())
    }

    /// Says early that the objective will be missed, once for every reason.
    async fn warn_of_a_miss(&mut self) -> Result<(), RunError> {
        if self.state.is_closed() || self.state.is_past_the_point() {
            return Ok(());
        }
        let Some((expected, allowed)) = self.state.predicted_miss(self.driver.clock.now()) else {
            return Ok(());
        };
        if self.state.warned.iter().any(|text| text.starts_with("the objective")) {
            return Ok(());
        }
        let faster = self.state.plan.alternatives.iter().filter(|it| !it.is_chosen);
        let faster = faster.filter_map(|it| it.rto_s.map(|seconds| (seconds, it)));
        let best = faster.min_by_key(|(seconds, _)| *seconds);
        let advice = best.map_or_else(String::new, |(seconds, it)| {
            format!("; {} would take {}", it.method, crate::plan::duration_text(seconds))
        });
        let text = format!(
            "the objective of {} will be missed: {} expected{advice}",
            crate::plan::duration_text(allowed),
            crate::plan::duration_text(expected)
        );
        self.append(Entry::Warned { text: text.clone() }).await?;
        self.tell_channels("objective in danger", &text).await
    }

    async fn count_writes(&mut self) -> Result<(), RunError> {
        // That step says how the restored database is reached; a writer's does not.
        let at = self.state.plan.steps.iter().position(|step| step.kind == StepKind::Prove);
        let context = self.context(at.unwrap_or_default())?;
        let value = match self.driver.effects.count_foreign_writes(&context).await {
            Ok(count) => count.to_string(),
            // Not knowing is as good as some: nothing is rolled back over somebody's work.
            Err(failure) => format!("unknown: {}", failure.message),
        };
        let name = crate::machine::FOREIGN_WRITES.to_owned();
        self.append(Entry::Measured { name, value }).await
    }

    /// Says that the driver lives, when nothing else did lately.
    pub(super) async fn beat(&mut self) -> Result<(), RunError> {
        if self.lease_age() >= super::HEARTBEAT {
            self.append(Entry::Heartbeat).await?;
        }
        Ok(())
    }
}
