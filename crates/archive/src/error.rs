//! What can go wrong with archived WAL, by what the caller can do about it.

use std::io;
use std::path::{Path, PathBuf};

use pg::{MajorVersion, SystemId, TimelineId};
use repository::Digest;
use stdx::diagnostic::{CodeInfo, Diagnostic, Exit, Retry};

/// An error of archiving, fetching, salvaging or searching WAL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] repository::Error),
    /// A file on this host could not be read or written.
    #[error("cannot {verb} '{}'", .path.display())]
    File {
        /// `read`, `write`, `list`, `lock`.
        verb: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The name or the content is none that PostgreSQL archives, or the content is cut off.
    #[error("'{name}' is not a WAL file: {reason}")]
    NotWal {
        /// The file's name or path.
        name: String,
        /// What was expected and what was seen.
        reason: String,
    },
    /// The WAL is of another cluster.
    #[error(
        "WAL file '{name}' is of another cluster: expected system identifier {expected} (cluster '{cluster}'), seen {seen}"
    )]
    Foreign {
        /// The file's name.
        name: String,
        /// The cluster it was meant for.
        cluster: String,
        /// That cluster's system identifier.
        expected: SystemId,
        /// The one in the file.
        seen: SystemId,
    },
    /// The content is of another place in the log than the name says.
    #[error("WAL file '{name}' is not what its name says: {reason}")]
    Misnamed {
        /// The file's name.
        name: String,
        /// What was expected and what was seen.
        reason: String,
    },
    /// The WAL was written by another major version than its data directory is of.
    #[error(
        "WAL segment '{name}' was written by PostgreSQL {seen}, expected {expected} (data directory '{}')",
        .data_directory.display()
    )]
    Version {
        /// The file's name.
        name: String,
        /// The data directory.
        data_directory: PathBuf,
        /// The version in its `PG_VERSION`.
        expected: MajorVersion,
        /// The version in the page header.
        seen: MajorVersion,
    },
    /// The token is not that of a registered writer.
    #[error("'{}' does not belong to a writer of this repository: {reason}", .token_file.display())]
    UnknownWriter {
        /// The token file.
        token_file: PathBuf,
        /// What was expected and what was seen.
        reason: String,
    },
    /// The token is used from another place than it was registered for: by a copy of the cluster.
    #[error(
        "this is a copy of cluster '{cluster}': expected writer at '{expected}', seen '{seen}'"
    )]
    Elsewhere {
        /// The cluster.
        cluster: String,
        /// Host and data directory of the registered writer.
        expected: String,
        /// Where the file lies.
        seen: String,
    },
    /// Other content is archived under that name; ours was kept beside it.
    #[error(transparent)]
    Conflict(Box<Conflict>),
    /// A restored cluster that was not adopted does not archive.
    #[error("WAL file '{name}' is held until this restored cluster is adopted")]
    Held {
        /// The file's name.
        name: String,
    },
    /// The cluster was replaced by another one that was adopted.
    #[error("WAL file '{name}' is refused: cluster '{cluster}' was replaced: {reason}")]
    Replaced {
        /// The file's name.
        name: String,
        /// The cluster.
        cluster: String,
        /// By what, and since when.
        reason: String,
    },
    /// The token file cannot be used.
    #[error("token file '{}' cannot be used: {reason}", .path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What was expected and what was seen.
        reason: String,
    },
    /// WAL is missing that recovery needs before its end.
    #[error("WAL file '{name}' is in no repository, but recovery needs it to reach {end}")]
    Hole {
        /// The file's name.
        name: String,
        /// What recovery is to reach: `0/5000000`, `segment '…'`, `timeline 2`.
        end: String,
    },
    /// A repository did not answer, so it is not proved that the file is absent.
    #[error("whether WAL file '{name}' is archived is not known")]
    Unproved {
        /// The file's name.
        name: String,
        /// What the repository said.
        #[source]
        source: Box<repository::Error>,
    },
    /// The timeline that this restore reserved for its promotion has a history already.
    #[error(
        "timeline {timeline} was reserved for this restore, but has a history in the repository"
    )]
    TimelineTaken {
        /// The timeline.
        timeline: TimelineId,
    },
    /// PostgreSQL asks for WAL of a timeline that this restore does not follow.
    #[error("'{name}' is asked for, but this restore follows timelines {path}")]
    OffPath {
        /// The file asked for.
        name: String,
        /// The timelines of the restore, ascending.
        path: String,
    },
    /// Nothing could be salvaged.
    #[error("nothing can be salvaged from '{}': {reason}", .folder.display())]
    NoSalvage {
        /// The folder `pg_wal`.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// The folder is not that of the writer in force: of a copy, perhaps.
    #[error(
        "'{}' on host '{host}' is not the WAL of the production of cluster '{cluster}': expected that of '{expected}'",
        .folder.display()
    )]
    NotProduction {
        /// The folder `pg_wal`.
        folder: PathBuf,
        /// The cluster.
        cluster: String,
        /// Host and data directory of the writer in force.
        expected: String,
        /// This host.
        host: String,
    },
}

