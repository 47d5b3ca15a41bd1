//! Servers of DNS: BIND 9 as primary or as a secondary that falls behind, and PowerDNS.

use std::process::Command;

use crate::daemon::{Daemon, fed, listens, ran};
use crate::{Port, Workdir, poll_for};

/// The zone that all of them serve.
pub const ZONE: &str = "shop.example";

/// The secret of every key, in base64.
const SECRET: &str = "cGxhbnRlZC10c2lnLXNlY3JldC1vZi10aGUtdGVzdHM=";

const SOA: &str = "@ 60 IN SOA ns1 admin 1 3600 600 86400 60\n@ 60 IN NS ns1\n";

/// BIND 9 on 127.0.0.1 with zone [`ZONE`]. Key `traffic` may change everything in it, key `reader`
/// nothing.
#[derive(Debug)]
pub struct Bind {
    folder: Workdir,
    port: Port,
    daemon: Daemon,
}

impl Bind {
    /// A primary with these lines in its zone, beside its own name server.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(lines: &str) -> Self {
        let folder = Workdir::new();
        folder.file("zone", format!("$ORIGIN {ZONE}.\n{SOA}ns1 60 IN A 127.0.0.1\n{lines}"));
        let kind = "type primary; file \"zone\"; update-policy { grant traffic zonesub ANY; };";
        Self::run(folder, kind)
    }

    /// A secondary of a primary that is not there: it serves these lines and never another one.
    ///
    /// # Panics
    /// When it does not start.
    pub fn stale(lines: &str) -> Self {
        let folder = Workdir::new();
        folder.file("zone", format!("$ORIGIN {ZONE}.\n{SOA}ns1 60 IN A 127.0.0.1\n{lines}"));
        let kind = "type secondary; file \"zone\"; masterfile-format text; \
                    primaries { 127.0.0.1 port 1; };";
        Self::run(folder, kind)
    }

    fn run(folder: Workdir, kind: &str) -> Self {
        let port = Port::reserve();
        let keys = ["traffic", "reader"]
            .map(|name| format!("key {name} {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n"));
        folder.file(
            "named.conf",
            format!(
                "options {{ directory \"{}\"; listen-on port {} {{ 127.0.0.1; }}; \
                 listen-on-v6 {{ none; }}; pid-file none; recursion no; notify no; \
                 dnssec-validation no; session-keyfile none; }};\ncontrols {{ }};\n{}\
                 zone {ZONE} {{ {kind} }};\n",
                folder.path().display(),
                port.number(),
                keys.concat(),
            ),
        );
        let mut command = Command::new("/usr/sbin/named");
        command.args(["-g", "-n", "1", "-c"]).arg(folder.join("named.conf"));
        let mut daemon = Daemon::start(&folder, "named", &mut command);
        let number = port.number();
        daemon.wait("BIND", || listens(number) && !dig(number, "ns1", "A").is_empty());
        Self { folder, port, daemon }
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// A key as `tsig-keygen` prints it.
    pub fn key(name: &str) -> String {
        format!("key \"{name}\" {{\n\talgorithm hmac-sha256;\n\tsecret \"{SECRET}\";\n}};\n")
    }

    /// What a record of the zone says: values in order, each with its TTL.
    pub fn records(&self, name: &str, kind: &str) -> Vec<String> {
        dig(self.port.number(), name, kind)
    }

    /// The serial number of the zone: every change raises it.
    pub fn serial(&self) -> String {
        let soa = dig(self.port.number(), "", "SOA");
        soa.first().and_then(|line| line.split(' ').nth(3)).unwrap_or_default().to_owned()
    }

    /// Somebody else's change, in the words of `nsupdate`.
    ///
    /// # Panics
    /// When it is refused.
    pub fn change(&self, commands: &str) {
        let key = self.folder.file("key", Self::key("traffic"));
        let text = self.folder.file(
            "change",
            format!("server 127.0.0.1 {}\nzone {ZONE}\n{commands}\nsend\n", self.port.number()),
        );
        fed(Command::new("nsupdate").arg("-k").arg(key), text);
    }

    /// Ends it: nobody answers any more.
    pub fn stop(&mut self) {
        self.daemon.end();
    }
}

