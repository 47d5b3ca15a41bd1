//! Reading a golden repository back, in the words of its `expected.txt`.

use std::collections::BTreeMap;

use pg::{BlockNumber, SegmentSize, TimelineId, WalSegment, page};
use repository::names::LineageId;
use repository::root::{self, Root};
use repository::tree::{Content, Entry, EntryKind};
use repository::wal_object::{self, WalFile};
use repository::walk::{self, Walk};
use repository::{Kind, Repository, catalog, lineage, names};

use super::BLOCK;
use super::fixture::{Expected, Fixture};

/// Compares everything a cluster has with what is expected: nothing else, nothing more.
pub(crate) async fn compare(fixture: &Fixture, repository: &Repository, expected: &Expected) {
    let at = format!("{}, cluster {}", fixture.name, expected.name);
    let lineage = lineage::of_cluster(repository, &expected.name).await.unwrap();
    assert_eq!(lineage.id.to_string(), expected.lineage, "{at}");
    assert_eq!(lineage.system_id.get(), expected.system_id, "{at}");
    assert!(lineage::state(repository, lineage.id).await.unwrap().is_some(), "{at}");
    let catalog = catalog::backups(repository, lineage.id).await.unwrap();
    assert!(catalog.problems.is_empty(), "{at}: {:?}", catalog.problems);
    let mut seen = BTreeMap::new();
    let mut segment_size = None;
    for summary in &catalog.backups {
        let root = root::read(repository, lineage.id, &summary.label).await.unwrap();
        assert_eq!(root.summary, *summary, "{at}");
        assert_eq!(root.details.databases.last().unwrap().1, "shop", "{at}");
        segment_size = Some(u32::try_from(summary.segment_size).unwrap());
        seen.insert(summary.label.to_string(), restore(repository, &root).await);
    }
    for (label, lines) in &expected.backups {
        for (seen, expected) in seen[label].iter().zip(lines) {
            assert_eq!(seen, expected, "{at}, backup {label}");
        }
    }
    assert!(seen == expected.backups, "{at}: other backups or entries than expected");
    let size = SegmentSize::new(segment_size.unwrap()).unwrap();
    wal(repository, lineage.id, size, expected, &at).await;
}

/// The entries of one backup as lines, every byte read.
async fn restore(repository: &Repository, root: &Root) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut restored, mut size) = (0, 0);
    let mut entries = Walk::new(repository, root.summary.tree);
    while let Some(entry) = entries.next().await.unwrap() {
        if entry.kind != EntryKind::Attachment {
            restored += 1;
            size += entry.size;
        }
        lines.push(line(repository, &entry).await);
    }
    assert_eq!((restored, size), (root.summary.entries, root.summary.size));
    lines
}

async fn line(repository: &Repository, entry: &Entry) -> String {
    let path = escaped(&entry.path);
    assert_eq!((entry.owner.as_str(), entry.group.as_str()), ("postgres", "postgres"));
    match entry.kind {
        EntryKind::Directory => format!("directory {path} {:o}", entry.mode),
        EntryKind::Symlink => format!("link {path} {}", escaped(entry.link.as_ref().unwrap())),
        EntryKind::File => {
            format!("file {path} {:o} {}", entry.mode, content(repository, entry).await)
        }
        EntryKind::Attachment => {
            format!("attachment {path} {:o} {}", entry.mode, content(repository, entry).await)
        }
    }
}

async fn content(repository: &Repository, entry: &Entry) -> String {
    let bytes = walk::read_small(repository, entry).await.unwrap();
    assert_eq!(bytes.len() as u64, entry.size);
    if !matches!(entry.content, Content::Inline(_)) {
        let leaves = walk::leaves(repository, &entry.content).await.unwrap();
        if leaves[0].unit as usize == BLOCK {
            for (block, bytes) in (0..).zip(bytes.chunks(BLOCK)) {
                assert!(page::verify_page(bytes, BlockNumber::new(block)).is_intact());
            }
        }
    }
    described(&bytes)
}

async fn wal(
    repository: &Repository,
    lineage: LineageId,
    size: SegmentSize,
    expected: &Expected,
    at: &str,
) {
    for line in &expected.wal {
        let name = line.split(' ').nth(1).unwrap();
        let (info, content) =
            wal_object::get(repository, lineage, &wal_file(name, size)).await.unwrap();
        assert_eq!(*line, format!("wal {name} {}", described(&content)), "{at}");
        let carries_system = !name.ends_with(".history") && !name.ends_with(".backup");
        assert!(!carries_system || info.system_id.get() == expected.system_id, "{at}: {name}");
    }
    for folder in ["wal", "history", "label", "partial"] {
        for meta in repository.list(&format!("{folder}/{lineage}/")).await.unwrap() {
            let (_, name) = meta.key.as_str().rsplit_once('/').unwrap();
            let name = name.to_uppercase();
            let known = |line: &String| line.to_uppercase().contains(&name);
            assert!(expected.wal.iter().any(known), "{at}: '{}' is not expected", meta.key);
        }
    }
    let mut conflicts = Vec::new();
    for meta in repository.list(&names::conflicts(lineage)).await.unwrap() {
        let frames = repository.read(Kind::WalConflict, &meta.key).await.unwrap();
        let (info, content) = wal_object::assemble(repository.keys(), &frames).unwrap();
        conflicts.push(format!("conflict {} {}", info.name, described(&content)));
    }
    assert_eq!(conflicts, expected.conflicts, "{at}");
}

fn wal_file(name: &str, size: SegmentSize) -> WalFile {
    if let Some(timeline) = name.strip_suffix(".history") {
        return WalFile::History(TimelineId::new(u32::from_str_radix(timeline, 16).unwrap()));
    }
    if name.ends_with(".backup") {
        return WalFile::BackupHistory(name.into());
    }
    if name.ends_with(".partial") {
        return WalFile::Partial(name.into());
    }
    WalFile::Segment(WalSegment::parse(name, size).unwrap(), size)
}

fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace(' ', "\\x20")
}

fn described(bytes: &[u8]) -> String {
    format!("{} {}", bytes.len(), blake3::hash(bytes))
}
