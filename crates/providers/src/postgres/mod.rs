//! PostgreSQL on this host: diagnosed, fenced, salvaged, restored beside, proved, adopted.

pub(crate) mod beside;
mod commands;
pub(crate) mod diagnose;
mod fence;
pub(crate) mod managers;
mod network;
mod pages;
mod prove;
pub(crate) mod removal;
mod restore;
mod secrets;
mod sessions;
pub(crate) mod sql;

use std::path::{Path, PathBuf};
use std::time::Duration;

use pg::{ControlFile, MajorVersion};
use pgclient::local::{LocalServer, Postmaster, Programs, Status};
use pgclient::{Client, ConnectOptions};
use recovery::effect::{Effect, Failure, StepContext};
use recovery::plan::{Step, StepKind};

use crate::OwnProgram;

pub(crate) use prove::target_time;
pub(crate) use secrets::ResolveSecrets;

/// Longest wait for an answer to a question of ours.
pub(crate) const ASK_DEADLINE: Duration = Duration::from_secs(30);

/// A server that makes no progress for this long is given up.
pub(crate) const QUIET_MAX: Duration = Duration::from_secs(120);

/// Everything that is done with PostgreSQL on this host.
#[derive(Debug)]
pub(crate) struct Postgres {
    diagnose: diagnose::DiagnoseStep,
    fence: fence::Fence,
    commands: commands::Commands,
    restore: restore::RestoreBeside,
    dump: beside::RestoreDump,
    prove: prove::Prove,
    sql: sql::RunSql,
    sessions: sessions::Sessions,
}

impl Postgres {
    pub(crate) fn new(own: OwnProgram) -> Self {
        Self {
            diagnose: diagnose::DiagnoseStep::default(),
            fence: fence::Fence,
            commands: commands::Commands::new(own.clone()),
            dump: beside::RestoreDump::new(own.clone()),
            restore: restore::RestoreBeside::new(own),
            prove: prove::Prove::default(),
            sql: sql::RunSql::default(),
            sessions: sessions::Sessions::default(),
        }
    }

    pub(crate) fn of(&self, step: &Step) -> Option<&dyn Effect> {
        // Managed instances are somebody else's.
        if !step.parameters.contains_key("cluster") {
            return None;
        }
        Some(match step.kind {
            StepKind::Diagnose => &self.diagnose,
            StepKind::Fence => &self.fence,
            StepKind::FenceDatabase => &beside::FenceDatabase,
            StepKind::RestoreDump => &self.dump,
            StepKind::RenameDatabase => &beside::RenameDatabase,
            StepKind::Salvage
            | StepKind::KeepOld
            | StepKind::ResolveTarget
            | StepKind::Adopt
            | StepKind::Backup => &self.commands,
            StepKind::RestoreCluster => &self.restore,
            StepKind::OpenNetwork => &network::OpenNetwork,
            StepKind::Prove => &self.prove,
            StepKind::RunSql => &self.sql,
            StepKind::ProveConnection | StepKind::ProveApplication => &self.sessions,
            _ => return None,
        })
    }

    /// Transactions that wrote, since the data were proved.
    pub(crate) async fn count_foreign_writes(&self, context: &StepContext) -> Result<u64, Failure> {
        sessions::count_writes(context).await
    }
}

/// A failure of a session.
pub(crate) fn sql_failure(error: &pgclient::Error) -> Failure {
    match error {
        pgclient::Error::Sql { .. } => Failure::terminal("RF1105", error.to_string()),
        _ => Failure::retry("RF1105", error.to_string()),
    }
}

/// What a control file says.
pub(crate) fn control(directory: &Path) -> Result<ControlFile, Failure> {
    let path = directory.join(pg::control::CONTROL_FILE_PATH);
    let bytes = std::fs::read(&path)
        .map_err(|error| Failure::terminal("RF1103", format!("'{}': {error}", path.display())))?;
    ControlFile::decode(&bytes)
        .map_err(|error| Failure::terminal("RF1103", format!("'{}': {error}", path.display())))
}

