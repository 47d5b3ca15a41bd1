//! Making, starting and stopping a server of this machine.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, chown, fchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::process::{self, Started};
use super::progress::Progress;
use super::{Postmaster, Programs, RunAs, State, Status, log, options, postmaster};
use crate::Error;

/// How often a pid file is looked at.
pub(super) const POLL: Duration = Duration::from_millis(25);

/// `initdb` writes some 40 MB and syncs them.
const INIT_DEADLINE: Duration = Duration::from_secs(300);

/// How to make a cluster.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// The name of the superuser.
    pub superuser: String,
    /// Whether pages get checksums.
    pub data_checksums: bool,
    /// Further arguments of `initdb`.
    pub args: Vec<String>,
}

/// How to stop. PostgreSQL: `pg_ctl stop -m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// When the last session has ended by itself.
    Smart,
    /// Sessions are ended, a checkpoint is written.
    Fast,
    /// At once: the next start recovers.
    Immediate,
}

/// A server of this machine, running or not.
#[derive(Clone, Debug)]
pub struct LocalServer {
    pub(super) programs: Programs,
    pub(super) data_dir: PathBuf,
    pub(super) log: PathBuf,
    run_as: RunAs,
}

/// Makes a new cluster in `data_dir`, which must be missing or empty, as `run_as`, with UTF-8,
/// locale C, and entry by socket for the operating system's user of the same name and with a
/// password over TCP, unless `args` say otherwise.
///
/// # Errors
/// [`Error::Io`] if the directory cannot be made; [`Error::Program`] with what `initdb` said.
pub async fn init_cluster(
    programs: &Programs,
    data_dir: &Path,
    options: &InitOptions,
    run_as: &RunAs,
) -> Result<(), Error> {
    let failed = |source| Error::Io { verb: "create", path: data_dir.to_owned(), source };
    let data_dir = std::path::absolute(data_dir).map_err(failed)?;
    // The folder above may be root's only; in its own the account can do the rest.
    fs::create_dir_all(&data_dir).map_err(failed)?;
    if let Some((uid, gid)) = run_as.ids() {
        chown(&data_dir, Some(uid), Some(gid)).map_err(failed)?;
    }
    let mut args = vec!["-D".to_owned(), data_dir.display().to_string()];
    args.extend(["-U".to_owned(), options.superuser.clone()]);
    args.extend(["--encoding=UTF8", "--locale=C"].map(str::to_owned));
    args.extend(["--auth-local=peer", "--auth-host=scram-sha-256"].map(str::to_owned));
    match (options.data_checksums, programs.major().get()) {
        (true, _) => args.push("--data-checksums".to_owned()),
        // Since 18 they are on unless told otherwise; before, the option did not exist.
        (false, 18..) => args.push("--no-data-checksums".to_owned()),
        (false, _) => {}
    }
    args.extend(options.args.iter().cloned());
    programs.run("initdb", args, run_as, INIT_DEADLINE).await.map(drop)
}

