//! What a backup refuses before it begins.

use std::fs;
use std::time::Duration;

use backup::Error;
use pg::TimelineId;
use repository::lineage;
use stdx::diagnostic::Exit;
use stdx::{Clock, Diagnostic, Id, SystemClock};
use testbed::postgres::Stop;

use crate::fixture::{Protected, builder};

const SOON: Duration = Duration::from_secs(60);

/// It is refused with this code, with a hint, and nothing is written.
async fn refused(protected: &Protected, code: &str) -> Error {
    let error = protected.backup_err().await;
    assert_eq!(error.info().code, code, "{error}");
    assert_eq!(error.info().exit, Exit::Refused, "{error}");
    assert!(!error.hints().is_empty());
    assert_eq!(protected.labels().await, [""; 0]);
    let packs = protected.repository.list("pack/").await.unwrap();
    assert!(packs.is_empty(), "{packs:?}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_is_refused() {
    let mut protected = Protected::start(builder(18)).await;
    let other = Protected::start(builder(18)).await;
    protected.options.connection = other.options.connection.clone();
    protected.options.data_directory = other.options.data_directory.clone();
    let error = refused(&protected, "RF0601").await;
    assert!(matches!(error, Error::OtherCluster { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_of_another_server_is_refused() {
    let mut protected = Protected::start(builder(17)).await;
    let other = Protected::start(builder(17)).await;
    protected.options.data_directory = other.options.data_directory.clone();
    refused(&protected, "RF0605").await;

    // A copy has the same system identifier, and no server of its own.
    let copy = protected.workdir.join("copy");
    fs::create_dir_all(copy.join("global")).unwrap();
    let control = protected.cluster.data_dir().join("global/pg_control");
    fs::copy(control, copy.join("global/pg_control")).unwrap();
    protected.options.data_directory = copy.clone();
    let error = refused(&protected, "RF0605").await;
    assert!(error.to_string().contains("no server runs on it"), "{error}");

    protected.options.data_directory = protected.workdir.join("nowhere");
    assert_eq!(protected.backup_err().await.info().code, "RF0606");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_make_backups_useless_are_refused() {
    let mut protected = Protected::start(builder(16)).await;
    for (name, value, restart) in [
        ("full_page_writes", "off", false),
        ("archive_command", "", false),
        ("archive_mode", "off", true),
    ] {
        protected.cluster.append_setting(name, value);
        if restart {
            protected.cluster.restart();
        } else {
            protected.cluster.reload();
            let show = format!("SELECT setting FROM pg_settings WHERE name = '{name}'");
            protected.cluster.wait_until(&show, value, SOON);
        }
        let error = refused(&protected, "RF0604").await;
        assert!(error.to_string().contains(name), "{error}");
        let good = match name {
            "full_page_writes" => "on",
            "archive_command" => "true",
            _ => continue,
        };
        protected.cluster.append_setting(name, good);
        protected.cluster.reload();
        let show = format!("SELECT setting FROM pg_settings WHERE name = '{name}'");
        protected.cluster.wait_until(&show, good, SOON);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_refused() {
    let mut protected = Protected::start(builder(14)).await;
    protected.cluster.stop(Stop::Fast);
    let signal = protected.cluster.data_dir().join("standby.signal");
    fs::write(&signal, "").unwrap();
    testbed::give_to_postgres(&signal);
    protected.cluster.append_setting("restore_command", "false");
    protected.cluster.start();
    let error = refused(&protected, "RF0603").await;
    assert!(matches!(error, Error::InRecovery { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_tablespace_is_refused() {
    let protected = Protected::start(builder(15)).await;
    let place = protected.workdir.folder("space", 0o700);
    protected.cluster.psql(&format!(
        "CREATE TABLESPACE lost LOCATION '{}';
         CREATE TABLE t TABLESPACE lost AS SELECT 1",
        place.display()
    ));
    fs::rename(&place, protected.workdir.join("elsewhere")).unwrap();
    let error = refused(&protected, "RF0607").await;
    assert!(error.to_string().contains("lost"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_among_the_data_is_refused() {
    let protected = Protected::start(builder(18)).await;
    let outside = protected.workdir.folder("outside", 0o700);
    let link = protected.cluster.data_dir().join("base/moved");
    std::os::unix::fs::symlink(outside, link).unwrap();
    refused(&protected, "RF0608").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_cluster_is_refused() {
    let mut protected = Protected::start(builder(17)).await;
    let clock = SystemClock::new();
    let state = lineage::state(&protected.repository, protected.lineage).await.unwrap().unwrap();
    protected.options.writer = Some(state.writer);
    let report = protected.backup().await;
    assert_eq!(protected.labels().await.len(), 1);
    let root = repository::names::backup(protected.lineage, &report.summary.label);
    protected.repository.delete(&root).await.unwrap();
    for pack in protected.repository.list("pack/").await.unwrap() {
        protected.repository.delete(&pack.key).await.unwrap();
    }

    // Another writer on the same timeline: this one is a clone.
    let successor = lineage::add_writer(
        &protected.repository,
        protected.lineage,
        "db2",
        "/srv/restored",
        b"token",
        clock.now(),
    );
    let successor = successor.await.unwrap();
    let mut next = lineage::State {
        number: 2,
        timeline: TimelineId::new(1),
        writer: successor.id,
        reason: "adopted".into(),
        since: clock.now(),
    };
    lineage::advance(&protected.repository, protected.lineage, &next).await.unwrap();
    let error = refused(&protected, "RF0602").await;
    assert!(error.to_string().contains("/srv/restored"), "{error}");

    // Production has moved to a later timeline.
    protected.options.writer = None;
    (next.number, next.timeline) = (3, TimelineId::new(2));
    lineage::advance(&protected.repository, protected.lineage, &next).await.unwrap();
    let error = refused(&protected, "RF0602").await;
    assert!(error.to_string().contains("timeline 2"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_cluster_is_refused_until_it_is_adopted() {
    let mut protected = Protected::start(builder(16)).await;
    protected.cluster.stop(Stop::Fast);
    let signal = protected.cluster.data_dir().join("recovery.signal");
    fs::write(&signal, "").unwrap();
    testbed::give_to_postgres(&signal);
    protected.cluster.append_setting("restore_command", "false");
    protected.cluster.start();
    protected.cluster.wait_until("SELECT pg_is_in_recovery()", "f", SOON);
    let clock = SystemClock::new();
    let reservation = lineage::Reservation {
        timeline: TimelineId::new(2),
        parent: TimelineId::new(1),
        owner: Id::random(),
        place: "db1:/srv/restored".into(),
        taken: clock.now(),
    };
    lineage::reserve(&protected.repository, protected.lineage, &reservation).await.unwrap();
    let error = refused(&protected, "RF0602").await;
    assert!(error.to_string().contains("not adopted"), "{error}");

    let next = lineage::State {
        number: 2,
        timeline: TimelineId::new(2),
        writer: Id::random(),
        reason: "adopted".into(),
        since: clock.now(),
    };
    lineage::advance(&protected.repository, protected.lineage, &next).await.unwrap();
    let report = protected.backup().await;
    assert_eq!(report.summary.timeline, TimelineId::new(2));
    let history = repository::names::history(protected.lineage, TimelineId::new(2));
    let there = protected.repository.members()[0].store.head(&history).await;
    assert!(there.is_ok(), "a backup on timeline 2 comes with its history");
}
