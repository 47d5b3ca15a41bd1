//! What PostgreSQL makes of every way in which a restore command can end. The result stands in
//! docs/decisions/2026-11-21-restore-command-exit-codes.md.

use std::fs;
use std::path::Path;
use std::time::Duration;

use archive::{Exit, GetRequest, exit_of, get};
use pg::TimelineId;
use testbed::postgres::Install;

use crate::recovery::Archive;
use crate::support::{Site, in_memory, route, run};

/// What the server does when the second of three segments is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaction {
    /// Takes it for the end of the archive: it promotes with what it has.
    Promotes,
    /// Ends with a FATAL message; the next start asks again, and nothing is lost.
    Stops,
    /// The same without a message of its own: it takes it that the server is being shut down.
    StopsQuietly,
}

use Reaction::{Promotes, Stops, StopsQuietly};

/// How the command ends, what a shell runs for it, and what the server does. Equal on 14 to 18.
const REACTIONS: [(&str, &str, Reaction); 13] = [
    ("status 1", "exit 1", Promotes),
    ("status 2 (a wrong option)", "exit 2", Promotes),
    ("status 101 (a panic)", "exit 101", Promotes),
    ("status 125", "exit 125", Promotes),
    ("status 126", "exit 126", Stops),
    ("status 127", "exit 127", Stops),
    ("status 128", "exit 128", Stops),
    ("status 143", "exit 143", StopsQuietly),
    ("status 255", "exit 255", Stops),
    ("SIGHUP", "kill -HUP $$", Stops),
    ("SIGABRT", "kill -ABRT $$", Stops),
    ("SIGKILL", "kill -KILL $$", Stops),
    ("SIGTERM", "kill -TERM $$", StopsQuietly),
];

/// What the server says when it stops.
const REFUSED: &str = "FATAL:  could not restore file";

/// All rows, and those of the first segment.
const WHOLE: &str = "111|f|2";
const TRUNCATED: &str = "100|f|2";

fn check_reactions(major: u32) {
    let archive = Archive::make(&Install::by_major(major));
    let refused = &archive.segments[1];
    for (number, (label, end, _)) in (0..).zip(REACTIONS).filter(|(_, it)| it.2 == Promotes) {
        let body = format!("if [ $1 = {refused} ]; then {end}; fi");
        let mut recovery = archive.recovery(&format!("r{number}"), "recovery.signal", &body);
        recovery.recover().unwrap_or_else(|log| panic!("{major} {label}: {log}"));
        assert_eq!(recovery.state(), TRUNCATED, "{major} {label}");
    }
    check_stops(&archive, refused);
    check_standby(&archive, refused);
    check_promotions(&archive);
}

/// Lets one recovery meet every way to stop, one after the other: each start goes on where the one
/// before was stopped.
fn check_stops(archive: &Archive, refused: &str) {
    let end = archive.workdir.join("end");
    let body = format!("if [ $1 = {refused} ]; then . {}; fi", end.display());
    let mut recovery = archive.recovery("stopped", "recovery.signal", &body);
    for (label, command, expect) in REACTIONS.into_iter().filter(|it| it.2 != Promotes) {
        archive.workdir.file("end", command);
        let before = recovery.cluster.log_text().len();
        let log = recovery.recover().unwrap_err().split_off(before);
        let quiet = log.contains("startup process") && !log.contains("FATAL");
        let seen = if log.contains(REFUSED) { Stops } else { StopsQuietly };
        assert!(seen == expect && (quiet || seen == Stops), "{label}: {log}");
    }
    // A command that is not there, or may not be run: 127 and 126 by the shell.
    let good = recovery.command.clone();
    for command in ["/nonexistent/rollforward wal get %f %p", "/etc/passwd %f %p"] {
        recovery.cluster.append_setting("restore_command", command);
        let before = recovery.cluster.log_text().len();
        let log = recovery.recover().unwrap_err().split_off(before);
        assert!(log.contains(REFUSED), "{command}: {log}");
    }
    recovery.cluster.append_setting("restore_command", &good);
    // The server has SIGINT ignored when it runs the command, and so has the command.
    archive.workdir.file("end", "kill -INT $$");
    recovery.recover().unwrap();
    assert_eq!(recovery.state(), WHOLE);
}

