//! Makes golden repositories: fixtures that every later version must go on reading.
//!
//! `cargo run -p repository --example make_golden -- NAME FOLDER`, where NAME is one of
//! `v1-plain`, `v1-encrypted`, `v1-lz4` and `from-the-future`. The first three are written by the
//! library as it is. The last one is written without it, from `docs/repository-format.md` alone,
//! and uses what the page allows and the library does not write yet.
//!
//! A folder that exists is refused: a golden repository is never made again. What each holds stands
//! in `expected.txt` beside it, written from the content before it went into the repository.

mod cluster;
mod expected;
mod future;
mod v1;
mod wal;

use std::error::Error;
use std::path::Path;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[allow(clippy::print_stderr)] // a program for developers
fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, folder] = arguments.as_slice() else {
        return Err("expected NAME and FOLDER".into());
    };
    let folder = Path::new(folder);
    if folder.exists() {
        return Err(format!("'{}' exists: a golden repository stays", folder.display()).into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    match name.as_str() {
        "v1-plain" => runtime.block_on(v1::make(folder, &v1::PLAIN))?,
        "v1-encrypted" => runtime.block_on(v1::make(folder, &v1::ENCRYPTED))?,
        "v1-lz4" => runtime.block_on(v1::make(folder, &v1::LZ4))?,
        "from-the-future" => future::make(folder)?,
        other => return Err(format!("no golden repository is called '{other}'").into()),
    }
    eprintln!("made '{}'", folder.display());
    Ok(())
}
