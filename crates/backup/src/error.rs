//! What can go wrong with a backup, by what the caller can do about it.

use std::path::PathBuf;
use std::time::Duration;

use pg::{SystemId, TimelineId};
use stdx::diagnostic::{CodeInfo, Diagnostic, Exit, Retry};

/// An error of making a backup. No backup exists then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] repository::Error),
    /// The server failed, or the session with it.
    #[error(transparent)]
    Server(#[from] pgclient::Error),
    /// The server is not the cluster this lineage is about.
    #[error(
        "the server of cluster '{cluster}' has system identifier {seen}, its lineage in the \
         repository {expected}"
    )]
    OtherCluster {
        /// The cluster's name.
        cluster: String,
        /// The lineage's system identifier.
        expected: SystemId,
        /// The server's.
        seen: SystemId,
    },
    /// The server is a copy or a predecessor of the cluster that is this lineage's production.
    #[error("this server is not the production of cluster '{cluster}': {reason}")]
    Replaced {
        /// The cluster's name.
        cluster: String,
        /// What is production, and what was seen.
        reason: String,
    },
    /// The server is in recovery.
    #[error("the server of cluster '{cluster}' is a standby or still in recovery")]
    InRecovery {
        /// The cluster's name.
        cluster: String,
    },
    /// A setting of the server would make the backup useless or unsafe.
    #[error("setting '{name}' of cluster '{cluster}' is '{seen}', expected {expected}")]
    Setting {
        /// The cluster's name.
        cluster: String,
        /// The setting.
        name: &'static str,
        /// What is needed.
        expected: &'static str,
        /// What it is.
        seen: String,
    },
    /// The data directory is not that of the server.
    #[error("'{}' is not the data directory of the server at '{address}': {reason}", path.display())]
    OtherDirectory {
        /// The directory given.
        path: PathBuf,
        /// The server asked.
        address: String,
        /// Expected and seen.
        reason: String,
    },
    /// A file or directory cannot be read.
    #[error("cannot read '{}': {reason}", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A tablespace is not where its link says.
    #[error("tablespace '{name}' is not readable at '{}': {reason}", path.display())]
    Tablespace {
        /// Its name.
        name: String,
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A symbolic link stands where PostgreSQL keeps data.
    #[error("'{path}' in the data directory is a symbolic link to '{target}'")]
    Link {
        /// Relative to the data directory.
        path: String,
        /// Where it points.
        target: String,
    },
    /// A file without which no cluster starts vanished while it was to be read.
    #[error("'{path}' vanished from the data directory during the backup")]
    Vanished {
        /// Relative to the data directory.
        path: String,
    },
    /// `pg_control` was never whole when read.
    #[error("cannot read '{}': {reason}", path.display())]
    ControlFile {
        /// The file.
        path: PathBuf,
        /// What was wrong with it last.
        reason: String,
    },
    /// What `pg_backup_stop` returned does not fit what `pg_backup_start` did.
    #[error("the server's backup label is not that of this backup: {reason}")]
    Label {
        /// Expected and seen.
        reason: String,
    },
    /// The WAL of the backup does not arrive in the repository.
    #[error(
        "WAL segment '{segment}' of cluster '{cluster}' did not arrive in '{repository}' and nothing \
         was archived for {} s: {archiver}", quiet.as_secs()
    )]
    WalNotArchived {
        /// The cluster's name.
        cluster: String,
        /// The first segment that is missing.
        segment: String,
        /// The member it is missing from, without secrets.
        repository: String,
        /// How long nothing happened.
        quiet: Duration,
        /// What the server says of its archiver.
        archiver: String,
    },
    /// The history of the cluster's timeline is neither in the repository nor on the server.
    #[error(
        "the history of timeline {timeline} of cluster '{cluster}' is not in the repository: {reason}"
    )]
    NoHistory {
        /// The cluster's name.
        cluster: String,
        /// The timeline.
        timeline: TimelineId,
        /// Why it cannot be stored now.
        reason: String,
    },
    /// It was told to stop.
    #[error("the backup of cluster '{cluster}' was cancelled")]
    Cancelled {
        /// The cluster's name.
        cluster: String,
    },
}

macro_rules! codes {
    ($($name:ident = $code:literal, $title:literal, $retry:ident, $exit:ident;)*) => {
        $(const $name: CodeInfo = CodeInfo {
            code: $code, title: $title, retry: Retry::$retry, exit: Exit::$exit,
        };)*
        /// The user-facing errors of this crate.
        pub const CODES: &[CodeInfo] = &[$($name),*];
    };
}

