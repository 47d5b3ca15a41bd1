//! The lease of a running backup: as long as it is prolonged, nobody deletes what the backup
//! stores.

use std::time::Duration;

use repository::lease::{self, Lease, TTL_DEFAULT};
use repository::{Error, Label, Repository};
use stdx::Clock;
use tokio::sync::Mutex;

/// Heartbeats in a time to live: two may fail before the third is late.
const BEATS_PER_TTL: u32 = 4;

/// Between two attempts at a heartbeat that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// A lease that is held.
#[derive(Debug)]
pub(crate) struct Hold<'a> {
    repository: &'a Repository,
    lease: Mutex<Beaten>,
}

#[derive(Debug)]
struct Beaten {
    lease: Lease,
    /// When the last heartbeat was begun to be written.
    at: Duration,
}

impl<'a> Hold<'a> {
    /// Takes the lease.
    ///
    /// # Errors
    /// An error of a store.
    pub(crate) async fn begin(
        repository: &'a Repository,
        label: &Label,
        clock: &dyn Clock,
    ) -> Result<Self, Error> {
        let at = clock.monotonic();
        let lease = lease::begin(repository, &owner(), label.as_str(), None, TTL_DEFAULT).await?;
        Ok(Self { repository, lease: Mutex::new(Beaten { lease, at }) })
    }

    /// Prolongs the lease for as long as it is polled; returns only when it is lost.
    pub(crate) async fn lost(&self, clock: &dyn Clock) -> Error {
        let mut beaten = self.lease.lock().await;
        let ttl = beaten.lease.ttl;
        loop {
            let due = beaten.at + ttl / BEATS_PER_TTL;
            tokio::time::sleep(due.saturating_sub(clock.monotonic())).await;
            let at = clock.monotonic();
            match lease::beat(self.repository, &mut beaten.lease).await {
                Ok(()) => beaten.at = at,
                Err(error) if clock.monotonic() < beaten.at + ttl => {
                    tracing::warn!(%error, "cannot prolong the backup's lease; trying again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Err(error) => return error,
            }
        }
    }

    /// Gives the lease back. What cannot be removed expires by itself.
    pub(crate) async fn end(&self) {
        let beaten = self.lease.lock().await;
        if let Err(error) = lease::end(self.repository, &beaten.lease).await {
            tracing::warn!(%error, "the backup's lease stays until it expires");
        }
    }
}

/// Who holds it: host and process.
fn owner() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{} process {}", host.trim(), std::process::id())
}
