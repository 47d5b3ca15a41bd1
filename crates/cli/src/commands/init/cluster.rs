//! Registering a cluster: its lineage, the right of this host to write, its archiving.

use anyhow::Context as _;
use jiff::Timestamp;
use pgclient::ServerInfo;
use repository::lineage::{self, State};
use repository::{Kind, Repository};
use serde::Serialize;

use super::super::Context;
use super::Arguments;
use crate::config::{ClusterConfig, Config};
use crate::wiring::{self, Purpose};

/// One cluster after `init`.
#[derive(Debug, Serialize)]
pub(super) struct Made {
    pub(super) name: String,
    pub(super) system_identifier: String,
    pub(super) lineage: String,
    pub(super) archive_command: String,
    /// What the operator still has to do.
    pub(super) steps: Vec<String>,
}

/// Makes sure that the cluster has a lineage and that this host may write into it.
pub(super) async fn ensure(
    context: &Context<'_>,
    arguments: &Arguments,
    config: &Config,
    cluster: &ClusterConfig,
    now: Timestamp,
) -> anyhow::Result<Made> {
    let client = wiring::connect(cluster).await?;
    let server = client.server().await?;
    let repository =
        wiring::open_set(config, cluster, None, Purpose::Write, context.printer).await?;
    let token = wiring::token_path(config, &cluster.name);
    let bound = match lineage::of_cluster(&repository, &cluster.name).await {
        Ok(lineage) => Some(lineage),
        Err(repository::Error::NoCluster { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let lineage = match bound {
        Some(lineage) if lineage.system_id == server.system_id => lineage,
        Some(lineage) => {
            return Err(crate::failure::Error::Refused {
                what: format!(
                    "cluster '{}' is registered with system identifier {}, the server at '{}' has {}",
                    cluster.name, lineage.system_id, client.address(), server.system_id
                ),
                hint: "another cluster needs another name; a cluster that was created anew does, too".into(),
            }
            .into());
        }
        None => lineage::register(&repository, &cluster.name, server.system_id, now).await?,
    };
    if arguments.take_over {
        take_over(config, cluster, &repository, &lineage, &server, now).await?;
    } else if !is_registered(&repository, &lineage, &token).await? {
        register_writer(config, cluster, &repository, &lineage, &server, now).await?;
    }
    keep_config(&repository, config).await?;
    let archive_command = wiring::archive_command(config, &cluster.name, false)?;
    let steps = archiving(arguments, &client, &server, &archive_command).await?;
    Ok(Made {
        name: cluster.name.clone(),
        system_identifier: server.system_id.to_string(),
        lineage: lineage.id.to_string(),
        archive_command,
        steps,
    })
}

/// Whether this host has a token of this lineage and the lineage has a writer: an `init` that was
/// interrupted between the two has to go on.
async fn is_registered(
    repository: &Repository,
    lineage: &lineage::Lineage,
    token: &std::path::Path,
) -> anyhow::Result<bool> {
    let credential = token.exists().then(|| archive::Credential::read(token)).transpose()?;
    let ours = credential.is_some_and(|credential| credential.lineage == lineage.id);
    Ok(ours && lineage::state(repository, lineage.id).await?.is_some())
}

/// The first writer of a lineage is its production. A second one needs `adopt`: it would be a
/// clone.
async fn register_writer(
    config: &Config,
    cluster: &ClusterConfig,
    repository: &Repository,
    lineage: &lineage::Lineage,
    server: &ServerInfo,
    now: Timestamp,
) -> anyhow::Result<()> {
    if let Some(state) = lineage::state(repository, lineage.id).await? {
        let writer = lineage::read_writer(repository, lineage.id, state.writer).await?;
        return Err(crate::failure::Error::Refused {
            what: format!(
                "cluster '{}' is written by host '{}', directory '{}'; this host has no token for it",
                cluster.name, writer.host, writer.data_directory
            ),
            hint: "a restored cluster becomes production with `rollforward adopt`; if this is the same production after a lost token, a new host name or a moved directory: `rollforward init --take-over`".into(),
        }
        .into());
    }
    let directory = std::fs::canonicalize(&cluster.data_directory)
        .unwrap_or_else(|_| cluster.data_directory.clone());
    let writer = enroll(config, cluster, repository, lineage.id, &directory, now).await?;
    let state = State {
        number: 1,
        timeline: server.timeline,
        writer,
        reason: "registered".into(),
        since: now,
    };
    lineage::advance(repository, lineage.id, &state).await?;
    Ok(())
}

/// The same production under another host name, directory or token. A copy of it must not get here:
/// it has to be the running primary, on the lineage's current timeline.
async fn take_over(
    config: &Config,
    cluster: &ClusterConfig,
    repository: &Repository,
    lineage: &lineage::Lineage,
    server: &ServerInfo,
    now: Timestamp,
) -> anyhow::Result<()> {
    let current = lineage::state(repository, lineage.id).await?;
    let timeline = current.as_ref().map_or(server.timeline, |state| state.timeline);
    if server.in_recovery || server.timeline < timeline {
        return Err(crate::failure::Error::Refused {
            what: format!(
                "the server is on timeline {}{}, the lineage is on {timeline}",
                server.timeline,
                if server.in_recovery { ", in recovery" } else { "" },
            ),
            hint: "only the production itself may take over; a restored cluster is adopted".into(),
        }
        .into());
    }
    let directory = std::fs::canonicalize(&cluster.data_directory)
        .unwrap_or_else(|_| cluster.data_directory.clone());
    let writer = enroll(config, cluster, repository, lineage.id, &directory, now).await?;
    let state = State {
        number: current.map_or(1, |state| state.number + 1),
        timeline: server.timeline,
        writer,
        reason: "taken over".into(),
        since: now,
    };
    Ok(lineage::advance(repository, lineage.id, &state).await?)
}

/// Gives this host a token for a data directory, and registers its digest.
pub(crate) async fn enroll(
    config: &Config,
    cluster: &ClusterConfig,
    repository: &Repository,
    lineage: repository::LineageId,
    directory: &std::path::Path,
    now: Timestamp,
) -> anyhow::Result<stdx::Id> {
    let token = repository::seal::Secret::random();
    let writer = lineage::add_writer(
        repository,
        lineage,
        &wiring::host_name(),
        &directory.display().to_string(),
        token.expose(),
        now,
    )
    .await?;
    let path = wiring::token_path(config, &cluster.name);
    if let Some(folder) = path.parent() {
        stdx::durable::create_dir_all(folder)
            .with_context(|| format!("create folder '{}'", folder.display()))?;
        wiring::hand_to_owner_of(directory, &config.state_directory)?;
        wiring::hand_to_owner_of(directory, folder)?;
    }
    let file = path.clone();
    archive::credential::Credential { lineage, writer: writer.id, token, file }.write()?;
    wiring::hand_to_owner_of(directory, &path)?;
    Ok(writer.id)
}

/// Keeps the configuration in the repository, sealed: `init --from-repository` fetches it.
pub(crate) async fn keep_config(repository: &Repository, config: &Config) -> anyhow::Result<()> {
    use repository::names;
    let last = repository.last(names::CONFIGS).await?;
    let number = match &last {
        Some(key) => {
            let frames = repository.read(Kind::Config, key).await?;
            if frames.first().is_some_and(|text| text == config.text.as_bytes()) {
                return Ok(());
            }
            let digits = key.as_str().strip_prefix(names::CONFIGS).unwrap_or_default();
            u32::from_str_radix(digits, 16).unwrap_or(0) + 1
        }
        None => 1,
    };
    repository.create(Kind::Config, &names::config(number), &[config.text.as_bytes()]).await?;
    Ok(())
}

/// The same with every backup, unless what is kept there knows clusters or services that this
/// configuration does not: hosts that share a repository must not take each other's away.
///
/// # Errors
/// Which ones; or the repository.
pub(crate) async fn keep_config_of_backup(
    repository: &Repository,
    config: &Config,
) -> anyhow::Result<()> {
    let Some(key) = repository.last(repository::names::CONFIGS).await? else {
        return keep_config(repository, config).await;
    };
    let frames = repository.read(Kind::Config, &key).await?;
    let text = String::from_utf8_lossy(frames.first().map(Vec::as_slice).unwrap_or_default());
    if let Ok(kept) = Config::parse(&config.path, text.into_owned()) {
        let clusters = kept.clusters.keys().filter(|name| !config.clusters.contains_key(*name));
        let services = kept.services.keys().filter(|name| !config.services.contains_key(*name));
        let others: Vec<&str> = clusters.chain(services).map(String::as_str).collect();
        if !others.is_empty() {
            anyhow::bail!("it keeps one that knows {}, and this one does not", others.join(", "));
        }
    }
    keep_config(repository, config).await
}

/// What has to be set for archiving; set at once with `--enable-archiving`.
async fn archiving(
    arguments: &Arguments,
    client: &pgclient::Client,
    server: &ServerInfo,
    command: &str,
) -> anyhow::Result<Vec<String>> {
    let mut wanted = Vec::new();
    if server.wal_level == "minimal" {
        wanted.push(("wal_level", "replica"));
    }
    if server.archive_mode == "off" {
        wanted.push(("archive_mode", "on"));
    }
    let restart = !wanted.is_empty();
    if server.archive_command != command {
        wanted.push(("archive_command", command));
    }
    if !server.archive_library.is_empty() {
        wanted.push(("archive_library", ""));
    }
    let mut steps = Vec::new();
    for (name, value) in &wanted {
        if arguments.enable_archiving {
            client.alter_system(name, value).await?;
        } else {
            steps.push(format!("ALTER SYSTEM SET {name} = '{}'", value.replace('\'', "''")));
        }
    }
    if arguments.enable_archiving {
        client.reload().await?;
    } else if !steps.is_empty() {
        steps.push("SELECT pg_reload_conf()".into());
    }
    if restart {
        steps.push("restart the server: archive_mode and wal_level take effect only then".into());
    }
    Ok(steps)
}
