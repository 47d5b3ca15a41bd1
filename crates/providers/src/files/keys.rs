//! The keys that rows hold, in the order of their bytes, through a cursor: a database of any size
//! in bounded memory.

use std::time::Duration;

use pgclient::Client;
use recovery::effect::{Failure, StepContext};

use crate::postgres::sql::split_statements;
use crate::postgres::{restored_session, sql_failure};

/// Keys of one fetch. A database with fewer is not worth a listing.
pub(super) const BATCH_LEN: usize = 2000;

/// Longest wait for keys: the server sorts all of them before the first one.
const FETCH_DEADLINE: Duration = Duration::from_secs(600);

/// The one query of a text.
///
/// # Errors
/// Why it is none.
pub fn one_query(text: &str) -> Result<String, String> {
    let statements = split_statements(text).map_err(|error| error.to_string())?;
    match <[_; 1]>::try_from(statements) {
        Ok([one]) => Ok(one.sql),
        Err(other) => Err(format!("expected one query, seen {}", other.len())),
    }
}

/// Keys being read.
pub(super) struct Keys {
    client: Client,
}

impl Keys {
    pub(super) async fn of(context: &StepContext) -> Result<Self, Failure> {
        let query = one_query(context.parameter("keys_sql")?)
            .map_err(|why| Failure::terminal("RF1107", format!("keys_sql: {why}")))?;
        let client = restored_session(context).await?;
        // Sorted as bytes, whatever the database's encoding and collation: as buckets list.
        let sql = format!(
            "BEGIN TRANSACTION READ ONLY; \
             DECLARE rollforward_keys NO SCROLL CURSOR FOR \
             SELECT k FROM (SELECT DISTINCT f.k::text AS k FROM (\n{query}\n) AS f(k) \
             WHERE f.k IS NOT NULL) AS d ORDER BY convert_to(k, 'UTF8')"
        );
        let declared = client.query_text(&sql, FETCH_DEADLINE).await;
        declared.map_err(|error| wrong(&error))?;
        Ok(Self { client })
    }

    /// The next keys; fewer than [`BATCH_LEN`] are the last.
    pub(super) async fn next(&self) -> Result<Vec<String>, Failure> {
        let sql = format!("FETCH {BATCH_LEN} FROM rollforward_keys");
        let rows = self.client.query_text(&sql, FETCH_DEADLINE).await;
        let rows = rows.map_err(|error| wrong(&error))?;
        Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
    }
}

fn wrong(error: &pgclient::Error) -> Failure {
    match error {
        pgclient::Error::Sql { .. } => Failure::terminal("RF1107", format!("keys_sql: {error}"))
            .hint("it must yield one column: names below the bucket's address"),
        other => sql_failure(other),
    }
}

#[cfg(test)]
mod tests {
    use super::one_query;

    #[test]
    fn one_query_is_one() {
        assert_eq!(one_query("SELECT a FROM t; -- all\n").unwrap(), "SELECT a FROM t");
        for bad in ["", "SELECT 1; DROP TABLE t", "SELECT 'a"] {
            assert!(one_query(bad).is_err(), "{bad}");
        }
    }
}
