//! A damaged repository gives an error that names what is damaged, and no cluster.

use std::fs;
use std::path::{Path, PathBuf};

use repository::names;
use repository::root::PackEntry;
use restore::Error;
use testbed::postgres::Cluster;

use crate::fixture::{Backup, assert_cannot_start, builder, restore, spool};

async fn source() -> Cluster {
    let cluster = builder(18).start();
    spool(&cluster);
    // More than the leaf of a file, so that the tree has file nodes.
    cluster.psql(
        "CREATE TABLE large AS SELECT g AS id, repeat(md5(g::text), 8) AS note
            FROM generate_series(1, 100000) g",
    );
    cluster
}

fn pack_path(member: &Path, pack: &PackEntry) -> PathBuf {
    member.join(names::pack(pack.id).to_string())
}

/// Packs of data hold far more bytes than those of the tree.
fn packs(backup: &Backup) -> (Vec<PackEntry>, Vec<PackEntry>) {
    let tree = backup.root.summary.tree.pack;
    let (meta, data) = backup.root.packs.iter().cloned().partition(|pack| pack.id == tree);
    (meta, data)
}

async fn refused(backup: &Backup, what: &Path) {
    let repository = backup.reopened().await;
    let options = backup.options(&backup.directory());
    let error = restore(&repository, &backup.root, &options).await.unwrap_err();
    let Error::Repository(error) = &error else { panic!("{error:?}") };
    let name = what.file_name().unwrap().to_string_lossy();
    assert!(error.to_string().contains(&*name), "{error} does not name {name}");
    assert_cannot_start(&options.directory);
    let mut started = backup.cluster(&options);
    if options.directory.exists() {
        started.try_start().unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_named_and_nothing_can_start() {
    let source = source().await;
    let backup = Backup::of(&source).await;
    let (meta, data) = packs(&backup);
    assert!(!meta.is_empty() && !data.is_empty());
    for pack in meta.iter().chain(&data) {
        let path = pack_path(&backup.members[0], pack);
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x10;
        fs::write(&path, &flipped).unwrap();
        refused(&backup, &path).await;
        fs::write(&path, &whole[..middle]).unwrap();
        refused(&backup, &path).await;
        fs::remove_file(&path).unwrap();
        refused(&backup, &path).await;
        fs::write(&path, &whole).unwrap();
    }
    // Repaired, the same directory serves.
    let options = backup.options(&backup.directory());
    let repository = backup.reopened().await;
    restore(&repository, &backup.root, &options).await.unwrap();
    let mut restored = backup.cluster(&options);
    restored.start();
    restored.wait_until("SELECT pg_is_in_recovery()", "f", crate::fixture::SOON);
    assert_eq!(restored.psql("SELECT count(*), sum(id) FROM large"), "100000|5000050000");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_repository_of_the_set_gives_what_one_has_lost() {
    let source = source().await;
    let backup = Backup::made(&source, 2, || {}).await;
    for (at, pack) in backup.root.packs.iter().enumerate() {
        // Each lost in another way, and not all in the same repository.
        let path = pack_path(&backup.members[at % 2], pack);
        let mut bytes = fs::read(&path).unwrap();
        match at % 3 {
            0 => bytes.iter_mut().skip(100).step_by(1000).for_each(|byte| *byte ^= 1),
            1 => bytes.truncate(bytes.len() / 3),
            _ => fs::remove_file(&path).unwrap(),
        }
        if at % 3 != 2 {
            fs::write(&path, bytes).unwrap();
        }
    }
    let repository = backup.reopened().await;
    let options = backup.options(&backup.directory());
    restore(&repository, &backup.root, &options).await.unwrap();
    let mut restored = backup.cluster(&options);
    restored.start();
    restored.wait_until("SELECT pg_is_in_recovery()", "f", crate::fixture::SOON);
    assert_eq!(restored.psql("SELECT count(*), sum(id) FROM large"), "100000|5000050000");
    let alone = repository.only("repository-0").unwrap();
    let options = backup.options(&backup.workdir.join("alone"));
    restore(&alone, &backup.root, &options).await.unwrap_err();
    assert_cannot_start(&options.directory);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_makes_no_cluster_is_refused_before_anything_is_written() {
    let source = source().await;
    let backup = Backup::of(&source).await;
    let options = backup.options(&backup.directory());
    let check = |change: fn(&mut repository::root::Root), expect: &'static str| {
        let mut root = backup.root.clone();
        change(&mut root);
        (root, expect)
    };
    let cases = [
        check(|root| root.details.backup_label.clear(), "'backup_label' of the backup"),
        check(|root| root.summary.redo = pg::Lsn::new(8), "expected redo 0/8"),
        check(|root| root.details.control[100] ^= 1, "'global/pg_control' of the backup"),
        check(
            |root| root.summary.system_id = pg::SystemId::new(1),
            "expected system identifier 1, seen",
        ),
    ];
    for (root, expect) in cases {
        let error = restore(&backup.repository, &root, &options).await.unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
        assert!(!options.directory.exists());
    }
}
