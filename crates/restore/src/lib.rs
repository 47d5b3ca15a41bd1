//! A data directory from a backup: checked before a byte is copied, complete before it can start.
//!
//! Refuses to know: live servers, clouds, where the backup's repository came from. Main types:
//! [`Options`], [`restore`], [`Quarantine`].
//!
//! Invariants: nothing that was in the directory before is touched, unless it is our own unfinished
//! restore; `pg_control` appears last, so that what is unfinished does not start; every byte that is
//! written was authenticated.

mod copy;
mod finish;
mod owner;
mod tablespaces;
mod target;

pub mod error;
pub mod quarantine;

use std::path::PathBuf;
use std::time::Duration;

use repository::Repository;
use repository::root::Root;
use stdx::{ByteCount, Clock};

pub use error::Error;
pub use quarantine::{Destiny, Quarantine};
pub use tablespaces::Remap;

/// Hears how far a restore is. Called from several threads.
pub trait Progress: Send + Sync {
    /// How much there is to do.
    fn total(&self, bytes: u64, files: u64);
    /// That many more bytes are written.
    fn advance(&self, bytes: u64);
    /// Something the operator should see.
    fn note(&self, text: &str);
}

/// What to restore to, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The new data directory: absent, or empty and ours.
    pub directory: PathBuf,
    /// Where tablespaces go.
    pub tablespaces: Remap,
    /// Threads that fetch, open and write.
    pub workers: usize,
    /// Settings of recovery and quarantine.
    pub quarantine: Quarantine,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The data directory.
    pub directory: PathBuf,
    /// Bytes written.
    pub size: ByteCount,
    /// Files, directories and links.
    pub entries: u64,
    /// Tablespaces: oid and where its files are now.
    pub tablespaces: Vec<(u32, PathBuf)>,
    /// Settings of the source that were taken out of effect, as `file:line name`.
    pub taken_out: Vec<String>,
    /// From the first check to the last fsync.
    pub duration: Duration,
}

/// Restores a backup into a directory. The server is not started.
///
/// When it fails or is killed, the directory holds our marker and no `pg_control`: a repeat with the
/// same directory clears it and begins again.
///
/// # Errors
/// Anything of [`Error`]; the checks come before the first byte is copied.
pub async fn restore(
    repository: &Repository,
    root: &Root,
    options: &Options,
    progress: &dyn Progress,
    clock: &dyn Clock,
) -> Result<Report, Error> {
    let started = clock.monotonic();
    let owner = owner::Owner::of_target(&options.directory)?;
    let places = options.tablespaces.resolve(&root.details.tablespaces)?;
    target::check(&options.directory, root.summary.size, &places)?;
    let claim = target::Claim::take(&options.directory, &places, &root.summary.label, owner)?;
    progress.total(root.summary.size, root.summary.entries);
    let held_back =
        copy::run(repository, root, &options.directory, &places, options.workers, owner, progress)
            .await?;
    let taken_out = finish::run(root, options, &places, &held_back, owner)?;
    claim.release()?;
    Ok(Report {
        directory: options.directory.clone(),
        size: ByteCount::new(root.summary.size),
        entries: root.summary.entries,
        tablespaces: places
            .iter()
            .map(|place| (place.oid.get(), place.directory.clone()))
            .collect(),
        taken_out,
        duration: clock.monotonic().saturating_sub(started),
    })
}
