//! Removing a replaced cluster for good: the last act of a recovery, days later, by command.

use std::path::{Path, PathBuf};

use super::fence::is_fenced;
use super::{control, postmaster};

/// A cluster that was replaced.
#[derive(Clone, Debug)]
pub struct Old {
    /// Its data directory, as the run fenced it.
    pub directory: PathBuf,
    /// Its system identifier, as the run saw it.
    pub system_id: String,
    /// Directories that must stay: the restored cluster's, and every declared one.
    pub never: Vec<PathBuf>,
}

/// Why a replaced cluster is not removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not removed: {why}", directory.display())]
pub struct NotRemovable {
    /// The directory.
    pub directory: PathBuf,
    /// Why.
    pub why: String,
}

/// The name that a directory has while it is being removed: one that was begun is gone on with.
fn leaving(directory: &Path) -> PathBuf {
    let name = directory.file_name().map(|name| name.to_string_lossy().into_owned());
    directory.with_file_name(format!("{}.being-removed", name.unwrap_or_default()))
}

impl Old {
    /// What is there to remove: `None` when it is gone already. Touches nothing.
    ///
    /// # Errors
    /// [`NotRemovable`]: it is not the cluster that was replaced, or somebody uses it.
    pub fn look(&self) -> Result<Option<PathBuf>, NotRemovable> {
        let no = |why: String| NotRemovable { directory: self.directory.clone(), why };
        let leaving = leaving(&self.directory);
        if !self.directory.exists() {
            return Ok(leaving.exists().then_some(leaving));
        }
        let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let ours = real(&self.directory);
        let stays = |path: &PathBuf| real(path).starts_with(&ours) || ours.starts_with(real(path));
        if let Some(stays) = self.never.iter().find(|path| stays(path)) {
            return Err(no(format!("'{}' is in use, and lies there", stays.display())));
        }
        let seen = control(&self.directory).map_err(|failure| no(failure.message))?.system_id;
        if seen.to_string() != self.system_id {
            return Err(no(format!("expected system identifier {}, seen {seen}", self.system_id)));
        }
        if !is_fenced(&self.directory) {
            return Err(no("its fence was lifted: somebody has taken it back".into()));
        }
        match postmaster(&self.directory) {
            Ok(None) => {}
            Ok(Some(found)) => return Err(no(format!("a server runs in it ({})", found.pid))),
            Err(failure) => return Err(no(failure.message)),
        }
        let processes = pgclient::local::processes_in(&self.directory);
        match processes.is_empty() {
            true => Ok(Some(self.directory.clone())),
            false => Err(no(format!("processes {processes:?} work in it"))),
        }
    }
}

/// Removes what [`Old::look`] found; tablespaces outside of it, which are left alone. A directory
/// that is being removed has another name and no `pg_control`: no server starts in it.
///
/// # Errors
/// It is not removed as a whole; the same call goes on.
pub fn remove(old: &Old, found: &Path) -> std::io::Result<Vec<PathBuf>> {
    let leaving = leaving(&old.directory);
    if found != leaving {
        stdx::durable::rename(found, &leaving)?;
    }
    let links = std::fs::read_dir(leaving.join("pg_tblspc"));
    let tablespaces = links
        .into_iter()
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .collect();
    match stdx::durable::remove(&leaving.join(pg::control::CONTROL_FILE_PATH)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::remove_dir_all(&leaving)?;
    Ok(tablespaces)
}
