//! A service of four applications at two sites: the first one is a network of its own with a
//! database, storage and applications on a host; the standby has storage and Kubernetes.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use testbed::postgres::Install;
use testbed::{
    Kubernetes, Network, Nginx, Port, S3, Workdir, as_postgres, binary, give_to_postgres, poll,
};

use crate::program::{Ran, text};
use crate::s3::credentials;
use crate::site::{DEADLINE, Site, edit};

/// The applications: see there.
const PROGRAM: &str = include_str!("suite.py");

/// In the order in which they are started, with what each answers when it is well.
pub(crate) const APPLICATIONS: [(&str, &str); 4] =
    [("notify", "/health"), ("n8n", "/healthz"), ("odoo", "/web/health"), ("gateway", "/health")];

/// What must never be seen in what the product writes or says.
pub(crate) const PASSWORD: &str = "pl4nted-suite";

/// Longest wait for an answer over the wire.
const ANSWER: Duration = Duration::from_secs(8);

/// Hides everything that is the first site's, takes another name, and runs the rest of the words.
const BECOME_THE_STANDBY: &str = "mount -t tmpfs none \"$1\" && mount -t tmpfs none \"$2\" && shift 2 && \
     echo standby >/proc/sys/kernel/hostname && exec \"$@\"";

/// The service at its first site, and the machine of the standby site.
pub(crate) struct Suite {
    // In the order in which they end.
    pub(crate) kubernetes: Kubernetes,
    nginx: Nginx,
    pub(crate) site: Site,
    pub(crate) standby: Workdir,
    main: S3,
    pub(crate) second: S3,
    /// Of the applications, in their order, and of the standby's storage.
    ports: [Port; 5],
    pub(crate) network: Network,
}

impl Suite {
    /// Both sites, the first one serving, protected in both repositories.
    pub(crate) fn open() -> Self {
        assert!(testbed::can_drop_privileges(), "root is needed: run `make test` as root");
        let network = Network::new();
        let (there, here) = (network.address(), network.outside());
        let hba = format!("local all all trust\nhost all all {there}/32 scram-sha-256\n");
        let listen = format!("127.0.0.1,{there}");
        let (mut site, main) = network.inside(|| {
            let site = Site::unprotected(16, 1, |builder| {
                let builder = builder.setting("archive_mode", "on").hba(&hba);
                builder.setting("listen_addresses", &listen)
            });
            (site, S3::at(there))
        });
        site.variables = credentials(&main);
        let ports = [(); 5].map(|()| Port::reserve());
        let gateway = ports[3].number();
        let leads_to = [(there, gateway), (Ipv4Addr::LOCALHOST, gateway)];
        let suite = Self {
            kubernetes: Kubernetes::start(),
            nginx: Nginx::leading(here, leads_to.map(SocketAddr::from)),
            site,
            standby: Workdir::new(),
            main,
            second: S3::at(here),
            ports,
            network,
        };
        suite.fill();
        suite.protect();
        suite.standby.folder("databases", 0o755);
        suite.standby.folder("copy", 0o755);
        suite.stand_by();
        for (role, _) in APPLICATIONS {
            suite.script("start", role);
        }
        poll(DEADLINE, "the first site to serve", || suite.serves().as_deref() == Some("first"));
        suite
    }

    fn fill(&self) {
        let cluster = &self.site.cluster;
        cluster.psql(&format!("CREATE ROLE suite LOGIN PASSWORD '{PASSWORD}'"));
        for (database, table) in [
            ("odoo", "orders (id serial PRIMARY KEY, name text, file text)"),
            ("n8n", "workflows (id int PRIMARY KEY, name text)"),
            ("notify", "outbox (id int PRIMARY KEY, receiver text)"),
        ] {
            cluster.psql(&format!("CREATE DATABASE {database} OWNER suite"));
            cluster.psql_in(database, &format!("SET ROLE suite; CREATE TABLE {table}"));
        }
        cluster.psql_in("n8n", "INSERT INTO workflows VALUES (1, 'send invoices')");
        cluster.psql_in("notify", "INSERT INTO outbox VALUES (1, 'anna'), (2, 'ben')");
    }

