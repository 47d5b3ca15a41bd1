//! From the configuration to open repositories and connections.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use pgclient::{Client, ConnectOptions};
use repository::{Member, Repository};
use store::{OpenOptions, Secret, Store};

use crate::config::{ClusterConfig, Config, KeySource, RepositoryConfig};
use crate::members::{self, Answers, Needed};
use crate::output::Printer;
use crate::secrets;

/// Variables of the environment that stores take credentials from.
const STORE_VARIABLE_PREFIXES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// What a set is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A member that does not answer soon after another one is left out, with a warning.
    Read,
    /// The same, but each is waited for as long as its store is tried: what is decided then cannot
    /// be decided again.
    Restore,
    /// Every member must answer: what is written goes to all.
    Write,
}

/// Runs a command's future to its end.
pub(crate) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let result = runtime.block_on(future);
    // A store that does not answer must not keep the process: nothing of ours is under way here.
    runtime.shutdown_background();
    result
}

/// The store of a repository; `create` makes a local directory that is missing.
pub(crate) fn open_store(
    repository: &RepositoryConfig,
    create: bool,
) -> anyhow::Result<Arc<dyn Store>> {
    let mut credentials = BTreeMap::new();
    for (name, reference) in &repository.credentials {
        let value = secrets::resolve(reference, &format!("repository '{}'", repository.name))?;
        credentials.insert((*name).to_owned(), Secret::new(value.as_str()));
    }
    let options = OpenOptions { create, ..store_options(credentials) };
    store::open(&repository.url, &options)
        .with_context(|| format!("open repository '{}'", repository.name))
}

/// How stores are opened: with these credentials, else with the environment's.
pub(crate) fn store_options(secrets: BTreeMap<String, Secret>) -> OpenOptions {
    let environment = std::env::vars()
        .filter(|(name, _)| STORE_VARIABLE_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        .map(|(name, value)| (name, Secret::new(value)))
        .collect();
    OpenOptions { secrets, environment, ..OpenOptions::default() }
}

/// The set that protects a cluster, open. `only` names one member to use alone.
pub(crate) async fn open_set(
    config: &Config,
    cluster: &ClusterConfig,
    only: Option<&str>,
    purpose: Purpose,
    printer: &Printer,
) -> anyhow::Result<Repository> {
    let names: Vec<&String> = match only {
        Some(only) => {
            vec![cluster.repositories.iter().find(|name| *name == only).ok_or_else(|| {
                crate::failure::Error::Usage(format!(
                    "cluster '{}' is not in a repository '{only}'; known: {}",
                    cluster.name,
                    cluster.repositories.join(", ")
                ))
            })?]
        }
        None => cluster.repositories.iter().collect(),
    };
    let tables: Vec<&RepositoryConfig> =
        names.iter().filter_map(|name| config.repositories.get(*name)).collect();
    open_members(&tables, purpose, printer).await
}

/// A set of the repositories given.
pub(crate) async fn open_members(
    tables: &[&RepositoryConfig],
    purpose: Purpose,
    printer: &Printer,
) -> anyhow::Result<Repository> {
    let needed = match purpose {
        Purpose::Read => Needed::One,
        Purpose::Restore | Purpose::Write => Needed::All,
    };
    let Answers { there, away } = members::ask(tables, needed).await;
    for (name, error) in away {
        // What is written goes to all.
        if there.is_empty() || purpose == Purpose::Write {
            return Err(error);
        }
        printer.note(&format!("warning: repository '{name}' is left out: {error:#}"));
    }
    let keys: Vec<KeySource> = tables.iter().flat_map(|table| table.keys.clone()).collect();
    let owner =
        tables.first().map_or_else(String::new, |table| format!("repository '{}'", table.name));
    open_with(there, &keys, &owner).await
}

/// Opens members with the first of `keys` that can be had. Where keys are configured the set is
/// encrypted, also when none of them can be had without a person.
pub(crate) async fn open_with(
    members: Vec<Member>,
    keys: &[KeySource],
    owner: &str,
) -> anyhow::Result<Repository> {
    let unlock = secrets::unlock_of(keys, owner)?;
    if unlock.is_none() {
        repository::unlock::describe_set(&members, !keys.is_empty()).await?;
    }
    Ok(repository::unlock::open(members, unlock.as_ref()).await?)
}

/// A session of a cluster's server.
pub(crate) async fn connect(cluster: &ClusterConfig) -> anyhow::Result<Client> {
    let options = connect_options(cluster)?;
    Ok(Client::connect(&options).await?)
}

/// How to connect to a cluster's server.
pub(crate) fn connect_options(cluster: &ClusterConfig) -> anyhow::Result<ConnectOptions> {
    let options = ConnectOptions::parse(&cluster.connection)
        .with_context(|| format!("read cluster.{}.connection", cluster.name))?;
    Ok(options.with_application_name("rollforward"))
}

/// Where a cluster's writer token is kept: outside the data directory, so that a copy of the
/// directory is not a copy of the right to write.
pub(crate) fn token_path(config: &Config, cluster: &str) -> PathBuf {
    config.state_directory.join("writers").join(format!("{cluster}.token"))
}

/// Where immutable objects may be cached.
pub(crate) fn cache_directory(config: &Config) -> PathBuf {
    config.state_directory.join("cache")
}

/// The path of this program, for commands that PostgreSQL will run.
pub(crate) fn own_program() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe().context("find the path of this program")?;
    Ok(std::fs::canonicalize(&path).unwrap_or(path))
}

/// A word of a shell command. PostgreSQL replaces `%` itself, so one that is meant is doubled.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=:,@".contains(&byte);
    let word = if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    };
    word.replace('%', "%%")
}

/// The `archive_command` of a cluster.
pub(crate) fn archive_command(
    config: &Config,
    cluster: &str,
    hold: bool,
) -> anyhow::Result<String> {
    let program = own_program()?;
    Ok(format!(
        "{} wal push --config {} --cluster {}{} %p",
        shell_word(&program.display().to_string()),
        shell_word(&config.path.display().to_string()),
        shell_word(cluster),
        if hold { " --hold" } else { "" },
    ))
}

/// The host's name as writers are registered under.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Makes a file of ours readable for the one who runs the server: `archive_command` needs it. Only
/// root can, and only root has to.
pub(crate) fn hand_to_owner_of(data_directory: &Path, path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt;
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let Ok(metadata) = std::fs::metadata(data_directory) else { return Ok(()) };
    std::os::unix::fs::chown(path, Some(metadata.uid()), Some(metadata.gid()))
        .with_context(|| format!("hand '{}' to the owner of the data directory", path.display()))
}

#[cfg(test)]
mod tests {
    use super::shell_word;

    #[test]
    fn quotes_what_the_shell_or_postgresql_would_change() {
        for (text, expect) in [
            ("/usr/bin/rollforward", "/usr/bin/rollforward"),
            ("my cluster", "'my cluster'"),
            ("it's", r"'it'\''s'"),
            ("50%", "'50%%'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(text), expect);
        }
    }
}
