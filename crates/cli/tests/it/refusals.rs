//! Restores that cannot be: refused before a byte is copied, with what would be possible.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use testbed::SmallDisk;

use crate::program::text;
use crate::site::{Site, files};

/// A cluster with a backup and a commit in each of five archived segments.
struct Story {
    site: Site,
    label: String,
    segments: Vec<String>,
    /// A time, a position, and a transaction in each segment.
    times: Vec<String>,
    positions: Vec<String>,
    xids: Vec<String>,
}

impl Story {
    fn make(major: u32) -> Self {
        let site = Site::new(major);
        site.cluster.psql("CREATE TABLE t (i int)");
        let (mut times, mut positions, mut xids) = (vec![now(&site)], Vec::new(), Vec::new());
        let label = site.backup();
        let segments = (1..=5)
            .map(|number| {
                positions.push(site.cluster.psql("SELECT pg_current_wal_insert_lsn()"));
                xids.push(site.cluster.psql(&format!(
                    "BEGIN; INSERT INTO t VALUES ({number}); SELECT pg_current_xact_id(); COMMIT"
                )));
                times.push(now(&site));
                site.archive()
            })
            .collect();
        Self { site, label, segments, times, positions, xids }
    }

    /// Checks that this target is refused with exit code 4, that nothing comes of it, and that
    /// `window` says the same; returns the message.
    #[track_caller]
    fn unreachable(&self, target: &str) -> String {
        let directory = self.site.folder.join("never");
        let before = self.site.objects("main", "lineage/");
        let words = format!("restore shop --to {} {target}", directory.display());
        let said = self.site.run(&words).failed("RF0312", 4);
        assert!(!directory.exists(), "{said}");
        assert_eq!(self.site.objects("main", "lineage/"), before, "nothing is reserved either");
        assert_eq!(self.site.run(&format!("window shop {target}")).failed("RF0312", 4), said);
        said
    }
}

