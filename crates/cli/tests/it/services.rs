//! A service recovered by one command, on real components.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;
use testbed::postgres::Install;
use testbed::{MailServer, as_postgres, poll};

use crate::program::{Ran, text};
use crate::shop::{Before, PASSWORD, Shop, TOKEN};
use crate::site::{DEADLINE, files};

pub(crate) fn verdict(report: &Value) -> (String, String) {
    (text(report, "verdict"), text(report, "serves"))
}

/// The restored database has what was there just before the damage, and the shop is open on it.
pub(crate) fn assert_restored(shop: &Shop, report: &Value, before: &Before) {
    assert_eq!(verdict(report), ("restored".into(), "new".into()), "{report}");
    assert_eq!(shop.restored_orders(report, &before.at), before.orders);
    assert!(!shop.is_shut());
    shop.wait_for_health();
    shop.wait_for_orders(3);
    let port = text(report, "facts.port");
    let expected = format!(
        "# the shop's settings\nDATABASE_URL='postgres://shop:{PASSWORD}@127.0.0.1:{port}/shop?connect_timeout=5'\n"
    );
    assert_eq!(shop.setting(), expected, "only host and port changed");
    assert!(!shop.site.cluster.is_running(), "the old server is stopped");
}

#[test]
fn a_service_comes_back_by_one_command() {
    let shop = Shop::open(16);
    let before = shop.destroy();
    let report = shop.recover("--confirm-any").done();
    assert_restored(&shop, &report, &before);
    assert!(report["rpo_reached_ms"].as_i64().unwrap() >= 0, "{report}");
    assert!(report["rto_ms"].as_i64().unwrap() > 0, "{report}");
    assert_eq!(report["missed"], serde_json::json!([]));
    // It is protected again: the old history goes on in the new cluster.
    shop.site.run("backup shop").done();
    shop.site.verify_clean();
    let run = text(&report, "run");
    let listed = shop.site.run("runs").done();
    assert_eq!(text(&listed, "runs.0.run"), run);
    assert_eq!(text(&listed, "runs.0.verdict"), "restored");
    // What a person would follow stands beside the journal, in the clear.
    let runbook = fs::read_to_string(shop.path("main/journal/runbook").join(format!("{run}.md")));
    assert!(runbook.unwrap().contains("rollforward restore shop"));
    // The report proves itself, and a changed one does not.
    let file = shop.path("state").join("runs").join(&run).join("report.json");
    shop.site.run(&format!("report {} --verify", file.display())).done();
    let changed = fs::read_to_string(&file).unwrap().replace("\"restored\"", "\"rolled_back\"");
    fs::write(shop.path("changed.json"), changed).unwrap();
    let words = format!("report {} --verify", shop.path("changed.json").display());
    shop.site.run(&words).failed("RF0912", 4);
    no_secret_is_seen(&shop, &run);
}

/// Greps everything that was written and everything that is said.
fn no_secret_is_seen(shop: &Shop, run: &str) {
    let mut said = Vec::new();
    for words in ["runs", "incident list", "diagnose shop", "plan shop --latest"] {
        let ran = shop.site.run(words);
        said.push((words.to_owned(), ran.stdout + &ran.stderr));
    }
    for words in ["run show", "run watch", "report"] {
        let ran = shop.site.run(&format!("{words} {run}"));
        said.push((words.to_owned(), ran.stdout + &ran.stderr));
    }
    for path in files(&shop.path("state")).into_iter().chain(files(&shop.path("main"))) {
        let bytes = fs::read(&path).unwrap();
        said.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
    }
    assert!(said.len() > 50);
    for (what, text) in said {
        for secret in [PASSWORD, TOKEN] {
            assert!(!text.contains(secret), "a secret in {what}");
        }
    }
}

