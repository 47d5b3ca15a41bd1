//! The transformation engine as a service: an application in Kubernetes, its connection in a
//! `ConfigMap`, its database on a cluster of ours.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use testbed::postgres::Install;
use testbed::{Kubernetes, Port, as_postgres, poll};

use crate::program::{Ran, text};
use crate::services::verdict;
use crate::site::{DEADLINE, Site};

/// What must never be seen in what the product writes or says.
pub(crate) const PASSWORD: &str = "pl4nted-passw0rd";

/// The application: see there.
const PROGRAM: &str = include_str!("engine.py");

/// What every release but a broken one asks for.
const SQL: &str = "SELECT id, name FROM transformation_scripts ORDER BY id";

/// Rows before anything happens: enough for their deletion to be found.
pub(crate) const SCRIPTS: usize = 200;

pub(crate) const TRANSFORMATIONS: &str = "/api/v1/transformations";
pub(crate) const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/engine/deployments/api";

/// Pods have addresses of their own, and are the only ones who may come over the network.
const HBA: &str = "local all all trust\nlocal replication all trust\n\
    host all all 127.10.0.0/16 scram-sha-256\n";

/// Where the application reads its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `appsettings.json` in a volume.
    File,
    /// A variable from a key that holds nothing else.
    Variable,
}

/// The engine, open: two pods on the production database.
pub(crate) struct Engine {
    // In the order in which they end: the pods hold sessions.
    pub(crate) kubernetes: Kubernetes,
    pub(crate) site: Site,
    place: Place,
    port: Port,
    drill_port: Port,
}

impl Engine {
    pub(crate) fn open(place: Place) -> Self {
        Self::with(place, |text| text)
    }

    /// The same with another text of the service's table.
    pub(crate) fn with(place: Place, change: impl FnOnce(String) -> String) -> Self {
        let site = Site::unprotected(16, 1, |builder| {
            let builder = builder.setting("archive_mode", "on").hba(HBA);
            builder.setting("listen_addresses", "127.0.0.1,127.0.0.2")
        });
        site.init(&site.two_repositories()).done();
        let engine = Self {
            kubernetes: Kubernetes::start(),
            site,
            place,
            port: Port::reserve(),
            drill_port: Port::reserve(),
        };
        engine.fill();
        engine.configure(change);
        engine.namespace("engine");
        engine.kubernetes.apply(&engine.settings("engine", engine.site.cluster.port()));
        engine.kubernetes.apply(&engine.deployment("engine", 2, SQL));
        engine.kubernetes.wait_for_rollout("engine", "api");
        poll(DEADLINE, "the engine's rows", || {
            engine.rows().is_some_and(|rows| rows.len() == SCRIPTS)
        });
        engine
    }

    fn fill(&self) {
        let cluster = &self.site.cluster;
        cluster.psql(&format!("CREATE ROLE engine LOGIN PASSWORD '{PASSWORD}'"));
        cluster.psql("CREATE DATABASE engine OWNER engine");
        cluster.psql_in(
            "engine",
            &format!(
                "SET ROLE engine; CREATE TABLE transformation_scripts (id int PRIMARY KEY, name text, \
                 changed_at timestamptz DEFAULT clock_timestamp()); INSERT INTO transformation_scripts \
                 SELECT i, 'script ' || i FROM generate_series(1, {SCRIPTS}) i"
            ),
        );
        self.site.backup();
    }

    fn configure(&self, change: impl FnOnce(String) -> String) {
        let config = fs::read_to_string(self.site.config()).unwrap();
        let bindir = self.site.cluster.install().bindir.display();
        let programs = format!("[cluster.shop]\nbin_directory = \"{bindir}\"\n");
        let config = config.replacen("[cluster.shop]\n", &programs, 1);
        self.site.write_config(&(config + &change(self.service())));
    }

