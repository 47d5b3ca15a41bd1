//! A restored cluster of every major holds what was backed up, and is in quarantine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pg::recovery::{RecoveryTarget, TargetAction};
use pg::{MajorVersion, TimelineId};
use restore::{Destiny, Quarantine};
use testbed::postgres::{Builder, Cluster};

use crate::fixture::{Backup, SOON, builder, spool};

/// Numbers of everything that was written, over all databases of the test.
const SUMS: &str = "SELECT (SELECT count(*) || '/' || sum(id) || '/' || min(code) FROM orders),
    (SELECT sum(g) FROM spaced), (SELECT count(*) FROM empty), (SELECT count(*) FROM later)";

fn fill(cluster: &Cluster) {
    spool(cluster);
    let space = cluster.data_dir().parent().unwrap().join("space");
    fs::create_dir(&space).unwrap();
    testbed::give_to_postgres(&space);
    cluster.psql(&format!("CREATE TABLESPACE fast LOCATION '{}'", space.display()));
    cluster.psql("CREATE DATABASE shop");
    cluster.psql_in(
        "shop",
        "CREATE TABLE orders AS
            SELECT g AS id, md5(g::text) AS code, repeat(md5((g * 7)::text), 8) AS note
            FROM generate_series(1, 90000) g;
         CREATE INDEX ON orders (code);
         CREATE TABLE spaced TABLESPACE fast AS SELECT g FROM generate_series(1, 5000) g;
         CREATE UNLOGGED TABLE scratch AS SELECT g FROM generate_series(1, 5000) g;
         CREATE TABLE empty (x int);
         CREATE TABLE later (x int);
         CREATE EXTENSION amcheck;
         CHECKPOINT;
         BEGIN; INSERT INTO empty VALUES (1); PREPARE TRANSACTION 'pending'",
    );
}

/// Settings whose values in a restored cluster are not the source's.
fn check_quarantine(restored: &Cluster, major: u32) {
    let show = |name: &str| restored.psql(&format!("SHOW {name}"));
    for (name, expect) in [
        ("listen_addresses", "127.0.0.1"),
        ("synchronous_standby_names", ""),
        ("primary_conninfo", ""),
        ("primary_slot_name", ""),
        ("max_logical_replication_workers", "0"),
        ("ssl", "off"),
        ("archive_mode", "off"),
        ("archive_command", "(disabled)"),
        ("logging_collector", "off"),
        ("huge_pages", "try"),
        // The source's: replay stops when one is lower.
        ("max_connections", "61"),
        ("max_worker_processes", "9"),
        ("max_wal_senders", "7"),
        ("max_prepared_transactions", "5"),
        ("max_locks_per_transaction", "71"),
        // Everything else too.
        ("work_mem", "5MB"),
    ] {
        assert_eq!(show(name), expect, "{name}");
    }
    assert_eq!(
        show("hba_file"),
        restored.data_dir().join("rollforward.hba.conf").to_str().unwrap()
    );
    let exists = |name: &str| {
        restored.psql(&format!("SELECT count(*) FROM pg_settings WHERE name = '{name}'")) == "1"
    };
    assert_eq!(exists("synchronized_standby_slots"), major >= 17);
    assert_eq!(exists("archive_library"), major >= 15);
    assert_eq!(exists("stats_temp_directory"), major <= 14);
    if major >= 17 {
        assert_eq!(show("synchronized_standby_slots"), "");
    }
    if major <= 14 {
        assert_eq!(show("stats_temp_directory"), "pg_stat_tmp");
    }
    // The socket's folder is the tests' own.
    let faults = "SELECT string_agg(name || ' ' || error, ', ') FROM pg_file_settings
        WHERE error IS NOT NULL AND name <> 'unix_socket_directories'";
    assert_eq!(restored.psql(faults), "");
}

