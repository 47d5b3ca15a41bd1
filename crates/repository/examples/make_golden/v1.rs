//! Golden repositories that the library writes as it is.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use pg::{Lsn, Oid, SystemId, TimelineId, WalSegment};
use repository::key_file::KeyFile;
use repository::lineage::{self, Lineage, Reservation, State};
use repository::pack::{PackWriter, TreeWriter};
use repository::recovery_code::RecoveryCode;
use repository::relation_map::{Relation, RelationMap, path as relation_map_path};
use repository::root::{self, Details, PackEntry, Root, Summary};
use repository::tree::{
    Content, Entry, EntryKind, Extent, FRAME_LEN, FileNode, INLINE_LEN_MAX, LEAF_SPAN, Leaf,
};
use repository::unlock::{self, NewRepository, NewSet, Unlock};
use repository::wal_object::{self, Provenance, WalFile, WalPut};
use repository::{Compression, Kind, Label, Repository, names};
use store::local::Access;
use store::{LocalStore, Store};
use xxhash_rust::xxh3::xxh3_64;

use crate::Result;
use crate::cluster::{BLOCK, BUSY, Cluster, Item, control};
use crate::expected::{DIRECTORY_MODE, Expected, FILE_MODE};
use crate::wal;

/// One of the three.
#[derive(Debug)]
pub(crate) struct Flavour {
    encrypted: bool,
    compression: Compression,
    seed: u64,
}

pub(crate) const PLAIN: Flavour =
    Flavour { encrypted: false, compression: Compression::Zstd(1), seed: 0x5eed_0001 };
pub(crate) const ENCRYPTED: Flavour =
    Flavour { encrypted: true, compression: Compression::Zstd(3), seed: 0x5eed_0002 };
pub(crate) const LZ4: Flavour =
    Flavour { encrypted: true, compression: Compression::Lz4, seed: 0x5eed_0003 };

const CLUSTER: &str = "shop";
const PASSPHRASE: &str = "correct horse battery staple";
const NOW: &str = "2026-11-21T02:00:00Z";

/// Makes a repository in `folder/repository`, with its keys and `expected.txt` beside it.
pub(crate) async fn make(folder: &Path, flavour: &Flavour) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let created: Timestamp = NOW.parse()?;
    let repository = create(folder, flavour, created).await?;
    let system_id = control()?.system_id;
    let lineage = lineage::register(&repository, CLUSTER, system_id, created).await?;
    let mut expected = Expected::default();
    expected.cluster(CLUSTER, &lineage.id.to_string(), system_id.get());
    let writer = lineage::add_writer(
        &repository,
        lineage.id,
        "db1",
        "/srv/pg",
        b"a token of this fixture",
        created,
    )
    .await?;
    let provenance =
        Provenance { lineage: lineage.id, system_id, writer: writer.id, written: created };
    for (number, timeline, reason) in [(1, 1, "registered"), (2, 2, "adopted")] {
        let timeline = TimelineId::new(timeline);
        let (writer, reason) = (writer.id, reason.into());
        let state = State { number, timeline, writer, reason, since: created };
        lineage::advance(&repository, lineage.id, &state).await?;
    }
    let reservation = Reservation {
        timeline: TimelineId::new(2),
        parent: TimelineId::FIRST,
        owner: writer.id,
        place: "db2:/srv/restored".into(),
        taken: created,
    };
    lineage::reserve(&repository, lineage.id, &reservation).await?;
    put_wal(&repository, provenance, flavour.compression, &mut expected).await?;
    let config = b"# rollforward.toml of this fixture\n";
    repository.create(Kind::Config, &names::config(1), &[config]).await?;

    let mut cluster = Cluster::new(flavour.seed);
    add_relation_map(&mut cluster);
    for (minute, first) in [(10, 3), (20, 5)] {
        cluster.write(BUSY, [1, 2, 9, 30]);
        let made = Made { minute, first };
        let label = backup(&repository, &lineage, &cluster, flavour.compression, made).await?;
        expected.backup(label.as_str(), &cluster);
    }
    expected.save(folder)
}

async fn create(folder: &Path, flavour: &Flavour, created: Timestamp) -> Result<Repository> {
    let local = LocalStore::create(&folder.join("repository"), Access::Owner)?;
    let store: Arc<dyn Store> = Arc::new(local);
    let mut slots: Vec<(String, Unlock)> = Vec::new();
    if flavour.encrypted {
        let key = KeyFile::random();
        let code = RecoveryCode::random();
        std::fs::write(folder.join("key"), key.render().as_bytes())?;
        std::fs::write(folder.join("recovery-code"), format!("{}\n", code.render().as_str()))?;
        std::fs::write(folder.join("passphrase"), format!("{PASSPHRASE}\n"))?;
        slots.push(("host".into(), key.unlock("key")));
        slots.push(("paper".into(), code.unlock()));
        slots.push(("person".into(), Unlock::Passphrase(PASSPHRASE.to_owned().into())));
    }
    let new = NewRepository { slots: &slots, single_writer: false, created };
    let set = NewSet::draw(flavour.encrypted);
    set.create_member(&store, &new).await?;
    let member = repository::Member { name: "golden".into(), store };
    Ok(unlock::open(vec![member], slots.first().map(|(_, unlock)| unlock)).await?)
}

