//! What goes wrong between the plan and the end of a recovery, on real components.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{Signal, kill_process};
use serde_json::Value;
use testbed::{give_to_postgres, poll};

use crate::program::{Ran, text};
use crate::services::{assert_restored, verdict};
use crate::shop::Shop;
use crate::site::{DEADLINE, processes_with};

/// Begins a recovery whose driver dies at a point; the run.
fn begun(shop: &Shop, point: &str) -> String {
    let mut command = shop.site.command("recover shop --before-incident --as oncall --confirm-any");
    let died = Ran::of(command.env("ROLLFORWARD_FAULT", point));
    assert_eq!(died.status.code(), None, "{died:?}");
    text(&shop.site.run("runs").done(), "runs.0.run")
}

fn resume(shop: &Shop, run: &str) -> Ran {
    shop.site.run(&format!("run resume {run} --as oncall --no-wait"))
}

fn failure(report: &Value) -> String {
    let steps = report["steps"].as_array().unwrap();
    let found = steps.iter().find_map(|step| step["failure"].as_str());
    found.unwrap_or_else(|| panic!("no failure: {report}")).to_owned()
}

/// Where a run restores to: its runbook says so.
fn directory(shop: &Shop, run: &str) -> PathBuf {
    let path = shop.path("state").join("runs").join(run).join("runbook.md");
    let text = fs::read_to_string(path).unwrap();
    let rest = text.split(" --to ").nth(1).unwrap_or_else(|| panic!("no --to in {text}"));
    rest.split_whitespace().next().unwrap().into()
}

#[test]
fn a_target_that_became_unreachable_after_the_plan_ends_the_run_before_anything_is_restored() {
    let shop = Shop::open(15);
    shop.destroy();
    let run = begun(&shop, "Before act:secure.target");
    for repository in ["main", "second"] {
        for object in shop.site.objects(repository, "wal/") {
            fs::remove_file(object).unwrap();
        }
    }
    let report = resume(&shop, &run).ended(6);
    assert_eq!(verdict(&report), ("rolled_back".into(), "shut".into()));
    assert!(failure(&report).contains("rollforward window"), "{report}");
    assert!(shop.made().is_empty() && shop.is_shut());
}

#[test]
fn what_a_stranger_puts_into_the_way_stays_and_ends_the_run() {
    let shop = Shop::open(17);
    shop.destroy();
    let run = begun(&shop, "Before act:restore.cluster.shop");
    let directory = directory(&shop, &run);
    // The driver died before it had begun anything there.
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("theirs"), "precious").unwrap();
    give_to_postgres(&directory);
    let report = resume(&shop, &run).ended(6);
    assert_eq!(verdict(&report), ("rolled_back".into(), "shut".into()));
    assert!(failure(&report).contains("is not empty"), "{report}");
    assert_eq!(fs::read_to_string(directory.join("theirs")).unwrap(), "precious");
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_half_made_restore_of_ours_is_taken_away_and_made_anew() {
    let shop = Shop::open(14);
    let before = shop.destroy();
    let mut command = shop.site.command("recover shop --before-incident --as oncall --confirm-any");
    let mut driver = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    poll(DEADLINE, "the restore", || shop.restores());
    driver.kill().unwrap();
    driver.wait().unwrap();
    let folder = shop.site.folder.path().display().to_string();
    for pid in processes_with("restore") {
        let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&folder) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    poll(DEADLINE, "the restore to be gone", || !shop.restores());
    let run = text(&shop.site.run("runs").done(), "runs.0.run");
    let report = resume(&shop, &run).done();
    assert_restored(&shop, &report, &before);
    assert_eq!(shop.made().len(), 1);
}

#[test]
fn sql_that_never_ends_and_sql_that_says_no_fail_the_check_and_switch_nothing() {
    let shop =
        Shop::with(16, |text| text.replace("validate.sql\",", "validate.sql\", timeout = \"1s\","));
    let before = (shop.setting(), shop.site.cluster.is_running());
    for (sql, expected) in [
        ("SELECT 1;\nSELECT pg_sleep(3600);\n", "line 2: "),
        ("SELECT 'FAILED: orders are missing';\n", "it says 'FAILED: orders are missing'"),
        ("SELECT count(*) FROM orders; -- expect: >= 100000000\n", "expected >= 100000000, seen"),
        ("SELECT nothing FROM nowhere;\n", "nowhere"),
        ("DELETE FROM orders;\n", "read-only"),
    ] {
        fs::write(shop.path("validate.sql"), sql).unwrap();
        let report = shop.site.run("drill shop --copy --as oncall").ended(3);
        assert_eq!(text(&report, "verdict"), "rolled_back");
        let failure = failure(&report);
        assert!(failure.contains(expected), "{sql}: {failure}");
        assert!(shop.made().is_empty(), "{sql}");
    }
    assert_eq!((shop.setting(), shop.site.cluster.is_running()), before);
    assert!(shop.is_healthy());
}

