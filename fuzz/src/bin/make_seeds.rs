//! Makes the seeds that are objects of the repository format: `cargo run --bin make_seeds`.
//!
//! Structures come out of the golden repository `from-the-future`, with its ids replaced by those
//! that the decoders ask for. What is there already is kept, so that seeds do not change in vain.
//! The seeds of `pg_control` and `pg_wal` come from real servers: `make-seeds.sh`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use fuzz::decoders::objects::keys;
use pg::{SegmentSize, SystemId, TimelineId, WalSegment};
use repository::key_file::KeyFile;
use repository::names::LineageId;
use repository::object::{ObjectWriter, seal_object};
use repository::wal_object::{self, Provenance, WalFile};
use repository::{Compression, Kind, Member, PackId, Repository, names, pack_index, piece, unlock};
use stdx::Id;
use store::{Key, MemoryStore, Store};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A seed is small, so that many mutations of it are tried.
const LEN_MAX: usize = 10_000;
/// Seeds of one kind.
const OF_A_KIND_MAX: usize = 12;

#[derive(Default)]
struct Seeds(BTreeMap<String, Vec<Vec<u8>>>);

impl Seeds {
    fn add(&mut self, name: &str, bytes: Vec<u8>) {
        let seeds = self.0.entry(name.into()).or_default();
        if bytes.len() <= LEN_MAX && seeds.len() < OF_A_KIND_MAX && !seeds.contains(&bytes) {
            seeds.push(bytes);
        }
    }

