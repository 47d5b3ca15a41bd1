//! Orders to a running server.

use std::time::Duration;

use pgclient::{Client, ConnectOptions, Error};
use testbed::postgres::{Cluster, Install, installed};

use crate::bench::connect;

const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn positions_switches_and_restore_points_move_forward() {
    for install in installed() {
        let cluster = Cluster::builder(&install)
            .setting("archive_mode", "on")
            .setting("archive_command", "false")
            .start();
        let client = connect(&cluster).await;
        let before = client.current_wal_lsn().await.unwrap();
        let point = client.create_restore_point("it's here").await.unwrap();
        let end = client.switch_wal().await.unwrap();
        assert!(before < point && point <= end, "{before} {point} {end}");
        client.checkpoint(DEADLINE).await.unwrap();
        let redo: String = cluster.psql("SELECT redo_lsn FROM pg_control_checkpoint()");
        assert!(redo.parse::<pg::Lsn>().unwrap() >= end);
        client.ready().await.unwrap();

        testbed::poll(DEADLINE, "an attempt to archive", || {
            cluster.psql("SELECT failed_count > 0 FROM pg_stat_archiver") == "t"
        });
        let archiver = client.archiver_status().await.unwrap();
        assert!(archiver.failed_count > 0 && archiver.archived_count == 0);
        assert_eq!(archiver.last_failed.as_deref(), Some("000000010000000000000001"));
        assert!(archiver.last_failed_time.is_some() && archiver.last_archived_time.is_none());
    }
}

#[tokio::test]
async fn settings_are_written_as_postgresql_reads_them() {
    for install in installed() {
        let preload = ("shared_preload_libraries", "auto_explain");
        let cluster = Cluster::builder(&install).setting(preload.0, preload.1).start();
        let client = connect(&cluster).await;
        client.alter_system("restore_command", r"cp '%p' \tmp").await.unwrap();
        client.alter_system("session_preload_libraries", "auto_explain, amcheck").await.unwrap();
        client.alter_system("auto_explain.log_format", "json").await.unwrap();
        client.alter_system("work_mem", "9MB").await.unwrap();
        client.alter_system_reset("work_mem").await.unwrap();
        client.reload().await.unwrap();
        cluster.wait_until("SHOW auto_explain.log_format", "json", DEADLINE);
        assert_eq!(cluster.psql("SHOW restore_command"), r"cp '%p' \tmp");
        let libraries = cluster.psql("SHOW session_preload_libraries");
        assert!(libraries.contains("auto_explain") && libraries.contains("amcheck"));
        assert!(!libraries.contains('"'), "two libraries and not one with a comma: {libraries}");
        assert_eq!(cluster.psql("SHOW work_mem"), "4MB");
        let error = client.alter_system("no_such_setting", "1").await.unwrap_err();
        assert!(matches!(&error, Error::Sql { sqlstate, .. } if sqlstate == "42704"), "{error}");
    }
}

#[tokio::test]
async fn other_sessions_can_be_ended() {
    let cluster = Cluster::builder(&Install::latest()).start();
    let client = connect(&cluster).await;
    let others = [connect(&cluster).await, connect(&cluster).await];
    assert_eq!(client.other_sessions().await.unwrap(), 2);
    assert_eq!(client.terminate_others().await.unwrap(), 2);
    cluster.wait_until("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name = 'rollforward'", "1", DEADLINE);
    for other in others {
        // Whoever writes before having read meets a broken pipe instead of the server's words.
        let closed = async {
            while !other.is_closed() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, closed).await.unwrap();
        let error = other.ready().await.unwrap_err();
        assert!(matches!(error, Error::Lost { .. }), "{error:?}");
        assert!(error.to_string().contains("administrator command"), "{error}");
    }
    client.ready().await.unwrap();
}

#[tokio::test]
async fn a_query_past_its_deadline_is_cancelled_on_the_server() {
    let cluster = Cluster::builder(&Install::latest()).start();
    let client = connect(&cluster).await;
    let error =
        client.query_text("SELECT pg_sleep(3600)", Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    // Had it not been cancelled, the next answer would come in an hour.
    let rows = client.query_text("SELECT 1, NULL; SELECT 'x'", DEADLINE).await.unwrap();
    assert_eq!(rows, [vec![Some("1".to_owned()), None], vec![Some("x".to_owned())]]);
    let error = client.query_text("SELECT 1/0", DEADLINE).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot run the query: division by zero (SQLSTATE 22012)");
}

#[tokio::test]
async fn our_questions_do_not_run_strangers_functions() {
    let cluster = Cluster::builder(&Install::latest()).start();
    cluster.psql(
        "CREATE SCHEMA trap;
         CREATE FUNCTION trap.count() RETURNS bigint LANGUAGE sql AS 'SELECT 1/0::bigint';
         CREATE FUNCTION trap.max(text) RETURNS text LANGUAGE sql AS 'SELECT (1/0)::text';
         ALTER ROLE postgres SET search_path = trap, pg_catalog",
    );
    let client = connect(&cluster).await;
    client.server().await.unwrap();
    client.databases().await.unwrap();
    client.relation_names("postgres").await.unwrap();
    client.globals_sql().await.unwrap();
    client.other_sessions().await.unwrap();
    // The user's own statements see the user's own path.
    let path = client.query_text("SHOW search_path", DEADLINE).await.unwrap();
    assert_eq!(path, [[Some("trap, pg_catalog".to_owned())]]);
}

#[tokio::test]
async fn a_server_that_only_listens_runs_into_the_deadline() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let options = format!("host=127.0.0.1 port={port} connect_timeout=1");
    let error = Client::connect(&ConnectOptions::parse(&options).unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
}
