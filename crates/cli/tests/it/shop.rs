//! The shop as a service: a real application on a real cluster, with a door, a script that starts
//! and stops it, checks and smoke tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use testbed::postgres::Install;
use testbed::{Port, as_postgres, binary, give_to_postgres, poll};

use crate::program::Ran;
use crate::site::{DEADLINE, Site, processes_with};

/// What must never be seen in what the product writes or says.
pub(crate) const PASSWORD: &str = "pl4nted-passw0rd";
pub(crate) const TOKEN: &str = "pl4nted-t0ken";

/// What there was just before the damage.
pub(crate) struct Before {
    pub(crate) orders: u64,
    /// Every order that was there had been placed before this moment.
    pub(crate) at: String,
}

/// The shop, open.
pub(crate) struct Shop {
    pub(crate) site: Site,
    pub(crate) port: Port,
}

impl Shop {
    /// A protected cluster with the shop's data, and the shop open on it.
    pub(crate) fn open(major: u32) -> Self {
        Self::with(major, |text| text)
    }

    /// The same with another text of the service's table.
    pub(crate) fn with(major: u32, change: impl FnOnce(String) -> String) -> Self {
        Self::on(Site::new(major), change)
    }

    /// The same on a site that was made before.
    pub(crate) fn on(site: Site, change: impl FnOnce(String) -> String) -> Self {
        site.cluster.psql(&format!("CREATE ROLE shop LOGIN PASSWORD '{PASSWORD}'"));
        site.cluster.psql("CREATE DATABASE shop OWNER shop");
        let shop = Self { site, port: Port::reserve() };
        let url = format!(
            "# the shop's settings\nDATABASE_URL='postgres://shop:{PASSWORD}@127.0.0.1:{}/shop?connect_timeout=5'\n",
            shop.site.cluster.port()
        );
        shop.file("shop.env", &url, 0o600);
        shop.file("shop.token", TOKEN, 0o600);
        shop.file("shop.sh", &shop.script(), 0o755);
        shop.file("validate.sql", "SELECT count(*) FROM customers; -- expect: >= 1\n", 0o644);
        let mut load = Command::new(binary("rollforward-shop"));
        load.args(["load", "--size", "1MB", "--settings"]).arg(shop.path("shop.env"));
        let loaded = as_postgres(&mut load).output().unwrap();
        assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
        shop.site.backup();
        let config = fs::read_to_string(shop.site.config()).unwrap();
        let bindir = shop.site.cluster.install().bindir.display();
        let programs = format!("[cluster.shop]\nbin_directory = \"{bindir}\"\n");
        let config = config.replacen("[cluster.shop]\n", &programs, 1);
        assert!(config.contains("bin_directory"), "{config}");
        shop.site.write_config(&(config + &change(shop.service())));
        shop.run_script("start");
        shop.wait_for_health();
        shop
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.site.folder.join(name)
    }

    pub(crate) fn file(&self, name: &str, text: &str, mode: u32) {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        give_to_postgres(&path);
    }

    fn script(&self) -> String {
        format!(
            "#!/bin/sh\ncd '{}' || exit 2\npid=$(cat $2.pid 2>/dev/null)\n\
             running() {{ [ -n \"$pid\" ] && grep -qs '^State:.[^XZ]' \"/proc/$pid/status\" || return 1; }}\n\
             case $1 in\n\
             start) running && exit 0\n\
             setsid '{}' --listen 127.0.0.1:$3 --settings $2.env --maintenance $2.maintenance --token shop.token \
             --writes-per-second 20 </dev/null >>$2.log 2>&1 &\necho $! >$2.pid ;;\n\
             stop) running || exit 0\nkill \"$pid\"\nwhile running; do :; done ;;\n\
             status) running ;;\nesac\n",
            self.site.folder.path().display(),
            binary("rollforward-shop").display()
        )
    }

    fn service(&self) -> String {
        let folder = self.site.folder.path().display();
        let command = |verb: &str| {
            format!("[\"{folder}/shop.sh\", \"{verb}\", \"shop\", \"{}\"]", self.port.number())
        };
        format!(
            "\n[service.shop]\n\
             objectives = {{ rpo = \"15m\", rto = \"4h\" }}\n\
             database = {{ cluster = \"shop\", restore = \"beside\", name = \"shop\", directory = \"{folder}\" }}\n\
             setting = {{ file = \"{folder}/shop.env\", key = \"DATABASE_URL\", form = \"uri\" }}\n\
             door = {{ file = \"{folder}/shop.maintenance\" }}\n\
             writers = [{{ command = \"shop\", start = {}, stop = {}, probe = {} }}]\n\
             validate = {{ sql = \"{folder}/validate.sql\", tables.orders = {{ newest = \"placed_at\", min_rows = 1 }} }}\n\
             smoke = [{{ get = \"http://127.0.0.1:{}/api/orders?limit=5\", login = \"file:{folder}/shop.token\", \
             expect = {{ status = 200, min_items = 5, within = \"5s\" }} }}]\n",
            command("start"),
            command("stop"),
            command("status"),
            self.port.number()
        )
    }

