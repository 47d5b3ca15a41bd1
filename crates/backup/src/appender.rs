//! Putting finished batches in order, into packs, and their places into the tree.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use repository::kind::Kind;
use repository::object::FrameAt;
use repository::pack::{PackWriter, TreeWriter};
use repository::root::PackEntry;
use repository::tree::{Entry, FRAME_LEN, NodeRef};
use repository::{PackId, Repository, names};
use tokio::task::JoinSet;

use crate::content::{FileBuilder, Stored};
use crate::error::Error;
use crate::pipeline::{Done, DoneFiles, DoneFrame, FileIndex, Message, Part, Pipeline, Plan, Step};
use crate::progress::Progress;
use crate::report::{DAMAGED_PAGES_NAMED_MAX, DamagedPage, Statistics};

/// Packs whose last bytes are being made durable while the next ones fill.
const FINISHING_MAX: usize = 2;

/// How long cleaning up after a failure may take: the store itself may be what failed.
const CLEAN_UP_MAX: Duration = Duration::from_secs(20);

/// One backup's packs and tree on their way into the repository.
pub(crate) struct Appender<'a> {
    repository: &'a Repository,
    plan: Arc<Plan>,
    progress: &'a dyn Progress,
    /// `None` once it is finished.
    tree: Option<TreeWriter<'a>>,
    /// Begun for the sequencer and not its turn yet.
    coming: VecDeque<PackWriter>,
    current: Option<PackWriter>,
    finishing: JoinSet<Result<PackEntry, repository::Error>>,
    packs: Vec<PackEntry>,
    /// Bytes of frames that no file uses, by pack.
    dead: HashMap<PackId, u64>,
    /// What was stored of each file of the plan; `None` for what is gone.
    stored: Vec<Option<Stored>>,
    /// The large file whose frames are coming.
    open: Option<(FileIndex, FileBuilder)>,
    pub(crate) statistics: Statistics,
    pub(crate) damaged: Vec<DamagedPage>,
    pub(crate) damaged_count: u64,
}

impl<'a> Appender<'a> {
    pub(crate) async fn begin(
        repository: &'a Repository,
        plan: Arc<Plan>,
        progress: &'a dyn Progress,
    ) -> Result<Self, Error> {
        let tree = TreeWriter::begin(repository).await?;
        let stored = vec![None; plan.files.len()];
        Ok(Self {
            repository,
            plan,
            progress,
            tree: Some(tree),
            coming: VecDeque::new(),
            current: None,
            finishing: JoinSet::new(),
            packs: Vec::new(),
            dead: HashMap::new(),
            stored,
            open: None,
            statistics: Statistics::default(),
            damaged: Vec::new(),
            damaged_count: 0,
        })
    }

    /// Takes everything the pipeline makes. Only in order: frames have their numbers already.
    pub(crate) async fn take_all(&mut self, mut pipeline: Pipeline) -> Result<(), Error> {
        let mut early = BTreeMap::new();
        let mut next = 0;
        while let Some(message) = pipeline.messages.recv().await {
            match message {
                Message::NeedPack => {
                    let pack = PackWriter::begin(self.repository, Kind::DataPack).await?;
                    // There is room for one, and the sequencer asks for one at a time.
                    let _ = pipeline.sealers.try_send(pack.sealer().clone());
                    self.coming.push_back(pack);
                }
                Message::Failed(error) => return Err(*error),
                Message::Panicked => panic_here(),
                Message::Step { place, step } => {
                    early.insert(place, step);
                    while let Some(step) = early.remove(&next) {
                        next += 1;
                        if matches!(step, Step::End) {
                            return Ok(());
                        }
                        self.step(step).await?;
                        let _ = pipeline.under_way.try_recv();
                    }
                }
            }
        }
        // All threads ended without the last step: one of them panicked.
        panic_here()
    }

    async fn step(&mut self, step: Step) -> Result<(), Error> {
        match step {
            Step::BeginPack => {
                if let Some(full) = self.current.take() {
                    self.finish_pack(full).await?;
                }
                self.current = self.coming.pop_front();
                Ok(())
            }
            Step::Vanished(index) => {
                self.gone(index);
                self.progress.advance(self.plan.files.get(index).map_or(0, |file| file.size));
                Ok(())
            }
            Step::Batch(done) => self.batch(done).await,
            Step::End => Ok(()),
        }
    }

