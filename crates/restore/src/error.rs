//! What can stop a restore, by what the operator can do about it.

use std::path::{Path, PathBuf};

use stdx::diagnostic::{CodeInfo, Diagnostic, Exit, Retry};

/// An error of a restore.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The repository failed or is damaged.
    #[error(transparent)]
    Repository(#[from] repository::Error),
    /// The directory holds something.
    #[error("directory '{path}' is not empty: it holds '{first}'")]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// One thing in it.
        first: String,
    },
    /// A server runs in the directory.
    #[error("a PostgreSQL server runs in '{path}' (process {pid})")]
    ServerRuns {
        /// The directory.
        path: PathBuf,
        /// The postmaster's process id.
        pid: u32,
    },
    /// Another restore is filling the directory at this moment.
    #[error("another restore is filling '{path}'")]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// The directory belongs to another user.
    #[error("directory '{path}' belongs to user {seen}, expected user {expected}")]
    ForeignOwner {
        /// The directory.
        path: PathBuf,
        /// Who runs the restore.
        expected: u32,
        /// Whose it is.
        seen: u32,
    },
    /// The file system refused.
    #[error("cannot {verb} '{path}'")]
    File {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not enough room, found before copying.
    #[error("the file system of '{path}' has {seen} free, expected at least {expected}")]
    NoSpace {
        /// The directory.
        path: PathBuf,
        /// What the backup needs.
        expected: stdx::ByteCount,
        /// What is free.
        seen: stdx::ByteCount,
    },
    /// The disk filled up while copying.
    #[error("the disk is full while writing '{path}'")]
    DiskFull {
        /// The file being written.
        path: PathBuf,
    },
    /// A tablespace has no usable place.
    #[error("tablespace {oid} at '{path}' {reason}")]
    Tablespace {
        /// Its oid.
        oid: u32,
        /// Where it was or should go.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The backup holds something that cannot be restored.
    #[error("'{path}' of the backup cannot be restored: {reason}")]
    Entry {
        /// Its path in the data directory.
        path: String,
        /// Why.
        reason: String,
    },
    /// A setting cannot be written.
    #[error("the settings of the restored cluster cannot be written: {reason}")]
    Settings {
        /// Why.
        reason: String,
    },
    /// The directory is not a restored cluster in quarantine.
    #[error("'{path}' is not a cluster in quarantine: {reason}")]
    NotQuarantined {
        /// The directory.
        path: PathBuf,
        /// What was looked for and not found.
        reason: String,
    },
}

const fn info(code: &'static str, title: &'static str, retry: Retry, exit: Exit) -> CodeInfo {
    CodeInfo { code, title, retry, exit }
}

const NOT_EMPTY: CodeInfo =
    info("RF0701", "the target directory is not empty", Retry::Permanent, Exit::Refused);
const SERVER_RUNS: CodeInfo =
    info("RF0702", "a server runs in the target directory", Retry::Permanent, Exit::Refused);
const FOREIGN_OWNER: CodeInfo = info(
    "RF0703",
    "the target directory belongs to somebody else",
    Retry::Permanent,
    Exit::Refused,
);
const FILE: CodeInfo =
    info("RF0704", "the target's file system refused", Retry::Permanent, Exit::Failed);
const NO_SPACE: CodeInfo =
    info("RF0705", "there is no room for the restore", Retry::Wait, Exit::Failed);
const TABLESPACE: CodeInfo =
    info("RF0706", "a tablespace has no usable place", Retry::Permanent, Exit::Refused);
const ENTRY: CodeInfo = info(
    "RF0707",
    "the backup holds something that cannot be restored",
    Retry::Permanent,
    Exit::Failed,
);
const SETTINGS: CodeInfo = info(
    "RF0708",
    "the restored cluster's settings cannot be written",
    Retry::Permanent,
    Exit::Failed,
);
const NOT_QUARANTINED: CodeInfo =
    info("RF0709", "the directory is not a cluster in quarantine", Retry::Permanent, Exit::Refused);
const BUSY: CodeInfo =
    info("RF0710", "another restore fills the target directory", Retry::Wait, Exit::Refused);

/// The user-facing errors of this crate.
pub const CODES: &[CodeInfo] = &[
    NOT_EMPTY,
    SERVER_RUNS,
    FOREIGN_OWNER,
    FILE,
    NO_SPACE,
    TABLESPACE,
    ENTRY,
    SETTINGS,
    NOT_QUARANTINED,
    BUSY,
];

impl Error {
    /// An error of the file system; a full disk gets its own.
    pub(crate) fn file(verb: &'static str, path: &Path, source: std::io::Error) -> Self {
        if source.kind() == std::io::ErrorKind::StorageFull {
            return Self::DiskFull { path: path.into() };
        }
        Self::File { verb, path: path.into(), source }
    }
}

impl Diagnostic for Error {
    fn info(&self) -> &'static CodeInfo {
        match self {
            Self::Repository(error) => error.info(),
            Self::NotEmpty { .. } => &NOT_EMPTY,
            Self::ServerRuns { .. } => &SERVER_RUNS,
            Self::ForeignOwner { .. } => &FOREIGN_OWNER,
            Self::File { .. } => &FILE,
            Self::NoSpace { .. } | Self::DiskFull { .. } => &NO_SPACE,
            Self::Tablespace { .. } => &TABLESPACE,
            Self::Entry { .. } => &ENTRY,
            Self::Settings { .. } => &SETTINGS,
            Self::NotQuarantined { .. } => &NOT_QUARANTINED,
            Self::Busy { .. } => &BUSY,
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::Repository(error) => return error.hints(),
            Self::NotEmpty { .. } => "name a directory that does not exist yet, or an empty one",
            Self::ServerRuns { .. } => {
                "never restore over a running server; restore beside it and switch afterwards"
            }
            Self::Busy { .. } => "wait until it has ended, or name another directory",
            Self::ForeignOwner { .. } => {
                "run as the directory's owner, or name a directory of your own"
            }
            Self::File { .. } => "check permissions and mounts of the path named",
            Self::NoSpace { .. } | Self::DiskFull { .. } => {
                "free space or name a directory on a larger disk, then repeat: the unfinished restore is cleared by itself"
            }
            Self::Tablespace { .. } => "give it a place with --tablespace OID=DIRECTORY",
            Self::Entry { .. } => {
                "run `rollforward verify`; another backup may serve: --backup LABEL"
            }
            Self::Settings { .. } => "look at postgresql.auto.conf of the backup",
            Self::NotQuarantined { .. } => "name the directory that `rollforward restore` made",
        };
        vec![hint.into()]
    }
}
