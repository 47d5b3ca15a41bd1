//! The settings of a restored cluster, and the timeline it will promote to.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pg::TimelineId;
use pg::recovery::{RecoveryTarget, TargetAction};
use repository::Repository;
use repository::lineage::{self, Lineage, Reservation};
use repository::target::{Resolved, Stop};
use restore::{Destiny, Quarantine};

use super::{Action, Arguments, now};
use crate::commands::wal::ticket::TICKET_FILE;
use crate::config::{ClusterConfig, Config};
use crate::failure::Error;
use crate::wiring::{self, shell_word};

/// The longest path of a socket, less the longest name of one in it.
/// PostgreSQL: `UNIXSOCK_PATH_BUFLEN` is 108 bytes; `.s.PGSQL.65535.lock` has 20.
const SOCKET_DIRECTORY_LEN_MAX: usize = 107 - 20;

/// How many ids are tried: each is taken by a restore of the same cluster that is under way.
const RESERVATIONS_MAX: u32 = 1000;

/// Client authentication in quarantine. The socket lies in a directory that only the cluster's
/// owner may enter, so whoever gets there is the owner; over loopback a password is asked for.
const QUARANTINE_HBA: &str = "# Quarantine: written by rollforward, in force until the cluster is adopted.\n\
local all all trust\n\
host all all 127.0.0.1/32 scram-sha-256\n\
host all all ::1/128 scram-sha-256\n";

/// `OID=DIR` or `OLD_PATH=DIR`.
pub(super) fn parse_tablespace(text: &str) -> Result<(String, PathBuf), Error> {
    match text.rsplit_once('=') {
        Some((which, directory)) if !which.is_empty() && directory.starts_with('/') => {
            Ok((which.into(), directory.into()))
        }
        _ => Err(Error::Usage(format!(
            "expected OID=/directory or /old/path=/directory, seen '{text}'"
        ))),
    }
}

/// Takes the next free timeline id, so that two restores of one cluster never promote to the same.
pub(super) async fn reserve(
    repository: &Repository,
    lineage: &Lineage,
    resolved: &Resolved,
    directory: &Path,
    restore: stdx::Id,
) -> anyhow::Result<TimelineId> {
    let taken = lineage::timelines_taken(repository, lineage.id).await?;
    let highest = taken.last().copied().unwrap_or(resolved.timeline).max(resolved.timeline);
    for id in highest.get() + 1..=highest.get() + RESERVATIONS_MAX {
        let reservation = Reservation {
            timeline: TimelineId::new(id),
            parent: resolved.timeline,
            owner: restore,
            place: format!("{}:{}", wiring::host_name(), directory.display()),
            taken: now(),
        };
        match lineage::reserve(repository, lineage.id, &reservation).await {
            Ok(()) => return Ok(reservation.timeline),
            Err(repository::Error::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::Failed {
        what: format!("no free timeline id after {highest} in {RESERVATIONS_MAX} tries"),
        hint: "another process takes them: look for restores of this cluster that repeat".into(),
    }
    .into())
}

/// How the restored cluster recovers and lives until it is adopted.
pub(super) fn quarantine(
    arguments: &Arguments,
    config: &Config,
    cluster: &ClusterConfig,
    resolved: &Resolved,
    directory: &Path,
) -> anyhow::Result<Quarantine> {
    let action = arguments.action.unwrap_or(Action::Promote);
    let destiny = if arguments.is_copy() {
        Destiny::Copy
    } else {
        Destiny::Production { hold_command: wiring::archive_command(config, &cluster.name, true)? }
    };
    let program = wiring::own_program()?;
    let command = format!(
        "{} wal get --ticket {} %f %p",
        shell_word(&program.display().to_string()),
        shell_word(&directory.join(TICKET_FILE).display().to_string())
    );
    let recovery =
        Quarantine::recovery(command, resolved.timeline, target(resolved, action), action.into());
    Ok(Quarantine {
        destiny,
        port: match arguments.port {
            Some(port) => port,
            None => free_port()?,
        },
        socket_directory: socket_directory(directory)?,
        recovery: Some(recovery),
        hba: QUARANTINE_HBA.into(),
    })
}

/// What PostgreSQL is told. To look at while paused, the last commit before the target serves
/// better than the target: the transaction that is stopped before may hold locks already.
fn target(resolved: &Resolved, action: Action) -> Option<RecoveryTarget> {
    match (resolved.stop, action) {
        // Without a target PostgreSQL promotes at the end of the WAL, whatever action is set.
        (Stop::EndOfWal, Action::Pause | Action::Shutdown) => resolved
            .last_commit
            .map(|commit| RecoveryTarget::Lsn { lsn: commit.lsn, inclusive: true })
            .or(Some(RecoveryTarget::Immediate)),
        (Stop::EndOfWal, Action::Promote) => None,
        (Stop::Consistency, _) => Some(RecoveryTarget::Immediate),
        (Stop::AtRecord { lsn, inclusive: false }, Action::Pause) => {
            let earlier = resolved.last_commit.filter(|commit| commit.lsn >= resolved.backup.stop);
            let (lsn, inclusive) = earlier.map_or((lsn, false), |commit| (commit.lsn, true));
            Some(RecoveryTarget::Lsn { lsn, inclusive })
        }
        (Stop::AtRecord { lsn, inclusive }, _) => Some(RecoveryTarget::Lsn { lsn, inclusive }),
    }
}

fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
    Ok(listener.local_addr().context("find a free port")?.port())
}

/// The data directory itself, which nobody else may enter; where its path is too long for a socket,
/// a folder of its own.
fn socket_directory(directory: &Path) -> anyhow::Result<PathBuf> {
    if directory.as_os_str().len() <= SOCKET_DIRECTORY_LEN_MAX {
        return Ok(directory.into());
    }
    let folder = std::env::temp_dir().join(format!("rollforward-{}", stdx::Id::random().short()));
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
        .create(&folder)
        .with_context(|| format!("create folder '{}' for the socket", folder.display()))?;
    let owner = directory.ancestors().skip(1).find(|folder| folder.exists()).unwrap_or(directory);
    wiring::hand_to_owner_of(owner, &folder)?;
    Ok(folder)
}

/// Whether PostgreSQL acts by itself at the target.
pub(super) fn awaited(action: TargetAction) -> pgclient::local::Awaited {
    match action {
        TargetAction::Promote => pgclient::local::Awaited::Promoted,
        TargetAction::Pause | TargetAction::Shutdown => pgclient::local::Awaited::Target,
    }
}
