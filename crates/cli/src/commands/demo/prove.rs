//! The proof that the restored cluster is what was there just before the damage.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::damage::{Damage, TABLES};
use super::recover::Restored;
use super::stage::{QUIET_MAX, Stage};
use crate::failure::Error;

/// The longest that one relation's check may take.
const AMCHECK_DEADLINE: Duration = Duration::from_secs(600);

/// What was proved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Proof {
    /// Rows by table: as many as just before the damage.
    pub(super) rows: Vec<(String, u64)>,
    /// The newest order in it.
    pub(super) newest_order: String,
    /// Pages with a right checksum.
    pub(super) pages: u64,
    /// Tables and indexes that amcheck found sound.
    pub(super) tables_checked: u64,
    pub(super) indexes_checked: u64,
}

pub(super) async fn prove(
    stage: &mut Stage<'_>,
    restored: &Restored,
    damage: &Damage,
    damaged_at: Timestamp,
    pages: u64,
) -> anyhow::Result<Proof> {
    let client = stage.connect(&restored.socket, restored.port, "shop").await?;
    let mut rows = Vec::new();
    for table in TABLES {
        let answer = client.query_text(&format!("SELECT count(*) FROM {table}"), QUIET_MAX).await?;
        let count =
            answer.first().and_then(|row| row.first().cloned().flatten()).unwrap_or_default();
        rows.push((table.to_owned(), count.parse::<u64>()?));
    }
    if rows != damage.rows {
        return Err(failed(&format!("rows: expected {:?}, seen {rows:?}", damage.rows)));
    }
    let sql = "SELECT max(placed_at)::text, to_char(max(placed_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM orders";
    let answer = client.query_text(sql, QUIET_MAX).await?;
    let values = answer.into_iter().next().unwrap_or_default();
    let newest_order = values.first().cloned().flatten().unwrap_or_default();
    let newest: Timestamp = values.get(1).cloned().flatten().unwrap_or_default().parse()?;
    if newest_order != damage.newest_order || newest >= damaged_at {
        return Err(failed(&format!(
            "newest order: expected {}, before {damaged_at}; seen {newest_order}",
            damage.newest_order
        )));
    }
    let amcheck = client.amcheck("shop", AMCHECK_DEADLINE).await?;
    if let Some(finding) = amcheck.findings.first() {
        return Err(failed(&format!("amcheck: {finding:?}")));
    }
    stage.printer.note(&format!(
        "  {} orders, newest {newest_order}; {pages} pages and {} indexes are sound",
        rows.iter().find(|(table, _)| table == "orders").map_or(0, |(_, rows)| *rows),
        amcheck.indexes
    ));
    stage.end();
    Ok(Proof {
        rows,
        newest_order,
        pages,
        tables_checked: amcheck.tables as u64,
        indexes_checked: amcheck.indexes as u64,
    })
}

fn failed(what: &str) -> anyhow::Error {
    Error::Failed {
        what: format!("the restored cluster is not what was there: {what}"),
        hint: "nothing was switched; repeat with --keep and look at it".into(),
    }
    .into()
}
