//! Reading, checking, digesting, compressing and sealing one batch.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel as crossbeam;
use pg::BlockNumber;
use repository::seal::Sealer;
use repository::tree::{FRAME_LEN, INLINE_LEN_MAX};
use rustix::fs::OFlags;
use tokio::sync::mpsc;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, unreadable};
use crate::list::{Listed, full_path, is_required};
use crate::pipeline::{
    Batch, Done, DoneFiles, DoneFrame, FileIndex, Job, Message, Part, Plan, Run, Step,
};
use crate::read::{Check, PATIENT_PAGES_MAX, Tally, read_full, read_pages};

pub(crate) struct Worker {
    plan: Arc<Plan>,
    jobs: crossbeam::Receiver<Batch>,
    to_appender: mpsc::Sender<Message>,
    /// The frame being made.
    raw: Vec<u8>,
}

/// Opens a file of the data directory; never a link that has taken its place.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0);
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

impl Worker {
    pub(crate) fn new(
        plan: Arc<Plan>,
        jobs: crossbeam::Receiver<Batch>,
        to_appender: mpsc::Sender<Message>,
    ) -> Self {
        Self { plan, jobs, to_appender, raw: vec![0; FRAME_LEN] }
    }

    /// Works until there is nothing more to do, or nobody to do it for.
    pub(crate) fn run(mut self) {
        while let Ok(batch) = self.jobs.recv() {
            let place = batch.place;
            let message = match self.batch(batch) {
                Ok(done) => Message::Step { place, step: Step::Batch(done) },
                Err(error) => Message::Failed(Box::new(error)),
            };
            if self.to_appender.blocking_send(message).is_err() {
                return;
            }
        }
    }

    fn batch(&mut self, batch: Batch) -> Result<Done, Error> {
        let plan = Arc::clone(&self.plan);
        match (batch.job, batch.sealer) {
            (Job::Inline(files), _) => inline(&plan, &files),
            (Job::Bundles(frames), Some(sealer)) => {
                self.bundles(&plan, &frames, &sealer, batch.first_frame)
            }
            (Job::Run(run), Some(sealer)) => {
                self.run_of_file(&plan, &run, &sealer, batch.first_frame)
            }
            (Job::Bundles(_) | Job::Run(_), None) => {
                unreachable!("batches with frames have a pack")
            }
        }
    }

    fn bundles(
        &mut self,
        plan: &Plan,
        frames: &[Vec<FileIndex>],
        sealer: &Sealer,
        first_frame: u64,
    ) -> Result<Done, Error> {
        let mut done = Done::default();
        let mut parts = Vec::new();
        for (frame, files) in frames.iter().enumerate() {
            let mut filled = 0;
            let mut pages = false;
            for &index in files {
                let Some(listed) = plan.files.get(index) else { continue };
                let room = self.raw.get_mut(filled..).unwrap_or_default();
                let room = room.get_mut(..usize_of(listed.size)).unwrap_or_default();
                let len = read_small(plan, index, listed, room, &mut done)?;
                parts.push(Part { index, frame, begin: filled, len });
                filled += len.unwrap_or(0);
                pages = listed.first_block.is_some();
            }
            let raw = self.raw.get(..filled).unwrap_or_default();
            done.frames.push(seal(plan, sealer, first_frame + frame as u64, raw, pages));
        }
        done.files = DoneFiles::Bundles(parts);
        Ok(done)
    }

    fn run_of_file(
        &mut self,
        plan: &Plan,
        run: &Run,
        sealer: &Sealer,
        first_frame: u64,
    ) -> Result<Done, Error> {
        let mut done =
            Done { files: DoneFiles::Run { index: run.index, last: run.last }, ..Done::default() };
        let Some(listed) = plan.files.get(run.index) else { return Ok(done) };
        let mut offset = run.offset;
        let mut number = first_frame;
        while offset < run.offset + run.len {
            let want = usize_of(run.offset + run.len - offset).min(FRAME_LEN);
            let room = self.raw.get_mut(..want).unwrap_or_default();
            let len = read_part(plan, run.index, listed, &run.file, room, offset, &mut done)?;
            let raw = self.raw.get(..len).unwrap_or_default();
            // What a file was shorter leaves frames empty: their numbers are given out.
            done.frames.push(seal(plan, sealer, number, raw, listed.first_block.is_some()));
            offset += want as u64;
            number += 1;
        }
        Ok(done)
    }
}

