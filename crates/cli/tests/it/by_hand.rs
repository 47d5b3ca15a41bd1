//! Recoveries by hand: a person types what the printed runbook says, line by line, and nothing
//! else brings the service back.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use testbed::{Kubernetes, binary, poll};

use crate::program::text;
use crate::site::DEADLINE;
use crate::standby::Sites;
use crate::transformations::{DEPLOYMENT, Engine, Place};

/// Looks, and changes nothing.
const LOOKS: &str = "Back: Nothing to undo: it only looks.";

/// One step of a printed runbook.
#[derive(Debug)]
struct Printed {
    id: String,
    lines: Vec<String>,
    looks: bool,
}

fn steps(page: &str) -> Vec<Printed> {
    let mut steps: Vec<Printed> = Vec::new();
    for line in page.lines() {
        if let Some((_, rest)) = line.split_once(". [ ] `") {
            let id = rest.split('`').next().unwrap().to_owned();
            steps.push(Printed { id, lines: Vec::new(), looks: false });
        }
        let Some(step) = steps.last_mut() else { continue };
        step.lines.extend(line.strip_prefix("   $ ").map(str::to_owned));
        step.looks |= line.trim() == LOOKS;
    }
    steps
}

/// Somebody at a shell of the database's machine, as user `postgres`.
struct Person {
    /// What begins a shell there.
    shell: Vec<String>,
    variables: Vec<(String, String)>,
    /// What the runbook leaves to whoever types.
    names: Vec<(String, String)>,
    desk: PathBuf,
    /// The host that the applications are given.
    address: &'static str,
}

impl Person {
    fn new(shell: Vec<String>, config: &Path, kubernetes: &Kubernetes, desk: PathBuf) -> Self {
        let kubectl = kubernetes.kubectl("admin").get_program().to_owned();
        let folders = [binary("rollforward"), PathBuf::from(kubectl)]
            .map(|program| program.parent().unwrap().to_owned());
        let system = ["/usr/bin", "/bin"].map(PathBuf::from);
        let path = env::join_paths(folders.into_iter().chain(system)).unwrap();
        let variables = [
            ("PATH", path.into_string().unwrap()),
            ("HOME", desk.display().to_string()),
            ("LC_ALL", "C.UTF-8".into()),
            ("KUBECONFIG", kubernetes.kubeconfig("admin").display().to_string()),
            ("ROLLFORWARD_CONFIG", config.display().to_string()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).into();
        Self { shell, variables, names: Vec::new(), desk, address: "127.0.0.2" }
    }

    fn sets(&mut self, name: &str, value: impl Into<String>) {
        self.names.push((name.into(), value.into()));
    }

    /// Types one line and sees what comes; it must end as it should.
    #[track_caller]
    fn types(&self, line: &str) -> String {
        let mut command = Command::new(&self.shell[0]);
        let names = self.names.iter().map(|(name, value)| (name, value));
        command.args(&self.shell[1..]).args(["bash", "-o", "pipefail", "-uc", line]);
        command.env_clear().envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.envs(names).current_dir(&self.desk).stdin(std::process::Stdio::null());
        let output = command.output().unwrap();
        let seen = [output.stdout, output.stderr].concat();
        let seen = String::from_utf8(seen).unwrap();
        println!("$ {line}\n{seen}");
        let expected: &[i32] = match line {
            // What is wrong is found.
            _ if line.starts_with("rollforward diagnose ") => &[0, 3],
            // It says that no server runs.
            _ if line.contains("pg_ctl") && line.ends_with(" status") => &[3],
            // There is a difference.
            _ if line.contains("; diff ") => &[1],
            _ => &[0],
        };
        if line.contains(" wait --for=delete ") {
            // What it waited for may have gone before.
            assert!(seen.contains("No resources found"), "$ {line}\n{seen}");
        }
        let code = output.status.code().unwrap_or(-1);
        assert!(expected.contains(&code), "{code}: $ {line}\n{seen}");
        seen
    }

    /// Keeps in mind what will be needed further down.
    fn learns(&mut self, line: &str, seen: &str) {
        if line.contains(" get deployment ") {
            let columns: Vec<&str> = seen.lines().nth(1).unwrap().split_whitespace().collect();
            let wanted = columns[1].split_once('/').unwrap().1;
            self.sets("REPLICAS", wanted);
            self.sets("SELECTOR", *columns.last().unwrap());
        }
        if line.starts_with("rollforward restore ") {
            let port =
                seen.split("quarantine: port ").nth(1).and_then(|rest| rest.split(' ').next());
            let port = port.unwrap_or_else(|| panic!("no port: {seen}")).to_owned();
            self.sets("NEW", format!("Host={}; Port={port};", self.address));
            self.sets("PORT", port);
        }
    }

    fn name(&self, name: &str) -> &str {
        &self.names.iter().rfind(|(it, _)| it == name).unwrap().1
    }

    /// Does what a step says.
    fn does(&mut self, step: &Printed) -> String {
        let mut all = String::new();
        for line in &step.lines {
            let seen = self.types(line);
            self.learns(line, &seen);
            all.push_str(&seen);
        }
        all
    }

    /// Prints the runbook: each step that changes something says what to type.
    fn reads(&self, command: &str) -> Vec<Printed> {
        let steps = steps(&self.types(command));
        for step in steps.iter().filter(|step| step.id != "open.point") {
            assert!(step.looks || !step.lines.is_empty(), "{} cannot be typed", step.id);
        }
        let lines = steps.iter().flat_map(|step| &step.lines);
        let mut orchestrated =
            lines.filter(|line| line.contains("rollforward recover") || line.contains(" run "));
        assert_eq!(orchestrated.next(), None);
        steps
    }
}

fn step<'s>(steps: &'s [Printed], id: &str) -> &'s Printed {
    let found = steps.iter().find(|step| step.id == id);
    found.unwrap_or_else(|| panic!("no step {id}: {steps:?}"))
}

