//! What a new cluster shall be like.

use std::fs;
use std::process::Command;

use super::{Cluster, Install};
use crate::account::as_postgres;
use crate::port::Port;
use crate::workdir::Workdir;

/// Sessions through the socket and from this machine, replication included, without a password.
const HBA: &str = "local all all trust\nhost all all 127.0.0.1/32 trust\n\
    local replication all trust\nhost replication all 127.0.0.1/32 trust\n";

/// Small, quick, and still a server like any other. `fsync` is off because no test cuts the
/// power: a killed process loses nothing that it wrote.
const SETTINGS: [(&str, &str); 8] = [
    ("listen_addresses", "127.0.0.1"),
    ("shared_buffers", "32MB"),
    ("max_connections", "50"),
    ("fsync", "off"),
    ("log_line_prefix", "%m [%p] "),
    ("log_checkpoints", "on"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
];

/// A cluster to be made: see [`Cluster::builder`].
#[derive(Clone, Debug)]
#[must_use = "call create() or start()"]
pub struct Builder {
    install: Install,
    data_checksums: bool,
    wal_segsize_mb: u32,
    settings: Vec<(String, String)>,
    hba: String,
    initdb_args: Vec<String>,
}

impl Builder {
    pub(super) fn new(install: &Install) -> Self {
        Self {
            install: install.clone(),
            data_checksums: true,
            wal_segsize_mb: 16,
            settings: Vec::new(),
            hba: HBA.to_owned(),
            initdb_args: Vec::new(),
        }
    }

    /// Page checksums; on unless told otherwise, on every major.
    pub fn data_checksums(mut self, on: bool) -> Self {
        self.data_checksums = on;
        self
    }

    /// The size of a WAL segment in MiB, a power of two from 1 to 1024; 16 unless told otherwise.
    pub fn wal_segsize_mb(mut self, mib: u32) -> Self {
        self.wal_segsize_mb = mib;
        self
    }

    /// A line of postgresql.conf; the value is quoted here. The last one given for a name wins.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The whole content of pg_hba.conf.
    pub fn hba(mut self, content: &str) -> Self {
        content.clone_into(&mut self.hba);
        self
    }

    /// One more argument for `initdb`, such as `--locale=C.UTF-8`; it wins over ours.
    pub fn initdb_arg(mut self, argument: &str) -> Self {
        self.initdb_args.push(argument.to_owned());
        self
    }

    /// Runs `initdb` and writes the configuration; the server is not started.
    ///
    /// # Panics
    /// When that fails, with what `initdb` said.
    pub fn create(self) -> Cluster {
        let workdir = Workdir::new();
        let port = Port::reserve();
        let socket_dir = workdir.folder("run", 0o755);
        let data_dir = workdir.join("data");
        let mut command = Command::new(self.install.tool("initdb"));
        as_postgres(&mut command);
        command
            .args(["-N", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"])
            .arg(format!("--wal-segsize={}", self.wal_segsize_mb))
            .args(self.checksums_argument())
            .args(&self.initdb_args)
            .arg("-D")
            .arg(&data_dir);
        let output = command.output().expect("run initdb");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "initdb of {}: {said}", self.install.major);

        // Appended, so that initdb's own choices (locale, time zone) stay where nothing is said.
        let conf = data_dir.join("postgresql.conf");
        let mut text = fs::read_to_string(&conf).expect("read postgresql.conf");
        text.push('\n');
        let defaults = SETTINGS.iter().map(|&(name, value)| (name, value));
        let own = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in defaults.chain(own) {
            text.push_str(&setting_line(name, value));
        }
        fs::write(&conf, text).expect("write postgresql.conf");
        fs::write(data_dir.join("pg_hba.conf"), &self.hba).expect("write pg_hba.conf");
        Cluster::created(self.install, workdir, data_dir, socket_dir, port)
    }

    /// Makes the cluster and starts it.
    ///
    /// # Panics
    /// When that fails, with the server's log.
    pub fn start(self) -> Cluster {
        let mut cluster = self.create();
        cluster.start();
        cluster
    }

    /// From 18 on, checksums are what initdb does unless told otherwise.
    fn checksums_argument(&self) -> Option<&'static str> {
        match (self.data_checksums, self.install.major) {
            (true, _) => Some("--data-checksums"),
            (false, 18..) => Some("--no-data-checksums"),
            (false, _) => None,
        }
    }
}

/// Returns a line of postgresql.conf with the value in quotes.
pub(super) fn setting_line(name: &str, value: &str) -> String {
    format!("{name} = '{}'\n", value.replace('\'', "''"))
}
