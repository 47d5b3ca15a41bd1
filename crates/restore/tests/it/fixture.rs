//! A real cluster, its backup, and what a restore of it needs.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pg::recovery::TargetAction;
use pg::{SegmentSize, TimelineId, WalFileName};
use repository::key_file::KeyFile;
use repository::root::{self, Root};
use repository::unlock::{self, NewRepository, NewSet};
use repository::wal_object::{self, Provenance, WalFile, WalPut};
use repository::{Compression, Label, LineageId, Member, Repository, lineage};
use restore::{Destiny, Error, Options, Quarantine, Remap, Report};
use stdx::{Clock, Id, SystemClock};
use store::local::Access;
use store::{LocalStore, Store};
use testbed::postgres::{Builder, Cluster, Install};
use testbed::{Port, Workdir, give_to_postgres};
use tokio::task::JoinHandle;

/// Between two looks of the archiver.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// How long a restored server may take to answer as expected.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Everyone on this machine: the tests' own sessions.
pub(crate) const HBA: &str = "local all all trust\nhost all all 127.0.0.1/32 trust\n";

/// A backup in a repository, and the WAL behind it.
pub(crate) struct Backup {
    pub(crate) repository: Arc<Repository>,
    pub(crate) root: Root,
    /// Folders of the repository's members.
    pub(crate) members: Vec<PathBuf>,
    pub(crate) key_file: PathBuf,
    /// WAL files as they came out of the repository.
    pub(crate) wal: PathBuf,
    pub(crate) workdir: Workdir,
    pub(crate) port: Port,
}

/// Settings of every test cluster: nothing is written that the test did not ask for.
pub(crate) fn builder(major: u32) -> Builder {
    Cluster::builder(&Install::by_major(major))
        .setting("autovacuum", "off")
        .setting("archive_mode", "on")
        .setting("archive_command", "cp %p ../spool/%f.part && mv ../spool/%f.part ../spool/%f")
}

/// A repository of `count` members below `workdir` that a key file opens.
async fn repository(workdir: &Workdir, count: usize) -> (Repository, Vec<PathBuf>, PathBuf) {
    let (set, key) = (NewSet::draw(true), KeyFile::random());
    let slots = [("machine".to_owned(), key.unlock("key"))];
    let created = SystemClock::new().now();
    let mut folders = Vec::new();
    for number in 0..count {
        let folder = workdir.join(format!("repository-{number}"));
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(&folder, Access::Owner).unwrap());
        let new = NewRepository { slots: &slots, single_writer: false, created };
        set.create_member(&store, &new).await.unwrap();
        folders.push(folder);
    }
    let key_file = workdir.file("key", key.render().as_str());
    (open(&folders, &key_file).await, folders, key_file)
}

/// Opens a repository as a machine does.
pub(crate) async fn open(folders: &[PathBuf], key_file: &Path) -> Repository {
    let key = KeyFile::parse("key", &fs::read(key_file).unwrap()).unwrap();
    let members = folders.iter().map(|folder| Member {
        name: folder.file_name().unwrap().to_string_lossy().into_owned(),
        store: Arc::new(LocalStore::open(folder, Access::Owner)),
    });
    unlock::open(members.collect(), Some(&key.unlock("key"))).await.unwrap()
}

impl Backup {
    /// Backs up a cluster that [`builder`] described.
    pub(crate) async fn of(cluster: &Cluster) -> Self {
        Self::made(cluster, 1, || {}).await
    }

    /// Backs up a cluster into `members` repositories; `after` runs before the last WAL is taken.
    pub(crate) async fn made(cluster: &Cluster, members: usize, after: impl FnOnce()) -> Self {
        let workdir = Workdir::new();
        let (repository, members, key_file) = repository(&workdir, members).await;
        let repository = Arc::new(repository);
        let connection = pgclient::ConnectOptions::parse(&cluster.conninfo()).unwrap();
        let client = pgclient::Client::connect(&connection).await.unwrap();
        let server = client.server().await.unwrap();
        let now = SystemClock::new().now();
        let record = lineage::register(&repository, "shop", server.system_id, now).await.unwrap();
        let writer = Id::random();
        let provenance =
            Provenance { lineage: record.id, system_id: server.system_id, writer, written: now };
        let spool = spool(cluster);
        let size = server.wal_segment_size;
        let archiver = archiver(spool.clone(), Arc::clone(&repository), provenance, size);
        let mut options =
            backup::Options::new("shop", record.id, cluster.data_dir().to_owned(), connection);
        options.wal_timeout = SOON;
        let made = backup::full(&repository, &options, &backup::Silent, &SystemClock::new()).await;
        let label = made.unwrap().summary.label;
        after();
        let last = spool.join(cluster.switch_wal());
        testbed::poll(SOON, "the last segment", || last.exists());
        archiver.abort();
        put_all(&spool, &repository, provenance, size, &mut BTreeSet::new()).await;
        let wal = workdir.folder("wal", 0o755);
        export(&spool, &repository, record.id, size, &wal).await;
        let root = root::read(&repository, record.id, &label).await.unwrap();
        Self { repository, root, members, key_file, wal, workdir, port: Port::reserve() }
    }

    /// Where a restore goes when nothing is said: a folder that is not there.
    pub(crate) fn directory(&self) -> PathBuf {
        self.workdir.join("restored")
    }

