//! The folders of an unfinished restore: locked while it runs, marked until it is complete.
//!
//! A mark in a tablespace's folder names the data directory, so that a repeat knows what is its
//! own, and nobody else's files are ever cleared.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use repository::Label;
use stdx::durable;

use crate::owner::Owner;
use crate::tablespaces::Place;
use crate::{Error, target};

/// Stands in a directory as long as its restore is unfinished.
pub(crate) const CLAIM_FILE: &str = "rollforward.restoring";

/// What a mark that was being written when the process was killed is called.
pub(crate) const DRAFT_PREFIX: &str = ".rollforward.restoring.";

/// Folders that are being filled by us.
#[derive(Debug)]
pub(crate) struct Claim {
    directory: PathBuf,
    places: Vec<PathBuf>,
    label: Label,
    owner: Owner,
    _locks: Vec<File>,
}

/// Whether the name is one of ours in an unfinished restore, or the root of a file system of its
/// own.
pub(crate) fn is_ignored(name: &std::ffi::OsStr) -> bool {
    name == "lost+found" || name.as_bytes().starts_with(DRAFT_PREFIX.as_bytes())
}

/// Whether an unfinished restore of the data directory left this folder's content: its own, or one
/// of its tablespaces'. A cluster that was started since is nobody's leftover, whatever marks it
/// has.
pub(crate) fn is_ours(folder: &Path, directory: &Path) -> bool {
    let Some(mark) = read_mark(directory).filter(|_| !was_started(directory)) else { return false };
    if folder == directory {
        return true;
    }
    match read_mark(folder) {
        Some(back) => names(&back, directory),
        // The marks of a complete restore go one by one, that of the data directory last.
        None => names(&mark, folder),
    }
}

fn read_mark(folder: &Path) -> Option<Vec<u8>> {
    fs::read(folder.join(CLAIM_FILE)).ok()
}

fn names(mark: &[u8], path: &Path) -> bool {
    mark.split(|byte| *byte == b'\n').skip(1).any(|seen| seen == path.as_os_str().as_bytes())
}

/// A restore writes `pg_control` with a checkpoint that no server has; a server replaces it.
fn was_started(directory: &Path) -> bool {
    match fs::read(directory.join(pg::control::CONTROL_FILE_PATH)) {
        Ok(bytes) => pg::ControlFile::decode(&bytes)
            .map_or(true, |control| control.checkpoint != pg::control::INVALID_CHECKPOINT),
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

/// A line for the backup, then one for each path.
fn mark_text<'a>(label: &str, paths: impl Iterator<Item = &'a Path>) -> Vec<u8> {
    let mut text = label.as_bytes().to_vec();
    for path in paths {
        text.push(b'\n');
        text.extend_from_slice(path.as_os_str().as_bytes());
    }
    text.push(b'\n');
    text
}

impl Claim {
    /// Makes the folders, locks them and marks them as unfinished. What an earlier unfinished
    /// restore of ours left in them is cleared first.
    pub(crate) fn take(
        directory: &Path,
        places: &[Place],
        label: &Label,
        mode: u32,
        owner: Owner,
    ) -> Result<Self, Error> {
        let others: Vec<&Path> = places.iter().map(|place| place.directory.as_path()).collect();
        let folders = || [directory].into_iter().chain(others.iter().copied());
        let mut locks = Vec::with_capacity(others.len() + 1);
        for folder in folders() {
            make(folder, mode, owner)?;
            locks.push(lock(folder)?);
        }
        // Again, now that nobody else can be filling them.
        target::check_folders(directory, places)?;
        let clear =
            |folder: &Path| clear(folder).map_err(|error| Error::file("clear", folder, error));
        clear(directory)?;
        for folder in &others {
            clear(folder)?;
            write_mark(folder, &mark_text(label.as_str(), [directory].into_iter()), owner)?;
        }
        write_mark(directory, &mark_text(label.as_str(), std::iter::empty()), owner)?;
        Ok(Self {
            directory: directory.to_owned(),
            places: others.into_iter().map(Path::to_owned).collect(),
            label: label.clone(),
            owner,
            _locks: locks,
        })
    }

    /// The restore is complete: the marks go. From the first write on, the data directory's mark
    /// stands for those of the tablespaces.
    pub(crate) fn release(self) -> Result<(), Error> {
        let places = self.places.iter().map(PathBuf::as_path);
        write_mark(&self.directory, &mark_text(self.label.as_str(), places), self.owner)?;
        for folder in self.places.iter().chain([&self.directory]) {
            let mark = folder.join(CLAIM_FILE);
            durable::remove(&mark).map_err(|error| Error::file("remove", &mark, error))?;
        }
        Ok(())
    }
}

fn write_mark(folder: &Path, text: &[u8], owner: Owner) -> Result<(), Error> {
    let mark = folder.join(CLAIM_FILE);
    durable::write_atomic(&mark, text, 0o600)
        .map_err(|error| Error::file("write", &mark, error))?;
    owner.give_path(&mark).map_err(|error| Error::file("hand over", &mark, error))
}

/// Held until the restore ends, however it ends. A file system without locks is no reason to
/// refuse.
fn lock(folder: &Path) -> Result<File, Error> {
    let file = File::open(folder).map_err(|error| Error::file("open", folder, error))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Error::Busy { path: folder.into() }),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Makes a folder that only its owner may enter (or its group may read, with mode 0750). Missing
/// folders above it are ordinary ones.
fn make(folder: &Path, mode: u32, owner: Owner) -> Result<(), Error> {
    let failed = |verb, path: &Path| {
        let path = path.to_owned();
        move |error| Error::file(verb, &path, error)
    };
    let missing: Vec<&Path> = folder
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .collect();
    for path in missing.iter().rev() {
        let builder_mode = if *path == folder { 0o700 } else { 0o755 };
        match DirBuilder::new().mode(builder_mode).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(failed("create", path)(error));
            }
            _ => owner.give_path(path).map_err(failed("hand over", path))?,
        }
        durable::sync_parent(path).map_err(failed("make durable", path))?;
    }
    owner.give_path(folder).map_err(failed("hand over", folder))?;
    // PostgreSQL starts only in a directory nobody else may write to.
    fs::set_permissions(folder, fs::Permissions::from_mode(mode))
        .map_err(failed("set the mode of", folder))
}

/// Empties a folder except for our mark. `pg_control` goes first, so that nothing half-cleared
/// starts.
fn clear(folder: &Path) -> io::Result<()> {
    let control = folder.join(pg::control::CONTROL_FILE_PATH);
    if control.exists() {
        durable::remove(&control)?;
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name == CLAIM_FILE || name == "lost+found") {
            continue;
        }
        // A link is removed, never followed: a tablespace is cleared under its own mark.
        if path.symlink_metadata()?.is_dir() {
            fs::remove_dir_all(&path)?;
        } else {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
