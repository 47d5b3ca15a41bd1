//! Copying a backup's files: one walker, several workers, every frame read once.
//!
//! The walker goes through the tree in order of path and cuts it into batches: whole small files
//! whose frames lie side by side, or one leaf of a large file. Workers fetch a batch's frames in few
//! large ranges, open them and write each extent where it belongs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use crossbeam_channel::{Receiver, Sender, bounded};
use repository::object::FrameAt;
use repository::root::Root;
use repository::tree::{Content, Entry, EntryKind, Leaf};
use repository::walk::{self, Walk};
use repository::{Kind, PackId, Repository};
use tokio::runtime::Handle;

use crate::owner::Owner;
use crate::tablespaces::Place;
use crate::{Error, Progress};

/// Plain bytes of small files in one batch: with 128 KiB frames a few dozen requests a gigabyte.
const BATCH_BYTES: u64 = 4 << 20;

/// Batches waiting for a worker.
const QUEUE_BATCHES: usize = 8;

/// A file and the leaf of it that is to be written.
#[derive(Debug)]
struct Piece {
    path: PathBuf,
    mode: u32,
    leaf: Leaf,
}

/// Writes everything but `pg_control`, whose bytes are returned.
pub(crate) async fn run(
    repository: &Repository,
    root: &Root,
    directory: &Path,
    places: &[Place],
    workers: usize,
    owner: Owner,
    progress: &dyn Progress,
) -> Result<Vec<u8>, Error> {
    let handle = Handle::current();
    let (to_workers, batches) = bounded::<Vec<Piece>>(QUEUE_BATCHES);
    let walker = Walker { repository, directory, places, owner, progress, batch: Batch::default() };
    // Workers compress and write: they have threads of their own, and so has the walker, which
    // waits for them. The runtime's threads stay free for the store's requests.
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..workers.max(1))
                .map(|_| {
                    let batches = batches.clone();
                    let handle = handle.clone();
                    scope.spawn(move || work(repository, &handle, &batches, owner, progress))
                })
                .collect();
            drop(batches);
            let walked = handle.block_on(walker.walk(root, to_workers));
            let mut failed = None;
            for worker in running {
                match worker.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => failed = failed.or(Some(error)),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            // A worker that failed closes its end; the walker's own error is then only the echo.
            match failed {
                Some(error) => Err(error),
                None => walked,
            }
        })
    })
}

#[derive(Debug, Default)]
struct Batch {
    pieces: Vec<Piece>,
    bytes: u64,
}

struct Walker<'a> {
    repository: &'a Repository,
    directory: &'a Path,
    places: &'a [Place],
    owner: Owner,
    progress: &'a dyn Progress,
    batch: Batch,
}

