//! Jobs that run by themselves: one line each, alarms once, never two of a kind, metrics.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use testbed::postgres::Stop;
use testbed::{poll, tool};

use crate::endpoint::Endpoint;
use crate::program::{Ran, program_as_root, text};
use crate::site::{DEADLINE, Site, edit, mode};
use crate::vendors::{KEY, Vendors};

/// A site with jobs, and who hears of them.
struct Night {
    site: Site,
    endpoint: Endpoint,
}

impl Night {
    fn new() -> Self {
        let site = Site::new(16);
        let endpoint = Endpoint::start("");
        let folder = site.folder.path().display().to_string();
        let bindir = site.cluster.install().bindir.display();
        let programs = format!("[cluster.shop]\nbin_directory = \"{bindir}\"\n");
        site.edit_config("[cluster.shop]\n", &programs);
        let more = format!(
            "\n[notify]\nroom = {{ webhook = \"http://127.0.0.1:{}/room\" }}\n\
             [schedule]\ntell = [\"room\"]\nmetrics = \"{folder}/rollforward.prom\"\n\
             [schedule.job.backup-shop]\nrun = \"backup shop\"\nat = \"daily 02:00\"\n\
             [schedule.job.dump-shop]\nrun = \"dump create shop\"\nat = \"weekly sat 01:00\"\n\
             [schedule.job.verify-shop]\nrun = \"verify shop --deep\"\nat = \"weekly sun 04:00\"\n",
            endpoint.port
        );
        site.append_config(&more);
        Self { site, endpoint }
    }

    /// What the room was told, in order.
    fn told(&self) -> Vec<(String, String)> {
        let told = self.endpoint.seen("POST /room").into_iter().map(|request| {
            let body: Value = serde_json::from_str(&request.body).unwrap();
            (text(&body, "service"), text(&body, "what"))
        });
        told.collect()
    }

    fn record(&self, job: &str) -> Value {
        let path = self.site.folder.join("state").join(format!("jobs/{job}.json"));
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }
}

fn told(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(service, what)| ((*service).into(), (*what).into())).collect()
}

#[test]
fn a_job_that_fails_or_is_late_alarms_once_and_its_recovery_is_told_once() {
    let night = Night::new();
    let site = &night.site;
    let ran = site.run("schedule run backup-shop --log-line");
    let ended = ran.done();
    let label = text(&ended, "ended.label");
    let line = ran.stderr.lines().find(|line| line.starts_with("job=backup-shop ")).unwrap();
    for part in ["run=\"backup shop\" status=done seconds=", " bytes=", &format!(" label={label}")]
    {
        assert!(line.contains(part), "{line}");
    }
    assert_eq!(site.run("backups shop").done()["backups"].as_array().unwrap().len(), 1);
    assert_eq!(site.run("schedule check").done()["wrong"], serde_json::json!([]));
    assert_eq!(night.told(), []);
    // It fails twice: one alarm.
    edit(&site.config(), "run = \"backup shop\"", "run = \"backup nosuch\"");
    for _ in 0..2 {
        let ran = site.run("schedule run backup-shop").ended(1);
        assert!(text(&ran, "ended.message").starts_with("RF0905: "), "{ran}");
    }
    assert_eq!(site.run("schedule check").ended(3)["wrong"][0]["what"], "job failed");
    assert_eq!(night.told(), told(&[("job backup-shop", "job failed")]));
    let record = night.record("backup-shop");
    assert_eq!((&record["successes"], &record["failures"]), (&1.into(), &2.into()));
    // It succeeds again: one word, and none about the next success.
    edit(&site.config(), "run = \"backup nosuch\"", "run = \"backup shop\"");
    for _ in 0..2 {
        site.run("schedule run backup-shop").done();
    }
    let both = [("job backup-shop", "job failed"), ("job backup-shop", "recovered")];
    assert_eq!(night.told(), told(&both));
    // The last success is two days old: late, once.
    let path = site.folder.join("state/jobs/backup-shop.json");
    let mut record = night.record("backup-shop");
    record["last_success"]["ended"] = "2020-11-01T02:00:00Z".into();
    fs::write(&path, record.to_string()).unwrap();
    for _ in 0..2 {
        let wrong = site.run("schedule check").ended(3);
        assert_eq!(wrong["wrong"][0]["what"], "job late", "{wrong}");
    }
    let mut all = both.to_vec();
    all.push(("job backup-shop", "job late"));
    assert_eq!(night.told(), told(&all));
    site.run("schedule run backup-shop").done();
    site.run("schedule check").done();
    all.push(("job backup-shop", "recovered"));
    assert_eq!(night.told(), told(&all));
    // Twice what it was before: nothing; less than half: once.
    let mut record = night.record("backup-shop");
    record["last_success"]["bytes"] = 1_000_000_000_000_u64.into();
    fs::write(&path, record.to_string()).unwrap();
    site.run("schedule run backup-shop").done();
    site.run("schedule check").ended(3);
    all.push(("job backup-shop", "job shrank"));
    assert_eq!(night.told(), told(&all));
}

