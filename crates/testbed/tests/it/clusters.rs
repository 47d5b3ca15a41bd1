//! Servers of every supported major.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use testbed::postgres::{Cluster, Install, Stop, installed};
use testbed::{as_postgres, can_drop_privileges};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn every_major_is_installed_and_says_so() {
    let majors: Vec<u32> = installed().iter().map(|install| install.major).collect();
    assert_eq!(majors, [14, 15, 16, 17, 18]);
    for install in installed() {
        assert!(install.version().starts_with(&format!("{}.", install.major)), "{install:?}");
    }
    assert_eq!(Install::latest(), Install::by_major(18));
    for major in [15, 16, 18] {
        for tool in ["pg_waldump", "pg_controldata", "pg_checksums", "pg_amcheck", "pg_dump"] {
            let install = Install::by_major(major);
            let mut version = Command::new(install.tool(tool));
            let output = as_postgres(version.arg("--version")).output().unwrap();
            assert!(output.status.success(), "{tool} of {major}");
        }
    }
    assert!(!Install::by_major(17).has("pg_waldump"));
    assert!(!Install::by_major(18).has("pg_verifybackup"));
}

/// The life of a cluster on one major; the majors are tests of their own, to run side by side.
fn lives(major: u32) {
    let install = Install::by_major(major);
    let mut cluster = Cluster::builder(&install).setting("work_mem", "5MB").start();
    let reported: u32 = cluster.psql("SHOW server_version_num").parse().unwrap();
    assert_eq!(reported / 10_000, major);
    assert_eq!(cluster.psql("SHOW work_mem; SHOW data_checksums"), "5MB\non");
    if can_drop_privileges() {
        assert_ne!(fs::metadata(cluster.data_dir()).unwrap().uid(), 0);
    }
    for extension in ["amcheck", "pageinspect"] {
        cluster.psql(&format!("CREATE EXTENSION {extension}"));
    }
    cluster.psql("CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g; CHECKPOINT");
    assert!(cluster.psql_err("SELECT 1/0").contains("division by zero"));

    // Committed work survives the kill, and recovery really ran.
    cluster.psql("INSERT INTO t VALUES (0)");
    cluster.kill9();
    assert!(!cluster.is_running());
    cluster.start();
    assert_eq!(cluster.psql("SELECT count(*) FROM t"), "1001");
    assert!(cluster.log_text().contains("was not properly shut down"));

    let (before, name) = (cluster.psql("SELECT pg_current_wal_lsn()"), cluster.switch_wal());
    assert_eq!(name.len(), 24, "{name}");
    let moved = format!("SELECT pg_current_wal_lsn() > '{before}'");
    cluster.wait_until(&moved, "t", SOON);
    assert_ne!(cluster.switch_wal(), name);

    cluster.append_setting("work_mem", "6MB");
    cluster.reload();
    cluster.wait_until("SHOW work_mem", "6MB", SOON);
    cluster.stop(Stop::Fast);
    assert!(!cluster.data_dir().join("postmaster.pid").exists());
    cluster.restart();
    cluster.stop(Stop::Immediate);
    cluster.start();
    assert_eq!(cluster.psql("SELECT count(*) FROM t"), "1001");
}

#[test]
fn a_cluster_of_14_lives() {
    lives(14);
}

#[test]
fn a_cluster_of_15_lives() {
    lives(15);
}

#[test]
fn a_cluster_of_16_lives() {
    lives(16);
}

#[test]
fn a_cluster_of_17_lives() {
    lives(17);
}

#[test]
fn a_cluster_of_18_lives() {
    lives(18);
}

#[test]
fn segment_size_checksums_and_locale_are_as_asked() {
    for major in [14, 18] {
        let cluster = Cluster::builder(&Install::by_major(major))
            .wal_segsize_mb(1)
            .data_checksums(false)
            .initdb_arg("--locale=C.UTF-8")
            .start();
        let seen = cluster.psql("SHOW wal_segment_size; SHOW data_checksums; SHOW lc_messages");
        assert_eq!(seen, "1MB\noff\nC.UTF-8");
    }
}