    /// Both repositories, in the storage of either site.
    fn protect(&self) {
        let url = |name: &str, s3: &S3| {
            let endpoint = s3.endpoint();
            format!("{name}=s3://{}/repository?endpoint={endpoint}&allow_http=true", s3.bucket())
        };
        let urls = [url("main", &self.main), url("second", &self.second)];
        let init = |command: &mut Command| self.network.inside(|| Ran::of(command)).done();
        init(&mut self.site.init_command(&urls));
        self.site.folder.file("access-key", self.main.access_key());
        self.site.folder.file("secret-key", self.main.secret_key());
        let at = self.site.folder.path().display();
        for name in ["main", "second"] {
            let table = format!("[repository.{name}]");
            let keys = format!(
                "{table}\naccess_key_id = \"file:{at}/access-key\"\n\
                 secret_access_key = \"file:{at}/secret-key\""
            );
            self.site.edit_config(&table, &keys);
        }
        let config = fs::read_to_string(self.site.config()).unwrap();
        let bindir = self.site.cluster.install().bindir.display();
        let programs = format!("[cluster.shop]\nbin_directory = \"{bindir}\"\n");
        let config = config.replacen("[cluster.shop]\n", &programs, 1);
        self.site.write_config(&(config + &self.service()));
        init(&mut self.site.command("init --enable-archiving"));
        self.first("backup shop").done();
    }

    fn service(&self) -> String {
        let at = self.site.folder.path().display();
        let address = self.network.address();
        let gateway = self.ports[3].number();
        let own = format!(
            "setting = {{ file = \"{at}/suite.env\", key = \"DATABASE_URL\", form = \"uri\" }}\n\
             writers = [{}]\nfiles = [{}]\n{}",
            self.writers(
                |role| {
                    let command =
                        |verb: &str| format!("[\"{at}/suite.sh\", \"{verb}\", \"{role}\"]");
                    let [start, stop, probe] = ["start", "stop", "status"].map(command);
                    format!("command = \"{role}\", start = {start}, stop = {stop}, probe = {probe}")
                },
                address
            ),
            self.files(&self.main, &self.files_of(&self.second)),
            smoke(address, gateway),
        );
        let traffic = |to: &str, site: &str| {
            format!(
                "traffic = {{ nginx = \"{}\", standby = \"{}\", test = {:?}, reload = {:?}, \
                 probe_url = \"{}site\", probe_word = \"{site}\" }}\n",
                self.nginx.path("upstream.inc").display(),
                self.nginx.path(&format!("{to}.inc")).display(),
                self.nginx.command(&["-t"]),
                self.nginx.command(&["-s", "reload"]),
                self.nginx.url(),
            )
        };
        let standby = self.standby.path().display();
        format!(
            "\n[kubernetes.dr]\ncontext = \"test\"\nkubeconfig = \"{kubeconfig}\"\nuid = \"{uid}\"\n\
             \n[service.suite]\nobjectives = {{ rpo = \"15m\", rto = \"4h\" }}\n\
             database = {{ cluster = \"shop\", name = \"odoo\", directory = \"{at}\" }}\n{own}\
             validate = {{ tables.orders = {{ min_rows = 1 }} }}\n\
             \n[service.suite.site.dr]\nhost = \"standby\"\n\
             database = {{ directory = \"{standby}/databases\", address = \"127.0.0.3\", clients = [\"127.0.0.0/8\"], {databases} }}\n\
             activate = [{{ kubernetes = \"dr\", deployment = \"suite/storage\", replicas = 1 }}]\n\
             setting = {{ kubernetes = \"dr\", secret = \"suite/database\", key = \"DATABASE_URL\", form = \"uri\" }}\n\
             writers = [{writers}]\nfiles = [{files}]\n{smoke}{to_standby}\
             \n[service.suite.site.home]\n\
             database = {{ directory = \"{at}\", address = \"{address}\", clients = [\"{address}/32\"], {databases} }}\n{own}{home}",
            kubeconfig = self.kubernetes.kubeconfig("admin").display(),
            uid = text(&self.kubernetes.get("/api/v1/namespaces/kube-system"), "metadata.uid"),
            writers = self.writers(
                |role| format!("kubernetes = \"dr\", deployment = \"suite/{role}\", replicas = 1"),
                Ipv4Addr::LOCALHOST
            ),
            files = self.files(&self.second, &format!("{standby}/copy")),
            smoke = smoke(Ipv4Addr::LOCALHOST, gateway),
            to_standby = traffic("standby", "standby"),
            home = traffic("primary", "first"),
            databases = "databases = [\"odoo\", \"n8n\", \"notify\"]",
        )
    }

