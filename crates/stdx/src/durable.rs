//! File writes that survive a power cut: temporary name, fsync, rename, fsync of the folder.
//!
//! The order matters. A rename without the file's fsync can leave a name that points at nothing;
//! without the folder's fsync the name itself may be gone after a crash.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::Id;

/// A file under way: its bytes lie under a temporary name beside `path` until [`Draft::commit`].
/// Dropped before, it leaves nothing.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    temp: PathBuf,
    file: File,
    is_committed: bool,
}

impl Draft {
    /// Begins an empty file that shall become `path`.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn create(path: &Path, mode: u32) -> io::Result<Self> {
        let temp = temp_sibling(path);
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temp)?;
        Ok(Self { path: path.into(), temp, file, is_committed: false })
    }

    /// What it shall become.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Forgets what was written: the next bytes are the first ones.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()
    }

    /// Makes the bytes durable and gives them their name in one step: afterwards the file holds
    /// either the old or the new content, never a part of it.
    ///
    /// # Errors
    /// Any error of the file system; the old content is then untouched.
    pub fn commit(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        rename(&self.temp, &self.path)?;
        self.is_committed = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_committed {
            let _ = fs::remove_file(&self.temp);
        }
    }
}

/// Replaces `path` with `bytes` in one step: afterwards the file holds either the old or the new
/// content, never a part of it. The temporary file lies in the same folder and is removed on error.
///
/// # Errors
/// Any error of the file system; the old content is then untouched.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut draft = Draft::create(path, mode)?;
    draft.write(bytes)?;
    draft.commit()
}

/// Creates `path` with `bytes`, durably, and fails with `AlreadyExists` if something is there.
/// Content is complete before the name appears.
///
/// # Errors
/// `AlreadyExists`, or any other error of the file system.
pub fn create_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temp = temp_sibling(path);
    let written = write_new(&temp, bytes, mode).and_then(|()| {
        fs::hard_link(&temp, path)?;
        sync_parent(path)
    });
    let _ = fs::remove_file(&temp);
    written
}

/// Renames within one file system and makes the new name durable.
///
/// # Errors
/// Any error of `rename(2)` or of the folder's fsync.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_parent(to)
}

/// Removes a file, durably. A file that is already gone is success.
///
/// # Errors
/// Any other error of the file system.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync_parent(path),
    }
}

/// Makes the names in `dir` durable.
///
/// # Errors
/// Any error of `open(2)` or `fsync(2)`.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes the name `path` durable in the folder that holds it.
///
/// # Errors
/// Any error of `open(2)` or `fsync(2)`.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

/// Creates a folder and its missing parents, each made durable in the folder above it.
///
/// # Errors
/// Any error of the file system.
pub fn create_dir_all(dir: &Path) -> io::Result<()> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        create_dir_all(parent)?;
    }
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_parent(dir),
    }
}

/// A name beside `path` that no other writer uses; it begins with a dot and ends in `.tmp`.
#[must_use]
pub fn temp_sibling(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{}.tmp", Id::random()))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::os::unix::fs::PermissionsExt;

    use super::{create_dir_all, create_new, remove, write_atomic};

    #[test]
    fn replaces_whole_files_and_leaves_nothing_beside_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/key");
        create_dir_all(path.parent().unwrap()).unwrap();
        write_atomic(&path, b"one", 0o600).unwrap();
        write_atomic(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        remove(&path).unwrap();
        remove(&path).unwrap();
    }

    #[test]
    fn never_replaces_what_it_was_asked_to_create() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("once");
        create_new(&path, b"first", 0o644).unwrap();
        let error = create_new(&path, b"second", 0o644).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