/// Two timelines, the files beside segments, and a second content under a taken name.
async fn put_wal(
    repository: &Repository,
    provenance: Provenance,
    how: Compression,
    expected: &mut Expected,
) -> Result<()> {
    let (size, system_id) = (wal::size()?, provenance.system_id.get());
    let segment = |timeline, number| {
        let file = WalSegment { timeline: TimelineId::new(timeline), number };
        (WalFile::Segment(file, size), wal::segment(system_id, timeline, number))
    };
    let mut files: Vec<(WalFile, Vec<u8>)> = (3..=6).map(|number| segment(1, number)).collect();
    files.extend([segment(2, 6), segment(2, 7)]);
    let history = b"1\t0/600400\tbefore 2026-11-21 02:30:00+00\n".to_vec();
    files.push((WalFile::History(TimelineId::new(2)), history));
    let label = format!("{}.00000028.backup", wal::name(1, 3)?);
    files.push((WalFile::BackupHistory(label), backup_label(3)?.into_bytes()));
    let partial = format!("{}.partial", wal::name(1, 7)?);
    files.push((WalFile::Partial(partial), wal::segment(system_id, 1, 7)));
    for (file, content) in files {
        let threads = 2;
        let bytes = Bytes::from(content.clone());
        wal_object::put(repository, &file, &bytes, provenance, how, threads).await?;
        expected.wal("wal", &file.name(), &content);
    }
    let (file, mut content) = segment(1, 4);
    content.truncate(content.len() - 1);
    content.push(1);
    let bytes = Bytes::from(content.clone());
    match wal_object::put(repository, &file, &bytes, provenance, how, 1).await? {
        WalPut::Conflict { .. } => expected.wal("conflict", &file.name(), &content),
        other => return Err(format!("expected a conflict, seen {other:?}").into()),
    }
    Ok(())
}

fn add_relation_map(cluster: &mut Cluster) {
    let relation = |number: u32, name: &str| Relation {
        oid: Oid::new(number),
        filenode: Oid::new(number),
        tablespace: Oid::new(1663),
        schema: "public".into(),
        name: name.into(),
        kind: 'r',
        persistence: 'p',
        shared: false,
        owning_table: None,
        estimated_rows: 812_334,
    };
    let map = RelationMap {
        database: Oid::new(5),
        name: "shop".into(),
        relations: vec![relation(16384, "orders"), relation(16385, "order_lines")],
    };
    let path = relation_map_path(map.database).into_bytes();
    cluster.items.insert(path, Item::Attachment(map.encode()));
}

fn backup_label(first: u64) -> Result<String> {
    let name = wal::name(1, first)?;
    Ok(format!(
        "START WAL LOCATION: 0/{first}00028 (file {name})\nCHECKPOINT LOCATION: 0/{first}00050\n\
         BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: 2026-11-21 02:00:00 UTC\n\
         LABEL: rollforward\nSTART TIMELINE: 1\n"
    ))
}

/// When a backup was made, and in which segment it starts.
#[derive(Clone, Copy, Debug)]
struct Made {
    minute: i8,
    first: u64,
}

async fn backup(
    repository: &Repository,
    lineage: &Lineage,
    cluster: &Cluster,
    how: Compression,
    made: Made,
) -> Result<Label> {
    let started: Timestamp = format!("2026-11-21T02:{}:00Z", made.minute).parse()?;
    let mut writer = Writer {
        data: PackWriter::begin(repository, Kind::DataPack).await?,
        tree: TreeWriter::begin(repository).await?,
        how,
    };
    let mut entries = 0;
    for (path, item) in &cluster.items {
        let entry = writer.entry(path, item).await?;
        entries += u64::from(entry.kind != EntryKind::Attachment);
        writer.tree.add(entry).await?;
    }
    let (tree, meta) = writer.tree.finish().await?;
    let mut packs = vec![writer.data.finish().await?];
    packs.extend(meta);
    let label = Label::new(started);
    let begin = Lsn::new(made.first * wal::SEGMENT_LEN as u64);
    let facts = control()?;
    let summary = Summary {
        label: label.clone(),
        lineage: lineage.id,
        cluster: CLUSTER.into(),
        parent: None,
        system_id: SystemId::new(facts.system_id.get()),
        server_version: 170_010,
        timeline: TimelineId::FIRST,
        redo: begin + 40,
        start: begin + 40,
        stop: begin + 200,
        started,
        stopped: started,
        size: cluster.items.values().map(restored_len).sum(),
        stored: packs.iter().map(|pack: &PackEntry| pack.size).sum(),
        entries,
        block_size: 8192,
        segment_size: wal::SEGMENT_LEN as u64,
        checksums: true,
        damaged_pages: 0,
        tree,
    };
    let details = details(made.first)?;
    root::publish(repository, &Root { summary, packs, details }).await?;
    Ok(label)
}