#[test]
fn rows_that_end_long_before_the_target_fail_the_check() {
    let shop = Shop::with(17, |text| {
        text.replace("newest = \"placed_at\"", "newest = \"placed_at\", within = \"30s\"")
    });
    // Right now the shop places orders all the time.
    shop.site.run("drill shop --copy --as oncall --latest").done();
    shop.run_script("stop");
    shop.site
        .cluster
        .psql_in("shop", "UPDATE orders SET placed_at = placed_at - interval '1 hour'");
    shop.site.archive();
    let report = shop.site.run("drill shop --copy --as oncall --latest").ended(3);
    assert!(failure(&report).contains("at most 30 s before the target"), "{report}");
}

#[test]
fn a_manager_that_would_undo_the_steps_must_be_paused_first() {
    let shop = Shop::open(15);
    let note = shop.site.cluster.data_dir().join("patroni.dynamic.json");
    let write = |text: &str| {
        fs::write(&note, text).unwrap();
        give_to_postgres(&note);
    };
    write("{\"ttl\": 30}");
    let refused = shop.site.run("plan shop --latest").failed("RF0912", 4);
    assert!(refused.contains("Patroni") && refused.contains("patronictl pause"), "{refused}");
    write("{\"ttl\": 30, \"pause\": true}");
    shop.site.run("plan shop --latest").done();
    fs::remove_file(&note).unwrap();
    fs::write(shop.site.cluster.data_dir().join("postgresql-auto-failover.conf"), "").unwrap();
    let plan = shop.site.run("plan shop --latest").done();
    assert!(plan["plan"]["warnings"].to_string().contains("pg_auto_failover"), "{plan}");
}

/// Every boundary of the journal and every act of a whole recovery: each driver lives for one more
/// record, or one more act.
mod points {
    use super::*;

    fn killed_all_the_way(major: u32, point: &str) {
        let shop = Shop::open(major);
        let before = shop.destroy();
        let mut command =
            shop.site.command("recover shop --before-incident --as oncall --confirm-any");
        let mut deaths = 0;
        loop {
            let ran = Ran::of(command.env("ROLLFORWARD_FAULT", point));
            if let Some(code) = ran.status.code() {
                assert_eq!(code, 0, "{point}: {ran:?}");
                break;
            }
            deaths += 1;
            assert!(deaths < 1000, "{point}: it does not come to an end");
            let run = text(&shop.site.run("runs").done(), "runs.0.run");
            command = shop.site.command(&format!("run resume {run} --as oncall --no-wait"));
        }
        println!("{point}: {deaths} deaths");
        assert!(deaths > 10, "{point}: {deaths}");
        let run = text(&shop.site.run("runs").done(), "runs.0.run");
        let signed = shop.site.run(&format!("report {run}")).done();
        assert_restored(&shop, &signed["report"], &before);
    }

    #[test]
    fn after_every_record() {
        killed_all_the_way(16, "After append:*#2");
    }

    #[test]
    fn before_every_record() {
        killed_all_the_way(17, "Before append:*#3");
    }

    #[test]
    fn after_every_act() {
        killed_all_the_way(18, "After act:*#2");
    }

    #[test]
    fn before_every_act() {
        killed_all_the_way(14, "Before act:*#2");
    }
}

#[test]
fn a_unit_of_systemd_is_stopped_and_started_in_a_recovery() {
    let units = testbed::Units::start(&["shop-mailer.service"]);
    units.tell("StartUnit", "shop-mailer.service");
    let shop = Shop::with(17, |text| {
        text.replace("writers = [", "writers = [{ systemd = \"shop-mailer\" }, ")
    });
    let before = shop.destroy();
    let with_bus = |words: &str| -> Command {
        let mut command = shop.site.command(words);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", units.address());
        command
    };
    let recover = "recover shop --before-incident --as oncall --confirm-any";
    let stopped = "After act:shut.writer.shop-mailer-service";
    Ran::of(with_bus(recover).env("ROLLFORWARD_FAULT", stopped));
    assert_eq!(units.state("shop-mailer.service"), "inactive");
    let run = text(&shop.site.run("runs").done(), "runs.0.run");
    let report = Ran::of(&mut with_bus(&format!("run resume {run} --as oncall --no-wait"))).done();
    assert_eq!(units.state("shop-mailer.service"), "active");
    assert_restored(&shop, &report, &before);
}