fn seal(plan: &Plan, sealer: &Sealer, number: u64, raw: &[u8], pages: bool) -> DoneFrame {
    let page_digests = if pages {
        let pages = raw.chunks_exact(plan.block_size as usize);
        pages.flat_map(|page| xxh3_64(page).to_le_bytes()).collect()
    } else {
        Vec::new()
    };
    let mut sealed = sealer.seal(number, false, raw, plan.compression);
    // It was given room for bytes that do not shrink, and may wait for its turn: give that back.
    sealed.bytes.shrink_to_fit();
    DoneFrame { sealed, page_digests }
}

fn inline(plan: &Plan, files: &[FileIndex]) -> Result<Done, Error> {
    let mut done = Done::default();
    let mut contents = Vec::with_capacity(files.len());
    for &index in files {
        let Some(listed) = plan.files.get(index) else { continue };
        let mut buffer = [0; INLINE_LEN_MAX];
        let room = buffer.get_mut(..usize_of(listed.size)).unwrap_or_default();
        let len = read_small(plan, index, listed, room, &mut done)?;
        contents.push((index, len.map(|len| buffer.get(..len).unwrap_or_default().to_vec())));
    }
    done.files = DoneFiles::Inline(contents);
    Ok(done)
}

/// Reads a whole small file up to its listed size; `None` when it is gone.
fn read_small(
    plan: &Plan,
    index: FileIndex,
    listed: &Listed,
    room: &mut [u8],
    done: &mut Done,
) -> Result<Option<usize>, Error> {
    let path = full_path(&plan.root, &listed.path);
    match open(&path) {
        Ok(file) => read_part(plan, index, listed, &file, room, 0, done).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if is_required(&listed.path) {
                return Err(Error::Vanished { path: listed.text() });
            }
            Ok(None)
        }
        Err(error) => Err(unreadable(&path, &error)),
    }
}

/// Reads a part of a file, as pages if it has them.
fn read_part(
    plan: &Plan,
    index: FileIndex,
    listed: &Listed,
    file: &File,
    room: &mut [u8],
    offset: u64,
    done: &mut Done,
) -> Result<usize, Error> {
    let failed = |error| unreadable(&full_path(&plan.root, &listed.path), &error);
    let Some(first) = listed.first_block else {
        return read_full(file, room, offset).map_err(failed);
    };
    let block_size = plan.block_size as usize;
    let patient = plan.damaged.load(Ordering::Relaxed) < PATIENT_PAGES_MAX;
    let check = Check { block_size, checksums: plan.checksums, patient };
    let ahead = u32::try_from(offset / block_size as u64).unwrap_or(u32::MAX);
    let first = BlockNumber::new(first.get().saturating_add(ahead));
    let mut tally = Tally::default();
    let len = read_pages(file, room, offset, first, check, &mut tally).map_err(failed)?;
    plan.damaged.fetch_add(tally.damaged.len() as u64, Ordering::Relaxed);
    done.reread += tally.reread;
    done.damaged.extend(tally.damaged.into_iter().map(|block| (index, block)));
    Ok(len)
}

fn usize_of(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use repository::Compression;
    use repository::tree::EntryKind;

    use super::*;

    /// A file of eight damaged pages: no checksum is right.
    fn damaged_file(folder: &Path) -> (Plan, File) {
        let path = folder.join("16384");
        std::fs::write(&path, vec![0x55; 8 * 8192]).unwrap();
        let plan = Plan {
            root: folder.to_owned(),
            files: Vec::new(),
            block_size: 8192,
            checksums: true,
            compression: Compression::default(),
            damaged: AtomicU64::new(0),
        };
        (plan, open(&path).unwrap())
    }

    #[test]
    fn damaged_pages_are_counted_over_the_whole_backup() {
        let folder = tempfile::tempdir().unwrap();
        let (plan, file) = damaged_file(folder.path());
        let listed = Listed {
            path: b"base/5/16384".to_vec().into(),
            kind: EntryKind::File,
            mode: 0o600,
            user: 0,
            group: 0,
            modified_us: 0,
            size: 8 * 8192,
            link: None,
            first_block: Some(BlockNumber::new(0)),
        };
        let mut done = Done::default();
        for frame in 0..2 {
            let mut room = vec![0; 4 * 8192];
            let offset = frame * room.len() as u64;
            read_part(&plan, 0, &listed, &file, &mut room, offset, &mut done).unwrap();
            assert_eq!(plan.damaged.load(Ordering::Relaxed), (frame + 1) * 4);
        }
        assert_eq!(done.damaged.len(), 8);
    }
}
