//! The built-in checks (requirement V3): pages, amcheck, rows, newest times, schema version,
//! foreign keys, NOT NULL.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use pgclient::Client;
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::Parameters;
use recovery::service::SchemaTool;

use super::sessions::NEXT_XID;
use super::{beside, pages, restored_directory, restored_session, sql_failure, value};
use crate::looked::Looked;

/// Longest check of one relation, and of one constraint.
const RELATION_DEADLINE: Duration = Duration::from_secs(600);

/// Rows of a foreign key that point nowhere: one statement for each key, made by the server itself,
/// with every name quoted.
const FOREIGN_KEYS: &str = "\
SELECT conrelid::regclass || '.' || quote_ident(conname), format(\
'SELECT count(*) FROM ONLY %s c WHERE %s AND NOT EXISTS (SELECT FROM %s p WHERE %s)', \
conrelid::regclass, \
(SELECT string_agg(format('c.%I IS NOT NULL', a.attname), ' AND ') FROM unnest(conkey) k \
 JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = k), \
confrelid::regclass, \
(SELECT string_agg(format('p.%I = c.%I', f.attname, a.attname), ' AND ') \
 FROM unnest(conkey, confkey) AS k(c, f) \
 JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = k.c \
 JOIN pg_attribute f ON f.attrelid = confrelid AND f.attnum = k.f)) \
FROM pg_constraint WHERE contype = 'f' AND convalidated AND conparentid = 0";

/// Rows with a null where none may be: one statement for each table.
const NOT_NULLS: &str = "\
SELECT c.oid::regclass::text, format('SELECT count(*) FROM ONLY %s WHERE %s', c.oid::regclass, \
string_agg(format('%I IS NULL', a.attname), ' OR ')) \
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND a.attnotnull AND NOT a.attisdropped \
WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
AND n.nspname NOT LIKE 'pg\\_t%' GROUP BY c.oid";

#[derive(Debug, Default)]
pub(crate) struct Prove {
    looked: Looked,
}

#[async_trait]
impl Effect for Prove {
    async fn probe(&self, context: &StepContext) -> Found {
        self.looked.probe(context)
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        let directory = restored_directory(context)?;
        let only = beside::restored_oid(context).map(str::to_owned);
        let checked =
            tokio::task::spawn_blocking(move || pages::check(&directory, only.as_deref())).await;
        let pages = checked.map_err(|error| Failure::retry("RF1105", error.to_string()))??;
        let client = restored_session(context).await?;
        let mut outputs = Parameters::from([("pages_checked".into(), pages.to_string())]);
        amcheck(&client, &mut outputs).await?;
        constraints(&client, &mut outputs).await?;
        tables(context, &client, &mut outputs).await?;
        schema(context, &client, &mut outputs).await?;
        let xid = value(&client, NEXT_XID).await?.unwrap_or_default();
        outputs.insert("xid_at_proof".into(), xid);
        self.looked.remember(context, outputs);
        Ok(())
    }

    async fn verify(&self, context: &StepContext) -> Result<Parameters, Failure> {
        Ok(self.looked.outputs(context).unwrap_or_default())
    }
}

async fn amcheck(client: &Client, outputs: &mut Parameters) -> Result<(), Failure> {
    let database = client.options().database();
    let report = match client.amcheck(database, RELATION_DEADLINE).await {
        Ok(report) => report,
        Err(error @ pgclient::Error::Extension { .. }) => {
            outputs.insert("amcheck".into(), format!("not possible: {error}"));
            return Ok(());
        }
        Err(error) => return Err(sql_failure(&error)),
    };
    if let Some(finding) = report.findings.first() {
        return Err(Failure::data(
            "RF1106",
            format!("amcheck: {}: {}", finding.relation, finding.message),
        ));
    }
    outputs
        .insert("amcheck".into(), format!("{} tables, {} indexes", report.tables, report.indexes));
    Ok(())
}

async fn constraints(client: &Client, outputs: &mut Parameters) -> Result<(), Failure> {
    for (name, list) in [("foreign_keys", FOREIGN_KEYS), ("not_null_tables", NOT_NULLS)] {
        let rows = client
            .query_text(list, RELATION_DEADLINE)
            .await
            .map_err(|error| sql_failure(&error))?;
        for row in &rows {
            let mut columns = row.iter().flatten();
            let (Some(what), Some(sql)) = (columns.next(), columns.next()) else { continue };
            let counted = client
                .query_text(sql, RELATION_DEADLINE)
                .await
                .map_err(|error| sql_failure(&error))?;
            let count = counted.first().and_then(|row| row.first().cloned().flatten());
            if count.as_deref() != Some("0") {
                return Err(Failure::data(
                    "RF1106",
                    format!("{what}: {} rows break it", count.unwrap_or_default()),
                )
                .hint("they broke it before as well, or the target lies inside a change"));
            }
        }
        outputs.insert(name.into(), rows.len().to_string());
    }
    Ok(())
}

