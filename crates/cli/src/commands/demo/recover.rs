//! One command, from the alert to a shop that serves again; then what the report says is compared
//! with what only the demonstration knows.

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::Value;

use super::damage::{Damage, TABLES};
use super::shop::Shop;
use super::stage::{CLUSTER, QUIET_MAX, Stage, text};
use crate::failure::Error;

/// The service's own checks: what a team would write.
const VALIDATE: &str = "-- Run read-only on the restored database, before anything is switched.\n\
SELECT count(*) FROM customers; -- expect: >= 1\n\
SELECT CASE WHEN count(*) = 0 THEN 'OK' ELSE 'FAILED: orders without lines' END\n\
  FROM orders o WHERE NOT EXISTS (SELECT FROM order_lines l WHERE l.order_id = o.id);\n";

/// What the recovery came to.
#[derive(Clone, Debug)]
pub(super) struct Recovery {
    /// The run's report.
    pub(super) report: Value,
    /// The run's report for people.
    pub(super) markdown: String,
    /// Rows by table: as many as just before the damage.
    pub(super) rows: Vec<(String, u64)>,
    /// What a user sees.
    pub(super) orders_shown: usize,
}

/// Declares the service, as an operator does once.
pub(super) async fn declare(stage: &mut Stage<'_>, shop: &Shop) -> anyhow::Result<()> {
    stage.begin("declare the service: setting, door, application, checks, smoke tests");
    std::fs::write(stage.path("validate.sql"), VALIDATE)?;
    let path = stage.path("rollforward.toml");
    let config = std::fs::read_to_string(&path).context("read the configuration")?;
    stdx::durable::write_atomic(&path, (config + &shop.service_text(stage)).as_bytes(), 0o640)?;
    let seen = stage.type_command(&["diagnose", CLUSTER], &[3]).await?;
    stage.printer.note(&format!("  the shop is {}", text(&seen, "/condition")?));
    stage.end();
    Ok(())
}

pub(super) async fn recover(
    stage: &mut Stage<'_>,
    shop: &Shop,
    damage: &Damage,
) -> anyhow::Result<Recovery> {
    stage.act("Recovery: one command");
    stage.begin(
        "recover: find it, shut, fence, salvage, restore beside, prove, switch, open, protect",
    );
    let (about, noticed) = (damage.told.to_string(), damage.noticed.to_string());
    let words = [
        "recover",
        CLUSTER,
        "--before-incident",
        "--about",
        &about,
        "--started-at",
        &noticed,
        "--confirm-any",
        "--as",
        "oncall",
    ];
    let report = stage.type_aloud(&words).await?;
    let run = text(&report, "/run")?;
    let directory: PathBuf = text(&report, "/facts/directory")?.into();
    stage.server(&directory)?;
    stage.begin("compare with what was there just before the damage");
    let rows = same_rows(stage, &report, damage).await?;
    shop.wait_for_orders(5).await?;
    let shown = shop.get("/api/orders?limit=5").await.context("the shop does not answer")?;
    let orders_shown = shown.1.get("orders").and_then(Value::as_array).map_or(0, Vec::len);
    stage.begin("verify the repository, and the report's signature");
    stage.type_command(&["verify", CLUSTER], &[]).await?;
    let folder = stage.path("state").join("runs").join(&run);
    let signed = folder.join("report.json").display().to_string();
    stage.type_command(&["report", &signed, "--verify"], &[]).await?;
    stage.end();
    let markdown =
        std::fs::read_to_string(folder.join("report.md")).context("read the run's report")?;
    Ok(Recovery { report, markdown, rows, orders_shown })
}

/// The restored tables hold what was counted just before the damage, and the newest order; what the
/// shop has placed since it was opened again is newer.
async fn same_rows(
    stage: &Stage<'_>,
    report: &Value,
    damage: &Damage,
) -> anyhow::Result<Vec<(String, u64)>> {
    let socket: PathBuf = text(report, "/facts/socket")?.into();
    let port: u16 = text(report, "/facts/port")?.parse()?;
    let client = stage.connect(&socket, port, "shop").await?;
    let opened = text(report, "/marks/healthy")?;
    let mut rows = Vec::new();
    for (table, expected) in TABLES.iter().zip(&damage.rows) {
        // Orders carry their time; lines and payments belong to an order.
        let of_before = match *table {
            "orders" => format!("WHERE placed_at < '{opened}'"),
            "order_lines" | "payments" => {
                format!("WHERE order_id IN (SELECT id FROM orders WHERE placed_at < '{opened}')")
            }
            _ => String::new(),
        };
        let answer = client
            .query_text(&format!("SELECT count(*) FROM {table} {of_before}"), QUIET_MAX)
            .await?;
        let count = answer.first().and_then(|row| row.first().cloned().flatten());
        let count: u64 = count.unwrap_or_default().parse()?;
        if count != expected.1 {
            return Err(Error::Failed {
                what: format!(
                    "{table}: expected {} rows as before the damage, seen {count}",
                    expected.1
                ),
                hint: "repeat with --keep and look at it".into(),
            }
            .into());
        }
        rows.push(((*table).to_owned(), count));
    }
    let sql = format!("SELECT max(placed_at)::text FROM orders WHERE placed_at < '{opened}'");
    let newest = client.query_text(&sql, QUIET_MAX).await?;
    let newest = newest.into_iter().next().and_then(|row| row.into_iter().next()).flatten();
    anyhow::ensure!(
        newest.as_deref() == Some(damage.newest_order.as_str()),
        "newest order: expected {}, seen {newest:?}",
        damage.newest_order
    );
    Ok(rows)
}
