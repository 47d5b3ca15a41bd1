//! The golden repositories, restored into directories: what was written once stays restorable.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use repository::{Repository, lineage, root};
use testbed::Workdir;

use crate::fixture;

/// Files that a restore writes anew: settings, and the control file with an impossible checkpoint.
const REWRITTEN: [&str; 2] = ["global/pg_control", "postgresql.conf"];

/// The lines of `expected.txt` by backup of one cluster.
fn expected(folder: &Path, cluster: &str) -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(folder.join("expected.txt")).unwrap();
    let (mut backups, mut ours, mut label) = (BTreeMap::new(), false, String::new());
    for line in text.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["cluster", name, ..] => ours = name == cluster,
            ["backup", name] if ours => {
                label = name.to_owned();
                backups.insert(label.clone(), Vec::new());
            }
            ["file" | "directory", ..] if ours => {
                backups.entry(label.clone()).or_insert_with(Vec::new).push(line.to_owned());
            }
            _ => {}
        }
    }
    backups
}

/// A path as `expected.txt` writes it, `\xNN` for what is not printable.
fn unescaped(text: &str) -> PathBuf {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(hex, 16).unwrap());
        bytes.extend_from_slice(rest.as_bytes());
    }
    OsString::from_vec(bytes).into()
}

fn compare(directory: &Path, lines: &[String]) -> usize {
    let mut compared = 0;
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let path = unescaped(words[1]);
        let there = directory.join(&path);
        if words[0] == "directory" {
            assert!(there.is_dir(), "{line}");
            continue;
        }
        let bytes = fs::read(&there).unwrap_or_else(|error| panic!("{line}: {error}"));
        if !REWRITTEN.iter().any(|rewritten| path == Path::new(rewritten)) {
            let seen = format!("{} {}", bytes.len(), blake3::hash(&bytes));
            assert_eq!(seen, words[3..].join(" "), "{line}");
            compared += 1;
        }
    }
    compared
}

async fn restored(repository: &Repository, cluster: &str, golden: &Path) -> usize {
    let lineage = lineage::of_cluster(repository, cluster).await.unwrap();
    let mut compared = 0;
    for (label, lines) in expected(golden, cluster) {
        let root = root::read(repository, lineage.id, &label.parse().unwrap()).await.unwrap();
        let workdir = Workdir::new();
        let wal = workdir.folder("wal", 0o755);
        let directory = workdir.join("restored");
        let options = fixture::options(&directory, &wal, 5432, root.summary.timeline);
        fixture::restore(repository, &root, &options).await.unwrap();
        compared += compare(&directory, &lines);
        assert!(directory.join("backup_label").exists(), "{label}");
    }
    compared
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../repository/tests/golden").join(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_version_writes_is_restored_byte_for_byte() {
    let golden = golden("from-the-future");
    let repository = fixture::open(&[golden.join("repository")], &golden.join("key")).await;
    // Three backups with page lists over each other, packs that were moved, two key epochs.
    assert!(restored(&repository, "shop", &golden).await > 60);
    // The clone with the same system identifier is a history of its own.
    assert!(restored(&repository, "shop-copy", &golden).await > 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_version_wrote_is_restored_byte_for_byte() {
    for name in ["v1-encrypted"] {
        let golden = golden(name);
        let repository = fixture::open(&[golden.join("repository")], &golden.join("key")).await;
        assert!(restored(&repository, "shop", &golden).await > 20, "{name}");
    }
}