/// Compares what the plan pinned with what is there, before anything is touched.
pub(crate) fn same_identity(context: &StepContext) -> Result<(), Failure> {
    let Some(expected) = context.step.identity.get("system_id") else { return Ok(()) };
    let directory = PathBuf::from(context.parameter("data_directory")?);
    let seen = control(&directory)?.system_id.to_string();
    match *expected == seen {
        true => Ok(()),
        false => Err(Failure::terminal(
            "RF1103",
            format!(
                "expected system identifier {expected} in '{}', seen {seen}",
                directory.display()
            ),
        )
        .hint("this is not the cluster that the plan was made for: plan again")),
    }
}

/// The major version that a data directory says it has.
fn major_of(directory: &Path) -> Result<MajorVersion, Failure> {
    let path = directory.join("PG_VERSION");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Failure::terminal("RF1103", format!("'{}': {error}", path.display())))?;
    let number = text.trim().parse::<u32>().ok();
    number
        .and_then(|number| MajorVersion::from_server_version_num(number * 10_000).ok())
        .ok_or_else(|| {
            Failure::terminal("RF1103", format!("'{}' says '{}'", path.display(), text.trim()))
        })
}

/// The server of a data directory of this host.
pub(crate) async fn server(
    context: &StepContext,
    directory: &Path,
) -> Result<LocalServer, Failure> {
    let failed = |error: pgclient::Error| Failure::terminal("RF1105", error.to_string());
    let programs = match context.parameters.get("bin_directory") {
        Some(bin) => Programs::at(Path::new(bin)).await,
        None => Programs::find(major_of(directory)?, &[]).await,
    };
    let programs = programs.map_err(failed)?;
    LocalServer::new(programs, directory, &directory.with_extension("log")).map_err(failed)
}

/// The running server of a directory, if one runs.
pub(crate) fn postmaster(directory: &Path) -> Result<Option<Postmaster>, Failure> {
    match pgclient::local::status(directory) {
        Ok(Status::Running(postmaster)) => Ok(Some(postmaster)),
        Ok(_) => Ok(None),
        Err(error) => Err(Failure::ambiguous("RF1105", error.to_string())),
    }
}

/// The user that the cluster's connection names.
fn user(context: &StepContext) -> Result<String, Failure> {
    let options = ConnectOptions::parse(context.parameter("connection")?)
        .map_err(|error| Failure::terminal("RF1105", error.to_string()))?;
    Ok(options.user().to_owned())
}

/// The restored cluster's directory, as the restore said.
pub(crate) fn restored_directory(context: &StepContext) -> Result<PathBuf, Failure> {
    Ok(PathBuf::from(context.fact("directory")?))
}

/// A session of what was restored, in the service's database.
pub(crate) async fn restored_session(context: &StepContext) -> Result<Client, Failure> {
    if beside::restored_oid(context).is_some() {
        return beside::restored_session(context).await;
    }
    let directory = restored_directory(context)?;
    let found = postmaster(&directory)?.ok_or_else(|| {
        Failure::retry("RF1105", format!("no server runs in '{}'", directory.display()))
            .hint(format!("its log: '{}'", directory.with_extension("log").display()))
    })?;
    let options = found.connect_options(&user(context)?).ok_or_else(|| {
        Failure::retry("RF1105", format!("the server of '{}' says no address", directory.display()))
    })?;
    let database = context.parameters.get("database").map_or("postgres", String::as_str);
    let options = options.with_database(database).with_application_name("rollforward");
    let client = Client::connect(&options).await.map_err(|error| sql_failure(&error))?;
    client.unlimited().await.map_err(|error| sql_failure(&error))
}

/// The single value of a query.
pub(crate) async fn value(client: &Client, sql: &str) -> Result<Option<String>, Failure> {
    let rows = client.query_text(sql, ASK_DEADLINE).await.map_err(|error| sql_failure(&error))?;
    Ok(rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
}
