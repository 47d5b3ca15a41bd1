//! What this machine's disk can do at most: writes the same bytes as a restore, in files of the
//! same sizes, from memory, with nothing else to do, and makes them durable.
//!
//! `cargo run --release --example disk_limit -- DIRECTORY TARGET [WORKERS]` takes the sizes of the
//! files below DIRECTORY (a data directory), writes them below TARGET, which must not exist,
//! removes them again, and prints `{"bytes":…,"seconds":…,"sync_seconds":…,"mb_per_s":…}`.

use std::fs::{self, File};
use std::io::Error;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Bytes in one write: what a restore gets out of one frame.
const WRITE_LEN: usize = 128 << 10;

/// What one thread writes of a file before it takes the next piece.
const PIECE_LEN: u64 = 16 << 20;

/// A part of a file.
struct Piece {
    file: usize,
    begin: u64,
    end: u64,
}

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(source), Some(target)) = (arguments.next(), arguments.next()) else {
        return Err(Error::other("usage: disk_limit DIRECTORY TARGET [WORKERS]"));
    };
    let workers = arguments.next().and_then(|text| text.to_str()?.parse().ok()).unwrap_or(2);
    let mut sizes = Vec::new();
    collect(Path::new(&source), &mut sizes)?;
    let target = PathBuf::from(target);
    fs::create_dir(&target)?;
    let begun = Instant::now();
    let mut pieces = Vec::new();
    let mut files = Vec::new();
    for (file, size) in sizes.iter().copied().enumerate() {
        files.push(File::create(target.join(file.to_string()))?);
        let begins = (0..size).step_by(usize::try_from(PIECE_LEN).map_err(Error::other)?);
        let piece = |begin: u64| Piece { file, begin, end: size.min(begin + PIECE_LEN) };
        pieces.extend(begins.map(piece));
    }
    let next = AtomicUsize::new(0);
    let written: Result<Vec<()>, Error> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..workers).map(|_| scope.spawn(|| write(&pieces, &files, &next))).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|ended| ended.unwrap_or_else(|why| std::panic::resume_unwind(why))).collect()
    });
    written?;
    let copied = begun.elapsed().as_secs_f64();
    rustix::fs::syncfs(File::open(&target)?)?;
    let seconds = begun.elapsed().as_secs_f64();
    drop(files);
    fs::remove_dir_all(&target)?;
    let bytes: u64 = sizes.iter().sum();
    #[allow(clippy::cast_precision_loss)] // a rate for people
    let rate = bytes as f64 / 1e6 / seconds;
    let report = serde_json::json!({
        "bytes": bytes, "seconds": seconds, "sync_seconds": seconds - copied, "mb_per_s": rate,
    });
    #[allow(clippy::print_stdout)] // the program's result
    {
        println!("{report}");
    }
    Ok(())
}

/// The sizes of all files, links not followed.
fn collect(folder: &Path, sizes: &mut Vec<u64>) -> Result<(), Error> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_dir() {
            collect(&entry.path(), sizes)?;
        } else if meta.is_file() {
            sizes.push(meta.len());
        }
    }
    Ok(())
}

fn write(pieces: &[Piece], files: &[File], next: &AtomicUsize) -> Result<(), Error> {
    // No two blocks alike, so that no layer below can save the work.
    let mut noise = vec![0_u8; WRITE_LEN];
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for word in noise.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
        let Some(file) = files.get(piece.file) else { break };
        let mut at = piece.begin;
        while at < piece.end {
            let len = usize::try_from(piece.end - at).unwrap_or(WRITE_LEN).min(WRITE_LEN);
            file.write_all_at(noise.get(..len).unwrap_or_default(), at)?;
            at += len as u64;
        }
    }
    Ok(())
}
