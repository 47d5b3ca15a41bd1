//! Repositories, what opens them, and where secrets are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{KeyProblem, wire};

/// One repository.
#[derive(Clone, Debug)]
pub(crate) struct RepositoryConfig {
    /// Its name.
    pub(crate) name: String,
    /// Its address.
    pub(crate) url: String,
    /// The slots it should have, in the order they are tried.
    pub(crate) keys: Vec<KeySource>,
    /// Declared to have one writer only.
    pub(crate) single_writer: bool,
    /// Credentials of the store, by option name.
    pub(crate) credentials: BTreeMap<&'static str, SecretRef>,
}

/// What opens a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// A key file at this path.
    File(PathBuf),
    /// A passphrase: asked for, or read from where this says.
    Passphrase(Option<SecretRef>),
    /// The recovery code: a slot that a person holds.
    RecoveryCode,
}

/// Where a secret is; never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretRef {
    /// An environment variable.
    Env(String),
    /// A file; trailing line ends are not part of the secret.
    File(PathBuf),
}

impl SecretRef {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("env", name) if !name.is_empty() => Some(Self::Env(name.into())),
            ("file", path) if path.starts_with('/') => Some(Self::File(path.into())),
            _ => None,
        }
    }
}

impl std::fmt::Display for SecretRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

/// The repository of a table.
///
/// # Errors
/// The key that holds something else, and why.
pub(super) fn repository(
    name: &str,
    table: wire::RepositoryTable,
) -> Result<RepositoryConfig, KeyProblem> {
    let keys: Result<Vec<KeySource>, String> =
        table.keys.iter().map(|text| key_source(text)).collect();
    let mut credentials = BTreeMap::new();
    for (option, value) in [
        ("access_key_id", table.access_key_id),
        ("secret_access_key", table.secret_access_key),
        ("session_token", table.session_token),
    ] {
        if let Some(text) = value {
            // The value is not shown: somebody may have written the secret itself.
            let reference = SecretRef::parse(&text).ok_or((
                option,
                "expected a reference, 'env:NAME' or 'file:/path', never the secret itself".into(),
            ))?;
            credentials.insert(option, reference);
        }
    }
    Ok(RepositoryConfig {
        name: name.into(),
        url: table.url,
        keys: keys.map_err(|why| ("keys", why))?,
        single_writer: table.single_writer,
        credentials,
    })
}

fn key_source(text: &str) -> Result<KeySource, String> {
    let source = match text.split_once(':') {
        None if text == "recovery-code" => Some(KeySource::RecoveryCode),
        None if text == "passphrase" => Some(KeySource::Passphrase(None)),
        Some(("file", path)) if path.starts_with('/') => Some(KeySource::File(path.into())),
        Some(("passphrase", reference)) => {
            SecretRef::parse(reference).map(|reference| KeySource::Passphrase(Some(reference)))
        }
        _ => None,
    };
    source.ok_or_else(|| {
        "expected 'file:/path', 'recovery-code', 'passphrase', 'passphrase:env:NAME' or 'passphrase:file:/path'"
            .into()
    })
}
