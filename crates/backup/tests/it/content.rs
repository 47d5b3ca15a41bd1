//! What is in a backup is what was in the cluster.

use std::fs;
use std::path::Path;
use std::time::Duration;

use pg::layout::{self, Treatment};
use pg::relation_file::RelationFile;
use pg::{BackupLabel, ControlFile, Oid, TablespaceMap};
use repository::relation_map::{self, RelationMap};
use repository::tree::EntryKind;
use testbed::Port;
use testbed::postgres::{Cluster, Install};

use crate::fixture::{Protected, builder};
use crate::image::Image;

const SOON: Duration = Duration::from_secs(60);

/// Tables small and large, in a tablespace, unlogged; a database of its own; an empty one.
fn fill(protected: &Protected) {
    let place = protected.workdir.folder("space", 0o700);
    let cluster = &protected.cluster;
    cluster.psql(&format!(
        "CREATE TABLESPACE fast LOCATION '{}';
         CREATE DATABASE shop;
         CREATE ROLE seller LOGIN PASSWORD 'secret'",
        place.display()
    ));
    cluster.psql_in(
        "shop",
        "CREATE TABLE orders AS
            SELECT g AS id, md5(g::text) AS code, repeat(md5((g * 7)::text), 4) AS note
            FROM generate_series(1, 120000) g;
         CREATE INDEX ON orders (code);
         CREATE TABLE spaced TABLESPACE fast AS SELECT g FROM generate_series(1, 5000) g;
         CREATE UNLOGGED TABLE scratch AS SELECT g FROM generate_series(1, 5000) g;
         CREATE TABLE empty (x int);
         CREATE EXTENSION amcheck;
         VACUUM ANALYZE;
         CHECKPOINT",
    );
}

/// Every file of the quiet cluster that belongs into a backup is in it, byte for byte.
fn compare(image: &Image, root: &Path, relative: &str, seen: &mut usize) {
    for entry in fs::read_dir(root.join(relative)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let path = if relative.is_empty() { name } else { format!("{relative}/{name}") };
        let meta = fs::metadata(root.join(&path)).unwrap();
        let kind =
            if meta.is_dir() { layout::EntryKind::Directory } else { layout::EntryKind::File };
        match layout::classify(&path, kind) {
            Treatment::SkipFile => assert!(!image.files.contains_key(&path), "{path}"),
            Treatment::SkipContents => {
                assert_eq!(image.files[&path].0.kind, EntryKind::Directory, "{path}");
                assert!(!image.files.keys().any(|known| known.starts_with(&format!("{path}/"))));
            }
            Treatment::Copy if meta.is_dir() => {
                assert!(image.files.contains_key(&path), "{path}");
                compare(image, root, &path, seen);
            }
            Treatment::Copy | Treatment::CopyLast => {
                if image.files.contains_key(&path) {
                    assert!(image.content(&path) == fs::read(root.join(&path)).unwrap(), "{path}");
                    *seen += 1;
                } else {
                    assert!(is_unlogged(root, &path), "'{path}' is missing");
                }
            }
        }
    }
}

fn is_unlogged(root: &Path, path: &str) -> bool {
    let Some((directory, _)) = path.rsplit_once('/') else { return false };
    let relation = RelationFile::parse(path).unwrap();
    root.join(directory).join(format!("{}_init", relation.relfilenode)).exists()
}

async fn holds_everything(major: u32) {
    let protected = Protected::start(builder(major)).await;
    fill(&protected);
    let report = protected.backup().await;
    let summary = &report.summary;
    assert_eq!((summary.damaged_pages, report.statistics.vanished), (0, 0));
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    assert_eq!(summary.server_version / 10_000, major);

    let image = Image::read(&protected.repository, protected.lineage, &summary.label).await;
    let mut seen = 0;
    compare(&image, protected.cluster.data_dir(), "", &mut seen);
    assert_eq!(seen as u64, report.statistics.files + 1, "all files and pg_control");
    assert!(image.paths(EntryKind::File).iter().any(|path| path.ends_with("_init")));
    for path in image.files.keys().filter(|path| !path.starts_with('@')) {
        let there = fs::symlink_metadata(protected.cluster.data_dir().join(path));
        assert!(there.is_ok(), "'{path}' is not in the cluster");
    }
    check_details(&protected, &image);
    check_relation_map(&protected, &image);
    restores(&protected, &image, major);
}

