//! What a backup copies, against what `pg_basebackup` copies.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use pg::layout::{EntryKind, Treatment, UnloggedRelations, classify, is_database_directory};
use testbed::postgres::{Cluster, Install, installed};
use testbed::{Workdir, as_postgres, give_to_postgres};

use crate::files::{names, walk};

/// What `pg_basebackup` copies and we leave out, each for a reason given in `pg::layout`.
const OURS_ALONE: [&str; 6] = [
    "backup_label.old",
    "recovery.conf",
    "recovery.done",
    "recovery.signal",
    "standby.signal",
    "tablespace_map.old",
];

/// What both leave out.
const PLANTED: [&str; 9] = [
    "backup_manifest",
    "base/pgsql_tmp/pgsql_tmp1.0",
    "current_logfiles.tmp",
    "global/pg_internal.init.99",
    "pg_dynshmem/mmap.1",
    "pg_replslot/left/state",
    "pg_snapshots/1-1.snap",
    "pg_stat_tmp/global.stat",
    "postgresql.auto.conf.tmp",
];

#[test]
fn a_backup_copies_what_pg_basebackup_copies() {
    for install in installed() {
        let cluster = Cluster::builder(&install).setting("autovacuum", "off").start();
        let workdir = Workdir::new();
        let space = workdir.folder("space", 0o700);
        cluster.psql(&format!("CREATE TABLESPACE space LOCATION '{}'", space.display()));
        cluster.psql(
            "CREATE TABLE kept (a serial, b text);
             CREATE TABLE far (a int) TABLESPACE space;
             CREATE UNLOGGED TABLE scratch (a serial, b text);
             CREATE UNLOGGED TABLE far_scratch (a int) TABLESPACE space;
             INSERT INTO scratch (b) SELECT repeat('x', 3000) FROM generate_series(1, 1000);
             INSERT INTO far_scratch SELECT generate_series(1, 10000);
             VACUUM scratch, far_scratch; CHECKPOINT",
        );
        let mut session = cluster.spawn_psql();
        session.query("CREATE TEMP TABLE mine AS SELECT generate_series(1, 10000) AS a;");
        for path in PLANTED.iter().chain(&OURS_ALONE) {
            plant(&cluster.data_dir().join(path));
        }
        let theirs = basebackup(&cluster, &workdir, &space);
        let mut ours = selection(cluster.data_dir());
        for path in OURS_ALONE {
            assert!(ours.insert(path.to_owned()), "{path} is not left out");
        }
        assert_eq!(difference(&ours, &theirs), (vec![], vec![]), "PostgreSQL {}", install.major);
        assert!(ours.iter().any(|path| path.starts_with("pg_tblspc/") && path.ends_with("_init")));
    }
}

fn plant(path: &Path) {
    let parent = path.parent().unwrap();
    if !parent.is_dir() {
        fs::create_dir(parent).unwrap();
        give_to_postgres(parent);
    }
    fs::write(path, "planted").unwrap();
    give_to_postgres(path);
}

/// All that our rules copy or keep as an empty directory.
fn selection(data_dir: &Path) -> BTreeSet<String> {
    let enter = |(path, kind): &(String, EntryKind)| classify(path, *kind) == Treatment::Copy;
    let keep = |(path, kind): &(String, EntryKind)| {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let unlogged = is_database_directory(directory) && {
            let names = names(&data_dir.join(directory));
            UnloggedRelations::of_directory(names.iter().map(String::as_str)).leaves_out(name)
        };
        classify(path, *kind) != Treatment::SkipFile && !unlogged
    };
    walk(data_dir, &enter).into_iter().filter(keep).map(|(path, _)| path).collect()
}

/// All that `pg_basebackup` copies, without what it adds for the backup itself.
fn basebackup(cluster: &Cluster, workdir: &Workdir, space: &Path) -> BTreeSet<String> {
    let target = workdir.folder("backup", 0o700);
    let target_space = workdir.join("backup-space");
    let mut command = Command::new(Install::latest().tool("pg_basebackup"));
    let output = as_postgres(&mut command)
        .args(["--format=plain", "--wal-method=none", "--checkpoint=fast", "--no-sync"])
        .arg(format!("--tablespace-mapping={}={}", space.display(), target_space.display()))
        .arg("--dbname")
        .arg(cluster.conninfo())
        .arg("--pgdata")
        .arg(&target)
        .output()
        .expect("run pg_basebackup");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let added = ["backup_label", "backup_manifest"];
    walk(&target, &|(path, _)| path != "pg_wal")
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| !added.contains(&path.as_str()))
        .collect()
}

fn difference<'a>(
    ours: &'a BTreeSet<String>,
    theirs: &'a BTreeSet<String>,
) -> (Vec<&'a String>, Vec<&'a String>) {
    (ours.difference(theirs).collect(), theirs.difference(ours).collect())
}
