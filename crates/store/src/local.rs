//! A store in a directory: one file per object, `<root>/<key>`.
//!
//! An object is written to `<root>/.tmp/<random>`, fsynced, and then given its name by `link(2)`,
//! which fails when the name is taken: that is the put-if-absent. The folder's fsync makes the name
//! durable. A writer that is killed leaves at most a file in `.tmp`, which no listing shows and
//! which the next writer removes once it is a day old by the file system's own clock.
//!
//! Nothing follows a symbolic link below the root: every folder on the way to an object is opened
//! from the one above it. The root itself may be a link, and is opened anew for every call, so a
//! mount that appears later is seen and one that vanished is reported as unavailable, never as "no
//! such object".
//!
//! A file and a folder cannot share a name, so of the keys `a` and `a/b` only one can exist here.

mod bucket;
mod dir;
mod fault;
mod list;
mod temp;
mod upload;

use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::{AtFlags, Stat};

use crate::{Created, Error, Key, ObjectMeta, Store, Upload};
pub(crate) use bucket::LocalBucket;
use dir::Folder;
use fault::{Fault, Verb};
use temp::TempFile;

/// How long a temporary file may lie unwritten before it is taken for a crashed writer's. Uploads
/// write all the time; none pauses for a day.
const TEMP_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Who may read what is created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// The owner alone: folders 0700, files 0600.
    #[default]
    Owner,
    /// The owner, and reading for the group: folders 0750, files 0640.
    GroupRead,
}

impl Access {
    const fn dir_mode(self) -> u32 {
        match self {
            Self::Owner => 0o700,
            Self::GroupRead => 0o750,
        }
    }

    const fn file_mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::GroupRead => 0o640,
        }
    }
}

/// A store in a directory. Clones are the same store.
#[derive(Clone, Debug)]
pub struct LocalStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    address: String,
    access: Access,
    /// Whether this process has removed old temporary files already.
    swept: AtomicBool,
}

