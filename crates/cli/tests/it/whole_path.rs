//! From `init` to the adopted cluster, on every major.

use serde_json::{Value, json};
use testbed::postgres::Cluster;

use crate::program::{Ran, program, text};
use crate::site::{DEADLINE, Site, archive, copy, edit};

const LOAD: &str = "
    CREATE TABLE orders (id int PRIMARY KEY, total numeric, placed timestamptz DEFAULT now());
    CREATE TABLE payments (order_id int, amount numeric);
    INSERT INTO orders SELECT i, i % 97 FROM generate_series(1, 4000) i;
    INSERT INTO payments SELECT id, total FROM orders;";

fn counts(cluster: &Cluster) -> String {
    cluster.psql(
        "SELECT (SELECT count(*) FROM orders), (SELECT sum(total) FROM orders),
                (SELECT count(*) FROM payments), (SELECT sum(amount) FROM payments)",
    )
}

fn timeline(cluster: &Cluster) -> String {
    cluster.psql("SELECT timeline_id FROM pg_control_checkpoint()")
}

fn whole_path(major: u32, segment_mib: u32) {
    let mut site = Site::unprotected(major, segment_mib, |builder| builder);
    let made = site.init(&site.two_repositories()).done();
    assert_eq!(made["repositories"][0]["created"], true);
    assert_eq!(made["repositories"][0]["set"], made["repositories"][1]["set"]);
    site.cluster.restart();
    site.cluster.psql(LOAD);
    let backup = site.run("backup shop").done();
    assert_eq!(backup["damaged"], json!([]));
    site.cluster.psql("INSERT INTO orders SELECT i, 1 FROM generate_series(4001, 5000) i");
    let before = counts(&site.cluster);

    site.cluster.psql("DELETE FROM orders");
    site.cluster.psql("INSERT INTO payments VALUES (0, 0)");
    site.archive();
    let target = locate(&site);
    // What was not archived when the server died is in its pg_wal only.
    site.cluster.psql("INSERT INTO payments VALUES (1, 1)");
    site.cluster.kill9();
    let salvaged = site.run("wal salvage shop").done();
    assert!(salvaged["tail"].is_string(), "{salvaged}");
    assert_eq!(salvaged["conflicts"], json!([]));

    let restored = site.restore("restored", &format!("--before {target}"));
    assert_eq!(counts(&restored.cluster), before);
    assert_eq!(timeline(&restored.cluster), "2");
    assert_eq!(restored.report["reserved_timeline"], 2);

    let old_host = OldHost::keep(&site);
    adopt(&site, &restored.cluster);
    let backup = site.run("backup shop").done();
    assert_eq!(backup["backup"]["timeline"], 2);
    site.verify_clean();
    assert_eq!(counts(&restored.cluster), before);
    assert_protected(&site);
    archive(&restored.cluster);
    old_host.assert_refused(&mut site);
    site.verify_clean();
    site.no_conflicts();
}

/// Finds the deletion, and returns where to stop.
fn locate(site: &Site) -> String {
    let found = site.run("locate shop").done();
    let worst = &found["suspects"][0];
    assert_eq!(worst["rows_lost"], 5000, "{found}");
    assert_eq!(worst["database"], "postgres", "{found}");
    let damage = text(worst, "damage.0");
    assert!(damage.contains("DELETE") && damage.contains("orders"), "{found}");
    assert_eq!(worst["transactions_lost"], 1, "{found}");
    let by_table = site.run("locate shop --table orders").done();
    assert_eq!(by_table["suspects"][0]["xid"], worst["xid"]);
    let of_other = site.run("locate shop --table payments").done();
    assert_eq!(of_other["suspects"], json!([]));
    text(worst, "recover_before")
}

