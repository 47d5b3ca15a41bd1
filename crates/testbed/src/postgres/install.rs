//! The installed PostgreSQL versions.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::tools::{self, INSTALL_COMMAND};

/// Every major that the product supports and the tests run on.
pub const SUPPORTED_MAJORS: RangeInclusive<u32> = 14..=18;

/// One installed PostgreSQL version.
///
/// All have `initdb`, `pg_ctl` and `postgres` and the contrib extensions; the client tools are
/// complete in 15, 16 and 18 and missing in 14 and 17. 18's `pg_verifybackup` crashes in this
/// build and counts as missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// The major version, such as 17.
    pub major: u32,
    /// The folder of its programs.
    pub bindir: PathBuf,
}

/// Returns the installs of all supported majors, oldest first.
///
/// # Panics
/// When one is missing, naming the command that installs it.
pub fn installed() -> Vec<Install> {
    static FOUND: OnceLock<Vec<Install>> = OnceLock::new();
    FOUND.get_or_init(|| SUPPORTED_MAJORS.map(locate).collect()).clone()
}

impl Install {
    /// Returns the newest supported major.
    ///
    /// # Panics
    /// When any supported major is missing.
    pub fn latest() -> Self {
        Self::by_major(*SUPPORTED_MAJORS.end())
    }

    /// Returns the install of `major`.
    ///
    /// # Panics
    /// When it is not supported or any supported major is missing.
    pub fn by_major(major: u32) -> Self {
        installed()
            .into_iter()
            .find(|install| install.major == major)
            .unwrap_or_else(|| panic!("PostgreSQL {major} is not in {SUPPORTED_MAJORS:?}"))
    }

    /// Returns true when this version has the working program `tool`, such as `pg_waldump`.
    pub fn has(&self, tool: &str) -> bool {
        self.bindir.join(tool).is_file() && !(self.major == 18 && tool == "pg_verifybackup")
    }

    /// Returns the path of `tool`.
    ///
    /// # Panics
    /// When this version has none (ask [`has`](Self::has) first).
    pub fn tool(&self, tool: &str) -> PathBuf {
        assert!(self.has(tool), "PostgreSQL {} has no '{tool}' here", self.major);
        self.bindir.join(tool)
    }

    /// Returns the version as `postgres --version` prints it, such as `17.10`.
    ///
    /// # Panics
    /// When the server program does not run.
    pub fn version(&self) -> String {
        let output = Command::new(self.tool("postgres")).arg("--version").output();
        let text = String::from_utf8(output.expect("run postgres --version").stdout);
        let text = text.expect("a version is text");
        // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
        text.split_whitespace().nth(2).expect("a version number").to_owned()
    }

    /// Returns a `psql` that talks to servers of all supported majors.
    ///
    /// # Panics
    /// When there is none.
    pub fn psql() -> PathBuf {
        let mut newest_first = installed().into_iter().rev();
        newest_first
            .find(|install| install.has("psql"))
            .map(|install| install.tool("psql"))
            .unwrap_or_else(|| panic!("no psql; install: {INSTALL_COMMAND}"))
    }
}

fn locate(major: u32) -> Install {
    let system = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
    // Where the system has a complete one it has all tools; only 15 is asked for there, so that
    // every machine tests the same builds of the others.
    let bindir = if major == 15 && is_server(&system) {
        Some(system)
    } else {
        tools::find(&format!("pg/{major}/bin")).filter(|path| is_server(path))
    };
    let bindir = bindir
        .unwrap_or_else(|| panic!("PostgreSQL {major} is not installed; run: {INSTALL_COMMAND}"));
    Install { major, bindir }
}

fn is_server(bindir: &Path) -> bool {
    ["initdb", "pg_ctl", "postgres"].iter().all(|tool| bindir.join(tool).is_file())
}
