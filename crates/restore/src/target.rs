//! The directory that is restored to: checked before it is touched, claimed while it is unfinished.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use repository::Label;
use stdx::{ByteCount, durable};

use crate::Error;
use crate::owner::Owner;
use crate::tablespaces::Place;

/// Stands in a directory as long as its restore is unfinished.
pub(crate) const CLAIM_FILE: &str = "rollforward.restoring";

/// Room beside the backup's own bytes: WAL that recovery fetches, and what the file system needs.
const SLACK_BYTES: u64 = 256 << 20;

/// Refuses a directory that is not ours to fill.
pub(crate) fn check(directory: &Path, size: u64, places: &[Place]) -> Result<(), Error> {
    check_empty(directory)?;
    for place in places {
        let refuse = |reason: String| Error::Tablespace {
            oid: place.oid.get(),
            path: place.directory.display().to_string(),
            reason,
        };
        if place.directory.starts_with(directory) || directory.starts_with(&place.directory) {
            return Err(refuse("lies inside the data directory".into()));
        }
        match check_empty(&place.directory) {
            Err(Error::NotEmpty { first, .. }) => {
                return Err(refuse(format!("is not empty: it holds '{first}'")));
            }
            other => other?,
        }
    }
    check_space(directory, size)
}

fn check_empty(directory: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::file("read directory", directory, error)),
    };
    if let Some(pid) = running_postmaster(directory) {
        return Err(Error::ServerRuns { path: directory.into(), pid });
    }
    if directory.join(CLAIM_FILE).exists() {
        return Ok(());
    }
    for entry in entries {
        let entry = entry.map_err(|error| Error::file("read directory", directory, error))?;
        let name = entry.file_name();
        // The root of a file system of its own.
        if name != "lost+found" {
            let first = name.to_string_lossy().into_owned();
            return Err(Error::NotEmpty { path: directory.into(), first });
        }
    }
    Ok(())
}

/// The process named in `postmaster.pid`, if it lives.
fn running_postmaster(directory: &Path) -> Option<u32> {
    let text = fs::read_to_string(directory.join("postmaster.pid")).ok()?;
    let pid: u32 = text.lines().next()?.trim().parse().ok()?;
    Path::new("/proc").join(pid.to_string()).exists().then_some(pid)
}

fn check_space(directory: &Path, size: u64) -> Result<(), Error> {
    let Some(existing) = directory.ancestors().find(|folder| folder.exists()) else {
        return Ok(());
    };
    let stat = rustix::fs::statvfs(existing)
        .map_err(|error| Error::file("look at the file system of", existing, error.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let unfinished = if directory.join(CLAIM_FILE).exists() { size } else { 0 };
    let needed = size.saturating_add(SLACK_BYTES);
    if free.saturating_add(unfinished) < needed {
        return Err(Error::NoSpace {
            path: directory.into(),
            expected: ByteCount::new(needed),
            seen: ByteCount::new(free),
        });
    }
    Ok(())
}

/// A directory that is being filled by us.
#[derive(Debug)]
pub(crate) struct Claim {
    marks: Vec<PathBuf>,
}

impl Claim {
    /// Makes the directories and marks them as unfinished. What an earlier unfinished restore of
    /// ours left in them is cleared first.
    pub(crate) fn take(
        directory: &Path,
        places: &[Place],
        label: &Label,
        owner: Owner,
    ) -> Result<Self, Error> {
        let mut marks = Vec::with_capacity(places.len() + 1);
        let others = places.iter().map(|place| place.directory.as_path());
        for folder in others.chain([directory]) {
            make(folder, owner)?;
            let mark = folder.join(CLAIM_FILE);
            if mark.exists() {
                clear(folder, &mark).map_err(|error| Error::file("clear", folder, error))?;
            }
            durable::write_atomic(&mark, label.as_str().as_bytes(), 0o600)
                .map_err(|error| Error::file("write", &mark, error))?;
            owner.give_path(&mark).map_err(|error| Error::file("hand over", &mark, error))?;
            marks.push(mark);
        }
        Ok(Self { marks })
    }

    /// The restore is complete: the marks go.
    pub(crate) fn release(self) -> Result<(), Error> {
        for mark in &self.marks {
            durable::remove(mark).map_err(|error| Error::file("remove", mark, error))?;
        }
        Ok(())
    }
}

fn make(folder: &Path, owner: Owner) -> Result<(), Error> {
    let failed = |verb| move |error| Error::file(verb, folder, error);
    if folder.exists() {
        // PostgreSQL starts only in a directory nobody else may write to.
        let mode = fs::Permissions::from_mode(0o700);
        return fs::set_permissions(folder, mode).map_err(failed("set the mode of"));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed("create"))?;
    owner.give_path(folder).map_err(failed("hand over"))?;
    durable::sync_parent(folder).map_err(failed("make durable"))
}

/// Empties a folder except for our mark. `pg_control` goes first, so that nothing half-cleared starts.
fn clear(folder: &Path, mark: &Path) -> io::Result<()> {
    let control = folder.join(pg::control::CONTROL_FILE_PATH);
    if control.exists() {
        durable::remove(&control)?;
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path == *mark || path.file_name().is_some_and(|name| name == "lost+found") {
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