#[test]
fn the_end_of_a_jobs_alarm_ends_neither_an_incident_nor_another_alarm_at_a_pager() {
    let (mut night, vendors) = (Night::new(), Vendors::start());
    night.site.variables.push(("VENDOR_KEY".into(), KEY.into()));
    let site = &night.site;
    let folder = site.folder.path().display();
    edit(&site.config(), "tell = [\"room\"]", "tell = [\"room\", \"pager\"]");
    // A service that is named like the job.
    site.append_config(&format!(
        "[notify.pager]\npagerduty = \"env:VENDOR_KEY\"\nurl = \"{}\"\n\
         [service.backup-shop]\nobjectives = {{ rpo = \"1h\", rto = \"1h\" }}\n\
         database = {{ cluster = \"shop\", restore = \"beside\", directory = \"{folder}\" }}\n\
         tell = [\"pager\"]\n",
        vendors.url("/v2/enqueue")
    ));
    site.run("incident open backup-shop --summary gone").done();
    site.run("schedule run backup-shop").done();
    edit(&site.config(), "run = \"backup shop\"", "run = \"backup nosuch\"");
    site.run("schedule run backup-shop").ended(1);
    let path = site.folder.join("state/jobs/backup-shop.json");
    let mut record = night.record("backup-shop");
    record["last_success"]["ended"] = "2020-11-01T02:00:00Z".into();
    fs::write(&path, record.to_string()).unwrap();
    site.run("schedule check").ended(3);
    // It runs again, and succeeds less than it did.
    edit(&site.config(), "run = \"backup nosuch\"", "run = \"backup shop\"");
    let mut record = night.record("backup-shop");
    record["last_success"]["bytes"] = 1_000_000_000_000_u64.into();
    fs::write(&path, record.to_string()).unwrap();
    site.run("schedule run backup-shop").done();
    site.run("schedule check").ended(3);
    let mut open = std::collections::BTreeSet::new();
    for event in vendors.bodies("POST /v2/enqueue", "202") {
        let key = text(&event, "dedup_key");
        match text(&event, "event_action").as_str() {
            "trigger" => open.insert(key),
            _ => open.remove(&key),
        };
    }
    let open: Vec<String> = open.into_iter().collect();
    let shrank = "rollforward-schedule job backup-shop: job shrank";
    assert_eq!(open, ["rollforward backup-shop", shrank]);
    assert_eq!(vendors.bodies("POST /v2/enqueue", "202").len(), 6, "each began, two ended");
    // Sent back by the pager, it opens nothing.
    let echo = serde_json::json!({ "event": { "id": "01E", "event_type": "incident.triggered",
        "occurred_at": "2026-11-20T14:31:07Z", "data": { "id": "P2", "type": "incident",
        "title": "late", "incident_key": shrank, "created_at": "2026-11-20T14:31:06Z" } } });
    let echo = site.folder.file("echo.json", echo.to_string());
    site.run(&format!("incident open --from {}", echo.display())).failed("RF0912", 4);
}

#[test]
fn two_jobs_of_a_kind_never_overlap_and_one_that_was_killed_has_failed() {
    let night = Night::new();
    let site = &night.site;
    let again =
        "[schedule.job.backup-again]\nrun = \"backup shop --note again\"\nat = \"hourly\"\n";
    site.append_config(again);
    // A backup asks for tablespaces: it waits as long as this is held.
    let mut session = site.cluster.spawn_psql();
    session.query("BEGIN; LOCK TABLE pg_tablespace IN ACCESS EXCLUSIVE MODE;");
    let mut command = site.command("schedule run backup-shop");
    let mut wrapper = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let waits = "SELECT count(*) FROM pg_locks \
                 WHERE NOT granted AND relation = 'pg_tablespace'::regclass;";
    poll(DEADLINE, "the backup to wait", || session.query(waits).trim() != "0");
    for job in ["backup-shop", "backup-again"] {
        let ran = site.run(&format!("schedule run {job}"));
        assert_eq!(ran.ended(8)["skipped"], true, "{job}");
    }
    let listed = site.run("schedule list").done();
    assert_eq!(listed["jobs"][1]["running"], true);
    // Who was kept away stands in the list.
    assert!(listed["jobs"][0]["skipped"].is_string(), "{listed}");
    wrapper.kill().unwrap();
    wrapper.wait().unwrap();
    // The command itself goes on, and keeps the others away.
    site.run("schedule run backup-again").ended(8);
    for _ in 0..2 {
        let wrong = site.run("schedule check").ended(3);
        assert!(text(&wrong, "wrong.0.text").contains("killed"), "{wrong}");
    }
    assert_eq!(night.told(), told(&[("job backup-shop", "job failed")]));
    assert_eq!(site.run("schedule list").done()["jobs"][1]["running"], false);
    session.query("ROLLBACK;");
    let runs = || site.run("schedule run backup-again").status.code() == Some(0);
    poll(DEADLINE, "the orphaned backup to end", runs);
    let listed = site.run("backups shop").done();
    assert_eq!(listed["backups"].as_array().unwrap().len(), 2, "one after the other: {listed}");
}

