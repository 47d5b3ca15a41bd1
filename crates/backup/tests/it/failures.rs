//! What ends a backup before its time leaves nothing that looks like one, and the next one works.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backup::{Cancel, Error, Progress};
use repository::target::{Request, Target, resolve};
use stdx::{Clock, Diagnostic, SystemClock};
use store::testing::{Fault, FaultPlan, Faulty, Operation};
use store::{MemoryStore, Store};
use testbed::poll;
use testbed::postgres::Stop;

use crate::fixture::{Notes, Protected, builder};
use crate::forgetful::Forgetful;
use crate::image::Image;

const SOON: Duration = Duration::from_secs(60);

/// Calls back once, when a backup gets somewhere.
struct Hook<F> {
    at: Moment,
    action: F,
    done: AtomicBool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// It is about to ask PostgreSQL to begin.
    Starting,
    /// The files are listed, nothing is copied.
    Listed,
    /// Some bytes are copied.
    Copying,
    /// It waits for its WAL.
    WaitingForWal,
}

impl<F: Fn() + Send + Sync> Hook<F> {
    fn new(at: Moment, action: F) -> Self {
        Self { at, action, done: AtomicBool::new(false) }
    }

    fn came(&self, at: Moment) {
        if self.at == at && !self.done.swap(true, Ordering::SeqCst) {
            (self.action)();
        }
    }
}

impl<F: Fn() + Send + Sync> Progress for Hook<F> {
    fn total(&self, _bytes: u64, _files: u64) {
        self.came(Moment::Listed);
    }

    fn advance(&self, _bytes: u64) {
        self.came(Moment::Copying);
    }

    fn note(&self, text: &str) {
        if text.contains("waiting for WAL") {
            self.came(Moment::WaitingForWal);
        }
        if text.contains("waiting for the checkpoint") {
            self.came(Moment::Starting);
        }
    }
}

async fn backup_with(
    protected: &Protected,
    progress: &dyn Progress,
) -> Result<backup::Report, Error> {
    backup::full(&protected.repository, &protected.options, progress, &SystemClock::new()).await
}