    /// All of them in their order: each answers before the next one is started.
    fn writers(&self, table: impl Fn(&str) -> String, address: Ipv4Addr) -> String {
        let all = APPLICATIONS.iter().zip(&self.ports).map(|((role, path), port)| {
            let url = format!("http://{address}:{}{path}", port.number());
            format!("{{ {}, health = {{ get = \"{url}\" }} }}", table(role))
        });
        all.collect::<Vec<_>>().join(", ")
    }

    fn files_of(&self, s3: &S3) -> String {
        format!("s3://{}/files?endpoint={}&allow_http=true", s3.bucket(), s3.endpoint())
    }

    fn files(&self, bucket: &S3, copy: &str) -> String {
        format!(
            "{{ bucket = \"{}\", copy = \"{copy}\", keys_sql = \"SELECT file FROM orders\", \
             newest_within = \"1h\" }}",
            self.files_of(bucket)
        )
    }

    /// What every application is told besides its connection.
    fn variables(&self, role: &str, is_first: bool) -> Vec<(&'static str, String)> {
        let at = |role: &str| APPLICATIONS.iter().position(|(name, _)| *name == role).unwrap_or(4);
        let host = if is_first { self.network.address() } else { Ipv4Addr::LOCALHOST };
        let others: Value = APPLICATIONS[..3]
            .iter()
            .map(|(name, _)| {
                let address = format!("{host}:{}", self.ports[at(name)].number());
                ((*name).to_owned(), Value::from(address))
            })
            .collect::<serde_json::Map<_, _>>()
            .into();
        let bucket = |s3: &S3| format!("{}/{}/files", s3.endpoint(), s3.bucket());
        let bucket = match (is_first, role) {
            (true, _) => bucket(&self.main),
            (false, "storage") => bucket(&self.second),
            (false, _) => format!("http://{host}:{}", self.ports[4].number()),
        };
        vec![
            ("ROLE", role.to_owned()),
            ("SITE", if is_first { "first" } else { "standby" }.to_owned()),
            ("HOST", host.to_string()),
            ("PORT", self.ports[at(role)].number().to_string()),
            ("OTHERS", others.to_string()),
            ("BUCKET", bucket),
            ("PSQL", Install::psql().display().to_string()),
        ]
    }

    fn url_of(host: IpAddr, port: u16) -> String {
        format!("postgres://suite:{PASSWORD}@{host}:{port}/odoo")
    }

    /// The first site's applications run on its host: a script starts and stops them.
    fn script(&self, verb: &str, role: &str) {
        let path = self.site.folder.join("suite.sh");
        if !path.exists() {
            self.write_scripts(&path);
        }
        let mut command = Command::new(path);
        as_postgres(command.args([verb, role]).stdin(Stdio::null()));
        let status = self.network.inside(|| command.status()).unwrap();
        assert!(status.success(), "suite.sh {verb} {role}: {status}");
    }

    fn write_scripts(&self, path: &Path) {
        let folder = self.site.folder.path().display();
        let url = Self::url_of(self.network.address().into(), self.site.cluster.port());
        let program = self.site.folder.file("suite.py", PROGRAM);
        let settings = self.site.folder.file("suite.env", format!("DATABASE_URL={url}\n"));
        for (role, _) in APPLICATIONS {
            let lines = self.variables(role, true).into_iter();
            let lines = lines.map(|(name, value)| format!("export {name}='{value}'\n"));
            let mut lines: String = lines.collect();
            if role != "gateway" {
                lines.push_str("export $(cat suite.env)\n");
            }
            self.site.folder.file(format!("{role}.sh"), lines);
        }
        let text = format!(
            "#!/bin/sh\ncd '{folder}' || exit 2\npid=$(cat $2.pid 2>/dev/null)\n\
             running() {{ [ -n \"$pid\" ] && [ -r \"/proc/$pid/status\" ] && ! grep -q '^State:.Z' \"/proc/$pid/status\"; }}\n\
             case $1 in\nstart) running && exit 0\n. ./$2.sh\n\
             setsid python3 -u '{}' </dev/null >>$2.log 2>&1 &\necho $! >$2.pid ;;\n\
             stop) running || exit 0\nkill \"$pid\"\nwhile running; do :; done ;;\n\
             status) running ;;\nesac\n",
            program.display()
        );
        let partial = self.site.folder.file("suite.sh.new", text);
        fs::set_permissions(&partial, fs::Permissions::from_mode(0o755)).unwrap();
        give_to_postgres(&settings);
        give_to_postgres(&partial);
        fs::rename(partial, path).unwrap();
    }