#[test]
fn archiving_that_falls_behind_is_told_and_an_idle_server_is_not_behind() {
    let night = Night::new();
    let site = &night.site;
    let folder = site.folder.path().display();
    let service = format!(
        "\n[service.shop]\nobjectives = {{ rpo = \"1m\", rto = \"1h\" }}\n\
         database = {{ cluster = \"shop\", restore = \"beside\", directory = \"{folder}\" }}\n"
    );
    site.append_config(&service);
    let jobs = ["backup-shop", "verify-shop"];
    jobs.iter().for_each(|job| drop(site.run(&format!("schedule run {job}")).done()));
    site.cluster.psql("CREATE TABLE t (i int)");
    site.archive();
    site.run("schedule check").done();
    let path = site.folder.join("state/jobs/archiving_shop.json");
    let read = || -> Value { serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap() };
    assert_eq!(read()["pending"], Value::Null, "{}", read());
    // Something is written, and was already an hour ago.
    site.cluster.psql("INSERT INTO t VALUES (1)");
    site.run("schedule check").done();
    let mut state = read();
    state["pending"]["seen"] = "2020-11-01T02:00:00Z".into();
    fs::write(&path, state.to_string()).unwrap();
    for _ in 0..2 {
        let wrong = site.run("schedule check").ended(3);
        assert_eq!(wrong["wrong"][0]["what"], "archiving behind", "{wrong}");
    }
    assert_eq!(night.told(), told(&[("archiving shop", "archiving behind")]));
    let page = fs::read_to_string(site.folder.join("rollforward.prom")).unwrap();
    let age = page
        .lines()
        .find_map(|line| line.strip_prefix("rollforward_rpo_age_seconds{cluster=\"shop\"} "));
    assert!(age.unwrap().parse::<f64>().unwrap() > 60.0, "{page}");
    site.archive();
    site.run("schedule check").done();
    let all = [("archiving shop", "archiving behind"), ("archiving shop", "recovered")];
    assert_eq!(night.told(), told(&all));
}

#[test]
fn a_server_that_cannot_be_asked_is_unknown_and_an_alarm_after_the_objective() {
    let mut night = Night::new();
    let folder = night.site.folder.path().display();
    let service = format!(
        "\n[service.shop]\nobjectives = {{ rpo = \"1m\", rto = \"1h\" }}\n\
         database = {{ cluster = \"shop\", restore = \"beside\", directory = \"{folder}\" }}\n"
    );
    night.site.append_config(&service);
    let jobs = ["backup-shop", "verify-shop"];
    jobs.iter().for_each(|job| drop(night.site.run(&format!("schedule run {job}")).done()));
    let page = |night: &Night| {
        let page = fs::read_to_string(night.site.folder.join("rollforward.prom")).unwrap();
        page.lines().any(|line| line.starts_with("rollforward_rpo_age_seconds{cluster=\"shop\"}"))
    };
    night.site.run("schedule check").done();
    assert!(page(&night));
    night.site.cluster.stop(Stop::Fast);
    let seen = night.site.run("schedule check").done();
    assert_eq!(seen["unknown"], serde_json::json!(["shop"]));
    assert!(!page(&night), "what is not known is left out");
    let path = night.site.folder.join("state/jobs/archiving_shop.json");
    let mut state: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    state["unknown_since"] = "2020-11-01T02:00:00Z".into();
    fs::write(&path, state.to_string()).unwrap();
    for _ in 0..2 {
        let wrong = night.site.run("schedule check").ended(3);
        assert_eq!(wrong["wrong"][0]["what"], "archiving unknown", "{wrong}");
    }
    night.site.cluster.start();
    night.site.run("schedule check").done();
    assert!(page(&night));
    let all = [("archiving shop", "archiving unknown"), ("archiving shop", "recovered")];
    assert_eq!(night.told(), told(&all));
}