/// Two contents of one WAL file.
#[derive(Debug, thiserror::Error)]
#[error(
    "WAL file '{name}' is already in the archive with another content\n  expected blake3 {expected}…, seen blake3 {seen}… (repository '{store}', system identifier {system_id})"
)]
pub struct Conflict {
    /// The file's name.
    pub name: String,
    /// Keyed digest of what the caller brought.
    pub expected: Digest,
    /// Keyed digest of what is there.
    pub seen: Digest,
    /// The repository's address without secrets.
    pub store: String,
    /// The cluster's system identifier.
    pub system_id: SystemId,
    /// The object in which the caller's content was kept.
    pub kept: store::Key,
}

impl Error {
    /// Whether the file is archived is not known, because of `source`.
    pub(crate) fn unproved(name: &str, source: repository::Error) -> Self {
        Self::Unproved { name: name.to_owned(), source: Box::new(source) }
    }

    /// An error of the file system.
    pub(crate) fn file(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { verb, path, source }
    }

    /// Whether a store, and not the data or this host, is what failed: another try may succeed.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        let repository = match self {
            Self::Repository(error) => error,
            Self::Unproved { source, .. } => source.as_ref(),
            _ => return false,
        };
        matches!(
            repository,
            repository::Error::Store(
                store::Error::Unavailable { .. } | store::Error::Denied { .. }
            )
        )
    }
}

