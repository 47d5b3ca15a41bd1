//! What can go wrong with a dump, by what the caller can do about it.

use stdx::diagnostic::{CodeInfo, Diagnostic, Exit, Retry};

/// An error of making, reading or restoring a dump.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] repository::Error),
    /// A server failed.
    #[error(transparent)]
    Server(#[from] pgclient::Error),
    /// As for a backup: another cluster, or cancelled.
    #[error(transparent)]
    Backup(#[from] crate::Error),
    /// No program that is new enough.
    #[error("expected a {program} of PostgreSQL {wanted} or later, seen {seen}")]
    NoProgram {
        /// `pg_dump`, `pg_restore` or `psql`.
        program: &'static str,
        /// The lowest major that would do.
        wanted: u32,
        /// What was found, and where.
        seen: String,
    },
    /// A program failed.
    #[error("{program} failed on {what}: {reason}")]
    Program {
        /// Which.
        program: String,
        /// What it was to do.
        what: String,
        /// How it ended and what it said.
        reason: String,
    },
    /// The cluster has no such database, or none at all that takes sessions.
    #[error("the server of cluster '{cluster}' has no database '{name}' to dump; it has {known}")]
    NoDatabase {
        /// The cluster's name.
        cluster: String,
        /// The name asked for.
        name: String,
        /// Those there are.
        known: String,
    },
    /// The dump is not there.
    #[error("cluster '{cluster}' has no dump '{label}'")]
    NoDump {
        /// The cluster's name.
        cluster: String,
        /// The label asked for.
        label: String,
    },
    /// The dump does not hold what is asked of it.
    #[error("dump '{label}' {lacks}")]
    Lacks {
        /// Its label.
        label: String,
        /// What it does not hold, and what it does.
        lacks: String,
        /// The operator's next move.
        hint: String,
    },
    /// The target is older than the dump.
    #[error(
        "dump '{label}' is of PostgreSQL {dump}, expected a server of {dump} or later, seen {seen}"
    )]
    OlderTarget {
        /// The dump.
        label: String,
        /// The major of its server.
        dump: u32,
        /// The target's.
        seen: u32,
    },
    /// The target lacks what the dump's objects need.
    #[error("the target server lacks {what} that dump '{label}' needs: {names}")]
    Missing {
        /// The dump.
        label: String,
        /// "roles", "extensions", "tablespaces".
        what: &'static str,
        /// Their names.
        names: String,
        /// The operator's next move.
        hint: String,
    },
    /// The target database cannot take a restore.
    #[error("database '{database}' {why}")]
    Database {
        /// Its name.
        database: String,
        /// Why not.
        why: String,
        /// The operator's next move.
        hint: String,
    },
    /// An earlier restore into it did not come to its end.
    #[error("database '{database}' holds {mark}")]
    Unfinished {
        /// Its name.
        database: String,
        /// What the mark in its comment says.
        mark: String,
    },
    /// PostgreSQL refused something of the dump.
    #[error("{count} statements of dump '{label}' failed in database '{database}': {first}")]
    Statements {
        /// The dump.
        label: String,
        /// The target.
        database: String,
        /// How many.
        count: usize,
        /// The first ones, with their statements.
        first: String,
    },
    /// A dump that others made is not whole or not readable.
    #[error("dump '{name}' {what}")]
    Plain {
        /// Where it is.
        name: String,
        /// Expected and seen.
        what: String,
        /// The operator's next move.
        hint: String,
    },
}

macro_rules! codes {
    ($($name:ident = $code:literal, $title:literal, $retry:ident, $exit:ident;)*) => {
        $(const $name: CodeInfo = CodeInfo {
            code: $code, title: $title, retry: Retry::$retry, exit: Exit::$exit,
        };)*
        /// The user-facing errors of dumps.
        pub const CODES: &[CodeInfo] = &[$($name),*];
    };
}

codes! {
    NO_PROGRAM = "RF0621", "no pg_dump or pg_restore that is new enough", Permanent, Refused;
    PROGRAM = "RF0622", "pg_dump or pg_restore failed", Retry, Failed;
    NO_DATABASE = "RF0623", "the cluster has no such database", Permanent, Refused;
    NO_DUMP = "RF0624", "the dump is not there", Permanent, Refused;
    LACKS = "RF0625", "the dump does not hold what is asked of it", Permanent, Refused;
    OLDER_TARGET = "RF0626", "the target server is older than the dump", Permanent, Refused;
    MISSING = "RF0627", "the target server lacks what the dump needs", Permanent, Refused;
    DATABASE = "RF0628", "the database cannot take a restore", Permanent, Refused;
    UNFINISHED = "RF0629", "an earlier restore of a dump did not come to its end", Permanent, Refused;
    STATEMENTS = "RF0630", "statements of a dump failed", Permanent, Failed;
    PLAIN = "RF0631", "a dump of others is not whole or cannot be read", Permanent, Failed;
}

impl Diagnostic for DumpError {
    fn info(&self) -> &'static CodeInfo {
        match self {
            Self::Repository(error) => error.info(),
            Self::Server(error) => error.info(),
            Self::Backup(error) => error.info(),
            Self::NoProgram { .. } => &NO_PROGRAM,
            Self::Program { .. } => &PROGRAM,
            Self::NoDatabase { .. } => &NO_DATABASE,
            Self::NoDump { .. } => &NO_DUMP,
            Self::Lacks { .. } => &LACKS,
            Self::OlderTarget { .. } => &OLDER_TARGET,
            Self::Missing { .. } => &MISSING,
            Self::Database { .. } => &DATABASE,
            Self::Unfinished { .. } => &UNFINISHED,
            Self::Statements { .. } => &STATEMENTS,
            Self::Plain { .. } => &PLAIN,
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::Repository(error) => return error.hints(),
            Self::Server(error) => return error.hints(),
            Self::Backup(error) => return error.hints(),
            Self::Lacks { hint, .. }
            | Self::Missing { hint, .. }
            | Self::Database { hint, .. }
            | Self::Plain { hint, .. } => hint.clone(),
            Self::NoProgram { wanted, .. } => format!(
                "install the client tools of PostgreSQL {wanted} (Debian: postgresql-client-{wanted}), \
                 or name their folder: --bin-directory DIR"
            ),
            Self::Program { .. } => {
                "what the program said stands above; put that right and repeat, nothing was left behind"
                    .into()
            }
            Self::NoDatabase { .. } => "name one of those with --database".into(),
            Self::NoDump { cluster, .. } => format!("rollforward dump list {cluster}"),
            Self::OlderTarget { dump, .. } => {
                format!("restore into a server of PostgreSQL {dump} or later: --target")
            }
            Self::Unfinished { database, .. } => format!(
                "look whether anything in it is to be kept; then DROP DATABASE {} and repeat, or \
                 restore under another name: --database",
                pgclient::identifier(database)
            ),
            Self::Statements { database, .. } => format!(
                "the database is marked as unfinished: put the cause right, DROP DATABASE {}, repeat",
                pgclient::identifier(database)
            ),
        };
        vec![hint]
    }
}
