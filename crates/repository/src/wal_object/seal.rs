//! Sealing a WAL file while it is read: in one pass, with little memory of its own.
//!
//! An archive command lives for one segment, so what it costs is reading, page faults and
//! compression. The reader hands chunks in buffers that are used again to helper threads, and works
//! on a chunk itself when they are busy.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};

use bytes::Bytes;

use super::{Provenance, WalInfo, WalInfoWire};
use crate::codec::Compression;
use crate::keys::SetKeys;
use crate::kind::Kind;
use crate::object::{ObjectWriter, to_cbor};
use crate::seal::{SealedFrame, Sealer};
use crate::tree::FRAME_LEN;

/// Chunks that wait for one helper.
const WAITING_MAX: usize = 4;

/// Bytes that can be read from the start, more than once.
pub trait Content: Sync {
    /// How many there are.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Begins to read them.
    ///
    /// # Errors
    /// The file system's.
    fn open(&self) -> io::Result<Box<dyn Read + '_>>;
}

impl Content for Bytes {
    fn len(&self) -> u64 {
        Bytes::len(self) as u64
    }

    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.as_ref()))
    }
}

impl Content for Vec<u8> {
    fn len(&self) -> u64 {
        Self::len(self) as u64
    }

    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.as_slice()))
    }
}

/// A file that nobody writes any more; its length was taken when it was looked at.
impl Content for (&Path, u64) {
    fn len(&self) -> u64 {
        self.1
    }

    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(File::open(self.0)?))
    }
}

/// One chunk and the number of its frame.
type Chunk = (u64, Vec<u8>);

/// Info and parts of a WAL object.
pub(super) fn seal(
    keys: &SetKeys,
    kind: Kind,
    name: &str,
    content: &dyn Content,
    provenance: Provenance,
    how: Compression,
    threads: usize,
) -> io::Result<(WalInfo, Vec<Bytes>)> {
    let mut writer = ObjectWriter::new(keys, kind);
    let mut digester = keys.digester();
    let sealer = writer.sealer();
    let mut frames: Vec<(u64, SealedFrame)> = std::thread::scope(|scope| {
        let (used, free) = channel();
        let mut helpers = Vec::new();
        for _ in 1..threads.max(1) {
            let (work, chunks) = sync_channel(WAITING_MAX);
            let used = used.clone();
            helpers.push((work, scope.spawn(move || help(sealer, how, &chunks, &used))));
        }
        let mut mine = Vec::new();
        let (senders, running): (Vec<_>, Vec<_>) = helpers.into_iter().unzip();
        let read = read_chunks(content, &free, |(number, chunk)| {
            digester.update(&chunk);
            if let Some((number, chunk)) = offer(&senders, (number, chunk)) {
                mine.push((number, sealer.seal(number, false, &chunk, how)));
                let _ = used.send(chunk);
            }
        });
        drop(senders);
        for helper in running {
            match helper.join() {
                Ok(frames) => mine.extend(frames),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        read.map(|()| mine)
    })?;
    frames.sort_unstable_by_key(|(number, _)| *number);
    let info = WalInfo {
        lineage: provenance.lineage,
        name: name.into(),
        len: content.len(),
        digest: digester.finish(),
        system_id: provenance.system_id,
        writer: provenance.writer,
        written: provenance.written,
    };
    let lead = writer.sealer().seal(0, false, &to_cbor(&to_wire(&info)), Compression::None);
    let mut parts = Vec::with_capacity(frames.len() + 3);
    parts.push(writer.header(Some(&lead)));
    writer.push(&lead, Vec::new());
    parts.push(Bytes::from(lead.bytes));
    for (_, frame) in frames {
        writer.push(&frame, Vec::new());
        parts.push(Bytes::from(frame.bytes));
    }
    parts.push(writer.finish());
    Ok((info, parts))
}

fn to_wire(info: &WalInfo) -> WalInfoWire {
    WalInfoWire {
        lineage: *info.lineage.0.as_bytes(),
        name: info.name.clone(),
        len: info.len,
        digest: *info.digest.as_bytes(),
        system_id: info.system_id.get(),
        writer: *info.writer.as_bytes(),
        written_us: info.written.as_microsecond(),
        content_frame_len: crate::seal::len_u32(FRAME_LEN),
    }
}

/// Reads all content in chunks of a frame, numbered from 1: frame 0 says what the object is.
fn read_chunks(
    content: &dyn Content,
    free: &Receiver<Vec<u8>>,
    mut each: impl FnMut(Chunk),
) -> io::Result<()> {
    let mut input = content.open()?;
    let mut left = content.len();
    let mut number = 1;
    while left > 0 {
        let len = left.min(FRAME_LEN as u64);
        let mut chunk = free.try_recv().unwrap_or_default();
        chunk.clear();
        chunk.resize(usize::try_from(len).unwrap_or(FRAME_LEN), 0);
        input.read_exact(&mut chunk)?;
        each((number, chunk));
        left -= len;
        number += 1;
    }
    Ok(())
}

/// Gives a chunk to a helper that has room; gives it back when none has.
fn offer(helpers: &[SyncSender<Chunk>], chunk: Chunk) -> Option<Chunk> {
    let mut chunk = chunk;
    for helper in helpers {
        match helper.try_send(chunk) {
            Ok(()) => return None,
            Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => chunk = back,
        }
    }
    Some(chunk)
}

fn help(
    sealer: &Sealer,
    how: Compression,
    chunks: &Receiver<Chunk>,
    used: &Sender<Vec<u8>>,
) -> Vec<(u64, SealedFrame)> {
    let mut frames = Vec::new();
    while let Ok((number, chunk)) = chunks.recv() {
        frames.push((number, sealer.seal(number, false, &chunk, how)));
        let _ = used.send(chunk);
    }
    frames
}
