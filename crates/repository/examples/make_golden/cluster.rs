//! A small data directory that looks like PostgreSQL's, in several generations.

use std::collections::{BTreeMap, BTreeSet};

use pg::{BlockNumber, ControlFile, page_checksum};

use crate::Result;

/// Bytes in a page.
pub(crate) const BLOCK: usize = 8192;

/// A real control file of a cluster with WAL segments of 1 MiB.
pub(crate) const CONTROL: &[u8] = include_bytes!("../../../../fuzz/testdata/pg_control/17");

/// The large relation: more pages than one leaf covers, most of them still new.
pub(crate) const LARGE: &[u8] = b"base/5/16385";
/// Its pages.
const LARGE_PAGES: u32 = 2100;
/// The relation that changes in every generation.
pub(crate) const BUSY: &[u8] = b"base/5/16384";

/// One thing in a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Directory,
    /// Bytes that are not pages.
    File(Vec<u8>),
    /// A relation's pages.
    Pages(Vec<u8>),
    Link(Vec<u8>),
    /// Beside the data directory.
    Attachment(Vec<u8>),
}

/// Numbers that look random and are the same in every run.
#[derive(Clone, Debug)]
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn id(&mut self) -> [u8; 16] {
        let [low, high] = [self.next(), self.next()].map(u64::to_le_bytes);
        std::array::from_fn(|at| low.iter().chain(&high).nth(at).copied().unwrap_or_default())
    }

    pub(crate) fn secret(&mut self) -> [u8; 32] {
        let halves = [self.id(), self.id()].concat();
        std::array::from_fn(|at| halves.get(at).copied().unwrap_or_default())
    }
}

/// The cluster at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) items: BTreeMap<Vec<u8>, Item>,
    noise: Noise,
}

/// The facts of the real control file.
pub(crate) fn control() -> Result<ControlFile> {
    Ok(ControlFile::decode(CONTROL)?)
}

impl Cluster {
    /// The first generation.
    pub(crate) fn new(seed: u64) -> Self {
        let mut cluster = Self { items: BTreeMap::new(), noise: Noise(seed) };
        for path in ["base", "base/1", "base/5", "conf.d", "global", "pg_tblspc", "pg_wal"] {
            cluster.put(path, Item::Directory);
        }
        cluster.put("pg_wal/archive_status", Item::Directory);
        cluster.put("PG_VERSION", Item::File(b"17\n".to_vec()));
        cluster.put("base/5/PG_VERSION", Item::File(b"17\n".to_vec()));
        cluster.put("base/5/16391", Item::File(Vec::new()));
        cluster.put("global/pg_control", Item::File(CONTROL.to_vec()));
        let conf = "# a comment that fills the line and says nothing\n".repeat(40);
        cluster.put("postgresql.conf", Item::File(format!("{conf}port = 5433\n").into_bytes()));
        let mut noisy = |len, mask| -> Vec<u8> {
            (0..len).map(|_| cluster.noise.next().to_le_bytes()[0] & mask).collect()
        };
        let (random, letters) = (noisy(3000, 0xff), noisy(150_000, 0x03));
        cluster.put("base/5/pg_filenode.map", Item::File(random));
        cluster.put("base/5/letters", Item::File(letters));
        for number in 0..200 {
            let text = format!("# included file {number}\n{}\n", "work_mem = 4MB # ".repeat(26));
            cluster.put(&format!("conf.d/{number:04}.conf"), Item::File(text.into_bytes()));
        }
        cluster.put("conf.d/größe.conf", Item::File(b"# not ASCII\n".to_vec()));
        cluster.items.insert(b"conf.d/\xff\xfe.conf".to_vec(), Item::File(b"# not UTF-8".to_vec()));
        cluster.put("global/1262", Item::Pages(vec![0; BLOCK]));
        cluster.put("base/5/16390_fsm", Item::Pages(vec![0; 3 * BLOCK]));
        cluster.put("pg_tblspc/16500", Item::Link(b"/srv/fast disk/ts".to_vec()));
        cluster.put("pg_tblspc/16500/PG_17_202406281", Item::Directory);
        cluster.put("pg_tblspc/16500/PG_17_202406281/5", Item::Directory);
        let spaced = "pg_tblspc/16500/PG_17_202406281/5/16501";
        cluster.put(spaced, Item::Pages(vec![0; 5 * BLOCK]));
        cluster.items.insert(BUSY.to_vec(), Item::Pages(vec![0; 40 * BLOCK]));
        cluster.items.insert(LARGE.to_vec(), Item::Pages(vec![0; LARGE_PAGES as usize * BLOCK]));
        cluster.put("@rollforward/globals.sql", Item::Attachment(b"CREATE ROLE app;\n".to_vec()));
        let hba = "host all all 127.0.0.1/32 scram-sha-256\n".repeat(40).into_bytes();
        cluster.put("@rollforward/etc/pg_hba.conf", Item::Attachment(hba));
        cluster.write(spaced.as_bytes(), 0..5);
        cluster.write(b"global/1262", 0..1);
        cluster.write(BUSY, 0..40);
        cluster.write(LARGE, [0, 1, 5, 17, 900, 2047, 2048, 2060, 2099]);
        cluster
    }

    fn put(&mut self, path: &str, item: Item) {
        self.items.insert(path.as_bytes().to_vec(), item);
    }

    /// Fills these pages of a relation anew, appending pages where it is shorter.
    pub(crate) fn write(&mut self, path: &[u8], blocks: impl IntoIterator<Item = u32>) {
        let Some(Item::Pages(bytes)) = self.items.get_mut(path) else { return };
        for block in blocks {
            let page = page(&mut self.noise, block);
            let begin = block as usize * BLOCK;
            bytes.resize(bytes.len().max(begin + BLOCK), 0);
            bytes.splice(begin..begin + BLOCK, page);
        }
    }

    /// What two generations of a relation do not have in common, as blocks of the newer one.
    pub(crate) fn changed(&self, newer: &Self, path: &[u8]) -> BTreeSet<u32> {
        let (Some(Item::Pages(old)), Some(Item::Pages(new))) =
            (self.items.get(path), newer.items.get(path))
        else {
            return BTreeSet::new();
        };
        let mut old = old.chunks(BLOCK);
        let differing = (0..).zip(new.chunks(BLOCK)).filter(|(_, page)| old.next() != Some(page));
        differing.map(|(block, _)| block).collect()
    }
}

/// A heap page with a right header and checksum, filled with text and some noise.
fn page(noise: &mut Noise, block: u32) -> Vec<u8> {
    let mut page = Vec::with_capacity(BLOCK);
    let lsn = 0x0030_0000 + (noise.next() & 0xf_fff8);
    page.extend_from_slice(&0_u32.to_le_bytes());
    page.extend_from_slice(&u32::try_from(lsn).unwrap_or_default().to_le_bytes());
    // Checksum, flags, lower, upper, special, size and version, prune xid.
    for half in [0_u16, 0, 28, 6144, 8192, 0x2004, 0, 0] {
        page.extend_from_slice(&half.to_le_bytes());
    }
    page.resize(6144, 0);
    while page.len() < BLOCK - 96 {
        let order = noise.next() % 100_000;
        page.extend_from_slice(format!("order {order:06} of customer {block:05}; ").as_bytes());
    }
    while page.len() < BLOCK {
        page.extend_from_slice(&noise.next().to_le_bytes());
    }
    page.truncate(BLOCK);
    let checksum = page_checksum(&page, BlockNumber::new(block)).to_le_bytes();
    page.splice(8..10, checksum);
    page
}
