//! The directory that is restored to: checked before it is touched.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use repository::Repository;
use repository::root::Root;
use repository::tree::EntryKind;
use repository::walk::Walk;
use rustix::fs::Access;
use rustix::io::Errno;
use stdx::ByteCount;

use crate::Error;
use crate::claim::{self, CLAIM_FILE};
use crate::owner::Owner;
use crate::tablespaces::Place;

/// Room beside the backup's own bytes: WAL segments that recovery fetches and the server writes…
const SLACK_SEGMENTS: u64 = 4;

/// …and what the file system needs for itself: one part in so many of the backup.
const SLACK_PART: u64 = 64;

/// Refuses folders that are not ours to fill.
pub(crate) fn check(directory: &Path, places: &[Place], owner: Owner) -> Result<(), Error> {
    let real_directory = real(directory)?;
    let mut seen: Vec<PathBuf> = Vec::new();
    for place in places {
        let refuse = |reason: &str| Err(unusable(place, reason));
        let real = real(&place.directory)?;
        if real.starts_with(&real_directory) {
            return refuse("lies inside the data directory");
        }
        if real_directory.starts_with(&real) {
            return refuse("holds the data directory");
        }
        if seen.iter().any(|other| real.starts_with(other) || other.starts_with(&real)) {
            return refuse("would share its directory with another tablespace");
        }
        seen.push(real);
        owner.check(&place.directory)?;
    }
    check_folders(directory, places)?;
    check_writable(directory)?;
    places.iter().try_for_each(|place| check_writable(&place.directory))
}

/// Refuses a folder that cannot be filled, or cannot be made below the nearest one that is there.
fn check_writable(folder: &Path) -> Result<(), Error> {
    let first_missing = folder.ancestors().take_while(|path| !path.exists()).last();
    let existing = first_missing.map_or(folder, |path| path.parent().unwrap_or(path));
    match rustix::fs::access(existing, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => return Ok(()),
        // Its owner is known to be who restores, and that gives it its mode first of all.
        Err(Errno::ACCESS) if first_missing.is_none() => return Ok(()),
        Err(_) => {}
    }
    // access(2) knows nothing of capabilities: what it denies is tried before it is refused.
    let probe = existing.join(format!("{}{}", claim::DRAFT_PREFIX, stdx::Id::random()));
    let (verb, path) = first_missing.map_or(("write into", folder), |path| ("create", path));
    fs::create_dir(&probe)
        .and_then(|()| fs::remove_dir(&probe))
        .map_err(|error| Error::file(verb, path, error))
}

/// Refuses folders that hold something that no unfinished restore of ours left.
pub(crate) fn check_folders(directory: &Path, places: &[Place]) -> Result<(), Error> {
    check_empty(directory, directory)?;
    for place in places {
        match check_empty(&place.directory, directory) {
            Err(Error::NotEmpty { first, .. }) if first == CLAIM_FILE => {
                return Err(unusable(
                    place,
                    "belongs to an unfinished restore into another directory",
                ));
            }
            Err(Error::NotEmpty { first, .. }) => {
                return Err(unusable(place, &format!("is not empty: it holds '{first}'")));
            }
            other => other?,
        }
    }
    Ok(())
}

fn unusable(place: &Place, reason: &str) -> Error {
    let path = place.directory.display().to_string();
    Error::Tablespace { oid: place.oid.get(), path, reason: reason.into() }
}

/// The path with its links resolved as far as it exists.
fn real(path: &Path) -> Result<PathBuf, Error> {
    for folder in path.ancestors() {
        match fs::canonicalize(folder) {
            Ok(real) => {
                let rest = path.strip_prefix(folder).unwrap_or(Path::new(""));
                if rest.components().any(|part| part == Component::ParentDir) {
                    let missing = ErrorKind::NotFound.into();
                    return Err(Error::file("look at", path, missing));
                }
                return Ok(if rest.as_os_str().is_empty() { real } else { real.join(rest) });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("look at", folder, error)),
        }
    }
    Ok(path.to_owned())
}

