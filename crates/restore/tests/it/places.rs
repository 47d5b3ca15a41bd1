//! Where tablespaces go.

use std::fs;
use std::path::PathBuf;

use restore::{Error, Remap};
use testbed::postgres::Cluster;

use crate::fixture::{Backup, builder, spool, tree};

/// Two tablespaces with one table each.
fn source(major: u32) -> (Cluster, Vec<PathBuf>) {
    let cluster = builder(major).start();
    spool(&cluster);
    let places: Vec<PathBuf> = ["one", "two"]
        .iter()
        .map(|name| {
            let place = cluster.data_dir().parent().unwrap().join(name);
            fs::create_dir(&place).unwrap();
            testbed::give_to_postgres(&place);
            cluster.psql(&format!("CREATE TABLESPACE {name} LOCATION '{}'", place.display()));
            cluster.psql(&format!("CREATE TABLE in_{name} TABLESPACE {name} AS SELECT 1 AS a"));
            place
        })
        .collect();
    (cluster, places)
}

fn oid(cluster: &Cluster, name: &str) -> String {
    cluster.psql(&format!("SELECT oid FROM pg_tablespace WHERE spcname = '{name}'"))
}

#[tokio::test(flavor = "multi_thread")]
async fn tablespaces_go_where_they_are_told() {
    let (source, old) = source(16);
    let backup = Backup::of(&source).await;
    let mut options = backup.options(&backup.directory());
    let (by_oid, by_path) =
        (backup.workdir.folder("by-oid", 0o755), backup.workdir.join("a/by-path"));
    options.tablespaces = Remap {
        single: vec![
            (oid(&source, "one"), by_oid.clone()),
            (old[1].display().to_string(), by_path.clone()),
        ],
        below: None,
    };
    let (restored, _) = backup.restored(&options).await;
    let location = |name: &str| {
        restored.psql(&format!(
            "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = '{name}'"
        ))
    };
    assert_eq!(location("one"), by_oid.to_str().unwrap());
    assert_eq!(location("two"), by_path.to_str().unwrap());
    restored.psql("INSERT INTO in_one SELECT a FROM in_two");
    assert_eq!(source.psql("SELECT count(*) FROM in_one"), "1", "the source is untouched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_cannot_be_meant_is_refused_before_anything_is_written() {
    let (source, old) = source(16);
    let backup = Backup::of(&source).await;
    let directory = backup.directory();
    let (one, two) = (oid(&source, "one"), oid(&source, "two"));
    let full = backup.workdir.folder("full", 0o755);
    fs::write(full.join("thing"), "x").unwrap();
    let link = backup.workdir.join("link");
    std::os::unix::fs::symlink(backup.workdir.path(), &link).unwrap();
    let before = tree(backup.workdir.path());
    let spare = backup.workdir.join("spare");
    let cases: Vec<(Vec<(String, PathBuf)>, &str)> = vec![
        (vec![], "is not empty: it holds 'PG_16_"),
        (vec![(one.clone(), full.clone())], "is not empty: it holds 'thing'"),
        (vec![(one.clone(), directory.join("space"))], "lies inside the data directory"),
        (vec![(one.clone(), link.join("restored/space"))], "lies inside the data directory"),
        (vec![(one.clone(), backup.workdir.path().to_owned())], "holds the data directory"),
        (
            vec![(one.clone(), spare.clone()), (two.clone(), spare.join("inner"))],
            "would share its directory with another tablespace",
        ),
        (vec![(one.clone(), "relative".into())], "needs an absolute path"),
        (vec![("4711".into(), spare.clone())], "is not in the backup"),
    ];
    for (single, expect) in cases {
        let mut options = backup.options(&directory);
        options.tablespaces = Remap { single, below: None };
        let error = backup.restore(&options).await.unwrap_err();
        assert!(matches!(error, Error::Tablespace { .. }), "{error:?}");
        assert!(error.to_string().contains(expect), "{error} instead of {expect}");
        assert_eq!(tree(backup.workdir.path()), before);
    }
    assert!(old.iter().all(|place| place.exists()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tablespace_in_the_data_directory_stays_there() {
    let source = builder(17).setting("allow_in_place_tablespaces", "on").start();
    spool(&source);
    source.psql("CREATE TABLESPACE here LOCATION ''");
    source.psql("CREATE TABLE t TABLESPACE here AS SELECT g FROM generate_series(1, 1000) g");
    let backup = Backup::of(&source).await;
    let options = backup.options(&backup.directory());
    let (restored, report) = backup.restored(&options).await;
    assert_eq!(restored.psql("SELECT sum(g) FROM t"), "500500");
    assert_eq!(report.tablespaces, []);
    assert!(options.directory.join("pg_tblspc").join(oid(&source, "here")).is_dir());
}
