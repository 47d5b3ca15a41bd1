//! `wal get` inside real recoveries: whatever goes wrong, nothing truncated is promoted.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use testbed::postgres::Stop;

use crate::random::Random;
use crate::recovering::{assert_still_recovering, assert_stops_with, recover};
use crate::site::{Site, processes_with};

const SEGMENTS: u32 = 8;
const ROWS: &str = "800|36000";
const KILL_ROUNDS: u32 = 4;

/// A site whose server is stopped, with a backup and WAL of eight segments behind it.
struct Lost {
    site: Site,
    segments: Vec<String>,
    last_xid: String,
}

impl Lost {
    fn make(major: u32) -> Self {
        let mut site = Site::new(major);
        site.cluster.psql("CREATE TABLE orders (total int)");
        site.backup();
        let mut last_xid = String::new();
        let segments = (1..=SEGMENTS)
            .map(|number| {
                last_xid = site.cluster.psql(&format!(
                    "BEGIN; INSERT INTO orders SELECT {number} * 10 FROM generate_series(1, 100);
                     SELECT pg_current_xact_id(); COMMIT"
                ));
                site.archive()
            })
            .collect();
        site.cluster.stop(Stop::Fast);
        Self { site, segments, last_xid }
    }

    /// Both objects of a segment in the middle.
    fn hole(&self) -> [PathBuf; 2] {
        ["main", "second"].map(|name| self.site.wal_object(name, &self.segments[4]))
    }
}

fn hide(path: &Path) -> PathBuf {
    let hidden = path.with_extension("hidden");
    fs::rename(path, &hidden).unwrap();
    hidden
}

fn show(path: &Path) {
    fs::rename(path, path.with_extension("")).unwrap();
}

fn no_failure_promotes(major: u32) {
    let lost = Lost::make(major);
    hole_before(&lost, "latest", "--latest");
    hole_before(&lost, "xid", &format!("--target-xid {}", lost.last_xid));
    silent_repositories(&lost);
    killed_processes(&lost);
    lost.site.verify_clean();
}

/// A segment vanishes after the target was resolved.
fn hole_before(lost: &Lost, folder: &str, target: &str) {
    let mut restored = lost.site.restored(folder, target);
    let hidden = lost.hole().map(|path| hide(&path));
    assert_stops_with(&mut restored.cluster, "RF0111");
    hidden.iter().for_each(|path| show(path));
    recover(&mut restored.cluster).unwrap();
    assert_eq!(restored.cluster.psql("SELECT count(*), sum(total) FROM orders"), ROWS);
}

/// No repository answers while the server recovers.
fn silent_repositories(lost: &Lost) {
    let mut restored = lost.site.restored("silent", "--latest");
    let hidden = ["main", "second"].map(|name| hide(&lost.site.repository(name)));
    assert_stops_with(&mut restored.cluster, "RF0204");
    hidden.iter().for_each(|path| show(path));
    recover(&mut restored.cluster).unwrap();
    assert_eq!(restored.cluster.psql("SELECT count(*), sum(total) FROM orders"), ROWS);
}

/// Restore commands and the filler of the spool are killed at any moment.
fn killed_processes(lost: &Lost) {
    let mut restored = lost.site.restored("killed", "--latest");
    let ticket = restored.cluster.data_dir().join("rollforward.ticket.json");
    let random = Random::seeded();
    let (ended, killed) = (AtomicBool::new(false), AtomicU32::new(0));
    let mut stops = 0;
    thread::scope(|scope| {
        let killer = || kill_until(&ended, &killed, &ticket.display().to_string(), random);
        scope.spawn(killer);
        let _end = End(&ended);
        for _ in 0..KILL_ROUNDS {
            match recover(&mut restored.cluster) {
                Ok(()) => break,
                Err(log) => {
                    // Killed itself, or the shell around it tells so.
                    let killed = ["signal 9", "exit code 137"].iter().any(|how| log.contains(how));
                    assert!(killed, "{log}");
                    assert_still_recovering(restored.cluster.data_dir());
                    stops += 1;
                }
            }
        }
    });
    assert!(killed.load(Ordering::Relaxed) > 0, "nothing was there to be killed");
    println!("{} killed, {stops} stops", killed.load(Ordering::Relaxed));
    if !restored.cluster.is_running() {
        recover(&mut restored.cluster).unwrap();
    }
    assert_eq!(restored.cluster.psql("SELECT count(*), sum(total) FROM orders"), ROWS);
}

/// Ends the killer when it goes, also by a panic.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn kill_until(ended: &AtomicBool, killed: &AtomicU32, ticket: &str, mut random: Random) {
    while !ended.load(Ordering::Relaxed) {
        random.pass(Duration::from_millis(40));
        for pid in processes_with(ticket) {
            // The first one surely, or a quick recovery could get away.
            let chosen = killed.load(Ordering::Relaxed) == 0 || random.below(3) == 0;
            if chosen && kill_process(pid, Signal::KILL).is_ok() {
                killed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[test]
fn on_14_no_failure_of_wal_get_promotes() {
    no_failure_promotes(14);
}

#[test]
fn on_15_no_failure_of_wal_get_promotes() {
    no_failure_promotes(15);
}

#[test]
fn on_16_no_failure_of_wal_get_promotes() {
    no_failure_promotes(16);
}

#[test]
fn on_17_no_failure_of_wal_get_promotes() {
    no_failure_promotes(17);
}

#[test]
fn on_18_no_failure_of_wal_get_promotes() {
    no_failure_promotes(18);
}
