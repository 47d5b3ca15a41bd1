//! What must be true before a backup is worth beginning.

use std::path::Path;

use pg::{ControlFile, relation_file};
use pgclient::{Client, ServerInfo};
use repository::{Repository, lineage};

use crate::control_file;
use crate::error::{Error, unreadable};
use crate::list::Geometry;
use crate::options::Options;

/// What was found out on the way.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) client: Client,
    pub(crate) server: ServerInfo,
    pub(crate) control: ControlFile,
    pub(crate) geometry: Geometry,
    /// The writer in force, if the lineage has one.
    pub(crate) state: Option<lineage::State>,
}

/// Connects and refuses what would not give a backup of this cluster.
///
/// # Errors
/// See [`Error`].
pub(crate) async fn check(repository: &Repository, options: &Options) -> Result<Ready, Error> {
    let client = Client::connect(&options.connection).await?.unlimited().await?;
    let server = client.server().await?;
    if server.in_recovery {
        return Err(Error::InRecovery { cluster: options.cluster.clone() });
    }
    let state = check_lineage(repository, options, &server).await?;
    check_settings(options, &server)?;
    let (_, control) = control_file::read(&options.data_directory).await?;
    check_directory(options, &client, &server, &control)?;
    let geometry = Geometry {
        block_size: control.block_size.get(),
        segment_blocks: control.relation_segment_blocks,
        version_directory: relation_file::version_directory(control.major, control.catalog_version),
    };
    check_tablespaces(options, &client, &geometry).await?;
    Ok(Ready { client, server, control, geometry, state })
}

/// The cluster must be the one whose history the lineage is, and its production.
async fn check_lineage(
    repository: &Repository,
    options: &Options,
    server: &ServerInfo,
) -> Result<Option<lineage::State>, Error> {
    let record = lineage::read(repository, options.lineage).await?;
    let cluster = options.cluster.clone();
    if record.system_id != server.system_id {
        let (expected, seen) = (record.system_id, server.system_id);
        return Err(Error::OtherCluster { cluster, expected, seen });
    }
    let Some(state) = lineage::state(repository, options.lineage).await? else { return Ok(None) };
    let (ours, current) = (server.timeline, state.timeline);
    if ours < current {
        let reason = format!("production is on timeline {current}, this server on {ours}");
        return Err(Error::Replaced { cluster, reason });
    }
    if let Some(writer) = options.writer
        && writer != state.writer
    {
        let place = match lineage::read_writer(repository, options.lineage, state.writer).await {
            Ok(writer) => format!("'{}' on host '{}'", writer.data_directory, writer.host),
            Err(_) => format!("of writer {}", state.writer),
        };
        let since = state.since.strftime("%Y-%m-%dT%H:%M:%SZ");
        let reason = format!("production is {place} since {since}");
        return Err(Error::Replaced { cluster, reason });
    }
    // A restored cluster promotes to a timeline that it reserved; until it is adopted it is a copy.
    if ours > current && lineage::reservation(repository, options.lineage, ours).await?.is_some() {
        let reason = format!(
            "it was restored to timeline {ours} and not adopted; production is on {current}"
        );
        return Err(Error::Replaced { cluster, reason });
    }
    Ok(Some(state))
}

fn check_settings(options: &Options, server: &ServerInfo) -> Result<(), Error> {
    let refuse = |name, expected, seen: &str| {
        Err(Error::Setting {
            cluster: options.cluster.clone(),
            name,
            expected,
            seen: seen.to_owned(),
        })
    };
    let no_command = ["", "(disabled)"].contains(&server.archive_command.as_str());
    if !server.full_page_writes {
        return refuse(
            "full_page_writes",
            "'on': pages torn by a copy are healed from full images",
            "off",
        );
    }
    if server.archive_mode == "off" {
        return refuse("archive_mode", "'on': a backup needs its WAL in the repository", "off");
    }
    if no_command && server.archive_library.is_empty() {
        return refuse(
            "archive_command",
            "a command: a backup needs its WAL in the repository",
            "",
        );
    }
    Ok(())
}

/// A clone has the same system identifier, so the directory's own server is asked for: its lock
/// file names the data directory and port as the server itself sees them.
fn check_directory(
    options: &Options,
    client: &Client,
    server: &ServerInfo,
    control: &ControlFile,
) -> Result<(), Error> {
    let path = &options.data_directory;
    let refuse = |reason: String| {
        let address = client.address().to_owned();
        Err(Error::OtherDirectory { path: path.clone(), address, reason })
    };
    if control.system_id != server.system_id {
        return refuse(format!(
            "expected system identifier {}, seen {}",
            server.system_id, control.system_id
        ));
    }
    let lock_path = path.join("postmaster.pid");
    let lock = match std::fs::read_to_string(&lock_path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return refuse("no server runs on it: there is no 'postmaster.pid'".into());
        }
        Err(error) => return Err(unreadable(&lock_path, &error)),
    };
    let mut lines = lock.lines().skip(1);
    let directory = lines.next().unwrap_or_default();
    let port = lines.nth(1).unwrap_or_default().trim();
    if Path::new(directory) != server.data_directory {
        return refuse(format!(
            "the server works in '{}', this directory's server in '{directory}'",
            server.data_directory.display()
        ));
    }
    if port != server.port.to_string() {
        return refuse(format!("expected port {} in 'postmaster.pid', seen '{port}'", server.port));
    }
    Ok(())
}

async fn check_tablespaces(
    options: &Options,
    client: &Client,
    geometry: &Geometry,
) -> Result<(), Error> {
    for tablespace in client.tablespaces().await? {
        let Some(location) = tablespace.location else { continue };
        let link = options.data_directory.join("pg_tblspc").join(tablespace.oid.to_string());
        if let Err(error) = std::fs::read_dir(link.join(&geometry.version_directory)) {
            return Err(Error::Tablespace {
                name: tablespace.name,
                path: location,
                reason: error.to_string(),
            });
        }
    }
    Ok(())
}