fn now(site: &Site) -> String {
    site.cluster.psql(
        "SET timezone = 'UTC'; \
         SELECT to_char(clock_timestamp(), 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    )
}

#[test]
fn targets_out_of_reach_are_refused_and_the_nearest_are_named() {
    let story = Story::make(15);
    let consistent = format!("--immediate --backup {}", story.label);
    for early in [
        format!("--target-time {}", story.times[0]),
        "--target-time 1999-12-31T23:59:59-08:00".into(),
        "--target-lsn 0/100028".into(),
    ] {
        let said = story.unreachable(&early);
        assert!(said.contains(&consistent), "{early}: {said}");
    }
    for late in [
        "--target-time 2199-12-31T23:59:59Z",
        "--target-lsn FF/28",
        "--target-xid 4000000000",
        "--target-name nobody-made-it",
        "--before FF/28",
    ] {
        let said = story.unreachable(late);
        assert!(said.contains("nearest reachable: "), "{late}: {said}");
        assert!(said.contains("--latest"), "{late}: {said}");
    }
    // The named ones are reachable indeed.
    for nearest in [consistent, "--latest".to_owned()] {
        story.site.run(&format!("window shop {nearest}")).done();
    }
    story.site.run("restore shop --to /x --latest --backup none-has-it").failed("RF0311", 1);
    story.site.run("restore shop --to /x --latest --timeline 9").failed("RF0311", 1);
}

#[test]
fn targets_in_and_behind_a_gap_are_refused_and_those_around_it_are_reached() {
    let story = Story::make(18);
    for name in ["main", "second"] {
        fs::remove_file(story.site.wal_object(name, &story.segments[2])).unwrap();
    }
    let missing = story.segments[2].clone();
    for target in [
        format!("--target-lsn {}", story.positions[2]),
        format!("--target-lsn {}", story.positions[4]),
        format!("--target-xid {}", story.xids[2]),
        format!("--target-xid {}", story.xids[4]),
        format!("--target-time {}", story.times[4]),
        "--latest".to_owned(),
    ] {
        let said = story.unreachable(&target);
        assert!(said.contains("nearest reachable: "), "{target}: {said}");
    }
    let window = story.site.run("window shop").ended(3);
    assert!(text(&window, "holes.0").contains(&missing), "{window}");
    let status = story.site.run("wal status shop").ended(3);
    assert_eq!(text(&status, "timelines.0.holes.0"), missing, "{status}");
    // Before the hole, and, with a new backup, behind it.
    let target = format!("--copy --target-time {}", story.times[1]);
    let before = story.site.restore("before", &target).cluster;
    assert_eq!(before.psql("SELECT max(i) FROM t"), "1");
    story.site.backup();
    story.site.cluster.psql("INSERT INTO t VALUES (6)");
    story.site.archive();
    let behind = story.site.restore("behind", "--copy --latest").cluster;
    assert_eq!(behind.psql("SELECT max(i), count(*) FROM t"), "6|6");
}

#[test]
fn arguments_that_mean_nothing_end_with_2() {
    let site = Site::new(16);
    site.backup();
    for words in [
        "restore shop --to /x --target-time 2026-11-20T14:31:06",
        "restore shop --to /x --target-time yesterday",
        "window shop --target-time 2026-11-20T14:31:06",
        "locate shop --since 2026-11-20T14:31:06",
        "restore shop --to /x --target-lsn nonsense",
        "restore shop --to /x --target-xid -1",
        "restore shop --to /x --latest --immediate",
        "restore shop",
        "restore shop --to /x --tablespace nonsense",
        "restore shop --to /x --repository third",
        "explain RF9999",
        "no-such-command",
        "wal",
    ] {
        let said = site.run(words).failed("RF0911", 2);
        assert!(!said.contains("panicked"), "{said}");
    }
    let naive = site.run("restore shop --to /x --target-time 2026-11-20T14:31:06");
    assert!(naive.failed("RF0911", 2).contains("offset from UTC"), "{}", naive.stderr);
    let said = site.run("backup shopp").failed("RF0905", 2);
    assert!(said.contains("known: shop"), "{said}");
}

/// What is in a folder: paths, sizes and owners.
fn snapshot(folder: &Path) -> Vec<(PathBuf, u64, u32)> {
    let look = |path: PathBuf| {
        let meta = fs::symlink_metadata(&path).unwrap();
        (path, meta.len(), std::os::unix::fs::MetadataExt::uid(&meta))
    };
    let mut found: Vec<_> = files(folder).into_iter().map(look).collect();
    found.sort();
    found
}

#[test]
fn directories_that_are_not_ours_to_fill_are_left_as_they_are() {
    let site = Site::new(14);
    site.cluster.psql("CREATE TABLE t AS SELECT i FROM generate_series(1, 10000) i");
    site.backup();
    // Nothing is archived any more while folders are compared.
    site.archive();
    let reserved = site.objects("main", "lineage/");
    let check = |folder: &Path, code: &str, exit: i32| {
        let before = snapshot(folder.parent().unwrap());
        let words = format!("restore shop --to {}", folder.display());
        let said = site.run(&words).failed(code, exit);
        assert!(said.contains(&folder.display().to_string()), "{said}");
        assert_eq!(snapshot(folder.parent().unwrap()), before, "{code}");
    };
    let full = site.folder.folder("taken", 0o700);
    site.folder.file("taken/letter", "dear");
    check(&full, "RF0701", 4);

    let foreign = site.folder.folder("foreign", 0o777);
    chown(&foreign, Some(1), Some(1)).expect("run as root");
    check(&foreign, "RF0703", 4);

    let small = SmallDisk::new(8);
    let directory = small.path().join("data");
    let said = site.run(&format!("restore shop --to {}", directory.display()));
    assert!(said.failed("RF0705", 1).contains(" free, expected at least "), "{}", said.stderr);
    assert!(files(small.path()).is_empty());
    assert_eq!(site.objects("main", "lineage/"), reserved, "no timeline was taken for any of them");
    let closed = site.folder.folder("closed", 0o700);
    chown(&closed, Some(0), Some(0)).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o755)).unwrap();
    check(&closed.join("inside"), "RF0704", 1);
    let file = site.folder.file("plain-file", "x");
    check(&file, "RF0704", 1);

    let words = format!("restore shop --to {}", site.cluster.data_dir().display());
    site.run(&words).failed("RF0702", 4);
    assert_eq!(site.cluster.psql("SELECT count(*) FROM t"), "10000");
}