impl LocalServer {
    /// The server of `data_dir`, which must exist. `log` takes what it says until its own settings
    /// send it elsewhere; the file is created when needed.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory cannot be looked at or is root's.
    pub fn new(programs: Programs, data_dir: &Path, log: &Path) -> Result<Self, Error> {
        let absolute = |path: &Path| {
            let failed = |source| Error::Io { verb: "resolve", path: path.to_owned(), source };
            std::path::absolute(path).map_err(failed)
        };
        let (data_dir, log) = (absolute(data_dir)?, absolute(log)?);
        Ok(Self { programs, run_as: RunAs::owner_of(&data_dir)?, data_dir, log })
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The account it runs under.
    #[must_use]
    pub fn run_as(&self) -> &RunAs {
        &self.run_as
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// As [`postmaster::status`].
    pub fn status(&self) -> Result<Status, Error> {
        postmaster::status(&self.data_dir)
    }

    /// The running server.
    ///
    /// # Errors
    /// [`Error::NotRunning`], or as [`postmaster::status`].
    pub fn postmaster(&self) -> Result<Postmaster, Error> {
        match self.status()? {
            Status::Running(postmaster) => Ok(postmaster),
            _ => Err(Error::NotRunning { data_dir: self.data_dir.clone() }),
        }
    }

    /// Starts the server with `settings` above those of its configuration, and returns when it
    /// takes sessions: as a primary, or as a consistent standby. It outlives this process and no
    /// signal of the terminal reaches it. However long recovery takes, only `quiet` without any
    /// sign of progress ends the wait.
    ///
    /// # Errors
    /// [`Error::Running`]; [`Error::StartFailed`] with the end of its log if it ended instead;
    /// [`Error::NoProgress`], the server then goes on; [`Error::Io`].
    pub async fn start(
        &self,
        settings: &[(String, String)],
        quiet: Duration,
    ) -> Result<Postmaster, Error> {
        let options =
            settings.iter().flat_map(|(name, value)| ["-c".into(), format!("{name}={value}")]);
        self.start_with(&options.collect::<Vec<_>>(), quiet).await
    }

    /// Starts the server with the options it was started with the last time, as `pg_ctl restart`
    /// does: a configuration file elsewhere, a port. Otherwise like [`start`](Self::start).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_as_before(&self, quiet: Duration) -> Result<Postmaster, Error> {
        let noted = std::fs::read_to_string(self.data_dir.join("postmaster.opts"));
        self.start_with(&options::arguments(&noted.unwrap_or_default()), quiet).await
    }

    async fn start_with(&self, options: &[String], quiet: Duration) -> Result<Postmaster, Error> {
        if let Status::Running(Postmaster { pid, .. }) = self.status()? {
            return Err(Error::Running { data_dir: self.data_dir.clone(), pid });
        }
        let from = log::size(&self.log);
        let started = self.spawn(options).await?;
        let mut progress = Progress::new();
        loop {
            let ended = started.ended.borrow().clone();
            if let Some(how) = ended {
                let tail = log::tail(&self.data_dir, &self.log, from);
                let reason = format!("{how}\n{tail}");
                return Err(Error::StartFailed { data_dir: self.data_dir.clone(), reason });
            }
            let found = match self.status()? {
                Status::Running(found) if found.pid == started.pid => Some(found),
                _ => None,
            };
            if let Some(found) = &found
                && matches!(found.state, State::Ready | State::Standby)
            {
                return Ok(found.clone());
            }
            let still = progress.quiet_for(&self.data_dir, &self.log, found.as_ref(), "");
            if still >= quiet {
                return Err(self.no_progress("sessions", still, from));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn spawn(&self, options: &[String]) -> Result<Started, Error> {
        let log = self.open_log()?;
        let second = log.try_clone().map_err(self.failed("open", &self.log))?;
        let program = self.programs.bindir().join("postgres");
        let mut command = Command::new(&program);
        command.arg("-D").arg(&self.data_dir).current_dir("/").process_group(0);
        command.args(options);
        command.stdin(Stdio::null()).stdout(log).stderr(second);
        process::start(command, &self.run_as).await.map_err(self.failed("run", &program))
    }

    fn open_log(&self) -> Result<File, Error> {
        let failed = self.failed("open", &self.log);
        let open = || {
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.log)?;
            if let Some((uid, gid)) = self.run_as.ids() {
                fchown(&file, Some(uid), Some(gid))?;
            }
            Ok(file)
        };
        open().map_err(failed)
    }

    /// Stops the server and returns when it is gone. One that does not run is success. `quiet` ends
    /// the wait if nothing moves for so long: in [`StopMode::Smart`] while sessions are open.
    ///
    /// # Errors
    /// [`Error::NoProgress`], the server then goes on stopping; [`Error::Io`] if it may not be
    /// told.
    pub async fn stop(&self, mode: StopMode, quiet: Duration) -> Result<(), Error> {
        let Status::Running(found) = self.status()? else { return Ok(()) };
        let order = match mode {
            StopMode::Smart => Signal::TERM,
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        };
        match process::signal(found.pid, order) {
            Err(error) if process::is_alive(found.pid) => {
                return Err(self.failed("stop the server of", &self.data_dir)(error));
            }
            _ => {}
        }
        let mut progress = Progress::new();
        while postmaster::works_in(found.pid, &self.data_dir) {
            let now = self.status()?;
            let now = if let Status::Running(now) = &now { Some(now) } else { None };
            let still = progress.quiet_for(&self.data_dir, &self.log, now, "");
            if still >= quiet {
                return Err(self.no_progress("its end", still, 0));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Makes the server read its configuration again.
    ///
    /// # Errors
    /// [`Error::NotRunning`]; [`Error::Io`] if it may not be told.
    pub fn reload(&self) -> Result<(), Error> {
        let found = self.postmaster()?;
        process::signal(found.pid, Signal::HUP)
            .map_err(self.failed("reload the server of", &self.data_dir))
    }

    pub(super) fn no_progress(&self, awaited: &'static str, quiet: Duration, from: u64) -> Error {
        let state = match self.status() {
            Ok(Status::Running(found)) => format!("{:?}", found.state).to_lowercase(),
            _ => "gone".to_owned(),
        };
        let tail = log::tail(&self.data_dir, &self.log, from);
        let reason = format!("it is {state}\n{tail}");
        Error::NoProgress { data_dir: self.data_dir.clone(), awaited, quiet, reason }
    }

    fn failed(&self, verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { verb, path, source }
    }
}
