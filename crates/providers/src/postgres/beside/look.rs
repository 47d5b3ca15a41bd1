//! Whether a server takes a database beside the service's own. Touches nothing.

use std::path::Path;

use pgclient::literal;

use super::{by_name, nothing_is_prepared, session};
use crate::postgres::{ASK_DEADLINE, control, value};

/// What was seen of the service's database on the server that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Another one can be restored beside it.
    Ready {
        /// Its bytes.
        size: u64,
        /// Logical replication slots that belong to it.
        slots: Vec<String>,
    },
    /// It is not there.
    NoDatabase,
}

/// Looks at a server through one of its other databases.
///
/// # Errors
/// Why nothing can be restored beside the database, as a sentence.
pub async fn look_beside(
    data_directory: &Path,
    server: &str,
    database: &str,
) -> Result<Beside, String> {
    let client = session(server, None).await.map_err(|failure| failure.message)?;
    let ask = async |sql: &str| value(&client, sql).await.map_err(|failure| failure.message);
    let expected = control(data_directory).map_err(|failure| failure.message)?.system_id;
    let seen = ask("SELECT system_identifier::text FROM pg_catalog.pg_control_system()").await?;
    if seen.as_deref() != Some(&expected.to_string()) {
        return Err(format!(
            "expected system identifier {expected}, seen {} at {}",
            seen.unwrap_or_default(),
            client.address()
        ));
    }
    if ask("SELECT pg_catalog.pg_is_in_recovery()::text").await?.as_deref() != Some("false") {
        return Err("it is a standby, or in recovery".into());
    }
    let is_superuser =
        "SELECT rolsuper::text FROM pg_catalog.pg_roles WHERE rolname = current_user";
    if ask(is_superuser).await?.as_deref() != Some("true") {
        let user = client.options().user();
        return Err(format!("user '{user}' is no superuser, and renames databases"));
    }
    if by_name(&client, database).await.map_err(|failure| failure.message)?.is_none() {
        return Ok(Beside::NoDatabase);
    }
    nothing_is_prepared(&client, database)
        .await
        .map_err(|failure| format!("{}; {}", failure.message, failure.hint))?;
    let size = format!("SELECT pg_catalog.pg_database_size({})::text", literal(database));
    let size = ask(&size).await?.and_then(|text| text.parse().ok()).unwrap_or_default();
    let slots = format!(
        "SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE database = {} ORDER BY 1",
        literal(database)
    );
    let slots = client.query_text(&slots, ASK_DEADLINE).await.map_err(|error| error.to_string())?;
    Ok(Beside::Ready { size, slots: slots.into_iter().flatten().flatten().collect() })
}
