//! Placing orders, moving them on, and showing them.

use anyhow::Context;
use serde_json::Value;
use tokio_postgres::{Client, Row};

/// Lines of an order at most.
const LINES_MAX: i64 = 5;

/// Places one order of a random customer: order, lines and payment in one transaction. Returns its
/// number.
pub(crate) async fn place(client: &mut Client) -> anyhow::Result<i64> {
    let transaction = client.transaction().await?;
    let order = transaction
        .query_opt(
            "INSERT INTO orders (public_id, customer_id, status, total, shipping, note, placed_at,
                updated_at)
            SELECT gen_random_uuid(), id, 'placed', 0,
                jsonb_build_object('method', 'courier', 'track', gen_random_uuid()),
                'placed online', clock_timestamp(), clock_timestamp()
            FROM customers
            WHERE id >= (SELECT floor(random() * max(id)) FROM customers) ORDER BY id LIMIT 1
            RETURNING id",
            &[],
        )
        .await
        .context("place an order")?;
    let order: i64 = order.context("there are no customers")?.get(0);
    transaction
        .execute(
            "INSERT INTO order_lines
            SELECT $1, line, id, 1 + floor(random() * 4), price
            FROM (SELECT row_number() OVER () AS line, id, price
                FROM (SELECT DISTINCT 1 + floor(random() * (SELECT max(id) FROM products))::int AS id
                    FROM generate_series(1, 1 + floor(random() * $2::bigint)::int)) AS wanted
                JOIN products USING (id)) AS chosen",
            &[&order, &LINES_MAX],
        )
        .await
        .context("add the lines")?;
    transaction
        .execute(
            "UPDATE orders SET status = 'paid', total = (
                SELECT coalesce(sum(quantity * unit_price), 0) FROM order_lines WHERE order_id = $1)
            WHERE id = $1",
            &[&order],
        )
        .await
        .context("add up the order")?;
    transaction
        .execute(
            "INSERT INTO payments
            SELECT gen_random_uuid(), id, 'card', total, upper(md5(random()::text)),
                jsonb_build_object('provider', 'acme-pay', 'risk', floor(random() * 1000)),
                clock_timestamp()
            FROM orders WHERE id = $1",
            &[&order],
        )
        .await
        .context("take the payment")?;
    transaction.commit().await.context("commit the order")?;
    Ok(order)
}

/// Moves one of the latest orders a step on; returns whether there was one.
pub(crate) async fn move_on(client: &Client) -> anyhow::Result<bool> {
    let moved = client
        .execute(
            "UPDATE orders SET updated_at = clock_timestamp(), status = CASE status
                WHEN 'paid' THEN 'packed' WHEN 'packed' THEN 'shipped' ELSE 'delivered' END
            WHERE id = (SELECT id FROM (SELECT id FROM orders
                ORDER BY placed_at DESC LIMIT 50) AS latest ORDER BY random() LIMIT 1)",
            &[],
        )
        .await
        .context("move an order on")?;
    Ok(moved > 0)
}

/// The latest orders, newest first, as JSON with exact totals in text.
pub(crate) async fn latest(client: &Client, limit: i64) -> anyhow::Result<Value> {
    let row = client
        .query_one(
            "SELECT coalesce(jsonb_agg(to_jsonb(latest) ORDER BY latest.placed_at DESC,
                latest.id DESC), '[]')::text
            FROM (SELECT o.id, o.public_id, c.name AS customer, o.status, o.total::text, o.placed_at,
                    (SELECT count(*) FROM order_lines l WHERE l.order_id = o.id) AS lines,
                    (SELECT coalesce(sum(p.amount), 0)::text FROM payments p
                        WHERE p.order_id = o.id) AS paid
                FROM orders o JOIN customers c ON c.id = o.customer_id
                ORDER BY o.placed_at DESC, o.id DESC LIMIT $1) AS latest",
            &[&limit],
        )
        .await
        .context("read the latest orders")?;
    json(&row)
}

/// The newest order and how many there are by the planner's belief, as JSON.
pub(crate) async fn summary(client: &Client) -> anyhow::Result<Value> {
    let row = client
        .query_one(
            "SELECT jsonb_build_object(
                'newest_order', (SELECT max(id) FROM orders),
                'newest_order_at', (SELECT max(placed_at) FROM orders),
                'orders_estimated', (SELECT greatest(reltuples, 0)::bigint FROM pg_class
                    WHERE oid = 'orders'::regclass))::text",
            &[],
        )
        .await
        .context("sum the orders up")?;
    json(&row)
}

/// Proves that the shop's data can be read; returns whether it can also be written, as JSON.
pub(crate) async fn probe(client: &Client) -> anyhow::Result<Value> {
    let row = client
        .query_one(
            "SELECT jsonb_build_object('has_orders', EXISTS (SELECT FROM orders),
                'writable', NOT pg_is_in_recovery())::text",
            &[],
        )
        .await
        .context("look at the orders")?;
    json(&row)
}

fn json(row: &Row) -> anyhow::Result<Value> {
    serde_json::from_str(row.try_get(0)?).context("read the database's JSON")
}