    /// Options of a restore into `directory` that recovers all WAL.
    pub(crate) fn options(&self, directory: &Path) -> Options {
        options(directory, &self.wal, self.port.number(), self.root.summary.timeline)
    }

    pub(crate) async fn restore(&self, options: &Options) -> Result<Report, Error> {
        restore(&self.repository, &self.root, options).await
    }

    /// A fresh view of the repository, in which nothing is remembered.
    pub(crate) async fn reopened(&self) -> Repository {
        open(&self.members, &self.key_file).await
    }

    /// Restores and starts; the server has left recovery.
    pub(crate) async fn restored(&self, options: &Options) -> (Cluster, Report) {
        let report = self.restore(options).await.unwrap();
        let mut cluster = self.cluster(options);
        cluster.start();
        cluster.wait_until("SELECT pg_is_in_recovery()", "f", SOON);
        (cluster, report)
    }

    /// The restored cluster, not started.
    pub(crate) fn cluster(&self, options: &Options) -> Cluster {
        let install = Install::by_major(self.root.summary.server_version / 10_000);
        Cluster::attach(&install, &options.directory, options.quarantine.port)
    }

    pub(crate) fn label(&self) -> &Label {
        &self.root.summary.label
    }
}

pub(crate) fn options(directory: &Path, wal: &Path, port: u16, timeline: TimelineId) -> Options {
    let command = format!("cp {}/%f %p", wal.display());
    let parent = directory.parent().unwrap();
    Options {
        directory: directory.to_owned(),
        tablespaces: Remap { single: Vec::new(), below: Some(parent.join("spaces")) },
        workers: 2,
        quarantine: Quarantine {
            destiny: Destiny::Copy,
            port,
            socket_directory: directory.to_owned(),
            recovery: Some(Quarantine::recovery(command, timeline, None, TargetAction::Promote)),
            hba: HBA.into(),
        },
        histories: Vec::new(),
    }
}

pub(crate) async fn restore(
    repository: &Repository,
    root: &Root,
    options: &Options,
) -> Result<Report, Error> {
    restore::restore(repository, root, options, &Notes, &SystemClock::new()).await
}

/// Prints what the restore says; shown when a test fails.
pub(crate) struct Notes;

impl restore::Progress for Notes {
    fn total(&self, bytes: u64, files: u64) {
        eprintln!("{bytes} bytes in {files} files");
    }

    fn advance(&self, _bytes: u64) {}

    fn note(&self, text: &str) {
        eprintln!("{text}");
    }
}

/// The folder that the archive command of [`builder`] fills, made when it is asked for first.
pub(crate) fn spool(cluster: &Cluster) -> PathBuf {
    let spool = cluster.data_dir().parent().unwrap().join("spool");
    if !spool.exists() {
        fs::create_dir(&spool).unwrap();
        fs::set_permissions(&spool, Permissions::from_mode(0o755)).unwrap();
        give_to_postgres(&spool);
    }
    spool
}

fn archiver(
    spool: PathBuf,
    repository: Arc<Repository>,
    provenance: Provenance,
    size: SegmentSize,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut done = BTreeSet::new();
        let mut looks = tokio::time::interval(LOOK_PAUSE);
        loop {
            looks.tick().await;
            put_all(&spool, &repository, provenance, size, &mut done).await;
        }
    })
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

async fn put_all(
    spool: &Path,
    repository: &Repository,
    provenance: Provenance,
    size: SegmentSize,
    done: &mut BTreeSet<String>,
) {
    for name in names_in(spool).difference(&done.clone()) {
        let Some(file) = wal_file(name, size) else { continue };
        let content = fs::read(spool.join(name)).unwrap();
        let how = Compression::default();
        let put = wal_object::put(repository, &file, &content, provenance, how, 1).await.unwrap();
        assert!(matches!(put, WalPut::Stored | WalPut::AlreadyThere), "{put:?}");
        done.insert(name.clone());
    }
}

/// What is in the repository, as PostgreSQL's files.
async fn export(
    spool: &Path,
    repository: &Repository,
    lineage: LineageId,
    size: SegmentSize,
    to: &Path,
) {
    for name in names_in(spool) {
        let Some(file) = wal_file(&name, size) else { continue };
        let (_, content) = wal_object::get(repository, lineage, &file).await.unwrap();
        fs::write(to.join(&name), content).unwrap();
        give_to_postgres(&to.join(&name));
    }
}

fn wal_file(name: &str, size: SegmentSize) -> Option<WalFile> {
    if name.ends_with(".part") {
        return None;
    }
    match name.parse::<WalFileName>().ok()? {
        WalFileName::Segment(segment) => {
            Some(WalFile::Segment(segment.segment(size).unwrap(), size))
        }
        WalFileName::History(timeline) => Some(WalFile::History(timeline)),
        WalFileName::BackupHistory { .. } => Some(WalFile::BackupHistory(name.to_owned())),
        WalFileName::Partial(_) => Some(WalFile::Partial(name.to_owned())),
    }
}

/// Every name below a folder, links not followed.
pub(crate) fn tree(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(tree(&entry.path()));
        }
        found.insert(entry.path());
    }
    found
}

/// Nothing in the folder looks like a cluster that could be started.
pub(crate) fn assert_cannot_start(directory: &Path) {
    assert!(!directory.join("global/pg_control").exists(), "pg_control is there");
}