/// `TTL VALUE` of every record, in order.
fn dig(port: u16, name: &str, kind: &str) -> Vec<String> {
    let full = if name.is_empty() { format!("{ZONE}.") } else { format!("{name}.{ZONE}.") };
    let port = port.to_string();
    let mut command = Command::new("dig");
    command.args(["@127.0.0.1", "-p", &port, &full, kind, "+noall", "+answer", "+tries=1"]);
    command.arg("+time=2");
    let output = crate::as_postgres(&mut command).output().expect("dig: `make tools`");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut found: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with(';') && !line.trim().is_empty())
        .map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let rest = fields.get(4..).unwrap_or_default().join(" ");
            format!("{} {rest}", fields.get(1).unwrap_or(&""))
        })
        .collect();
    found.sort();
    found
}

/// PowerDNS Authoritative Server with zone [`ZONE`] in SQLite, and its HTTP API.
#[derive(Debug)]
pub struct PowerDns {
    _folder: Workdir,
    port: Port,
    api: Port,
    daemon: Daemon,
}

impl PowerDns {
    /// What its API takes.
    pub const KEY: &str = "pl4nted-api-key";

    /// A server with these records: name, type, content; a minute of TTL.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(records: &[(&str, &str, &str)]) -> Self {
        let folder = Workdir::new();
        let (port, api) = (Port::reserve(), Port::reserve());
        let mut rows = vec![("", "SOA", "ns1.shop.example admin.shop.example 1 3600 600 86400 60")];
        rows.push(("", "NS", "ns1.shop.example"));
        rows.extend(records);
        let mut sql =
            std::fs::read_to_string("/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql")
                .expect("PowerDNS's schema: `make tools`");
        sql.push_str(&format!(
            "INSERT INTO domains(id, name, type) VALUES (1, '{ZONE}', 'NATIVE');"
        ));
        for (name, kind, content) in rows {
            let full = if name.is_empty() { ZONE.into() } else { format!("{name}.{ZONE}") };
            sql.push_str(&format!(
                "INSERT INTO records(domain_id, name, type, content, ttl, disabled, auth) \
                 VALUES (1, '{full}', '{kind}', '{content}', 60, 0, 1);"
            ));
        }
        let text = folder.file("zone.sql", sql);
        let database = folder.join("zone.db");
        fed(Command::new("sqlite3").arg(&database), text);
        let mut command = Command::new("/usr/sbin/pdns_server");
        command.args(["--no-config", "--daemon=no", "--guardian=no", "--launch=gsqlite3"]);
        command.arg(format!("--gsqlite3-database={}", database.display()));
        command.arg("--local-address=127.0.0.1").arg(format!("--local-port={}", port.number()));
        command.args(["--api=yes", "--webserver=yes", "--cache-ttl=0", "--query-cache-ttl=0"]);
        command.arg(format!("--api-key={}", Self::KEY));
        command.arg(format!("--webserver-port={}", api.number()));
        command.arg(format!("--socket-dir={}", folder.path().display()));
        let mut daemon = Daemon::start(&folder, "pdns", &mut command);
        let (dns, web) = (port.number(), api.number());
        daemon.wait("PowerDNS", || listens(web) && listens(dns) && !dig(dns, "", "SOA").is_empty());
        Self { _folder: folder, port, api, daemon }
    }

    /// Where it serves DNS: `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// Where its API listens.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.api.number())
    }

    /// What a record of the zone says: values in order, each with its TTL.
    pub fn records(&self, name: &str, kind: &str) -> Vec<String> {
        dig(self.port.number(), name, kind)
    }

    /// Waits until a record says this.
    pub fn wait_for(&self, name: &str, kind: &str, expect: &[&str]) {
        let port = self.port.number();
        poll_for(std::time::Duration::from_secs(30), "the record", || {
            (dig(port, name, kind) == expect).then_some(())
        });
    }

    /// Somebody else's change, by the API.
    ///
    /// # Panics
    /// When it is refused.
    pub fn change(&self, name: &str, kind: &str, content: &str) {
        let body = format!(
            "{{\"rrsets\":[{{\"name\":\"{name}.{ZONE}.\",\"type\":\"{kind}\",\"ttl\":60,\
             \"changetype\":\"REPLACE\",\
             \"records\":[{{\"content\":\"{content}\",\"disabled\":false}}]}}]}}"
        );
        let url = format!("{}/api/v1/servers/localhost/zones/{ZONE}.", self.url());
        let mut command = Command::new("curl");
        command.args(["-fsS", "-X", "PATCH", "-H", &format!("X-API-Key: {}", Self::KEY)]);
        ran(command.args(["-d", &body, &url]));
    }

    /// Ends it: nobody answers any more.
    pub fn stop(&mut self) {
        self.daemon.end();
    }
}