fn source(major: u32) -> Builder {
    let builder = builder(major)
        .setting("max_connections", "61")
        .setting("max_worker_processes", "9")
        .setting("max_wal_senders", "7")
        .setting("max_prepared_transactions", "5")
        .setting("max_locks_per_transaction", "71")
        .setting("work_mem", "5MB")
        .setting("synchronous_commit", "local")
        .setting("synchronous_standby_names", "other")
        .setting("primary_conninfo", "host=production.example")
        .setting("primary_slot_name", "mine")
        .setting("recovery_target_time", "2020-01-01 00:00:00+00")
        .setting("restore_command", "false")
        .setting("log_directory", "/var/log/of-the-original");
    if major >= 17 { builder.setting("synchronized_standby_slots", "gone") } else { builder }
}

/// Without its label a restored cluster must not start: it would miss WAL and nobody would know.
fn check_label_is_needed(restored: &mut Cluster) {
    let directory = restored.data_dir().to_owned();
    let (label, aside) = (directory.join("backup_label"), directory.join("label.aside"));
    let signal = directory.join("recovery.signal");
    for with_signal in [true, false] {
        fs::rename(&label, &aside).unwrap();
        if !with_signal {
            fs::rename(&signal, directory.join("signal.aside")).unwrap();
        }
        let failure = restored.try_start().unwrap_err();
        assert!(failure.log.contains("checkpoint"), "{}", failure.log);
        fs::rename(&aside, &label).unwrap();
    }
    fs::rename(directory.join("signal.aside"), &signal).unwrap();
}

async fn recovers(builder: Builder, major: u32) {
    let source = builder.start();
    fill(&source);
    let later = || drop(source.psql_in("shop", "INSERT INTO later SELECT generate_series(1, 77)"));
    let backup = Backup::made(&source, 1, later).await;
    let options = backup.options(&backup.directory());
    let report = backup.restore(&options).await.unwrap();
    for name in ["recovery_target_time", "restore_command", "primary_conninfo", "primary_slot_name"]
    {
        let mut taken = report.taken_out.iter();
        assert!(
            taken.any(|line| line.starts_with("postgresql.conf:") && line.ends_with(name)),
            "{name}"
        );
    }
    assert_eq!(report.tablespaces.len(), 1);
    let mut restored = backup.cluster(&options);
    check_label_is_needed(&mut restored);
    restored.start();
    restored.wait_until("SELECT pg_is_in_recovery()", "f", SOON);
    assert_eq!(restored.psql_in("shop", SUMS), source.psql_in("shop", SUMS));
    assert_eq!(restored.psql_in("shop", "SELECT count(*) FROM scratch"), "0");
    assert_eq!(restored.psql("SELECT gid FROM pg_prepared_xacts"), "pending");
    restored.psql_in("shop", "SELECT bt_index_check('orders_code_idx', true)");
    restored.psql_in("shop", "INSERT INTO spaced VALUES (1)");
    let place = backup.workdir.join("spaces").join(report.tablespaces[0].0.to_string());
    assert_eq!(report.tablespaces[0].1, place);
    let place = place.to_str().unwrap().to_owned();
    let location = "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'fast'";
    assert_eq!(restored.psql(location), place);
    check_quarantine(&restored, major);
    assert!(!options.directory.join("recovery.signal").exists());
    assert!(!options.directory.join("standby.signal").exists());
    check_lift(&mut restored, &options.directory, major);
}

