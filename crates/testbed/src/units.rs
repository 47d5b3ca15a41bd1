//! A manager of systemd's units, without an init system.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::account::as_postgres;
use crate::tools::INSTALL_COMMAND;
use crate::{Workdir, poll};

const DEADLINE: Duration = Duration::from_secs(60);

const SERVICE: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";

/// A bus of its own with python-dbusmock's systemd template: the real D-Bus interface of the
/// manager (`StartUnit`, `StopUnit`, `GetUnit`, properties); units are names with a state, and
/// nothing runs behind them.
#[derive(Debug)]
pub struct Units {
    folder: Workdir,
    daemon: Child,
    manager: Child,
}

impl Units {
    /// A manager with these units, none of which runs.
    ///
    /// # Panics
    /// When the bus or the manager does not start.
    pub fn start(units: &[&str]) -> Self {
        let folder = Workdir::new();
        let socket = folder.join("bus");
        let config = folder.file(
            "bus.conf",
            format!(
                "<busconfig><type>system</type><listen>unix:path={}</listen>\
                 <auth>EXTERNAL</auth><policy context=\"default\"><allow user=\"*\"/><allow send_destination=\"*\" \
                 eavesdrop=\"true\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/></policy>\
                 </busconfig>",
                socket.display()
            ),
        );
        let spawn = |command: &mut Command| {
            as_postgres(command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let child = command.spawn();
            child.unwrap_or_else(|error| panic!("{command:?}: {error}: `{INSTALL_COMMAND}`"))
        };
        let mut daemon = Command::new("dbus-daemon");
        daemon.arg("--nofork").arg("--config-file").arg(config);
        let daemon = spawn(&mut daemon);
        poll(DEADLINE, "the bus", || socket.exists());
        let mut manager = Command::new("/usr/bin/python3");
        manager.args(["-m", "dbusmock", "--system", "--template", "systemd"]);
        manager.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", socket.display()));
        let manager = spawn(&mut manager);
        let it = Self { folder, daemon, manager };
        for unit in units {
            let unit = format!("string:{unit}");
            poll(DEADLINE, "the manager of units", || {
                it.call(MANAGER_PATH, "org.freedesktop.DBus.Mock.AddMockUnit", &[&unit]).is_some()
            });
        }
        it
    }

    /// The bus's address, as D-Bus writes it.
    pub fn address(&self) -> String {
        format!("unix:path={}", self.folder.join("bus").display())
    }

    /// A unit's `ActiveState`.
    ///
    /// # Panics
    /// When there is no such unit.
    pub fn state(&self, unit: &str) -> String {
        let path = format!("{MANAGER_PATH}/unit/{}", unit.replace(['.', '-'], "_"));
        let words = ["string:org.freedesktop.systemd1.Unit", "string:ActiveState"];
        let said = self.call(&path, "org.freedesktop.DBus.Properties.Get", &words);
        let said = said.unwrap_or_else(|| panic!("there is no unit '{unit}'"));
        said.split('"').nth(1).unwrap_or_default().to_owned()
    }

    /// Starts or stops a unit behind everybody's back.
    ///
    /// # Panics
    /// When that fails.
    pub fn tell(&self, method: &str, unit: &str) {
        let method = format!("{SERVICE}.Manager.{method}");
        let said = self.call(MANAGER_PATH, &method, &[&format!("string:{unit}"), "string:replace"]);
        assert!(said.is_some(), "{method} {unit}");
    }

    fn call(&self, path: &str, method: &str, words: &[&str]) -> Option<String> {
        let mut command = Command::new("dbus-send");
        command.arg(format!("--bus={}", self.address())).arg("--print-reply");
        command.arg(format!("--dest={SERVICE}")).args([path, method]).args(words);
        let output = as_postgres(&mut command).output().expect("dbus-send");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        for child in [&mut self.manager, &mut self.daemon] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
