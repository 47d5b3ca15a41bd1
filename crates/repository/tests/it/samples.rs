//! One object of every kind, and a reader for each.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use pg::{Lsn, SegmentSize, SystemId, TimelineId, WalSegment};
use repository::condemned::{self, Condemned};
use repository::gap::{self, Gap};
use repository::lease;
use repository::lineage::{self, Lineage, Reservation, State, Writer};
use repository::moved::{self, Moved};
use repository::names::{self, PackId};
use repository::object::FrameAt;
use repository::pack::PackWriter;
use repository::root::Summary;
use repository::wal_object::{self, WalFile};
use repository::{Compression, Error, Kind, Repository, piece, root};
use stdx::Id;
use store::Key;

use crate::support::{self, Backup, now};

/// What was written, for reading it again.
#[derive(Debug)]
pub(crate) struct Samples {
    pub(crate) lineage: Lineage,
    writer: Writer,
    reservation: Reservation,
    backup: Summary,
    pub(crate) pack: PackId,
    pub(crate) frames: Vec<FrameAt>,
    old_pack: PackId,
    files: Vec<WalFile>,
    pieces: WalSegment,
    size: SegmentSize,
    conflict: Key,
    /// Each object and its kind.
    pub(crate) keys: Vec<(Key, Kind)>,
}

impl Samples {
    /// The same under another lineage.
    pub(crate) fn of_lineage(self, lineage: Lineage) -> Self {
        Self { lineage, ..self }
    }
}

/// Writes one object of every kind that is sealed.
pub(crate) async fn write(repository: &Repository) -> Samples {
    let lineage = support::lineage(repository, SystemId::new(77)).await;
    let token = b"a token";
    let writer =
        lineage::add_writer(repository, lineage.id, "host", "/data", token, now()).await.unwrap();
    let state = State {
        number: 1,
        timeline: TimelineId::FIRST,
        writer: writer.id,
        reason: "registered".into(),
        since: now(),
    };
    lineage::advance(repository, lineage.id, &state).await.unwrap();
    let reservation = Reservation {
        timeline: TimelineId::new(2),
        parent: TimelineId::FIRST,
        owner: writer.id,
        place: "host:/restored".into(),
        taken: now(),
    };
    lineage::reserve(repository, lineage.id, &reservation).await.unwrap();
    let backup = Backup::new("base", 1, "0/2000028", "0/2000100");
    let backup = support::publish(repository, &lineage, &backup).await;
    let (pack, frames) = data_pack(repository).await;
    let old_pack = PackId(Id::from_bytes([5; 16]));
    let places = frames.iter().map(|at| (at.shape.number + 10, (pack, *at)));
    let moved = Moved { pack: old_pack, frames: places.collect::<BTreeMap<_, _>>() };
    moved::publish(repository, &moved).await.unwrap();
    let sentence = Condemned {
        pack: old_pack,
        reason: "compacted".into(),
        owner: "host:1".into(),
        condemned: now(),
    };
    condemned::condemn(repository, &sentence).await.unwrap();
    lease::begin(repository, "host:1", "base", Some(backup.label.clone()), Duration::from_secs(60))
        .await
        .unwrap();
    note_gap(repository, &lineage, &writer).await;
    let wal = wal(repository, &lineage).await;
    let mut samples = Samples {
        lineage,
        writer,
        reservation,
        backup,
        pack,
        frames,
        old_pack,
        keys: Vec::new(),
        ..wal
    };
    samples.keys = keys(repository).await;
    samples
}

async fn note_gap(repository: &Repository, lineage: &Lineage, writer: &Writer) {
    let gap = Gap {
        timeline: TimelineId::FIRST,
        begin: Lsn::new(0x300_0000),
        end: Lsn::new(0x400_0000),
        reason: "the slot was lost".into(),
        writer: writer.id,
        noticed: now(),
    };
    gap::put(repository, lineage.id, &gap).await.unwrap();
}

