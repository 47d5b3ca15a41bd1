//! Reading a dump's streams back.

use std::collections::BTreeMap;

use repository::kind::Kind;
use repository::tree::{Content, Entry, Leaf};
use repository::walk::{self, Walk};
use repository::{Error, Repository};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::Progress;

/// Frames read at once: 4 MiB.
const FRAMES_AT_ONCE: usize = 32;

/// Pieces that wait for their reader while the next one is fetched.
const PIECES_WAITING: usize = 2;

/// Every stream of a dump, by path.
pub(super) async fn streams(
    repository: &Repository,
    top: repository::tree::NodeRef,
) -> Result<BTreeMap<String, Entry>, Error> {
    let mut entries = Walk::new(repository, top);
    let mut found = BTreeMap::new();
    while let Some(entry) = entries.next().await? {
        found.insert(String::from_utf8_lossy(&entry.path).into_owned(), entry);
    }
    Ok(found)
}

/// Writes a stream into `sink` and closes it. Whoever reads may stop early: that is not an error
/// here, its exit status says whether it had all that it needed.
pub(super) async fn feed(
    repository: &Repository,
    entry: &Entry,
    sink: impl AsyncWrite + Unpin,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let (sender, receiver) = mpsc::channel::<Vec<u8>>(PIECES_WAITING);
    let (read, ()) =
        tokio::join!(produce(repository, entry, sender), consume(receiver, sink, progress));
    read
}

async fn consume(
    mut pieces: mpsc::Receiver<Vec<u8>>,
    mut sink: impl AsyncWrite + Unpin,
    progress: &dyn Progress,
) {
    while let Some(piece) = pieces.recv().await {
        if sink.write_all(&piece).await.is_err() {
            return;
        }
        progress.advance(piece.len() as u64);
    }
    // The pipe is closed by the drop; a reader that is gone does not mind.
    let _ = sink.shutdown().await;
}

async fn produce(
    repository: &Repository,
    entry: &Entry,
    sender: mpsc::Sender<Vec<u8>>,
) -> Result<(), Error> {
    match &entry.content {
        Content::Inline(bytes) => {
            let _ = sender.send(bytes.clone()).await;
            Ok(())
        }
        Content::Leaf(leaf) => produce_leaf(repository, leaf, &sender).await.map(drop),
        Content::Node(node) => {
            let file: repository::tree::FileNode = walk::read_node(repository, node).await?;
            for (_, leaf) in &file.leaves {
                let leaf: Leaf = walk::read_node(repository, leaf).await?;
                if !produce_leaf(repository, &leaf, &sender).await? {
                    break;
                }
            }
            Ok(())
        }
    }
}

/// Sends a leaf's bytes; false when nobody reads any more.
async fn produce_leaf(
    repository: &Repository,
    leaf: &Leaf,
    sender: &mpsc::Sender<Vec<u8>>,
) -> Result<bool, Error> {
    let mut frames = leaf.frames.as_slice();
    while let Some((pack, _)) = frames.first() {
        let same = frames.iter().take_while(|(other, _)| other == pack).count().min(FRAMES_AT_ONCE);
        let (now, later) = frames.split_at_checked(same).unwrap_or((frames, &[]));
        frames = later;
        let places: Vec<_> = now.iter().map(|(_, at)| *at).collect();
        // A frame may come twice, from another member.
        let mut parts: Vec<Vec<u8>> = vec![Vec::new(); places.len()];
        repository
            .read_frames(Kind::DataPack, *pack, &places, |number, raw| {
                if let Some(part) = parts.get_mut(number) {
                    raw.clone_into(part);
                }
                Ok(())
            })
            .await?;
        if sender.send(parts.concat()).await.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}