/// Whether users are let in with this step, or were before it.
fn seen_open(steps: &[Printed], id: &str) -> bool {
    position(steps, id) >= position(steps, "open.door")
}

fn position(steps: &[Printed], id: &str) -> usize {
    steps.iter().position(|step| step.id == id).unwrap_or_else(|| panic!("no step {id}"))
}

/// The directory that the runbook restores into.
fn directory(steps: &[Printed]) -> String {
    let line = &step(steps, "restore.cluster.shop").lines[0];
    line.split(" --to ").nth(1).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn a_runbook_brings_an_application_in_kubernetes_back_by_hand() {
    let engine = Engine::with(Place::File, |text| {
        let folder = text.split("directory = \"").nth(1).unwrap().split('"').next().unwrap();
        let door = format!("door = {{ file = \"{folder}/maintenance\" }}\n");
        text + &door
    });
    let (before, rows) = (engine.before(), engine.destroy());
    let site = &engine.site;
    let flag = site.folder.join("maintenance");
    let desk = site.folder.folder("desk", 0o755);
    let user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];
    let shell = user.map(str::to_owned).into();
    let mut person = Person::new(shell, &site.config(), &engine.kubernetes, desk);
    let steps = person.reads("rollforward runbook engine --before-incident");
    let port = site.cluster.port();
    person.sets("OLD", format!("Host=127.0.0.2; Port={port};"));
    // The target of the page is the one that the WAL shows.
    let located = person.types("rollforward locate shop");
    let target = located.split("--before ").nth(1).unwrap().split(';').next().unwrap().to_owned();
    let reached = person.types(&format!("rollforward window shop --before {target}"));
    let next = format!("next: rollforward restore shop --to DIR --before {target} --start");
    assert!(reached.contains(&next), "{reached}");
    let restore = &step(&steps, "restore.cluster.shop").lines[0];
    assert!(restore.contains(&format!(" --before {target} ")), "{target}: {restore}");

    let proved = position(&steps, "prove.data");
    for step in &steps[..proved] {
        person.does(step);
    }
    assert!(engine.pods("engine").is_empty() && !site.cluster.is_running());
    assert_eq!(fs::read_to_string(&flag).unwrap(), "maintenance\n");
    let pg_ctl = site.cluster.install().tool("pg_ctl");
    let start = format!(
        "{} -D {} -w start; test $? -eq 1",
        pg_ctl.display(),
        site.cluster.data_dir().display()
    );
    person.types(&start);
    assert!(!site.cluster.is_running(), "whoever starts it again fails");
    let seen = person.does(&steps[proved]);
    assert!(seen.contains(" f ") && seen.contains("PostgreSQL 16"), "{seen}");
    assert!(seen.contains(&format!(" {} ", rows.len())), "{seen}");
    for step in &steps[proved + 1..] {
        let seen = person.does(step);
        if step.id == "start.smoke.1" {
            assert!(seen.contains("the newest"), "{seen}");
        }
        assert_eq!(flag.exists(), !seen_open(&steps, &step.id), "{}", step.id);
    }

    assert_eq!(engine.rows().as_ref(), Some(&rows));
    assert_eq!(engine.data("engine"), before.with_port(person.name("PORT")), "only the port");
    let deployment = engine.kubernetes.get(DEPLOYMENT);
    assert_eq!(deployment["spec"]["replicas"], 2);
    let pods = engine.pods("engine");
    assert!(pods.len() == 2 && pods.is_disjoint(&before.pods), "{pods:?}");
    // It is protected, and serves when it starts anew.
    let directory = directory(&steps);
    let restart = format!("{} -D {directory} -l {directory}.log restart", pg_ctl.display());
    person.types(&restart);
    poll(DEADLINE, "the engine on the restored cluster", || engine.rows().as_ref() == Some(&rows));
    site.verify_clean();
    assert_eq!(fs::metadata(site.cluster.data_dir()).unwrap().permissions().mode() & 0o200, 0);
}