/// The WAL part; everything else in what is returned is made up.
async fn wal(repository: &Repository, lineage: &Lineage) -> Samples {
    let size = SegmentSize::DEFAULT;
    let provenance = support::provenance(lineage.id, lineage.system_id);
    let segment = WalSegment { timeline: TimelineId::FIRST, number: 2 };
    let files = vec![
        WalFile::Segment(segment, size),
        WalFile::History(TimelineId::new(2)),
        WalFile::BackupHistory("000000010000000000000002.00000028.backup".into()),
        WalFile::Partial("000000010000000000000009.partial".into()),
    ];
    let how = Compression::default();
    for file in &files {
        let content = Bytes::from(format!("1\t0/3000000\tcontent of {}\n", file.name()).repeat(20));
        wal_object::put(repository, file, &content, provenance, how, 1).await.unwrap();
    }
    let other = Bytes::from_static(b"something else");
    let put = wal_object::put(repository, &files[0], &other, provenance, how, 1).await.unwrap();
    let wal_object::WalPut::Conflict { kept: conflict, .. } = put else {
        panic!("expected a conflict, seen {put:?}")
    };
    let pieces = WalSegment { timeline: TimelineId::FIRST, number: 3 };
    for (start, content) in [(0, "first "), (4, "t second")] {
        let content = Bytes::from_static(content.as_bytes());
        piece::put(repository, pieces, size, start, &content, provenance).await.unwrap();
    }
    let id = Id::from_bytes([0; 16]);
    Samples {
        files,
        pieces,
        size,
        conflict,
        lineage: lineage.clone(),
        writer: Writer {
            id,
            host: String::new(),
            data_directory: String::new(),
            token_digest: [0; 32],
            created: now(),
        },
        reservation: Reservation {
            timeline: TimelineId::FIRST,
            parent: TimelineId::FIRST,
            owner: id,
            place: String::new(),
            taken: now(),
        },
        backup: support::publish(
            repository,
            lineage,
            &Backup::new("other", 1, "0/1000028", "0/1000100"),
        )
        .await,
        pack: PackId(id),
        frames: Vec::new(),
        old_pack: PackId(id),
        keys: Vec::new(),
    }
}

async fn data_pack(repository: &Repository) -> (PackId, Vec<FrameAt>) {
    let mut writer = PackWriter::begin(repository, Kind::DataPack).await.unwrap();
    let mut frames = Vec::new();
    for number in 0..4 {
        let raw = page(number);
        let frame = writer.sealer().seal(number, false, &raw, Compression::default());
        frames.push(writer.append(&frame, vec![1; 8]).await.unwrap());
    }
    let entry = writer.finish().await.unwrap();
    (entry.id, frames)
}

/// The plain bytes of a frame of the data pack.
pub(crate) fn page(number: u64) -> Vec<u8> {
    format!("frame {number} ").repeat(20 + usize::try_from(number).unwrap()).into_bytes()
}

/// Every object with its kind, from its header.
pub(crate) async fn keys(repository: &Repository) -> Vec<(Key, Kind)> {
    // Slots are the member's own.
    let repository = repository.only(&repository.members()[0].name).unwrap();
    let store = &repository.members()[0].store;
    let mut keys = Vec::new();
    for meta in repository.list("").await.unwrap() {
        let bytes = store.get(&meta.key).await.unwrap();
        let header = repository::header::Header::decode(&bytes).unwrap();
        keys.push((meta.key, header.kind));
    }
    keys
}

/// Reads everything the way its users do, as text.
pub(crate) async fn read_all(
    repository: &Repository,
    samples: &Samples,
) -> Result<Vec<String>, Error> {
    let mut seen = Vec::new();
    for kind in Kind::ALL {
        if !NOT_SEALED_HERE.contains(&kind) {
            seen.extend(read_kind(repository, samples, kind).await?);
        }
    }
    Ok(seen)
}

