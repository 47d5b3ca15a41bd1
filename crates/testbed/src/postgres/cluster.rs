//! A cluster with its server.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::builder::{Builder, setting_line};
use super::psql::{self, Address};
use super::session::Session;
use super::{Install, pidfile, process};
use crate::account::as_postgres;
use crate::port::Port;
use crate::workdir::Workdir;
use crate::{poll, poll_for};

/// How long a start (with recovery) and a stop may take.
const SERVER_DEADLINE: Duration = Duration::from_secs(120);
/// How long a server may take to end on drop before it is killed, and how often that is looked at.
const DROP_PATIENCE: Duration = Duration::from_secs(10);
const DROP_INTERVAL: Duration = Duration::from_millis(5);
/// How much of the log a failed test shows.
const LOG_TAIL_LINES: usize = 60;

/// A PostgreSQL cluster for a test. Its server stops on drop, also after a panic; what
/// [`builder`](Self::builder) made is then removed, what was [attached](Self::attach) stays.
#[derive(Debug)]
pub struct Cluster {
    install: Install,
    /// Holds the socket and the log, and the data of a cluster that we made. Dropped last.
    _workdir: Workdir,
    data_dir: PathBuf,
    socket_dir: PathBuf,
    log: PathBuf,
    port: u16,
    _reserved: Option<Port>,
    server: Option<Child>,
}

/// How to stop a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Sessions end, a shutdown checkpoint is written.
    Fast,
    /// At once, without a checkpoint: the next start recovers.
    Immediate,
}

/// A server that ended while it started.
#[derive(Debug)]
pub struct StartFailure {
    /// How it ended.
    pub status: ExitStatus,
    /// What it logged since it was started.
    pub log: String,
}

impl Cluster {
    /// Returns the description of a new cluster: page checksums, 16 MiB segments, trust.
    pub fn builder(install: &Install) -> Builder {
        Builder::new(install)
    }

    /// Takes over a data directory that the product restored. If a server runs on it, that one is
    /// meant, wherever its socket is; else [`start`](Self::start) starts one on `port`.
    ///
    /// The directory is not removed on drop; the server is stopped.
    pub fn attach(install: &Install, data_dir: &Path, port: u16) -> Self {
        let workdir = Workdir::new();
        let running = pidfile::read(data_dir).filter(|file| process::is_alive(file.pid));
        let (port, socket_dir) = match running {
            Some(file) => (file.port.unwrap_or(port), file.socket_dir),
            None => (port, None),
        };
        let socket_dir = socket_dir.unwrap_or_else(|| workdir.folder("run", 0o755));
        let log = workdir.file("log", "");
        Self {
            install: install.clone(),
            data_dir: data_dir.to_owned(),
            socket_dir,
            log,
            port,
            _reserved: None,
            server: None,
            _workdir: workdir,
        }
    }

    pub(super) fn created(
        install: Install,
        workdir: Workdir,
        data_dir: PathBuf,
        socket_dir: PathBuf,
        port: Port,
    ) -> Self {
        let log = workdir.file("log", "");
        Self {
            install,
            data_dir,
            socket_dir,
            log,
            port: port.number(),
            _reserved: Some(port),
            server: None,
            _workdir: workdir,
        }
    }

    /// Starts the server and waits until it takes sessions.
    ///
    /// # Panics
    /// When it ends instead, with its log, or does not get there in two minutes.
    pub fn start(&mut self) {
        if let Err(failure) = self.try_start() {
            panic!(
                "PostgreSQL {} ended while starting ({}):\n{}",
                self.install.major, failure.status, failure.log
            );
        }
    }

