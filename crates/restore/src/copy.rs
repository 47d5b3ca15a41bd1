//! Copying a backup's files: one walker, several workers, every frame read once.
//!
//! The walker goes through the tree in order of path and cuts it into batches: whole small files
//! whose frames lie side by side, or one leaf of a large file. Workers fetch a batch's frames in
//! few large ranges, open them and write each extent where it belongs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Sender, bounded};
use repository::Repository;
use repository::object::FrameAt;
use repository::root::Root;
use repository::tree::{
    ATTACHMENT_PREFIX, Content, Entry, EntryKind, FileNode, Leaf, Node, NodeRef, node_digest,
};
use repository::walk::{self, Walk};
use repository::{Kind, PackId, names};
use rustix::fs::{FallocateFlags, fallocate};
use tokio::runtime::Handle;

use crate::ground::{Ground, LastFolder};
use crate::tablespaces::Place;
use crate::write::{Batch, Piece, Target, Worker};
use crate::{Error, Progress};

/// Plain bytes of small files in one batch: with 128 KiB frames a few dozen requests a gigabyte.
const BATCH_BYTES: u64 = 4 << 20;

/// Small files in one batch: each is open while the batch is written.
const BATCH_FILES: usize = 128;

/// Batches waiting for a worker.
const QUEUE_BATCHES: usize = 8;

/// Threads for each core that may be used: while one waits for the repository or the disk, another
/// decompresses. (Measured with 2 cores and a local repository: 4 threads are up to a third faster
/// than 2 on a busy machine.)
const THREADS_PER_WORKER: usize = 2;

/// Leaves whose nodes are read at once: a gigabyte of a file.
const LEAVES_AT_ONCE: usize = 64;

/// Attached configuration files kept in memory, all together.
const ATTACHED_LEN_MAX: u64 = 64 << 20;

/// What the tree holds that is not written while copying.
#[derive(Debug, Default)]
pub(crate) struct HeldBack {
    /// The bytes of `pg_control`.
    pub(crate) control: Option<Vec<u8>>,
    /// Configuration that lay outside the data directory, by its absolute path.
    pub(crate) config: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Writes everything but what is held back.
pub(crate) async fn run(
    repository: &Repository,
    root: &Root,
    ground: &Ground,
    places: &[Place],
    workers: usize,
    progress: &dyn Progress,
) -> Result<HeldBack, Error> {
    let handle = Handle::current();
    let (to_workers, batches) = bounded::<Batch>(QUEUE_BATCHES);
    let failed = AtomicBool::new(false);
    let worker = Worker {
        repository,
        handle: &handle,
        batches,
        owner: ground.owner,
        failed: &failed,
        progress,
    };
    let walker = Walker::new(repository, ground, places, progress, to_workers);
    // Workers decompress and write: they have threads of their own, and so has the walker, which
    // waits for them. The runtime's threads stay free for the store's requests.
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..workers.max(1).saturating_mul(THREADS_PER_WORKER))
                .map(|_| {
                    let worker = worker.clone();
                    scope.spawn(move || worker.run())
                })
                .collect();
            drop(worker);
            let walked = handle.block_on(walker.walk(root));
            if walked.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            let mut first = None;
            for worker in running {
                match worker.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => first = first.or(Some(error)),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            // Workers that failed close their end; the walker's own error is then only the echo.
            match first {
                Some(error) => Err(error),
                None => walked,
            }
        })
    })
}

struct Walker<'a> {
    repository: &'a Repository,
    ground: &'a Ground,
    places: &'a [Place],
    progress: &'a dyn Progress,
    queue: Sender<Batch>,
    last_folder: LastFolder,
    batch: Batch,
    batch_bytes: u64,
    held_back: HeldBack,
    attached_bytes: u64,
}

impl<'a> Walker<'a> {
    fn new(
        repository: &'a Repository,
        ground: &'a Ground,
        places: &'a [Place],
        progress: &'a dyn Progress,
        queue: Sender<Batch>,
    ) -> Self {
        Self {
            repository,
            ground,
            places,
            progress,
            queue,
            last_folder: LastFolder::default(),
            batch: Vec::new(),
            batch_bytes: 0,
            held_back: HeldBack::default(),
            attached_bytes: 0,
        }
    }