#[test]
fn where_this_user_cannot_write_nothing_is_made() {
    let site = Site::new(18);
    let space = site.folder.folder("space", 0o700);
    site.cluster.psql(&format!("CREATE TABLESPACE space LOCATION '{}'", space.display()));
    site.backup();
    site.archive();
    let spaces = format!("--tablespaces {}", site.folder.join("spaces").display());
    // Nothing is reserved either.
    let records = || ["main", "second"].map(|name| site.objects(name, "lineage/"));
    let before = records();
    let cannot = |directory: &Path, spaces: &str, closed: &Path, part: &str| {
        let words = format!("restore shop --to {} {spaces} --start", directory.display());
        let said = site.run(&words).failed("RF0704", 1);
        assert!(said.contains(part), "{said}");
        assert!(said.contains(&closed.display().to_string()), "{said}");
        // A closed folder can still be looked into: the test is root.
        assert_eq!(fs::read_dir(closed).unwrap().count(), 0, "{said}");
        assert_eq!(records(), before, "a timeline was taken: {said}");
    };
    let refused =
        |directory: &Path, closed: &Path, part: &str| cannot(directory, &spaces, closed, part);
    let closed = site.folder.folder("closed", 0o755);
    chown(&closed, Some(0), Some(0)).expect("run as root");
    refused(&closed.join("data"), &closed, "ermission denied");
    refused(&closed.join("to/be/made/data"), &closed, "ermission denied");
    let below = format!("--tablespaces {}", closed.join("spaces").display());
    cannot(&site.folder.join("open"), &below, &closed, "ermission denied");
    assert!(!site.folder.join("open").exists());
    // One that it may not even look into.
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    refused(&closed.join("data"), &closed, "ermission denied");

    let disk = SmallDisk::new(200);
    disk.set_read_only();
    refused(&disk.path().join("data"), disk.path(), "ead-only file system");

    // The same words succeed once somebody has given way, and a folder's own mode is ours to set.
    testbed::give_to_postgres(&closed);
    let made = site.restored("closed/to/be/made/data", &format!("--latest {spaces}"));
    assert_eq!(made.report["reserved_timeline"], 2, "the first one that was taken");
    site.folder.folder("no-writing", 0o500);
    site.restored("no-writing", &format!("--latest --tablespaces {}", closed.display()));
}

#[test]
fn a_disk_that_fills_up_during_the_restore_leaves_nothing_that_starts() {
    let site = Site::new(17);
    site.cluster.psql("CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i");
    site.backup();
    let size = site.run("backups shop").done()["backups"][0]["size"].as_u64().unwrap();
    let mib = u32::try_from(size >> 20).unwrap();
    let small = SmallDisk::new(mib * 2 + 40);
    let directory = small.path().join("data");
    let mut restore = site.command(&format!("restore shop --copy --to {}", directory.display()));
    restore.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = restore.spawn().unwrap();
    // Once it has begun, somebody else takes the room.
    let begun = || directory.join("PG_VERSION").exists() || directory.join("base").exists();
    testbed::poll(crate::site::DEADLINE, "the restore to begin", || {
        begun() || child.try_wait().unwrap().is_some()
    });
    let filler = small.path().join("filler");
    take_all_room(&filler);
    let output = child.wait_with_output().unwrap();
    let ran = crate::program::Ran::from_output("restore".into(), &output);
    if !output.status.success() {
        ran.failed("RF0705", 1);
        assert!(!directory.join("global/pg_control").exists());
    }
    fs::remove_file(filler).unwrap();
    if !output.status.success() {
        // The same directory, now that there is room.
        site.run(&format!("restore shop --copy --to {}", directory.display())).done();
    }
    assert!(directory.join("global/pg_control").exists());
}

/// Writes zeros until there is no room left.
fn take_all_room(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    let zeros = [0; 64 << 10];
    let error = loop {
        if let Err(error) = std::io::Write::write_all(&mut file, &zeros) {
            break error;
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}
