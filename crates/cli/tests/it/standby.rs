//! A service whose site is lost goes on at another one, which has the offsite repository, the keys
//! and a cluster of its own; and the same as a drill.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use testbed::{HaProxy, Workdir, binary, give_to_postgres, poll};

use crate::program::{Ran, text};
use crate::services::verdict;
use crate::site::{DEADLINE, edit};
use crate::transformations::{DEPLOYMENT, Engine, Place};

/// The name of the standby site's machine.
const HOST: &str = "standby";

/// Hides what the first machine alone has, takes another name, and runs the rest of the words.
const BECOME_THE_STANDBY: &str = "mount -t tmpfs none \"$1\" && mount --bind /dev/null \"$2\" && \
     mount --bind /dev/null \"$3\" && mount --bind /dev/null \"$4\" && shift 4 && \
     echo standby >/proc/sys/kernel/hostname && exec \"$@\"";

/// The service at its own site, and the machine of the standby site.
pub(crate) struct Sites {
    // In the order in which they end.
    pub(crate) engine: Engine,
    pub(crate) real: HaProxy,
    drill: HaProxy,
    pub(crate) folder: Workdir,
}

impl Sites {
    pub(crate) fn open() -> Self {
        assert!(testbed::can_drop_privileges(), "root is needed: run `make test` as root");
        let sites = Self {
            engine: Engine::open(Place::Variable),
            real: HaProxy::start(),
            drill: HaProxy::start(),
            folder: Workdir::new(),
        };
        sites.folder.folder("databases", 0o755);
        let traffic = |haproxy: &HaProxy| {
            format!(
                "traffic = [{{ haproxy = \"{}\", backend = \"shop\", primary = [\"a\", \"b\"], \
                 standby = \"dr\" }}]",
                haproxy.socket()
            )
        };
        let directory = sites.folder.join("databases").display().to_string();
        let (real, drill) = (traffic(&sites.real), traffic(&sites.drill));
        sites.engine.declare_site(HOST, &directory, &real, &drill);
        // The configuration goes with the backup.
        sites.engine.site.backup();
        sites.reach();
        sites
    }

    /// The standby's machine fetches the configuration from the offsite repository, and knows no
    /// other one.
    fn reach(&self) {
        let site = &self.engine.site;
        for name in ["host.key", "recovery-code"] {
            fs::copy(site.folder.join(name), self.folder.join(name)).unwrap();
        }
        let repository = site.repository("second").display().to_string();
        let code = self.folder.join("recovery-code").display().to_string();
        let fetch = ["init", "--from-repository", &repository, "--recovery-code-file", &code];
        Ran::of(&mut self.command(&fetch)).done();
        let config = self.folder.join("rollforward.toml");
        for name in ["state", "host.key"] {
            let [from, to] = [site.folder.path(), self.folder.path()]
                .map(|folder| folder.join(name).display().to_string());
            edit(&config, &from, &to);
        }
        let text = fs::read_to_string(&config).unwrap();
        let text = text.replace("\"main\", \"second\"", "\"second\"");
        assert!(!text.contains("[\"main\""), "{text}");
        // What is journaled is journaled there as well.
        fs::write(&config, format!("journal = [\"second\"]\n{text}")).unwrap();
        self.folder.folder("state", 0o755);
        for path in [config, self.folder.join("host.key")] {
            give_to_postgres(&path);
        }
    }

    /// What begins every command on the standby's machine.
    pub(crate) fn machine(&self) -> Vec<String> {
        let words = ["unshare", "--mount", "--uts", "sh", "-c", BECOME_THE_STANDBY, "another"];
        let hidden = ["state", "rollforward.toml", "host.key", "recovery-code"]
            .map(|name| self.engine.site.folder.join(name).display().to_string());
        words.map(str::to_owned).into_iter().chain(hidden).collect()
    }

    fn command(&self, words: &[&str]) -> Command {
        let machine = self.machine();
        let mut command = Command::new(&machine[0]);
        command.args(&machine[1..]);
        command.arg(binary("rollforward")).args(words).args(["--json", "--config"]);
        let config = self.folder.join("rollforward.toml");
        command.arg(config).stdin(Stdio::null()).current_dir("/");
        command
    }