    async fn walk(mut self, root: &Root) -> Result<HeldBack, Error> {
        let mut entries = Walk::new(self.repository, root.summary.tree);
        let mut last = Vec::new();
        while let Some(entry) = entries.next().await? {
            if entry.path <= last {
                return Err(refuse(&entry, "it does not stand in order of path"));
            }
            last.clone_from(&entry.path);
            match entry.kind {
                EntryKind::Attachment => self.attachment(&entry).await?,
                // The root of the source's file system, not PostgreSQL's.
                _ if entry.path.starts_with(b"lost+found") => {}
                EntryKind::Directory => self.directory(&entry, entry.mode)?,
                EntryKind::Symlink => self.link(&entry)?,
                EntryKind::File if entry.path == pg::control::CONTROL_FILE_PATH.as_bytes() => {
                    self.held_back.control = Some(walk::read_small(self.repository, &entry).await?);
                }
                EntryKind::File => self.file(&entry).await?,
            }
        }
        self.flush()?;
        Ok(self.held_back)
    }

    async fn attachment(&mut self, entry: &Entry) -> Result<(), Error> {
        let below = entry.path.strip_prefix(ATTACHMENT_PREFIX.as_bytes());
        let Some(path) = below.and_then(|path| path.strip_prefix(b"config")) else { return Ok(()) };
        if !path.starts_with(b"/") {
            return Ok(());
        }
        self.attached_bytes = self.attached_bytes.saturating_add(entry.size);
        if self.attached_bytes > ATTACHED_LEN_MAX {
            let reason = format!("expected at most {ATTACHED_LEN_MAX} bytes of configuration");
            return Err(refuse(entry, &reason));
        }
        let content = walk::read_small(self.repository, entry).await?;
        self.held_back.config.insert(path.to_vec(), content);
        Ok(())
    }

    /// Rights for the owner, and for the group as they were; nobody else has a look.
    fn directory(&mut self, entry: &Entry, mode: u32) -> Result<(), Error> {
        let spot = self.ground.spot(&entry.path, &mut self.last_folder)?;
        spot.create_directory(mode & 0o750 | 0o700, self.ground.owner)
            .map_err(|error| Error::file("create directory", &self.ground.full(&entry.path), error))
    }

    /// A tablespace's link points to its new place; any other one where it pointed before.
    fn link(&mut self, entry: &Entry) -> Result<(), Error> {
        if entry.path == b"pg_wal" {
            // WAL lay on a disk of its own there; here recovery fetches it into the directory.
            return self.directory(entry, 0o700);
        }
        let target = match entry.path.strip_prefix(b"pg_tblspc/") {
            Some(oid) => {
                let known = |place: &&Place| place.oid.to_string().as_bytes() == oid;
                let place = self.places.iter().find(known);
                let place = place
                    .ok_or_else(|| refuse(entry, "it is a tablespace the backup does not list"))?;
                place.directory.as_os_str()
            }
            None => {
                let target = OsStr::from_bytes(entry.link.as_deref().unwrap_or_default());
                self.progress.note(&format!(
                    "'{}' is a link to '{}', as in the source: what it points to is not in the backup",
                    String::from_utf8_lossy(&entry.path),
                    Path::new(target).display()
                ));
                target
            }
        };
        let spot = self.ground.spot(&entry.path, &mut self.last_folder)?;
        spot.create_link(target, self.ground.owner)
            .map_err(|error| Error::file("create link", &self.ground.full(&entry.path), error))
    }

    async fn file(&mut self, entry: &Entry) -> Result<(), Error> {
        let spot = self.ground.spot(&entry.path, &mut self.last_folder)?;
        let mode = entry.mode & 0o750 | 0o600;
        let path = self.ground.full(&entry.path);
        match &entry.content {
            Content::Inline(bytes) => {
                let file = spot.create(mode, self.ground.owner);
                file.and_then(|file| file.write_all_at(bytes, 0))
                    .map_err(|error| Error::file("write", &path, error))?;
                self.progress.advance(bytes.len() as u64);
            }
            Content::Leaf(leaf) => {
                let target = Target::New { spot, mode };
                self.batch.push(Piece { path, target, leaf: leaf.clone() });
                self.batch_bytes = self.batch_bytes.saturating_add(entry.size);
                if self.batch_bytes >= BATCH_BYTES || self.batch.len() >= BATCH_FILES {
                    self.flush()?;
                }
            }
            Content::Node(node) => {
                let file = spot.create(mode, self.ground.owner);
                let file = file.and_then(|file| reserve(file, entry.size));
                let file = file.map_err(|error| Error::file("extend", &path, error))?;
                self.leaves(entry, node, &Arc::new(file)).await?;
            }
        }
        Ok(())
    }

