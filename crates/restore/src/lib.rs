//! A data directory from a backup: checked before a byte is copied, complete before it can start.
//!
//! Refuses to know: live servers, clouds, where the backup's repository came from. Main types:
//! [`Options`], [`restore`], [`Quarantine`].
//!
//! Invariants: nothing that was in the directory before is touched, unless it is our own unfinished
//! restore; `pg_control` appears last, so that what is unfinished does not start; every byte that
//! is written was authenticated.

mod claim;
mod conf_line;
mod config;
mod copy;
mod finish;
mod ground;
mod owner;
mod tablespaces;
mod target;
mod write;

pub mod error;
pub mod quarantine;

use std::path::{Path, PathBuf};
use std::time::Duration;

use pg::TimelineId;
use repository::Repository;
use repository::root::Root;
use repository::tree::EntryKind;
use repository::walk::Walk;
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
    /// How many cores it may use. Twice as many threads fetch, open and write: half of them wait.
    pub workers: usize,
    /// Settings of recovery and quarantine.
    pub quarantine: Quarantine,
    /// The history files of the timelines on the way, for `pg_wal`: what PostgreSQL asks for after
    /// it has removed `recovery.signal` must not depend on a repository.
    pub histories: Vec<(TimelineId, Vec<u8>)>,
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
    /// What of the source's configuration was taken out of effect: settings as `file:line name`,
    /// libraries as `shared_preload_libraries name`, files as `file: why`.
    pub taken_out: Vec<String>,
    /// From the first check to the last fsync.
    pub duration: Duration,
}

/// Restores a backup into a directory. The server is not started.
///
/// When it fails or is killed, the directory holds our marker and no `pg_control`: a repeat with
/// the same directory clears it and begins again.
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
    let directory = std::path::absolute(&options.directory)
        .map_err(|error| Error::file("look at", &options.directory, error))?;
    let options = &Options { directory: directory.clone(), ..options.clone() };
    finish::check(root)?;
    let owner = owner(repository, root, &directory, progress).await?;
    let places = options.tablespaces.resolve(&root.details.tablespaces)?;
    target::check(&directory, &places, owner)?;
    target::check_space(repository, root, &directory, &places).await?;
    let mode = finish::directory_mode(root);
    let claim = claim::Claim::take(&directory, &places, &root.summary.label, mode, owner)?;
    progress.total(root.summary.size, root.summary.entries);
    let ground = ground::Ground::open(&directory, &places, owner)?;
    let held_back =
        copy::run(repository, root, &ground, &places, options.workers, progress).await?;
    let taken_out = finish::run(root, options, &places, &ground, &held_back)?;
    claim.release()?;
    Ok(Report {
        directory,
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

/// Looks whether a restore could begin, and touches nothing: what [`restore`] itself checks first.
///
/// # Errors
/// As [`restore`], before its first byte.
pub async fn check(
    repository: &Repository,
    root: &Root,
    options: &Options,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let directory = std::path::absolute(&options.directory)
        .map_err(|error| Error::file("look at", &options.directory, error))?;
    finish::check(root)?;
    let owner = owner(repository, root, &directory, progress).await?;
    let places = options.tablespaces.resolve(&root.details.tablespaces)?;
    target::check(&directory, &places, owner)?;
    target::check_space(repository, root, &directory, &places).await
}

/// Who will own the files; the first file of the tree tells whose they were.
async fn owner(
    repository: &Repository,
    root: &Root,
    directory: &Path,
    progress: &dyn Progress,
) -> Result<owner::Owner, Error> {
    let mut entries = Walk::new(repository, root.summary.tree);
    let mut first = entries.next().await?;
    while first.as_ref().is_some_and(|entry| entry.kind == EntryKind::Attachment) {
        first = entries.next().await?;
    }
    let recorded = first.as_ref().map(|entry| (entry.owner.as_str(), entry.group.as_str()));
    let (owner, can_run) = owner::Owner::of_target(directory, recorded)?;
    if !can_run {
        progress.note(
            "the files will belong to root, and PostgreSQL does not run as root: give the directory to its user first",
        );
    }
    Ok(owner)
}