codes! {
    OTHER_CLUSTER = "RF0601", "the server is another cluster than the lineage's", Permanent, Refused;
    REPLACED = "RF0602", "the server is not the production of its cluster", Permanent, Refused;
    IN_RECOVERY = "RF0603", "backups of a standby are not supported yet", Permanent, Refused;
    SETTING = "RF0604", "a setting of the server forbids backups", Permanent, Refused;
    OTHER_DIRECTORY = "RF0605", "the data directory is not that of the server", Permanent, Refused;
    UNREADABLE = "RF0606", "the data directory cannot be read", Permanent, Failed;
    TABLESPACE = "RF0607", "a tablespace is missing", Permanent, Refused;
    LINK = "RF0608", "a symbolic link stands where PostgreSQL keeps data", Permanent, Refused;
    VANISHED = "RF0609", "a file vanished that every cluster needs", Retry, Failed;
    CONTROL_FILE = "RF0610", "pg_control cannot be read", Retry, Failed;
    LABEL = "RF0611", "the server's backup label is not that of this backup", Permanent, Failed;
    WAL_NOT_ARCHIVED = "RF0612", "the backup's WAL does not arrive in the repository", Wait, Failed;
    NO_HISTORY = "RF0613", "the history of the cluster's timeline is missing", Permanent, Failed;
    CANCELLED = "RF0614", "the backup was cancelled", Retry, Failed;
}

impl Diagnostic for Error {
    fn info(&self) -> &'static CodeInfo {
        match self {
            Self::Repository(error) => error.info(),
            Self::Server(error) => error.info(),
            Self::OtherCluster { .. } => &OTHER_CLUSTER,
            Self::Replaced { .. } => &REPLACED,
            Self::InRecovery { .. } => &IN_RECOVERY,
            Self::Setting { .. } => &SETTING,
            Self::OtherDirectory { .. } => &OTHER_DIRECTORY,
            Self::Unreadable { .. } => &UNREADABLE,
            Self::Tablespace { .. } => &TABLESPACE,
            Self::Link { .. } => &LINK,
            Self::Vanished { .. } => &VANISHED,
            Self::ControlFile { .. } => &CONTROL_FILE,
            Self::Label { .. } => &LABEL,
            Self::WalNotArchived { .. } => &WAL_NOT_ARCHIVED,
            Self::NoHistory { .. } => &NO_HISTORY,
            Self::Cancelled { .. } => &CANCELLED,
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::Repository(error) => return error.hints(),
            Self::Server(error) => return error.hints(),
            Self::OtherCluster { .. } => {
                "check 'connection' in rollforward.toml; a cluster that was created anew needs a new \
                 lineage: `rollforward init`"
            }
            Self::Replaced { .. } => {
                "if this server is to be the production from now on: `rollforward adopt CLUSTER --at DIR`"
            }
            Self::InRecovery { .. } => "back up the primary, or wait until recovery has ended",
            Self::Setting { name, .. } => {
                return vec![format!(
                    "set '{name}' in postgresql.conf; `rollforward check` shows what else is missing"
                )];
            }
            Self::OtherDirectory { .. } => {
                "'data_directory' and 'connection' in rollforward.toml must be of the same server, on this host"
            }
            Self::Unreadable { .. } => "run as the user that owns the data directory",
            Self::Tablespace { .. } => "mount the tablespace where its link in pg_tblspc points to",
            Self::Link { .. } => {
                "only tablespaces and pg_wal may be links: move the files back, or make it a tablespace"
            }
            Self::Vanished { .. } => {
                "somebody else changes the data directory: find out who, then repeat"
            }
            Self::ControlFile { .. } => "repeat; if it stays, the data directory is damaged",
            Self::Label { .. } => "repeat; if it stays, please report it",
            Self::WalNotArchived { .. } => {
                "run the server's archive_command by hand as its user and read the server's log; \
                 `rollforward wal status CLUSTER` shows what has arrived"
            }
            Self::NoHistory { .. } => {
                "archive it: `rollforward wal push PGDATA/pg_wal/NNNNNNNN.history`"
            }
            Self::Cancelled { .. } => "nothing was left behind; start it again at any time",
        };
        vec![hint.into()]
    }
}

/// The error for a path that cannot be read.
pub(crate) fn unreadable(path: &std::path::Path, error: &std::io::Error) -> Error {
    Error::Unreadable { path: path.to_owned(), reason: error.to_string() }
}