fn check_empty(folder: &Path, directory: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::file("read directory", folder, error)),
    };
    if let Some(pid) = running_postmaster(folder) {
        return Err(Error::ServerRuns { path: folder.into(), pid });
    }
    if claim::is_ours(folder, directory) {
        return Ok(());
    }
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::file("read directory", folder, error))?;
        names.push(entry.file_name());
    }
    // The mark says most, then the first in order, so that a message does not change.
    names.sort_by_key(|name| (name != CLAIM_FILE, name.clone()));
    if folder != directory && names.iter().all(|name| name == CLAIM_FILE || claim::is_ignored(name))
    {
        return Ok(());
    }
    match names.iter().find(|name| !claim::is_ignored(name)) {
        None => Ok(()),
        Some(name) => {
            let first = name.to_string_lossy().into_owned();
            Err(Error::NotEmpty { path: folder.into(), first })
        }
    }
}

/// The process named in `postmaster.pid`, if it lives.
fn running_postmaster(directory: &Path) -> Option<u32> {
    let text = fs::read_to_string(directory.join("postmaster.pid")).ok()?;
    let pid: u32 = text.lines().next()?.trim().parse().ok()?;
    Path::new("/proc").join(pid.to_string()).exists().then_some(pid)
}

/// One file system that is written to.
struct Disk {
    device: u64,
    /// A folder on it that exists, for the question, and the one that is restored to, for messages.
    existing: PathBuf,
    folder: PathBuf,
    needed: u64,
    /// What an unfinished restore occupies and gives back.
    reclaimed: u64,
}

/// Refuses when a file system has too little room for what comes to lie on it.
pub(crate) async fn check_space(
    repository: &Repository,
    root: &Root,
    directory: &Path,
    places: &[Place],
) -> Result<(), Error> {
    let mut disks: Vec<Disk> = Vec::new();
    let mut add = |folder: &Path| -> Result<usize, Error> {
        let existing = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let device =
            fs::metadata(existing).map_err(|error| Error::file("look at", existing, error))?.dev();
        let ours = claim::is_ours(folder, directory);
        let reclaimed = if ours { used_below(folder) } else { 0 };
        if let Some(at) = disks.iter().position(|disk| disk.device == device) {
            if let Some(disk) = disks.get_mut(at) {
                disk.reclaimed += reclaimed;
            }
            return Ok(at);
        }
        let (existing, folder) = (existing.to_owned(), folder.to_owned());
        disks.push(Disk { device, existing, folder, needed: 0, reclaimed });
        Ok(disks.len() - 1)
    };
    let main = add(directory)?;
    let mut on = Vec::new();
    for place in places {
        on.push((format!("pg_tblspc/{}/", place.oid).into_bytes(), add(&place.directory)?));
    }
    let mut sizes = vec![0_u64; disks.len()];
    if disks.len() > 1 {
        // Only the tree knows how much lies in which tablespace.
        let mut entries = Walk::new(repository, root.summary.tree);
        while let Some(entry) = entries.next().await? {
            let at = on.iter().find(|(below, _)| entry.path.starts_with(below));
            let at = at.map_or(main, |(_, at)| *at);
            if let Some(size) = sizes.get_mut(at).filter(|_| entry.kind == EntryKind::File) {
                *size = size.saturating_add(entry.size);
            }
        }
    } else if let Some(size) = sizes.get_mut(main) {
        *size = root.summary.size;
    }
    let wal = root.summary.segment_size.saturating_mul(SLACK_SEGMENTS);
    for (at, (disk, size)) in disks.iter_mut().zip(sizes).enumerate() {
        let slack = size / SLACK_PART + if at == main { wal } else { 0 };
        disk.needed = size.saturating_add(slack);
    }
    disks.iter().try_for_each(check_disk)
}

fn check_disk(disk: &Disk) -> Result<(), Error> {
    let stat = rustix::fs::statvfs(&disk.existing)
        .map_err(|error| Error::file("look at the file system of", &disk.existing, error.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free.saturating_add(disk.reclaimed) < disk.needed {
        return Err(Error::NoSpace {
            path: disk.folder.clone(),
            expected: ByteCount::new(disk.needed),
            seen: ByteCount::new(free),
        });
    }
    Ok(())
}

/// Bytes that the files below a folder occupy, links not followed. What cannot be looked at counts
/// nothing.
fn used_below(folder: &Path) -> u64 {
    let mut used = 0_u64;
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            used = used.saturating_add(meta.blocks().saturating_mul(512));
            if meta.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    used
}
