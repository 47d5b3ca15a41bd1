//! A real cluster with a backup and archived WAL, and recoveries of it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use testbed::postgres::{Cluster, Install, Stop};
use testbed::{Port, Workdir, as_postgres, poll};

const DEADLINE: Duration = Duration::from_secs(60);
const COMPLETE: &str = "archive recovery complete";

/// Rows before each of the segment switches behind the backup.
const ROWS: [u32; 3] = [100, 10, 1];

/// A cold backup, and the WAL that was written after it.
pub(crate) struct Archive {
    install: Install,
    pub(crate) workdir: Workdir,
    backup: PathBuf,
    /// The archived segments behind the backup that have rows, in order.
    pub(crate) segments: Vec<String>,
}

impl Archive {
    /// Makes a cluster, backs it up, writes three more segments, and stops it.
    pub(crate) fn make(install: &Install) -> Self {
        let workdir = Workdir::new();
        let archive = workdir.folder("archive", 0o755);
        let mut cluster = Cluster::builder(install)
            .wal_segsize_mb(1)
            .setting("archive_mode", "on")
            .setting("archive_command", &format!("cp %p {}/%f", archive.display()))
            .start();
        cluster.psql("CREATE TABLE orders (id int)");
        cluster.stop(Stop::Fast);
        let backup = workdir.join("backup");
        copy(cluster.data_dir(), &backup);
        cluster.start();
        let segments = ROWS.map(|rows| {
            cluster.psql(&format!("INSERT INTO orders SELECT generate_series(1, {rows})"));
            cluster.switch_wal()
        });
        // A stop waits until everything complete is archived.
        cluster.stop(Stop::Fast);
        for segment in &segments {
            assert!(archive.join(segment).exists(), "{segment} is archived");
        }
        Self { install: install.clone(), workdir, backup, segments: segments.into() }
    }

    /// A recovery in `folder` whose restore command runs `body` (a shell script, the name in `$1`,
    /// the destination in `$2`) and then, unless that has ended it, copies from the archive.
    pub(crate) fn recovery(&self, folder: &str, signal: &str, body: &str) -> Copy {
        let data = self.workdir.join(folder);
        copy(&self.backup, &data);
        let archive = self.workdir.join("archive");
        let script = self.workdir.file(
            format!("{folder}.sh"),
            format!(
                "#!/bin/sh\n{body}\ntest -f {0}/$1 || exit 1\nexec cp {0}/$1 $2\n",
                archive.display()
            ),
        );
        fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
        let command = format!("{} %f %p", script.display());
        Copy::of(&self.install, &data, signal, &command)
    }
}

/// A server that recovers, or has.
pub(crate) struct Copy {
    pub(crate) cluster: Cluster,
    /// Its restore command.
    pub(crate) command: String,
    _port: Port,
}

impl Copy {
    /// A server on `data` that will recover with this restore command.
    pub(crate) fn of(install: &Install, data: &Path, signal: &str, command: &str) -> Self {
        fs::write(data.join(signal), "").unwrap();
        testbed::give_to_postgres(&data.join(signal));
        let port = Port::reserve();
        let cluster = Cluster::attach(install, data, port.number());
        for (name, value) in [
            ("archive_mode", "off"),
            ("recovery_target_timeline", "1"),
            ("restore_command", command),
        ] {
            cluster.append_setting(name, value);
        }
        Self { cluster, command: command.to_owned(), _port: port }
    }

    /// Starts it and waits until recovery is complete, or the server has ended: then what it
    /// logged.
    pub(crate) fn recover(&mut self) -> Result<(), String> {
        // A hot standby takes sessions long before that.
        let started = self.cluster.try_start().is_ok();
        let completed = || self.cluster.log_text().contains(COMPLETE);
        poll(DEADLINE, "the recovery to end", || {
            !started || completed() || !self.cluster.is_running()
        });
        let log = self.cluster.log_text();
        if !log.contains(COMPLETE) {
            return Err(log);
        }
        self.cluster.wait_until("SELECT pg_is_in_recovery()", "f", DEADLINE);
        Ok(())
    }

    /// Rows, whether it still recovers, and the timeline it is on.
    pub(crate) fn state(&self) -> String {
        self.cluster.psql(
            "SELECT (SELECT count(*) FROM orders), pg_is_in_recovery(),
                    CASE WHEN pg_is_in_recovery() THEN 0
                         ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END",
        )
    }
}

/// Copies a data directory with owners and modes.
pub(crate) fn copy(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    as_postgres(command.arg("-a").arg(from).arg(to));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