fn adopt(site: &Site, restored: &Cluster) {
    let directory = restored.data_dir().display().to_string();
    // In quarantine it keeps its WAL: nothing of timeline 2 is there.
    restored.psql("CREATE TABLE quarantined (id int)");
    restored.switch_wal();
    restored.wait_until("SELECT failed_count > 0 FROM pg_stat_archiver", "t", DEADLINE);
    let refused = site.run("backup shop");
    assert_ne!(refused.status.code(), Some(0), "the old cluster is down: {}", refused.stdout);
    // With a restart the whole quarantine is lifted at once, without one what needs it later.
    let restart = match site.cluster.install().major {
        15 | 18 => format!("--restart --bin-directory {}", site.cluster.install().bindir.display()),
        _ => String::new(),
    };
    let adopted = site.run(&format!("adopt shop --at {directory} --keep-port {restart}")).done();
    assert_eq!(adopted["restarted"], !restart.is_empty());
    assert_eq!(adopted["timeline"], 2, "{adopted}");
    assert_eq!(adopted["lineage_state"], 2, "{adopted}");
    assert!(adopted["archived"].is_string(), "{adopted}");
    archive(restored);
    assert!(!restored.data_dir().join("rollforward.ticket.json").exists());
    let again = site.run(&format!("adopt shop --at {directory} --keep-port"));
    again.failed("RF0709", 4);
}

fn assert_protected(site: &Site) {
    let checked = site.run("check shop").done();
    let problems: Vec<&Value> =
        checked.as_array().unwrap().iter().filter(|one| one["weight"] == "problem").collect();
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(site.run("window shop").done()["timeline"], 2);
    assert_eq!(site.run("backups shop").done()["backups"].as_array().unwrap().len(), 2);
}

/// The host of the replaced cluster, with the configuration and the token that it had.
struct OldHost {
    config: String,
}

impl OldHost {
    fn keep(site: &Site) -> Self {
        copy(&site.config(), &site.folder.join("old.toml"));
        copy(&site.folder.join("state"), &site.folder.join("old-state"));
        let config = site.folder.join("old.toml");
        let state = |name: &str| format!("{}\"", site.folder.join(name).display());
        edit(&config, &state("state"), &state("old-state"));
        Self { config: config.display().to_string() }
    }

    fn run(&self, words: &str) -> Ran {
        let mut command = program();
        command.args(words.split_whitespace()).args(["--json", "--config", &self.config]);
        Ran::of(&mut command)
    }

    /// The replaced server runs again: neither its WAL nor a backup of it is taken.
    fn assert_refused(&self, site: &mut Site) {
        let before = site.objects("main", "");
        site.cluster.start();
        site.cluster.psql("INSERT INTO orders VALUES (1, 1)");
        let segment = site.cluster.switch_wal();
        site.cluster.wait_until("SELECT failed_count > 0 FROM pg_stat_archiver", "t", DEADLINE);
        // On the host that has the new token it is a directory that the token is not for.
        assert!(site.cluster.log_text().contains("error[RF0106]"), "{}", site.cluster.log_text());
        let path = site.cluster.data_dir().join("pg_wal").join(&segment);
        let pushed = self.run(&format!("wal push --cluster shop {}", path.display()));
        assert!(pushed.failed("RF0109", 1).contains("was replaced"));
        let refused = self.run("backup shop").failed("RF0602", 4);
        assert!(refused.contains("not the production"), "{refused}");
        let after = site.objects("main", "");
        assert_eq!(before, after, "nothing of the replaced cluster was stored");
    }
}

#[test]
fn postgresql_14_comes_back_to_before_the_delete() {
    whole_path(14, 1);
}

#[test]
fn postgresql_15_comes_back_to_before_the_delete() {
    whole_path(15, 16);
}

#[test]
fn postgresql_16_comes_back_to_before_the_delete() {
    whole_path(16, 4);
}

#[test]
fn postgresql_17_comes_back_to_before_the_delete() {
    whole_path(17, 2);
}

#[test]
fn postgresql_18_comes_back_to_before_the_delete() {
    whole_path(18, 1);
}
