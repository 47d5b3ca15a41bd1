//! Every page of real clusters, and `pg_checksums` as a second opinion.

use std::fs;
use std::path::Path;
use std::process::Command;

use pg::page::{PageHeader, PageState, verify_page, verify_page_header};
use pg::{BlockNumber, ControlFile, MajorVersion, RelationFile};
use testbed::postgres::{Cluster, Install, Stop, installed};
use testbed::{Workdir, as_postgres};

use crate::files::walk;

const PAGE_LEN: usize = 8192;

/// Every index type, all forks, TOAST, large objects, an unlogged table, pages never written.
const WORKLOAD: &str = "
CREATE TABLE items (id int PRIMARY KEY, body text, tags text[], area box, seen int4range);
ALTER TABLE items ALTER body SET STORAGE EXTERNAL;
INSERT INTO items SELECT i, repeat(md5(i::text), i % 200), ARRAY[md5(i::text), 'x'],
  box(point(i, i), point(i + 1, i + 1)), int4range(i, i + 5) FROM generate_series(1, 5000) i;
CREATE INDEX ON items USING gin (tags);
CREATE INDEX ON items USING gist (area);
CREATE INDEX ON items USING spgist (seen);
CREATE INDEX ON items USING brin (id);
CREATE INDEX ON items USING hash (id);
CREATE UNLOGGED TABLE scratch AS SELECT * FROM items;
CREATE INDEX ON scratch (id);
SELECT lo_from_bytea(0, decode(repeat('ab', 100000), 'hex'));
DELETE FROM items WHERE id % 3 = 0;
VACUUM ANALYZE;
CHECKPOINT;
";

/// What a walk over all pages found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    files: usize,
    blocks: usize,
    new: usize,
    broken: Vec<(String, u32, PageState)>,
}

#[test]
fn every_page_of_a_real_cluster_is_whole_and_a_flipped_bit_is_not() {
    for install in installed() {
        let mut cluster = Cluster::builder(&install).data_checksums(true).start();
        cluster.psql(WORKLOAD);
        let workdir = Workdir::new();
        // The checksum program of another major would not look into this one's tablespaces.
        if install.has("pg_checksums") {
            let folder = workdir.folder("space", 0o700);
            let folder = folder.display();
            cluster.psql(&format!("CREATE TABLESPACE space LOCATION '{folder}'"));
            cluster.psql("CREATE TABLE far TABLESPACE space AS SELECT * FROM items; CHECKPOINT");
        }
        let items = cluster.psql("SELECT pg_relation_filepath('items')");
        cluster.stop(Stop::Fast);
        add_new_pages(&cluster.data_dir().join(&items));

        let found = check_all(cluster.data_dir());
        assert!(found.broken.is_empty(), "PostgreSQL {}: {:?}", install.major, found.broken);
        assert!(found.new >= 2 && found.blocks > 2000, "{found:?}");
        if let Some(report) = pg_checksums(&install, cluster.data_dir()) {
            assert_eq!(count(&report, "Files scanned:"), found.files, "{report}");
            assert_eq!(count(&report, "Blocks scanned:"), found.blocks, "{report}");
            assert_eq!(count(&report, "Bad checksums:"), 0, "{report}");
        }
        check_flipped_bit(&mut cluster, &items);
    }
}

#[test]
fn pages_without_checksums_are_judged_by_their_header() {
    for install in installed() {
        let mut cluster = Cluster::builder(&install).data_checksums(false).start();
        cluster.psql(WORKLOAD);
        cluster.stop(Stop::Fast);
        let control = fs::read(cluster.data_dir().join("global/pg_control")).unwrap();
        assert!(!ControlFile::decode(&control).unwrap().has_data_checksums());
        for (path, pages) in page_files(cluster.data_dir()) {
            for page in pages.chunks(PAGE_LEN) {
                assert!(verify_page_header(page).is_intact(), "{path}");
            }
        }
    }
}

