//! What this machine can do at most: reads a data directory, checks pages, compresses, encrypts and
//! writes, with nothing of the repository's format around it. `cargo run --release --example limit
//! DIRECTORY OUTPUT [WORKERS]` prints `{"bytes":…,"seconds":…,"mb_per_s":…}`; backups are measured
//! against it.

use std::fs::{self, File};
use std::io::Error;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use pg::layout::{self, EntryKind, Treatment};
use pg::page::verify_page;
use pg::{BlockNumber, RelationFile};

const FRAME_LEN: usize = 128 << 10;
const CHUNK_LEN: u64 = 1 << 20;
const PAGE_LEN: usize = 8192;
const SEGMENT_PAGES: u32 = 131_072;
const LEVEL: i32 = 1;

/// A part of a file.
struct Chunk {
    path: PathBuf,
    first_block: Option<u32>,
    offset: u64,
    len: u64,
}

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(root), Some(output)) = (arguments.next(), arguments.next()) else {
        return Err(Error::other("usage: limit DIRECTORY OUTPUT [WORKERS]"));
    };
    let workers = arguments.next().and_then(|text| text.to_str()?.parse().ok()).unwrap_or(2);
    let begun = Instant::now();
    let mut chunks = Vec::new();
    collect(Path::new(&root), "", &mut chunks)?;
    let file = File::create(&output)?;
    let (next, end) = (AtomicUsize::new(0), AtomicU64::new(0));
    let results: Vec<Result<u64, Error>> = std::thread::scope(|scope| {
        let work = || work(&chunks, &next, &file, &end);
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut bytes = 0;
    for result in results {
        bytes += result?;
    }
    rustix::fs::syncfs(&file)?;
    let seconds = begun.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss)] // a rate for people
    let rate = bytes as f64 / 1e6 / seconds;
    #[allow(clippy::print_stdout)] // the program's result
    {
        println!("{}", serde_json::json!({ "bytes": bytes, "seconds": seconds, "mb_per_s": rate }));
    }
    Ok(())
}

/// The files that a backup would read.
fn collect(root: &Path, relative: &str, chunks: &mut Vec<Chunk>) -> Result<(), Error> {
    for entry in fs::read_dir(root.join(relative))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let text = if relative.is_empty() { name } else { format!("{relative}/{name}") };
        let path = root.join(&text);
        let meta = fs::metadata(&path)?;
        let kind = if meta.is_dir() { EntryKind::Directory } else { EntryKind::File };
        match (layout::classify(&text, kind), kind) {
            (Treatment::Copy, EntryKind::Directory) => collect(root, &text, chunks)?,
            (Treatment::Copy | Treatment::CopyLast, EntryKind::File) => {
                let relation = RelationFile::parse(&text);
                let first = relation.and_then(|file| file.first_block(SEGMENT_PAGES));
                let mut offset = 0;
                while offset < meta.len() {
                    let len = (meta.len() - offset).min(CHUNK_LEN);
                    let ahead = u32::try_from(offset / PAGE_LEN as u64).map_err(Error::other)?;
                    let first_block = first.map(|first| first.get() + ahead);
                    chunks.push(Chunk { path: path.clone(), first_block, offset, len });
                    offset += len;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn work(
    chunks: &[Chunk],
    next: &AtomicUsize,
    output: &File,
    end: &AtomicU64,
) -> Result<u64, Error> {
    let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).map_err(Error::other)?;
    let key = LessSafeKey::new(key);
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    let mut raw = vec![0; FRAME_LEN];
    let mut packed = vec![0; zstd::zstd_safe::compress_bound(FRAME_LEN) + 16];
    let mut bytes = 0;
    while let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
        let file = File::open(&chunk.path)?;
        let mut at = 0;
        while at < chunk.len {
            let want = usize::try_from(chunk.len - at).unwrap_or(FRAME_LEN).min(FRAME_LEN);
            let Some(frame) = raw.get_mut(..want) else { break };
            file.read_exact_at(frame, chunk.offset + at)?;
            if let Some(first) = chunk.first_block {
                let ahead = u32::try_from(at / PAGE_LEN as u64).map_err(Error::other)?;
                for (block, page) in (first + ahead..).zip(frame.chunks_exact(PAGE_LEN)) {
                    if !verify_page(page, BlockNumber::new(block)).is_intact() {
                        return Err(Error::other(format!(
                            "damaged page in '{}'",
                            chunk.path.display()
                        )));
                    }
                }
            }
            let len = compressor.compress_to_buffer(frame, packed.as_mut_slice())?;
            let place = end.fetch_add(len as u64 + 16, Ordering::Relaxed);
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&place.to_be_bytes());
            let Some((sealed, rest)) = packed.split_at_mut_checked(len) else { break };
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = key
                .seal_in_place_separate_tag(nonce, Aad::empty(), sealed)
                .map_err(Error::other)?;
            let Some(room) = rest.get_mut(..16) else { break };
            room.copy_from_slice(tag.as_ref());
            output.write_all_at(packed.get(..len + 16).unwrap_or_default(), place)?;
            at += want as u64;
            bytes += want as u64;
        }
    }
    Ok(bytes)
}