fn check_details(protected: &Protected, image: &Image) {
    let (summary, details) = (&image.root.summary, &image.root.details);
    let label = BackupLabel::parse(std::str::from_utf8(&details.backup_label).unwrap()).unwrap();
    assert_eq!((label.start_lsn, label.start_timeline), (summary.redo, summary.timeline));
    assert!(label.label.contains(summary.label.as_str()), "{}", label.label);
    let control = ControlFile::decode(&details.control).unwrap();
    assert_eq!(control.system_id, summary.system_id);
    assert!(control.checkpoint_copy.redo >= summary.redo);
    assert_eq!(image.content("global/pg_control"), details.control);
    let map = TablespaceMap::parse(std::str::from_utf8(&details.tablespace_map).unwrap()).unwrap();
    assert_eq!(map.entries, details.tablespaces);
    assert_eq!(details.tablespaces.len(), 1);
    assert_eq!(details.settings["max_connections"], "50");
    assert_eq!(details.settings["wal_level"], "replica");
    assert!(details.extensions.contains_key("shop/amcheck"), "{:?}", details.extensions);
    assert!(details.databases.iter().any(|(_, name)| name == "shop"));
    let globals = String::from_utf8(image.content("@rollforward/globals.sql").to_vec()).unwrap();
    assert!(globals.contains("seller"), "{globals}");
    assert!(!protected.cluster.data_dir().join("backup_label").exists());
    let mut sizes = 0;
    for (entry, _) in image.files.values().filter(|(entry, _)| entry.kind != EntryKind::Attachment)
    {
        sizes += entry.size;
    }
    assert_eq!(sizes, summary.size);
}

fn check_relation_map(protected: &Protected, image: &Image) {
    let oid: u32 = protected
        .cluster
        .psql("SELECT oid FROM pg_database WHERE datname = 'shop'")
        .parse()
        .unwrap();
    let map = RelationMap::decode(image.content(&relation_map::path(Oid::new(oid)))).unwrap();
    let path = protected.cluster.psql_in("shop", "SELECT pg_relation_filepath('spaced')");
    let file = RelationFile::parse(&path).unwrap();
    let relation = map.by_filenode(file.tablespace, file.relfilenode).unwrap();
    assert_eq!((relation.schema.as_str(), relation.name.as_str()), ("public", "spaced"));
    assert_eq!((map.name.as_str(), relation.kind), ("shop", 'r'));
}

/// The bytes in the repository and the archived WAL make a server that answers.
fn restores(protected: &Protected, image: &Image, major: u32) {
    let workdir = testbed::Workdir::new();
    let tablespaces = workdir.folder("spaces", 0o755);
    let data_dir = workdir.join("data");
    image.write(&data_dir, &tablespaces);
    let restored = Cluster::attach(&Install::by_major(major), &data_dir, Port::reserve().number());
    restored.append_setting("archive_mode", "off");
    let command = format!("cp {}/%f %p", protected.spool().display());
    restored.append_setting("restore_command", &command);
    restored.append_setting("recovery_target_action", "promote");
    let mut restored = restored;
    restored.start();
    restored.wait_until("SELECT pg_is_in_recovery()", "f", SOON);
    let counts = "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM spaced),
        (SELECT count(*) FROM scratch), (SELECT sum(id) FROM orders)";
    let sum: u64 = (1..=120_000).sum();
    assert_eq!(restored.psql_in("shop", counts), format!("120000|5000|0|{sum}"));
    restored.psql_in("shop", "SELECT bt_index_check('orders_code_idx', true)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_14_holds_everything() {
    holds_everything(14).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_15_holds_everything() {
    holds_everything(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_16_holds_everything() {
    holds_everything(16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_17_holds_everything() {
    holds_everything(17).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_18_holds_everything() {
    holds_everything(18).await;
}
