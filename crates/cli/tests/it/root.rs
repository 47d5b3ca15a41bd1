//! Run by root for a cluster of user `postgres`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use testbed::postgres::{Cluster, Stop};

use crate::program::{Ran, program_as_root, text};
use crate::site::{Site, archive, files, mode};

/// A site whose commands root runs; the server and what it runs are user postgres's.
struct RootSite(Site);

impl RootSite {
    fn make(major: u32) -> Self {
        assert!(testbed::can_drop_privileges(), "root is needed: run `make test` as root");
        Self(Site::unprotected(major, 1, |builder| builder.setting("archive_mode", "on")))
    }

    fn run(&self, words: &str) -> Ran {
        let mut command = program_as_root();
        command.args(words.split_whitespace()).arg("--json");
        command.env("ROLLFORWARD_CONFIG", self.0.config()).current_dir("/");
        Ran::of(&mut command)
    }

    fn init(&self) {
        let path = |name: &str| self.0.folder.join(name).display().to_string();
        let mut command = program_as_root();
        command
            .args(["init", "--cluster", "shop", "--enable-archiving", "--json"])
            .args(["--connection", &self.0.cluster.conninfo()])
            .args(["--repository", &format!("main={}", path("main"))])
            .args(["--state-directory", &path("state"), "--key-file", &path("host.key")])
            .args(["--recovery-code-file", &path("recovery-code")])
            .env("ROLLFORWARD_CONFIG", self.0.config());
        Ran::of(&mut command).done();
    }
}

fn owner(path: &Path) -> u32 {
    fs::metadata(path).unwrap().uid()
}

#[test]
fn what_root_makes_the_server_can_use() {
    let site = RootSite::make(17);
    site.init();
    let Site { cluster, folder, .. } = &site.0;
    let postgres = owner(cluster.data_dir());
    assert_ne!(postgres, 0);
    for name in ["state", "state/writers", "state/writers/shop.token", "host.key"] {
        assert_eq!(owner(&folder.join(name)), postgres, "{name}");
    }
    assert_eq!(mode(&folder.join("host.key")), 0o600);
    assert_eq!(mode(&folder.join("recovery-code")), 0o600);

    cluster.psql("CREATE TABLE t AS SELECT i FROM generate_series(1, 2000) i");
    // The archiver pushes as user postgres into what root created, and root into the same.
    archive(cluster);
    let label = text(&site.run("backup shop").done(), "backup.label");
    cluster.psql("INSERT INTO t VALUES (0)");
    archive(cluster);
    site.run("verify shop --deep").done();
    for path in files(&site.0.repository("main")) {
        assert_eq!(owner(&path), postgres, "'{}'", path.display());
    }
    site.run("key rotate").done();
    archive(cluster);
    // Both can go on where the other left off.
    assert_ne!(site.0.backup(), label);
    site.0.verify_clean();
}

#[test]
fn root_restores_into_a_folder_of_the_servers_user() {
    let mut site = RootSite::make(15);
    site.init();
    site.0.cluster.psql("CREATE TABLE t AS SELECT i FROM generate_series(1, 2000) i");
    site.run("backup shop").done();
    archive(&site.0.cluster);
    site.0.cluster.stop(Stop::Fast);
    let parent = site.0.folder.folder("clusters", 0o755);
    let directory = parent.join("restored");
    let bin = site.0.cluster.install().bindir.display().to_string();
    let words = format!("restore shop --to {} --start --bin-directory {bin}", directory.display());
    let report = site.run(&words).done();
    let postgres = owner(&parent);
    for path in files(&directory) {
        let meta = fs::symlink_metadata(&path).unwrap();
        assert_eq!(meta.uid(), postgres, "'{}'", path.display());
    }
    assert_eq!(mode(&directory), 0o700);
    let port = u16::try_from(report["port"].as_u64().unwrap()).unwrap();
    let restored = Cluster::attach(site.0.cluster.install(), &directory, port);
    assert_eq!(restored.psql("SELECT count(*) FROM t"), "2000");
    site.run(&format!("adopt shop --keep-port --at {}", directory.display())).done();
    archive(&restored);
    site.run("backup shop").done();
    site.run("verify shop --deep").done();
    assert_eq!(owner(&site.0.config()), postgres, "the archiver reads it");
}
