//! File writes that survive a power cut: temporary name, fsync, rename, fsync of the folder.
//!
//! The order matters. A rename without the file's fsync can leave a name that points at nothing;
//! without the folder's fsync the name itself may be gone after a crash.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
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

/// Replaces the content of a file that is there, in one step; its owner and mode stay. A symbolic
/// link leads to the file that is meant, and stays.
///
/// # Errors
/// Any error of the file system, also when this user may not give the file its owner; the old
/// content is then untouched.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    write_like(&path, bytes, &path)
}

/// As [`write_atomic`], with owner and mode of another file.
///
/// # Errors
/// As [`replace`].
pub fn write_like(path: &Path, bytes: &[u8], like: &Path) -> io::Result<()> {
    let mut draft = draft_like(path, like)?;
    draft.write(bytes)?;
    draft.commit()
}

/// Whether [`replace`] would be allowed: everything but the replacing is done.
///
/// # Errors
/// Why it is not.
pub fn may_replace(path: &Path) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    draft_like(&path, &path).map(drop)
}

fn draft_like(path: &Path, like: &Path) -> io::Result<Draft> {
    let meta = fs::metadata(like)?;
    let mode = meta.permissions().mode() & 0o7777;
    let draft = Draft::create(path, mode)?;
    let own = draft.file.metadata()?;
    if (own.uid(), own.gid()) != (meta.uid(), meta.gid()) {
        // Before it has its name: whoever reads it must not find it closed.
        fchown(&draft.file, Some(meta.uid()), Some(meta.gid())).map_err(|error| {
            let owner = format!("{}:{}", meta.uid(), meta.gid());
            io::Error::new(error.kind(), format!("this user may not give a file to {owner}"))
        })?;
    }
    // The umask may have taken bits.
    draft.file.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(draft)
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

    use super::{create_dir_all, create_new, may_replace, remove, replace, write_atomic};

    #[test]
    fn what_is_replaced_keeps_its_mode_and_the_links_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("shared.env"), dir.path().join("current.env"));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o662)).unwrap();
        std::os::unix::fs::symlink("shared.env", &link).unwrap();
        may_replace(&link).unwrap();
        replace(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o662);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left beside");
        let missing = may_replace(&dir.path().join("missing")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }

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
