//! Repositories to test with.

use std::sync::Arc;

use jiff::Timestamp;
use pg::{Lsn, SystemId, TimelineId};
use repository::lineage::{self, Lineage};
use repository::names::{Label, LineageId};
use repository::pack::TreeWriter;
use repository::root::{Details, Root, Summary};
use repository::tree::{Content, Entry, EntryKind};
use repository::unlock::{self, NewRepository, NewSet, Unlock};
use repository::{Member, Repository, root};
use store::{MemoryStore, Store};

/// A fixed time: nothing here depends on the clock.
pub(crate) fn now() -> Timestamp {
    "2026-11-21T02:00:00Z".parse().unwrap()
}

pub(crate) fn key_file(byte: u8) -> Unlock {
    let secret = repository::seal::Secret::from_bytes([byte; 32]);
    Unlock::KeyFile { origin: "/etc/rollforward/key".into(), secret }
}

pub(crate) fn member(name: &str, store: &Arc<dyn Store>) -> Member {
    Member { name: name.into(), store: Arc::clone(store) }
}

/// Creates an encrypted set on the stores, opened by `key_file(1)`.
pub(crate) async fn create(stores: &[Arc<dyn Store>]) -> Repository {
    let set = NewSet::draw(true);
    let slots = [("host".to_owned(), key_file(1))];
    let new = NewRepository { slots: &slots, single_writer: false, created: now() };
    let mut members = Vec::new();
    for (at, store) in stores.iter().enumerate() {
        set.create_member(store, &new).await.unwrap();
        members.push(member(&format!("m{at}"), store));
    }
    unlock::open(members, Some(&key_file(1))).await.unwrap()
}

/// An encrypted repository in memory.
pub(crate) async fn in_memory() -> (Repository, Arc<dyn Store>) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    (create(&[Arc::clone(&store)]).await, store)
}

pub(crate) async fn lineage(repository: &Repository, system_id: SystemId) -> Lineage {
    lineage::register(repository, "shop", system_id, now()).await.unwrap()
}

/// What a test wants to say about a backup; the rest does not matter.
#[derive(Clone, Debug)]
pub(crate) struct Backup<'a> {
    pub(crate) label: &'a str,
    pub(crate) timeline: u32,
    pub(crate) redo: Lsn,
    pub(crate) stop: Lsn,
    pub(crate) started: Timestamp,
    pub(crate) stopped: Timestamp,
    pub(crate) segment_size: u64,
    pub(crate) files: Vec<String>,
}

impl<'a> Backup<'a> {
    pub(crate) fn new(label: &'a str, timeline: u32, redo: &str, stop: &str) -> Self {
        Self {
            label,
            timeline,
            redo: redo.parse().unwrap(),
            stop: stop.parse().unwrap(),
            started: now(),
            stopped: now(),
            segment_size: 16 << 20,
            files: vec!["PG_VERSION".into()],
        }
    }
}

/// Publishes a backup with a tree of empty files.
pub(crate) async fn publish(
    repository: &Repository,
    lineage: &Lineage,
    backup: &Backup<'_>,
) -> Summary {
    let mut tree = TreeWriter::begin(repository).await.unwrap();
    let mut files = backup.files.clone();
    files.sort();
    for path in files {
        tree.add(entry(&path)).await.unwrap();
    }
    let (top, packs) = tree.finish().await.unwrap();
    let summary = Summary {
        label: backup.label.parse::<Label>().unwrap(),
        lineage: lineage.id,
        cluster: lineage.cluster.clone(),
        parent: None,
        system_id: lineage.system_id,
        server_version: 170_010,
        timeline: TimelineId::new(backup.timeline),
        redo: backup.redo,
        start: backup.redo,
        stop: backup.stop,
        started: backup.started,
        stopped: backup.stopped,
        size: 0,
        stored: 0,
        entries: backup.files.len() as u64,
        block_size: 8192,
        segment_size: backup.segment_size,
        checksums: true,
        damaged_pages: 0,
        tree: top,
    };
    let root = Root { summary: summary.clone(), packs, details: Details::default() };
    root::publish(repository, &root).await.unwrap();
    summary
}

pub(crate) fn entry(path: &str) -> Entry {
    Entry {
        path: path.as_bytes().to_vec(),
        kind: EntryKind::File,
        mode: 0o600,
        owner: "postgres".into(),
        group: "postgres".into(),
        modified_us: 0,
        size: 0,
        link: None,
        content: Content::Inline(Vec::new()),
    }
}

pub(crate) fn provenance(
    lineage: LineageId,
    system_id: SystemId,
) -> repository::wal_object::Provenance {
    repository::wal_object::Provenance {
        lineage,
        system_id,
        writer: stdx::Id::from_bytes([9; 16]),
        written: now(),
    }
}