    /// Queues the leaves of a large file, which must cover it without holes.
    async fn leaves(&self, entry: &Entry, node: &NodeRef, file: &Arc<File>) -> Result<(), Error> {
        let node: FileNode = walk::read_node(self.repository, node).await?;
        let path = self.ground.full(&entry.path);
        let mut covered = 0_u64;
        let hole = |expected, seen| {
            refuse(entry, &format!("expected content at byte {expected}, seen it at {seen}"))
        };
        for some in node.leaves.chunks(LEAVES_AT_ONCE) {
            for leaf in read_leaves(self.repository, some).await? {
                let (begin, len) = leaf.span();
                if begin != covered || len == 0 {
                    return Err(hole(covered, begin));
                }
                covered = covered.saturating_add(len);
                if covered > entry.size {
                    return Err(hole(entry.size, covered));
                }
                let target = Target::Open(Arc::clone(file));
                self.send(vec![Piece { path: path.clone(), target, leaf }])?;
            }
        }
        if covered == entry.size { Ok(()) } else { Err(hole(covered, entry.size)) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() { Ok(()) } else { self.send(batch) }
    }

    /// Fails only when every worker has ended, and then their error is the one that is reported.
    fn send(&self, batch: Batch) -> Result<(), Error> {
        let ended =
            |_| Error::Entry { path: String::new(), reason: "the workers ended early".into() };
        self.queue.send(batch).map_err(ended)
    }
}

/// Takes a large file's room at once, so that its leaves, which come in any order, lie side by
/// side.
fn reserve(file: File, size: u64) -> std::io::Result<File> {
    match fallocate(&file, FallocateFlags::empty(), 0, size) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            file.set_len(size).map(|()| file)
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads leaf nodes; those of one pack in one call, which reads neighbours in one request.
async fn read_leaves(
    repository: &Repository,
    nodes: &[(u64, NodeRef)],
) -> Result<Vec<Leaf>, Error> {
    let mut leaves = Vec::with_capacity(nodes.len());
    for run in nodes.chunk_by(|(_, one), (_, other)| one.pack == other.pack) {
        let Some((_, NodeRef { pack, .. })) = run.first() else { continue };
        let places: Vec<FrameAt> = run.iter().map(|(_, node)| node.at).collect();
        let mut read: Vec<Option<Leaf>> = vec![None; run.len()];
        repository
            .read_frames(Kind::MetaPack, *pack, &places, |at, raw| {
                if let (Some((_, node)), Some(slot)) = (run.get(at), read.get_mut(at)) {
                    *slot = Some(leaf(repository, *pack, node, raw)?);
                }
                Ok(())
            })
            .await?;
        leaves.extend(read.into_iter().flatten());
    }
    Ok(leaves)
}

fn leaf(
    repository: &Repository,
    pack: PackId,
    node: &NodeRef,
    raw: &[u8],
) -> Result<Leaf, repository::Error> {
    let damaged = |reason| repository::Error::Damaged {
        store: repository.address(),
        key: names::pack(pack).to_string(),
        reason,
    };
    if node_digest(repository.keys(), raw) != node.digest {
        return Err(damaged(format!("frame {} is not the node referred to", node.at.shape.number)));
    }
    Leaf::decode(raw).map_err(damaged)
}

fn refuse(entry: &Entry, reason: &str) -> Error {
    let path = String::from_utf8_lossy(&entry.path).into_owned();
    Error::Entry { path, reason: reason.into() }
}

/// Makes everything written on the file system of `directory` durable, whatever files it was.
pub(crate) fn sync_file_system(directory: &Path) -> Result<(), Error> {
    let folder = File::open(directory).map_err(|error| Error::file("open", directory, error))?;
    rustix::fs::syncfs(&folder)
        .map_err(|error| Error::file("make durable", directory, error.into()))
}