    /// Starts the server and waits until it takes sessions or has ended.
    ///
    /// # Errors
    /// When it ended, as it does when recovery fails.
    ///
    /// # Panics
    /// When it runs already, cannot be started, or does neither in two minutes.
    pub fn try_start(&mut self) -> Result<(), StartFailure> {
        assert!(!self.is_running(), "the server runs already");
        let log_start = self.log_text().len();
        let log = OpenOptions::new().append(true).open(&self.log).expect("open the log");
        let mut command = Command::new(self.install.tool("postgres"));
        as_postgres(&mut command);
        command
            .arg("-D")
            .arg(&self.data_dir)
            .args(["-p", &self.port.to_string()])
            // Only a command line's word stands above what a restored configuration says.
            .arg("-c")
            .arg(format!("unix_socket_directories={}", self.socket_dir.display()))
            .args(["-c", "logging_collector=off"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log);
        let child = command.spawn().expect("run postgres");
        let pid = pid_of(&child);
        self.server = Some(child);
        let ended = poll_for(SERVER_DEADLINE, "the server to start", || {
            let child = self.server.as_mut().expect("the server was started");
            if let Some(status) = child.try_wait().expect("look after the server") {
                return Some(Some(status));
            }
            let up =
                pidfile::read(&self.data_dir).is_some_and(|file| file.pid == pid && file.is_up);
            up.then_some(None)
        });
        let Some(status) = ended else { return Ok(()) };
        self.server = None;
        let log = self.log_text();
        Err(StartFailure { status, log: log.get(log_start..).unwrap_or_default().to_owned() })
    }

    /// Stops the server and waits until it is gone. A stopped server is no error.
    ///
    /// # Panics
    /// When it does not end in two minutes.
    pub fn stop(&mut self, how: Stop) {
        let signal = match how {
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        };
        self.end(|pid| process::send(pid, signal));
    }

    /// Kills the postmaster and all its processes with SIGKILL and waits until a new server can
    /// start: nothing was told, nothing flushed.
    pub fn kill9(&mut self) {
        self.end(|pid| {
            // First the postmaster, which would otherwise restart its killed children.
            process::send(pid, Signal::STOP);
            let children = process::children(pid);
            process::send(pid, Signal::KILL);
            for &child in &children {
                process::send(child, Signal::KILL);
            }
            process::wait_until_dead(&children);
        });
    }

    /// Stops the server in an orderly way and starts it again.
    pub fn restart(&mut self) {
        self.stop(Stop::Fast);
        self.start();
    }

    /// Makes the server read its configuration again.
    pub fn reload(&self) {
        assert_eq!(self.psql("SELECT pg_reload_conf()"), "t");
    }

    /// Adds a line to postgresql.conf; it counts after [`reload`](Self::reload) or a restart.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn append_setting(&self, name: &str, value: &str) {
        let path = self.data_dir.join("postgresql.conf");
        let file = OpenOptions::new().append(true).open(path);
        let mut file = file.expect("open postgresql.conf");
        file.write_all(setting_line(name, value).as_bytes()).expect("write postgresql.conf");
    }

    /// Returns true while a server runs on the data directory, whoever started it.
    pub fn is_running(&self) -> bool {
        self.postmaster().is_some()
    }

    /// Runs `sql` in database `postgres`, each statement by itself, and returns the values:
    /// fields separated by `|`, rows by line feeds, without the last one.
    ///
    /// # Panics
    /// When a statement fails, with psql's message.
    pub fn psql(&self, sql: &str) -> String {
        self.psql_in("postgres", sql)
    }

