//! The restored database gets the name of the old one, and what belongs to it, in one transaction.

use async_trait::async_trait;
use pgclient::{Client, identifier};
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::Parameters;

use super::{
    CHANGE_DEADLINE, Listed, OLD_OID, RESTORED_OID, by_name, by_oid, end_sessions,
    nothing_is_prepared, oid_of, same_server, server,
};
use crate::postgres::sessions::NEXT_XID;
use crate::postgres::{sql_failure, value};

/// How often a rename is tried when somebody comes in between.
const TRIES_MAX: u32 = 20;

/// PostgreSQL's word for a database that others use: `object_in_use`.
const IN_USE: &str = "55006";

#[derive(Debug)]
pub(in crate::postgres) struct RenameDatabase;

/// The two databases, and what they are to be called.
struct Pair<'c> {
    old: Listed,
    restored: Listed,
    name: &'c str,
    new: &'c str,
    kept: &'c str,
}

impl<'c> Pair<'c> {
    async fn of(context: &'c StepContext, client: &Client) -> Result<Self, Failure> {
        let one = async |fact: &str| {
            let oid = oid_of(context.fact(fact)?)?;
            by_oid(client, oid).await?.ok_or_else(|| {
                Failure::terminal("RF1105", format!("the database with oid {oid} is not there"))
            })
        };
        Ok(Self {
            old: one(OLD_OID).await?,
            restored: one(RESTORED_OID).await?,
            name: context.parameter("database")?,
            new: context.parameter("new_database")?,
            kept: context.parameter("kept_database")?,
        })
    }

    fn are_called(&self, old: &str, restored: &str) -> bool {
        self.old.name == old && self.restored.name == restored
    }

    fn is_swapped(&self) -> bool {
        self.are_called(self.kept, self.name)
    }

    fn is_as_before(&self) -> bool {
        self.are_called(self.name, self.new)
    }

    fn strange(&self) -> String {
        format!(
            "the old database is called '{}' and the restored one '{}'",
            self.old.name, self.restored.name
        )
    }
}

fn rename(from: &str, to: &str) -> String {
    format!("ALTER DATABASE {} RENAME TO {}", identifier(from), identifier(to))
}

/// All of it or nothing: statements in one string are one transaction. Whoever is in one of the
/// two is ended; whoever comes in meanwhile is ended, too.
async fn at_once(client: &Client, pair: &Pair<'_>, statements: &[String]) -> Result<(), Failure> {
    let sql = statements.join("; ");
    let mut tries = 0;
    loop {
        for database in [&pair.old, &pair.restored] {
            end_sessions(client, database).await?;
        }
        tries += 1;
        match client.query_text(&sql, CHANGE_DEADLINE).await {
            Ok(_) => return Ok(()),
            Err(pgclient::Error::Sql { sqlstate, .. })
                if sqlstate == IN_USE && tries < TRIES_MAX => {}
            Err(error) => return Err(sql_failure(&error)),
        }
    }
}

/// What belongs to both, as if both had the service's name.
async fn belongings(
    client: &Client,
    pair: &Pair<'_>,
    name: &str,
) -> Result<(pgclient::Belongings, pgclient::Belongings), Failure> {
    let one = async |database: &Listed| {
        let found = client.belongings(database.oid, name).await;
        found.map_err(|error| sql_failure(&error))?.ok_or_else(|| {
            Failure::terminal("RF1105", format!("database '{}' is gone", database.name))
        })
    };
    Ok((one(&pair.old).await?, one(&pair.restored).await?))
}

#[async_trait]
impl Effect for RenameDatabase {
    async fn precheck(&self, context: &StepContext) -> Result<(), Failure> {
        same_server(context).await?;
        let client = server(context).await?;
        let kept = context.parameter("kept_database")?;
        if let Some(there) = by_name(&client, kept).await?
            && oid_of(context.fact(OLD_OID)?)? != there.oid
        {
            let what = format!("database '{kept}' is there already, and is another one");
            return Err(Failure::terminal("RF1010", what).hint("move it away, or plan again"));
        }
        nothing_is_prepared(&client, context.parameter("database")?).await
    }

    async fn probe(&self, context: &StepContext) -> Found {
        let look = async {
            let client = server(context).await?;
            let pair = Pair::of(context, &client).await?;
            Ok::<Found, Failure>(if pair.is_swapped() {
                Found::Done
            } else if pair.is_as_before() {
                Found::Absent
            } else {
                Found::Foreign(pair.strange())
            })
        };
        look.await.unwrap_or_else(|failure| Found::Unknown(failure.message))
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        let client = server(context).await?;
        let pair = Pair::of(context, &client).await?;
        if pair.is_swapped() {
            return Ok(());
        }
        let name = identifier(pair.name);
        let (old, restored) = belongings(&client, &pair, &name).await?;
        let mut statements = vec![rename(pair.name, pair.kept), rename(pair.new, pair.name)];
        statements.extend(old.instead_of(&restored, &name));
        at_once(&client, &pair, &statements).await
    }

    async fn verify(&self, context: &StepContext) -> Result<Parameters, Failure> {
        let client = server(context).await?;
        let pair = Pair::of(context, &client).await?;
        let (old, restored) = belongings(&client, &pair, &identifier(pair.name)).await?;
        if old != restored {
            return Err(Failure::terminal(
                "RF1105",
                format!("expected of the restored database {old:?}, seen {restored:?}"),
            ));
        }
        let system = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()";
        let system = value(&client, system).await?.unwrap_or_default();
        // What is counted as users' writes begins behind this transaction of ours.
        let xid = value(&client, NEXT_XID).await?.unwrap_or_default();
        Ok(Parameters::from([
            ("old_database".into(), pair.old.name.clone()),
            ("restored_database".into(), pair.restored.name.clone()),
            ("safety_copy_system_id".into(), system),
            ("xid_at_proof".into(), xid),
        ]))
    }

    async fn undo(&self, context: &StepContext) -> Result<String, Failure> {
        let client = server(context).await?;
        let pair = Pair::of(context, &client).await?;
        if pair.is_as_before() {
            return Ok("they have their names".into());
        }
        if !pair.is_swapped() {
            return Err(Failure::terminal("RF1010", pair.strange())
                .hint("somebody has renamed one: ALTER DATABASE … RENAME TO … by hand"));
        }
        let statements = [rename(pair.name, pair.new), rename(pair.kept, pair.name)];
        at_once(&client, &pair, &statements).await?;
        Ok(format!("'{}' is the old database again", pair.name))
    }
}