    /// The standby's applications: declared, and none runs.
    fn stand_by(&self) {
        let kubernetes = &self.kubernetes;
        kubernetes.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "suite" } }));
        poll(DEADLINE, "the account of the namespace's pods", || {
            let account = kubernetes.find("/api/v1/namespaces/suite/serviceaccounts/default");
            account.is_some_and(|it| it.get("secrets").is_some())
        });
        kubernetes.apply(&json!({ "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "database", "namespace": "suite" },
            "stringData": { "DATABASE_URL": Self::url_of(Ipv4Addr::LOCALHOST.into(), 1) } }));
        fs::write(kubernetes.folder().join("suite.py"), PROGRAM).unwrap();
        for (role, path) in APPLICATIONS.into_iter().chain([("storage", "/health")]) {
            kubernetes.apply(&self.deployment(role, path));
        }
    }

    fn deployment(&self, role: &str, health: &str) -> Value {
        let program = self.kubernetes.folder().join("suite.py");
        let variables = self.variables(role, false);
        let port: u16 =
            variables.iter().find(|(name, _)| *name == "PORT").unwrap().1.parse().unwrap();
        let own = variables.iter().map(|(name, value)| json!({ "name": name, "value": value }));
        let mut env: Vec<Value> = own.collect();
        env.push(json!({ "name": "POD_IP",
            "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } }));
        if !matches!(role, "gateway" | "storage") {
            env.push(json!({ "name": "DATABASE_URL", "valueFrom": { "secretKeyRef": {
                "name": "database", "key": "DATABASE_URL" } } }));
        }
        let container = json!({
            "name": role, "image": "suite:1", "command": ["/usr/bin/python3", "-u", program],
            "env": env, "readinessProbe": { "httpGet": { "path": health, "port": port } },
        });
        json!({ "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": role, "namespace": "suite" },
            "spec": { "replicas": 0, "selector": { "matchLabels": { "app": role } },
                "template": { "metadata": { "labels": { "app": role } },
                    "spec": { "terminationGracePeriodSeconds": 2, "containers": [container] } } } })
    }

    /// The program on the first site's machine.
    pub(crate) fn first(&self, words: &str) -> Ran {
        self.network.inside(|| self.site.run(words))
    }

    /// The program on the standby's machine, to which nothing of the first site is visible.
    pub(crate) fn at_standby(&self, words: &str) -> Ran {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--uts", "sh", "-c", BECOME_THE_STANDBY, "standby"]);
        command.arg(self.site.folder.path()).arg(self.site.cluster.data_dir().parent().unwrap());
        command.arg(binary("rollforward")).args(words.split_whitespace());
        command.args(["--json", "--config"]).arg(self.standby.join("rollforward.toml"));
        command.envs(credentials(&self.second)).stdin(Stdio::null()).current_dir("/");
        Ran::of(&mut command)
    }

    /// A machine that has the key and the recovery code from where they are kept gets the
    /// configuration from the offsite repository.
    pub(crate) fn reach(&self) {
        for name in ["host.key", "recovery-code", "access-key", "secret-key"] {
            let copied = self.standby.join(name);
            fs::copy(self.site.folder.join(name), &copied).unwrap();
            give_to_postgres(&copied);
        }
        let (endpoint, bucket) = (self.second.endpoint(), self.second.bucket());
        let code = self.standby.join("recovery-code");
        self.at_standby(&format!(
            "init --from-repository s3://{bucket}/repository?endpoint={endpoint}&allow_http=true \
             --recovery-code-file {}",
            code.display()
        ))
        .done();
        let config = self.standby.join("rollforward.toml");
        let [from, to] =
            [&self.site.folder, &self.standby].map(|folder| folder.path().display().to_string());
        for name in ["state", "host.key", "access-key", "secret-key"] {
            edit(&config, &format!("{from}/{name}"), &format!("{to}/{name}"));
        }
        edit(&config, "\"main\", \"second\"", "\"second\"");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, format!("journal = [\"second\"]\n{text}")).unwrap();
        self.standby.folder("state", 0o755);
        give_to_postgres(&config);
    }

    /// What a user is answered through the load balancer; `None`: an error, or nothing.
    pub(crate) fn user(&self, method: &str, path: &str, body: &str) -> Option<Value> {
        let url = self.nginx.url();
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        ask(address.parse().unwrap(), method, path, body)
    }

    /// What somebody at the first site is answered there.
    pub(crate) fn insider(&self, method: &str, path: &str, body: &str) -> Option<Value> {
        let address = (self.network.address(), self.ports[3].number()).into();
        self.network.inside(|| ask(address, method, path, body))
    }

    /// Which site serves users.
    pub(crate) fn serves(&self) -> Option<String> {
        self.user("GET", "/health", "")?;
        Some(self.user("GET", "/site", "")?.as_str()?.to_owned())
    }

    /// A user's order, and the file that comes with it.
    pub(crate) fn order(&self, name: &str) {
        let body = json!({ "name": name }).to_string();
        let answer = self.user("POST", "/odoo/web/orders", &body);
        assert!(answer.is_some(), "order {name} was not taken");
    }

    /// The names of all orders that users see, each with its file.
    pub(crate) fn orders(&self) -> Vec<String> {
        let orders = self.user("GET", "/odoo/web/orders", "");
        let orders = orders.unwrap_or_else(|| panic!("no orders"));
        let check = |order: &Value| {
            let name = text(order, "name");
            assert_eq!(order["content"], format!("the file of {name}"), "{order}");
            name
        };
        orders.as_array().unwrap().iter().map(check).collect()
    }

    /// The storage of the first site sends an object to the standby's, as its own replication does.
    pub(crate) fn replicate(&self, name: &str) {
        let key = format!("files/filestore/{name}");
        self.second.put(&key, &self.main.get(&key));
    }

    /// A second copy of an object, on a disk at the standby.
    pub(crate) fn copy(&self, name: &str) {
        let folder = self.standby.folder("copy/filestore", 0o755);
        let content = self.main.get(&format!("files/filestore/{name}"));
        fs::write(folder.join(name), content).unwrap();
    }

    pub(crate) fn replicas(&self, role: &str) -> Value {
        let path = format!("/apis/apps/v1/namespaces/suite/deployments/{role}");
        self.kubernetes.get(&path)["spec"]["replicas"].clone()
    }

    /// An operator stops the applications of the first site, and its server.
    pub(crate) fn stop_first(&mut self) {
        for (role, _) in APPLICATIONS.iter().rev() {
            self.script("stop", role);
        }
        self.site.cluster.stop(testbed::postgres::Stop::Fast);
    }

    /// An operator stops the applications of the standby site.
    pub(crate) fn stop_standby(&self) {
        for (role, _) in APPLICATIONS.iter().rev() {
            let path = format!("/apis/apps/v1/namespaces/suite/deployments/{role}");
            self.kubernetes.patch(&path, &json!({ "spec": { "replicas": 0 } }));
            poll(DEADLINE, "no pods", || self.kubernetes.running("suite", role).is_empty());
        }
    }

    fn servers(&self) -> Vec<PathBuf> {
        let folders = [self.standby.join("databases"), self.site.folder.path().to_owned()];
        let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
        entries.map(|entry| entry.unwrap().path().join("postmaster.pid")).collect()
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        for (role, _) in APPLICATIONS {
            let mut command = Command::new(self.site.folder.join("suite.sh"));
            let _ = command.args(["stop", role]).stdin(Stdio::null()).status();
        }
        for file in self.servers() {
            let Ok(pid) = fs::read_to_string(&file) else { continue };
            let pid = pid.lines().next().unwrap_or_default().to_owned();
            let _ = Command::new("kill").args(["-QUIT", &pid]).status();
            let process = PathBuf::from(format!("/proc/{pid}"));
            poll(DEADLINE, "a restored server to end", || !process.exists());
        }
    }
}

fn smoke(address: Ipv4Addr, gateway: u16) -> String {
    let test = |path: &str, items: u32| {
        format!(
            "{{ get = \"http://{address}:{gateway}{path}\", \
             expect = {{ status = 200, min_items = {items}, within = \"5s\" }} }}"
        )
    };
    let all =
        [test("/odoo/web/orders", 1), test("/n8n/rest/workflows", 1), test("/notify/outbox", 2)];
    format!("smoke = [{}]\n", all.join(", "))
}

fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> Option<Value> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER).ok()?;
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    (answer.split(' ').nth(1)? == "200").then_some(())?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}
