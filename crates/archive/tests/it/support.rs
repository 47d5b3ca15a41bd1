//! A repository with one registered cluster, and data directories with WAL in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use archive::credential::Credential;
use archive::{Error, PushRequest, Pushed, Route, push};
use jiff::Timestamp;
use pg::{SegmentSize, SystemId, TimelineHistory, TimelineId, WalSegment};
use repository::codec::Compression;
use repository::lineage::{self, Lineage, State, Writer};
use repository::seal::Secret;
use repository::timeline::TimelinePath;
use repository::unlock::NewSet;
use repository::{Member, Repository};
use store::local::Access;
use store::{LocalStore, MemoryStore, Store};

/// This host, in tests.
pub(crate) const HOST: &str = "db1";

/// The segment size of made-up WAL.
pub(crate) fn mib() -> SegmentSize {
    SegmentSize::new(1 << 20).unwrap()
}

/// When everything happens, unless a test says otherwise.
pub(crate) fn now() -> Timestamp {
    "2026-11-21T14:31:07Z".parse().unwrap()
}

/// Runs a future on a runtime of its own.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// An encrypted set over these stores.
pub(crate) fn set_of(stores: Vec<Arc<dyn Store>>) -> Repository {
    let members = stores.into_iter().enumerate();
    let members = members.map(|(at, store)| Member { name: format!("m{at}"), store }).collect();
    Repository::new(members, Arc::new(NewSet::draw(true).keys()))
}

pub(crate) fn in_memory() -> Repository {
    set_of(vec![Arc::new(MemoryStore::new())])
}

/// A set over directories below `folder`.
pub(crate) fn in_folders(folder: &Path, count: usize) -> Repository {
    let open = |at: usize| -> Arc<dyn Store> {
        let path = folder.join(format!("repository{at}"));
        Arc::new(LocalStore::create(&path, Access::Owner).unwrap())
    };
    set_of((0..count).map(open).collect())
}

/// A cluster's data directory, registered as a writer in force.
pub(crate) struct Site {
    pub(crate) lineage: Lineage,
    pub(crate) credential: Credential,
    pub(crate) data: PathBuf,
    _folder: tempfile::TempDir,
}

impl Site {
    /// Registers a lineage and a made-up data directory of version `major` as its production.
    pub(crate) async fn register(repository: &Repository, system_id: u64, major: u32) -> Self {
        let lineage =
            lineage::register(repository, "shop", SystemId::new(system_id), now()).await.unwrap();
        Self::join(repository, lineage, major, 1, 1).await
    }

    /// Makes another data directory a writer of the lineage, and puts it in force.
    pub(crate) async fn join(
        repository: &Repository,
        lineage: Lineage,
        major: u32,
        state: u32,
        timeline: u32,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let data = root.join("data");
        fs::create_dir_all(data.join("pg_wal")).unwrap();
        fs::create_dir_all(data.join("global")).unwrap();
        fs::write(data.join("PG_VERSION"), format!("{major}\n")).unwrap();
        fs::write(data.join("global/pg_control"), b"").unwrap();
        let credential =
            enroll(repository, &lineage, &data, &root.join("token"), state, timeline).await;
        Self { lineage, credential, data, _folder: folder }
    }

    /// Writes a file into `pg_wal`.
    pub(crate) fn wal(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.data.join("pg_wal").join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Writes a made-up segment into `pg_wal`.
    pub(crate) fn segment(&self, timeline: u32, number: u64, fill: u8) -> PathBuf {
        let bytes = segment_bytes(self.lineage.system_id.get(), timeline, number, fill);
        self.wal(&name(timeline, number), &bytes)
    }

    pub(crate) fn request<'a>(&'a self, path: &'a Path) -> PushRequest<'a> {
        PushRequest {
            path,
            credential: &self.credential,
            host: HOST,
            hold: false,
            compression: Compression::default(),
            threads: 2,
            now: now(),
        }
    }

    pub(crate) async fn push(&self, repository: &Repository, path: &Path) -> Result<Pushed, Error> {
        push(repository, &self.request(path)).await
    }

    /// Archives made-up segments of timeline 1.
    pub(crate) async fn archive(&self, repository: &Repository, numbers: &[u64]) {
        for number in numbers {
            let path = self.segment(1, *number, 7);
            assert_eq!(self.push(repository, &path).await.unwrap(), Pushed::Stored);
        }
    }
}

/// Registers `data` as a writer with its token in `file`, and puts it in force as state `number`.
pub(crate) async fn enroll(
    repository: &Repository,
    lineage: &Lineage,
    data: &Path,
    file: &Path,
    number: u32,
    timeline: u32,
) -> Credential {
    let token = Secret::random();
    let place = data.to_str().unwrap();
    let writer: Writer =
        lineage::add_writer(repository, lineage.id, HOST, place, token.expose(), now())
            .await
            .unwrap();
    let state = State {
        number,
        timeline: TimelineId::new(timeline),
        writer: writer.id,
        reason: "registered".into(),
        since: now(),
    };
    lineage::advance(repository, lineage.id, &state).await.unwrap();
    let credential =
        Credential { lineage: lineage.id, writer: writer.id, token, file: file.to_owned() };
    credential.write().unwrap();
    credential
}

/// The name of a segment of 1 MiB.
pub(crate) fn name(timeline: u32, number: u64) -> String {
    WalSegment { timeline: TimelineId::new(timeline), number }.name(mib())
}

/// A segment of 1 MiB of PostgreSQL 16: a true long header, and `fill` behind it.
pub(crate) fn segment_bytes(system_id: u64, timeline: u32, number: u64, fill: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 << 20);
    bytes.extend(0xD113_u16.to_le_bytes());
    bytes.extend(0x0002_u16.to_le_bytes()); // XLP_LONG_HEADER
    bytes.extend(timeline.to_le_bytes());
    bytes.extend((number << 20).to_le_bytes());
    bytes.extend([0; 8]); // remaining, padding
    bytes.extend(system_id.to_le_bytes());
    bytes.extend((1_u32 << 20).to_le_bytes());
    bytes.extend(8192_u32.to_le_bytes());
    bytes.resize(1 << 20, fill);
    bytes
}

/// The way to `timeline` by the text of its history.
pub(crate) fn route(timeline: u32, history: &str) -> Route {
    let history = TimelineHistory::parse(TimelineId::new(timeline), history.as_bytes()).unwrap();
    Route::along(&TimelinePath::new(history), mib())
}
