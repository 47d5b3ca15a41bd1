//! Temporary files: where objects are written before they get their name.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use stdx::Id;

use super::Access;
use super::dir::{Folder, is_file, is_link};
use super::fault::Fault;
use crate::Created;

/// The folder of temporary files below the root; no key begins with it.
pub(super) const DIR: &str = ".tmp";

/// Buffers handed to one `writev(2)`: the kernel takes at most 1024 (`IOV_MAX`).
const SLICES_MAX: usize = 1024;

/// A file without a name under the root yet. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct TempFile {
    folder: Folder,
    name: String,
    file: File,
    access: Access,
    /// Whether the name in the temporary folder is still there.
    linked: bool,
}

impl TempFile {
    /// A new empty file.
    pub(super) fn create(root: &Folder, access: Access) -> Result<Self, Fault> {
        let folder = root.temp(access)?;
        let name = Id::random().to_string();
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(access.file_mode());
        let fd = rustix::fs::openat(&folder, name.as_str(), flags, mode)?;
        let temp = Self { folder, name, file: File::from(fd), access, linked: true };
        if access == Access::GroupRead {
            // The umask may have taken the group's bits.
            rustix::fs::fchmod(&temp.file, mode)?;
        }
        root.hand_over(&temp.file)?;
        Ok(temp)
    }

    /// The open file, for writing.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Appends the parts without joining them first.
    pub(super) fn write_all(&mut self, parts: &[Bytes]) -> Result<(), Fault> {
        write_parts(&self.file, parts)
    }

    /// Makes the content durable, then the name: from here the object exists, complete. Of racing
    /// writers one sees `New`. On `Exists` the other's name is durable too.
    pub(super) fn publish(mut self, root: &Folder, key: &str) -> Result<Created, Fault> {
        // Before the link: a name must never point at bytes that a power cut can take away.
        self.file.sync_all()?;
        let (folder, name) = root.descend_creating(key, self.access)?;
        let created = self.link(&folder, name)?;
        folder.sync()?;
        Ok(created)
    }

    fn link(&mut self, folder: &Folder, name: &str) -> Result<Created, Fault> {
        let temp = self.name.as_str();
        match rustix::fs::linkat(&self.folder, temp, folder, name, AtFlags::empty()) {
            Ok(()) => Ok(Created::New),
            // Over NFS a link can have been made and its answer lost; the repeat then fails, but
            // our file has two names.
            Err(Errno::EXIST) if rustix::fs::fstat(&self.file)?.st_nlink > 1 => Ok(Created::New),
            Err(Errno::EXIST) => exists(folder, name),
            // A file system without hard links.
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK | Errno::NOSYS) => {
                self.rename(folder, name)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn rename(&mut self, folder: &Folder, name: &str) -> Result<Created, Fault> {
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&self.folder, self.name.as_str(), folder, name, flags) {
            Ok(()) => {
                self.linked = false;
                Ok(Created::New)
            }
            Err(Errno::EXIST) => exists(folder, name),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// What stands under the name is an object only if it is a file.
fn exists(folder: &Folder, name: &str) -> Result<Created, Fault> {
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if is_link(&stat) {
        return Err(Fault::link(name));
    }
    if is_file(&stat) { Ok(Created::Exists) } else { Err(Fault::IsFolder) }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if self.linked {
            // What cannot be removed now is removed by age.
            let _ = rustix::fs::unlinkat(&self.folder, self.name.as_str(), AtFlags::empty());
        }
    }
}

/// Writes all parts at the file's position, many buffers per system call.
pub(super) fn write_parts(mut file: &File, parts: &[Bytes]) -> Result<(), Fault> {
    let parts: Vec<&Bytes> = parts.iter().filter(|part| !part.is_empty()).collect();
    for group in parts.chunks(SLICES_MAX) {
        let mut slices: Vec<IoSlice<'_>> = group.iter().map(|part| IoSlice::new(part)).collect();
        let mut left = slices.as_mut_slice();
        while !left.is_empty() {
            match file.write_vectored(left) {
                Ok(0) => return Err(Fault::Unavailable("wrote nothing".into())),
                Ok(written) => IoSlice::advance_slices(&mut left, written),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Removes temporary files whose last write is at least `age` ago, by the clock of the file system
/// that holds them (another host's, with NFS): its *now* is the time of a file made for the
/// purpose.
pub(super) fn sweep(root: &Folder, age: Duration) -> Result<usize, Fault> {
    let folder = match root.child(DIR) {
        Err(Fault::NotFound) => return Ok(0),
        other => other?,
    };
    let probe = TempFile::create(root, Access::Owner)?;
    let now = rustix::fs::fstat(probe.file.as_fd())?.st_mtime;
    let age_seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    let mut removed = 0;
    for entry in rustix::fs::Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Ok(stat) = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue; // its writer removed it
        };
        let ours = name.to_bytes() == probe.name.as_bytes();
        if is_file(&stat) && !ours && now.saturating_sub(stat.st_mtime) >= age_seconds {
            rustix::fs::unlinkat(&folder, name, AtFlags::empty())?;
            removed += 1;
        }
    }
    Ok(removed)
}
