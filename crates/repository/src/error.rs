//! What can go wrong with a repository, by what the caller can do about it.

use stdx::diagnostic::{CodeInfo, Diagnostic, Exit, Retry};

/// An error of the repository.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The object store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The bytes of an object are not what was written.
    #[error("object '{key}' in '{store}' is damaged: {reason}")]
    Damaged {
        /// The store's address without secrets.
        store: String,
        /// The object.
        key: String,
        /// What was expected and what was seen.
        reason: String,
    },
    /// The object was written by a newer version and says that this one must not read it.
    #[error("object '{key}' needs a newer rollforward: {reason}")]
    Newer {
        /// The object.
        key: String,
        /// Which version or feature bit.
        reason: String,
    },
    /// The object belongs to another repository set.
    #[error("object '{key}' belongs to set {seen}, expected {expected}")]
    ForeignSet {
        /// The object.
        key: String,
        /// This repository's set id.
        expected: String,
        /// The object's set id.
        seen: String,
    },
    /// The key does not open this object.
    #[error("object '{key}' is sealed with another key of epoch {epoch}")]
    WrongKey {
        /// The object.
        key: String,
        /// The key epoch the object names.
        epoch: u32,
    },
    /// A key file, passphrase or recovery code opens no slot.
    #[error("{secret} does not open repository '{store}'")]
    NoSlotOpens {
        /// The store's address without secrets.
        store: String,
        /// What was tried: `key file '/path'`, `the passphrase`, `the recovery code`.
        secret: String,
    },
    /// The text of a key file or of a recovery code is not one.
    #[error("{what} cannot be used: {reason}")]
    Secret {
        /// `key file '/path'`, or `the recovery code`.
        what: String,
        /// What does not fit; nothing of the text.
        reason: String,
    },
    /// The address holds no repository.
    #[error("no repository at '{store}'")]
    NoRepository {
        /// The store's address without secrets.
        store: String,
    },
    /// The address holds a repository already.
    #[error("there is a repository at '{store}' already (set {set})")]
    RepositoryExists {
        /// The store's address without secrets.
        store: String,
        /// Its set id.
        set: String,
    },
    /// The members of a set are not of one set.
    #[error("repository '{store}' is of set {seen}, the others are of {expected}")]
    NotOneSet {
        /// The odd member's address.
        store: String,
        /// The set id of the first member.
        expected: String,
        /// The set id of this member.
        seen: String,
    },
    /// Something with that name is there with other content.
    #[error(
        "'{key}' is in the repository already with another content: expected {expected}, seen {seen}"
    )]
    Conflict {
        /// The object.
        key: String,
        /// What the caller brought.
        expected: String,
        /// What is there.
        seen: String,
    },
    /// No cluster of that name is in the repository.
    #[error("no cluster '{name}' in repository '{store}'")]
    NoCluster {
        /// The cluster's name.
        name: String,
        /// The store's address without secrets.
        store: String,
    },
    /// No backup serves.
    #[error("no backup of cluster '{cluster}' {reason}")]
    NoBackup {
        /// The cluster's name.
        cluster: String,
        /// For example `labelled 'x'` or `before 0/3000000 on timeline 2`.
        reason: String,
    },
    /// The target cannot be reached from any backup.
    #[error("target {target} of cluster '{cluster}' is not reachable: {reason}")]
    Unreachable {
        /// The cluster's name.
        cluster: String,
        /// The target as asked for.
        target: String,
        /// Why not.
        reason: String,
        /// The nearest targets that are reachable, as command line options.
        nearest: Vec<String>,
    },
    /// WAL that is needed is not in the repository.
    #[error("WAL segment '{name}' of cluster '{cluster}' is not in the repository")]
    WalMissing {
        /// The cluster's name.
        cluster: String,
        /// The segment's file name.
        name: String,
    },
    /// WAL in the repository cannot be decoded.
    #[error("WAL of cluster '{cluster}' cannot be read at {lsn}: {reason}")]
    WalDamaged {
        /// The cluster's name.
        cluster: String,
        /// Where.
        lsn: String,
        /// What was expected and what was seen.
        reason: String,
    },
    /// A file that was to be stored cannot be read whole.
    #[error("'{name}' cannot be read whole")]
    Content {
        /// The file's name.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A value that was to be stored breaks a limit of the format.
    #[error("{what} breaks a limit of the repository format: {reason}")]
    Limit {
        /// Which value.
        what: &'static str,
        /// The limit and what was seen.
        reason: String,
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
    DAMAGED = "RF0301", "an object of the repository is damaged", Permanent, Failed;
    NEWER = "RF0302", "the repository needs a newer rollforward", Permanent, Failed;
    FOREIGN_SET = "RF0303", "an object belongs to another repository set", Permanent, Failed;
    WRONG_KEY = "RF0304", "an object is sealed with another key", Permanent, Failed;
    NO_SLOT_OPENS = "RF0305", "the key opens no slot of the repository", Permanent, Failed;
    NO_REPOSITORY = "RF0306", "there is no repository at this address", Permanent, Failed;
    REPOSITORY_EXISTS = "RF0307", "there is a repository at this address already", Permanent, Refused;
    NOT_ONE_SET = "RF0308", "the repositories are not members of one set", Permanent, Refused;
    CONFLICT = "RF0309", "an object exists with another content", Permanent, Failed;
    NO_CLUSTER = "RF0310", "the repository knows no such cluster", Permanent, Failed;
    NO_BACKUP = "RF0311", "no backup serves", Permanent, Failed;
    UNREACHABLE = "RF0312", "the recovery target is not reachable", Permanent, Refused;
    WAL_MISSING = "RF0313", "WAL that is needed is missing", Wait, Failed;
    WAL_DAMAGED = "RF0314", "archived WAL cannot be read", Permanent, Failed;
    LIMIT = "RF0315", "a value breaks a limit of the repository format", Permanent, Failed;
    SECRET = "RF0316", "a key file or recovery code is mistyped or cut off", Permanent, Usage;
    CONTENT = "RF0317", "a file cannot be read whole", Permanent, Failed;
}

impl Diagnostic for Error {
    fn info(&self) -> &'static CodeInfo {
        match self {
            Self::Store(error) => error.info(),
            Self::Damaged { .. } => &DAMAGED,
            Self::Newer { .. } => &NEWER,
            Self::ForeignSet { .. } => &FOREIGN_SET,
            Self::WrongKey { .. } => &WRONG_KEY,
            Self::NoSlotOpens { .. } => &NO_SLOT_OPENS,
            Self::NoRepository { .. } => &NO_REPOSITORY,
            Self::RepositoryExists { .. } => &REPOSITORY_EXISTS,
            Self::NotOneSet { .. } => &NOT_ONE_SET,
            Self::Conflict { .. } => &CONFLICT,
            Self::NoCluster { .. } => &NO_CLUSTER,
            Self::NoBackup { .. } => &NO_BACKUP,
            Self::Unreachable { .. } => &UNREACHABLE,
            Self::WalMissing { .. } => &WAL_MISSING,
            Self::WalDamaged { .. } => &WAL_DAMAGED,
            Self::Content { .. } => &CONTENT,
            Self::Limit { .. } => &LIMIT,
            Self::Secret { .. } => &SECRET,
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::Store(error) => return error.hints(),
            Self::Unreachable { nearest, .. } => {
                let mut hints: Vec<String> =
                    nearest.iter().map(|target| format!("nearest reachable: {target}")).collect();
                hints.push(
                    "`rollforward window CLUSTER` shows everything that can be reached".into(),
                );
                return hints;
            }
            Self::Damaged { .. } | Self::WalDamaged { .. } => {
                "restore the object from another repository of the set; `rollforward verify` lists all damage"
            }
            Self::Newer { .. } => "use the version of rollforward that wrote it, or a later one",
            Self::ForeignSet { .. } | Self::NotOneSet { .. } => {
                "two repositories were mixed: check the address in the configuration"
            }
            Self::WrongKey { .. } | Self::NoSlotOpens { .. } => {
                "use the key of this repository: its fingerprint stands in the recovery kit; `rollforward key prove` tests one"
            }
            Self::NoRepository { .. } => {
                "check the address, or create the repository with `rollforward init`"
            }
            Self::RepositoryExists { .. } => {
                "to use it, fetch its configuration with `rollforward init --from-repository URL`"
            }
            Self::Conflict { .. } => {
                "two writers use this name: find the second one before going on"
            }
            Self::NoCluster { .. } => {
                "`rollforward init` registers a cluster; names are in rollforward.toml"
            }
            Self::NoBackup { .. } => "`rollforward backups CLUSTER` lists what there is",
            Self::WalMissing { .. } => {
                "see `rollforward wal status CLUSTER` for gaps; if the server still has the segment, archiving it heals the gap"
            }
            Self::Secret { .. } => {
                "read it again from where it was written down; the recovery kit names the keys that open the repository"
            }
            Self::Content { .. } => {
                "it was removed or cut while it was read: look at the disk and at who else touches the folder"
            }
            Self::Limit { .. } => {
                "this is a bug or a cluster of a size never seen: please report it"
            }
        };
        vec![hint.into()]
    }
}
