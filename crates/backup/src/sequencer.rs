//! Deciding what is read next, into which pack, under which frame numbers.

use std::fs::File;
use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::sync::Arc;

use crossbeam_channel as crossbeam;
use repository::seal::Sealer;
use repository::tree::{EntryKind, FRAME_LEN, INLINE_LEN_MAX};
use rustix::fs::Advice;
use tokio::sync::mpsc;

use crate::error::{Error, unreadable};
use crate::list::{Listed, full_path, is_required};
use crate::pipeline::{BATCH_FRAMES, Batch, FileIndex, Job, Message, Plan, Run, Step};
use crate::worker::open;

/// A pack is closed at the next end of a file once this many bytes of files went into it. Large
/// enough that requests and syncs do not count, small enough that a lost pack costs little.
const PACK_RAW_TARGET: u64 = 256 << 20;

/// A pack is closed even inside a file at this many frames: its index must fit into one frame. Only
/// a single file of 8 GiB and more, which PostgreSQL itself does not make, comes to that.
const PACK_FRAMES_MAX: u64 = 64 << 10;

/// Inline files in one batch.
const INLINE_FILES: usize = 64;

/// What the kernel is asked to read ahead at once; it cuts longer requests.
const READAHEAD_STEP: u64 = 256 << 10;

/// The appender is gone: the backup has failed or was cancelled.
struct Stopped;

pub(crate) struct Sequencer {
    plan: Arc<Plan>,
    jobs: crossbeam::Sender<Batch>,
    begin: crossbeam::Sender<()>,
    sealers: crossbeam::Receiver<Sealer>,
    to_appender: mpsc::Sender<Message>,
    /// The next step's place in the order.
    place: u64,
    pack: Option<Sealer>,
    pack_frames: u64,
    pack_raw: u64,
    /// Whether the next pack was asked for already.
    asked: bool,
}

impl Sequencer {
    pub(crate) fn new(
        plan: Arc<Plan>,
        jobs: crossbeam::Sender<Batch>,
        begin: crossbeam::Sender<()>,
        sealers: crossbeam::Receiver<Sealer>,
        to_appender: mpsc::Sender<Message>,
    ) -> Self {
        Self {
            plan,
            jobs,
            begin,
            sealers,
            to_appender,
            place: 0,
            pack: None,
            pack_frames: 0,
            pack_raw: 0,
            asked: false,
        }
    }

    pub(crate) fn run(mut self) {
        // Whether it was stopped or came to the end, there is nobody to tell.
        let _ = self.all();
    }

    /// Small files first: they become the boot pack, all that a server needs to begin with.
    fn all(&mut self) -> Result<(), Stopped> {
        let plan = Arc::clone(&self.plan);
        let of = |class: Class| {
            let files = plan.files.iter().enumerate();
            files.filter(move |(_, file)| class_of(file) == class).map(|(index, _)| index)
        };
        let inline: Vec<FileIndex> = of(Class::Inline).collect();
        for files in inline.chunks(INLINE_FILES) {
            self.send(None, 0, Job::Inline(files.to_vec()))?;
        }
        for class in [Class::SmallBytes, Class::SmallPages] {
            self.bundles(&plan, of(class))?;
        }
        for index in of(Class::Large) {
            if let Some(file) = plan.files.get(index) {
                self.large(&plan, index, file)?;
            }
        }
        self.step(Step::End)
    }

    /// Fills frames with small files, none of which is cut.
    fn bundles(
        &mut self,
        plan: &Plan,
        files: impl Iterator<Item = FileIndex>,
    ) -> Result<(), Stopped> {
        let mut frames: Vec<Vec<FileIndex>> = Vec::new();
        let (mut used, mut raw) = (FRAME_LEN as u64, 0);
        for index in files {
            let size = plan.files.get(index).map_or(0, |file| file.size);
            if used + size > FRAME_LEN as u64 {
                if frames.len() == BATCH_FRAMES {
                    self.bundle_batch(std::mem::take(&mut frames), raw)?;
                    raw = 0;
                }
                frames.push(Vec::new());
                used = 0;
            }
            if let Some(frame) = frames.last_mut() {
                frame.push(index);
            }
            used += size;
            raw += size;
        }
        if frames.is_empty() { Ok(()) } else { self.bundle_batch(frames, raw) }
    }

    fn bundle_batch(&mut self, frames: Vec<Vec<FileIndex>>, raw: u64) -> Result<(), Stopped> {
        self.roll_over(PACK_RAW_TARGET);
        let (sealer, first) = self.number(frames.len() as u64, raw)?;
        self.send(Some(sealer), first, Job::Bundles(frames))
    }