    /// The program on the standby's machine.
    fn run(&self, words: &str) -> Ran {
        let words: Vec<&str> = words.split_whitespace().collect();
        Ran::of(&mut self.command(&words))
    }

    /// Everything of the first site is gone at once: server, data, repository, applications.
    pub(crate) fn lose(&mut self) {
        let site = &mut self.engine.site;
        site.cluster.kill9();
        for path in [site.cluster.data_dir().to_owned(), site.repository("main")] {
            fs::rename(&path, path.with_extension("lost")).unwrap();
        }
        self.engine.kubernetes.delete(DEPLOYMENT);
        poll(DEADLINE, "no application", || self.engine.pods("engine").is_empty());
    }

    pub(crate) fn standby_replicas(&self) -> Value {
        let path = DEPLOYMENT.replace("/engine/", "/engine-dr/");
        self.engine.kubernetes.get(&path)["spec"]["replicas"].clone()
    }

    fn databases(&self) -> usize {
        fs::read_dir(self.folder.join("databases")).unwrap().count()
    }
}

impl Drop for Sites {
    fn drop(&mut self) {
        let Ok(entries) = fs::read_dir(self.folder.join("databases")) else { return };
        for entry in entries.flatten() {
            let pid = fs::read_to_string(entry.path().join("postmaster.pid"));
            let Ok(pid) = pid else { continue };
            let pid = pid.lines().next().unwrap_or_default().to_owned();
            let _ = Command::new("kill").args(["-QUIT", &pid]).status();
        }
    }
}

fn outcome<'r>(report: &'r Value, id: &str) -> &'r str {
    let steps = report["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["id"] == id);
    step.unwrap_or_else(|| panic!("no step {id}: {report}"))["outcome"].as_str().unwrap()
}

#[test]
fn a_service_whose_site_is_lost_goes_on_at_its_standby() {
    let mut sites = Sites::open();
    let run = |sql: &str| sites.engine.site.cluster.psql_in("engine", sql);
    run("INSERT INTO transformation_scripts VALUES (100001, 'the newest')");
    let rows = sites.engine.rows().unwrap();
    sites.engine.site.archive();
    sites.lose();

    let unknown = sites.run("plan engine --site nowhere --latest").failed("RF0911", 2);
    assert!(unknown.contains("it has: dr"), "{unknown}");
    let plan = sites.run("plan engine --site dr --latest").done();
    let warnings = plan["plan"]["warnings"].to_string();
    assert!(warnings.contains("lost site is not fenced"), "{warnings}");
    let recover = "recover engine --site dr --latest --as oncall --confirm-any --no-wait";
    let waiting = sites.run(recover).ended(5);
    // Nobody is led here, and nothing is started, until a person says that the other one is down.
    assert_eq!(sites.real.answers(), ["a", "b"]);
    assert_eq!(sites.standby_replicas(), 0);
    let id = text(&waiting, "run");
    sites.run(&format!("run approve {id} --as oncall")).done();
    let report = sites.run(&format!("run resume {id} --as oncall --no-wait")).done();

    assert_eq!(verdict(&report), ("restored".into(), "new".into()), "{report}");
    assert_eq!(report["method"], "cross-region");
    for step in ["start.health.engine-dr/api", "start.smoke.1", "open.traffic.shop"] {
        assert_eq!(outcome(&report, step), "done", "{step}");
    }
    assert_eq!(sites.engine.standby_rows().as_ref(), Some(&rows));
    assert_eq!(sites.real.answers(), ["dr"]);
    assert_eq!(sites.standby_replicas(), 1);
    assert!(report["rto_ms"].as_i64().unwrap() > 0, "{report}");
    assert!(report["rpo_reached_ms"].as_i64().unwrap() >= 0, "{report}");
    assert_eq!(report["missed"], json!([]));
    // It is protected there.
    sites.run("backup shop").done();
    assert_eq!(sites.run("verify shop --deep").done()["findings"], json!([]));
}