    fn service(&self) -> String {
        let folder = self.site.folder.path().display();
        let ready = self.site.cluster.install().tool("pg_isready");
        format!(
            "\n[kubernetes.prod]\ncontext = \"test\"\nkubeconfig = \"{}\"\nuid = \"{}\"\n\
             probe = {{ namespace = \"engine\", image = \"postgres:16\", \
             command = [\"{}\", \"-h\", \"{{host}}\", \"-p\", \"{{port}}\", \"-t\", \"10\"] }}\n\
             \n[service.engine]\nobjectives = {{ rpo = \"1h\", rto = \"4h\" }}\n\
             database = {{ cluster = \"shop\", name = \"engine\", directory = \"{folder}\", \
             address = \"127.0.0.2\", clients = [\"127.10.0.0/16\"] }}\n{}\
             writers = [{{ kubernetes = \"prod\", deployment = \"engine/api\" }}]\n\
             validate = {{ tables.transformation_scripts = {{ newest = \"changed_at\", min_rows = 3 }} }}\n{}",
            self.kubernetes.kubeconfig("admin").display(),
            text(&self.kubernetes.get("/api/v1/namespaces/kube-system"), "metadata.uid"),
            ready.display(),
            self.setting_line("engine"),
            smoke_line(self.port.number()),
        )
    }

    fn setting_line(&self, namespace: &str) -> String {
        let key = match self.place {
            Place::File => {
                "key = \"appsettings.json\", inside = \"ConnectionStrings:DefaultConnection\""
            }
            Place::Variable => "key = \"ConnectionStrings.DefaultConnection\"",
        };
        format!(
            "setting = {{ kubernetes = \"prod\", configmap = \"{namespace}/settings\", {key}, form = \"ado\" }}\n"
        )
    }

    /// Makes a place for drills, where nothing runs, and declares it.
    pub(crate) fn declare_drill(&self) {
        let folder = self.site.folder.path().display();
        self.site.folder.folder("drills", 0o755);
        let table = format!(
            "\n[service.engine.drill]\ndatabase = {{ directory = \"{folder}/drills\", \
             address = \"127.0.0.3\", clients = [\"127.10.0.0/16\"] }}\n{}\
             writers = [{{ kubernetes = \"prod\", deployment = \"engine-drill/api\", replicas = 1 }}]\n{}",
            self.setting_line("engine-drill"),
            smoke_line(self.drill_port.number()),
        );
        self.site.append_config(&table);
        self.namespace("engine-drill");
        self.kubernetes.apply(&self.settings("engine-drill", 1));
        self.kubernetes.apply(&self.deployment("engine-drill", 0, SQL));
    }

    /// Makes a standby site, where nothing runs, and declares it with this traffic.
    pub(crate) fn declare_site(&self, host: &str, directory: &str, real: &str, drill: &str) {
        let smoke = smoke_line(self.drill_port.number());
        let health = format!(
            "health = {{ get = \"http://127.0.0.1:{}/healthz\" }}",
            self.drill_port.number()
        );
        let table = format!(
            "\n[service.engine.site.dr]\nhost = \"{host}\"\n\
             database = {{ directory = \"{directory}\", address = \"127.0.0.3\", \
             clients = [\"127.10.0.0/16\"] }}\n{}\
             writers = [{{ kubernetes = \"prod\", deployment = \"engine-dr/api\", replicas = 1, {health} }}]\n\
             {smoke}{real}\n[service.engine.site.dr.drill]\n{drill}\n",
            self.setting_line("engine-dr"),
        );
        self.site.append_config(&table);
        self.namespace("engine-dr");
        self.kubernetes.apply(&self.settings("engine-dr", 1));
        self.kubernetes.apply(&self.deployment("engine-dr", 0, SQL));
    }

    /// Status and body of a request to the application of the standby site.
    pub(crate) fn standby_rows(&self) -> Option<Vec<Value>> {
        let (status, body) = self.ask(self.drill_port.number(), TRANSFORMATIONS)?;
        (status == 200).then(|| body.as_array().unwrap().clone())
    }