fn check_lift(restored: &mut Cluster, directory: &Path, major: u32) {
    assert!(restore::quarantine::is_quarantined(directory).unwrap());
    // It rewrites the file and drops the marks of our block.
    restored.psql("ALTER SYSTEM SET maintenance_work_mem = '9MB'");
    let auto = || fs::read_to_string(directory.join("postgresql.auto.conf")).unwrap();
    assert!(!auto().contains("BEGIN"), "{}", auto());
    assert!(restore::quarantine::is_quarantined(directory).unwrap());
    let kept = [("archive_mode", "off".to_owned())];
    let version = MajorVersion::SUPPORTED.into_iter().find(|known| known.get() == major).unwrap();
    let lifted = restore::quarantine::lift(directory, &kept, version).unwrap();
    for name in ["port", "hba_file", "max_logical_replication_workers", "max_connections"] {
        assert!(lifted.iter().any(|lifted| lifted == name), "{name} {lifted:?}");
    }
    assert!(!lifted.iter().any(|name| name == "archive_mode"), "{lifted:?}");
    assert!(!auto().contains("restore_command"), "{}", auto());
    restored.restart();
    let show = |name: &str| restored.psql(&format!("SHOW {name}"));
    assert_eq!(show("archive_mode"), "off");
    assert_eq!(show("maintenance_work_mem"), "9MB");
    assert_eq!(show("max_connections"), "61");
    assert_ne!(show("max_logical_replication_workers"), "0");
    assert_eq!(show("hba_file"), directory.join("pg_hba.conf").to_str().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_14_comes_back() {
    recovers(source(14).wal_segsize_mb(1), 14).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_15_comes_back() {
    recovers(source(15).initdb_arg("--allow-group-access"), 15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_16_without_checksums_comes_back() {
    recovers(source(16).data_checksums(false), 16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_17_comes_back() {
    recovers(source(17).wal_segsize_mb(1), 17).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_18_comes_back() {
    recovers(source(18), 18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_pauses_at_its_target_and_a_successor_holds_its_wal() {
    let source = builder(18).start();
    spool(&source);
    source.psql("CREATE TABLE t (x int)");
    let mut target = None;
    let later = || {
        source.psql("INSERT INTO t VALUES (1)");
        target = Some(source.psql("SELECT pg_current_wal_insert_lsn()"));
        source.psql("INSERT INTO t VALUES (2)");
    };
    let backup = Backup::made(&source, 1, later).await;
    let lsn = target.unwrap().parse().unwrap();
    let recovery = |action| {
        let command = format!("cp {}/%f %p", backup.wal.display());
        let target = Some(RecoveryTarget::Lsn { lsn, inclusive: false });
        Some(Quarantine::recovery(command, backup.root.summary.timeline, target, action))
    };
    let mut options = backup.options(&backup.directory());
    options.quarantine.recovery = recovery(TargetAction::Pause);
    let told = b"1\t0/3000000\ta history is not looked into here\n".to_vec();
    options.histories = vec![(TimelineId::new(0x1F), told.clone())];
    backup.restore(&options).await.unwrap();
    let history = options.directory.join("pg_wal/0000001F.history");
    assert_eq!(fs::read(&history).unwrap(), told);
    assert_eq!(fs::metadata(&history).unwrap().permissions().mode() & 0o777, 0o600);
    let mut paused = backup.cluster(&options);
    paused.start();
    paused.wait_until("SELECT pg_get_wal_replay_pause_state()", "paused", SOON);
    assert_eq!(paused.psql("SELECT count(*) FROM t"), "1");
    drop(paused);

    let mut options = backup.options(&backup.workdir.join("successor"));
    options.quarantine.recovery = recovery(TargetAction::Promote);
    options.quarantine.destiny = Destiny::Production { hold_command: "exit 1".into() };
    let (successor, _) = backup.restored(&options).await;
    assert_eq!(successor.psql("SELECT count(*) FROM t"), "1");
    assert_eq!(successor.psql("SHOW archive_mode"), "on");
    assert_eq!(successor.psql("SHOW archive_command"), "exit 1");
    successor.switch_wal();
    successor.wait_until(
        "SELECT failed_count > 0 AND archived_count = 0 FROM pg_stat_archiver",
        "t",
        SOON,
    );
    let held = options.directory.join("pg_wal/archive_status");
    let ready = |path: &std::path::PathBuf| path.extension().is_some_and(|it| it == "ready");
    assert!(crate::fixture::tree(&held).iter().any(ready), "its WAL is kept");
}