    /// A file that fills frames of its own.
    fn large(&mut self, plan: &Plan, index: FileIndex, listed: &Listed) -> Result<(), Stopped> {
        let path = full_path(&plan.root, &listed.path);
        let file = match open(&path) {
            Ok(file) => Arc::new(file),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if is_required(&listed.path) {
                    return self.fail(Error::Vanished { path: listed.text() });
                }
                return self.step(Step::Vanished(index));
            }
            Err(error) => return self.fail(unreadable(&path, &error)),
        };
        // Advice only: a file system that knows none reads as it likes.
        let _ = rustix::fs::fadvise(&*file, 0, None, Advice::Sequential);
        self.roll_over(PACK_RAW_TARGET);
        let mut offset = 0;
        while offset < listed.size {
            let len = (listed.size - offset).min((BATCH_FRAMES * FRAME_LEN) as u64);
            self.roll_over(u64::MAX);
            read_ahead(&file, offset, len);
            let (sealer, first) = self.number(len.div_ceil(FRAME_LEN as u64), len)?;
            let last = offset + len == listed.size;
            let run = Run { index, file: Arc::clone(&file), offset, len, last };
            self.send(Some(sealer), first, Job::Run(run))?;
            offset += len;
        }
        Ok(())
    }

    /// Leaves the current pack when it has `raw_max` bytes of files, or cannot take another batch.
    fn roll_over(&mut self, raw_max: u64) {
        let full = self.pack_frames + BATCH_FRAMES as u64 > PACK_FRAMES_MAX;
        if self.pack_raw >= raw_max || full {
            self.pack = None;
        }
    }

    /// Gives out the numbers of the next frames, in a new pack if there is none.
    fn number(&mut self, frames: u64, raw: u64) -> Result<(Sealer, u64), Stopped> {
        let sealer = match &self.pack {
            Some(sealer) => sealer.clone(),
            None => {
                self.ask_for_pack()?;
                let sealer = self.sealers.recv().map_err(|_| Stopped)?;
                self.asked = false;
                (self.pack_frames, self.pack_raw) = (0, 0);
                self.step(Step::BeginPack)?;
                self.pack.insert(sealer).clone()
            }
        };
        let first = self.pack_frames;
        self.pack_frames += frames;
        self.pack_raw += raw;
        // Beginning an upload takes a round trip: have the next one ready in time.
        if self.pack_raw >= PACK_RAW_TARGET / 2 {
            self.ask_for_pack()?;
        }
        Ok((sealer, first))
    }

    fn ask_for_pack(&mut self) -> Result<(), Stopped> {
        if !self.asked {
            self.asked = true;
            self.to_appender.blocking_send(Message::NeedPack).map_err(|_| Stopped)?;
        }
        Ok(())
    }

    /// Waits for room and takes the next place in the order.
    fn take_place(&mut self) -> Result<u64, Stopped> {
        self.begin.send(()).map_err(|_| Stopped)?;
        self.place += 1;
        Ok(self.place - 1)
    }

    fn send(&mut self, sealer: Option<Sealer>, first_frame: u64, job: Job) -> Result<(), Stopped> {
        let place = self.take_place()?;
        self.jobs.send(Batch { place, sealer, first_frame, job }).map_err(|_| Stopped)
    }

    fn step(&mut self, step: Step) -> Result<(), Stopped> {
        let place = self.take_place()?;
        self.to_appender.blocking_send(Message::Step { place, step }).map_err(|_| Stopped)
    }

    fn fail(&mut self, error: Error) -> Result<(), Stopped> {
        let _ = self.to_appender.blocking_send(Message::Failed(Box::new(error)));
        Err(Stopped)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Nothing to read.
    None,
    Inline,
    SmallBytes,
    SmallPages,
    Large,
}

fn class_of(file: &Listed) -> Class {
    match (file.kind, file.size, file.first_block) {
        (EntryKind::File, 1.., None) if file.size <= INLINE_LEN_MAX as u64 => Class::Inline,
        (EntryKind::File, 1.., pages) if file.size <= FRAME_LEN as u64 => match pages {
            Some(_) => Class::SmallPages,
            None => Class::SmallBytes,
        },
        (EntryKind::File, 1.., _) => Class::Large,
        _ => Class::None,
    }
}

/// Asks the kernel to read a run into the page cache, so that a worker finds it there.
fn read_ahead(file: &File, offset: u64, len: u64) {
    let mut at = offset;
    while at < offset + len {
        let step = (offset + len - at).min(READAHEAD_STEP);
        // Advice only.
        let _ = rustix::fs::fadvise(file, at, NonZeroU64::new(step), Advice::WillNeed);
        at += step;
    }
}
