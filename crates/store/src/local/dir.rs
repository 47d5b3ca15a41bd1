//! Folders opened one from the other, so that no symbolic link below the root is ever followed.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::fault::Fault;
use super::{Access, temp};
use crate::Key;

const DIR_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// An open folder of the store.
#[derive(Debug)]
pub(super) struct Folder(OwnedFd);

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Folder {
    /// The root, which may be reached through a link. A missing root says nothing about objects.
    pub(super) fn open_root(root: &Path) -> Result<Self, Fault> {
        match rustix::fs::open(root, DIR_FLAGS, Mode::empty()) {
            Ok(fd) => Ok(Self(fd)),
            Err(Errno::NOENT) => {
                Err(Fault::Unavailable("the directory does not exist or is not mounted".into()))
            }
            Err(Errno::NOTDIR) => Err(Fault::Denied("it is not a directory".into())),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The folder `name` inside this one.
    pub(super) fn child(&self, name: &str) -> Result<Self, Fault> {
        match rustix::fs::openat(self, name, DIR_FLAGS | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Self(fd)),
            // With O_DIRECTORY a link is reported like a file; the difference matters, because a
            // link to another disk is not "no such object".
            Err(Errno::NOTDIR | Errno::LOOP) => Err(self.not_a_folder(name)),
            Err(errno) => Err(errno.into()),
        }
    }

    fn not_a_folder(&self, name: &str) -> Fault {
        match rustix::fs::statat(self, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if is_link(&stat) => Fault::link(name),
            _ => Fault::NotFound,
        }
    }

    /// The folder that holds `path`, and the last part of `path`.
    pub(super) fn descend(self, path: &str) -> Result<(Self, &str), Fault> {
        let mut folder = self;
        let mut rest = path;
        while let Some((part, below)) = rest.split_once('/') {
            folder = folder.child(part)?;
            rest = below;
        }
        Ok((folder, rest))
    }

    /// The folder that holds the object, if the object exists.
    pub(super) fn holding(&self, key: &Key) -> Result<Option<Self>, Fault> {
        let found = self.again()?.descend(key.as_str()).and_then(|(folder, name)| {
            let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok((folder, is_file(&stat)))
        });
        match found {
            Ok((folder, true)) => Ok(Some(folder)),
            // What else may stand there, the link will say.
            Ok((_, false)) | Err(Fault::NotFound) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// The folder that is to hold `path` and the last part of `path`, with missing folders made,
    /// each durable in the one above.
    pub(super) fn descend_creating<'k>(
        &self,
        path: &'k str,
        access: Access,
    ) -> Result<(Self, &'k str), Fault> {
        let mut folder = self.again()?;
        let mut rest = path;
        while let Some((part, below)) = rest.split_once('/') {
            folder = match folder.child(part) {
                Err(Fault::NotFound) => folder.create_child(part, access, self)?,
                other => other?,
            };
            rest = below;
        }
        Ok((folder, rest))
    }

    fn create_child(&self, name: &str, access: Access, root: &Self) -> Result<Self, Fault> {
        match rustix::fs::mkdirat(self, name, Mode::from_raw_mode(access.dir_mode())) {
            // Somebody else made it just now, and may not have synced it yet: so we do.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let child = self.child(name).map_err(|fault| match fault {
            Fault::NotFound => Fault::Denied(format!(
                "'{name}' is an object, so nothing can be stored below it in a directory"
            )),
            other => other,
        })?;
        if access == Access::GroupRead {
            // The umask may have taken the group's bits.
            rustix::fs::fchmod(&child, Mode::from_raw_mode(access.dir_mode()))?;
        }
        root.hand_over(&child)?;
        self.sync()?;
        Ok(child)
    }

    /// Gives what the superuser has made to the owner of this folder, the root of the store: the
    /// archiver of a server runs as that user, and must be able to go on. Of the root, because a
    /// folder in between may have been made just now and not been given yet.
    pub(super) fn hand_over(&self, made: impl AsFd) -> Result<(), Fault> {
        if rustix::process::geteuid().is_root() {
            let owner = rustix::fs::fstat(self)?;
            let (user, group) = (Uid::from_raw(owner.st_uid), Gid::from_raw(owner.st_gid));
            rustix::fs::fchown(made, Some(user), Some(group))?;
        }
        Ok(())
    }

    /// The folder of temporary files, made if missing.
    pub(super) fn temp(&self, access: Access) -> Result<Self, Fault> {
        match self.child(temp::DIR) {
            Err(Fault::NotFound) => self.create_child(temp::DIR, access, self),
            other => other,
        }
    }

    /// Opens a file of this folder for reading, never through a link.
    pub(super) fn open_file(&self, name: &str) -> Result<OwnedFd, Fault> {
        // Without O_NONBLOCK a FIFO of that name would hold us for ever.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat(self, name, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::LOOP => Fault::link(name),
            other => other.into(),
        })
    }

    /// Makes the names in this folder durable.
    pub(super) fn sync(&self) -> Result<(), Fault> {
        Ok(rustix::fs::fsync(self)?)
    }

    /// The same folder once more.
    pub(super) fn again(&self) -> Result<Self, Fault> {
        Ok(Self(self.0.try_clone()?))
    }
}

/// Creates the root and its missing parents, each durable in the folder above it.
pub(super) fn create_root(root: &Path, access: Access) -> Result<(), Fault> {
    if root.as_os_str().is_empty() || root.is_dir() {
        return Ok(());
    }
    if let Some(parent) = root.parent() {
        create_root(parent, access)?;
    }
    match DirBuilder::new().mode(access.dir_mode()).create(root) {
        Ok(()) => {
            let permissions = std::fs::Permissions::from_mode(access.dir_mode());
            std::fs::set_permissions(root, permissions)?;
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && root.is_dir() => {}
        Err(error) => return Err(error.into()),
    }
    Ok(stdx::durable::sync_parent(root)?)
}

pub(super) fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

pub(super) fn is_link(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
}
