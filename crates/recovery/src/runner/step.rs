//! One step: probe, act, observe, verify; and undo.

use std::future::Future;
use std::task::Poll;
use std::time::Duration;

use super::{Drive, Event, HEARTBEAT, OBSERVE_PERIOD, RunError, When, found_text};
use crate::effect::{Effect, Failure, Found, StepContext};
use crate::journal::{Entry, FailureClass};
use crate::machine::{AfterFailure, Phase, UNDO_ATTEMPTS_MAX, after_failure, pause};
use crate::plan::{Class, Parameters};

/// What one attempt came to.
enum Attempt {
    Done {
        outputs: Parameters,
        was_there: bool,
    },
    Failed(Failure),
    /// Something half-made of ours is in the way.
    CleanUp(String),
}

/// Lets a provider's future go on until the deadline and no further: one that is polled again when
/// its process wakes up behind it would send requests that nobody waits for.
async fn within<T>(deadline: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = tokio::time::sleep(deadline) => None,
        value = future => Some(value),
    }
}

impl Drive<'_> {
    /// Performs a step until it is done or has failed for good.
    pub(super) async fn perform(&mut self, at: usize) -> Result<(), RunError> {
        let context = self.context(at)?;
        self.must_be_here(&context)?;
        let driver = self.driver;
        let effect = driver.effects.of(&context.step).ok_or_else(|| RunError::NoProvider {
            step: context.step.id.to_string(),
            kind: context.step.kind.text(),
        })?;
        let began = driver.clock.monotonic();
        let allowed = Duration::from_secs(context.step.limits.step_s);
        loop {
            match self.attempt(at, effect, &context).await? {
                Attempt::Done { outputs, was_there } => {
                    return self.done(at, &context, outputs, was_there).await;
                }
                Attempt::CleanUp(what) => return self.clean_up(at, &context, what).await,
                Attempt::Failed(failure) => {
                    let counted = self.attempts(at) + 1;
                    let elapsed = driver.clock.monotonic().saturating_sub(began);
                    let after = after_failure(failure.class, counted, elapsed, allowed);
                    self.failed(at, &context, &failure, counted, after).await?;
                    let AfterFailure::Again(pause) = after else { return Ok(()) };
                    self.wait(pause).await?;
                    let is_forward = self.state.phase == Phase::Forward;
                    if self.state.paused_by.is_some() || !is_forward {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn attempts(&self, at: usize) -> u32 {
        self.state.steps.get(at).map_or(0, |state| state.attempts)
    }

    /// One attempt: what is there decides what is done.
    async fn attempt(
        &mut self,
        at: usize,
        effect: &dyn Effect,
        context: &StepContext,
    ) -> Result<Attempt, RunError> {
        match self.living(effect.probe(context), context).await? {
            Found::Done => self.verified(effect, context, true).await,
            Found::Running { .. } => self.observe(effect, context).await,
            Found::Broken(what) => Ok(Attempt::CleanUp(what)),
            Found::Foreign(what) => Ok(Attempt::Failed(
                Failure::terminal("RF1010", format!("expected nothing there, seen {what}"))
                    .hint("somebody else's: move it away, or plan again"),
            )),
            Found::Unknown(why) => Ok(Attempt::Failed(Failure::ambiguous("RF1011", why))),
            Found::Refused(failure) => Ok(Attempt::Failed(failure)),
            Found::Absent => self.act(at, effect, context).await,
        }
    }

    async fn act(
        &mut self,
        at: usize,
        effect: &dyn Effect,
        context: &StepContext,
    ) -> Result<Attempt, RunError> {
        if let Err(failure) = self.living(effect.precheck(context), context).await? {
            return Ok(Attempt::Failed(failure));
        }
        match self.living(effect.original(context), context).await? {
            Err(failure) => return Ok(Attempt::Failed(failure)),
            Ok(Some((object, value))) if !self.state.originals.contains_key(&object) => {
                self.append(Entry::Original { object, value }).await?;
            }
            Ok(_) => {}
        }
        // With what was there before: an undo that follows at once must know it.
        let context = &self.context(at)?;
        let deadline = Duration::from_secs(context.step.limits.attempt_s);
        let attempt = self.attempts(at) + 1;
        self.append(Entry::Intent {
            step: context.step.id.to_string(),
            generation: self.generation(at),
            attempt,
            key: context.key.clone(),
            deadline_s: deadline.as_secs(),
        })
        .await?;
        self.hold_lease().await?;
        let point = format!("act:{}", context.step.id);
        self.fault(When::Before, &point)?;
        let acted = self.living(within(deadline, effect.act(context)), context).await?;
        self.fault(When::After, &point)?;
        match acted {
            Some(Ok(())) => self.observe(effect, context).await,
            Some(Err(failure)) => Ok(Attempt::Failed(failure)),
            None => Ok(Attempt::Failed(Failure::ambiguous(
                "RF1012",
                format!("no answer within {} s", deadline.as_secs()),
            ))),
        }
    }

    /// Looks until it is there, or nothing moves any more.
    async fn observe(
        &mut self,
        effect: &dyn Effect,
        context: &StepContext,
    ) -> Result<Attempt, RunError> {
        let quiet = Duration::from_secs(context.step.limits.quiet_s);
        let mut seen = String::new();
        let mut moved = self.driver.clock.monotonic();
        loop {
            match self.living(effect.probe(context), context).await? {
                Found::Done => return self.verified(effect, context, false).await,
                Found::Running { progress } => {
                    if progress != seen {
                        moved = self.driver.clock.monotonic();
                        self.tell(&Event::Progress {
                            step: context.step.id.as_str(),
                            text: &progress,
                        });
                        seen = progress;
                    }
                }
                Found::Broken(what) => return Ok(Attempt::CleanUp(what)),
                Found::Refused(failure) => return Ok(Attempt::Failed(failure)),
                other @ (Found::Absent | Found::Foreign(_) | Found::Unknown(_)) => {
                    return Ok(Attempt::Failed(Failure::ambiguous("RF1013", found_text(&other))));
                }
            }
            if self.driver.clock.monotonic().saturating_sub(moved) > quiet {
                return Ok(Attempt::Failed(Failure::terminal(
                    "RF1014",
                    format!("nothing moved for {} s; last seen: {seen}", quiet.as_secs()),
                )));
            }
            tokio::time::sleep(OBSERVE_PERIOD).await;
            self.beat().await?;
        }
    }

    async fn verified(
        &mut self,
        effect: &dyn Effect,
        context: &StepContext,
        was_there: bool,
    ) -> Result<Attempt, RunError> {
        Ok(match self.living(effect.verify(context), context).await? {
            Ok(outputs) => Attempt::Done { outputs, was_there },
            Err(failure) => Attempt::Failed(failure),
        })
    }

    /// Runs a provider's future and says meanwhile that the driver lives. When the lease is lost,
    /// the future is dropped. A process that stood still, or whose machine slept, asks the journal
    /// before the future goes on: its next request must not be sent without the lease.
    async fn living<T>(
        &mut self,
        future: impl Future<Output = T>,
        _context: &StepContext,
    ) -> Result<T, RunError> {
        let mut future = std::pin::pin!(future);
        loop {
            self.hold_lease().await?;
            let next = HEARTBEAT.saturating_sub(self.lease_age());
            let going_on = std::future::poll_fn(|context| match self.has_lease() {
                true => future.as_mut().poll(context).map(Some),
                false => Poll::Ready(None),
            });
            tokio::select! {
                biased;
                value = going_on => if let Some(value) = value { return Ok(value) },
                () = tokio::time::sleep(next.max(Duration::from_millis(1))) => self.beat().await?,
            }
        }
    }

    async fn done(
        &mut self,
        at: usize,
        context: &StepContext,
        outputs: Parameters,
        was_there: bool,
    ) -> Result<(), RunError> {
        self.append(Entry::Done {
            step: context.step.id.to_string(),
            generation: self.generation(at),
            outputs,
            was_there,
            evidence: None,
        })
        .await
    }

    async fn failed(
        &mut self,
        at: usize,
        context: &StepContext,
        failure: &Failure,
        attempt: u32,
        after: AfterFailure,
    ) -> Result<(), RunError> {
        let gives_up = after == AfterFailure::GiveUp;
        let class = match (gives_up, failure.class) {
            (true, FailureClass::Data) => FailureClass::Data,
            (true, _) => FailureClass::Terminal,
            (false, class) => class,
        };
        self.append(Entry::Failed {
            step: context.step.id.to_string(),
            generation: self.generation(at),
            attempt,
            class,
            code: failure.code.clone(),
            message: failure.message.clone(),
            hint: failure.hint.clone(),
        })
        .await
    }

    /// Something half-made of ours is taken away; then the step begins anew.
    async fn clean_up(
        &mut self,
        at: usize,
        context: &StepContext,
        what: String,
    ) -> Result<(), RunError> {
        if context.step.class != Class::Own {
            let failure =
                Failure::terminal("RF1015", format!("something half-made is there: {what}"));
            let counted = self.attempts(at) + 1;
            return self.failed(at, context, &failure, counted, AfterFailure::GiveUp).await;
        }
        self.undo(at).await
    }

    /// Undoes a step.
    pub(super) async fn undo(&mut self, at: usize) -> Result<(), RunError> {
        let context = self.context(at)?;
        self.must_be_here(&context)?;
        let (step, generation) = (context.step.id.to_string(), self.generation(at));
        self.append(Entry::UndoIntent { step: step.clone(), generation }).await?;
        let driver = self.driver;
        let effect = driver.effects.of(&context.step).ok_or_else(|| RunError::NoProvider {
            step: step.clone(),
            kind: context.step.kind.text(),
        })?;
        let deadline = Duration::from_secs(context.step.limits.attempt_s);
        let mut attempt = 1;
        loop {
            self.hold_lease().await?;
            let point = format!("undo:{step}");
            self.fault(When::Before, &point)?;
            let undoing = within(deadline, effect.undo(&context));
            let undone = self.living(undoing, &context).await?;
            self.fault(When::After, &point)?;
            let failure = match undone {
                Some(Ok(note)) => {
                    return self.append(Entry::Undone { step, generation, note }).await;
                }
                Some(Err(failure)) => failure,
                None => Failure::ambiguous(
                    "RF1012",
                    format!("no answer within {} s", deadline.as_secs()),
                ),
            };
            let is_final = matches!(failure.class, FailureClass::Terminal | FailureClass::Data);
            if is_final || attempt >= UNDO_ATTEMPTS_MAX {
                let (code, message) = (failure.code, failure.message);
                return self.append(Entry::UndoFailed { step, generation, code, message }).await;
            }
            self.wait(pause(attempt)).await?;
            attempt += 1;
        }
    }

    /// Waits, and says meanwhile that the driver lives.
    async fn wait(&mut self, pause: Duration) -> Result<(), RunError> {
        let began = self.driver.clock.monotonic();
        while self.driver.clock.monotonic().saturating_sub(began) < pause {
            tokio::time::sleep(pause.min(HEARTBEAT)).await;
            self.read_inbox_now().await?;
            self.beat().await?;
        }
        Ok(())
    }

    async fn read_inbox_now(&mut self) -> Result<(), RunError> {
        // A pause is heeded between attempts, too.
        Box::pin(self.read_inbox()).await
    }

    pub(super) fn context(&self, at: usize) -> Result<StepContext, RunError> {
        let step = self.state.plan.steps.get(at).ok_or(RunError::NoStep(at))?;
        Ok(StepContext {
            run: self.state.run.clone(),
            parameters: self.state.parameters(at),
            key: self.state.key(at),
            facts: self.state.facts.clone(),
            originals: self.state.originals.clone(),
            step: step.clone(),
        })
    }

    fn generation(&self, at: usize) -> u32 {
        self.state.steps.get(at).map_or(1, |state| state.generation)
    }

    /// A step is performed on its host and nowhere else.
    fn must_be_here(&self, context: &StepContext) -> Result<(), RunError> {
        match &context.step.host {
            Some(host) if *host != self.driver.host => Err(RunError::OtherHost {
                step: context.step.id.to_string(),
                host: host.clone(),
                here: self.driver.host.clone(),
            }),
            _ => Ok(()),
        }
    }
}
