//! Runs that restore a dump beside the service's database, on the server that goes on.

use std::fs;
use std::process::{Command, Stdio};

use recovery::effect::{Effects, Found};
use recovery::testing::conformance;
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use testbed::postgres::Stop;
use testbed::{binary, poll};

use crate::program::{Ran, text};
use crate::services::verdict;
use crate::shop::Shop;
use crate::site::{DEADLINE, processes_with};
use crate::steps::Bench;

/// Databases whose names runs give, and whether they take sessions.
const MADE: &str = "SELECT string_agg(regexp_replace(datname, '_2.*', '') || ' ' || datallowconn, ',' \
     ORDER BY datname) FROM pg_database WHERE datname ~ '_(restored|before)_2'";

/// What belongs to the database `shop` itself.
const BELONGINGS: &str = "SELECT datdba::regrole, datconnlimit, \
     (SELECT string_agg(right_of::text, ' ' ORDER BY right_of::text) FROM unnest(datacl) right_of), \
     (SELECT string_agg(setrole::regrole || setconfig::text, ' ' ORDER BY setrole) \
      FROM pg_db_role_setting WHERE setdatabase = d.oid), shobj_description(oid, 'pg_database') \
     FROM pg_database d WHERE datname = 'shop'";

/// A dump, how many orders it holds, and what the plan is confirmed by.
struct Dumped {
    label: String,
    orders: String,
}

fn orders(shop: &Shop) -> String {
    shop.site.cluster.psql_in("shop", "SELECT count(*) || '|' || max(placed_at) FROM orders")
}

/// A dump while nobody writes.
fn dump(shop: &Shop) -> Dumped {
    shop.wait_for_orders(3);
    shop.run_script("stop");
    let made = shop.site.run("dump create shop --database shop").done();
    let dumped = Dumped { label: text(&made, "dump.label"), orders: orders(shop) };
    shop.run_script("start");
    shop.wait_for_health();
    dumped
}

/// Rows that take a while to come in.
fn slow_down(shop: &Shop) {
    shop.site.cluster.psql_in(
        "shop",
        "CREATE FUNCTION slow() RETURNS bool LANGUAGE sql AS 'SELECT pg_sleep(0.1) IS NOT NULL'; \
         CREATE TABLE slow AS SELECT generate_series(1, 30) AS id; \
         ALTER TABLE slow ADD CHECK (public.slow())",
    );
}

/// `recover` from a dump, with the code that the plan says.
fn recover(shop: &Shop, dumped: &Dumped) -> Command {
    let words = format!("shop --dump {}", dumped.label);
    let plan = shop.site.run(&format!("plan {words}")).done();
    let code = text(&plan, "confirm");
    shop.site.command(&format!("recover {words} --as oncall --no-wait --confirm {code}"))
}

fn made(shop: &Shop) -> String {
    shop.site.cluster.psql(MADE)
}

fn resume(shop: &Shop) -> Ran {
    let run = text(&shop.site.run("runs").done(), "runs.0.run");
    shop.site.run(&format!("run resume {run} --as oncall --no-wait"))
}

/// The rows of the dump serve, and the old database is kept.
fn assert_restored(shop: &Shop, dumped: &Dumped, report: &Value) {
    assert_eq!(verdict(report), ("restored".into(), "new".into()), "{report}");
    assert_eq!(made(shop), "shop_before false");
    let newest = dumped.orders.split('|').nth(1).unwrap();
    let sql = format!(
        "SELECT count(*) || '|' || max(placed_at) FROM orders WHERE placed_at <= '{newest}'"
    );
    assert_eq!(shop.site.cluster.psql_in("shop", &sql), dumped.orders);
    assert!(!shop.is_shut());
    shop.wait_for_health();
    shop.wait_for_orders(3);
}

