//! The spool folder.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use pg::WalFileName;
use stdx::durable::Draft;

use crate::error::Error;

/// The folder's name, in `pg_wal`.
const FOLDER: &str = "rollforward.prefetch";
const RESTORE: &str = "restore";
const LOCK: &str = "lock";
const NEXT: &str = "next";
const COMING: &str = ".coming";

/// A spool folder, which need not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spool {
    folder: PathBuf,
}

/// The right to fill a spool, held until dropped.
#[derive(Debug)]
pub(super) struct Filling {
    _lock: File,
}

impl Spool {
    /// The spool of restore commands that deliver to `destination` (`pg_wal/RECOVERYXLOG`).
    #[must_use]
    pub fn beside(destination: &Path) -> Option<Self> {
        let folder = destination.parent().filter(|folder| !folder.as_os_str().is_empty())?;
        Some(Self { folder: folder.join(FOLDER) })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a filler runs.
    #[must_use]
    pub fn is_filling(&self) -> bool {
        let Ok(lock) = File::open(self.folder.join(LOCK)) else { return false };
        matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// Tells a running filler that a reader had to fetch by itself and goes on with `next`.
    ///
    /// # Errors
    /// [`Error::File`]; the filler then goes on where it was.
    pub fn redirect(&self, next: &str) -> Result<(), Error> {
        let path = self.folder.join(NEXT);
        let temp = stdx::durable::temp_sibling(&path);
        // After a power cut there is no filler to tell: it need not be durable.
        fs::write(&temp, next)
            .and_then(|()| fs::rename(&temp, &path))
            .map_err(Error::file("write", &path))
    }

    /// Removes the folder with everything in it: when recovery is over.
    ///
    /// # Errors
    /// [`Error::File`]. A folder that is not there is success.
    pub fn remove(&self) -> Result<(), Error> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::file("remove", &self.folder)(error))
            }
            _ => Ok(()),
        }
    }

    /// Which restore it is for.
    pub(super) fn restore(&self) -> Option<String> {
        fs::read_to_string(self.folder.join(RESTORE)).ok()
    }

    pub(super) fn segment(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn is_coming(&self, name: &str) -> bool {
        self.coming(name).exists()
    }

    fn coming(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}{COMING}"))
    }

    /// The segment that a reader said it goes on with.
    pub(super) fn next(&self) -> Option<String> {
        fs::read_to_string(self.folder.join(NEXT)).ok()
    }

    /// Takes the right to fill, or `None` when somebody has it; makes the folder.
    pub(super) fn lock(&self) -> Result<Option<Filling>, Error> {
        stdx::durable::create_dir_all(&self.folder).map_err(Error::file("write", &self.folder))?;
        let path = self.folder.join(LOCK);
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(Error::file("lock", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Filling { _lock: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Error::file("lock", &path)(error)),
        }
    }

    /// Makes the spool one of `restore`: what another one left goes first, so that nothing of it is
    /// ever taken for this one's. Also removes what a killed filler left half done.
    pub(super) fn claim(&self, restore: &str, _filling: &Filling) -> Result<(), Error> {
        let is_ours = self.restore().as_deref() == Some(restore);
        let listed = fs::read_dir(&self.folder).map_err(Error::file("list", &self.folder))?;
        for entry in listed {
            let entry = entry.map_err(Error::file("list", &self.folder))?;
            let name = entry.file_name();
            let keep = name == LOCK || (is_ours && (name == RESTORE || is_segment(&name)));
            if !keep {
                let path = entry.path();
                fs::remove_file(&path).map_err(Error::file("remove", &path))?;
            }
        }
        let path = self.folder.join(RESTORE);
        if is_ours {
            return Ok(());
        }
        stdx::durable::write_atomic(&path, restore.as_bytes(), 0o600)
            .map_err(Error::file("write", &path))
    }

    /// The names of the complete segments, in no order.
    pub(super) fn segments(&self) -> Result<Vec<String>, Error> {
        let listed = fs::read_dir(&self.folder).map_err(Error::file("list", &self.folder))?;
        let mut names = Vec::new();
        for entry in listed {
            let name = entry.map_err(Error::file("list", &self.folder))?.file_name();
            if is_segment(&name) {
                names.extend(name.into_string().ok());
            }
        }
        Ok(names)
    }

    /// Announces a segment, brings it by `fetch`, and takes the announcement back. Whether there
    /// was one to bring.
    pub(super) async fn bring<F>(&self, name: &str, fetch: F) -> Result<bool, Error>
    where
        F: AsyncFnOnce(&mut Draft) -> Result<bool, Error>,
    {
        let coming = self.coming(name);
        fs::write(&coming, b"").map_err(Error::file("write", &coming))?;
        let brought = self.bring_announced(name, fetch).await;
        let _ = fs::remove_file(&coming);
        brought
    }

    async fn bring_announced<F>(&self, name: &str, fetch: F) -> Result<bool, Error>
    where
        F: AsyncFnOnce(&mut Draft) -> Result<bool, Error>,
    {
        let path = self.segment(name);
        let mut draft = Draft::create(&path, 0o600).map_err(Error::file("write", &path))?;
        if !fetch(&mut draft).await? {
            return Ok(false);
        }
        draft.commit().map_err(Error::file("write", &path))?;
        Ok(true)
    }

    /// Removes a segment that nobody will ask for.
    pub(super) fn discard(&self, name: &str) {
        let _ = fs::remove_file(self.segment(name));
    }
}

fn is_segment(name: &std::ffi::OsStr) -> bool {
    matches!(name.to_str().map(str::parse), Some(Ok(WalFileName::Segment(_))))
}
