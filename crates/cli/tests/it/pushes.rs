//! Archiving that must be refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use testbed::Port;
use testbed::postgres::{Cluster, Stop};

use crate::program::Ran;
use crate::site::{DEADLINE, Site, copy};

fn push(site: &Site, path: &Path) -> Ran {
    site.run(&format!("wal push --cluster shop {}", path.display()))
}

#[test]
fn another_content_under_an_archived_name_is_an_alarm() {
    let mut site = Site::new(16);
    site.cluster.psql("CREATE TABLE t (i int)");
    let segment = site.archive();
    site.cluster.stop(Stop::Fast);
    let path = site.cluster.data_dir().join("pg_wal").join(&segment);
    assert_eq!(push(&site, &path).done()["outcome"], "already there");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let ran = push(&site, &path);
    let said = ran.failed("RF0107", 1);
    assert!(said.contains("was kept as 'conflict/"), "{said}");
    assert_form(&ran.stderr, &segment);
    assert_eq!(site.objects("main", "conflict/").len(), 1);
    assert_eq!(site.objects("second", "conflict/").len(), 1);
    // Once more: the same alarm, not a second copy.
    push(&site, &path).failed("RF0107", 1);
    assert_eq!(site.objects("main", "conflict/").len(), 1);
    let status = site.run("wal status shop").ended(3);
    assert_eq!(status["conflicts"].as_array().unwrap().len(), 1, "{status}");
}

/// The form of the example in the house rules: what, expected and seen, the next move.
fn assert_form(stderr: &str, segment: &str) {
    let lines: Vec<&str> = stderr.lines().collect();
    let first = format!(
        "error[RF0107]: WAL file '{segment}' is already in the archive with another content"
    );
    assert_eq!(lines[0], first, "{stderr}");
    assert!(lines[1].starts_with("  expected blake3 "), "{stderr}");
    for part in [", seen blake3 ", " (repository '", "', system identifier "] {
        assert!(lines[1].contains(part), "{stderr}");
    }
    assert_eq!(lines[2], "hint: are two primaries archiving to this cluster name?");
    let explain = "hint: `rollforward explain RF0107`";
    assert_eq!(lines.iter().filter(|line| **line == explain).count(), 1, "{stderr}");
    assert_eq!(lines.last(), Some(&explain));
}

#[test]
fn another_clusters_segment_is_refused() {
    let site = Site::new(17);
    let other = Site::unprotected(17, 1, |builder| builder);
    other.cluster.psql("CREATE TABLE t (i int)");
    let segment = other.cluster.switch_wal();
    // By mistake it lies where ours would: place and name fit, the content does not.
    let place = site.cluster.data_dir().join("pg_wal").join(&segment);
    let kept = fs::read(&place).ok();
    fs::copy(other.cluster.data_dir().join("pg_wal").join(&segment), &place).unwrap();
    let said = push(&site, &place).failed("RF0103", 1);
    assert!(said.contains("system identifier"), "{said}");
    assert!(site.objects("main", "wal/").iter().all(|path| !path.ends_with(&segment)));
    if let Some(bytes) = kept {
        fs::write(&place, bytes).unwrap();
    }
    // Its server's backup under our name is refused as well.
    let data = format!("\"{}\"", site.cluster.data_dir().display());
    site.edit_config(&data, &format!("\"{}\"", other.cluster.data_dir().display()));
    let connection = format!("\"{}\"", site.cluster.conninfo());
    site.edit_config(&connection, &format!("\"{}\"", other.cluster.conninfo()));
    site.run("backup shop").failed("RF0601", 4);
    assert!(site.objects("main", "backup/").is_empty());
}

#[test]
fn a_running_clone_cannot_archive_into_the_originals_history() {
    let mut site = Site::new(14);
    site.cluster.psql("CREATE TABLE t (i int)");
    site.archive();
    site.cluster.stop(Stop::Fast);
    let clone = site.folder.join("clone");
    copy(site.cluster.data_dir(), &clone);
    let before = site.objects("main", "");
    let port = Port::reserve();
    let mut clone = Cluster::attach(site.cluster.install(), &clone, port.number());
    clone.start();
    clone.psql("INSERT INTO t VALUES (1)");
    clone.switch_wal();
    clone.wait_until("SELECT failed_count > 0 FROM pg_stat_archiver", "t", DEADLINE);
    assert!(clone.log_text().contains("error[RF0106]"), "{}", clone.log_text());
    clone.stop(Stop::Fast);
    assert_eq!(site.objects("main", ""), before);
    // The original goes on as if nothing had been.
    site.cluster.start();
    site.archive();
    site.backup();
    site.no_conflicts();
}

#[test]
fn without_a_good_token_and_a_wal_file_nothing_is_stored() {
    let mut site = Site::new(15);
    site.cluster.psql("CREATE TABLE t (i int)");
    let segment = site.archive();
    site.cluster.stop(Stop::Fast);
    let before = site.objects("main", "");
    let pg_wal = site.cluster.data_dir().join("pg_wal");
    let path = pg_wal.join(&segment);
    let token = site.folder.join("state/writers/shop.token");
    let good = fs::read_to_string(&token).unwrap();

    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    push(&site, &path).failed("RF0110", 1);
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let (head, secret) = good.rsplit_once(' ').unwrap();
    let other = if secret.starts_with('0') { "1" } else { "0" };
    fs::write(&token, format!("{head} {other}{}", &secret[1..])).unwrap();
    push(&site, &path).failed("RF0105", 1);
    fs::write(&token, "nonsense").unwrap();
    push(&site, &path).failed("RF0110", 1);
    fs::remove_file(&token).unwrap();
    push(&site, &path).failed("RF0110", 1);
    site.folder.file("state/writers/shop.token", &good);
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();

    push(&site, &pg_wal.join("README")).failed("RF0102", 1);
    push(&site, &site.folder.join("000000010000000000000001")).failed("RF0102", 1);
    push(&site, &pg_wal.join("0000000100000000000000F0")).failed("RF0101", 1);
    let short = pg_wal.join("0000000100000000000000F1");
    fs::write(&short, &fs::read(&path).unwrap()[..20]).unwrap();
    push(&site, &short).failed("RF0102", 1);
    let renamed = pg_wal.join("0000000100000000000000F2");
    copy(&path, &renamed);
    push(&site, &renamed).failed("RF0104", 1);
    let held = site.run(&format!("wal push --hold --cluster shop {}", path.display()));
    held.failed("RF0108", 1);
    assert_eq!(site.objects("main", ""), before);
    push(&site, &path).done();
}