#[test]
fn a_service_comes_back_from_a_dump_beside_its_database() {
    let shop = Shop::open(15);
    let dumped = dump(&shop);
    // What changed since the dump belongs to the database, not to its rows.
    let cluster = &shop.site.cluster;
    cluster.psql(
        "CREATE ROLE reader; REVOKE ALL ON DATABASE shop FROM PUBLIC; \
         GRANT CONNECT, CREATE ON DATABASE shop TO reader WITH GRANT OPTION; \
         ALTER DATABASE shop SET work_mem = '7MB'; COMMENT ON DATABASE shop IS 'it''s the shop'; \
         ALTER ROLE reader IN DATABASE shop SET search_path = a, \"B c\"; \
         ALTER DATABASE shop CONNECTION LIMIT 77",
    );
    let belongings = cluster.psql(BELONGINGS);
    assert!(belongings.contains("7MB") && belongings.contains("77"), "{belongings}");
    let started = cluster.psql("SELECT pg_postmaster_start_time()");
    let before = shop.destroy();
    let setting = shop.setting();
    let report = Ran::of(&mut recover(&shop, &dumped)).done();
    assert_restored(&shop, &dumped, &report);
    assert_eq!(cluster.psql(BELONGINGS), belongings);
    assert_eq!(cluster.psql("SELECT pg_postmaster_start_time()"), started);
    assert_eq!(shop.setting(), setting, "the setting knows nothing of it");
    // Somebody may want to look into what is kept.
    let kept = text(&report, "facts.old_database");
    cluster.psql(&format!("ALTER DATABASE {kept} ALLOW_CONNECTIONS true"));
    assert_eq!(cluster.psql_in(&kept, "SELECT count(*) < 1000 FROM orders"), "t");
    assert_ne!(before.orders, 0);
    shop.site.run("backup shop").done();
    shop.site.verify_clean();
    the_old_database_is_removed_by_command(&shop, &report, &kept);
}

fn the_old_database_is_removed_by_command(shop: &Shop, report: &Value, kept: &str) {
    let run = text(report, "run");
    let path = shop.path("state").join("runs").join(&run).join("report.md");
    let markdown = fs::read_to_string(path).unwrap();
    assert!(markdown.contains(&format!("database '{kept}' is kept for")), "{markdown}");
    let remove = |options: &str| {
        let words = format!("run remove-old {run} --as oncall {options}");
        let mut command = shop.site.command(&words);
        Ran::of(command.arg("--confirm").arg(format!("shop remove {kept}")))
    };
    assert!(remove("").failed("RF0912", 4).contains("keeps the replaced database for"));
    assert!(remove("--early").failed("RF0912", 4).contains("taken it back"));
    shop.site.cluster.psql(&format!("ALTER DATABASE {kept} ALLOW_CONNECTIONS false"));
    assert_eq!(remove("--early").done()["removed"], true);
    assert_eq!(made(shop), "");
    assert_eq!(remove("--early").done()["removed"], false);
    assert!(shop.is_healthy());
}

#[test]
fn a_moment_that_no_wal_reaches_comes_from_the_dump_before_it() {
    let shop = Shop::open(18);
    let dumped = dump(&shop);
    let later = shop.site.cluster.psql(
        "SELECT to_char(now() AT TIME ZONE 'UTC', \
         'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    );
    for repository in ["main", "second"] {
        for object in shop.site.objects(repository, "backup/") {
            fs::remove_file(object).unwrap();
        }
    }
    shop.wait_for_orders(3);
    shop.site.backup();
    let plan = shop.site.run(&format!("plan shop --target-time {later}")).done();
    assert_eq!(text(&plan, "plan.method"), "dump", "{plan}");
    assert_eq!(text(&plan, "plan.target.value"), dumped.label);
    let reason = text(&plan, "plan.reason");
    assert!(reason.contains("older than the window"), "{reason}");
    let code = text(&plan, "confirm");
    let words = format!("recover shop --target-time {later} --as oncall --confirm {code}");
    let report = shop.site.run(&words).done();
    assert_restored(&shop, &dumped, &report);
}

#[test]
fn a_server_that_does_not_answer_is_refused_with_the_next_moves() {
    let mut shop = Shop::open(15);
    let dumped = dump(&shop);
    shop.run_script("stop");
    let plan = format!("plan shop --dump {}", dumped.label);
    let drill = format!("drill shop --copy --as oncall --dump {}", dumped.label);
    shop.site.cluster.stop(Stop::Fast);
    for words in [&plan, &drill] {
        let said = shop.site.run(words).failed("RF0912", 4);
        for expected in ["is restored into the server", "initdb", "dump restore shop", "--globals"]
        {
            assert!(said.contains(expected), "{expected}: {said}");
        }
    }
    shop.site.cluster.start();
    let label = &dumped.label;
    let absent = shop.site.run("plan shop --dump 20200101T000000Z-aaaa").failed("RF0912", 4);
    assert!(absent.contains("has no dump") && absent.contains("dump list shop"), "{absent}");
    // A transaction that was prepared would hold the name.
    shop.site.cluster.append_setting("max_prepared_transactions", "2");
    shop.site.cluster.restart();
    shop.site.cluster.psql_in("shop", "BEGIN; CREATE TABLE t (); PREPARE TRANSACTION 'two'");
    let said = shop.site.run(&plan).failed("RF0912", 4);
    assert!(said.contains("'two'") && said.contains("ROLLBACK PREPARED"), "{said}");
    shop.site.cluster.psql_in("shop", "ROLLBACK PREPARED 'two'");
    // Nothing to replace: then a command does it.
    shop.site.cluster.psql("DROP DATABASE shop");
    let said = shop.site.run(&plan).failed("RF0912", 4);
    let typed = said.split("rollforward ").nth(1).unwrap().split(';').next().unwrap();
    assert!(typed.starts_with(&format!("dump restore shop {label} --target ")), "{typed}");
    let line = format!("'{}' {typed}", binary("rollforward").display());
    let mut shell = shop.site.command("");
    shell = {
        let mut bash = Command::new("bash");
        bash.args(["-uc", &line]).envs(
            shell.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))),
        );
        testbed::as_postgres(&mut bash);
        bash
    };
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(orders(&shop), dumped.orders);
}

