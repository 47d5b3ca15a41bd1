//! Processes killed at random moments: afterwards everything works, and nothing is half there.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::program::Ran;
use crate::random::Random;
use crate::site::Site;

const ROUNDS: u64 = 6;

fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Runs the command and kills it after a random time; returns how it ended when it was quicker.
fn kill_within(command: &mut Command, limit_ms: u64, random: &mut Random) -> Option<Ran> {
    let mut child = spawn(command);
    random.pass(Duration::from_millis(limit_ms));
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    output.status.code().map(|_| Ran::from_output(format!("{command:?}"), &output))
}

fn loaded(major: u32) -> Site {
    let site = Site::new(major);
    site.cluster.psql("CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 50000) i");
    site
}

#[test]
fn a_killed_backup_leaves_nothing_that_looks_like_one() {
    let site = loaded(15);
    let mut random = Random::seeded();
    let mut complete = 0;
    for _ in 0..ROUNDS {
        if let Some(ran) = kill_within(&mut site.command("backup shop"), 1500, &mut random) {
            ran.done();
            complete += 1;
        }
        let listed = site.run("backups shop").done();
        let listed = listed["backups"].as_array().unwrap().len();
        // One more may have become whole just before it was killed.
        assert!(listed >= complete, "{listed} of {complete}");
        complete = listed;
    }
    site.backup();
    site.verify_clean();
    let restored = site.restore("restored", "--copy --latest").cluster;
    assert_eq!(restored.psql("SELECT count(*) FROM t"), "50000");
}

#[test]
fn killed_pushes_are_done_again() {
    let site = loaded(18);
    site.backup();
    site.archive();
    // The archiver rests for up to a minute after each failure, so its part is played here first.
    let command = site.cluster.psql("SHOW archive_command");
    site.cluster.psql("ALTER SYSTEM SET archive_command = ''");
    site.cluster.reload();
    let mut random = Random::seeded();
    let mut killed = 0;
    for number in 1..=12 {
        site.cluster.psql(&format!("INSERT INTO t VALUES (-{number})"));
        let path = site.cluster.data_dir().join("pg_wal").join(site.cluster.switch_wal());
        let words = format!("wal push --cluster shop {}", path.display());
        match kill_within(&mut site.command(&words), 40, &mut random) {
            Some(ran) => assert_eq!(ran.done()["outcome"], "stored"),
            None => killed += 1,
        }
        if random.below(2) == 0 {
            site.run(&words).done();
        }
    }
    assert!(killed > 0, "every push was quicker");
    site.cluster.psql(&format!("ALTER SYSTEM SET archive_command = '{command}'"));
    site.cluster.reload();
    site.archive();
    site.no_conflicts();
    site.verify_clean();
    assert_eq!(site.run("wal status shop").done()["conflicts"], serde_json::json!([]));
    let restored = site.restore("restored", "--copy --latest").cluster;
    assert_eq!(restored.psql("SELECT count(*) FROM t WHERE i < 0"), "12");
}

#[test]
fn a_killed_restore_is_begun_again_in_the_same_directory() {
    let site = loaded(14);
    site.backup();
    site.cluster.psql("INSERT INTO t VALUES (-1)");
    site.archive();
    let mut random = Random::seeded();
    let directory = site.folder.join("restored");
    let words = format!("restore shop --copy --to {}", directory.display());
    for round in 0..ROUNDS {
        let ran = kill_within(&mut site.command(&words), 250 + 150 * round, &mut random);
        let whole = directory.join("global/pg_control").exists();
        match ran {
            Some(ran) => {
                ran.done();
                assert!(whole);
            }
            None if whole => {}
            None => continue,
        }
        fs::remove_dir_all(&directory).unwrap();
    }
    let restored = site.restore("restored", "--copy --latest").cluster;
    assert_eq!(restored.psql("SELECT count(*) FROM t"), "50001");
    site.verify_clean();
}

#[test]
fn a_killed_init_is_completed_by_the_next_one() {
    let mut random = Random::seeded();
    let site = Site::unprotected(16, 1, |builder| builder.setting("archive_mode", "on"));
    let mut tries = 0;
    // Until one of them was quicker than its end.
    loop {
        let repositories = match site.config().exists() {
            true => Vec::new(),
            false => site.two_repositories(),
        };
        let limit = 10 + 25 * tries;
        match kill_within(&mut site.init_command(&repositories), limit, &mut random) {
            Some(ran) => {
                ran.done();
                break;
            }
            None => tries += 1,
        }
    }
    assert!(tries > 0, "init was quicker than every kill");
    println!("{tries} killed");
    site.cluster.psql("CREATE TABLE t (i int)");
    site.backup();
    site.archive();
    site.verify_clean();
    assert_eq!(site.run("key list").done().as_array().unwrap().len(), 4);
    let code = site.folder.join("recovery-code");
    for name in ["main", "second"] {
        let words = format!(
            "key prove --repository {} --recovery-code-file {}",
            site.repository(name).display(),
            code.display()
        );
        assert_eq!(site.run(&words).done()["backups"], 1);
    }
    site.restore("restored", "--latest");
}

#[test]
fn a_server_that_goes_away_during_a_backup_leaves_none() {
    let mut site = loaded(17);
    site.cluster.psql("UPDATE t SET i = i");
    // A spread checkpoint takes minutes: the backup is on its way when the server stops.
    let child = spawn(&mut site.command("backup shop --spread-checkpoint"));
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE query ~ 'backup_start' AND pid <> pg_backend_pid()";
    site.cluster.wait_until(sql, "1", crate::site::DEADLINE);
    site.cluster.stop(testbed::postgres::Stop::Immediate);
    let output = child.wait_with_output().unwrap();
    let ran = Ran::from_output("backup".into(), &output);
    let code = ran.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
    assert!(["RF0507", "RF0508", "RF0512", "RF0502", "RF0503"].contains(&code.as_str()), "{ran:?}");
    ran.failed(&code, 1);
    assert_eq!(site.run("backups shop").done()["backups"], serde_json::json!([]));
    assert!(site.objects("main", "backup/").is_empty());

    // At any other moment.
    site.cluster.start();
    let mut random = Random::seeded();
    for _ in 0..2 {
        let child = spawn(&mut site.command("backup shop"));
        random.pass(Duration::from_millis(900));
        site.cluster.stop(testbed::postgres::Stop::Immediate);
        let output = child.wait_with_output().unwrap();
        let ran = Ran::from_output("backup".into(), &output);
        if !output.status.success() {
            let code = ran.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
            ran.failed(&code, 1);
        }
        site.cluster.start();
    }
    site.backup();
    site.verify_clean();
}

/// Sends SIGTERM.
fn terminate(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
}

#[test]
fn a_backup_told_to_stop_cleans_up() {
    let site = loaded(16);
    site.cluster.psql("UPDATE t SET i = i");
    let child = spawn(&mut site.command("backup shop --spread-checkpoint"));
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE query ~ 'backup_start' AND pid <> pg_backend_pid()";
    site.cluster.wait_until(sql, "1", crate::site::DEADLINE);
    terminate(&child);
    let output = child.wait_with_output().unwrap();
    Ran::from_output("backup".into(), &output).failed("RF0614", 1);
    assert!(site.objects("main", "backup/").is_empty());
    assert!(site.objects("main", "pack/").is_empty());
    // The server looks after its session again when the checkpoint is complete: now.
    site.cluster.psql("CHECKPOINT");
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ 'rollforward'";
    site.cluster.wait_until(sessions, "0", crate::site::DEADLINE);
    site.backup();
    site.verify_clean();
}