#[test]
fn a_runbook_brings_a_service_up_at_its_standby_by_hand() {
    let mut sites = Sites::open();
    let run = |sql: &str| sites.engine.site.cluster.psql_in("engine", sql);
    run("INSERT INTO transformation_scripts VALUES (4000, 'the newest')");
    let rows = sites.engine.rows().unwrap();
    sites.engine.site.archive();
    sites.lose();

    let desk = sites.folder.folder("desk", 0o755);
    let mut shell = sites.machine();
    let user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];
    shell.extend(user.map(str::to_owned));
    let config = sites.folder.join("rollforward.toml");
    let mut person = Person::new(shell, &config, &sites.engine.kubernetes, desk);
    person.address = "127.0.0.3";
    let steps = person.reads("rollforward runbook engine --site dr --latest");
    person.sets("OLD", "Host=127.0.0.2; Port=1;");
    assert!(step(&steps, "protect.adopt.shop").lines[0].ends_with(" --old-is-gone"));

    let point = position(&steps, "open.point");
    for step in &steps[..point] {
        person.does(step);
    }
    assert_eq!(sites.real.answers(), ["a", "b"], "nobody is led here yet");
    assert_eq!(sites.engine.standby_rows().as_ref(), Some(&rows));
    for step in &steps[point..] {
        person.does(step);
    }
    assert_eq!(sites.real.answers(), ["dr"]);
    let look = &step(&steps, "assess.traffic.shop").lines[0];
    poll(DEADLINE, "2 for the server that is up, 0 for the others", || {
        let seen = person.types(look);
        let states = seen.lines().filter_map(|line| {
            let columns: Vec<&str> = line.split(' ').collect();
            (columns.get(1) == Some(&"shop")).then(|| [columns[3], columns[5]].join(" "))
        });
        states.collect::<Vec<_>>() == ["a 0", "b 0", "dr 2"]
    });
    assert_eq!(sites.standby_replicas(), 1);
    assert_eq!(sites.engine.standby_rows().as_ref(), Some(&rows));
    let setting = text(&sites.engine.data("engine-dr"), "host");
    assert_eq!(setting, "127.0.0.2", "the other keys stay");
    let verified = person.types("rollforward verify shop --deep --json 2>verify.log");
    let verified: serde_json::Value = serde_json::from_str(&verified).unwrap();
    assert_eq!(verified["findings"], serde_json::json!([]));
}