/// No root, no pack, no lease, no session in backup mode.
async fn nothing_is_left(protected: &Protected) {
    assert_eq!(protected.labels().await, [""; 0]);
    for prefix in ["pack/", repository::names::LEASES] {
        let left = protected.repository.list(prefix).await.unwrap();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// The next backup works and is whole.
async fn works_again(protected: &Protected) {
    let report = protected.backup().await;
    assert_eq!(protected.labels().await.len(), 1);
    let image = Image::read(&protected.repository, protected.lineage, &report.summary.label).await;
    assert!(image.files.len() > 900, "{}", image.files.len());
}

fn kill_postmaster(protected: &Protected, signal: &str) {
    let pid = std::fs::read_to_string(protected.cluster.data_dir().join("postmaster.pid")).unwrap();
    let pid = pid.lines().next().unwrap().to_owned();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    poll(SOON, "the server to stop", || !protected.cluster.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_stopped_ends_the_backup() {
    let mut protected = Protected::start(builder(16)).await;
    for signal in ["-QUIT", "-INT"] {
        let hook = Hook::new(Moment::Copying, || kill_postmaster(&protected, signal));
        let error = backup_with(&protected, &hook).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Server(_)), "{error}");
        nothing_is_left(&protected).await;
        protected.cluster.stop(Stop::Fast);
        protected.cluster.start();
    }
    works_again(&protected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_backup_leaves_nothing() {
    let mut protected = Protected::start(builder(17)).await;
    for moment in [Moment::Listed, Moment::Copying] {
        protected.options.cancel = Cancel::default();
        let cancel = protected.options.cancel.clone();
        let hook = Hook::new(moment, || cancel.cancel());
        let error = backup_with(&protected, &hook).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Cancelled { .. }), "{error}");
        assert_eq!(error.info().code, "RF0614");
        nothing_is_left(&protected).await;
    }
    // The server has ended its backup mode with the session.
    let sessions =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'rollforward backup%'";
    protected.cluster.wait_until(sessions, "0", SOON);
    protected.options.cancel = Cancel::default();
    works_again(&protected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_wal_does_not_arrive_does_not_exist() {
    let mut protected = Protected::start(builder(15)).await;
    protected.stop_archiver();
    protected.options.wal_timeout = Duration::from_secs(2);
    let error = protected.backup_err().await;
    assert!(matches!(error, Error::WalNotArchived { .. }), "{error}");
    // The archive command works; it archives elsewhere.
    assert!(error.to_string().contains("is it archiving here?"), "{error}");
    nothing_is_left(&protected).await;

    protected.options.wal_timeout = SOON;
    protected.options.cancel = Cancel::default();
    let cancel = protected.options.cancel.clone();
    let hook = Hook::new(Moment::WaitingForWal, || cancel.cancel());
    let error = backup_with(&protected, &hook).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
    nothing_is_left(&protected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_about_archiving_shows_its_last_failure() {
    let mut protected = Protected::start(builder(18)).await;
    protected.cluster.append_setting("archive_command", "false");
    protected.cluster.reload();
    protected.cluster.switch_wal();
    let failing = "SELECT failed_count > 0 FROM pg_stat_archiver";
    protected.cluster.wait_until(failing, "t", SOON);
    protected.options.wal_timeout = Duration::from_secs(2);
    let error = protected.backup_err().await;
    assert!(error.to_string().contains("failed at"), "{error}");
    assert!(!error.hints().is_empty());
    nothing_is_left(&protected).await;
}

/// A store that fails once, at one operation.
async fn fails_at(operation: Operation, nth: u64) {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let plan = FaultPlan::new(1);
    let faulty = Faulty::new(Arc::clone(&memory), plan.at(operation, nth, Fault::Before));
    let faulty = Arc::new(faulty);
    let mut protected =
        Protected::start_with(builder(18), vec![Arc::clone(&faulty) as Arc<dyn Store>]).await;
    protected.options.wal_timeout = SOON;
    let error = protected.backup_err().await;
    assert_eq!(faulty.struck(), 1, "{operation:?} {nth}: {error}");
    assert!(matches!(error, Error::Repository(_)), "{operation:?} {nth}: {error}");
    nothing_is_left(&protected).await;
    works_again(&protected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_a_transfer_ends_the_backup() {
    // Uploads: the tree's, then the data packs'.
    for (operation, nth) in [
        (Operation::Upload, 0),
        (Operation::Upload, 1),
        (Operation::Write, 0),
        (Operation::Finish, 0),
        (Operation::Finish, 1),
    ] {
        fails_at(operation, nth).await;
    }
}

/// The bytes that both members hold.
async fn objects(store: &dyn Store) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for meta in store.list("", None, 100_000).await.unwrap() {
        found.push((meta.key.to_string(), store.get(&meta.key).await.unwrap().to_vec()));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn both_members_of_a_set_hold_the_same_bytes() {
    let stores: [Arc<dyn Store>; 2] = [Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new())];
    let protected = Protected::start_with(builder(16), stores.to_vec()).await;
    let report = protected.backup().await;
    protected.stop_archiver();
    let (first, second) = (objects(&*stores[0]).await, objects(&*stores[1]).await);
    assert!(first == second, "{} and {} objects", first.len(), second.len());
    for member in ["m0", "m1"] {
        let alone = protected.repository.only(member).unwrap();
        let image = Image::read(&alone, protected.lineage, &report.summary.label).await;
        assert!(image.files.len() > 900);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lacks_wal_keeps_the_backup_from_existing() {
    let second = Forgetful(Arc::new(MemoryStore::new()));
    let stores: [Arc<dyn Store>; 2] = [Arc::new(MemoryStore::new()), Arc::new(second)];
    let mut protected = Protected::start_with(builder(14), stores.to_vec()).await;
    protected.options.wal_timeout = Duration::from_secs(2);
    let error = protected.backup_err().await;
    assert!(matches!(error, Error::WalNotArchived { .. }), "{error}");
    nothing_is_left(&protected).await;
}

/// What was noted.
#[derive(Default)]
struct Sums(Mutex<(u64, u64)>);

impl Progress for Sums {
    fn total(&self, bytes: u64, _files: u64) {
        self.0.lock().unwrap().0 = bytes;
    }

    fn advance(&self, bytes: u64) {
        self.0.lock().unwrap().1 += bytes;
    }

    fn note(&self, text: &str) {
        Notes.note(text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_adds_up_to_the_total() {
    let protected = Protected::start(builder(18)).await;
    protected
        .cluster
        .psql("CREATE TABLE t AS SELECT g, md5(g::text) FROM generate_series(1, 50000) g");
    let sums = Sums::default();
    backup_with(&protected, &sums).await.unwrap();
    let (total, advanced) = *sums.0.lock().unwrap();
    assert!(total > 10_000_000, "{total}");
    assert_eq!(total, advanced);
}

/// What commits while the backup waits for its checkpoint is in its files, and before its redo: no
/// search from there would find it.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_before_the_redo_never_leads_to_that_backup() {
    let protected = Protected::start(builder(17)).await;
    let before = Mutex::new(None);
    let hook = Hook::new(Moment::Starting, || {
        protected.cluster.psql("CREATE TABLE damage (x int)");
        *before.lock().unwrap() = Some(SystemClock::new().now());
    });
    let summary = backup_with(&protected, &hook).await.unwrap().summary;
    let before = before.lock().unwrap().unwrap();
    protected.cluster.psql("CREATE TABLE later (x int)");
    let segment = protected.cluster.switch_wal();
    let prefix = repository::names::wal_prefix(protected.lineage, summary.timeline);
    let deadline = std::time::Instant::now() + SOON;
    let mut look = tokio::time::interval(Duration::from_millis(20));
    while !protected
        .repository
        .list(&prefix)
        .await
        .unwrap()
        .iter()
        .any(|meta| meta.key.as_str().ends_with(&segment))
    {
        assert!(std::time::Instant::now() < deadline, "'{segment}' is not archived");
        look.tick().await;
    }
    let lineage = repository::lineage::read(&protected.repository, protected.lineage);
    let lineage = lineage.await.unwrap();
    let resolved = async |time| {
        resolve(&protected.repository, &lineage, &Request::new(Target::Time(time))).await
    };
    assert_eq!(resolved(summary.stopped).await.unwrap().backup.label, summary.label);
    let error = resolved(before).await.unwrap_err();
    assert!(matches!(error, repository::Error::Unreachable { .. }), "{error}");
}

/// A database that ends every session at its beginning, as one at its limit of sessions does.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_no_session_costs_its_names_only() {
    let protected = Protected::start(builder(17)).await;
    protected.cluster.psql("CREATE DATABASE closed");
    protected.cluster.psql_in(
        "closed",
        "CREATE FUNCTION leave() RETURNS event_trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid()); END';
         CREATE EVENT TRIGGER leave ON login EXECUTE FUNCTION leave();
         ALTER EVENT TRIGGER leave ENABLE ALWAYS",
    );
    let report = protected.backup().await;
    let seen = report.warnings.iter().filter(|warning| warning.contains("'closed'")).count();
    assert_eq!(seen, 1, "{:?}", report.warnings);
    assert_eq!(protected.labels().await.len(), 1);
}