    pub(crate) fn run_script(&self, verb: &str) {
        let mut command = Command::new(self.path("shop.sh"));
        command.args([verb, "shop", &self.port.number().to_string()]).stdin(Stdio::null());
        let ended = as_postgres(&mut command).status().unwrap();
        assert!(ended.success(), "shop.sh {verb}: {ended}");
    }

    /// Status and body of a user's request.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port.number())).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        Some((status, answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned()))
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.get("/health").is_some_and(|(status, _)| status == 200)
    }

    pub(crate) fn wait_for_health(&self) {
        poll(DEADLINE, "the shop to be healthy", || self.is_healthy());
    }

    /// How many orders it has placed since it was started.
    pub(crate) fn placed(&self) -> u64 {
        let body = self.get("/api/stats").map(|(_, body)| body).unwrap_or_default();
        let stats: Value = serde_json::from_str(&body).unwrap_or_default();
        stats["shop"]["orders_placed"].as_u64().unwrap_or_default()
    }

    pub(crate) fn wait_for_orders(&self, more: u64) {
        let before = self.placed();
        poll(DEADLINE, "orders", || self.placed() >= before + more);
    }

    /// Deletes every order, as somebody does by mistake.
    pub(crate) fn destroy(&self) -> Before {
        self.wait_for_orders(3);
        let counted = self.site.cluster.psql_in(
            "shop",
            "BEGIN; LOCK TABLE orders, order_lines, payments IN SHARE ROW EXCLUSIVE MODE; \
             SELECT count(*) || '|' || clock_timestamp() FROM orders; DELETE FROM orders; COMMIT",
        );
        self.wait_for_orders(3);
        let line = counted.lines().find_map(|line| line.split_once('|'));
        let (orders, at) = line.unwrap_or_else(|| panic!("no count in {counted:?}"));
        Before { orders: orders.trim().parse().unwrap(), at: at.trim().to_owned() }
    }

    /// The same without waiting for the shop.
    pub(crate) fn destroy_quietly(&self) {
        self.site.cluster.psql_in("shop", "DELETE FROM orders");
    }

    /// `recover` up to just before the damage.
    pub(crate) fn recover(&self, options: &str) -> Ran {
        self.site.run(&format!("recover shop --before-incident --as oncall {options}"))
    }

    /// Orders of the restored database that were placed before a moment.
    pub(crate) fn restored_orders(&self, report: &Value, before: &str) -> u64 {
        let sql = format!("SELECT count(*) FROM orders WHERE placed_at < '{before}'");
        self.ask_restored(report, &sql).parse().unwrap()
    }

    /// Asks the restored database.
    pub(crate) fn ask_restored(&self, report: &Value, sql: &str) -> String {
        let (port, socket) = (&report["facts"]["port"], &report["facts"]["socket"]);
        let mut command = Command::new(Install::psql());
        command.args(["-XAt", "-U", "postgres", "-d", "shop", "-h"]).arg(socket.as_str().unwrap());
        command.args(["-p", port.as_str().unwrap(), "-c", sql]);
        let output = as_postgres(&mut command).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Whether a restore of this shop is under way.
    pub(crate) fn restores(&self) -> bool {
        let folder = self.site.folder.path().display().to_string();
        processes_with("restore").into_iter().any(|pid| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&folder))
        })
    }

    /// The setting's text.
    pub(crate) fn setting(&self) -> String {
        fs::read_to_string(self.path("shop.env")).unwrap()
    }

    /// Whether users are kept out.
    pub(crate) fn is_shut(&self) -> bool {
        self.path("shop.maintenance").exists()
    }

    /// Folders that runs have made beside the old cluster.
    pub(crate) fn made(&self) -> Vec<String> {
        let names = fs::read_dir(self.site.folder.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("shop-2") && !name.contains('.')).collect()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        for name in ["shop", "drill"] {
            let mut command = Command::new(self.path("shop.sh"));
            // As the test's own user: another machine's driver may have started it as another one.
            let _ = command.args(["stop", name, "0"]).stdin(Stdio::null()).status();
        }
        for name in self.made() {
            let folder = self.path(&name);
            if let Ok(text) = fs::read_to_string(folder.join("postmaster.pid")) {
                let pid = text.lines().next().unwrap_or_default().to_owned();
                let _ = Command::new("kill").args(["-QUIT", &pid]).status();
                poll(DEADLINE, "the restored server to end", || {
                    !folder.join("postmaster.pid").exists()
                        || !PathBuf::from(format!("/proc/{pid}")).exists()
                });
            }
        }
    }
}
