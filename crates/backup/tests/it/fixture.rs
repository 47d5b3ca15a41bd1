//! A real cluster that archives into a real repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backup::{Options, Progress};
use pg::{SegmentName, SegmentSize, WalFileName};
use repository::unlock::NewSet;
use repository::wal_object::{self, Provenance, WalFile, WalPut};
use repository::{Compression, LineageId, Member, Repository, lineage};
use stdx::{Clock, Id, SystemClock};
use store::local::Access;
use store::{LocalStore, Store};
use testbed::Workdir;
use testbed::postgres::{Builder, Cluster, Install};
use tokio::task::JoinHandle;

/// Between two looks of the archiver.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// A cluster, its repository, and the archiver between them.
pub(crate) struct Protected {
    pub(crate) cluster: Cluster,
    pub(crate) repository: Arc<Repository>,
    pub(crate) lineage: LineageId,
    pub(crate) options: Options,
    pub(crate) workdir: Workdir,
    archiver: JoinHandle<()>,
}

/// Settings of every test cluster: nothing is written that the test did not ask for.
pub(crate) fn builder(major: u32) -> Builder {
    Cluster::builder(&Install::by_major(major)).setting("autovacuum", "off")
}

/// A directory store in `folder`.
pub(crate) fn directory(folder: &Path) -> Arc<dyn Store> {
    Arc::new(LocalStore::create(folder, Access::Owner).unwrap())
}

impl Protected {
    /// Starts the cluster and archives it into one directory.
    pub(crate) async fn start(builder: Builder) -> Self {
        let folder = tempfile::tempdir().unwrap().keep();
        Self::start_with(builder, vec![directory(&folder)]).await
    }

    /// Starts the cluster and archives it into these stores.
    pub(crate) async fn start_with(builder: Builder, stores: Vec<Arc<dyn Store>>) -> Self {
        let workdir = Workdir::new();
        let spool = workdir.folder("spool", 0o755);
        let command = format!("cp %p {0}/%f.part && mv {0}/%f.part {0}/%f", spool.display());
        let cluster =
            builder.setting("archive_mode", "on").setting("archive_command", &command).start();
        let members = stores
            .into_iter()
            .enumerate()
            .map(|(at, store)| Member { name: format!("m{at}"), store })
            .collect();
        let keys = Arc::new(NewSet::draw(true).keys());
        let repository = Arc::new(Repository::new(members, keys));
        let connection = pgclient::ConnectOptions::parse(&cluster.conninfo()).unwrap();
        let client = pgclient::Client::connect(&connection).await.unwrap();
        let server = client.server().await.unwrap();
        let now = SystemClock::new().now();
        let record = lineage::register(&repository, "shop", server.system_id, now).await.unwrap();
        let writer = Id::random();
        let state = lineage::State {
            number: 1,
            timeline: server.timeline,
            writer,
            reason: "registered".into(),
            since: now,
        };
        lineage::advance(&repository, record.id, &state).await.unwrap();
        let archiver = tokio::spawn(archive(
            spool,
            Arc::clone(&repository),
            Provenance { lineage: record.id, system_id: server.system_id, writer, written: now },
            server.wal_segment_size,
        ));
        let mut options =
            Options::new("shop", record.id, cluster.data_dir().to_owned(), connection);
        options.wal_timeout = Duration::from_secs(60);
        Self { cluster, repository, lineage: record.id, options, workdir, archiver }
    }

    /// Where the archive command leaves its copies; they stay there.
    pub(crate) fn spool(&self) -> PathBuf {
        self.workdir.join("spool")
    }

    /// Stops putting WAL into the repository.
    pub(crate) fn stop_archiver(&self) {
        self.archiver.abort();
    }

    /// Makes a backup that must succeed.
    pub(crate) async fn backup(&self) -> backup::Report {
        backup::full(&self.repository, &self.options, &Notes, &SystemClock::new()).await.unwrap()
    }

    /// Makes a backup that must fail.
    pub(crate) async fn backup_err(&self) -> backup::Error {
        let made = backup::full(&self.repository, &self.options, &Notes, &SystemClock::new()).await;
        made.map(|report| report.summary.label).unwrap_err()
    }

    /// Every backup that the repository shows.
    pub(crate) async fn labels(&self) -> Vec<String> {
        let prefix = repository::names::backups(self.lineage);
        let listed = self.repository.list(&prefix).await.unwrap();
        listed.iter().map(|meta| meta.key.to_string()).collect()
    }
}

impl Drop for Protected {
    fn drop(&mut self) {
        self.archiver.abort();
        for member in self.repository.members() {
            let folder = Path::new(member.store.address());
            if folder.starts_with(std::env::temp_dir()) {
                let _ = fs::remove_dir_all(folder);
            }
        }
    }
}

/// Prints what the backup says; shown when a test fails.
pub(crate) struct Notes;

impl Progress for Notes {
    fn total(&self, bytes: u64, files: u64) {
        eprintln!("{bytes} bytes in {files} files");
    }

    fn advance(&self, _bytes: u64) {}

    fn note(&self, text: &str) {
        eprintln!("{text}");
    }
}

/// Puts every complete file of the spool into the repository, in order, until it is stopped.
async fn archive(
    spool: PathBuf,
    repository: Arc<Repository>,
    provenance: Provenance,
    size: SegmentSize,
) {
    let mut done = std::collections::BTreeSet::new();
    let mut look = tokio::time::interval(LOOK_PAUSE);
    loop {
        let names: std::collections::BTreeSet<String> = fs::read_dir(&spool)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        for name in names.difference(&done).cloned().collect::<Vec<_>>() {
            let Some(file) = wal_file(&name, size) else { continue };
            let content = fs::read(spool.join(&name)).unwrap();
            let how = Compression::default();
            match wal_object::put(&repository, &file, &content, provenance, how, 1).await {
                Ok(WalPut::Stored | WalPut::AlreadyThere) => {
                    done.insert(name);
                }
                // A store that fails on purpose: try again.
                other => eprintln!("archiving {name}: {other:?}"),
            }
        }
        look.tick().await;
    }
}

fn wal_file(name: &str, size: SegmentSize) -> Option<WalFile> {
    if name.ends_with(".part") {
        return None;
    }
    match name.parse::<WalFileName>().ok()? {
        WalFileName::Segment(segment) => {
            let segment: SegmentName = segment;
            Some(WalFile::Segment(segment.segment(size).unwrap(), size))
        }
        WalFileName::History(timeline) => Some(WalFile::History(timeline)),
        WalFileName::BackupHistory { .. } => Some(WalFile::BackupHistory(name.to_owned())),
        WalFileName::Partial(_) => Some(WalFile::Partial(name.to_owned())),
    }
}
