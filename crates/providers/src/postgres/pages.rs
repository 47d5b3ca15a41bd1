//! Page checksums of a data directory, read from the files themselves.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use pg::page::verify_page;
use pg::{BlockNumber, RelationFile};
use recovery::effect::Failure;

/// Bytes read at once; a whole number of pages of every size.
const READ_LEN: usize = 1 << 20;

/// How often a page is read again: the server may be writing it.
const REREADS_MAX: usize = 10;

/// Pages whose checksum is right; none where the cluster has no checksums. A wrong one that stays
/// wrong is a failure that names it. `only` is the oid of the one database that is looked at.
pub(super) fn check(directory: &Path, only: Option<&str>) -> Result<u64, Failure> {
    let control = super::control(directory)?;
    if !control.has_data_checksums() {
        return Ok(0);
    }
    let block = usize::try_from(control.block_size.get()).unwrap_or(8192);
    let mut pages = 0;
    let mut folders: Vec<PathBuf> = match only {
        Some(oid) => vec![directory.join("base").join(oid)],
        None => vec![directory.join("global"), directory.join("base")],
    };
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|error| io(&folder, &error))? {
            let path = entry.map_err(|error| io(&folder, &error))?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let relative = path.strip_prefix(directory).ok().and_then(Path::to_str);
            let Some(relation) = relative.and_then(RelationFile::parse) else { continue };
            let first = relation
                .first_block(control.relation_segment_blocks)
                .unwrap_or(BlockNumber::new(0));
            pages += check_file(&path, block, first)?;
        }
    }
    Ok(pages)
}

fn check_file(path: &Path, block: usize, first: BlockNumber) -> Result<u64, Failure> {
    // A relation may be dropped between listing and opening.
    let Ok(file) = File::open(path) else { return Ok(0) };
    let mut buffer = vec![0; READ_LEN];
    let (mut offset, mut pages) = (0_u64, 0_u32);
    loop {
        let len = read_full(path, &file, &mut buffer, offset)?;
        for page in buffer.get(..len).unwrap_or_default().chunks_exact(block) {
            let number = BlockNumber::new(first.get() + pages);
            if !verify_page(page, number).is_intact() {
                reread(&file, block, number, u64::from(pages) * block as u64, path)?;
            }
            pages += 1;
        }
        offset += len as u64;
        if len < READ_LEN {
            return Ok(u64::from(pages));
        }
    }
}

fn reread(
    file: &File,
    block: usize,
    number: BlockNumber,
    offset: u64,
    path: &Path,
) -> Result<(), Failure> {
    let mut page = vec![0; block];
    for _ in 0..REREADS_MAX {
        if read_full(path, file, &mut page, offset)? < block
            || verify_page(&page, number).is_intact()
        {
            return Ok(());
        }
        std::thread::yield_now();
    }
    Err(Failure::data(
        "RF1106",
        format!("block {number} of '{}' has a wrong checksum", path.display()),
    ))
}

fn read_full(path: &Path, file: &File, buffer: &mut [u8], offset: u64) -> Result<usize, Failure> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64).map_err(|error| io(path, &error))? {
            0 => break,
            len => done += len,
        }
    }
    Ok(done)
}

fn io(path: &Path, error: &std::io::Error) -> Failure {
    Failure::retry("RF1105", format!("'{}': {error}", path.display()))
}