/// Every part of a table's name in quotes, so that it is a name and nothing else.
fn quoted(name: &str) -> String {
    let parts =
        name.split('.').map(|part| format!("\"{}\"", part.trim_matches('"').replace('"', "\"\"")));
    parts.collect::<Vec<_>>().join(".")
}

async fn tables(
    context: &StepContext,
    client: &Client,
    outputs: &mut Parameters,
) -> Result<(), Failure> {
    for (name, expected) in &context.parameters {
        if let Some(table) = name.strip_prefix("min_rows.") {
            let sql = format!("SELECT count(*)::text FROM {}", quoted(table));
            let rows = value(client, &sql).await?.unwrap_or_default();
            let enough = rows.parse::<u64>().ok() >= expected.parse::<u64>().ok();
            if !enough {
                return Err(Failure::terminal(
                    "RF1105",
                    format!("expected at least {expected} rows in {table}, seen {rows}"),
                )
                .hint("the target may lie behind the damage: look with `rollforward locate`"));
            }
            outputs.insert(format!("rows {table}"), rows);
        }
        if let Some(table) = name.strip_prefix("newest.") {
            newest(context, client, table, expected, outputs).await?;
        }
    }
    Ok(())
}

/// The newest time in a table must be before the damage.
async fn newest(
    context: &StepContext,
    client: &Client,
    table: &str,
    column: &str,
    outputs: &mut Parameters,
) -> Result<(), Failure> {
    let sql = format!(
        "SELECT to_char(max({0}::timestamptz) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM {1}",
        quoted(column),
        quoted(table)
    );
    let Some(seen) = value(client, &sql).await? else {
        return Err(Failure::terminal(
            "RF1105",
            format!("{table} is empty: it has no newest {column}"),
        ));
    };
    let at = seen.parse::<Timestamp>().map_err(|error| {
        Failure::terminal("RF1105", format!("newest {table}.{column} is '{seen}': {error}"))
    })?;
    let damaged =
        context.parameters.get("damaged_at").and_then(|text| text.parse::<Timestamp>().ok());
    if let Some(damaged) = damaged
        && at >= damaged
    {
        return Err(Failure::terminal(
            "RF1105",
            format!("newest {table}.{column} is {at}, expected one before the damage at {damaged}"),
        )
        .hint("the target lies behind the damage: take an earlier one"));
    }
    close_to_the_target(context, table, column, at)?;
    outputs.insert(format!("newest {table}.{column}"), seen);
    Ok(())
}

/// The moment that the target means, as far as it is known.
pub(crate) fn target_time(context: &StepContext) -> Option<Timestamp> {
    let time = |name: &str| context.parameters.get(name)?.parse::<Timestamp>().ok();
    let named = context.parameters.get("target_kind").is_some_and(|kind| kind == "time");
    let target = if named { time("target_value") } else { time("last_good") };
    // Without a target in time, the newest commit that was replayed is one.
    let replayed = || context.facts.get("newest_commit")?.parse::<Timestamp>().ok();
    target.or_else(replayed)
}

/// Where the service says how old the newest row may be, the target is what it is compared with.
fn close_to_the_target(
    context: &StepContext,
    table: &str,
    column: &str,
    newest: Timestamp,
) -> Result<(), Failure> {
    let within = context.parameters.get(&format!("within_s.{table}"));
    let Some(within) = within.and_then(|text| text.parse::<i64>().ok()) else { return Ok(()) };
    let Some(target) = target_time(context) else { return Ok(()) };
    let behind = target.duration_since(newest).as_secs();
    if behind <= within {
        return Ok(());
    }
    Err(Failure::terminal(
        "RF1105",
        format!(
            "newest {table}.{column} is {newest}, expected one at most {within} s before the \
             target at {target}; it is {behind} s before it"
        ),
    )
    .hint("rows are missing: take a later target, or look whether the table is written that often"))
}

async fn schema(
    context: &StepContext,
    client: &Client,
    outputs: &mut Parameters,
) -> Result<(), Failure> {
    let Some(tool) = context.parameters.get("schema").and_then(|name| SchemaTool::parse(name))
    else {
        return Ok(());
    };
    match value(client, tool.sql()).await? {
        Some(version) => drop(outputs.insert("schema_version".into(), version)),
        None => {
            return Err(Failure::terminal(
                "RF1105",
                format!("no applied migration of {} is there", tool.text()),
            ));
        }
    }
    Ok(())
}