#[test]
fn a_session_beside_holds_its_transaction() {
    let cluster = Cluster::builder(&Install::latest()).start();
    cluster.psql("CREATE TABLE t (i int)");
    let mut session = cluster.spawn_psql();
    assert_eq!(session.query("BEGIN; INSERT INTO t VALUES (1), (2) RETURNING i;"), "1\n2");
    assert_eq!(cluster.psql("SELECT count(*) FROM t"), "0");
    assert!(session.query("SELECT no_such_column;").contains("no_such_column"));
    assert_eq!(session.query("ROLLBACK;"), "");

    // A blocked statement does not block the test, and a dropped session is gone.
    let mut holder = cluster.spawn_psql();
    holder.query("BEGIN; LOCK TABLE t;");
    session.send("SELECT count(*) FROM t;");
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    cluster.wait_until(waiting, "1", SOON);
    drop(holder);
    cluster.wait_until(waiting, "0", SOON);
    assert_eq!(session.finish(), "0");
}

#[test]
fn a_start_that_fails_shows_why() {
    let mut cluster = Cluster::builder(&Install::latest()).create();
    cluster.append_setting("shared_buffers", "no size at all");
    let failure = cluster.try_start().unwrap_err();
    assert!(!failure.status.success());
    assert!(failure.log.contains("no size at all"), "{}", failure.log);
    cluster.append_setting("shared_buffers", "16MB");
    cluster.start();
}

#[test]
fn a_copied_data_directory_is_attached_started_and_left_in_place() {
    let mut cluster = Cluster::builder(&Install::latest()).start();
    cluster.psql("CREATE TABLE t AS SELECT 7 AS i");
    cluster.stop(Stop::Fast);
    let workdir = testbed::Workdir::new();
    let copy = workdir.join("copy");
    let mut command = Command::new("cp");
    as_postgres(command.arg("-a").args([cluster.data_dir(), &copy]));
    assert!(command.status().unwrap().success());
    let port = testbed::Port::reserve();
    let mut restored = Cluster::attach(cluster.install(), &copy, port.number());
    restored.start();
    assert_eq!(restored.psql("SELECT i FROM t; SHOW port"), format!("7\n{}", port.number()));

    drop(restored);
    assert!(copy.join("PG_VERSION").exists());

    // One that somebody else started is found by its pid file, with its socket, and stopped.
    let mut pg_ctl = Command::new(cluster.install().tool("pg_ctl"));
    as_postgres(&mut pg_ctl)
        .args(["start", "-w", "-l"])
        .arg(workdir.join("log"))
        .arg("-D")
        .arg(&copy);
    pg_ctl.args(["-o", &format!("-p {} -k {}", port.number(), workdir.path().display())]);
    assert!(pg_ctl.stdout(Stdio::null()).status().unwrap().success());
    let mut found = Cluster::attach(cluster.install(), &copy, 1);
    assert_eq!((found.port(), found.socket_dir()), (port.number(), workdir.path()));
    assert_eq!(found.psql("SELECT i FROM t"), "7");
    found.stop(Stop::Fast);
    assert!(!found.is_running());
    found.start();
    assert_eq!(found.psql("SELECT i FROM t"), "7");
}

#[test]
fn nothing_remains_after_a_panic() {
    let mut left: Option<(PathBuf, String)> = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        let cluster = Cluster::builder(&Install::by_major(15)).start();
        let pid = cluster.psql(
            "SELECT split_part(\
            pg_read_file('postmaster.pid'), E'\\n', 1)",
        );
        left = Some((cluster.data_dir().to_owned(), pid));
        panic!("a test fails");
    }));
    assert!(result.is_err());
    let (data_dir, pid) = left.unwrap();
    assert!(!data_dir.exists());
    assert!(!PathBuf::from(format!("/proc/{pid}")).exists());
}
