//! PgBouncer as a door: `PAUSE` waits for transactions and holds clients, `RESUME` lets them go on.

use std::time::Duration;

use pgclient::{Client, ConnectOptions};
use recovery::effect::{Failure, StepContext};

/// Longest wait of a `PAUSE` for running transactions.
const PAUSE_DEADLINE: Duration = Duration::from_secs(50);

const ASK_DEADLINE: Duration = Duration::from_secs(15);

async fn console(context: &StepContext) -> Result<Client, Failure> {
    let failed = |error: pgclient::Error| {
        Failure::ambiguous("RF1111", format!("PgBouncer's console: {error}"))
    };
    let options = ConnectOptions::parse(context.parameter("admin")?).map_err(failed)?;
    let options = options.with_database("pgbouncer");
    Client::connect(&options).await.map_err(failed)
}

/// Whether the database is paused, by `SHOW DATABASES`: the column `paused`.
pub(super) async fn is_paused(context: &StepContext) -> Result<bool, Failure> {
    let database = context.parameter("database")?;
    let unclear = |what: String| Failure::ambiguous("RF1111", what);
    let client = console(context).await?;
    let rows = client
        .query_named("SHOW DATABASES", ASK_DEADLINE)
        .await
        .map_err(|error| unclear(error.to_string()))?;
    let row = rows.iter().find(|row| row.get("name").is_some_and(|name| name == database));
    let row = row.ok_or_else(|| unclear(format!("PgBouncer has no database '{database}'")))?;
    Ok(row.get("paused").is_some_and(|paused| paused == "1"))
}

pub(super) async fn pause(context: &StepContext, shut: bool) -> Result<(), Failure> {
    let database = context.parameter("database")?.replace('"', "\"\"");
    let client = console(context).await?;
    let verb = if shut { "PAUSE" } else { "RESUME" };
    let done = client.query_text(&format!("{verb} \"{database}\""), PAUSE_DEADLINE).await;
    match done {
        Ok(_) => Ok(()),
        // "already suspended/paused", "not paused": what was wanted is there.
        Err(error) if is_paused(context).await? == shut => {
            let _ = error;
            Ok(())
        }
        Err(error) => Err(Failure::ambiguous("RF1111", format!("{verb}: {error}"))
            .hint("a long transaction keeps PAUSE from ending: see SHOW SERVERS")),
    }
}