fn details(first: u64) -> Result<Details> {
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    };
    Ok(Details {
        backup_label: backup_label(first)?.into_bytes(),
        tablespace_map: b"16500 /srv/fast disk/ts\n".to_vec(),
        control: crate::cluster::CONTROL.to_vec(),
        tablespaces: vec![(Oid::new(16500), "/srv/fast disk/ts".into())],
        settings: pairs(&[("max_connections", "100"), ("wal_level", "replica")]),
        extensions: pairs(&[("shop/plpgsql", "1.0")]),
        collations: pairs(&[("c/C.UTF-8", "2.36")]),
        databases: vec![(Oid::new(1), "template1".into()), (Oid::new(5), "shop".into())],
        made_by: format!("rollforward {}", env!("CARGO_PKG_VERSION")),
    })
}

fn restored_len(item: &Item) -> u64 {
    match item {
        Item::File(bytes) | Item::Pages(bytes) => bytes.len() as u64,
        Item::Directory | Item::Link(_) | Item::Attachment(_) => 0,
    }
}

struct Writer<'r> {
    data: PackWriter,
    tree: TreeWriter<'r>,
    how: Compression,
}

impl Writer<'_> {
    async fn entry(&mut self, path: &[u8], item: &Item) -> Result<Entry> {
        let (kind, bytes, unit): (_, &[u8], usize) = match item {
            Item::Directory => (EntryKind::Directory, &[], 1),
            Item::Link(_) => (EntryKind::Symlink, &[], 1),
            Item::File(bytes) => (EntryKind::File, bytes, 1),
            Item::Attachment(bytes) => (EntryKind::Attachment, bytes, 1),
            Item::Pages(bytes) => (EntryKind::File, bytes, BLOCK),
        };
        Ok(Entry {
            path: path.to_vec(),
            kind,
            mode: if kind == EntryKind::Directory { DIRECTORY_MODE } else { FILE_MODE },
            owner: "postgres".into(),
            group: "postgres".into(),
            modified_us: 1_795_226_400_000_000,
            size: bytes.len() as u64,
            link: if let Item::Link(to) = item { Some(to.clone()) } else { None },
            content: self.content(bytes, unit).await?,
        })
    }

    async fn content(&mut self, bytes: &[u8], unit: usize) -> Result<Content> {
        if bytes.len() <= INLINE_LEN_MAX {
            return Ok(Content::Inline(bytes.to_vec()));
        }
        let span = usize::try_from(LEAF_SPAN)?;
        let mut leaves = Vec::new();
        for (number, part) in bytes.chunks(span).enumerate() {
            leaves.push(self.leaf(number * span, part, unit).await?);
        }
        if let [only] = leaves.as_slice() {
            return Ok(Content::Leaf(only.clone()));
        }
        let mut file = FileNode::default();
        for leaf in leaves {
            file.leaves.push((leaf.span().0, self.tree.put(&leaf).await?));
        }
        Ok(Content::Node(self.tree.put(&file).await?))
    }

    async fn leaf(&mut self, begin: usize, part: &[u8], unit: usize) -> Result<Leaf> {
        let mut leaf = Leaf { unit: u32::try_from(unit)?, ..Leaf::default() };
        for (number, raw) in part.chunks(FRAME_LEN).enumerate() {
            let frame_number = self.data.frame_count();
            let frame = self.data.sealer().seal(frame_number, false, raw, self.how);
            let digests = if unit == BLOCK {
                raw.chunks(BLOCK).flat_map(|page| xxh3_64(page).to_le_bytes()).collect()
            } else {
                Vec::new()
            };
            let at = self.data.append(&frame, digests).await?;
            leaf.extents.push(Extent {
                first: u64::try_from((begin + number * FRAME_LEN) / unit)?,
                count: u32::try_from(raw.len() / unit)?,
                frame: u32::try_from(leaf.frames.len())?,
                slot: 0,
            });
            leaf.frames.push((self.data.id(), at));
        }
        Ok(leaf)
    }
}
