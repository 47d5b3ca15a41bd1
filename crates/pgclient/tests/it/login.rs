//! Logging in, and what nobody may read in an error.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use pgclient::{Client, ConnectOptions, Error};
use stdx::Diagnostic;
use testbed::postgres::{Cluster, Install};

use crate::bench::every_word;

const PASSWORD: &str = "hunter2-pässword";

fn guarded() -> Cluster {
    let cluster = Cluster::builder(&Install::latest())
        .hba("local all postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        .start();
    cluster.psql(&format!("CREATE ROLE backup LOGIN SUPERUSER PASSWORD '{PASSWORD}'"));
    cluster
}

fn parse(conninfo: &str) -> ConnectOptions {
    ConnectOptions::parse(conninfo).unwrap()
}

#[tokio::test]
async fn a_password_opens_the_door_and_appears_nowhere() {
    let cluster = guarded();
    let port = cluster.port();
    let right = format!("postgres://backup:{PASSWORD}@127.0.0.1:{port}/postgres?sslmode=disable");
    let client = Client::connect(&parse(&right)).await.unwrap();
    assert!(!format!("{client:?} {:?} {}", client.options(), client.address()).contains("hunter2"));
    let error = client.query_text("SELECT oops", std::time::Duration::from_secs(9)).await;
    assert!(!every_word(&error.unwrap_err()).contains("hunter2"));

    let check = async |conninfo: String, code: &str| {
        let error = Client::connect(&parse(&conninfo)).await.unwrap_err();
        assert_eq!(error.info().code, code, "{error}");
        assert!(!every_word(&error).contains("hunter2"), "{error:?}");
    };
    let wrong = "hunter2wrong";
    check(format!("host=127.0.0.1 port={port} user=backup password={wrong}"), "RF0504").await;
    check(format!("host=127.0.0.1 port={port} user=nobody password={wrong}"), "RF0504").await;
    check(format!("host=127.0.0.1 port={port} user=backup dbname=postgres"), "RF0504").await;
    check(format!("host=127.0.0.1 port=1 user=backup password={wrong}"), "RF0502").await;
    check(format!("host=/nowhere user=backup password={wrong}"), "RF0502").await;
    check(
        format!("host=127.0.0.1 port={port} user=backup password={wrong} sslmode=require"),
        "RF0505",
    )
    .await;
}

#[tokio::test]
async fn a_passfile_gives_the_password() {
    let cluster = guarded();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pass");
    fs::write(&file, format!("127.0.0.1:{}:*:backup:{PASSWORD}\n", cluster.port())).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let conninfo = format!(
        "host=127.0.0.1 port={} user=backup dbname=postgres passfile={}",
        cluster.port(),
        file.display()
    );
    Client::connect(&parse(&conninfo)).await.unwrap().ready().await.unwrap();
}

#[tokio::test]
async fn the_next_host_is_tried_when_the_first_is_silent() {
    let cluster = guarded();
    let conninfo = format!(
        "host=127.0.0.1,{} port=1,{} user=postgres",
        cluster.socket_dir().display(),
        cluster.port()
    );
    let client = Client::connect(&parse(&conninfo)).await.unwrap();
    assert!(client.address().starts_with('/'), "{}", client.address());
}

#[tokio::test]
async fn a_full_server_is_not_ready() {
    let cluster = Cluster::builder(&Install::latest())
        .setting("max_connections", "4")
        .setting("superuser_reserved_connections", "0")
        .setting("reserved_connections", "0")
        .setting("max_wal_senders", "0")
        .start();
    let options = parse(&cluster.conninfo());
    let mut clients = Vec::new();
    let error = loop {
        match Client::connect(&options).await {
            Ok(client) => clients.push(client),
            Err(error) => break error,
        }
    };
    assert_eq!(clients.len(), 4);
    assert!(matches!(error, Error::NotReady { .. }), "{error}");
}
