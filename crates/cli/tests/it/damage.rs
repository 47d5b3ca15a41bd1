//! Objects that are not what was written: found, named, and read from the other repository.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::site::{Site, files};

/// A cluster with a backup and WAL in two repositories.
fn protected(major: u32) -> Site {
    let site = Site::new(major);
    site.cluster.psql("CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 20000) i");
    site.backup();
    site.cluster.psql("INSERT INTO t VALUES (0, '')");
    site.archive();
    site.cluster.psql("INSERT INTO t VALUES (0, '')");
    site.archive();
    site
}

const ROWS: &str = "20002";

/// The largest pack, which holds the table: its object in each repository.
fn largest_pack(site: &Site) -> [PathBuf; 2] {
    let packs = site.objects("main", "pack/");
    let largest = packs.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let key = largest.strip_prefix(site.repository("main")).unwrap();
    ["main", "second"].map(|name| site.repository(name).join(key))
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    // Under a new name first: a reader has the old file or the new one.
    let draft = path.with_extension("draft");
    fs::write(&draft, bytes).unwrap();
    testbed::give_to_postgres(&draft);
    fs::rename(draft, path).unwrap();
}

fn flip_bit_in_the_middle(bytes: &mut [u8]) {
    let middle = bytes.len() / 3;
    bytes[middle] ^= 0x10;
}

fn key_of(site: &Site, path: &Path) -> String {
    let root = ["main", "second"].map(|name| site.repository(name));
    let key = root.iter().find_map(|root| path.strip_prefix(root).ok());
    key.unwrap().display().to_string()
}

/// Checks that `verify` with these options names this object of this repository, and ends with 3.
#[track_caller]
fn assert_found(site: &Site, options: &str, repository: &str, path: &Path) {
    let verified = site.run(&format!("verify shop {options}")).ended(3);
    let key = key_of(site, path);
    let findings = verified["findings"].as_array().unwrap();
    let named = |finding: &&Value| {
        let object = finding["object"].as_str().unwrap();
        finding["repository"] == repository && object.split(' ').next() == Some(&key)
    };
    assert!(findings.iter().any(|finding| named(&finding)), "'{key}' is not in {verified}");
}

/// Checks that the restore fails with this code, names the object, and leaves nothing that starts.
#[track_caller]
fn assert_restore_fails(site: &Site, folder: &str, options: &str, code: &str, path: &Path) {
    let directory = site.folder.join(folder);
    let ran = site.run(&format!("restore shop --copy --to {} {options}", directory.display()));
    let said = ran.failed(code, 1);
    assert!(said.contains(&key_of(site, path)), "{said}");
    assert!(!directory.join("global/pg_control").exists());
}

#[track_caller]
fn assert_restores(site: &Site, folder: &str, options: &str) {
    let restored = site.restore(folder, &format!("--copy {options}"));
    assert_eq!(restored.cluster.psql("SELECT count(*) FROM t"), ROWS);
}

#[test]
fn a_flipped_bit_is_named_and_the_other_repository_serves() {
    let site = protected(16);
    site.verify_clean();
    let [main, second] = largest_pack(&site);
    change(&main, |bytes| flip_bit_in_the_middle(bytes));
    assert_found(&site, "--deep", "main", &main);
    assert_restore_fails(&site, "r1", "--repository main", "RF0301", &main);
    assert_restores(&site, "r2", "");
    assert_restores(&site, "r3", "--repository second");
    change(&second, |bytes| flip_bit_in_the_middle(bytes));
    assert_found(&site, "--deep", "second", &second);
    assert_restore_fails(&site, "r4", "", "RF0301", &main);
    // The same bit again: whole, and the directory of the failed restore can be used.
    change(&main, |bytes| flip_bit_in_the_middle(bytes));
    assert_restores(&site, "r4", "");
}

#[test]
fn a_shortened_and_a_missing_pack_are_named() {
    let site = protected(14);
    let [main, second] = largest_pack(&site);
    let whole = fs::read(&main).unwrap();
    change(&main, |bytes| bytes.truncate(bytes.len() / 2));
    assert_found(&site, "", "main", &main);
    assert_restores(&site, "r1", "");
    change(&second, |bytes| bytes.truncate(bytes.len() / 2));
    assert_restore_fails(&site, "r2", "", "RF0206", &main);
    fs::remove_file(&main).unwrap();
    assert_found(&site, "", "main", &main);
    fs::remove_file(&second).unwrap();
    assert_restore_fails(&site, "r3", "", "RF0201", &main);
    let path = site.folder.file("whole", whole);
    fs::rename(path, &second).unwrap();
    assert_restores(&site, "r4", "");
    let verified = site.run("verify shop --deep --repository second").done();
    assert_eq!(verified["findings"], serde_json::json!([]));
}

#[test]
fn damaged_wal_is_named_and_never_replayed() {
    let site = protected(17);
    let segments = site.objects("main", "wal/");
    let last = segments.last().unwrap();
    let key = last.strip_prefix(site.repository("main")).unwrap();
    let second = site.repository("second").join(key);
    change(last, |bytes| flip_bit_in_the_middle(bytes));
    assert_found(&site, "--deep", "main", last);
    assert_restores(&site, "r1", "--latest");
    change(&second, |bytes| flip_bit_in_the_middle(bytes));
    let directory = site.folder.join("r2");
    let ran = site.run(&format!("restore shop --copy --latest --to {}", directory.display()));
    let said = ran.failed("RF0301", 1);
    assert!(said.contains(&key_of(&site, last)), "{said}");
    assert!(!directory.exists());
}

#[test]
fn a_flipped_bit_in_any_kind_of_object_is_found() {
    let site = protected(18);
    let root = site.repository("main");
    let mut kinds: Vec<PathBuf> = Vec::new();
    for path in files(&root) {
        let kind = |path: &Path| key_of(&site, path).split('/').next().unwrap().to_owned();
        if kinds.iter().all(|known| kind(known) != kind(&path)) {
            kinds.push(path);
        }
    }
    // What only another release would read, or nothing reads again: leases and proofs end by time.
    kinds.retain(|path| {
        !["lease", "proof", ".tmp"].iter().any(|name| path.starts_with(root.join(name)))
    });
    assert!(kinds.len() >= 7, "{kinds:?}");
    let mut unseen = Vec::new();
    for path in kinds {
        let whole = fs::read(&path).unwrap();
        change(&path, |bytes| flip_bit_in_the_middle(bytes));
        let ran = site.run("verify shop --deep --repository main");
        if !matches!(ran.status.code(), Some(1 | 3)) {
            unseen.push(key_of(&site, &path));
        }
        if ran.status.code() == Some(1) {
            assert!(ran.json()["error"]["code"].is_string(), "{}", ran.stdout);
        }
        change(&path, |bytes| *bytes = whole);
    }
    assert!(unseen.is_empty(), "a flipped bit was not found in {unseen:?}");
    site.verify_clean();
}