#[test]
fn a_driver_that_dies_at_every_step_is_followed_by_one_that_goes_on() {
    let shop = Shop::open(15);
    let before = shop.destroy();
    let plan = shop.site.run("plan shop --latest").done();
    let steps: Vec<String> = plan["plan"]["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| text(step, "id"))
        .filter(|id| id != "open.point")
        .collect();
    assert!(steps.len() > 15, "{steps:?}");
    // A point for every kind of record that this run has, and for every step.
    let mut points: Vec<String> = Vec::new();
    for kind in ["intent", "driver-changed"] {
        points.extend([format!("Before append:{kind}"), format!("After append:{kind}")]);
    }
    for step in &steps {
        if step == "shut.door" {
            points.extend(["Before append:original".into(), "After append:original".into()]);
        }
        points.push(format!("Before act:{step}"));
        points.push(format!("After act:{step}"));
        if step == "shut.door" {
            points.extend(["Before append:done".into(), "After append:done".into()]);
        }
    }
    points.extend(["Before append:closed".into(), "After append:closed".into()]);
    let mut command = shop.site.command("recover shop --before-incident --as oncall --confirm-any");
    let mut died = 0;
    for point in &points {
        let ran = Ran::of(command.env("ROLLFORWARD_FAULT", point));
        assert_eq!(
            ran.status.code(),
            None,
            "{point}: it did not die: {}{}",
            ran.stdout,
            ran.stderr
        );
        died += 1;
        let run = text(&shop.site.run("runs").done(), "runs.0.run");
        command = shop.site.command(&format!("run resume {run} --as oncall --no-wait"));
    }
    assert_eq!(died, points.len());
    // The last one died behind the end: what is left is to look.
    let run = text(&shop.site.run("runs").done(), "runs.0.run");
    shop.site.run(&format!("run resume {run} --as oncall --no-wait"));
    let signed = shop.site.run(&format!("report {run}")).done();
    assert_restored(&shop, &signed["report"], &before);
}

#[test]
fn a_driver_killed_in_the_middle_of_the_restore_finds_it_under_way() {
    let shop = Shop::open(17);
    let before = shop.destroy();
    let mut command = shop.site.command("recover shop --before-incident --as oncall --confirm-any");
    let mut driver = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    poll(DEADLINE, "the restore", || shop.restores());
    driver.kill().unwrap();
    driver.wait().unwrap();
    let run = text(&shop.site.run("runs").done(), "runs.0.run");
    // A second recovery does not begin: the service has a run.
    assert_eq!(shop.recover("--confirm-any").status.code(), Some(8));
    let report = shop.site.run(&format!("run resume {run} --as oncall --no-wait")).done();
    assert_restored(&shop, &report, &before);
    assert_eq!(shop.made().len(), 1);
}

#[test]
fn a_writer_that_ignores_maintenance_is_ended_by_the_fence() {
    // An objective that nobody can meet, too: the report says so, and asks why.
    let shop = Shop::with(18, |text| text.replace("rto = \"4h\"", "rto = \"1ms\""));
    let before = shop.destroy();
    // It writes as fast as it can, knows no door and is no declared application.
    let mut command = Command::new(Install::psql());
    command.args(["-X", "-q", "-U", "postgres", "-d", "shop", "-h"]);
    command.arg(shop.site.cluster.socket_dir()).arg("-p").arg(shop.site.cluster.port().to_string());
    command.args(["-c", "CREATE TABLE foreign_work (at timestamptz)", "-c"]);
    command.arg("DO $$ BEGIN LOOP INSERT INTO foreign_work VALUES (clock_timestamp()); COMMIT; END LOOP; END $$");
    let mut foreign = as_postgres(&mut command).stderr(Stdio::null()).spawn().unwrap();
    shop.site.cluster.wait_until(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'DO %' AND state = 'active'",
        "t",
        DEADLINE,
    );
    let report = shop.recover("--confirm-any").done();
    assert!(!foreign.wait().unwrap().success(), "its session was ended");
    assert_restored(&shop, &report, &before);
    // What it wrote counts as lost work, and is not in the restored database.
    assert!(report["work_lost_ms"].as_i64().unwrap() > report["rpo_reached_ms"].as_i64().unwrap());
    let run = text(&report, "run");
    let written = |name: &str| {
        fs::read_to_string(shop.path("state").join("runs").join(&run).join(name)).unwrap()
    };
    assert!(text(&report, "missed.0").starts_with("RTO: "), "{report}");
    let markdown = written("report.md");
    assert!(markdown.contains("## Post-mortem\n\n- missed RTO: "), "{markdown}");
    assert!(written("report.html").contains("Post-mortem"), "the page has it, too");
    assert!(markdown.contains("rollforward run remove-old"), "what is left to do: {markdown}");
    the_old_cluster_is_removed_by_command(&shop, &report);
}

fn the_old_cluster_is_removed_by_command(shop: &Shop, report: &Value) {
    let (site, run) = (&shop.site, text(report, "run"));
    let old = site.cluster.data_dir().to_owned();
    let remove = |options: &str| site.run(&format!("run remove-old {run} --as oncall {options}"));
    let confirm = "shop remove ".to_owned() + &text(report, "facts.safety_copy_system_id");
    let with = |text: &str, options: &str| {
        let mut command = site.command(&format!("run remove-old {run} --as oncall {options}"));
        Ran::of(command.args(["--confirm", text]))
    };
    assert!(with(&confirm, "").failed("RF0912", 4).contains("keeps the replaced cluster for"));
    assert!(with("shop remove 1", "--early").failed("RF0912", 4).contains("nothing was removed"));
    // Somebody has taken it back: then it is theirs.
    let (hba, fence) = (old.join("pg_hba.conf"), fs::read_to_string(old.join("pg_hba.conf")));
    fs::write(&hba, "local all all trust\n").unwrap();
    assert!(with(&confirm, "--early").failed("RF0912", 4).contains("taken it back"));
    fs::write(&hba, fence.unwrap()).unwrap();
    assert!(old.exists());
    assert_eq!(with(&confirm, "--early").done()["removed"], true);
    assert!(!old.exists());
    assert_eq!(remove("--early").done()["removed"], false, "it is gone already");
    assert!(shop.is_healthy());
    site.run("backup shop").done();
    let shown = site.run(&format!("incident show {}", text(report, "incident"))).done();
    assert!(shown.to_string().contains("removed-old"), "{shown}");
}

#[test]
fn without_a_door_what_users_wrote_is_counted_and_not_rolled_back_by_itself() {
    let shop = Shop::with(16, |text| {
        let lines = text.lines().filter(|line| !line.starts_with("door = "));
        lines
            .map(|line| format!("{}\n", line.replace("min_items = 5", "min_items = 5000")))
            .collect()
    });
    let (before, setting) = (shop.destroy(), shop.setting());
    let plan = shop.site.run("plan shop --latest").done();
    assert!(plan["plan"]["warnings"].to_string().contains("there is no door"), "{plan}");
    let report = shop.recover("--confirm-any").ended(7);
    assert_eq!(text(&report, "verdict"), "halted");
    let remarks = report["remarks"].to_string();
    assert!(remarks.contains("users have written into the new database"), "{remarks}");
    assert!(!remarks.contains("unknown"), "it is counted: {remarks}");
    assert!(shop.restored_orders(&report, &before.at) >= before.orders);
    assert_ne!(shop.setting(), setting, "it stays as it is until somebody decides");
    let run = text(&report, "run");
    shop.site.run(&format!("run abort {run} --reason decided --as oncall")).done();
    let report = shop.site.run(&format!("run resume {run} --as oncall --no-wait")).ended(6);
    assert_eq!(verdict(&report), ("rolled_back".into(), "shut".into()));
    assert_eq!(shop.setting(), setting);
}

#[test]
fn a_smoke_test_that_gets_an_error_page_with_200_rolls_back_and_stays_shut() {
    let shop =
        Shop::with(16, |text| text.replace("min_items = 5", "json = { \"/status\" = \"ok\" }"));
    let before = shop.setting();
    shop.destroy();
    let ran = shop.recover("--confirm-any");
    let report = ran.ended(6);
    assert_eq!(verdict(&report), ("rolled_back".into(), "shut".into()));
    assert_eq!(shop.setting(), before, "the setting is the old one, byte for byte");
    assert!(shop.is_shut() && shop.made().is_empty());
    assert!(!shop.is_healthy() && !shop.site.cluster.is_running());
    let failure =
        report["steps"].as_array().unwrap().iter().find_map(|step| step["failure"].as_str());
    assert!(failure.unwrap().contains("/status"), "{failure:?}");
}

#[test]
fn a_policy_may_let_the_old_database_serve_again() {
    let shop = Shop::with(14, |text| {
        text.replace("min_items = 5", "min_items = 5000")
            + "policy = { on_failure = \"reopen-old\" }\n"
    });
    let before = shop.setting();
    shop.destroy();
    let report = shop.recover("--confirm-any").ended(6);
    assert_eq!(verdict(&report), ("rolled_back".into(), "old".into()));
    assert_eq!(shop.setting(), before);
    assert!(!shop.is_shut() && shop.made().is_empty());
    assert!(shop.site.cluster.is_running());
    shop.wait_for_health();
    shop.wait_for_orders(3);
    assert_eq!(shop.site.cluster.psql("SELECT 1"), "1", "its client authentication is back");
}

#[test]
fn a_gate_waits_and_another_target_goes_on_from_what_is_shut() {
    let mails = MailServer::start();
    let shop = Shop::with(16, |text| {
        format!(
            "{text}checklist = [\"the invoices are there\"]\ntell = [\"oncall\"]\n\n[notify]\n\
             oncall = {{ email = {{ server = \"{}\", from = \"rf@shop.example\", \
             to = [\"oncall@shop.example\"], plain = true }} }}\n",
            mails.address()
        )
    });
    let before = shop.destroy();
    // The first target is wrong: everything up to now.
    let ran = shop.site.run("recover shop --latest --as oncall --no-wait --confirm-any");
    let first = ran.ended(5);
    assert!(shop.is_shut(), "{first}");
    let asked = mails.messages().join("\n");
    for words in [
        "Subject: [shop] recovery begun",
        "Subject: [shop] waits for approval",
        "the invoices are there",
        "run approve",
        "rollforward restore shop",
    ] {
        assert!(asked.contains(words), "{asked}");
    }
    let found = shop.site.run("locate shop").done();
    let target = text(&found, "suspects.0.recover_before");
    let words = format!("recover shop --again --before {target} --as oncall --no-wait");
    assert_eq!(shop.site.run(&words).status.code(), Some(5), "not confirmed: nothing begins");
    let refused = shop.site.run(&format!("{words} --confirm 0123456789"));
    assert!(refused.failed("RF0912", 4).contains("another one now"));
    // What an LSN loses is not known beforehand: only the plan's own digest will do.
    let refused = shop.site.run(&format!("{words} --confirm-any")).failed("RF0912", 4);
    let digest = refused.rsplit(' ').next().unwrap().to_owned();
    let second = shop.site.run(&format!("{words} --confirm {digest}")).ended(5);
    let run = text(&second, "run");
    assert_ne!(run, text(&first, "run"));
    shop.site.run(&format!("run approve {run} --as oncall")).done();
    let report = shop.site.run(&format!("run resume {run} --as oncall --no-wait")).done();
    assert_restored(&shop, &report, &before);
    let runs = shop.site.run("runs").done();
    assert_eq!(text(&runs, "runs.1.verdict"), "superseded");
}

#[test]
fn final_steps_need_a_second_person_whose_signature_fits() {
    let shop = Shop::with(17, |text| text + "policy = { final = 2 }\n");
    let before = shop.destroy();
    let site = &shop.site;
    let mut lines = String::from("\n[person]\n");
    let persons = [("oncall", "recovery-operator"), ("secondary", "approver"), ("guest", "viewer")];
    for (name, role) in persons {
        let mut add = site.command(&format!("person add {name} --role {role}"));
        let added =
            Ran::of(add.env("ROLLFORWARD_PERSON_PASSPHRASE", format!("of {name}, long"))).done();
        lines.push_str(&text(&added, "line"));
        lines.push('\n');
    }
    site.append_config(&lines);
    let say = |words: &str, person: &str| {
        let mut command = site.command(&format!("{words} --as {person}"));
        Ran::of(command.env("ROLLFORWARD_PERSON_PASSPHRASE", format!("of {person}, long")))
    };
    let recover = "recover shop --before-incident --confirm-any --no-wait";
    say(recover, "nobody").failed("RF0911", 2);
    let mut wrong = site.command(&format!("{recover} --as oncall"));
    let wrong = Ran::of(wrong.env("ROLLFORWARD_PERSON_PASSPHRASE", "another one, long"));
    assert!(wrong.failed("RF0911", 2).contains("does not open it"));
    for person in ["guest", "secondary"] {
        let refused = say(recover, person).failed("RF0912", 4);
        assert!(refused.contains("recovery-operator"), "{refused}");
    }
    let run = text(&say(recover, "oncall").ended(5), "run");
    assert!(shop.is_shut());
    // Somebody with the repository's key and a key of their own for 'secondary'.
    let forged = site.folder.folder("forged", 0o755);
    let own_key = forged.join("secondary.person").display().to_string();
    let mut add =
        site.command(&format!("person add secondary --role approver --key-file {own_key}"));
    let added = Ran::of(add.env("ROLLFORWARD_PERSON_PASSPHRASE", "another, long"));
    let line = text(&added.done(), "line");
    let config = fs::read_to_string(site.config()).unwrap();
    let ours = config.lines().find(|line| line.starts_with("secondary = ")).unwrap();
    let other = site.folder.join("forged/rollforward.toml");
    fs::write(&other, config.replace(ours, &line)).unwrap();
    let mut forge = site.command(&format!("run approve {run} --as secondary"));
    forge.arg("--config").arg(&other).env("ROLLFORWARD_PERSON_PASSPHRASE", "another, long");
    Ran::of(&mut forge).done();
    // And one whose role does not drive.
    say(&format!("run abort {run} --reason bored"), "guest").done();
    let waits = say(&format!("run resume {run} --no-wait"), "oncall").ended(5);
    let remarks = waits["remarks"].to_string();
    for words in ["is not signed with the key of 'secondary'", "'guest' has no role that drives"] {
        assert!(remarks.contains(words), "{remarks}");
    }
    // The requester counts once.
    say(&format!("run approve {run}"), "oncall").done();
    assert_eq!(say(&format!("run resume {run} --no-wait"), "oncall").status.code(), Some(5));
    say(&format!("run approve {run}"), "secondary").done();
    let report = say(&format!("run resume {run} --no-wait"), "oncall").done();
    assert_restored(&shop, &report, &before);
}

#[test]
fn a_drill_goes_through_and_production_goes_on() {
    let shop = Shop::with(16, |text| text);
    let site = &shop.site;
    let folder = site.folder.path().display().to_string();
    fs::copy(shop.path("shop.env"), shop.path("drill.env")).unwrap();
    testbed::give_to_postgres(&shop.path("drill.env"));
    let port = testbed::Port::reserve();
    let command = |verb: &str| {
        format!("[\"{folder}/shop.sh\", \"{verb}\", \"drill\", \"{}\"]", port.number())
    };
    let drill = format!(
        "[service.shop.drill]\ndatabase = {{ directory = \"{folder}/drills\" }}\n\
         setting = {{ file = \"{folder}/drill.env\", key = \"DATABASE_URL\", form = \"uri\" }}\n\
         writers = [{{ command = \"shop-drill\", start = {}, stop = {}, probe = {} }}]\n\
         smoke = [{{ get = \"http://127.0.0.1:{}/health\" }}]\n",
        command("start"),
        command("stop"),
        command("status"),
        port.number()
    );
    site.append_config(&drill);
    site.folder.folder("drills", 0o755);
    let guess = site.run("plan shop --latest").done();
    assert!(guess["plan"]["warnings"].to_string().contains("times are guesses"), "{guess}");
    // The drill replays something: its newest commit is what the RPO is measured with.
    shop.wait_for_orders(3);
    site.archive();
    let (setting, placed) = (shop.setting(), shop.placed());
    let report = site.run("drill shop --as oncall").done();
    assert_eq!(verdict(&report), ("restored".into(), "old".into()));
    assert!(report["rto_ms"].as_i64().unwrap() > 0);
    assert_eq!(shop.setting(), setting);
    assert!(shop.is_healthy() && shop.placed() > placed, "production went on");
    let left: Vec<_> = fs::read_dir(shop.path("drills")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    // What it took is what the next plan says.
    let plan = site.run("plan shop --latest").done();
    assert!(!plan["plan"]["warnings"].to_string().contains("guesses"), "{plan}");
    let restore = |plan: &Value| {
        let steps = plan["plan"]["steps"].as_array().unwrap();
        steps.iter().find(|step| step["kind"] == "restore-cluster").unwrap().clone()
    };
    let took = report["steps"].as_array().unwrap();
    let began = took.iter().find(|step| step["id"] == "restore.cluster.shop").unwrap();
    let (before, after) = (restore(&guess), restore(&plan));
    assert_eq!(before["base_s"], after["base_s"]);
    assert_ne!(before["predicted_s"], after["predicted_s"], "{began}");
    assert!(report["rpo_reached_ms"].as_i64().is_some(), "{report}");
    let backups = site.run("backups shop").done();
    assert_eq!(backups["backups"][0]["proved"]["rto_ms"], report["rto_ms"], "{backups}");
    assert!(after["attempt_s"].as_u64() >= before["attempt_s"].as_u64());
    // A drill that would touch production is refused before it begins.
    site.edit_config(&format!("{folder}/drill.env"), &format!("{folder}/shop.env"));
    assert!(site.run("drill shop").failed("RF0912", 4).contains("touch production"));
}

#[test]
fn what_would_fail_at_night_is_refused_beforehand() {
    let shop = Shop::open(15);
    let site = &shop.site;
    site.run("plan nobody").failed("RF0907", 2);
    let refused = |what: &str| {
        let message = site.run("plan shop --latest").failed("RF0912", 4);
        assert!(message.contains(what), "expected {what}: {message}");
    };
    // A setting without the key, a secret that does not resolve, a file with commands of psql.
    fs::write(shop.path("shop.env"), "OTHER=1\n").unwrap();
    refused("no line 'DATABASE_URL=…'");
    fs::write(
        shop.path("shop.env"),
        format!("DATABASE_URL=postgres://shop:{PASSWORD}@127.0.0.1:1/shop\n"),
    )
    .unwrap();
    fs::rename(shop.path("shop.token"), shop.path("gone")).unwrap();
    refused("shop.token");
    fs::rename(shop.path("gone"), shop.path("shop.token")).unwrap();
    fs::write(shop.path("validate.sql"), "\\copy a to b\n").unwrap();
    refused("'\\copy' is a command of psql");
    fs::write(shop.path("validate.sql"), "SELECT 1;\n").unwrap();
    // A password where every plan would carry it.
    site.edit_config("connection = \"", "connection = \"password=pl4nted ");
    refused("holds a password");
    site.edit_config("password=pl4nted ", "");
    site.edit_config("smoke = [{ get = \"http://", "smoke = [{ get = \"http://u:pl4nted@");
    refused("the address of a smoke test holds a password");
    site.edit_config("u:pl4nted@", "");
    // A setting that nobody reads: it points to another port. Found before anything is touched.
    shop.destroy_quietly();
    let report = shop.recover("--confirm-any").ended(6);
    assert_eq!(verdict(&report), ("rolled_back".into(), "old".into()));
    assert!(!shop.is_shut() && site.cluster.is_running());
    // Unknown keys are refused with the nearest one.
    site.edit_config("min_items", "min_item");
    assert!(site.run("plan shop").failed("RF0903", 2).contains("did you mean 'min_items'"));
}