#[test]
fn a_record_that_cannot_be_read_is_an_alarm_and_stops_neither_its_job_nor_the_watch() {
    let night = Night::new();
    let site = &night.site;
    for job in ["backup-shop", "verify-shop"] {
        site.run(&format!("schedule run {job}")).done();
    }
    let jobs = site.folder.join("state/jobs");
    fs::write(jobs.join("backup-shop.json"), "{\"since\": ").unwrap();
    site.run("schedule list").done();
    site.run("metrics").done();
    // The others are looked at.
    let mut late = night.record("verify-shop");
    late["last_success"]["ended"] = "2020-11-01T02:00:00Z".into();
    fs::write(jobs.join("verify-shop.json"), late.to_string()).unwrap();
    let whats = || -> Vec<String> {
        let wrong = site.run("schedule check").ended(3)["wrong"].clone();
        wrong.as_array().unwrap().iter().map(|it| text(it, "what")).collect()
    };
    assert_eq!(whats(), ["record unreadable", "job late"]);
    assert_eq!(whats(), ["record unreadable", "job late"]);
    site.run("schedule run backup-shop").done();
    // One that cannot even be set aside keeps its job from nothing either.
    fs::remove_file(jobs.join("backup-shop.json")).unwrap();
    fs::create_dir(jobs.join("backup-shop.json")).unwrap();
    assert_eq!(site.run("schedule run backup-shop").status.code(), Some(1));
    assert_eq!(site.run("backups shop").done()["backups"].as_array().unwrap().len(), 3);
    let seen = site.run("schedule check").ended(1);
    assert!(text(&seen, "errors.0").starts_with("job backup-shop: "), "{seen}");
    assert_eq!(seen["wrong"][0]["what"], "job late", "{seen}");
    fs::remove_dir(jobs.join("backup-shop.json")).unwrap();
    let aside = jobs.join("backup-shop.json.unreadable");
    assert_eq!(fs::read_to_string(&aside).unwrap(), "{\"since\": ");
    fs::remove_file(aside).unwrap();
    assert_eq!(whats(), ["job late"]);
}

/// Checks a text with a program that reads standard input.
fn accepts(program: &Path, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program:?}: {said}\n{input}");
    said.into_owned()
}

#[test]
fn metrics_are_what_prometheus_expects_and_say_what_was_done() {
    let night = Night::new();
    let site = &night.site;
    // What somebody looked at as root stands in nobody's way.
    let mut looked = program_as_root();
    looked.args(["schedule", "check", "--json"]).env("ROLLFORWARD_CONFIG", site.config());
    Ran::of(&mut looked).done();
    site.run("schedule run backup-shop").done();
    site.run("schedule run verify-shop").done();
    site.cluster.psql("CREATE TABLE kept AS SELECT i FROM generate_series(1, 1000) i");
    let dumped = site.run("schedule run dump-shop").done();
    assert!(dumped["ended"]["bytes"].as_u64().unwrap() > 1000, "{dumped}");
    let file = site.folder.join("rollforward.prom");
    assert_eq!(mode(&file), 0o644);
    let page = fs::read_to_string(&file).unwrap();
    let said = accepts(&tool("promtool"), &["check", "metrics"], &page);
    assert_eq!(said.trim(), "", "its linter has nothing to say");
    let value = |name: &str| -> f64 {
        let found =
            page.lines().find_map(|line| line.strip_prefix(&format!("rollforward_{name} ")));
        found.unwrap_or_else(|| panic!("no {name}:\n{page}")).parse().unwrap()
    };
    assert_eq!(value("job_runs_total{job=\"backup-shop\",outcome=\"success\"}"), 1.0);
    assert_eq!(value("job_last_success{job=\"verify-shop\"}"), 1.0);
    assert_eq!(value("backups{cluster=\"shop\"}"), 1.0);
    assert!(value("backup_last_size_bytes{cluster=\"shop\"}") > 1e6);
    assert!(value("backup_last_timestamp_seconds{cluster=\"shop\"}") > 1.7e9);
    assert_eq!(value("dumps{cluster=\"shop\"}"), 1.0);
    assert!(value("dump_last_size_bytes{cluster=\"shop\"}") > 1e3);
    assert!(value("dump_last_timestamp_seconds{cluster=\"shop\"}") > 1.7e9);
    assert!(value("verify_last_success_timestamp_seconds{cluster=\"shop\"}") > 1.7e9);
    let printed = site.run("metrics").done();
    accepts(&tool("promtool"), &["check", "metrics"], text(&printed, "metrics").as_str());
    // The rules of the guide are rules.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let guide = fs::read_to_string(root.join("docs/guide/alert-rules.yml")).unwrap();
    let rules = site.folder.file("rules.yml", &guide);
    accepts(&tool("promtool"), &["check", "rules", rules.to_str().unwrap()], "");
    for line in guide.lines().filter(|line| line.trim_start().starts_with("expr:")) {
        let names = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in names.filter(|name| name.starts_with("rollforward_")) {
            let is_known = page.contains(&format!("# TYPE {name} "))
                || fs::read_to_string(root.join("crates/cli/src/schedule/metrics.rs"))
                    .unwrap()
                    .contains(&format!("\"{}\"", name.trim_start_matches("rollforward_")));
            assert!(is_known, "{name} is no metric of ours");
        }
    }
}

