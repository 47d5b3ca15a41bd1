//! Reading pages so that what is torn is told from what is damaged.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use pg::BlockNumber;
use pg::page::verify_page;

/// How often a page with a wrong checksum is read again at most, while it keeps changing.
const REREADS_MAX: u32 = 20;

/// So many equal reads in a row say that nobody is writing the page: it is damaged.
const EQUAL_READS: u32 = 3;

/// Between two reads of a page. A write of one page takes microseconds; the pause grows with each
/// read, so that a writer that lost its processor in the middle of one gets it back.
const REREAD_PAUSE: Duration = Duration::from_millis(1);

/// After so many damaged pages in a backup the rest is read again without pauses: a disk is going
/// bad, and six milliseconds for each page of a terabyte would take days. These take half a minute.
pub(crate) const PATIENT_PAGES_MAX: u64 = 4096;

/// Where bytes come from.
pub(crate) trait Source {
    /// Reads at `offset`, once; 0 at the end.
    fn read_once(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Waits before a page is read again.
    fn pause(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

impl Source for File {
    fn read_once(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_at(buffer, offset)
    }
}

/// What reading found beside the bytes.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Pages that were caught in the middle of a write and read again.
    pub(crate) reread: u64,
    /// Pages that are damaged.
    pub(crate) damaged: Vec<BlockNumber>,
}

/// How the pages of a file are checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Check {
    /// Bytes in a page.
    pub(crate) block_size: usize,
    /// Whether the cluster has page checksums.
    pub(crate) checksums: bool,
    /// Whether there is time for pauses between reads of a page: fewer than
    /// [`PATIENT_PAGES_MAX`] of the backup's pages were damaged so far.
    pub(crate) patient: bool,
}

/// Fills `buffer` from `offset` on; less than its length is returned only at the end of the file.
pub(crate) fn read_full(source: &impl Source, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match source.read_once(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(len) => done += len,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Fills `buffer`, whose first page is number `first`, and returns the length of the whole pages
/// there were. With checksums each page is valid, new, or noted as damaged.
pub(crate) fn read_pages(
    source: &impl Source,
    buffer: &mut [u8],
    offset: u64,
    first: BlockNumber,
    check: Check,
    tally: &mut Tally,
) -> io::Result<usize> {
    let len = read_full(source, buffer, offset)?;
    let len = len - len % check.block_size;
    if !check.checksums {
        return Ok(len);
    }
    let pages = buffer.get_mut(..len).unwrap_or_default().chunks_exact_mut(check.block_size);
    for (at, page) in (0u32..).zip(pages) {
        let block = BlockNumber::new(first.get().saturating_add(at));
        if verify_page(page, block).is_intact() {
            continue;
        }
        let page_at = u64::from(at) * check.block_size as u64;
        match reread(source, page, offset + page_at, block, check.patient, tally)? {
            Reread::Intact => {}
            Reread::Damaged => tally.damaged.push(block),
            // The file was truncated under the read: what is gone is in the WAL.
            Reread::Gone => return Ok(usize::try_from(page_at).unwrap_or(len)),
        }
    }
    Ok(len)
}

enum Reread {
    Intact,
    Damaged,
    Gone,
}

/// Reads a page again until it is intact, or stays the same. Its LSN is no excuse: a damaged one is
/// arbitrary.
fn reread(
    source: &impl Source,
    page: &mut [u8],
    offset: u64,
    block: BlockNumber,
    patient: bool,
    tally: &mut Tally,
) -> io::Result<Reread> {
    let mut again = vec![0; page.len()];
    let mut equal = 0;
    tally.reread += 1;
    for pause in 1..=REREADS_MAX {
        if patient {
            source.pause(REREAD_PAUSE * pause);
        }
        if read_full(source, &mut again, offset)? < page.len() {
            return Ok(Reread::Gone);
        }
        equal = if *page == again { equal + 1 } else { 0 };
        page.copy_from_slice(&again);
        if verify_page(page, block).is_intact() {
            return Ok(Reread::Intact);
        }
        if equal >= EQUAL_READS {
            break;
        }
    }
    Ok(Reread::Damaged)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::io;
    use std::time::Duration;

    use pg::{BlockNumber, page_checksum};

    use super::{Check, Source, Tally, read_pages};

    const CHECK: Check = Check { block_size: 8192, checksums: true, patient: true };

    /// Answers each read with the next of its contents; the last one stays.
    struct Script {
        contents: RefCell<Vec<Vec<u8>>>,
        pauses: Cell<u32>,
    }

    impl Source for Script {
        fn read_once(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let mut contents = self.contents.borrow_mut();
            let content = if contents.len() > 1 { contents.remove(0) } else { contents[0].clone() };
            let rest = content.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
            let len = rest.len().min(buffer.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        }

        fn pause(&self, _duration: Duration) {
            self.pauses.set(self.pauses.get() + 1);
        }
    }

    fn page(block: u32, fill: u8) -> Vec<u8> {
        let mut page = vec![fill; 8192];
        page[..24].fill(0);
        page[12..14].copy_from_slice(&28u16.to_le_bytes());
        page[14..16].copy_from_slice(&4096u16.to_le_bytes());
        page[16..18].copy_from_slice(&8192u16.to_le_bytes());
        page[18..20].copy_from_slice(&(8192u16 | 4).to_le_bytes());
        let checksum = page_checksum(&page, BlockNumber::new(block));
        page[8..10].copy_from_slice(&checksum.to_le_bytes());
        page
    }

    fn torn(block: u32) -> Vec<u8> {
        let mut page = page(block, 1);
        page[4096..].fill(2);
        page
    }

    fn read(contents: Vec<Vec<u8>>, len: usize) -> (Vec<u8>, Tally) {
        let (buffer, tally, _) = read_with(CHECK, contents, len);
        (buffer, tally)
    }

    /// Also how often it paused.
    fn read_with(check: Check, contents: Vec<Vec<u8>>, len: usize) -> (Vec<u8>, Tally, u32) {
        let mut buffer = vec![0; len];
        let mut tally = Tally::default();
        let script = Script { contents: RefCell::new(contents), pauses: Cell::new(0) };
        let len =
            read_pages(&script, &mut buffer, 0, BlockNumber::new(7), check, &mut tally).unwrap();
        buffer.truncate(len);
        (buffer, tally, script.pauses.get())
    }

    #[test]
    fn a_torn_page_is_read_again_until_it_is_whole() {
        let whole = [page(7, 3), page(8, 3)].concat();
        let half_written = [page(7, 3), torn(8)].concat();
        let other_half = [page(7, 3), {
            let mut p = torn(8);
            p[5000] = 9;
            p
        }]
        .concat();
        let (read, tally) = read(vec![half_written, other_half, whole.clone()], 16384);
        assert_eq!(read, whole);
        assert_eq!((tally.reread, tally.damaged.len()), (1, 0));
    }

    #[test]
    fn a_page_that_stays_wrong_is_damaged_and_kept_as_it_is() {
        let damaged = [page(7, 3), torn(8), page(9, 3)].concat();
        let (read, tally) = read(vec![damaged.clone()], 3 * 8192);
        assert_eq!(read, damaged);
        assert_eq!(tally.damaged, [BlockNumber::new(8)]);
    }

    #[test]
    fn without_patience_nothing_is_waited_for_and_torn_is_still_told_from_damaged() {
        let hasty = Check { patient: false, ..CHECK };
        let damaged = [torn(7), page(8, 3)].concat();
        let (_, tally, pauses) = read_with(CHECK, vec![damaged.clone()], 16384);
        assert_eq!((tally.damaged.len(), pauses), (1, 3));
        let (read, tally, pauses) = read_with(hasty, vec![damaged.clone()], 16384);
        assert_eq!((read, tally.damaged, pauses), (damaged, vec![BlockNumber::new(7)], 0));
        let (read, tally, pauses) = read_with(hasty, vec![torn(7), torn(7), page(7, 3)], 8192);
        assert_eq!((read, tally.damaged.len(), pauses), (page(7, 3), 0, 0));
    }

    #[test]
    fn new_pages_are_valid_and_a_page_at_another_place_is_not() {
        let (_, tally) = read(vec![[vec![0; 8192], page(7, 1)].concat()], 16384);
        assert_eq!(tally.damaged, [BlockNumber::new(8)]);
    }

    #[test]
    fn a_file_truncated_under_the_read_ends_before_the_page() {
        let before = [page(7, 3), torn(8), page(9, 3)].concat();
        let after = page(7, 3);
        let (read, tally) = read(vec![before, after.clone()], 3 * 8192);
        assert_eq!(read, after);
        assert!(tally.damaged.is_empty());
    }

    #[test]
    fn a_part_of_a_page_at_the_end_is_left_out() {
        let (read, _) = read(vec![[page(7, 3), vec![1; 100]].concat()], 16384);
        assert_eq!(read, page(7, 3));
    }
}
