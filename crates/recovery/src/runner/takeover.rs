//! Taking a run over: from a driver that is dead, or whose lease has ended.

use std::time::Duration;

use super::{Driver, LEASE_MARGIN, LEASE_TTL, RunError, When};
use crate::journal::{Entry, HomeError, Loaded, Writer};
use crate::machine::{Next, Phase, State, Status};

/// How often the journal is looked at while the lease is waited for.
const LOOK_PERIOD: Duration = Duration::from_secs(2);

/// Whether the driver before may still live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It was this machine's process, and it is gone.
    Dead,
    /// It cannot be told: its lease and its open attempts are waited for.
    Unknown,
}

/// Makes `driver` the driver of a run: waits until the lease of the one before has ended and the
/// deadlines of its open attempts have passed, and records the change. Time is measured here, from
/// the moment the newest record is seen first: no clock of another machine is trusted.
///
/// # Errors
/// [`RunError::Journal`]: another driver was faster, or lives.
pub async fn take_over(
    driver: &mut Driver,
    run: &str,
    before: Before,
    by: &str,
    reason: &str,
) -> Result<Loaded, RunError> {
    let mut loaded = driver.home.load(run).await?;
    let mut state = State::replay(&loaded.records)?;
    must_be_here(driver, &state)?;
    if before == Before::Unknown {
        wait_for_the_end(driver, &mut loaded, &mut state).await?;
    }
    must_be_here(driver, &state)?;
    if state.is_closed() {
        // Nothing to drive; whoever asked sees how it ended.
        return Ok(loaded);
    }
    driver.writer = Writer { epoch: state.epoch + 1, ..driver.writer.clone() };
    let entry = Entry::DriverChanged { by: by.into(), reason: reason.into() };
    let point = format!("append:{}", entry.kind());
    die(driver, When::Before, &point)?;
    let appended = driver.home.append(&mut loaded.end, &driver.writer, &*driver.clock, entry).await;
    die(driver, When::After, &point)?;
    match appended {
        Ok((record, _)) => loaded.records.push(record),
        Err(error @ HomeError::Lost { .. }) => return Err(error.into()),
        Err(error) => return Err(error.into()),
    }
    Ok(loaded)
}

fn die(driver: &Driver, when: When, point: &str) -> Result<(), RunError> {
    match driver.faults.dies_at(when, point) {
        true => Err(RunError::Died(format!("{when:?} {point}"))),
        false => Ok(()),
    }
}

/// A driver that cannot perform the next step that names a host would only take the run away from
/// one that can, and leave it in the middle.
fn must_be_here(driver: &Driver, state: &State) -> Result<(), RunError> {
    let hosted = |at: &usize| state.step(*at).is_some_and(|(step, _)| step.host.is_some());
    let next = match (&state.phase, state.next()) {
        (Phase::Closed { .. }, _) => None,
        // What is only to be recorded can be recorded anywhere.
        (Phase::RollingBack { .. }, _) => state.rest_to_undo().find(hosted),
        (_, Next::Undo(at)) => Some(at),
        _ => (0..state.plan.steps.len()).find(|at| hosted(at) && !state.is_passed(*at)),
    };
    let Some((step, _)) = next.and_then(|at| state.step(at)) else { return Ok(()) };
    match &step.host {
        Some(host) if *host != driver.host => Err(RunError::OtherHost {
            step: step.id.to_string(),
            host: host.clone(),
            here: driver.host.clone(),
        }),
        _ => Ok(()),
    }
}

async fn wait_for_the_end(
    driver: &Driver,
    loaded: &mut Loaded,
    state: &mut State,
) -> Result<(), RunError> {
    let mut since = driver.clock.boottime();
    loop {
        if state.is_closed() {
            return Ok(());
        }
        let needed = needed(state);
        let waited = driver.clock.boottime().saturating_sub(since);
        if waited >= needed {
            return Ok(());
        }
        tokio::time::sleep(LOOK_PERIOD.min(needed.saturating_sub(waited))).await;
        let known = loaded.records.len();
        if driver.home.follow(loaded).await? {
            since = driver.clock.boottime();
            for record in loaded.records.iter().skip(known) {
                state.apply(record)?;
            }
        }
    }
}

/// How long nothing must have been recorded before the run may be taken over. An attempt begins
/// while the lease of the newest record is good for one, and what it sent arrives until its
/// deadline.
fn needed(state: &State) -> Duration {
    let steps = state.plan.steps.iter().zip(&state.steps);
    let open = steps.filter(|(_, it)| matches!(it.status, Status::Intended | Status::UndoIntended));
    // An undo has the plan's limit, and no intent that says so when the effect was found there.
    let deadline = open.map(|(step, it)| it.deadline_s.max(step.limits.attempt_s)).max();
    let last_begin = LEASE_TTL.saturating_sub(LEASE_MARGIN);
    LEASE_TTL.max(deadline.map_or(LEASE_TTL, |limit| last_begin + Duration::from_secs(limit)))
}
