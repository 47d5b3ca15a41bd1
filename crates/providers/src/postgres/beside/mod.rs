//! A database beside another one, on the server that runs: the old one fenced, a dump restored, the
//! names swapped; and the old one removed, days later.

mod fence;
pub(crate) mod look;
pub(crate) mod removal;
mod restore;
mod swap;

use std::time::{Duration, Instant};

use pgclient::{Client, ConnectOptions, literal};
use recovery::effect::{Failure, StepContext};

use super::{control, same_identity, sql_failure, value};

pub(super) use fence::FenceDatabase;
pub(super) use restore::RestoreDump;
pub(super) use swap::RenameDatabase;

/// Renaming and dropping wait for others, and write a checkpoint.
const CHANGE_DEADLINE: Duration = Duration::from_secs(300);

/// How long sessions that were ended may take to go.
const PATIENCE: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(100);

/// What stands in facts for the database that was restored, and for the one that it replaces. A
/// name changes, an oid does not.
const RESTORED_OID: &str = "restored_oid";
const OLD_OID: &str = "old_database_oid";

/// A database as the server lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    oid: u32,
    name: String,
    takes_sessions: bool,
    comment: Option<String>,
}

/// A session of the server that runs, in a database that is neither of the two.
async fn server(context: &StepContext) -> Result<Client, Failure> {
    session(context.parameter("server")?, None).await
}

async fn session(server: &str, database: Option<&str>) -> Result<Client, Failure> {
    let options = ConnectOptions::parse(server)
        .map_err(|error| Failure::terminal("RF1105", error.to_string()))?
        .with_application_name("rollforward");
    let options = database.map_or_else(|| options.clone(), |name| options.with_database(name));
    let client = Client::connect(&options).await.map_err(|error| sql_failure(&error))?;
    // What limits applications must not end a step.
    client.unlimited().await.map_err(|error| sql_failure(&error))
}

/// A session of the database that was restored, whatever it is called by now.
pub(super) async fn restored_session(context: &StepContext) -> Result<Client, Failure> {
    let client = server(context).await?;
    let oid = oid_of(context.fact(RESTORED_OID)?)?;
    let found = by_oid(&client, oid).await?.ok_or_else(|| {
        Failure::terminal("RF1105", format!("the restored database (oid {oid}) is not there"))
    })?;
    session(context.parameter("server")?, Some(&found.name)).await
}

/// The folder of the restored database below the data directory, when a run restores one.
pub(super) fn restored_oid(context: &StepContext) -> Option<&str> {
    context.facts.get(RESTORED_OID).map(String::as_str)
}

fn oid_of(text: &str) -> Result<u32, Failure> {
    text.parse().map_err(|_| Failure::terminal("RF1105", format!("'{text}' is no oid")))
}

async fn listed(client: &Client, condition: &str) -> Result<Option<Listed>, Failure> {
    let sql = format!(
        "SELECT oid, datname, datallowconn, pg_catalog.shobj_description(oid, 'pg_database') \
         FROM pg_catalog.pg_database WHERE {condition}"
    );
    let rows =
        client.query_text(&sql, super::ASK_DEADLINE).await.map_err(|error| sql_failure(&error))?;
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
    let mut columns = row.into_iter();
    let mut next = || columns.next().flatten();
    Ok(Some(Listed {
        oid: oid_of(&next().unwrap_or_default())?,
        name: next().unwrap_or_default(),
        takes_sessions: next().as_deref() == Some("t"),
        comment: next(),
    }))
}

async fn by_name(client: &Client, name: &str) -> Result<Option<Listed>, Failure> {
    listed(client, &format!("datname = {}", literal(name))).await
}

async fn by_oid(client: &Client, oid: u32) -> Result<Option<Listed>, Failure> {
    listed(client, &format!("oid = {oid}")).await
}

async fn change(client: &Client, sql: &str) -> Result<(), Failure> {
    let done = client.query_text(sql, CHANGE_DEADLINE).await;
    done.map(drop).map_err(|error| sql_failure(&error))
}

/// The server is the one that the plan means: its files and what answers.
async fn same_server(context: &StepContext) -> Result<(), Failure> {
    same_identity(context)?;
    let directory = std::path::PathBuf::from(context.parameter("data_directory")?);
    let expected = control(&directory)?.system_id.to_string();
    let client = server(context).await?;
    let sql = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()";
    let seen = value(&client, sql).await?.unwrap_or_default();
    match expected == seen {
        true => Ok(()),
        false => Err(Failure::terminal(
            "RF1103",
            format!(
                "expected the server of '{}', system identifier {expected}, seen {seen} at {}",
                directory.display(),
                client.address()
            ),
        )
        .hint("the cluster's connection leads to another server: see its table")),
    }
}

async fn sessions(client: &Client, oid: u32) -> Result<u64, Failure> {
    let sql = format!(
        "SELECT count(*)::text FROM pg_catalog.pg_stat_activity \
         WHERE datid = {oid} AND pid <> pg_catalog.pg_backend_pid()"
    );
    let counted = value(client, &sql).await?.and_then(|count| count.parse().ok());
    counted.ok_or_else(|| Failure::retry("RF1105", "the server counts no sessions"))
}

/// Ends every session in a database, and sees that they are gone.
async fn end_sessions(client: &Client, database: &Listed) -> Result<(), Failure> {
    let end = format!(
        "SELECT count(pg_catalog.pg_terminate_backend(pid))::text \
         FROM pg_catalog.pg_stat_activity WHERE datid = {} AND pid <> pg_catalog.pg_backend_pid()",
        database.oid
    );
    let began = Instant::now();
    loop {
        value(client, &end).await?;
        let left = sessions(client, database.oid).await?;
        if left == 0 {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(Failure::retry(
                "RF1105",
                format!("{left} sessions in database '{}' do not end", database.name),
            ));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A transaction that was prepared holds its database for whoever wants to rename it.
async fn nothing_is_prepared(client: &Client, database: &str) -> Result<(), Failure> {
    let sql = format!(
        "SELECT string_agg(gid, ''', ''') FROM pg_catalog.pg_prepared_xacts WHERE database = {}",
        literal(database)
    );
    match value(client, &sql).await? {
        None => Ok(()),
        Some(gids) => Err(Failure::terminal(
            "RF1105",
            format!("prepared transactions hold database '{database}': '{gids}'"),
        )
        .hint("end each of them there: COMMIT PREPARED or ROLLBACK PREPARED")),
    }
}