/// A standby waits on 1 and asks again; by a signal it stops like any recovery.
fn check_standby(archive: &Archive, refused: &str) {
    let flag = archive.workdir.join("open");
    let body = format!("if [ $1 = {refused} ] && [ ! -f {} ]; then exit 1; fi", flag.display());
    let mut standby = archive.recovery("standby", "standby.signal", &body);
    standby.cluster.append_setting("wal_retrieve_retry_interval", "50ms");
    standby.cluster.start();
    standby.cluster.wait_until("SELECT count(*) FROM orders", "100", Duration::from_secs(30));
    fs::write(&flag, "").unwrap();
    standby.cluster.wait_until("SELECT count(*) FROM orders", "111", Duration::from_secs(30));
    assert_eq!(standby.state(), "111|t|0");
    drop(standby);
    let body = format!("if [ $1 = {refused} ]; then kill -ABRT $$; fi");
    let mut standby = archive.recovery("standby-abort", "standby.signal", &body);
    let log = standby.recover().unwrap_err();
    assert!(log.contains(REFUSED), "{log}");
}

#[test]
fn every_end_of_a_restore_command_on_14() {
    check_reactions(14);
}

#[test]
fn every_end_of_a_restore_command_on_15() {
    check_reactions(15);
}

#[test]
fn every_end_of_a_restore_command_on_16() {
    check_reactions(16);
}

#[test]
fn every_end_of_a_restore_command_on_17() {
    check_reactions(17);
}

#[test]
fn every_end_of_a_restore_command_on_18() {
    check_reactions(18);
}

/// Two restores of one cluster that both promote take the ids that were reserved for them, though
/// the repository has a history of neither.
fn check_promotions(archive: &Archive) {
    for reserved in [4, 7] {
        let histories = archive.workdir.folder(format!("histories{reserved}"), 0o755);
        run(deliver_histories(&histories, reserved));
        for entry in fs::read_dir(&histories).unwrap() {
            testbed::give_to_postgres(&entry.unwrap().path());
        }
        let body = format!("test -f {0}/$1 && exec cp {0}/$1 $2", histories.display());
        let folder = format!("promoted{reserved}");
        let mut recovery = archive.recovery(&folder, "recovery.signal", &body);
        recovery.recover().unwrap();
        assert_eq!(recovery.state(), format!("111|f|{reserved}"));
    }
}

/// What our restore command gives for the histories that a promotion asks for.
async fn deliver_histories(folder: &Path, reserved: u32) {
    let repository = in_memory();
    let site = Site::register(&repository, 1, 16).await;
    for id in 2..=reserved {
        let name = format!("{id:08X}.history");
        let request = GetRequest {
            name: &name,
            destination: &folder.join(&name),
            lineage: &site.lineage,
            route: &route(1, ""),
            end: None,
            reserved: Some(TimelineId::new(reserved)),
            standby: false,
            allow_partial: false,
        };
        let exit = exit_of(&get(&repository, &request).await);
        let expect = if id < reserved { Exit::Zero } else { Exit::One };
        assert_eq!(exit, expect, "{name}");
    }
}

/// What our verdicts rely on in the table above.
#[test]
fn our_exits_are_those_that_mean_what_we_mean() {
    let reaction = |wanted: &str| {
        REACTIONS.iter().find(|(label, ..)| *label == wanted).map(|(_, _, reaction)| *reaction)
    };
    assert_eq!(reaction("status 1"), Some(Promotes));
    assert_eq!(reaction("SIGABRT"), Some(Stops));
    assert_eq!(exit_of(&archive::Verdict::Absent), Exit::One);
}