#[test]
fn a_smoke_test_that_fails_gives_the_old_database_its_name_back() {
    let shop = Shop::with(15, |text| {
        text.replace("min_items = 5", "min_items = 5000")
            + "policy = { on_failure = \"reopen-old\" }\n"
    });
    let dumped = dump(&shop);
    let oid = "SELECT oid FROM pg_database WHERE datname = 'shop'";
    let before = shop.site.cluster.psql(oid);
    shop.site.cluster.psql_in("shop", "CREATE TABLE later (id int)");
    // Every undo is cut as well, before it begins and when it is over.
    let restore = format!("restore.dump.{}", dumped.label);
    let steps = ["switch.database.shop", &restore, "secure.fence.shop"];
    let report = dying(&shop, &dumped, "undo", &steps).ended(6);
    assert_eq!(verdict(&report), ("rolled_back".into(), "old".into()), "{report}");
    assert_eq!(made(&shop), "", "what was restored is dropped");
    assert_eq!(shop.site.cluster.psql(oid), before);
    assert_eq!(shop.site.cluster.psql_in("shop", "SELECT count(*) FROM later"), "0");
    assert!(!shop.is_shut());
    shop.wait_for_health();
    shop.wait_for_orders(3);
}

/// A recovery whose drivers die before and after each of these; how the last one ends.
fn dying(shop: &Shop, dumped: &Dumped, what: &str, steps: &[&str]) -> Ran {
    let mut command = recover(shop, dumped);
    for step in steps {
        for when in ["Before", "After"] {
            let point = format!("{when} {what}:{step}");
            let died = Ran::of(command.env("ROLLFORWARD_FAULT", &point));
            assert_eq!(died.status.code(), None, "{point}: it did not die: {died:?}");
            let run = text(&shop.site.run("runs").done(), "runs.0.run");
            command = shop.site.command(&format!("run resume {run} --as oncall --no-wait"));
        }
    }
    Ran::of(&mut command)
}

#[test]
fn drivers_that_die_around_every_step_of_the_database_are_followed_by_one_that_ends_it() {
    let shop = Shop::open(18);
    let dumped = dump(&shop);
    shop.destroy();
    let restore = format!("restore.dump.{}", dumped.label);
    let steps = ["secure.fence.shop", &restore, "prove.data", "switch.database.shop"];
    let report = dying(&shop, &dumped, "act", &steps).done();
    assert_restored(&shop, &dumped, &report);
}

