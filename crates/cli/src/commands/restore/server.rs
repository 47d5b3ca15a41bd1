//! Starting a restored cluster and waiting until it is where it shall be.

use std::path::PathBuf;
use std::time::Duration;

use pg::MajorVersion;
use pgclient::ConnectOptions;
use pgclient::local::{LocalServer, Programs, Status};
use repository::root::Root;
use serde::Serialize;

use super::super::Context;
use super::{Action, Report, settings};
use crate::config::ClusterConfig;

/// A server that makes no progress for this long will not come by itself.
const QUIET_MAX: Duration = Duration::from_secs(300);

/// A server that was started.
#[derive(Debug, Serialize)]
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) state: String,
}

pub(super) async fn start(
    context: &Context<'_>,
    cluster: &ClusterConfig,
    report: &Report,
    bin: Option<&PathBuf>,
    root: &Root,
    action: Action,
) -> anyhow::Result<Started> {
    let major = MajorVersion::from_server_version_num(root.summary.server_version)?;
    let programs = match bin {
        Some(bin) => Programs::at(bin).await?,
        None => Programs::find(major, &[]).await?,
    };
    let log = report.directory.with_extension("log");
    let server = LocalServer::new(programs, &report.directory, &log)?;
    context.printer.note(&format!("starting the server; its log is '{}'", log.display()));
    server.start(&[], QUIET_MAX).await?;
    let user = ConnectOptions::parse(&cluster.connection)?.user().to_owned();
    let options = ConnectOptions::local(&report.socket_directory, report.port, &user);
    let awaited = settings::awaited(action.into());
    let state = server.wait_until(awaited, &options, QUIET_MAX).await?;
    let Status::Running(postmaster) = server.status()? else {
        anyhow::bail!("the server ended; see '{}'", log.display());
    };
    let state = match (state.in_recovery, state.replayed) {
        (true, Some(lsn)) => format!("stands at {lsn} in recovery"),
        (true, None) => "in recovery".to_owned(),
        (false, _) => "promoted, takes writes".to_owned(),
    };
    Ok(Started { pid: postmaster.pid, state })
}
