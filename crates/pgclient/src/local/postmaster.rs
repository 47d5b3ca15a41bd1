//! Whether a server runs in a data directory, and which.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::process;
use crate::{ConnectOptions, Error};

/// What a running server says about itself in `postmaster.pid`.
///
/// PostgreSQL: `LOCK_FILE_LINE_…`, src/include/utils/pidfile.h.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postmaster {
    /// Its process.
    pub pid: u32,
    /// Its TCP port; `None` while it only begins to start, and in single-user mode.
    pub port: Option<u16>,
    /// The first folder with its socket, if it has one.
    pub socket_dir: Option<PathBuf>,
    /// The first address it listens at, if any.
    pub listen_address: Option<String>,
    /// How far it is.
    pub state: State,
}

/// How far a server is. PostgreSQL: `PM_STATUS_…`, src/include/utils/pidfile.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It recovers, and takes no sessions.
    Starting,
    /// It takes sessions: as a primary, or, once consistent, as a hot standby.
    Ready,
    /// It recovers and is consistent, but is set not to take sessions (`hot_standby = off`).
    Standby,
    /// It ends.
    Stopping,
}

/// Whether a server runs in a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// One does.
    Running(Postmaster),
    /// None does. `postmaster.pid` may be there, left behind by a crash.
    Stopped,
    /// This is no data directory: there is no `PG_VERSION`.
    NoDataDirectory,
}

impl Status {
    /// The exit code of `pg_ctl status` for this: 0 running, 3 not running, 4 no data directory.
    #[must_use]
    pub fn pg_ctl_code(&self) -> u8 {
        match self {
            Self::Running(_) => 0,
            Self::Stopped => 3,
            Self::NoDataDirectory => 4,
        }
    }
}

impl Postmaster {
    /// How to reach it from here: through its socket, else at the address it listens at. `None` if
    /// it says neither.
    #[must_use]
    pub fn connect_options(&self, user: &str) -> Option<ConnectOptions> {
        let place = match (&self.socket_dir, self.listen_address.as_deref()) {
            (Some(folder), _) => folder.clone(),
            (None, Some("*" | "0.0.0.0")) => "127.0.0.1".into(),
            (None, Some("::")) => "::1".into(),
            (None, Some(address)) => address.into(),
            (None, None) => return None,
        };
        Some(ConnectOptions::local(&place, self.port?, user))
    }

    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let field = |at: usize| lines.get(at).copied().filter(|line| !line.is_empty());
        // Single-user mode writes its pid as a negative number.
        let pid: i32 = field(0)?.parse().ok()?;
        Some(Self {
            pid: pid.unsigned_abs(),
            port: field(3).and_then(|port| port.parse().ok()).filter(|port| *port != 0),
            socket_dir: field(4).map(PathBuf::from),
            listen_address: field(5).map(str::to_owned),
            state: match field(7) {
                Some("ready") => State::Ready,
                Some("standby") => State::Standby,
                Some("stopping") => State::Stopping,
                _ => State::Starting,
            },
        })
    }
}

/// Whether a server runs in `data_dir`. A process counts as its server only if it is alive and
/// works in that directory: a pid file left behind may name a process that has nothing to do with
/// it. A server in another process namespace cannot be seen.
///
/// # Errors
/// [`Error::Io`] if the directory or the pid file cannot be read.
pub fn status(data_dir: &Path) -> Result<Status, Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { verb: "read", path, source }
    };
    let version = data_dir.join("PG_VERSION");
    if !fs::exists(&version).map_err(failed(&version))? {
        return Ok(Status::NoDataDirectory);
    }
    let path = data_dir.join("postmaster.pid");
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Status::Stopped),
        Err(error) => return Err(failed(&path)(error)),
    };
    let running = Postmaster::parse(&text).filter(|found| works_in(found.pid, data_dir));
    Ok(running.map_or(Status::Stopped, Status::Running))
}

/// Every process that works in `data_dir`: the server, but also its children that outlived it,
/// which still may write. Empty is the proof that none of this process namespace does, if the
/// caller is root or the server's account.
#[must_use]
pub fn processes_in(data_dir: &Path) -> Vec<u32> {
    let Some(wanted) = identity(data_dir) else { return Vec::new() };
    let in_it = |pid: &u32| identity(Path::new(&format!("/proc/{pid}/cwd"))) == Some(wanted);
    process::all().into_iter().filter(in_it).filter(|pid| process::is_alive(*pid)).collect()
}

/// All processes of a server stay in its data directory all their life. Where the system does not
/// say (another account's process), the pid file is believed: refusing is the safe side.
pub(super) fn works_in(pid: u32, data_dir: &Path) -> bool {
    if !process::is_alive(pid) {
        return false;
    }
    match fs::metadata(format!("/proc/{pid}/cwd")) {
        Ok(folder) => Some((folder.dev(), folder.ino())) == identity(data_dir),
        Err(error) => error.kind() == ErrorKind::PermissionDenied,
    }
}

/// By device and inode: the same directory has many names, also in a chroot.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|folder| (folder.dev(), folder.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_is_read_while_it_grows() {
        let ready = "77\n/data\n1700000000\n5617\n/run\n127.0.0.1\n  100 200\nready   \n";
        let found = Postmaster::parse(ready).unwrap();
        assert_eq!((found.pid, found.port, found.state), (77, Some(5617), State::Ready));
        let early = Postmaster::parse("77\n/data\n1700000000\n").unwrap();
        assert_eq!((early.port, early.state), (None, State::Starting));
        assert_eq!(Postmaster::parse("-77\n").unwrap().pid, 77);
        assert_eq!(Postmaster::parse(""), None);
        assert_eq!(Postmaster::parse("x\n"), None);
    }

    #[test]
    fn a_living_process_elsewhere_is_not_the_server() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(status(dir.path()).unwrap(), Status::NoDataDirectory);
        fs::write(dir.path().join("PG_VERSION"), "16\n").unwrap();
        assert_eq!(status(dir.path()).unwrap(), Status::Stopped);
        let own =
            format!("{}\n{}\n1\n5432\n\n\n\nready\n", std::process::id(), dir.path().display());
        fs::write(dir.path().join("postmaster.pid"), own).unwrap();
        assert_eq!(status(dir.path()).unwrap(), Status::Stopped);
    }
}
