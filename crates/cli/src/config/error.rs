//! What can be wrong with the configuration.

use std::path::{Path, PathBuf};

use stdx::diagnostic::{CodeInfo, Diagnostic, Exit, Retry};

/// An error of the configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no configuration.
    #[error("no configuration file; looked for '{looked}'")]
    Missing {
        /// The paths.
        looked: String,
    },
    /// It cannot be read.
    #[error("cannot read configuration '{path}'")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key that does not exist.
    #[error("unknown key '{key}' in {table} of '{path}'")]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The table it stands in.
        table: String,
        /// The key.
        key: String,
        /// The nearest key that exists.
        nearest: Option<String>,
        /// Every key that exists there.
        known: Vec<String>,
    },
    /// A value that means nothing.
    #[error("{key} in '{path}': {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Expected and seen.
        reason: String,
    },
    /// No cluster of that name.
    #[error("no cluster '{name}' in '{path}'; known: {known}")]
    NoCluster {
        /// The name asked for.
        name: String,
        /// The file.
        path: PathBuf,
        /// The names there are.
        known: String,
    },
    /// Several clusters, none named.
    #[error("which cluster? known: {known}")]
    WhichCluster {
        /// The names there are.
        known: String,
    },
    /// No service of that name.
    #[error("no service '{name}' in '{path}'; known: {known}")]
    NoService {
        /// The name asked for.
        name: String,
        /// The file.
        path: PathBuf,
        /// The names there are.
        known: String,
    },
    /// Several services, none named.
    #[error("which service? known: {known}")]
    WhichService {
        /// The names there are.
        known: String,
    },
    /// A secret's reference does not resolve.
    #[error("secret {reference} of {owner} does not resolve: {reason}")]
    Secret {
        /// The reference, never the secret.
        reference: String,
        /// Whose secret.
        owner: String,
        /// Why.
        reason: String,
    },
}

/// The user-facing errors of the configuration.
pub(crate) const CODES: &[CodeInfo] =
    &[MISSING, UNREADABLE, UNKNOWN_KEY, INVALID, NO_CLUSTER, SECRET, NO_SERVICE];

const fn usage(code: &'static str, title: &'static str) -> CodeInfo {
    CodeInfo { code, title, retry: Retry::Permanent, exit: Exit::Usage }
}

const MISSING: CodeInfo = usage("RF0901", "there is no configuration");
const UNREADABLE: CodeInfo = usage("RF0902", "the configuration cannot be read");
const UNKNOWN_KEY: CodeInfo = usage("RF0903", "the configuration has an unknown key");
const INVALID: CodeInfo = usage("RF0904", "the configuration has an invalid value");
const NO_CLUSTER: CodeInfo = usage("RF0905", "the configuration has no such cluster");
const SECRET: CodeInfo = usage("RF0906", "a secret cannot be resolved");
const NO_SERVICE: CodeInfo = usage("RF0907", "the configuration has no such service");

impl Diagnostic for Error {
    fn info(&self) -> &'static CodeInfo {
        match self {
            Self::Missing { .. } => &MISSING,
            Self::Unreadable { .. } => &UNREADABLE,
            Self::UnknownKey { .. } => &UNKNOWN_KEY,
            Self::Invalid { .. } => &INVALID,
            Self::NoCluster { .. } | Self::WhichCluster { .. } => &NO_CLUSTER,
            Self::NoService { .. } | Self::WhichService { .. } => &NO_SERVICE,
            Self::Secret { .. } => &SECRET,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Missing { .. } => {
                vec!["`rollforward init` writes one; name another with --config".into()]
            }
            Self::Unreadable { .. } => {
                vec!["run as the user that owns it, or give that user read permission".into()]
            }
            Self::UnknownKey { nearest, known, .. } => {
                let mut hints = Vec::new();
                hints.extend(nearest.as_ref().map(|nearest| format!("did you mean '{nearest}'?")));
                hints.push(format!("known here: {}", known.join(", ")));
                hints
            }
            Self::Invalid { .. } => vec!["docs/guide/configuration.md describes every key".into()],
            Self::NoCluster { .. } | Self::WhichCluster { .. } => {
                vec!["name one of the [cluster.NAME] tables".into()]
            }
            Self::NoService { .. } | Self::WhichService { .. } => {
                vec!["name one of the [service.NAME] tables".into()]
            }
            Self::Secret { .. } => {
                vec!["make the variable or file readable for the user that runs rollforward".into()]
            }
        }
    }
}

/// Turns serde's sentence about an unknown field into our own; everything else stays as it is, with
/// the place in the file.
pub(super) fn explain_unknown(path: &Path, key: &str, message: &str, whole: &str) -> Error {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((unknown, known)) if message.starts_with("unknown field") => {
            let nearest = known
                .iter()
                .map(|known| (strsim::damerau_levenshtein(unknown, known), *known))
                .min()
                .filter(|(distance, known)| {
                    *distance <= unknown.len().div_ceil(2) + 1 || known.starts_with(unknown)
                })
                .map(|(_, known)| known.to_owned());
            let table = key.strip_suffix(unknown).unwrap_or(key).trim_end_matches('.');
            Error::UnknownKey {
                path: path.into(),
                table: if table.is_empty() { "the top level".into() } else { table.into() },
                key: (*unknown).to_owned(),
                nearest,
                known: known.iter().map(|known| (*known).to_owned()).collect(),
            }
        }
        _ => Error::Invalid { path: path.into(), key: key.into(), reason: whole.trim().into() },
    }
}