impl Walker<'_> {
    async fn walk(mut self, root: &Root, queue: Sender<Vec<Piece>>) -> Result<Vec<u8>, Error> {
        let mut control = None;
        let mut entries = Walk::new(self.repository, root.summary.tree);
        while let Some(entry) = entries.next().await? {
            let path = self.directory.join(OsStr::from_bytes(&entry.path));
            match entry.kind {
                EntryKind::Attachment => {}
                EntryKind::Directory => self.make_directory(&path, &entry)?,
                EntryKind::Symlink => self.make_link(&path, &entry)?,
                EntryKind::File if entry.path == pg::control::CONTROL_FILE_PATH.as_bytes() => {
                    control = Some(walk::read_small(self.repository, &entry).await?);
                }
                EntryKind::File => self.queue_file(path, &entry, &queue).await?,
            }
        }
        self.flush(&queue)?;
        control.ok_or_else(|| Error::Entry {
            path: pg::control::CONTROL_FILE_PATH.into(),
            reason: "the backup does not hold it".into(),
        })
    }

    fn make_directory(&self, path: &Path, entry: &Entry) -> Result<(), Error> {
        match DirBuilder::new().mode(entry.mode & 0o777).create(path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => {}
            other => other.map_err(|error| Error::file("create directory", path, error))?,
        }
        self.owner.give_path(path).map_err(|error| Error::file("hand over", path, error))
    }

    /// A tablespace's link points to its new place; any other one where it pointed before.
    fn make_link(&self, path: &Path, entry: &Entry) -> Result<(), Error> {
        let text = String::from_utf8_lossy(&entry.path);
        let oid = text.strip_prefix("pg_tblspc/").filter(|rest| !rest.contains('/'));
        if text == "pg_wal" {
            // WAL lay on a disk of its own there; here recovery fetches it into the directory.
            return self.make_directory(path, &Entry { mode: 0o700, ..entry.clone() });
        }
        let target = match oid {
            Some(oid) => {
                let place = self.places.iter().find(|place| place.oid.get().to_string() == *oid);
                let place = place.ok_or_else(|| Error::Entry {
                    path: text.clone().into_owned(),
                    reason: "it is a tablespace the backup does not list".into(),
                })?;
                place.directory.clone()
            }
            None => PathBuf::from(OsStr::from_bytes(entry.link.as_deref().unwrap_or_default())),
        };
        symlink(target, path).map_err(|error| Error::file("create link", path, error))?;
        self.owner.give_link(path).map_err(|error| Error::file("hand over", path, error))
    }

    async fn queue_file(
        &mut self,
        path: PathBuf,
        entry: &Entry,
        queue: &Sender<Vec<Piece>>,
    ) -> Result<(), Error> {
        let mode = entry.mode & 0o777;
        match &entry.content {
            Content::Inline(bytes) => {
                let file = open(&path, mode, self.owner)?;
                file.write_all_at(bytes, 0).map_err(|error| Error::file("write", &path, error))?;
                self.progress.advance(bytes.len() as u64);
            }
            Content::Leaf(leaf) => {
                self.batch.bytes += entry.size;
                self.batch.pieces.push(Piece { path, mode, leaf: leaf.clone() });
                if self.batch.bytes >= BATCH_BYTES {
                    self.flush(queue)?;
                }
            }
            Content::Node(_) => {
                let file = open(&path, mode, self.owner)?;
                file.set_len(entry.size).map_err(|error| Error::file("extend", &path, error))?;
                let mut covered = 0;
                for leaf in walk::leaves(self.repository, &entry.content).await? {
                    let (begin, len) = leaf.span();
                    if begin != covered {
                        return Err(hole(entry, covered, begin));
                    }
                    covered += len;
                    send(queue, vec![Piece { path: path.clone(), mode, leaf }])?;
                }
                if covered != entry.size {
                    return Err(hole(entry, covered, entry.size));
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self, queue: &Sender<Vec<Piece>>) -> Result<(), Error> {
        let batch = std::mem::take(&mut self.batch);
        if batch.pieces.is_empty() { Ok(()) } else { send(queue, batch.pieces) }
    }
}

fn hole(entry: &Entry, expected: u64, seen: u64) -> Error {
    Error::Entry {
        path: String::from_utf8_lossy(&entry.path).into_owned(),
        reason: format!("expected content at byte {expected}, seen it at {seen}"),
    }
}

/// Fails only when every worker has ended, and then their error is the one that is reported.
fn send(queue: &Sender<Vec<Piece>>, batch: Vec<Piece>) -> Result<(), Error> {
    queue
        .send(batch)
        .map_err(|_| Error::Entry { path: String::new(), reason: "the workers ended early".into() })
}

fn open(path: &Path, mode: u32, owner: Owner) -> Result<File, Error> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(mode)
        .open(path)
        .map_err(|error| Error::file("create", path, error))?;
    owner.give(&file).map_err(|error| Error::file("hand over", path, error))?;
    Ok(file)
}

/// Where one extent of a frame goes.
struct Write {
    file: usize,
    /// Byte range in the opened frame.
    from: usize,
    to: usize,
    /// Byte in the file.
    at: u64,
}

fn work(
    repository: &Repository,
    handle: &Handle,
    batches: &Receiver<Vec<Piece>>,
    owner: Owner,
    progress: &dyn Progress,
) -> Result<(), Error> {
    while let Ok(batch) = batches.recv() {
        write_batch(repository, handle, &batch, owner, progress)?;
    }
    Ok(())
}

fn write_batch(
    repository: &Repository,
    handle: &Handle,
    batch: &[Piece],
    owner: Owner,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let mut files = Vec::with_capacity(batch.len());
    // By pack and offset: frames that lie side by side are read together, and none twice.
    let mut frames: BTreeMap<(PackId, u64), (FrameAt, Vec<Write>)> = BTreeMap::new();
    for (file, piece) in batch.iter().enumerate() {
        files.push(open(&piece.path, piece.mode, owner)?);
        for extent in &piece.leaf.extents {
            let Some((pack, at)) = piece.leaf.frames.get(extent.frame as usize) else { continue };
            let unit = piece.leaf.unit as usize;
            let from = extent.slot as usize * unit;
            let write = Write {
                file,
                from,
                to: from + extent.count as usize * unit,
                at: extent.first * unit as u64,
            };
            frames.entry((*pack, at.offset)).or_insert((*at, Vec::new())).1.push(write);
        }
    }
    let mut rest: Vec<((PackId, u64), (FrameAt, Vec<Write>))> = frames.into_iter().collect();
    while let Some(pack) = rest.first().map(|((pack, _), _)| *pack) {
        let len = rest.iter().take_while(|((other, _), _)| *other == pack).count();
        let run: Vec<_> = rest.drain(..len).collect();
        let places: Vec<FrameAt> = run.iter().map(|(_, (at, _))| *at).collect();
        let mut failed = None;
        let read =
            handle.block_on(repository.read_frames(Kind::DataPack, pack, &places, |at, raw| {
                if failed.is_none() {
                    let writes =
                        run.get(at).map(|(_, (_, writes))| writes.as_slice()).unwrap_or_default();
                    failed = write_extents(batch, &files, writes, raw).err();
                }
                Ok(())
            }));
        if let Some(error) = failed {
            return Err(error);
        }
        read?;
        let written: usize =
            run.iter().flat_map(|(_, (_, writes))| writes).map(|write| write.to - write.from).sum();
        progress.advance(written as u64);
    }
    Ok(())
}

fn write_extents(
    batch: &[Piece],
    files: &[File],
    writes: &[Write],
    raw: &[u8],
) -> Result<(), Error> {
    for write in writes {
        let (Some(file), Some(piece)) = (files.get(write.file), batch.get(write.file)) else {
            continue;
        };
        let bytes = raw.get(write.from..write.to).ok_or_else(|| Error::Entry {
            path: piece.path.display().to_string(),
            reason: format!("its frame has {} bytes, expected {}", raw.len(), write.to),
        })?;
        file.write_all_at(bytes, write.at)
            .map_err(|error| Error::file("write", &piece.path, error))?;
    }
    Ok(())
}

/// Makes everything written below `directory` durable, whatever files it was.
pub(crate) fn sync_file_system(directory: &Path) -> Result<(), Error> {
    let folder =
        fs::File::open(directory).map_err(|error| Error::file("open", directory, error))?;
    rustix::fs::syncfs(&folder)
        .map_err(|error| Error::file("make durable", directory, error.into()))
}
