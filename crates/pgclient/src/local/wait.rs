//! Waiting for a server on its way through recovery.

use std::time::Duration;

use super::progress::Progress;
use super::server::POLL;
use super::{LocalServer, State, Status, log};
use crate::{Client, ConnectOptions, Error, PauseState, ReplayState};

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Consistent and taking sessions, as a standby or a primary.
    Consistent,
    /// Replay stands still at its target; or recovery has ended, if it was to end there.
    Target,
    /// Recovery has ended and the server takes writes.
    Promoted,
}

/// Whether a server takes sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ping {
    /// It does, though perhaps not this login.
    Accepting,
    /// It is there and takes none now.
    NotReady,
    /// Nobody answers.
    Silent,
}

/// Asks a server whether it takes sessions, by trying to open one; a refused login is a yes.
///
/// PostgreSQL: `PQping`, src/interfaces/libpq/fe-connect.c; `pg_isready`.
pub async fn ping(options: &ConnectOptions) -> Ping {
    match Client::connect(options).await {
        Ok(_) | Err(Error::Refused { .. }) => Ping::Accepting,
        Err(Error::NotReady { .. }) => Ping::NotReady,
        Err(_) => Ping::Silent,
    }
}

impl LocalServer {
    /// Waits until the server is where it shall be, and returns the state of replay then. `options`
    /// must let a role in that may ask for it. As long as replay moves there is no limit; after
    /// `quiet` without any sign of progress the wait ends.
    ///
    /// # Errors
    /// [`Error::NotRunning`] if it ended (its log says why); [`Error::NoProgress`];
    /// [`Error::Refused`], [`Error::Sql`] and the like from the session.
    pub async fn wait_until(
        &self,
        awaited: Awaited,
        options: &ConnectOptions,
        quiet: Duration,
    ) -> Result<ReplayState, Error> {
        let mut progress = Progress::new();
        let mut client = None;
        loop {
            let Status::Running(found) = self.status()? else { return Err(self.ended()) };
            let state = match found.state {
                State::Ready => look(&mut client, options).await?,
                _ => None,
            };
            if let Some(state) = &state
                && is_there(awaited, state)
            {
                return Ok(state.clone());
            }
            let position = format!("{:?}", state.and_then(|state| state.replayed));
            let still = progress.quiet_for(&self.data_dir, &self.log, Some(&found), &position);
            if still >= quiet {
                let what = match awaited {
                    Awaited::Consistent => "consistency",
                    Awaited::Target => "the recovery target",
                    Awaited::Promoted => "the end of recovery",
                };
                return Err(self.no_progress(what, still, 0));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn ended(&self) -> Error {
        let reason = format!("it ended\n{}", log::tail(&self.data_dir, &self.log, 0));
        Error::StartFailed { data_dir: self.data_dir.clone(), reason }
    }
}

fn is_there(awaited: Awaited, state: &ReplayState) -> bool {
    match awaited {
        Awaited::Consistent => true,
        Awaited::Target => state.pause == PauseState::Paused || !state.in_recovery,
        Awaited::Promoted => !state.in_recovery,
    }
}

/// The state of replay, in a session that is opened when needed; `None` while there is none to be
/// had, which is normal on the way.
async fn look(
    client: &mut Option<Client>,
    options: &ConnectOptions,
) -> Result<Option<ReplayState>, Error> {
    let session = match client.take() {
        Some(session) => session,
        None => match Client::connect(options).await {
            Ok(session) => session,
            Err(Error::NotReady { .. } | Error::Connect { .. } | Error::Timeout { .. }) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        },
    };
    match session.replay_state().await {
        Ok(state) => {
            *client = Some(session);
            Ok(Some(state))
        }
        Err(Error::Lost { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
