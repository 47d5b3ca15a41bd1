//! The damage: a DELETE without WHERE, committed, while the application goes on.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stdx::{Clock, SystemClock};

use super::shop::Shop;
use super::stage::{QUIET_MAX, Stage};

/// The tables whose rows are counted.
pub(super) const TABLES: [&str; 5] = ["customers", "products", "orders", "order_lines", "payments"];

/// What was there just before. Only the proof at the end looks at it; the recovery does not know
/// it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Damage {
    /// Rows by table.
    pub(super) rows: Vec<(String, u64)>,
    /// The newest order.
    pub(super) newest_order: String,
    /// When somebody noticed: here the clock starts.
    pub(super) noticed: Timestamp,
    /// What the operator was told: about then.
    pub(super) told: Timestamp,
}

pub(super) async fn destroy(stage: &mut Stage<'_>, shop: &Shop) -> anyhow::Result<Damage> {
    stage.act("Somebody types DELETE FROM orders");
    stage.begin("the damage");
    let client = stage.connect(&stage.directory, stage.port, "shop").await?;
    let began = SystemClock::new().now();
    // Counting and deleting in one transaction that holds the writers off, so that the proof has
    // the exact rows from just before.
    let counts: Vec<String> =
        TABLES.iter().map(|table| format!("(SELECT count(*) FROM {table})")).collect();
    client.query_text("BEGIN", QUIET_MAX).await?;
    client
        .query_text(
            "LOCK TABLE orders, order_lines, payments IN SHARE ROW EXCLUSIVE MODE",
            QUIET_MAX,
        )
        .await?;
    let sql = format!("SELECT {}, (SELECT max(placed_at)::text FROM orders)", counts.join(", "));
    let rows = client.query_text(&sql, QUIET_MAX).await?;
    client.query_text("DELETE FROM orders", QUIET_MAX * 10).await?;
    client.query_text("COMMIT", QUIET_MAX).await?;
    let values = rows.into_iter().next().unwrap_or_default();
    let mut numbers = Vec::new();
    for (table, value) in TABLES.iter().zip(&values) {
        let count = value.as_deref().unwrap_or("0").parse()?;
        numbers.push(((*table).to_owned(), count));
    }
    let newest_order = values.last().cloned().flatten().unwrap_or_default();
    // The shop knows nothing of it: new orders come in and are work that will be lost.
    shop.wait_for_orders(20).await?;
    stage.end();
    let noticed = SystemClock::new().now();
    let damage = Damage { rows: numbers, newest_order, noticed, told: about(began) };
    let orders =
        damage.rows.iter().find(|(table, _)| table == "orders").map_or(0, |(_, rows)| *rows);
    stage.printer.note(&format!("  {orders} orders are gone; the shop goes on taking new ones"));
    stage.printer.note(&format!("  the operator is told: \"about {}\"", damage.told));
    Ok(damage)
}

/// People remember the minute at best.
fn about(moment: Timestamp) -> Timestamp {
    let second = moment.as_second();
    Timestamp::from_second(second - second.rem_euclid(60)).unwrap_or(moment)
}