/// Our finding, the program's and the server's name the same page and the same two checksums.
fn check_flipped_bit(cluster: &mut Cluster, items: &str) {
    let path = cluster.data_dir().join(items);
    let mut bytes = fs::read(&path).unwrap();
    bytes[3 * PAGE_LEN + 5000] ^= 0x10;
    fs::write(&path, &bytes).unwrap();
    let found = check_all(cluster.data_dir());
    let [(file, 3, PageState::Mismatch { expected, seen })] = found.broken.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(file, items);
    if let Some(report) = pg_checksums(cluster.install(), cluster.data_dir()) {
        assert_eq!(count(&report, "Bad checksums:"), 1, "{report}");
        let said = format!("block 3: calculated checksum {expected:X} but block contains {seen:X}");
        assert!(report.contains(&said), "{said}: {report}");
    }
    cluster.start();
    let refused = cluster.psql_err("SET enable_indexonlyscan = off; SELECT max(body) FROM items");
    assert!(refused.contains("invalid page in block 3"), "{refused}");
    let said = format!("calculated checksum {expected} but expected {seen}");
    assert!(cluster.log_text().contains(&said), "{said}: {}", cluster.log_text());
}

/// Extends a relation as PostgreSQL does before it writes pages.
fn add_new_pages(path: &Path) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(len + 2 * PAGE_LEN as u64).unwrap();
}

fn check_all(data_dir: &Path) -> Found {
    let mut found = Found::default();
    for (path, pages) in page_files(data_dir) {
        found.files += 1;
        let first = RelationFile::parse(&path).unwrap().first_block(131_072).unwrap();
        for (number, page) in (first.get()..).zip(pages.chunks(PAGE_LEN)) {
            found.blocks += 1;
            match verify_page(page, BlockNumber::new(number)) {
                PageState::Valid => {
                    assert_eq!(PageHeader::of(page).unwrap().size_and_version(), (8192, 4));
                }
                PageState::New => found.new += 1,
                state => found.broken.push((path.clone(), number, state)),
            }
        }
    }
    found
}

fn page_files(data_dir: &Path) -> impl Iterator<Item = (String, Vec<u8>)> {
    walk(data_dir, &|_| true)
        .into_iter()
        .filter(|(path, _)| pg::relation_file::is_page_file(path))
        .map(|(path, _)| {
            let bytes = fs::read(data_dir.join(&path)).unwrap();
            (path, bytes)
        })
}

/// Runs this major's `pg_checksums`; that of 15 on 14, with the same `pg_control`. There is none
/// for 17.
fn pg_checksums(install: &Install, data_dir: &Path) -> Option<String> {
    let other = Install::by_major(15);
    let install = if install.major == 14 { &other } else { install };
    let program = install.has("pg_checksums").then(|| install.tool("pg_checksums"))?;
    let output = as_postgres(&mut Command::new(program))
        .arg("--check")
        .arg(data_dir)
        .output()
        .expect("run pg_checksums");
    Some([output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat())
}

fn count(report: &str, label: &str) -> usize {
    let line = report.lines().find_map(|line| line.strip_prefix(label));
    line.and_then(|number| number.trim().parse().ok())
        .unwrap_or_else(|| panic!("no '{label}' in: {report}"))
}

#[test]
fn tablespace_directories_are_named_as_the_server_names_them() {
    for install in installed() {
        let cluster = Cluster::builder(&install).start();
        let workdir = Workdir::new();
        let folder = workdir.folder("space", 0o700);
        cluster.psql(&format!("CREATE TABLESPACE space LOCATION '{}'", folder.display()));
        let path = cluster
            .psql("CREATE TABLE far (a int) TABLESPACE space; SELECT pg_relation_filepath('far')");
        let control = fs::read(cluster.data_dir().join("global/pg_control")).unwrap();
        let control = ControlFile::decode(&control).unwrap();
        let major = MajorVersion::new(install.major).unwrap();
        let directory = pg::relation_file::version_directory(major, control.catalog_version);
        assert_eq!(RelationFile::parse(&path).unwrap().path(&directory), path);
        assert!(folder.join(&directory).is_dir());
    }
}