/// Begins a recovery and kills its driver while rows come in; what restores goes on.
fn driver_killed_in_the_middle(shop: &Shop, dumped: &Dumped) {
    let mut command = recover(shop, dumped);
    let mut driver = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let loads = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname ~ '^shop_restored_' \
                 AND query LIKE 'COPY public.slow%'";
    poll(DEADLINE, "rows to come in", || shop.site.cluster.psql(loads) == "t");
    driver.kill().unwrap();
    driver.wait().unwrap();
}

#[test]
fn a_driver_killed_in_the_middle_of_the_restore_finds_it_under_way() {
    let shop = Shop::open(15);
    slow_down(&shop);
    let dumped = dump(&shop);
    shop.destroy();
    driver_killed_in_the_middle(&shop, &dumped);
    assert!(shop.restores(), "it goes on");
    let report = resume(&shop).done();
    assert_restored(&shop, &dumped, &report);
    let failures = report["steps"].as_array().unwrap().iter().filter(|it| !it["failure"].is_null());
    assert_eq!(failures.count(), 0, "{report}");
}

#[test]
fn half_a_restore_of_ours_is_dropped_and_made_anew() {
    let shop = Shop::open(15);
    slow_down(&shop);
    let dumped = dump(&shop);
    shop.destroy();
    driver_killed_in_the_middle(&shop, &dumped);
    let folder = shop.site.folder.path().display().to_string();
    for pid in processes_with("restore") {
        let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&folder) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    poll(DEADLINE, "the restore to be gone", || !shop.restores());
    assert_eq!(made(&shop), "shop_restored true", "half of it is there");
    let report = resume(&shop).done();
    assert_restored(&shop, &dumped, &report);
    let run = text(&report, "run");
    let journal = shop.site.run(&format!("report {run}")).done().to_string();
    assert!(journal.contains("restored_dump"), "{journal}");
}