    fn save(&self, folder: &Path) -> Result<()> {
        for (name, seeds) in &self.0 {
            std::fs::create_dir_all(folder.join(name))?;
            for (number, bytes) in seeds.iter().enumerate() {
                let path = folder.join(name).join(format!("{number:02}"));
                if !path.exists() {
                    std::fs::write(path, bytes)?;
                }
            }
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = here.join("../crates/repository/tests/golden/from-the-future");
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut seeds = Seeds::default();
    runtime.block_on(structures(&golden, &mut seeds))?;
    runtime.block_on(digested(&mut seeds))?;
    texts(&golden, &mut seeds)?;
    by_hand(&mut seeds);
    seeds.save(&here.join("testdata"))
}

fn joined<T: AsRef<[u8]>>(frames: &[T]) -> Vec<u8> {
    let mut out = Vec::new();
    for frame in frames {
        let frame = frame.as_ref();
        out.extend_from_slice(&u16::try_from(frame.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(frame);
    }
    out
}

/// Replaces ids: those in names by what the decoders ask for.
fn replaced(bytes: &[u8], ids: &[([u8; 16], u8)]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for (id, with) in ids {
        let places: Vec<usize> =
            out.windows(16).enumerate().filter(|(_, it)| it == id).map(|(at, _)| at).collect();
        for at in places {
            out[at..at + 16].fill(*with);
        }
    }
    out
}

async fn structures(golden: &Path, seeds: &mut Seeds) -> Result<()> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let root = golden.join("repository");
    let mut pending = vec![root.clone()];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            let found: std::result::Result<Vec<_>, _> = std::fs::read_dir(&path)?.collect();
            pending.extend(found?.into_iter().map(|entry| entry.path()));
        } else {
            let name = path.strip_prefix(&root)?.to_string_lossy().into_owned();
            store.put_if_absent(&Key::new(name)?, vec![std::fs::read(&path)?.into()]).await?;
        }
    }
    let unlock = KeyFile::parse("key", &std::fs::read(golden.join("key"))?)?.unlock("key");
    let member = Member { name: "golden".into(), store: Arc::clone(&store) };
    let repository = unlock::open(vec![member], Some(&unlock)).await?;
    for meta in store.list("", None, 1000).await? {
        let head = store.get_range(&meta.key, 0..128).await?;
        seeds.add("header", head.to_vec());
        let kind = Kind::from_byte(head[10]).ok_or("a kind")?;
        if matches!(kind, Kind::DataPack | Kind::MetaPack) {
            nodes(&repository, &meta.key, kind, seeds).await?;
            continue;
        }
        let frames = repository.read(kind, &meta.key).await?;
        // Ids in the name: the lineage, or what the object is about.
        let ids = meta.key.as_str().split('/').filter_map(|part| part.parse::<Id>().ok());
        let folder = meta.key.as_str().split('/').next().unwrap_or_default();
        let of_lineage = matches!(folder, "lineage" | "gap" | "backup" | "cluster");
        let with = |at: usize| if at == 0 && of_lineage { 1 } else { 2 };
        let ids: Vec<_> = ids.enumerate().map(|(at, id)| (*id.as_bytes(), with(at))).collect();
        let bytes = replaced(&joined(&frames), &ids);
        match kind {
            Kind::Descriptor | Kind::KeySlot | Kind::KeyEpoch => seeds.add("keys", bytes),
            Kind::Lineage
            | Kind::Writer
            | Kind::LineageState
            | Kind::TimelineReservation
            | Kind::ClusterName => seeds.add("lineage", bytes),
            Kind::BackupRoot => seeds.add("root", bytes),
            Kind::WalGap => seeds.add("gap", bytes),
            Kind::Lease => seeds.add("lease", bytes),
            Kind::Condemned => seeds.add("condemned", bytes),
            Kind::Moved => seeds.add("moved", [vec![2; 16], bytes].concat()),
            _ => {}
        }
        let parts: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let object = seal_object(&keys(), kind, &parts, Compression::default()).concat();
        let at = Kind::ALL.iter().position(|known| *known == kind).unwrap_or_default();
        seeds.add("object", [vec![u8::try_from(at)?], object].concat());
    }
    Ok(())
}

/// The nodes of a meta pack, and frames of a data pack in every codec.
async fn nodes(repository: &Repository, key: &Key, kind: Kind, seeds: &mut Seeds) -> Result<()> {
    let (_, id) = key.as_str().rsplit_once('/').ok_or("a pack's name")?;
    let pack = PackId(id.parse()?);
    let (places, _) = pack_index::read(repository, &repository.members()[0], kind, pack).await?;
    let frames: Vec<_> = places.iter().map(|place| place.at).collect();
    repository
        .read_frames(kind, pack, &frames, |_, raw| {
            if kind == Kind::MetaPack {
                seeds.add("tree", raw.to_vec());
            }
            let raw = &raw[..raw.len().min(2000)];
            for how in [Compression::None, Compression::Zstd(1), Compression::Lz4] {
                let sealer = ObjectWriter::new(&keys(), kind);
                let sealed = sealer.sealer().seal(0, false, raw, how);
                let len = sealed.raw_len.to_le_bytes();
                let head = vec![sealed.codec as u8, len[0], len[1], len[2]];
                let packed = &sealed.bytes[..sealed.bytes.len() - 16];
                seeds.add("frame", [&head, packed].concat());
            }
            Ok(())
        })
        .await?;
    Ok(())
}

/// Objects with a digest of their content, made in the decoders' own set.
async fn digested(seeds: &mut Seeds) -> Result<()> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let member = Member { name: "m".into(), store: Arc::clone(&store) };
    let repository = Repository::new(vec![member], Arc::new(keys()));
    let lineage = LineageId(Id::from_bytes([1; 16]));
    let provenance = Provenance {
        lineage,
        system_id: SystemId::new(77),
        writer: Id::from_bytes([2; 16]),
        written: jiff_time()?,
    };
    let size = SegmentSize::new(1 << 20)?;
    let segment = WalSegment { timeline: TimelineId::FIRST, number: 3 };
    let content = Bytes::from_static(b"the same bytes that both writers have seen go by");
    piece::put(&repository, segment, size, 0, &content, provenance).await?;
    for meta in store.list("piece/", None, 10).await? {
        let frames = repository.read(Kind::WalPiece, &meta.key).await?;
        let len = u8::try_from(content.len())?;
        seeds.add("piece", [vec![0, 0, len, 0, 0, 0, len, 0], joined(&frames)].concat());
    }
    let history = Bytes::from_static(b"1\t0/600400\tno recovery target specified\n");
    let file = WalFile::History(TimelineId::new(2));
    wal_object::put(&repository, &file, &history, provenance, Compression::None, 1).await?;
    let key = names::history(lineage, TimelineId::new(2));
    let frames = repository.read(Kind::TimelineHistory, &key).await?;
    seeds.add("wal_object", joined(&frames));
    Ok(())
}

fn jiff_time() -> Result<jiff::Timestamp> {
    Ok("2026-11-21T02:00:00Z".parse()?)
}

