//! A stream of bytes on its way into packs.

use std::collections::VecDeque;

use repository::kind::Kind;
use repository::pack::{PackWriter, TreeWriter};
use repository::root::PackEntry;
use repository::seal::SealedFrame;
use repository::tree::{Entry, EntryKind, FRAME_LEN, INLINE_LEN_MAX, NodeRef};
use repository::{Compression, Repository, names};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::Progress;
use crate::content::{FileBuilder, Stored};

/// A pack is closed once this many bytes of streams went into it.
pub(super) const PACK_RAW_TARGET: u64 = 256 << 20;

/// Frames of one stream that are compressed and sealed at once: streams run beside each other.
const SEALING_MAX: usize = 4;

/// Where the streams of one dump go.
#[derive(Debug)]
pub(super) struct Packs<'a> {
    repository: &'a Repository,
    compression: Compression,
    pack_raw_target: u64,
    tree: Mutex<TreeWriter<'a>>,
    finished: Mutex<Vec<PackEntry>>,
}

impl<'a> Packs<'a> {
    pub(super) async fn begin(
        repository: &'a Repository,
        compression: Compression,
        pack_raw_target: u64,
    ) -> Result<Self, repository::Error> {
        let tree = Mutex::new(TreeWriter::begin(repository).await?);
        Ok(Self { repository, compression, pack_raw_target, tree, finished: Mutex::default() })
    }

    /// Takes a stream to its end. It counts only when whoever wrote it says that it was whole.
    pub(super) async fn take(
        &self,
        mut stream: impl AsyncRead + Unpin,
        progress: &dyn Progress,
    ) -> Result<Stored, TakeError> {
        let mut writer = StreamWriter::new(self);
        loop {
            let mut frame = Vec::with_capacity(FRAME_LEN);
            // A pipe gives less than was asked for; frames are filled.
            let mut limited = (&mut stream).take(FRAME_LEN as u64);
            limited.read_to_end(&mut frame).await.map_err(TakeError::Read)?;
            let is_last = frame.len() < FRAME_LEN;
            progress.advance(frame.len() as u64);
            writer.write(frame, is_last).await?;
            if is_last {
                return Ok(writer.finish().await?);
            }
        }
    }

    /// Completes the tree with these streams, in order of path; returns its top and all packs.
    pub(super) async fn finish(
        self,
        mut streams: Vec<(String, Stored)>,
        modified_us: i64,
    ) -> Result<(NodeRef, Vec<PackEntry>), (repository::Error, Vec<PackEntry>)> {
        streams.sort_by(|a, b| a.0.cmp(&b.0));
        let mut tree = self.tree.into_inner();
        let mut packs = self.finished.into_inner();
        for (path, stored) in streams {
            if let Err(error) = tree.add(entry(path, stored, modified_us)).await {
                return Err((error, packs));
            }
        }
        match tree.finish().await {
            Ok((top, meta)) => {
                packs.extend(meta);
                Ok((top, packs))
            }
            Err(error) => Err((error, packs)),
        }
    }

    /// Packs that are complete, to be given up.
    pub(super) fn into_finished(self) -> Vec<PackEntry> {
        self.finished.into_inner()
    }
}

/// Removes packs that nothing refers to, as far as the store lets us.
pub(super) async fn remove(repository: &Repository, packs: &[PackEntry]) {
    for pack in packs {
        if let Err(error) = repository.delete(&names::pack(pack.id)).await {
            tracing::warn!(%error, "a part of an unfinished dump stays; it only costs space");
        }
    }
}

/// How taking a stream failed.
#[derive(Debug)]
pub(super) enum TakeError {
    /// The stream could not be read.
    Read(std::io::Error),
    /// The repository could not be written.
    Write(repository::Error),
}

impl From<repository::Error> for TakeError {
    fn from(error: repository::Error) -> Self {
        Self::Write(error)
    }
}

fn entry(path: String, stored: Stored, modified_us: i64) -> Entry {
    Entry {
        path: path.into_bytes(),
        kind: EntryKind::File,
        mode: 0o600,
        owner: String::new(),
        group: String::new(),
        modified_us,
        size: stored.size,
        link: None,
        content: stored.content,
    }
}

struct StreamWriter<'p, 'a> {
    packs: &'p Packs<'a>,
    pack: Option<PackWriter>,
    pack_raw: u64,
    builder: FileBuilder,
    /// Frames that are being sealed, in order.
    sealing: VecDeque<JoinHandle<SealedFrame>>,
    inline: Option<Vec<u8>>,
}

