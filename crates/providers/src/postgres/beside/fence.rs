//! The fence of one database: it takes no sessions, not even a superuser's, and its server goes on.

use async_trait::async_trait;
use pgclient::{Client, identifier};
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::Parameters;

use super::{
    Listed, OLD_OID, by_name, by_oid, change, end_sessions, nothing_is_prepared, oid_of,
    same_server, server, sessions,
};

const TAKES: &str = "takes sessions";
const TAKES_NONE: &str = "takes none";

#[derive(Debug)]
pub(in crate::postgres) struct FenceDatabase;

fn object(context: &StepContext) -> Result<String, Failure> {
    Ok(format!("database {}", context.parameter("database")?))
}

/// The database, under whatever name: once it was fenced its oid is known.
async fn database(context: &StepContext, client: &Client) -> Result<Listed, Failure> {
    let name = context.parameter("database")?;
    let found = match context.facts.get(OLD_OID) {
        Some(oid) => by_oid(client, oid_of(oid)?).await?,
        None => by_name(client, name).await?,
    };
    found.ok_or_else(|| Failure::terminal("RF1105", format!("there is no database '{name}'")))
}

async fn is_fenced(context: &StepContext) -> Result<bool, Failure> {
    let client = server(context).await?;
    let database = database(context, &client).await?;
    Ok(!database.takes_sessions && sessions(&client, database.oid).await? == 0)
}

#[async_trait]
impl Effect for FenceDatabase {
    async fn original(&self, context: &StepContext) -> Result<Option<(String, String)>, Failure> {
        let client = server(context).await?;
        let takes = database(context, &client).await?.takes_sessions;
        let value = if takes { TAKES } else { TAKES_NONE };
        Ok(Some((object(context)?, value.to_owned())))
    }

    async fn precheck(&self, context: &StepContext) -> Result<(), Failure> {
        same_server(context).await?;
        let client = server(context).await?;
        nothing_is_prepared(&client, context.parameter("database")?).await
    }

    async fn probe(&self, context: &StepContext) -> Found {
        match is_fenced(context).await {
            Ok(true) => Found::Done,
            Ok(false) => Found::Absent,
            Err(failure) => Found::Unknown(failure.message),
        }
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        let client = server(context).await?;
        let database = database(context, &client).await?;
        let name = identifier(&database.name);
        change(&client, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await?;
        end_sessions(&client, &database).await
    }

    async fn verify(&self, context: &StepContext) -> Result<Parameters, Failure> {
        let client = server(context).await?;
        let database = database(context, &client).await?;
        let left = sessions(&client, database.oid).await?;
        if database.takes_sessions || left > 0 {
            return Err(Failure::ambiguous(
                "RF1105",
                format!("database '{}' has {left} sessions", database.name),
            ));
        }
        Ok(Parameters::from([(OLD_OID.into(), database.oid.to_string())]))
    }

    async fn undo(&self, context: &StepContext) -> Result<String, Failure> {
        match context.originals.get(&object(context)?).map(String::as_str) {
            None => return Ok("it was never touched".into()),
            Some(TAKES_NONE) => return Ok("it took no sessions before".into()),
            Some(_) => {}
        }
        let client = server(context).await?;
        let database = database(context, &client).await?;
        let name = identifier(&database.name);
        change(&client, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await?;
        Ok(format!("database '{}' takes sessions again", database.name))
    }
}