/// Whether the repository says that there is no such object in any member.
pub(crate) fn is_absent(error: &repository::Error) -> bool {
    matches!(error, repository::Error::Store(store::Error::NotFound { .. }))
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

// An archive command must end with 1 to 125 on every error: all exits of the table do.
codes! {
    FILE = "RF0101", "a WAL file on this host cannot be read or written", Retry, Failed;
    NOT_WAL = "RF0102", "not a WAL file", Permanent, Failed;
    FOREIGN = "RF0103", "WAL of another cluster", Permanent, Failed;
    MISNAMED = "RF0104", "a WAL file is not what its name says", Permanent, Failed;
    UNKNOWN_WRITER = "RF0105", "not a registered writer", Permanent, Failed;
    ELSEWHERE = "RF0106", "a copy pushes into the archive of the original", Permanent, Failed;
    CONFLICT = "RF0107", "a WAL file is in the archive with another content", Permanent, Failed;
    HELD = "RF0108", "held until adopted", Wait, Failed;
    REPLACED = "RF0109", "the cluster was replaced", Permanent, Failed;
    TOKEN_FILE = "RF0110", "the token file cannot be used", Permanent, Failed;
    HOLE = "RF0111", "WAL is missing before the end of recovery", Permanent, Failed;
    UNPROVED = "RF0112", "it is not known whether a WAL file is archived", Retry, Failed;
    TIMELINE_TAKEN = "RF0113", "the reserved timeline is taken", Permanent, Failed;
    OFF_PATH = "RF0114", "WAL of a timeline that this restore does not follow", Permanent, Failed;
    VERSION = "RF0115", "WAL of another major version", Permanent, Failed;
    NO_SALVAGE = "RF0116", "nothing can be salvaged", Permanent, Failed;
    NOT_PRODUCTION = "RF0117", "the folder is not the production's", Permanent, Failed;
}

impl Diagnostic for Error {
    fn info(&self) -> &'static CodeInfo {
        match self {
            Self::Repository(error) => error.info(),
            Self::File { .. } => &FILE,
            Self::NotWal { .. } => &NOT_WAL,
            Self::Foreign { .. } => &FOREIGN,
            Self::Misnamed { .. } => &MISNAMED,
            Self::UnknownWriter { .. } => &UNKNOWN_WRITER,
            Self::Elsewhere { .. } => &ELSEWHERE,
            Self::Conflict(_) => &CONFLICT,
            Self::Held { .. } => &HELD,
            Self::Replaced { .. } => &REPLACED,
            Self::TokenFile { .. } => &TOKEN_FILE,
            Self::Hole { .. } => &HOLE,
            Self::Unproved { .. } => &UNPROVED,
            Self::TimelineTaken { .. } => &TIMELINE_TAKEN,
            Self::OffPath { .. } => &OFF_PATH,
            Self::Version { .. } => &VERSION,
            Self::NoSalvage { .. } => &NO_SALVAGE,
            Self::NotProduction { .. } => &NOT_PRODUCTION,
        }
    }

    fn hints(&self) -> Vec<String> {
        let hints: &[&str] = match self {
            Self::Repository(error) => return error.hints(),
            Self::Unproved { source, .. } => return source.hints(),
            Self::Conflict(conflict) => {
                return vec![
                    "are two primaries archiving to this cluster name?".into(),
                    format!(
                        "nothing is lost: this server's content was kept as '{}'",
                        conflict.kept
                    ),
                    "`rollforward explain RF0107`".into(),
                ];
            }
            Self::File { .. } => &["check owner, mode and free space; PostgreSQL tries again"],
            Self::NotWal { .. } | Self::Misnamed { .. } => &[
                "use `archive_command = 'rollforward wal push %p'` and `restore_command = 'rollforward wal get %f %p'`",
            ],
            Self::Foreign { .. } => &[
                "was the cluster created anew? `rollforward init` registers it with its own history",
                "two clusters must not share a cluster name in rollforward.toml",
            ],
            Self::UnknownWriter { .. } => &[
                "`rollforward init --take-over` registers this host and data directory as the writer",
            ],
            Self::Elsewhere { .. } => &[
                "to make this copy the production of the cluster: `rollforward adopt CLUSTER --at DIR`",
                "to protect it beside the original: give it a cluster name of its own, then `rollforward init`",
                "if it is the production itself, renamed or moved: `rollforward init --take-over`",
                "to run it unprotected: `archive_mode = off`",
            ],
            Self::Held { .. } => {
                &["`rollforward adopt CLUSTER --at DIR` makes it the production of its history"]
            }
            Self::Replaced { .. } => &[
                "stop this server: users of it write what is not protected",
                "if it is the production all the same: `rollforward init --take-over` on this host",
            ],
            Self::TokenFile { .. } => &[
                "`rollforward init` writes it at first; a lost one is replaced with `rollforward init --take-over`",
            ],
            Self::Hole { .. } => &[
                "`rollforward wal status CLUSTER` lists holes; if a server still has the segment, archiving it heals the hole",
                "`rollforward window CLUSTER` shows what can be reached without it",
            ],
            Self::TimelineTaken { .. } => &["restore again: a new timeline is reserved then"],
            Self::OffPath { .. } => &[
                "recovery_target_timeline was changed after the restore: restore again with the target you want",
                "without a restore's ticket only the way to the cluster's current timeline is served",
            ],
            Self::Version { .. } => {
                &["after pg_upgrade the cluster needs a new history: `rollforward init`"]
            }
            Self::NoSalvage { .. } => {
                &["name the folder pg_wal of the failed server, readable by this user"]
            }
            Self::NotProduction { .. } => &[
                "if it is the failed production's disk, mounted elsewhere or moved: `rollforward wal salvage CLUSTER --pg-wal DIR --elsewhere`",
                "the WAL of a copy must stay out: it would take the names of what the production writes next",
            ],
        };
        hints.iter().map(|hint| (*hint).into()).collect()
    }
}
