//! The session in which a backup begins and ends.

use std::fs;
use std::path::Path;
use std::time::Duration;

use pgclient::{BackupSession, Error, StartOptions};
use stdx::Diagnostic;
use testbed::Workdir;
use testbed::postgres::{Cluster, Install, installed};

use crate::bench::connect;

const DEADLINE: Duration = Duration::from_secs(60);

fn options() -> StartOptions {
    StartOptions { fast: true, label: r"nightly 'é' \1".into(), deadline: DEADLINE }
}

async fn begin(cluster: &Cluster) -> BackupSession {
    BackupSession::start(connect(cluster).await, &options()).await.unwrap()
}

/// The file that PostgreSQL itself leaves about a finished backup.
fn history_file(data_dir: &Path) -> String {
    let wal = fs::read_dir(data_dir.join("pg_wal")).unwrap();
    let mut files = wal.map(|entry| entry.unwrap().path());
    let file = files.find(|path| path.extension().is_some_and(|it| it == "backup")).unwrap();
    fs::read_to_string(file).unwrap()
}

#[tokio::test]
async fn a_backup_begins_and_ends_on_every_major() {
    for install in installed() {
        // Without archiving the server would remove its own record at once.
        let cluster = Cluster::builder(&install)
            .setting("archive_mode", "on")
            .setting("archive_command", "false")
            .start();
        let elsewhere = Workdir::new();
        let space = elsewhere.folder("a \\ space", 0o700);
        cluster.psql(&format!("CREATE TABLESPACE far LOCATION '{}'", space.display()));
        let session = begin(&cluster).await;
        let start = session.start_lsn();
        assert_eq!((session.timeline().get(), session.in_recovery()), (1, false));
        assert!(session.check().is_ok());
        cluster.psql("CREATE TABLE t AS SELECT generate_series(1, 1000)");
        let stopped = session.stop(DEADLINE).await.unwrap();
        assert!(stopped.stop > start, "{start} {}", stopped.stop);

        let label = String::from_utf8(stopped.backup_label).unwrap();
        assert!(label.starts_with(&format!("START WAL LOCATION: {start} (file ")), "{label}");
        assert!(label.contains("\nLABEL: nightly 'é' \\1\n") && label.ends_with('\n'), "{label}");
        // The server's own record has the same lines, and where it stopped, between them.
        let history = history_file(cluster.data_dir());
        let lines: Vec<&str> = history.lines().filter(|line| !line.starts_with("STOP")).collect();
        let ours: Vec<&str> =
            label.lines().filter(|line| !line.starts_with("BACKUP METHOD")).collect();
        assert!(ours.iter().all(|line| lines.contains(line)), "{label}\n{history}");
        assert!(history.contains(&format!("STOP WAL LOCATION: {} ", stopped.stop)), "{history}");
        let map = String::from_utf8(stopped.tablespace_map).unwrap();
        assert!(map.ends_with(" space\n") && map.lines().count() == 1, "{map:?}");
    }
}

#[tokio::test]
async fn without_tablespaces_the_map_is_empty() {
    let cluster = Cluster::builder(&Install::latest()).start();
    let stopped = begin(&cluster).await.stop(DEADLINE).await.unwrap();
    assert_eq!(stopped.tablespace_map, b"");
}

#[tokio::test]
async fn a_killed_session_is_noticed_and_cannot_be_finished() {
    for install in installed() {
        let cluster = Cluster::builder(&install).start();
        let session = begin(&cluster).await;
        let start = session.start_lsn();
        cluster.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE application_name = 'rollforward'",
        );
        let lost = tokio::time::timeout(DEADLINE, session.lost()).await.unwrap();
        assert!(lost.to_string().contains("administrator command"), "{lost}");
        assert!(session.check().is_err());
        let error = session.stop(DEADLINE).await.unwrap_err();
        assert!(matches!(&error, Error::BackupSessionLost { start: at, .. } if *at == start));
        assert_eq!(error.info().code, "RF0512");
        // PostgreSQL has forgotten that backup: the next one works.
        begin(&cluster).await.stop(DEADLINE).await.unwrap();
    }
}

#[tokio::test]
async fn a_stopped_server_ends_the_backup() {
    let mut cluster = Cluster::builder(&Install::latest()).start();
    let session = begin(&cluster).await;
    cluster.stop(testbed::postgres::Stop::Immediate);
    let lost = tokio::time::timeout(DEADLINE, session.lost()).await.unwrap();
    assert!(matches!(lost, Error::BackupSessionLost { .. }));
}

#[tokio::test]
async fn letting_go_ends_the_session() {
    let cluster = Cluster::builder(&Install::latest()).start();
    drop(begin(&cluster).await);
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rollforward'";
    // The connection's task must run to notice.
    let gone = async {
        while cluster.psql(sessions) != "0" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, gone).await.unwrap();
}

#[tokio::test]
async fn an_exclusive_backup_is_refused() {
    let cluster = Cluster::builder(&Install::by_major(14)).start();
    cluster.psql("SELECT pg_start_backup('old way', true, true)");
    let error = BackupSession::start(connect(&cluster).await, &options()).await.unwrap_err();
    assert!(matches!(error, Error::ExclusiveBackup { .. }), "{error}");
    cluster.psql("SELECT pg_stop_backup(true)");
    begin(&cluster).await.stop(DEADLINE).await.unwrap();
}