#[test]
fn a_drill_at_the_standby_measures_and_leaves_both_sites_as_they_were() {
    let sites = Sites::open();
    let run = |sql: &str| sites.engine.site.cluster.psql_in("engine", sql);
    run("INSERT INTO transformation_scripts VALUES (100001, 'the newest')");
    sites.engine.site.archive();
    let before = (sites.engine.before().data, sites.engine.pods("engine"));
    let rows = sites.engine.rows().unwrap();
    let setting = sites.engine.data("engine-dr");
    // An objective that no drill meets: it is noted.
    edit(&sites.folder.join("rollforward.toml"), "rto = \"4h\"", "rto = \"1s\"");
    let report = sites.run("drill engine --site dr --as oncall").done();
    assert_eq!(verdict(&report), ("restored".into(), "old".into()), "{report}");
    for (step, expect) in [
        ("start.writer.engine-dr/api", "undone"),
        ("start.health.engine-dr/api", "done"),
        ("start.smoke.1", "done"),
        ("open.traffic.shop", "undone"),
    ] {
        assert_eq!(outcome(&report, step), expect, "{step}");
    }
    assert!(report["rto_ms"].as_i64().unwrap() > 0, "{report}");
    assert!(report["rpo_reached_ms"].as_i64().is_some(), "{report}");
    // Both sites are as they were, and users never noticed.
    assert_eq!((sites.engine.before().data, sites.engine.pods("engine")), before);
    assert_eq!(sites.engine.data("engine-dr"), setting);
    assert_eq!(sites.standby_replicas(), 0);
    assert_eq!(sites.databases(), 0);
    assert_eq!(sites.real.answers(), ["a", "b"]);
    assert_eq!(sites.drill.answers(), ["a", "b"]);
    assert_eq!(sites.engine.rows().as_ref(), Some(&rows));
    findings_stay_until_they_are_mended(&sites, &text(&report, "run"));
    // One whose traffic is production's is refused.
    edit(&sites.folder.join("rollforward.toml"), &sites.drill.socket(), &sites.real.socket());
    let refused = sites.run("drill engine --site dr").failed("RF0912", 4);
    assert!(refused.contains("touch production"), "{refused}");
}

fn findings_stay_until_they_are_mended(sites: &Sites, run: &str) {
    let add = ["finding", "add", "engine", "the badge did not open the door", "--run", run];
    Ran::of(&mut sites.command(&add)).done();
    let listed = sites.run("finding list engine").done();
    let missed = listed["findings"].as_array().unwrap().iter();
    let missed = missed.filter(|it| text(it, "text").starts_with("missed RTO")).collect::<Vec<_>>();
    assert_eq!(missed.len(), 1, "{listed}");
    assert_eq!(text(missed[0], "run"), run);
    let close = ["finding", "close", &text(missed[0], "finding"), "--note", "a larger machine"];
    assert_eq!(Ran::of(&mut sites.command(&close)).done()["state"], "mended");
    let left = sites.run("finding list").done();
    assert_eq!(text(&left, "findings.0.text"), "the badge did not open the door");
    assert_eq!(left["findings"].as_array().unwrap().len(), 1);
    let all = sites.run("finding list --all").done();
    assert!(all.to_string().contains("a larger machine"), "{all}");
    assert_eq!(sites.run("incident list").done()["incidents"], json!([]), "it is no incident");
}

#[test]
fn an_offsite_repository_behind_the_objective_is_told_before_anything_starts() {
    let sites = Sites::open();
    edit(&sites.folder.join("rollforward.toml"), "rpo = \"1h\"", "rpo = \"1s\"");
    poll(DEADLINE, "the second to pass", || {
        let plan = sites.run("plan engine --site dr --latest").done();
        plan["plan"]["warnings"].to_string().contains("more than the RPO of 1 s")
    });
    let refused = sites.run("recover engine --site dr --latest --as oncall --confirm-any");
    assert!(refused.failed("RF0912", 4).contains("the objective allows 1 s"), "{refused:?}");
    assert_eq!(sites.databases(), 0);
}