    /// [`psql`](Self::psql) in another database.
    ///
    /// # Panics
    /// When a statement fails, with psql's message.
    pub fn psql_in(&self, database: &str, sql: &str) -> String {
        let output = psql::run(self.address(), database, sql);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "psql: {said}statement: {sql}\n{}", self.log_tail());
        values(&output.stdout)
    }

    /// Runs `sql`, which must fail, and returns psql's message.
    ///
    /// # Panics
    /// When it succeeds.
    pub fn psql_err(&self, sql: &str) -> String {
        let output = psql::run(self.address(), "postgres", sql);
        assert!(!output.status.success(), "expected {sql:?} to fail: {}", values(&output.stdout));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Opens a session in database `postgres` that stays open beside the test.
    pub fn spawn_psql(&self) -> Session {
        Session::open(self.address(), "postgres")
    }

    /// Waits until `sql` returns `expected`. A failing statement counts as another answer.
    ///
    /// # Panics
    /// After `deadline`, with the last answer and the end of the log.
    pub fn wait_until(&self, sql: &str, expected: &str, deadline: Duration) {
        let started = Instant::now();
        poll(deadline.saturating_add(SERVER_DEADLINE), "an answer", || {
            let output = psql::run(self.address(), "postgres", sql);
            let seen = values(&output.stdout);
            if output.status.success() && seen == expected {
                return true;
            }
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                started.elapsed() < deadline,
                "{sql:?}: expected {expected:?} within {deadline:?}, seen {seen:?} {said}\n{}",
                self.log_tail()
            );
            false
        });
    }

    /// Completes the current WAL segment, also of an idle server, and returns its file name.
    pub fn switch_wal(&self) -> String {
        // Without a record in it a segment is not switched, and without waiting for its end the
        // name could be that of the next one.
        self.psql(
            "SELECT pg_create_restore_point('switch') IS NULL \\g /dev/null\n\
             SELECT pg_walfile_name(pg_switch_wal())",
        )
    }

    /// The version it runs on.
    pub fn install(&self) -> &Install {
        &self.install
    }

    /// The data directory (PGDATA).
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The TCP port, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the Unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// A libpq connection string through the socket, as the superuser.
    pub fn conninfo(&self) -> String {
        let host = self.socket_dir.display();
        format!("host={host} port={} user=postgres dbname=postgres", self.port)
    }

    /// Everything that servers started here have logged.
    ///
    /// # Panics
    /// When the log cannot be read.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).expect("read the log")).into_owned()
    }

    fn log_tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(LOG_TAIL_LINES)..).unwrap_or_default().join("\n")
    }

    fn address(&self) -> Address<'_> {
        Address { socket_dir: &self.socket_dir, port: self.port }
    }

    fn postmaster(&self) -> Option<i32> {
        // Ours, or one that somebody else has started after ours had ended.
        let ours = self.server.as_ref().map(pid_of).filter(|&pid| process::is_alive(pid));
        ours.or_else(|| {
            let noted = pidfile::read(&self.data_dir)?.pid;
            process::is_alive(noted).then_some(noted)
        })
    }

    /// Ends the server by `signal` and waits until its process is reaped.
    fn end(&mut self, signal: impl FnOnce(i32)) {
        let pid = self.postmaster();
        if let Some(pid) = pid {
            signal(pid);
        }
        match (self.server.take(), pid) {
            (Some(mut child), _) => {
                poll(SERVER_DEADLINE, "the server to stop", || {
                    child.try_wait().expect("look after the server").is_some()
                });
            }
            (None, Some(pid)) => process::wait_until_gone(pid),
            (None, None) => {}
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let Some(pid) = self.postmaster() else { return };
        let children = process::children(pid);
        // A stopped postmaster removes its System V shared memory, a killed one leaves it behind
        // for good. Nothing here panics: a second panic would abort before the other drops.
        process::send(pid, Signal::QUIT);
        let started = Instant::now();
        while process::is_alive(pid) && started.elapsed() < DROP_PATIENCE {
            thread::sleep(DROP_INTERVAL);
        }
        for pid in std::iter::once(pid).chain(children) {
            process::send(pid, Signal::KILL);
        }
        if let Some(mut child) = self.server.take() {
            let _ = child.wait();
        }
    }
}

fn pid_of(child: &Child) -> i32 {
    i32::try_from(child.id()).expect("process ids fit")
}

fn values(output: &[u8]) -> String {
    String::from_utf8_lossy(output).trim_end_matches('\n').to_owned()
}
