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
        let leaving = leaving(&self.directory);
        for path in [&self.directory, &leaving] {
            self.must_not_be_in_use(path)?;
        }
        if !self.directory.exists() {
            return Ok(leaving.exists().then_some(leaving));
        }
        let seen = control(&self.directory).map_err(|failure| self.no(failure.message))?.system_id;
        if seen.to_string() != self.system_id {
            return Err(
                self.no(format!("expected system identifier {}, seen {seen}", self.system_id))
            );
        }
        let hold = crate::breach::hold_file(&self.directory);
        // What cannot be looked at counts as held.
        if hold.try_exists().unwrap_or(true) {
            return Err(self.no(format!(
                "it is held as evidence: when nobody needs it any more, remove '{}'",
                hold.display()
            )));
        }
        if !is_fenced(&self.directory) {
            return Err(self.no("its fence was lifted: somebody has taken it back".into()));
        }
        self.must_be_still(&self.directory)?;
        Ok(Some(self.directory.clone()))
    }

    fn no(&self, why: String) -> NotRemovable {
        NotRemovable { directory: self.directory.clone(), why }
    }

    fn must_not_be_in_use(&self, path: &Path) -> Result<(), NotRemovable> {
        let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
        if std::fs::symlink_metadata(path).is_ok_and(|seen| seen.is_symlink()) {
            let there = real(path).display().to_string();
            return Err(self.no(format!("it is a symbolic link to '{there}': remove that by hand")));
        }
        let ours = real(path);
        let stays = |path: &PathBuf| real(path).starts_with(&ours) || ours.starts_with(real(path));
        match self.never.iter().find(|path| stays(path)) {
            Some(stays) => Err(self.no(format!("'{}' is in use, and lies there", stays.display()))),
            None => Ok(()),
        }
    }

    /// No server and no other process works in it.
    fn must_be_still(&self, directory: &Path) -> Result<(), NotRemovable> {
        match postmaster(directory) {
            Ok(None) => {}
            Ok(Some(found)) => return Err(self.no(format!("a server runs in it ({})", found.pid))),
            Err(failure) => return Err(self.no(failure.message)),
        }
        let processes = pgclient::local::processes_in(directory);
        match processes.is_empty() {
            true => Ok(()),
            false => Err(self.no(format!("processes {processes:?} work in it"))),
        }
    }

    /// Removes it, after another look: somebody may have taken it back while a person was asked.
    /// What lies outside of it, tablespaces and a `pg_wal` that is a link, is left alone and told.
    /// A directory that is being removed has another name and no `pg_control`: no server starts in
    /// it.
    ///
    /// # Errors
    /// It is not removed, or not as a whole; then the same call goes on.
    pub fn remove(&self) -> Result<Vec<PathBuf>, NotRemovable> {
        let Some(found) = self.look()? else { return Ok(Vec::new()) };
        let io = |error: std::io::Error| self.no(error.to_string());
        let leaving = leaving(&self.directory);
        if found != leaving {
            stdx::durable::rename(&found, &leaving).map_err(io)?;
            // One that was started between the look and the rename gets its directory back.
            if let Err(refused) = self.must_be_still(&leaving) {
                stdx::durable::rename(&leaving, &found).map_err(io)?;
                return Err(refused);
            }
        }
        let links = std::fs::read_dir(leaving.join("pg_tblspc")).into_iter().flatten().flatten();
        let links = links.map(|entry| entry.path()).chain([leaving.join("pg_wal")]);
        let outside = links.filter_map(|link| std::fs::read_link(link).ok()).collect();
        match stdx::durable::remove(&leaving.join(pg::control::CONTROL_FILE_PATH)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        std::fs::remove_dir_all(&leaving).map_err(io)?;
        Ok(outside)
    }
}