    fn namespace(&self, name: &str) {
        self.kubernetes.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }));
        let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        poll(DEADLINE, "the account of the namespace's pods", || {
            self.kubernetes.find(&account).is_some_and(|it| it.get("secrets").is_some())
        });
    }

    /// The object with the connection.
    pub(crate) fn settings(&self, namespace: &str, port: u16) -> Value {
        let connection = format!(
            "Host=127.0.0.2; Port={port};Database=engine;Username=engine;Password={PASSWORD};Pooling=true"
        );
        let (key, value) = match self.place {
            Place::Variable => ("ConnectionStrings.DefaultConnection", connection),
            Place::File => (
                "appsettings.json",
                format!(
                    "{{\n  \"AllowedHosts\": \"*\",\n  \"ConnectionStrings\": {{\n    \
                     \"DefaultConnection\": \"{connection}\"\n  }},\n  \"Größe\": 1.0e1\n}}\n\n"
                ),
            ),
        };
        json!({ "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "settings", "namespace": namespace },
            "data": { key: value, "other": " stays\tas it is \n", "host": "127.0.0.2" } })
    }

    /// The application, asking for what `sql` says.
    pub(crate) fn deployment(&self, namespace: &str, replicas: u32, sql: &str) -> Value {
        let (is_drill, folder) = (namespace != "engine", self.kubernetes.folder());
        let port = if is_drill { self.drill_port.number() } else { self.port.number() };
        let (program, mount) = (folder.join("engine.py"), folder.join(format!("on-{namespace}")));
        fs::write(&program, PROGRAM).unwrap();
        let mut container = json!({
            "name": "api", "image": "engine:8", "command": ["/usr/bin/python3", "-u", program],
            "env": [
                { "name": "POD_IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
                { "name": "PORT", "value": port.to_string() },
                { "name": "PSQL", "value": Install::psql() },
                { "name": "SQL", "value": sql },
            ],
            "readinessProbe": { "httpGet": { "path": "/healthz", "port": port } },
        });
        let mut pod = json!({ "terminationGracePeriodSeconds": 2 });
        let source = match self.place {
            Place::File => {
                container["volumeMounts"] = json!([{ "name": "settings", "mountPath": mount }]);
                pod["volumes"] =
                    json!([{ "name": "settings", "configMap": { "name": "settings" } }]);
                json!({ "name": "SETTINGS", "value": mount.join("appsettings.json") })
            }
            Place::Variable => json!({ "name": "CONNECTION", "valueFrom": { "configMapKeyRef": {
                "name": "settings", "key": "ConnectionStrings.DefaultConnection" } } }),
        };
        container["env"].as_array_mut().unwrap().push(source);
        pod["containers"] = json!([container]);
        json!({ "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "api", "namespace": namespace },
            "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": "api" } },
                "template": { "metadata": { "labels": { "app": "api" } }, "spec": pod } } })
    }

    /// From now on the product reads this configuration of `kubectl`.
    pub(crate) fn reach_by(&self, kubeconfig: &Path) {
        let before = self.kubernetes.kubeconfig("admin").display().to_string();
        self.site.edit_config(&before, &kubeconfig.display().to_string());
    }

    /// From now on the product is this user of Kubernetes.
    pub(crate) fn act_as(&self, user: &str) {
        let path = |user: &str| self.kubernetes.kubeconfig(user).display().to_string();
        self.site.edit_config(&path("admin"), &path(user));
    }

    /// Gives `recovery` what `rollforward kubernetes rbac` prints with these words, then changed.
    pub(crate) fn grant(&self, words: &[&str], change: impl FnOnce(String) -> String) {
        let mut command = crate::program::program();
        command.args(["kubernetes", "rbac", "engine", "--subject", "recovery"]).args(words);
        let printed = Ran::of(command.env("ROLLFORWARD_CONFIG", self.site.config()));
        assert!(printed.status.success(), "{printed:?}");
        let path = self.site.folder.file("rbac.yaml", change(printed.stdout));
        let mut kubectl = self.kubernetes.kubectl("admin");
        let applied = kubectl.args(["apply", "-f"]).arg(path).output().unwrap();
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    }

    /// Status and body of a user's request.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, Value)> {
        self.ask(self.port.number(), path)
    }

    fn ask(&self, port: u16, path: &str) -> Option<(u16, Value)> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?))
    }

    /// What users get, if they get it.
    pub(crate) fn rows(&self) -> Option<Vec<Value>> {
        let (status, body) = self.get(TRANSFORMATIONS)?;
        (status == 200).then(|| body.as_array().unwrap().clone())
    }

    /// Adds a row, then deletes all of them, as somebody does by mistake; what there was.
    pub(crate) fn destroy(&self) -> Vec<Value> {
        let run = |sql: &str| self.site.cluster.psql_in("engine", sql);
        run("INSERT INTO transformation_scripts VALUES (1000, 'the newest')");
        let rows = self.rows().unwrap();
        assert_eq!(rows.len(), SCRIPTS + 1);
        run("DELETE FROM transformation_scripts");
        assert_eq!(self.rows().unwrap(), Vec::<Value>::new());
        self.site.archive();
        rows
    }

    /// `recover` up to just before the damage.
    pub(crate) fn recover(&self, options: &str) -> Ran {
        self.site.run(&format!("recover engine --before-incident --as oncall {options}"))
    }

    /// What the `ConfigMap` holds.
    pub(crate) fn data(&self, namespace: &str) -> Value {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/settings");
        self.kubernetes.get(&path)["data"].clone()
    }

    /// Pods that run.
    pub(crate) fn pods(&self, namespace: &str) -> BTreeSet<String> {
        self.kubernetes.running(namespace, "api").into_iter().map(|it| it.pod).collect()
    }

    /// Asks the restored cluster.
    pub(crate) fn restored(&self, report: &Value, sql: &str) -> String {
        let facts = &report["facts"];
        let mut command = Command::new(Install::psql());
        command.args(["-XAt", "-U", "postgres", "-d", "engine", "-c", sql]);
        command.arg("-h").arg(facts["socket"].as_str().unwrap());
        command.arg("-p").arg(facts["port"].as_str().unwrap());
        let output = as_postgres(&mut command).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The rows are back, new pods serve them, and nothing but the port changed in the setting.
    pub(crate) fn assert_restored(&self, report: &Value, rows: &[Value], before: &Before) {
        assert_eq!(verdict(report), ("restored".into(), "new".into()), "{report}");
        assert_eq!(self.rows().as_deref(), Some(rows));
        let port = text(report, "facts.port");
        assert_eq!(self.data("engine"), before.with_port(&port), "only the port changed");
        let deployment = self.kubernetes.get(DEPLOYMENT);
        assert_eq!(deployment["spec"]["replicas"], 2);
        let pods = self.pods("engine");
        assert!(pods.len() == 2 && pods.is_disjoint(&before.pods), "{pods:?}");
        assert!(!self.site.cluster.is_running(), "the old server is stopped");
        let from = "SELECT count(DISTINCT client_addr) FROM pg_stat_activity WHERE \
            application_name = 'engine' AND client_addr << '127.10.0.0/16'";
        assert_eq!(self.restored(report, from), "2", "each pod has a session over the network");
    }

    /// What there is now.
    pub(crate) fn before(&self) -> Before {
        Before {
            data: self.data("engine"),
            pods: self.pods("engine"),
            port: self.site.cluster.port(),
        }
    }

    /// Folders that runs have made beside the old cluster.
    pub(crate) fn made(&self) -> Vec<PathBuf> {
        let folders = [self.site.folder.path().to_owned(), self.site.folder.join("drills")];
        let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                name.starts_with("shop-2") && !name.contains('.')
            })
            .collect()
    }
}

