//! Disks that are too small, and disks that fill up.

use std::sync::Mutex;

use restore::{Error, Progress};
use stdx::SystemClock;
use testbed::SmallDisk;
use testbed::postgres::Cluster;

use crate::fixture::{Backup, assert_cannot_start, builder, spool};

/// Fills the disk when the first bytes have been written.
struct Filler<'a> {
    disk: &'a SmallDisk,
    filler: Mutex<Option<std::path::PathBuf>>,
}

impl Progress for Filler<'_> {
    fn total(&self, _bytes: u64, _files: u64) {}

    fn advance(&self, _bytes: u64) {
        let mut filler = self.filler.lock().unwrap();
        if filler.is_none() {
            *filler = Some(self.disk.fill(1 << 20));
        }
    }

    fn note(&self, _text: &str) {}
}

fn source() -> Cluster {
    let cluster = builder(17).start();
    spool(&cluster);
    cluster.psql(
        "CREATE TABLE t AS SELECT g AS id, repeat('x', 200) FROM generate_series(1, 90000) g",
    );
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn too_little_room_is_found_before_anything_is_written() {
    let backup = Backup::of(&source()).await;
    let needed = backup.root.summary.size;
    let small = u32::try_from(needed >> 20).unwrap();
    let disk = SmallDisk::new(small);
    let options = backup.options(&disk.path().join("data"));
    let error = backup.restore(&options).await.unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
    assert!(!options.directory.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn room_is_counted_for_each_file_system() {
    let source = builder(17).start();
    spool(&source);
    let space = source.data_dir().parent().unwrap().join("space");
    std::fs::create_dir(&space).unwrap();
    testbed::give_to_postgres(&space);
    source.psql(&format!("CREATE TABLESPACE fast LOCATION '{}'", space.display()));
    source.psql(
        "CREATE TABLE t TABLESPACE fast AS
            SELECT g AS id, repeat('x', 200) FROM generate_series(1, 200000) g",
    );
    let backup = Backup::of(&source).await;
    let disk = SmallDisk::new(20);
    let mut options = backup.options(&backup.directory());
    options.tablespaces.below = Some(disk.path().join("spaces"));
    let error = backup.restore(&options).await.unwrap_err();
    let Error::NoSpace { path, .. } = &error else { panic!("{error:?}") };
    assert!(path.starts_with(disk.path()), "{error}");
    assert!(!options.directory.exists());
    // With room for the tablespace alone it fits: the rest lies elsewhere.
    let disk = SmallDisk::new(64);
    options.tablespaces.below = Some(disk.path().join("spaces"));
    let (restored, _) = backup.restored(&options).await;
    assert_eq!(restored.psql("SELECT count(*) FROM t"), "200000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_leaves_nothing_that_starts_and_a_repeat_succeeds() {
    let backup = Backup::of(&source()).await;
    let disk = SmallDisk::new(400);
    let options = backup.options(&disk.path().join("data"));
    let filler = Filler { disk: &disk, filler: Mutex::default() };
    let clock = SystemClock::new();
    let seen = restore::restore(&backup.repository, &backup.root, &options, &filler, &clock).await;
    let error = seen.unwrap_err();
    let Error::DiskFull { path } = &error else { panic!("{error:?}") };
    assert!(path.starts_with(&options.directory), "{error}");
    assert_cannot_start(&options.directory);
    // Still full: the unfinished restore is counted as room, and that is not enough.
    let error = backup.restore(&options).await.unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
    std::fs::remove_file(filler.filler.into_inner().unwrap().unwrap()).unwrap();
    let (restored, _) = backup.restored(&options).await;
    assert_eq!(restored.psql("SELECT count(*) FROM t"), "90000");
}