/// What people and servers write.
fn texts(golden: &Path, seeds: &mut Seeds) -> Result<()> {
    seeds.add("key_file", std::fs::read(golden.join("key"))?);
    seeds.add("recovery_code", std::fs::read(golden.join("recovery-code"))?);
    let text: &[(&str, &[&str])] = &[
        (
            "pg_history",
            &[
                "1\t0/3000000\tno recovery target specified\n",
                "# a comment\n1\t0/3000000\tbefore 2000-01-01 00:00:00+00\n\n2\t1/A0\tx\n",
            ],
        ),
        (
            "pg_backup_label",
            &[
                "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n\
             CHECKPOINT LOCATION: 0/2000080\nBACKUP METHOD: streamed\nBACKUP FROM: primary\n\
             START TIME: 2026-11-21 02:00:00 UTC\nLABEL: x\nSTART TIMELINE: 1\n",
                "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n\
             CHECKPOINT LOCATION: 0/2000080\nBACKUP METHOD: streamed\nBACKUP FROM: standby\n\
             START TIME: 2026-11-21 02:00:00 UTC\nLABEL: a b\nSTART TIMELINE: 1\n\
             INCREMENTAL FROM LSN: 0/1000028\nINCREMENTAL FROM TLI: 1\n",
            ],
        ),
        ("pg_tablespace_map", &["16500 /srv/fast disk/ts\n16501 /srv/new\\\nline\n"]),
        (
            "pg_names",
            &[
                "000000010000000000000003",
                "00000002.history",
                "0/3000028",
                "000000010000000000000003.00000028.backup",
                "000000010000000000000003.partial",
                "base/5/16384.1_fsm",
                "pg_tblspc/16500/PG_17_202406281/5/t3_16501",
                "17\n",
            ],
        ),
        (
            "pg_conf",
            &[
                "port = 5433\n# >>> rollforward\nrestore_command = 'x'\n# <<< rollforward\n",
                "recovery_target_time='2026-11-21' # a\nPORT 1\n",
            ],
        ),
        ("names", &["20261121T013242Z-k7f3", "01040g2081040g2081040g2081", "a/b.history"]),
    ];
    for (name, texts) in text {
        texts.iter().for_each(|text| seeds.add(name, text.as_bytes().to_vec()));
    }
    let marks = [pg::recovery::BEGIN_MARK, "port = 1", pg::recovery::END_MARK, ""].join("\n");
    seeds.add("pg_conf", marks.into_bytes());
    Ok(())
}

/// Short ones that are quicker written than found.
fn by_hand(seeds: &mut Seeds) {
    let head = [[1, 0, 0, 0].as_slice(), &[0; 8]].concat();
    seeds.add("index", [&head, b"\xa1\x00\x81\x84\x00\x10\x00\x40".as_slice()].concat());
    seeds.add("index", [[0; 12].as_slice(), b"\xa1\x00\x80"].concat());
    seeds.add("relation_map", {
        let map = repository::relation_map::RelationMap::default();
        map.encode()
    });
    seeds.add(
        "relation_map",
        b"\xa3\x00\x05\x01\x64shop\x02\x81\x8a\x19\x40\x00\x19\x40\x06\
        \x19\x06\x7f\x66public\x66orders\x18\x72\x18\x70\xf4\xf6\x20"
            .to_vec(),
    );
    let mut page = vec![0; 4 + 8192];
    seeds.add("pg_page", page[..1028].to_vec());
    page[4 + 16..4 + 24].copy_from_slice(&[28, 0, 0, 32, 0, 32, 4, 32]);
    page.truncate(4 + 1024);
    seeds.add("pg_page", page);
    // A commit with its time, a delete of a row in a table, a switch.
    let commit = [&[1, 0, 10, 0, 0xff, 8][..], &[7; 8]].concat();
    let delete = [
        &[10, 0x10, 30, 0, 0, 0x20, 0, 0][..],
        &[0x7f, 6, 0, 0, 5, 0, 0, 0, 0, 0x40, 0, 0, 3, 0, 0, 0, 0xff, 8],
        &[1; 8],
    ]
    .concat();
    for version in 0..5 {
        seeds.add("pg_wal_record", [&[version][..], &commit, &delete, &[0, 0x40, 0, 0]].concat());
    }
}
