//! From files to frames: one sequencer, several workers, one appender.
//!
//! The sequencer walks the list and decides everything that must be decided in order: which batch
//! comes next, in which pack, under which frame numbers. Workers take batches as they become free:
//! they read, check page checksums, digest, compress and seal. The appender puts the batches back
//! in order and appends them to the packs.
//!
//! Memory is bounded by [`BATCHES_MAX`]: no batch begins before the one that many places ahead of
//! it is appended. A worker reads straight into its own buffer, so the bytes are still in that
//! core's cache when they are compressed; the sequencer tells the kernel ahead of time what will be
//! read, so that disk and processors overlap. The page cache is left as it is: dropping what was
//! read (`POSIX_FADV_DONTNEED`) would also drop what the database itself needs.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crossbeam_channel as crossbeam;
use pg::BlockNumber;
use repository::Compression;
use repository::seal::{SealedFrame, Sealer};
use tokio::sync::mpsc;

use crate::error::Error;
use crate::list::Listed;
use crate::sequencer::Sequencer;
use crate::worker::Worker;

/// Frames in a batch: one mebibyte, so that handing it over costs nothing beside compressing it.
pub(crate) const BATCH_FRAMES: usize = 8;

/// Batches between the sequencer and the appender. Sixteen of a mebibyte hide any hiccup of one
/// thread from the others, and are all the file content that is ever in memory.
pub(crate) const BATCHES_MAX: usize = 16;

/// What all threads know.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The data directory.
    pub(crate) root: PathBuf,
    /// Its files, in order of path.
    pub(crate) files: Vec<Listed>,
    /// Bytes in a page.
    pub(crate) block_size: u32,
    /// Whether pages carry checksums.
    pub(crate) checksums: bool,
    /// How frames are compressed.
    pub(crate) compression: Compression,
    /// How many damaged pages all workers have found so far.
    pub(crate) damaged: AtomicU64,
}

/// Position in [`Plan::files`].
pub(crate) type FileIndex = usize;

/// Work for one worker.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Its place in the order.
    pub(crate) place: u64,
    /// Seals its frames; none for files that stand in the tree itself.
    pub(crate) sealer: Option<Sealer>,
    /// The number of its first frame in the pack.
    pub(crate) first_frame: u64,
    pub(crate) job: Job,
}

/// What to read.
#[derive(Debug)]
pub(crate) enum Job {
    /// Files so small that they stand in the tree.
    Inline(Vec<FileIndex>),
    /// Small files, several to a frame.
    Bundles(Vec<Vec<FileIndex>>),
    /// A run of a large file.
    Run(Run),
}

/// A run of a large file, cut into frames of `FRAME_LEN`.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) index: FileIndex,
    pub(crate) file: Arc<File>,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// Whether it is the file's last.
    pub(crate) last: bool,
}

/// What goes to the appender.
#[derive(Debug)]
pub(crate) enum Message {
    /// The next pack will be needed: send its sealer.
    NeedPack,
    /// The `place`-th step.
    Step { place: u64, step: Step },
    /// A thread failed or panicked; nothing more will come of this.
    Failed(Box<Error>),
    /// A thread panicked.
    Panicked,
}

/// A step, in order.
#[derive(Debug)]
pub(crate) enum Step {
    /// From here on frames belong to the next pack.
    BeginPack,
    /// A large file was gone when it was to be opened.
    Vanished(FileIndex),
    /// A batch is ready.
    Batch(Done),
    /// Nothing comes behind this.
    End,
}

/// A finished batch.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) frames: Vec<DoneFrame>,
    pub(crate) files: DoneFiles,
    /// Pages that were caught in the middle of a write.
    pub(crate) reread: u64,
    pub(crate) damaged: Vec<(FileIndex, BlockNumber)>,
}

/// A sealed frame.
#[derive(Debug)]
pub(crate) struct DoneFrame {
    pub(crate) sealed: SealedFrame,
    /// XXH3-64 of each page, or nothing.
    pub(crate) page_digests: Vec<u8>,
}

/// What the frames of a batch hold.
#[derive(Debug)]
pub(crate) enum DoneFiles {
    /// Whole contents.
    Inline(Vec<(FileIndex, Option<Vec<u8>>)>),
    /// Parts of frames.
    Bundles(Vec<Part>),
    /// Frame after frame of one file.
    Run { index: FileIndex, last: bool },
}

impl Default for DoneFiles {
    fn default() -> Self {
        Self::Inline(Vec::new())
    }
}

/// A small file's place.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) index: FileIndex,
    /// Which frame of the batch.
    pub(crate) frame: usize,
    /// First byte in the frame.
    pub(crate) begin: usize,
    /// Bytes; `None` when the file is gone.
    pub(crate) len: Option<usize>,
}

/// The appender's side of the pipeline. Dropping it ends all threads.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) messages: mpsc::Receiver<Message>,
    /// Takes the sealers of packs to come.
    pub(crate) sealers: crossbeam::Sender<Sealer>,
    /// One entry for every step under way.
    pub(crate) under_way: crossbeam::Receiver<()>,
}

impl Pipeline {
    /// Starts the threads.
    pub(crate) fn start(plan: &Arc<Plan>, workers: usize) -> Result<Self, Error> {
        let (to_appender, messages) = mpsc::channel(BATCHES_MAX);
        let (sealers, from_appender) = crossbeam::bounded(1);
        let (begin, under_way) = crossbeam::bounded(BATCHES_MAX);
        let (jobs, to_do) = crossbeam::bounded(BATCHES_MAX);
        for number in 0..workers.max(1) {
            let worker = Worker::new(Arc::clone(plan), to_do.clone(), to_appender.clone());
            spawn(&format!("backup-work-{number}"), &to_appender, move || worker.run())?;
        }
        let sequencer =
            Sequencer::new(Arc::clone(plan), jobs, begin, from_appender, to_appender.clone());
        spawn("backup-sequence", &to_appender, move || sequencer.run())?;
        Ok(Self { messages, sealers, under_way })
    }
}

/// Tells the appender when its thread panics: it would wait for ever.
struct Alarm(mpsc::Sender<Message>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The appender may be gone, and then nobody waits.
            let _ = self.0.blocking_send(Message::Panicked);
        }
    }
}

fn spawn(
    name: &str,
    to_appender: &mpsc::Sender<Message>,
    body: impl FnOnce() + Send + 'static,
) -> Result<(), Error> {
    let alarm = Alarm(to_appender.clone());
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _alarm = alarm;
        body();
    });
    thread.map(drop).map_err(|error| Error::Unreadable {
        path: PathBuf::from("/proc/self"),
        reason: format!("no thread '{name}': {error}"),
    })
}
