//! What can go wrong with a store, by what the caller can do about it.

use stdx::diagnostic::{CodeInfo, Diagnostic, Exit, Retry};

use crate::{Key, prove};

/// An error of a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such object. The caller decides whether that is an answer or a loss.
    #[error("no object '{key}' in '{store}'")]
    NotFound {
        /// The store's address without secrets.
        store: String,
        /// The object asked for.
        key: Key,
    },
    /// Refused: wrong or missing credentials, or no permission. Trying again does not help.
    #[error("'{store}' refused to {verb} '{key}': {reason}")]
    Denied {
        /// The store's address without secrets.
        store: String,
        /// `read`, `write`, `list` or `delete`.
        verb: &'static str,
        /// The object or prefix.
        key: String,
        /// What the store said, without secrets.
        reason: String,
    },
    /// The store has no room left.
    #[error("no space left in '{store}' while writing '{key}'")]
    NoSpace {
        /// The store's address without secrets.
        store: String,
        /// The object being written.
        key: String,
    },
    /// The store did not answer, answered with a server error, or was cut off, beyond the retries.
    /// For a write this leaves open whether the object is there now.
    #[error("'{store}' is unavailable for {verb} of '{key}': {reason}")]
    Unavailable {
        /// The store's address without secrets.
        store: String,
        /// `read`, `write`, `list` or `delete`.
        verb: &'static str,
        /// The object or prefix.
        key: String,
        /// What happened last, without secrets.
        reason: String,
    },
    /// The address is not one we understand.
    #[error("'{url}' is not a repository address: {reason}")]
    Address {
        /// The address with any secret removed.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The range asked for is not inside the object.
    #[error("object '{key}' in '{store}' has {size} bytes, asked for {start}..{end}")]
    Range {
        /// The store's address without secrets.
        store: String,
        /// The object.
        key: Key,
        /// Its true size in bytes.
        size: u64,
        /// First byte asked for.
        start: u64,
        /// One past the last byte asked for.
        end: u64,
    },
}

/// The user-facing errors of this crate.
pub const CODES: &[CodeInfo] =
    &[NOT_FOUND, DENIED, NO_SPACE, UNAVAILABLE, ADDRESS, RANGE, prove::NOT_HONOURED];

const NOT_FOUND: CodeInfo = CodeInfo {
    code: "RF0201",
    title: "an object is missing from the repository",
    retry: Retry::Permanent,
    exit: Exit::Failed,
};
const DENIED: CodeInfo = CodeInfo {
    code: "RF0202",
    title: "the object store refused access",
    retry: Retry::Permanent,
    exit: Exit::Failed,
};
const NO_SPACE: CodeInfo = CodeInfo {
    code: "RF0203",
    title: "the object store is full",
    retry: Retry::Wait,
    exit: Exit::Failed,
};
const UNAVAILABLE: CodeInfo = CodeInfo {
    code: "RF0204",
    title: "the object store does not answer",
    retry: Retry::Retry,
    exit: Exit::Failed,
};
const ADDRESS: CodeInfo = CodeInfo {
    code: "RF0205",
    title: "not a repository address",
    retry: Retry::Permanent,
    exit: Exit::Usage,
};
const RANGE: CodeInfo = CodeInfo {
    code: "RF0206",
    title: "an object is shorter than its index says",
    retry: Retry::Permanent,
    exit: Exit::Failed,
};

impl Diagnostic for Error {
    fn info(&self) -> &'static CodeInfo {
        match self {
            Self::NotFound { .. } => &NOT_FOUND,
            Self::Denied { .. } => &DENIED,
            Self::NoSpace { .. } => &NO_SPACE,
            Self::Unavailable { .. } => &UNAVAILABLE,
            Self::Address { .. } => &ADDRESS,
            Self::Range { .. } => &RANGE,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotFound { .. } => {
                vec!["run `rollforward verify` to see what else is missing".into()]
            }
            Self::Denied { .. } => {
                vec!["check the credentials and the bucket's policy: read, write, list and delete are needed".into()]
            }
            Self::NoSpace { .. } => vec!["free space or raise the quota, then repeat".into()],
            Self::Unavailable { .. } => {
                vec!["check that the address is reachable from this host; `rollforward check` repeats the probe".into()]
            }
            Self::Address { .. } => vec![
                "use a directory path, file:///dir, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix".into(),
            ],
            Self::Range { .. } => {
                vec!["the object was truncated or replaced: restore it from another repository of the set".into()]
            }
        }
    }
}