/// What there was before a run.
pub(crate) struct Before {
    pub(crate) data: Value,
    pub(crate) pods: BTreeSet<String>,
    port: u16,
}

impl Before {
    /// The same setting with another port.
    pub(crate) fn with_port(&self, port: &str) -> Value {
        let mut data = self.data.clone();
        let old = format!("Port={};", self.port);
        for value in data.as_object_mut().unwrap().values_mut() {
            *value = Value::from(value.as_str().unwrap().replace(&old, &format!("Port={port};")));
        }
        assert_ne!(data, self.data);
        data
    }
}

fn smoke_line(port: u16) -> String {
    format!(
        "smoke = [{{ get = \"http://127.0.0.1:{port}{TRANSFORMATIONS}\", \
         expect = {{ status = 200, min_items = 1, within = \"500ms\" }} }}]\n"
    )
}

impl Drop for Engine {
    fn drop(&mut self) {
        for folder in self.made() {
            let Ok(file) = fs::read_to_string(folder.join("postmaster.pid")) else { continue };
            let pid = file.lines().next().unwrap_or_default();
            let _ = Command::new("kill").args(["-QUIT", pid]).status();
            let process = PathBuf::from(format!("/proc/{pid}"));
            poll(DEADLINE, "the restored server to end", || !process.exists());
        }
    }
}
