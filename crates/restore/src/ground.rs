//! The folders that are filled, held open: no path of a backup leads out of them.
//!
//! A path is walked from an open folder, name by name, and no name may be a link: a tree that makes
//! a link and then writes through it fails. The links below `pg_tblspc` are the exception, and they
//! are not followed either: what lies behind one is reached from its tablespace's own folder.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::Error;
use crate::owner::Owner;
use crate::tablespaces::Place;

/// The largest file that [`Ground::read`] takes in: settings, of which nobody has more.
const READ_LEN_MAX: u64 = 16 << 20;

/// The data directory and its tablespaces' folders.
#[derive(Debug)]
pub(crate) struct Ground {
    path: PathBuf,
    top: Arc<OwnedFd>,
    /// By path in the backup (`pg_tblspc/16400`).
    places: Vec<(Vec<u8>, Arc<OwnedFd>)>,
    pub(crate) owner: Owner,
}

/// A folder and a name in it.
#[derive(Clone, Debug)]
pub(crate) struct Spot {
    folder: Arc<OwnedFd>,
    name: Vec<u8>,
}

impl Ground {
    /// Opens the folders, which exist.
    pub(crate) fn open(directory: &Path, places: &[Place], owner: Owner) -> Result<Self, Error> {
        let folder = |path: &Path| {
            // The operator named this path: links in it are the operator's.
            rustix::fs::openat(
                CWD,
                path,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map(Arc::new)
            .map_err(|error| Error::file("open", path, error.into()))
        };
        let places = places.iter().map(|place| {
            let below = format!("pg_tblspc/{}", place.oid).into_bytes();
            Ok((below, folder(&place.directory)?))
        });
        Ok(Self {
            path: directory.to_owned(),
            top: folder(directory)?,
            places: places.collect::<Result<_, Error>>()?,
            owner,
        })
    }

    /// The path for messages.
    pub(crate) fn full(&self, path: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(path))
    }

    /// The spot of a path.
    pub(crate) fn spot(&self, path: &[u8], last: &mut LastFolder) -> Result<Spot, Error> {
        let (parent, name) = split(path);
        if last.0.as_ref().is_none_or(|(known, _)| known != parent) {
            let folder = self
                .folder(parent)
                .map_err(|error| Error::file("open directory", &self.full(parent), error))?;
            last.0 = Some((parent.to_vec(), folder));
        }
        match &last.0 {
            Some((_, folder)) => Ok(Spot { folder: Arc::clone(folder), name: name.to_vec() }),
            None => Ok(Spot { folder: Arc::clone(&self.top), name: name.to_vec() }),
        }
    }

    fn folder(&self, path: &[u8]) -> io::Result<Arc<OwnedFd>> {
        let place = self.places.iter().find_map(|(below, folder)| {
            let rest = path.strip_prefix(below.as_slice())?;
            (rest.is_empty() || rest.starts_with(b"/")).then_some((folder, rest))
        });
        let (start, rest) = place.unwrap_or((&self.top, path));
        let mut folder = Arc::clone(start);
        for name in rest.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            folder = Arc::new(rustix::fs::openat(&folder, name, flags, Mode::empty())?);
        }
        Ok(folder)
    }

    /// The bytes of a file; `None` when there is none or it is no regular file (a link is none).
    pub(crate) fn read(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let failed = |error: io::Error| Error::file("read", &self.full(path), error);
        let (parent, name) = split(path);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = self
            .folder(parent)
            .and_then(|folder| Ok(rustix::fs::openat(&folder, name, flags, Mode::empty())?));
        let file = match opened {
            Ok(file) => File::from(file),
            Err(error) if is_no_file(&error) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() || meta.len() > READ_LEN_MAX {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(READ_LEN_MAX).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(bytes))
    }
}

/// Absent, a link, or below something that is no directory.
fn is_no_file(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || [rustix::io::Errno::LOOP, rustix::io::Errno::NOTDIR]
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The folder that was used last: entries come in order of path, so most share it with the one
/// before.
#[derive(Debug, Default)]
pub(crate) struct LastFolder(Option<(Vec<u8>, Arc<OwnedFd>)>);

impl Spot {
    /// Creates a file that was not there.
    pub(crate) fn create(&self, mode: u32, owner: Owner) -> io::Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(
            &self.folder,
            self.name.as_slice(),
            flags,
            Mode::from_raw_mode(mode),
        )?;
        if mode & 0o070 != 0 {
            // What the group may do must not depend on this process's umask.
            rustix::fs::fchmod(file.as_fd(), Mode::from_raw_mode(mode))?;
        }
        let file = File::from(file);
        owner.give(&file)?;
        Ok(file)
    }

    /// Creates a directory that was not there.
    pub(crate) fn create_directory(&self, mode: u32, owner: Owner) -> io::Result<()> {
        let (name, mode) = (self.name.as_slice(), Mode::from_raw_mode(mode));
        rustix::fs::mkdirat(&self.folder, name, mode)?;
        rustix::fs::chmodat(&self.folder, name, mode, AtFlags::empty())?;
        owner.give_at(&self.folder, name)
    }

    /// Creates a link that was not there.
    pub(crate) fn create_link(&self, target: &OsStr, owner: Owner) -> io::Result<()> {
        rustix::fs::symlinkat(target, &self.folder, self.name.as_slice())?;
        owner.give_at(&self.folder, self.name.as_slice())
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let at = path.iter().rposition(|byte| *byte == b'/');
    let halves = at.and_then(|at| Some((path.get(..at)?, path.get(at + 1..)?)));
    halves.unwrap_or((b"", path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use pg::Oid;

    use super::*;

    #[test]
    fn nothing_is_written_through_a_link_except_into_a_tablespace() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let space = tempfile::tempdir().unwrap();
        let data = inside.path();
        std::fs::create_dir(data.join("pg_tblspc")).unwrap();
        symlink(outside.path(), data.join("away")).unwrap();
        symlink(outside.path().join("new"), data.join("file")).unwrap();
        symlink(outside.path(), data.join("pg_tblspc/7")).unwrap();
        symlink(space.path(), data.join("pg_tblspc/5")).unwrap();
        let place = Place { oid: Oid::new(5), directory: space.path().to_owned() };
        let owner = Owner::of_target(data, None).unwrap().0;
        let ground = Ground::open(data, &[place], owner).unwrap();
        let create = |path: &str| {
            let spot = ground.spot(path.as_bytes(), &mut LastFolder::default());
            spot.and_then(|spot| {
                spot.create(0o600, owner).map_err(|error| Error::file("create", data, error))
            })
        };
        for bad in ["away/x", "file", "pg_tblspc/7/x", "absent/x", "pg_tblspc"] {
            create(bad).unwrap_err();
        }
        create("plain").unwrap();
        create("plain").unwrap_err();
        create("pg_tblspc/5/x").unwrap();
        assert!(space.path().join("x").exists());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        symlink(outside.path().join("secret"), data.join("postgresql.conf")).unwrap();
        assert_eq!(ground.read(b"postgresql.conf").unwrap(), None);
        assert_eq!(ground.read(b"away/secret").unwrap(), None);
        assert_eq!(ground.read(b"plain").unwrap(), Some(Vec::new()));
    }
}