/// Reads the objects of one kind the way their users do, as text.
pub(crate) async fn read_kind(
    repository: &Repository,
    samples: &Samples,
    kind: Kind,
) -> Result<Vec<String>, Error> {
    let lineage = samples.lineage.id;
    let first = TimelineId::FIRST;
    let label = &samples.backup.label;
    Ok(match kind {
        Kind::Lineage => vec![format!("{:?}", lineage::read(repository, lineage).await?)],
        Kind::ClusterName => vec![format!("{:?}", lineage::of_cluster(repository, "shop").await?)],
        Kind::Writer => {
            vec![format!(
                "{:?}",
                lineage::read_writer(repository, lineage, samples.writer.id).await?
            )]
        }
        Kind::LineageState => vec![format!("{:?}", lineage::state(repository, lineage).await?)],
        Kind::TimelineReservation => {
            let timeline = samples.reservation.timeline;
            vec![format!("{:?}", lineage::reservation(repository, lineage, timeline).await?)]
        }
        Kind::BackupRoot => vec![
            format!("{:?}", root::read_summary(repository, lineage, label).await?),
            format!("{:?}", root::read(repository, lineage, label).await?),
        ],
        Kind::MetaPack => read_tree(repository, samples).await?,
        Kind::DataPack | Kind::Moved => {
            // The second time through the record of the pack's compaction.
            let (pack, shift) = match kind {
                Kind::DataPack => (samples.pack, 0),
                _ => (samples.old_pack, 10),
            };
            read_pack(repository, samples, pack, shift).await?
        }
        Kind::Condemned => {
            vec![format!("{:?}", condemned::read(repository, samples.old_pack).await?)]
        }
        Kind::WalGap => vec![format!("{:?}", gap::list(repository, lineage, first).await?)],
        Kind::WalPiece => {
            let joined = piece::assemble(repository, lineage, samples.pieces, samples.size).await?;
            vec![format!("{:?}", joined.map(|(info, content)| (info, content.len())))]
        }
        Kind::WalConflict => {
            vec![format!("{:?}", wal_object::read_info(repository, kind, &samples.conflict).await?)]
        }
        Kind::Lease => {
            let found = lease::list(repository).await?;
            found.iter().map(|found| format!("{:?}", found.lease)).collect()
        }
        _ => {
            let mut seen = Vec::new();
            for file in samples.files.iter().filter(|file| file.kind() == kind) {
                seen.push(format!("{:?}", wal_object::get(repository, lineage, file).await?));
            }
            seen
        }
    })
}

async fn read_tree(repository: &Repository, samples: &Samples) -> Result<Vec<String>, Error> {
    let mut walk = repository::walk::Walk::new(repository, samples.backup.tree);
    let mut seen = Vec::new();
    while let Some(entry) = walk.next().await? {
        seen.push(format!("{entry:?}"));
    }
    Ok(seen)
}

async fn read_pack(
    repository: &Repository,
    samples: &Samples,
    pack: PackId,
    shift: u64,
) -> Result<Vec<String>, Error> {
    let frames: Vec<FrameAt> = samples.frames.iter().map(|at| renumbered(*at, shift)).collect();
    // A frame may come twice: when the member that it was read from breaks off behind it.
    let mut seen = BTreeMap::new();
    repository
        .read_frames(Kind::DataPack, pack, &frames, |at, raw| {
            let text = String::from_utf8_lossy(raw).into_owned();
            assert_eq!(*seen.entry(at).or_insert_with(|| text.clone()), text, "equal bytes");
            Ok(())
        })
        .await?;
    Ok(seen.into_values().collect())
}

fn renumbered(mut at: FrameAt, shift: u64) -> FrameAt {
    at.shape.number += shift;
    at
}

/// The key of the gap's folder and of the others, for messages.
pub(crate) fn of_kind(samples: &Samples, kind: Kind) -> Vec<Key> {
    samples.keys.iter().filter(|(_, seen)| *seen == kind).map(|(key, _)| key.clone()).collect()
}

/// Kinds that no code of this version writes into a repository yet, or that lie in the clear.
pub(crate) const NOT_SEALED_HERE: [Kind; 9] = [
    Kind::Descriptor,
    Kind::KeySlot,
    Kind::KeyEpoch,
    Kind::Config,
    Kind::WalIndex,
    Kind::Hold,
    Kind::Catalog,
    Kind::Journal,
    Kind::DumpRoot,
];

/// Every name of a backup's root, to find it by.
pub(crate) fn backup_key(samples: &Samples) -> Key {
    names::backup(samples.lineage.id, &samples.backup.label)
}
