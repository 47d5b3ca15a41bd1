//! Where PostgreSQL's programs are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pg::MajorVersion;

use super::RunAs;
use super::process::{self, Finished};
use crate::Error;

/// `postgres --version` needs no longer than this.
const VERSION_DEADLINE: Duration = Duration::from_secs(30);

/// The programs of one installed version: at least `postgres` and `initdb`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    bindir: PathBuf,
    major: MajorVersion,
    version: String,
}

impl Programs {
    /// The programs in `bindir`.
    ///
    /// # Errors
    /// [`Error::Program`] if there is no `postgres` that runs; [`Error::Version`] if it is none of
    /// 14 to 18.
    pub async fn at(bindir: &Path) -> Result<Self, Error> {
        let program = bindir.join("postgres");
        let args = vec!["--version".to_owned()];
        let said = process::run(&program, args, &RunAs::Caller, VERSION_DEADLINE).await?.stdout;
        let refuse =
            |reason: String| Error::Version { address: program.display().to_string(), reason };
        // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "… 19beta1"
        let version = said.split_whitespace().nth(2).unwrap_or_default();
        let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
        let major = digits
            .parse()
            .map_err(|_| refuse(format!("expected a version, seen '{}'", said.trim())))?;
        let major = MajorVersion::new(major).map_err(|error| refuse(error.to_string()))?;
        Ok(Self { bindir: bindir.to_owned(), major, version: version.to_owned() })
    }

    /// The programs of `major`: the first that fit in `candidates`, such as the configuration's
    /// folder and those of `PATH`, then where packages put them.
    ///
    /// # Errors
    /// [`Error::NoPrograms`].
    pub async fn find(major: MajorVersion, candidates: &[PathBuf]) -> Result<Self, Error> {
        let folders = folders(candidates);
        for folder in &folders {
            if let Ok(found) = Self::at(folder).await
                && found.major == major
            {
                return Ok(found);
            }
        }
        let searched: Vec<String> =
            folders.iter().map(|dir| format!("'{}'", dir.display())).collect();
        Err(Error::NoPrograms { wanted: major.to_string(), searched: searched.join(", ") })
    }

    /// Every installed version in `candidates` and where packages put them, newest major first.
    pub async fn discover(candidates: &[PathBuf]) -> Vec<Self> {
        let mut found = Vec::new();
        for folder in folders(candidates) {
            found.extend(Self::at(&folder).await);
        }
        found.sort_by_key(|programs| std::cmp::Reverse(programs.major));
        found
    }

    /// Their folder.
    #[must_use]
    pub fn bindir(&self) -> &Path {
        &self.bindir
    }

    /// Their major version.
    #[must_use]
    pub fn major(&self) -> MajorVersion {
        self.major
    }

    /// The version as `postgres --version` prints it, such as `16.14`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The path of a program; `None` if this installation lacks it.
    #[must_use]
    pub fn path(&self, program: &str) -> Option<PathBuf> {
        Some(self.bindir.join(program)).filter(|path| path.is_file())
    }

    /// Runs a program to its end, in `/`.
    ///
    /// # Errors
    /// [`Error::Program`] if it is missing, fails, or is not done after `deadline`.
    pub async fn run(
        &self,
        program: &str,
        args: Vec<String>,
        run_as: &RunAs,
        deadline: Duration,
    ) -> Result<Finished, Error> {
        process::run(&self.bindir.join(program), args, run_as, deadline).await
    }
}

/// `candidates` and the packages' folders that hold a server, each once.
fn folders(candidates: &[PathBuf]) -> Vec<PathBuf> {
    folders_with("postgres", candidates)
}

/// `candidates` and the folders of packages that hold `program`, each once: also those of a machine
/// that has clients only.
#[must_use]
pub fn folders_with(program: &str, candidates: &[PathBuf]) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for folder in candidates.iter().cloned().chain(package_folders()) {
        if folder.join(program).is_file() && !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// Debian's layout (`/usr/lib/postgresql/16/bin`) and that of the RPMs (`/usr/pgsql-16/bin`).
fn package_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for major in MajorVersion::SUPPORTED.iter().rev() {
        folders.push(PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")));
        folders.push(PathBuf::from(format!("/usr/pgsql-{major}/bin")));
    }
    folders
}
