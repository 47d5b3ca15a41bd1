//! The fence: the old server lets nobody in, is stopped, and would let nobody in if it were
//! started.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use pg::control::ClusterState;
use pgclient::local::{LocalServer, StopMode};
use pgclient::{Client, ConnectOptions};
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::Parameters;

use super::{ASK_DEADLINE, QUIET_MAX, control, postmaster, same_identity, server, value};

/// Client authentication of a fenced cluster. The first line says whose it is.
const FENCE_HBA: &str = "# Fenced by rollforward: this cluster was replaced, or is being recovered.\n\
# What stood here is in the file beside it that ends in '.before-fence'.\n\
local all all reject\nhost all all all reject\n\
local replication all reject\nhost replication all all reject\n";

/// How the file that was replaced is called.
const BEFORE: &str = "before-fence";

/// Where the path of a client authentication outside of the data directory is kept.
const NOTE: &str = "rollforward.fence";

#[derive(Debug)]
pub(crate) struct Fence;

fn directory(context: &StepContext) -> Result<PathBuf, Failure> {
    Ok(PathBuf::from(context.parameter("data_directory")?))
}

fn before(hba: &Path) -> PathBuf {
    let name = hba.file_name().map(|name| name.to_string_lossy().into_owned());
    hba.with_file_name(format!("{}.{BEFORE}", name.unwrap_or_default()))
}

fn io(path: &Path, error: &std::io::Error) -> Failure {
    Failure::retry("RF1104", format!("'{}': {error}", path.display()))
}

/// Where the cluster's client authentication stands: what a fence noted, what the server says, or
/// where PostgreSQL looks.
async fn hba_file(context: &StepContext, directory: &Path) -> Result<PathBuf, Failure> {
    if let Ok(noted) = std::fs::read_to_string(directory.join(NOTE)) {
        return Ok(PathBuf::from(noted.trim()));
    }
    if let Some(client) = session(context).await
        && let Ok(Some(path)) = value(&client, "SHOW hba_file").await
    {
        return Ok(path.into());
    }
    Ok(directory.join("pg_hba.conf"))
}

async fn session(context: &StepContext) -> Option<Client> {
    let options = ConnectOptions::parse(context.parameter("connection").ok()?).ok()?;
    Client::connect(&options.with_application_name("rollforward")).await.ok()
}

fn is_fence(hba: &Path) -> bool {
    std::fs::read_to_string(hba).is_ok_and(|text| text == FENCE_HBA)
}

/// Whether a cluster is fenced, as far as its own files say.
pub(super) fn is_fenced(directory: &Path) -> bool {
    let noted = std::fs::read_to_string(directory.join(NOTE)).ok();
    let hba = noted.map_or_else(|| directory.join("pg_hba.conf"), |text| text.trim().into());
    is_fence(&hba)
}

/// Puts the fence's file in place of the cluster's own, which is kept beside it.
fn put_up(directory: &Path, hba: &Path) -> Result<(), Failure> {
    if is_fence(hba) {
        return Ok(());
    }
    let note = directory.join(NOTE);
    stdx::durable::write_atomic(&note, hba.display().to_string().as_bytes(), 0o600)
        .map_err(|error| io(&note, &error))?;
    let kept = before(hba);
    let owner = std::fs::metadata(hba).map_err(|error| io(hba, &error))?;
    // Kept first: a fence that is cut here leaves the cluster as it was, and a copy.
    let text = std::fs::read(hba).map_err(|error| io(hba, &error))?;
    for (path, bytes) in [(&kept, text.as_slice()), (&hba.to_path_buf(), FENCE_HBA.as_bytes())] {
        stdx::durable::write_atomic(path, bytes, owner.mode() & 0o777)
            .map_err(|error| io(path, &error))?;
        // As root the file would be root's, and the server could not read it.
        let _ = chown(path, Some(owner.uid()), Some(owner.gid()));
    }
    Ok(())
}

async fn end_sessions(context: &StepContext, local: &LocalServer) {
    let client = session(context).await;
    let _ = local.reload();
    if let Some(client) = client {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
        let _ = client.query_text(sql, ASK_DEADLINE).await;
    }
}

async fn stop(local: &LocalServer) -> Result<(), Failure> {
    if local.stop(StopMode::Fast, QUIET_MAX).await.is_ok() {
        return Ok(());
    }
    // One that hangs must not hold the recovery up: its WAL is whole without a shutdown, too.
    local
        .stop(StopMode::Immediate, QUIET_MAX)
        .await
        .map_err(|error| Failure::ambiguous("RF1105", error.to_string()))
}

#[async_trait]
impl Effect for Fence {
    async fn original(&self, context: &StepContext) -> Result<Option<(String, String)>, Failure> {
        let runs = postmaster(&directory(context)?)?.is_some();
        Ok(Some(("fence".into(), if runs { "running" } else { "stopped" }.into())))
    }

    async fn precheck(&self, context: &StepContext) -> Result<(), Failure> {
        same_identity(context)
    }

    async fn probe(&self, context: &StepContext) -> Found {
        let look = async {
            let directory = directory(context)?;
            let hba = hba_file(context, &directory).await?;
            Ok::<bool, Failure>(is_fence(&hba) && postmaster(&directory)?.is_none())
        };
        match look.await {
            Ok(true) => Found::Done,
            Ok(false) => Found::Absent,
            Err(failure) => Found::Unknown(failure.message),
        }
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        let directory = directory(context)?;
        let hba = hba_file(context, &directory).await?;
        let local = server(context, &directory).await?;
        put_up(&directory, &hba)?;
        end_sessions(context, &local).await;
        stop(&local).await
    }

    async fn verify(&self, context: &StepContext) -> Result<Parameters, Failure> {
        let directory = directory(context)?;
        let processes = pgclient::local::processes_in(&directory);
        if !processes.is_empty() {
            return Err(Failure::ambiguous(
                "RF1105",
                format!("processes {processes:?} still work in '{}'", directory.display()),
            ));
        }
        let control = control(&directory)?;
        let how = match control.state {
            ClusterState::ShutDown => "shut down, its last checkpoint written",
            _ => "ended without a checkpoint",
        };
        Ok(Parameters::from([
            ("old_directory".into(), directory.display().to_string()),
            ("old_server".into(), how.to_owned()),
        ]))
    }

    async fn undo(&self, context: &StepContext) -> Result<String, Failure> {
        let Some(seen) = context.originals.get("fence") else {
            return Ok("it was never touched".into());
        };
        let directory = directory(context)?;
        let hba = hba_file(context, &directory).await?;
        let kept = before(&hba);
        if kept.exists() {
            stdx::durable::rename(&kept, &hba).map_err(|error| io(&hba, &error))?;
        } else if is_fence(&hba) {
            return Err(Failure::terminal(
                "RF1104",
                format!(
                    "'{}' is missing: what stood in '{}' is lost",
                    kept.display(),
                    hba.display()
                ),
            )
            .hint("write the cluster's client authentication by hand"));
        }
        let _ = stdx::durable::remove(&directory.join(NOTE));
        if seen != "running" {
            return Ok("its client authentication is back; it did not run before".into());
        }
        if postmaster(&directory)?.is_none() {
            let local = server(context, &directory).await?;
            local
                .start_as_before(QUIET_MAX)
                .await
                .map_err(|error| Failure::retry("RF1105", error.to_string()))?;
        }
        Ok("its client authentication is back, and it runs".into())
    }
}
