//! A worker: fetches the frames of a batch, opens them, and writes what they hold.

use std::collections::BTreeMap;
use std::fs::File;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::Receiver;
use repository::object::FrameAt;
use repository::tree::Leaf;
use repository::{Kind, PackId, Repository};
use rustix::fs::{Advice, fadvise};
use tokio::runtime::Handle;

use crate::ground::Spot;
use crate::owner::Owner;
use crate::{Error, Progress};

/// From this many bytes on the disk is told to begin writing at once, so that the last sync is
/// short.
const EARLY_WRITE_LEN: u64 = 1 << 20;

/// What one worker does at a time.
pub(crate) type Batch = Vec<Piece>;

/// A file and the leaf of it that is to be written.
#[derive(Debug)]
pub(crate) struct Piece {
    /// For messages.
    pub(crate) path: PathBuf,
    pub(crate) target: Target,
    pub(crate) leaf: Leaf,
}

/// Where a leaf goes.
#[derive(Debug)]
pub(crate) enum Target {
    /// A whole file that is to be created.
    New { spot: Spot, mode: u32 },
    /// A part of a file that others write too.
    Open(Arc<File>),
}

/// Where one extent of a frame goes.
struct Write {
    piece: usize,
    /// Byte range in the opened frame.
    from: usize,
    to: usize,
    /// Byte in the file.
    at: u64,
}

#[derive(Clone)]
pub(crate) struct Worker<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) handle: &'a Handle,
    pub(crate) batches: Receiver<Batch>,
    pub(crate) owner: Owner,
    /// Set by the first of all that fails: the others need not go on.
    pub(crate) failed: &'a AtomicBool,
    pub(crate) progress: &'a dyn Progress,
}

impl Worker<'_> {
    pub(crate) fn run(self) -> Result<(), Error> {
        while let Ok(batch) = self.batches.recv() {
            if self.failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            if let Err(error) = self.write(&batch) {
                self.failed.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    }

    fn write(&self, batch: &[Piece]) -> Result<(), Error> {
        let mut files = Vec::with_capacity(batch.len());
        for piece in batch {
            files.push(self.open(piece)?);
        }
        let frames = frames_of(batch)?;
        for run in frames.chunk_by(|one, other| one.0.0 == other.0.0) {
            let Some(((pack, _), _)) = run.first() else { continue };
            let places: Vec<FrameAt> = run.iter().map(|(_, (at, _))| *at).collect();
            let mut failed = None;
            let each = |at: usize, raw: &[u8]| {
                // The disk's error is no reason to ask the next repository.
                if let (None, Some((_, (_, writes)))) = (&failed, run.get(at)) {
                    failed = write_extents(batch, &files, writes, raw).err();
                }
                Ok(())
            };
            let read = self.repository.read_frames(Kind::DataPack, *pack, &places, each);
            let read = self.handle.block_on(read);
            if let Some(error) = failed {
                return Err(error);
            }
            read?;
            let writes = run.iter().flat_map(|(_, (_, writes))| writes);
            self.progress.advance(writes.map(|write| (write.to - write.from) as u64).sum());
        }
        for (piece, file) in batch.iter().zip(&files) {
            begin_writing(piece, file);
        }
        Ok(())
    }

    fn open(&self, piece: &Piece) -> Result<Arc<File>, Error> {
        match &piece.target {
            Target::Open(file) => Ok(Arc::clone(file)),
            Target::New { spot, mode } => spot
                .create(*mode, self.owner)
                .map(Arc::new)
                .map_err(|error| Error::file("create", &piece.path, error)),
        }
    }
}

type Frame = ((PackId, u64), (FrameAt, Vec<Write>));

/// By pack and offset: frames that lie side by side are read together, and none twice.
fn frames_of(batch: &[Piece]) -> Result<Vec<Frame>, Error> {
    let mut frames: BTreeMap<(PackId, u64), (FrameAt, Vec<Write>)> = BTreeMap::new();
    for (number, piece) in batch.iter().enumerate() {
        for extent in &piece.leaf.extents {
            let unknown = || Error::Entry {
                path: piece.path.display().to_string(),
                reason: format!("its frame {} is not listed", extent.frame),
            };
            let (pack, at) = piece.leaf.frames.get(extent.frame as usize).ok_or_else(unknown)?;
            let unit = piece.leaf.unit as usize;
            let from = extent.slot as usize * unit;
            let write = Write {
                piece: number,
                from,
                to: from + extent.count as usize * unit,
                at: extent.first * unit as u64,
            };
            frames.entry((*pack, at.offset)).or_insert((*at, Vec::new())).1.push(write);
        }
    }
    Ok(frames.into_iter().collect())
}

fn write_extents(
    batch: &[Piece],
    files: &[Arc<File>],
    writes: &[Write],
    raw: &[u8],
) -> Result<(), Error> {
    for write in writes {
        let (Some(file), Some(piece)) = (files.get(write.piece), batch.get(write.piece)) else {
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

/// The kernel begins to write pages back when it is told that they are not needed; it keeps what it
/// is writing in memory, where the server finds it. What this call says is only a wish.
fn begin_writing(piece: &Piece, file: &File) {
    let (begin, len) = piece.leaf.span();
    if let Some(len) = NonZeroU64::new(len).filter(|len| len.get() >= EARLY_WRITE_LEN) {
        let _ = fadvise(file, begin, Some(len), Advice::DontNeed);
    }
}
