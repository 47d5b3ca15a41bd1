//! What can go wrong with a live PostgreSQL, by what the caller can do about it.
//!
//! No variant carries a connection string: passwords never reach an error.

use std::path::PathBuf;
use std::time::Duration;

use stdx::diagnostic::{CodeInfo, Diagnostic, Exit, Retry};

/// An error of a live server or of its control.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection string is not one. Never shows the string: it may hold a password.
    #[error("not a PostgreSQL connection string: {reason}")]
    Conninfo {
        /// What is wrong, without any value from the string but known keywords.
        reason: String,
    },
    /// Nobody answers there, or the conversation broke before it began.
    #[error("cannot connect to '{address}': {reason}")]
    Connect {
        /// Host and port, or the socket.
        address: String,
        /// What happened at each attempt.
        reason: String,
    },
    /// The server is there and does not take sessions yet, or no more (SQLSTATE 57P03).
    #[error("'{address}' takes no sessions now: {reason}")]
    NotReady {
        /// Host and port, or the socket.
        address: String,
        /// What the server said.
        reason: String,
    },
    /// The server refused this user, password, database or host.
    #[error("'{address}' refused user '{user}': {reason}")]
    Refused {
        /// Host and port, or the socket.
        address: String,
        /// The user name that was offered.
        user: String,
        /// What the server said.
        reason: String,
    },
    /// The encrypted channel that was asked for cannot be had.
    #[error("no TLS as asked for with '{address}': {reason}")]
    Tls {
        /// Host and port.
        address: String,
        /// What failed.
        reason: String,
    },
    /// The server did not answer within the deadline; whether the call took effect is open.
    #[error("'{address}' did not answer within {} s: {verb}", after.as_secs())]
    Timeout {
        /// Host and port, or the socket.
        address: String,
        /// What was asked.
        verb: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The session ended under the call; whether the call took effect is open.
    #[error("lost the session with '{address}' during {verb}: {reason}")]
    Lost {
        /// Host and port, or the socket.
        address: String,
        /// What was asked.
        verb: &'static str,
        /// The server's last words, or what the network said.
        reason: String,
    },
    /// The server answered with an error.
    #[error("cannot {verb}: {message} (SQLSTATE {sqlstate})")]
    Sql {
        /// What was asked.
        verb: &'static str,
        /// PostgreSQL's five characters.
        sqlstate: String,
        /// The server's message, with its detail.
        message: String,
    },
    /// The server answered something that is not an answer to the question.
    #[error("cannot {verb}: expected {expected}, seen {seen}")]
    Unexpected {
        /// What was asked.
        verb: &'static str,
        /// What an answer looks like.
        expected: String,
        /// What came.
        seen: String,
    },
    /// The server's version is none that can be protected.
    #[error("'{address}' runs an unsupported version: {reason}")]
    Version {
        /// Host and port, or the program's path.
        address: String,
        /// Expected and seen.
        reason: String,
    },
    /// An exclusive backup, which only PostgreSQL up to 14 has, is running.
    #[error("an exclusive backup is in progress on '{address}'")]
    ExclusiveBackup {
        /// Host and port, or the socket.
        address: String,
    },
    /// The session that began the backup is gone, and PostgreSQL has ended the backup with it.
    #[error("the backup that began at {start} cannot be finished: {reason}")]
    BackupSessionLost {
        /// Where the backup began.
        start: pg::Lsn,
        /// How the session ended.
        reason: String,
    },
    /// The call needs an extension that the server does not have.
    #[error("extension '{extension}' is not available for database '{database}'")]
    Extension {
        /// The extension's name.
        extension: &'static str,
        /// The database.
        database: String,
    },
    /// A program of PostgreSQL is not where it was looked for.
    #[error("no PostgreSQL programs of version {wanted} in {searched}")]
    NoPrograms {
        /// The major asked for, or `14 to 18`.
        wanted: String,
        /// The folders that were looked at.
        searched: String,
    },
    /// A program of PostgreSQL failed.
    #[error("'{program}' failed: {reason}")]
    Program {
        /// Its path.
        program: PathBuf,
        /// How it ended, with the end of its output.
        reason: String,
    },
    /// The server ended before it took sessions.
    #[error("the server of '{}' did not start: {reason}", data_dir.display())]
    StartFailed {
        /// The data directory.
        data_dir: PathBuf,
        /// How it ended, with the end of its log.
        reason: String,
    },
    /// The server was seen doing nothing for too long on its way to the awaited state.
    #[error("no progress of the server of '{}' for {} s while waiting for {awaited}: {reason}",
        data_dir.display(), quiet.as_secs())]
    NoProgress {
        /// The data directory.
        data_dir: PathBuf,
        /// The state waited for.
        awaited: &'static str,
        /// How long nothing moved.
        quiet: Duration,
        /// Its state, with the end of its log.
        reason: String,
    },
    /// A server runs in this directory.
    #[error("a server runs in '{}' as process {pid}", data_dir.display())]
    Running {
        /// The data directory.
        data_dir: PathBuf,
        /// Its postmaster.
        pid: u32,
    },
    /// No server runs in this directory.
    #[error("no server runs in '{}'", data_dir.display())]
    NotRunning {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The file system or the system refused something.
    #[error("cannot {verb} '{}'", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// The user-facing errors of this crate.
pub const CODES: &[CodeInfo] = &[
    CONNINFO,
    CONNECT,
    NOT_READY,
    REFUSED,
    TLS,
    TIMEOUT,
    LOST,
    SQL,
    UNEXPECTED,
    VERSION,
    EXCLUSIVE_BACKUP,
    BACKUP_SESSION_LOST,
    EXTENSION,
    NO_PROGRAMS,
    PROGRAM,
    START_FAILED,
    NO_PROGRESS,
    RUNNING,
    NOT_RUNNING,
    IO,
];

const fn info(code: &'static str, title: &'static str, retry: Retry, exit: Exit) -> CodeInfo {
    CodeInfo { code, title, retry, exit }
}

const CONNINFO: CodeInfo = info("RF0501", "not a connection string", Retry::Permanent, Exit::Usage);
const CONNECT: CodeInfo =
    info("RF0502", "the database server does not answer", Retry::Retry, Exit::Failed);
const NOT_READY: CodeInfo =
    info("RF0503", "the database server takes no sessions now", Retry::Wait, Exit::Failed);
const REFUSED: CodeInfo =
    info("RF0504", "the database server refused the login", Retry::Permanent, Exit::Failed);
const TLS: CodeInfo =
    info("RF0505", "no encrypted connection as asked for", Retry::Permanent, Exit::Failed);
const TIMEOUT: CodeInfo =
    info("RF0506", "the database server was too slow", Retry::Retry, Exit::Failed);
const LOST: CodeInfo = info("RF0507", "the database session ended", Retry::Retry, Exit::Failed);
const SQL: CodeInfo =
    info("RF0508", "the database server answered with an error", Retry::Permanent, Exit::Failed);
const UNEXPECTED: CodeInfo =
    info("RF0509", "an answer that cannot be read", Retry::Permanent, Exit::Failed);
const VERSION: CodeInfo =
    info("RF0510", "a version that is not supported", Retry::Permanent, Exit::Failed);
const EXCLUSIVE_BACKUP: CodeInfo =
    info("RF0511", "an exclusive backup is in progress", Retry::Wait, Exit::Refused);
const BACKUP_SESSION_LOST: CodeInfo =
    info("RF0512", "the backup session ended too early", Retry::Retry, Exit::Failed);
const EXTENSION: CodeInfo =
    info("RF0513", "an extension is not available", Retry::Permanent, Exit::Failed);
const NO_PROGRAMS: CodeInfo =
    info("RF0514", "PostgreSQL's programs were not found", Retry::Permanent, Exit::Failed);
const PROGRAM: CodeInfo =
    info("RF0515", "a program of PostgreSQL failed", Retry::Permanent, Exit::Failed);
const START_FAILED: CodeInfo =
    info("RF0516", "the database server did not start", Retry::Permanent, Exit::Failed);
const NO_PROGRESS: CodeInfo =
    info("RF0517", "the database server makes no progress", Retry::Wait, Exit::Failed);
const RUNNING: CodeInfo =
    info("RF0518", "a server runs in the data directory", Retry::Wait, Exit::Refused);
const NOT_RUNNING: CodeInfo =
    info("RF0519", "no server runs in the data directory", Retry::Wait, Exit::Failed);
const IO: CodeInfo =
    info("RF0520", "the system refused a file or a process", Retry::Permanent, Exit::Failed);

impl Diagnostic for Error {
    fn info(&self) -> &'static CodeInfo {
        match self {
            Self::Conninfo { .. } => &CONNINFO,
            Self::Connect { .. } => &CONNECT,
            Self::NotReady { .. } => &NOT_READY,
            Self::Refused { .. } => &REFUSED,
            Self::Tls { .. } => &TLS,
            Self::Timeout { .. } => &TIMEOUT,
            Self::Lost { .. } => &LOST,
            Self::Sql { .. } => &SQL,
            Self::Unexpected { .. } => &UNEXPECTED,
            Self::Version { .. } => &VERSION,
            Self::ExclusiveBackup { .. } => &EXCLUSIVE_BACKUP,
            Self::BackupSessionLost { .. } => &BACKUP_SESSION_LOST,
            Self::Extension { .. } => &EXTENSION,
            Self::NoPrograms { .. } => &NO_PROGRAMS,
            Self::Program { .. } => &PROGRAM,
            Self::StartFailed { .. } => &START_FAILED,
            Self::NoProgress { .. } => &NO_PROGRESS,
            Self::Running { .. } => &RUNNING,
            Self::NotRunning { .. } => &NOT_RUNNING,
            Self::Io { .. } => &IO,
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint: &str = match self {
            Self::Conninfo { .. } => {
                "use 'host=… port=… user=… dbname=…' or 'postgres://user@host:port/dbname'; \
                 characters such as '@' and '/' in a URI's password are written as %40 and %2F"
            }
            Self::Connect { .. } => "check that the server runs and that host and port are right",
            Self::NotReady { .. } => "wait until its start, recovery or shutdown is over",
            Self::Refused { .. } => "check user, password and the server's pg_hba.conf",
            Self::Tls { .. } => {
                "check the server's certificate, 'sslrootcert' and the host name, or choose the \
                 'sslmode' that is meant"
            }
            Self::Timeout { .. } => "look for locks and load with pg_stat_activity",
            Self::Lost { .. } => "look into the server's log for why the session ended",
            Self::Sql { sqlstate, .. } if sqlstate == "42501" => {
                "connect as a superuser, or grant pg_read_all_settings, pg_monitor and execution \
                 of the backup functions"
            }
            Self::Sql { .. } => "the server's log has the statement",
            Self::Unexpected { .. } => {
                "is a pooler or another product between here and PostgreSQL? Connect directly"
            }
            Self::Version { .. } => "PostgreSQL 14 to 18 are supported",
            Self::ExclusiveBackup { .. } => {
                "end it with `SELECT pg_stop_backup()`, or wait until its tool has"
            }
            Self::BackupSessionLost { .. } => "start the backup again",
            Self::Extension { .. } => "install PostgreSQL's contrib package on that host",
            Self::NoPrograms { .. } => "install the server package, or name its 'bin' folder",
            Self::Program { .. } => "its output says why",
            Self::StartFailed { .. } | Self::NoProgress { .. } => "its log says why",
            Self::Running { .. } => "stop it first",
            Self::NotRunning { .. } => "start it first",
            Self::Io { .. } => "check owner and permissions",
        };
        vec![hint.to_owned()]
    }
}