impl<'p, 'a> StreamWriter<'p, 'a> {
    fn new(packs: &'p Packs<'a>) -> Self {
        Self {
            packs,
            pack: None,
            pack_raw: 0,
            builder: FileBuilder::new(1),
            sealing: VecDeque::new(),
            inline: None,
        }
    }

    async fn write(&mut self, frame: Vec<u8>, is_last: bool) -> Result<(), repository::Error> {
        if is_last && frame.len() <= INLINE_LEN_MAX && self.pack.is_none() {
            self.inline = Some(frame);
            return Ok(());
        }
        if frame.is_empty() {
            return Ok(());
        }
        if self.pack_raw >= self.packs.pack_raw_target {
            self.close_pack().await?;
        }
        while self.sealing.len() >= SEALING_MAX {
            self.append_one().await?;
        }
        let pack = match &self.pack {
            Some(pack) => pack,
            None => {
                let begun = PackWriter::begin(self.packs.repository, Kind::DataPack).await?;
                self.pack.insert(begun)
            }
        };
        let number = pack.frame_count() + self.sealing.len() as u64;
        let (sealer, how) = (pack.sealer().clone(), self.packs.compression);
        self.pack_raw += frame.len() as u64;
        let seal = move || sealer.seal(number, false, &frame, how);
        self.sealing.push_back(tokio::task::spawn_blocking(seal));
        Ok(())
    }

    /// Appends the frame that comes next: they have their numbers already.
    async fn append_one(&mut self) -> Result<(), repository::Error> {
        let Some(sealing) = self.sealing.pop_front() else { return Ok(()) };
        let frame = match sealing.await {
            Ok(frame) => frame,
            Err(join) => std::panic::resume_unwind(join.into_panic()),
        };
        let Some(pack) = self.pack.as_mut() else { return Ok(()) };
        let at = pack.append_owned(frame, Vec::new()).await?;
        let id = pack.id();
        let mut tree = self.packs.tree.lock().await;
        let is_used = self.builder.frame(&mut tree, id, at).await?;
        debug_assert!(is_used, "only the last frame of a stream is short");
        Ok(())
    }

    async fn close_pack(&mut self) -> Result<(), repository::Error> {
        while !self.sealing.is_empty() {
            self.append_one().await?;
        }
        self.pack_raw = 0;
        if let Some(pack) = self.pack.take() {
            let entry = pack.finish().await?;
            self.packs.finished.lock().await.push(entry);
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Stored, repository::Error> {
        if let Some(bytes) = self.inline.take() {
            return Ok(Stored::inline(bytes));
        }
        self.close_pack().await?;
        let mut tree = self.packs.tree.lock().await;
        self.builder.finish(&mut tree).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use repository::{Compression, Member, Repository, SetKeys};
    use tokio::io::AsyncWriteExt;

    use super::Packs;
    use crate::Silent;
    use crate::dump::read;

    /// Streams of every awkward length come back as they were, over several packs and beside each
    /// other, whatever the pieces are in which they arrive.
    #[tokio::test]
    async fn streams_come_back_as_they_were() {
        let store: Arc<dyn store::Store> = Arc::new(store::MemoryStore::new());
        let members = vec![Member { name: "m".into(), store }];
        let keys = Arc::new(SetKeys::plain(stdx::Id::random()));
        let repository = Repository::new(members, keys);
        let packs = Packs::begin(&repository, Compression::default(), 300_000).await.unwrap();
        let lengths = [0, 1, 512, 513, 131_071, 131_072, 131_073, 262_144, 3_000_001, 18_000_000];
        let byte = |at: usize| u8::try_from((at / 7 + at % 3) % 251).unwrap();
        let contents: Vec<Vec<u8>> =
            lengths.iter().map(|len| (0..*len).map(byte).collect()).collect();
        let taking = contents.iter().enumerate().map(|(number, content)| {
            let packs = &packs;
            async move {
                let (mut near, far) = tokio::io::duplex(1000);
                let send = async {
                    for piece in content.chunks(77_777) {
                        near.write_all(piece).await.unwrap();
                    }
                    drop(near);
                };
                let ((), taken) = tokio::join!(send, packs.take(far, &Silent));
                (format!("stream {number}"), taken.unwrap())
            }
        });
        let streams = futures::future::join_all(taking).await;
        let (top, entries) = packs.finish(streams, 0).await.unwrap();
        assert!(entries.len() > 30, "{} packs", entries.len());
        let found = read::streams(&repository, top).await.unwrap();
        for (number, content) in contents.iter().enumerate() {
            let entry = &found[&format!("stream {number}")];
            let mut back = Vec::new();
            read::feed(&repository, entry, &mut back, &Silent).await.unwrap();
            assert!(back == *content && entry.size == content.len() as u64, "stream {number}");
        }
    }
}