#[test]
fn a_strange_database_of_the_name_is_left_alone_and_ends_the_run() {
    let shop = Shop::open(15);
    let dumped = dump(&shop);
    let mut command = recover(&shop, &dumped);
    let point = format!("Before act:restore.dump.{}", dumped.label);
    let died = Ran::of(command.env("ROLLFORWARD_FAULT", point));
    assert_eq!(died.status.code(), None, "{died:?}");
    let run = text(&shop.site.run("runs").done(), "runs.0.run");
    let path = shop.path("state").join("runs").join(&run).join("runbook.md");
    let runbook = fs::read_to_string(path).unwrap();
    let name = runbook.split(" --database ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(name.starts_with("shop_restored_2"), "{runbook}");
    shop.site.cluster.psql(&format!("CREATE DATABASE {name}"));
    shop.site.cluster.psql_in(name, "CREATE TABLE theirs AS SELECT 'precious' AS what");
    let report = resume(&shop).ended(6);
    assert_eq!(verdict(&report), ("rolled_back".into(), "shut".into()), "{report}");
    let steps = report["steps"].as_array().unwrap();
    let failure = steps.iter().find_map(|step| step["failure"].as_str()).unwrap();
    assert!(failure.contains(name), "{failure}");
    assert_eq!(shop.site.cluster.psql_in(name, "SELECT what FROM theirs"), "precious");
}

#[test]
fn a_drill_of_a_dump_leaves_nothing_and_production_goes_on() {
    let shop = Shop::with(15, |text| {
        let folder = text.split("directory = \"").nth(1).unwrap().split('"').next().unwrap();
        let drill =
            format!("[service.shop.drill]\ndatabase = {{ directory = \"{folder}/drills\" }}\n");
        text + &drill
    });
    let dumped = dump(&shop);
    shop.wait_for_orders(3);
    let sessions = "SELECT string_agg(pid || ' ' || backend_start, ',' ORDER BY pid) \
                    FROM pg_stat_activity WHERE datname = 'shop' AND usename = 'shop'";
    let before = (shop.site.cluster.psql(sessions), shop.site.cluster.psql(BELONGINGS));
    assert!(!before.0.is_empty());
    let placed = shop.placed();
    for words in ["--copy", ""] {
        let words = format!("drill shop --method dump --as oncall {words}");
        let report = shop.site.run(&words).done();
        assert_eq!(verdict(&report), ("restored".into(), "old".into()), "{report}");
        assert_eq!(text(&report, "facts.restored_dump"), dumped.label);
        assert_eq!(made(&shop), "");
    }
    // No session was ended, nobody was kept out.
    assert_eq!((shop.site.cluster.psql(sessions), shop.site.cluster.psql(BELONGINGS)), before);
    assert!(shop.is_healthy() && shop.placed() > placed, "production went on");
    // What it took is what the next plan says.
    let plan = shop.site.run(&format!("plan shop --dump {}", dumped.label)).done();
    assert!(!plan["plan"]["warnings"].to_string().contains("guesses"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_fenced_restored_beside_and_renamed_step_by_step() {
    let shop = Shop::open(18);
    let dumped = dump(&shop);
    shop.run_script("stop");
    // Nobody else takes a transaction id meanwhile.
    shop.site.cluster.psql("ALTER SYSTEM SET autovacuum = off");
    shop.site.cluster.reload();
    let mut bench = Bench::planned(&shop, &format!("plan shop --dump {}", dumped.label));
    let restore = format!("restore.dump.{}", dumped.label);
    bench.undoable("secure.fence.shop").await;
    assert_eq!(shop.site.cluster.psql_in("shop", "SELECT 1"), "1", "it takes sessions again");
    bench.undoable(&restore).await;
    assert_eq!(made(&shop), "");
    for id in ["secure.fence.shop", restore.as_str()] {
        let outputs = bench.done(id).await;
        bench.facts.extend(outputs);
    }
    for id in ["prove.data", "prove.sql", "prove.connection"] {
        let context = bench.context(id);
        let effect = bench.providers.of(&context.step).unwrap();
        let outcome = conformance::looking(effect, &context).await;
        outcome.unwrap_or_else(|why| panic!("{id}: {why}"));
    }
    bench.undoable("switch.database.shop").await;
    let outputs = bench.done("switch.database.shop").await;
    bench.facts.extend(outputs);
    assert_eq!(orders(&shop), dumped.orders);
    // Somebody renames the one that is kept: nothing is taken back blindly.
    let kept = bench.facts["old_database"].clone();
    shop.site.cluster.psql(&format!("ALTER DATABASE {kept} RENAME TO elsewhere"));
    let context = bench.context("switch.database.shop");
    let effect = bench.providers.of(&context.step).unwrap();
    assert!(matches!(effect.probe(&context).await, Found::Foreign(_)));
    assert!(effect.undo(&context).await.unwrap_err().message.contains("elsewhere"));
    shop.site.cluster.psql(&format!("ALTER DATABASE elsewhere RENAME TO {kept}"));
    effect.undo(&context).await.unwrap();
    let backup = bench.done("protect.backup.shop").await;
    assert!(!backup["new_backup"].is_empty());
}

#[test]
fn what_the_runbook_of_a_dump_says_can_be_typed() {
    let shop = Shop::open(15);
    let dumped = dump(&shop);
    shop.destroy();
    let page = shop.site.run(&format!("runbook shop --dump {}", dumped.label)).done();
    shop.run_script("stop");
    let mut typed = 0;
    let mut id = "";
    let page = text(&page, "markdown");
    for line in page.lines() {
        if let Some((_, rest)) = line.split_once(". [ ] `") {
            id = rest.split('`').next().unwrap();
        }
        let Some(line) = line.strip_prefix("   $ ") else { continue };
        let is_of_database = ["secure.", "restore.", "prove.data", "switch.", "start.sessions"];
        if !is_of_database.iter().any(|begin| id.starts_with(begin)) {
            continue;
        }
        let environment = shop.site.command("");
        let mut bash = Command::new("bash");
        let path = binary("rollforward").parent().unwrap().display().to_string() + ":/usr/bin:/bin";
        bash.args(["-uc", line]).env("PATH", path).stdin(Stdio::null());
        let known = environment.get_envs();
        bash.envs(known.filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))));
        let output = testbed::as_postgres(&mut bash).output().unwrap();
        assert!(output.status.success(), "$ {line}\n{}", String::from_utf8_lossy(&output.stderr));
        typed += 1;
    }
    assert!(typed >= 8, "{page}");
    assert_eq!(orders(&shop), dumped.orders);
    assert_eq!(made(&shop), "shop_before false");
    shop.run_script("start");
    shop.wait_for_health();
    shop.wait_for_orders(3);
}