impl LocalStore {
    /// The store in `root`, which must exist when it is used: a missing root makes every call fail
    /// with [`Error::Unavailable`], because it may be a disk that is not mounted.
    #[must_use]
    pub fn open(root: &Path, access: Access) -> Self {
        let shared = Shared {
            root: root.to_path_buf(),
            address: root.display().to_string(),
            access,
            swept: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Like [`open`](Self::open), and creates the directory and its missing parents, durably.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::NoSpace`] or [`Error::Unavailable`], by what the system said.
    pub fn create(root: &Path, access: Access) -> Result<Self, Error> {
        let store = Self::open(root, access);
        dir::create_root(root, access)
            .map_err(|fault| fault.at(&store.shared.address, Verb::Write, ""))?;
        Ok(store)
    }

    /// Removes temporary files not written for `age`, by the file system's clock; returns how many.
    /// The first write of a process does this for files of a day, so it needs calling only to free
    /// space early, when no writer runs.
    ///
    /// # Errors
    /// Any way of not being able to delete.
    pub async fn sweep_temp(&self, age: Duration) -> Result<usize, Error> {
        self.run(Verb::Delete, temp::DIR.into(), move |shared| temp::sweep(&shared.root()?, age))
            .await
    }

    /// Runs `work` on a thread that may block, and gives its failure the names a person needs.
    async fn run<T: Send + 'static>(
        &self,
        verb: Verb,
        object: String,
        work: impl FnOnce(&Shared) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || {
            work(&shared).map_err(|fault| fault.at(&shared.address, verb, &object))
        });
        done.await.unwrap_or_else(|_| {
            Err(Fault::stopped().at(&self.shared.address, verb, self.shared.root_text()))
        })
    }

    async fn run_on<T: Send + 'static>(
        &self,
        verb: Verb,
        key: &Key,
        work: impl FnOnce(&Shared, &Key) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Error> {
        let owned = key.clone();
        self.run(verb, key.to_string(), move |shared| work(shared, &owned)).await
    }
}

impl Shared {
    fn root(&self) -> Result<Folder, Fault> {
        Folder::open_root(&self.root)
    }

    fn root_text(&self) -> &str {
        &self.address
    }

    /// Opens the object for reading. Only regular files are objects.
    fn object(&self, key: &Key) -> Result<(File, Stat), Fault> {
        let (folder, name) = self.root()?.descend(key.as_str())?;
        let file: OwnedFd = folder.open_file(name)?;
        let stat = rustix::fs::fstat(&file)?;
        if !dir::is_file(&stat) {
            return Err(Fault::NotFound);
        }
        Ok((File::from(file), stat))
    }

    fn put(&self, key: &Key, parts: &[Bytes]) -> Result<Created, Fault> {
        let root = self.root()?;
        // Most often asked with an existing key by an archiver that repeats itself: answer without
        // writing the bytes first. The link below decides when two writers race.
        if let Some(folder) = root.holding(key)? {
            folder.sync()?;
            return Ok(Created::Exists);
        }
        self.sweep_once(&root);
        let mut temp = TempFile::create(&root, self.access)?;
        temp.write_all(parts)?;
        temp.publish(&root, key.as_str())
    }

    /// Removes old temporary files once per process; not being able to is no reason to refuse a
    /// write.
    fn sweep_once(&self, root: &Folder) {
        if !self.swept.swap(true, Ordering::Relaxed)
            && let Err(fault) = temp::sweep(root, TEMP_AGE_MAX)
        {
            tracing::debug!(root = %self.address, ?fault, "old temporary files stay");
        }
    }
}

fn meta_of(key: Key, stat: &Stat) -> ObjectMeta {
    ObjectMeta { key, size: u64::try_from(stat.st_size).unwrap_or(0), modified: modified(stat) }
}

fn modified(stat: &Stat) -> Timestamp {
    let nanos = i32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Timestamp::new(stat.st_mtime, nanos).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn read_range(file: &File, stat: &Stat, range: &Range<u64>) -> Result<Bytes, Fault> {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let beyond = Fault::Range { size, start: range.start, end: range.end };
    if range.start > range.end || range.end > size {
        return Err(beyond);
    }
    let Ok(wanted) = usize::try_from(range.end - range.start) else { return Err(beyond) };
    let mut bytes = Vec::with_capacity(wanted);
    while bytes.len() < wanted {
        let at = range.start + bytes.len() as u64;
        match rustix::io::pread(file.as_fd(), rustix::buffer::spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(beyond),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    // The vector may have been given more room than asked for, and that was read into as well.
    bytes.truncate(wanted);
    Ok(bytes.into())
}

#[async_trait]
impl Store for LocalStore {
    fn address(&self) -> &str {
        &self.shared.address
    }

    async fn get(&self, key: &Key) -> Result<Bytes, Error> {
        self.run_on(Verb::Read, key, |shared, key| {
            let (file, stat) = shared.object(key)?;
            let size = u64::try_from(stat.st_size).unwrap_or(0);
            read_range(&file, &stat, &(0..size))
        })
        .await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, Error> {
        self.run_on(Verb::Read, key, move |shared, key| {
            let (file, stat) = shared.object(key)?;
            read_range(&file, &stat, &range)
        })
        .await
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, Error> {
        self.run_on(Verb::Read, key, |shared, key| {
            let (folder, name) = shared.root()?.descend(key.as_str())?;
            let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if dir::is_link(&stat) {
                return Err(Fault::link(name));
            }
            if dir::is_file(&stat) { Ok(meta_of(key.clone(), &stat)) } else { Err(Fault::NotFound) }
        })
        .await
    }

    async fn put_if_absent(&self, key: &Key, parts: Vec<Bytes>) -> Result<Created, Error> {
        self.run_on(Verb::Write, key, move |shared, key| shared.put(key, &parts)).await
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>, Error> {
        let temp = self
            .run_on(Verb::Write, key, |shared, _| {
                let root = shared.root()?;
                shared.sweep_once(&root);
                TempFile::create(&root, shared.access)
            })
            .await?;
        Ok(Box::new(upload::LocalUpload::new(self.clone(), key.clone(), temp)))
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Error> {
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        self.run(Verb::List, prefix.clone(), move |shared| {
            list::list(&shared.root()?, &prefix, after.as_ref(), limit)
        })
        .await
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        self.run_on(Verb::Delete, key, |shared, key| {
            let removed = shared.root()?.descend(key.as_str()).and_then(|(folder, name)| {
                Ok(rustix::fs::unlinkat(&folder, name, AtFlags::empty())?)
            });
            match removed {
                // A folder of that name is not an object.
                Err(Fault::NotFound | Fault::IsFolder) => Ok(()),
                other => other,
            }
        })
        .await
    }
}
