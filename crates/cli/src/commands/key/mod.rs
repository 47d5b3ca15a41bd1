//! `rollforward key`: the ways into a repository.

mod add;
mod list;
pub(crate) mod prove;
mod remove;
mod rotate;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use repository::recovery_code::RecoveryCode;
use repository::unlock::Unlock;

use super::Context;
use crate::config::{ClusterConfig, Config, RepositoryConfig};

/// The verbs of `key`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Add a way in: a key file, a passphrase or a recovery code
    Add(add::Arguments),
    /// Begin a new data key; nothing that is stored is rewritten
    Rotate(rotate::Arguments),
    /// List the ways in
    List(list::Arguments),
    /// Remove a way in
    Remove(remove::Arguments),
    /// Open a repository with nothing but its address and one secret, as after a total loss
    Prove(prove::Arguments),
}

pub(crate) fn run(context: &Context<'_>, command: &Command) -> anyhow::Result<u8> {
    match command {
        Command::Add(arguments) => add::run(context, arguments),
        Command::Rotate(arguments) => rotate::run(context, arguments),
        Command::List(arguments) => list::run(context, arguments),
        Command::Remove(arguments) => remove::run(context, arguments),
        Command::Prove(arguments) => prove::run(context, arguments),
    }
}

/// A secret named on the command line; never the secret itself.
pub(crate) enum Given {
    /// A key file at this path.
    KeyFile(PathBuf),
    /// A recovery code, read from a file or typed.
    Code(Unlock),
}

impl Given {
    pub(crate) fn into_code(self) -> Option<Unlock> {
        match self {
            Self::KeyFile(_) => None,
            Self::Code(unlock) => Some(unlock),
        }
    }
}

/// What was named: a key file, a recovery code's file, or neither: then the code is asked for.
pub(crate) fn given_keys(
    key_file: Option<&Path>,
    recovery_code_file: Option<&Path>,
) -> anyhow::Result<Vec<Given>> {
    if let Some(path) = key_file {
        return Ok(vec![Given::KeyFile(std::path::absolute(path)?)]);
    }
    let text = match recovery_code_file {
        Some(path) => std::fs::read_to_string(path)
            .map(zeroize::Zeroizing::new)
            .with_context(|| format!("read the recovery code from '{}'", path.display()))?,
        None => crate::secrets::ask_hidden("recovery code: ")?,
    };
    let code = RecoveryCode::parse(&text)?;
    Ok(vec![Given::Code(code.unlock())])
}

/// The repositories of a cluster, as configured.
pub(super) fn tables<'a>(config: &'a Config, cluster: &ClusterConfig) -> Vec<&'a RepositoryConfig> {
    cluster.repositories.iter().filter_map(|name| config.repositories.get(name)).collect()
}