#[test]
fn units_and_crontabs_are_shown_written_and_removed_and_their_readers_take_them() {
    let night = Night::new();
    let site = &night.site;
    let folder = site.folder.folder("units", 0o755);
    let install = format!("schedule install --systemd {}", folder.display());
    let refused = site.run(&install);
    assert!(refused.failed("RF0912", 4).contains("nothing was changed"));
    assert!(refused.stderr.contains("+ OnCalendar=Sun *-*-* 04:00:00"), "{}", refused.stderr);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    let made = site.run(&format!("{install} --confirm")).done();
    assert_eq!(made["changes"].as_array().unwrap().len(), 8, "{made}");
    assert_eq!(site.run(&install).done()["changes"], serde_json::json!([]), "twice is once");
    let units: Vec<_> = fs::read_dir(&folder).unwrap().map(|it| it.unwrap().path()).collect();
    let mut command = Command::new("/usr/bin/systemd-analyze");
    command.arg("verify").arg("--man=no").args(&units);
    let output = command.output().expect("systemd-analyze: `make tools`");
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("rollforward-")).collect();
    assert!(ours.is_empty(), "{said}");
    for calendar in ["*-*-* 02:00:00", "Sun *-*-* 04:00:00", "*-01/3-15 04:30:00", "*:0/15:00"] {
        let mut command = Command::new("/usr/bin/systemd-analyze");
        let output = command.arg("calendar").arg(calendar).output().unwrap();
        assert!(output.status.success(), "{calendar}: {output:?}");
    }
    // A job that is gone takes its units with it; what is not ours stays.
    fs::write(folder.join("rollforward-job-mine.timer"), "[Timer]\n").unwrap();
    let config = fs::read_to_string(site.config()).unwrap();
    let (before, _) = config.split_once("[schedule.job.verify-shop]").unwrap();
    site.write_config(before);
    let made = site.run(&format!("{install} --confirm")).done();
    let verbs: Vec<String> =
        made["changes"].as_array().unwrap().iter().map(|it| text(it, "change")).collect();
    assert_eq!(verbs, ["remove", "remove"], "{made}");
    let remove = install.replace("install", "remove");
    assert_eq!(
        site.run(&format!("{remove} --confirm")).done()["changes"].as_array().unwrap().len(),
        6
    );
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    // The same as a crontab.
    let path = site.folder.join("crontab");
    testbed::give_to_postgres(site.folder.path());
    site.run(&format!("schedule install --cron {} --confirm", path.display())).done();
    let crontab = fs::read_to_string(&path).unwrap();
    assert!(crontab.contains("\n0 2 * * * nice -n 10 "), "{crontab}");
    let mut command = Command::new(tool("crontab"));
    let output = command.arg("-n").arg(&path).output().unwrap();
    assert!(output.status.success(), "{output:?}\n{crontab}");
    site.run(&format!("schedule remove --cron {} --confirm", path.display())).done();
    assert!(!path.exists());
    // What cron cannot say is refused, and what the program does not know.
    edit(
        &site.config(),
        "at = \"daily 02:00\"",
        "at = \"calendar Mon..Fri 02:00\"\nperiod = \"3d\"",
    );
    assert!(site.run("schedule print --cron").failed("RF0911", 2).contains("Mon..Fri"));
    edit(&site.config(), "run = \"backup shop\"", "run = \"backup --no-such-option\"");
    assert!(site.run("schedule print").failed("RF0911", 2).contains("no-such-option"));
}