    /// Makes a full pack durable while the next one fills.
    async fn finish_pack(&mut self, full: PackWriter) -> Result<(), Error> {
        while self.finishing.len() >= FINISHING_MAX {
            self.join_one().await?;
        }
        self.finishing.spawn(full.finish());
        Ok(())
    }

    async fn join_one(&mut self) -> Result<(), Error> {
        match self.finishing.join_next().await {
            Some(Ok(finished)) => self.packs.push(finished?),
            Some(Err(join)) => match join.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => panic_here(),
            },
            None => {}
        }
        Ok(())
    }

    async fn batch(&mut self, done: Done) -> Result<(), Error> {
        self.statistics.pages_reread += done.reread;
        self.damaged_count += done.damaged.len() as u64;
        for (index, block) in done.damaged {
            if self.damaged.len() < DAMAGED_PAGES_NAMED_MAX {
                let path = self.plan.files.get(index).map(|file| file.text()).unwrap_or_default();
                self.damaged.push(DamagedPage { path, block });
            }
        }
        let mut at = Vec::with_capacity(done.frames.len());
        let pack = self.current.as_ref().map(PackWriter::id);
        for frame in done.frames {
            at.push(self.append(frame).await?);
        }
        match (done.files, pack) {
            (DoneFiles::Inline(files), _) => {
                for (index, content) in files {
                    self.progress.advance(self.plan.files.get(index).map_or(0, |file| file.size));
                    match content {
                        Some(bytes) => self.keep(index, Stored::inline(bytes)),
                        None => self.gone(index),
                    }
                }
                Ok(())
            }
            (DoneFiles::Bundles(parts), Some(pack)) => {
                parts.iter().for_each(|part| self.part(pack, &at, part));
                Ok(())
            }
            (DoneFiles::Run { index, last }, Some(pack)) => self.run(index, last, pack, &at).await,
            (DoneFiles::Bundles(_) | DoneFiles::Run { .. }, None) => {
                unreachable!("frames come after the beginning of their pack")
            }
        }
    }

    async fn append(&mut self, frame: DoneFrame) -> Result<FrameAt, Error> {
        let Some(pack) = self.current.as_mut() else {
            unreachable!("frames come after the beginning of their pack")
        };
        self.statistics.frames += 1;
        self.statistics.bytes_read += u64::from(frame.sealed.raw_len);
        Ok(pack.append_owned(frame.sealed, frame.page_digests).await?)
    }

    fn part(&mut self, pack: PackId, frames: &[FrameAt], part: &Part) {
        let Some(file) = self.plan.files.get(part.index) else { return };
        let (listed, unit) = (file.size, file.unit(self.plan.block_size));
        self.progress.advance(listed);
        match (frames.get(part.frame), part.len) {
            (Some(at), Some(len)) => {
                self.keep(part.index, Stored::part(pack, *at, unit, part.begin, len));
            }
            _ => self.gone(part.index),
        }
    }

    async fn run(
        &mut self,
        index: FileIndex,
        last: bool,
        pack: PackId,
        frames: &[FrameAt],
    ) -> Result<(), Error> {
        let Some(file) = self.plan.files.get(index) else { return Ok(()) };
        let (size, unit) = (file.size, file.unit(self.plan.block_size));
        let (_, mut builder) = self.open.take().unwrap_or_else(|| (index, FileBuilder::new(unit)));
        for at in frames {
            if !builder.frame(tree(&mut self.tree), pack, *at).await? {
                *self.dead.entry(pack).or_default() += u64::from(at.sealed_len);
            }
        }
        self.progress.advance(self.planned(size, frames.len(), last));
        if last {
            let stored = builder.finish(tree(&mut self.tree)).await?;
            self.keep(index, stored);
        } else {
            self.open = Some((index, builder));
        }
        Ok(())
    }

    /// Bytes that a batch was planned for, so that progress adds up to the total.
    fn planned(&self, size: u64, frames: usize, last: bool) -> u64 {
        let whole = (frames * FRAME_LEN) as u64;
        let rest = size % FRAME_LEN as u64;
        if last && rest != 0 { whole - FRAME_LEN as u64 + rest } else { whole }
    }

    fn keep(&mut self, index: FileIndex, stored: Stored) {
        let listed = self.plan.files.get(index).map_or(0, |file| file.size);
        self.statistics.shrunk += u64::from(stored.size < listed);
        if let Some(slot) = self.stored.get_mut(index) {
            *slot = Some(stored);
        }
    }

    /// The file was dropped between the listing and its turn: replay drops it, too.
    fn gone(&mut self, index: FileIndex) {
        self.statistics.vanished += 1;
        if let Some(slot) = self.stored.get_mut(index) {
            *slot = None;
        }
    }

    /// Stores bytes that come from memory, behind all files.
    pub(crate) async fn put(&mut self, bytes: &[u8]) -> Result<Stored, Error> {
        if bytes.len() <= repository::tree::INLINE_LEN_MAX {
            return Ok(Stored::inline(bytes.to_vec()));
        }
        let mut builder = FileBuilder::new(1);
        for raw in bytes.chunks(FRAME_LEN) {
            let pack = match &mut self.current {
                Some(pack) => pack,
                None => self.current.insert(match self.coming.pop_front() {
                    Some(begun) => begun,
                    None => PackWriter::begin(self.repository, Kind::DataPack).await?,
                }),
            };
            let sealed = pack.sealer().seal(pack.frame_count(), false, raw, self.plan.compression);
            let at = pack.append(&sealed, Vec::new()).await?;
            self.statistics.frames += 1;
            builder.frame(tree(&mut self.tree), pack.id(), at).await?;
        }
        Ok(builder.finish(tree(&mut self.tree)).await?)
    }

    /// What was stored of a file of the plan; `None` when it is gone.
    pub(crate) fn stored(&mut self, index: FileIndex) -> Option<Stored> {
        self.stored.get_mut(index).and_then(Option::take)
    }

    /// Adds the next entry of the tree, in order of path.
    pub(crate) async fn add(&mut self, entry: Entry) -> Result<(), Error> {
        Ok(tree(&mut self.tree).add(entry).await?)
    }

    /// Completes the tree and makes all packs durable; returns the top page and the packs.
    pub(crate) async fn finish(&mut self) -> Result<(NodeRef, Vec<PackEntry>), Error> {
        if let Some(pack) = self.current.take() {
            self.finish_pack(pack).await?;
        }
        while let Some(spare) = self.coming.pop_front() {
            spare.abort().await?;
        }
        let Some(tree) = self.tree.take() else { unreachable!("a tree is finished once") };
        let (top, meta) = tree.finish().await?;
        self.packs.extend(meta);
        while !self.finishing.is_empty() {
            self.join_one().await?;
        }
        for pack in &mut self.packs {
            pack.live -= self.dead.get(&pack.id).copied().unwrap_or(0).min(pack.live);
        }
        self.statistics.packs = self.packs.len() as u64;
        self.statistics.bytes_packed = self.packs.iter().map(|pack| pack.size).sum();
        Ok((top, self.packs.clone()))
    }

    /// Gives up: uploads end without a trace, and packs that are complete are removed, as far as
    /// the store lets us. Nothing refers to them, so what stays costs space only.
    pub(crate) async fn abandon(mut self) {
        let clean_up = async {
            for pack in self.current.take().into_iter().chain(std::mem::take(&mut self.coming)) {
                note(pack.abort().await);
            }
            while let Some(finished) = self.finishing.join_next().await {
                if let Ok(Ok(entry)) = finished {
                    self.packs.push(entry);
                }
            }
            for pack in &self.packs {
                note(self.repository.delete(&names::pack(pack.id)).await);
            }
        };
        if tokio::time::timeout(CLEAN_UP_MAX, clean_up).await.is_err() {
            tracing::warn!("gave up removing an unfinished backup's packs; they only cost space");
        }
    }
}

fn tree<'t, 'a>(tree: &'t mut Option<TreeWriter<'a>>) -> &'t mut TreeWriter<'a> {
    match tree {
        Some(tree) => tree,
        None => unreachable!("nothing is added to a finished tree"),
    }
}

fn note(cleaned: Result<(), repository::Error>) {
    if let Err(error) = cleaned {
        tracing::warn!(%error, "a part of an unfinished backup stays; it only costs space");
    }
}

#[allow(clippy::panic)] // a bug in another thread is passed on, not turned into an error
fn panic_here() -> ! {
    panic!("a thread of the backup panicked")
}
