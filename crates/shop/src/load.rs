//! Filling the tables: fast, because the server makes the rows itself, and the same for the same
//! seed, because everything random in them is a hash of the row's number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Config};

use crate::arguments::Size;
use crate::database::connect;
use crate::schema::{INDEXES, REFERENCES, TABLES};

/// What one order takes with its lines, payment and all their index entries, on average.
const BYTES_PER_ORDER: u64 = 990;

/// Orders of one statement: enough to be fast, few enough to be one of many.
const ORDERS_PER_BATCH: u64 = 5000;

/// Orders per customer, on average.
const ORDERS_PER_CUSTOMER: u64 = 5;

const CUSTOMERS_MIN: u64 = 100;

/// Products of the smallest and of the largest shop.
const PRODUCTS_MIN: u64 = 100;
const PRODUCTS_MAX: u64 = 20_000;

/// Connections that work at the same time; one more than the usual small machine has cores, so that
/// writing WAL and making rows overlap.
const CONNECTIONS: usize = 3;

/// Characters of the text from which notes and descriptions are cut.
const TEXT_LENGTH: usize = 16_384;

/// Makes the tables and fills them up to about `size` with keys and indexes.
pub(crate) async fn run(config: &Config, size: Size, seed: u32) -> anyhow::Result<()> {
    let client = connect(config).await?;
    client.batch_execute(TABLES).await.context("make the tables")?;
    let orders = size.0 / BYTES_PER_ORDER;
    if orders > 0 {
        fill(config, orders, seed).await?;
    }
    in_parallel(config, &INDEXES).await.context("make the indexes")?;
    // One after the other: two that lock the same tables in different order would block each other.
    for statement in REFERENCES {
        client.batch_execute(statement).await.context("make the references")?;
    }
    let next = orders + 1;
    client.batch_execute(&format!("ALTER TABLE orders ALTER id RESTART WITH {next}")).await?;
    client
        .batch_execute("VACUUM (ANALYZE) customers, products, orders, order_lines, payments")
        .await?;
    Ok(())
}

async fn fill(config: &Config, orders: u64, seed: u32) -> anyhow::Result<()> {
    let plan = Plan {
        seed,
        orders,
        customers: (orders / ORDERS_PER_CUSTOMER).max(CUSTOMERS_MIN),
        products: (orders / 50).clamp(PRODUCTS_MIN, PRODUCTS_MAX),
    };
    let client = session(config).await?;
    client.batch_execute(&plan.products_sql()).await.context("fill the products")?;
    client.batch_execute(&plan.customers_sql()).await.context("fill the customers")?;
    let next = Arc::new(AtomicU64::new(1));
    let mut workers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let client = session(config).await?;
        let next = Arc::clone(&next);
        workers.spawn(async move {
            loop {
                let first = next.fetch_add(ORDERS_PER_BATCH, Ordering::Relaxed);
                if first > plan.orders {
                    return anyhow::Ok(());
                }
                let last = plan.orders.min(first + ORDERS_PER_BATCH - 1);
                client
                    .batch_execute(&plan.orders_sql(first, last))
                    .await
                    .context("fill the orders")?;
            }
        });
    }
    while let Some(done) = workers.join_next().await {
        done??;
    }
    Ok(())
}

/// A connection with the functions that make up data. They stand in its temporary schema, and the
/// planner puts their bodies in place of the calls. The text is cut as bytes: to find a character
/// in UTF-8 all before it must be walked through.
async fn session(config: &Config) -> anyhow::Result<Client> {
    let client = connect(config).await?;
    let text = text();
    let sql = format!(
        "SET synchronous_commit = off; SET jit = off;
        CREATE FUNCTION pg_temp.pick(number bigint, salt bigint, below bigint) RETURNS bigint
            LANGUAGE sql IMMUTABLE
            AS 'SELECT (hashint8extended(number, salt) & 9223372036854775807) % below';
        CREATE FUNCTION pg_temp.words(number bigint, salt bigint, length bigint) RETURNS text
            LANGUAGE sql IMMUTABLE AS $$SELECT convert_from(substr('{text}'::bytea,
                1 + (hashint8extended(number, salt) & 8191)::int, length::int), 'SQL_ASCII')$$;
        CREATE FUNCTION pg_temp.code(number bigint, salt bigint) RETURNS uuid
            LANGUAGE sql IMMUTABLE AS 'SELECT md5(salt::text || ''/'' || number::text)::uuid'"
    );
    client.batch_execute(&sql).await.context("prepare the session")?;
    Ok(client)
}

/// How much of what, and which of all possible shops.
#[derive(Clone, Copy, Debug)]
struct Plan {
    seed: u32,
    orders: u64,
    customers: u64,
    products: u64,
}

impl Plan {
    /// Different uses of one row's number must not give the same hash.
    fn salt(&self, purpose: u64) -> u64 {
        u64::from(self.seed) << 8 | purpose
    }

    fn products_sql(&self) -> String {
        let Self { products, .. } = self;
        let (words, code, kind) = (self.salt(1), self.salt(2), self.salt(3));
        let price = self.price("n");
        format!(
            "INSERT INTO products
            SELECT n, 'SKU-' || upper(substr(pg_temp.code(n, {code})::text, 1, 8)) || '-' || n,
                initcap(pg_temp.words(n, {words}, 24)), pg_temp.words(n + 1, {words}, 300), {price},
                jsonb_build_object('weight_g', 20 + pg_temp.pick(n, {kind}, 5000),
                    'colour', (ARRAY['red', 'green', 'blue', 'black', 'white'])
                        [1 + pg_temp.pick(n, {words}, 5)], 'returnable', n % 9 <> 0)
            FROM generate_series(1::bigint, {products}) n"
        )
    }

    /// A product's price, as an expression over its number: lines need no look-up then.
    fn price(&self, product: &str) -> String {
        let salt = self.salt(4);
        format!("(199 + pg_temp.pick({product}, {salt}, 20000)) / 100.0")
    }

    fn customers_sql(&self) -> String {
        let Self { customers, .. } = self;
        let (words, code, place) = (self.salt(5), self.salt(6), self.salt(7));
        format!(
            "INSERT INTO customers
            SELECT n, pg_temp.code(n, {code}), initcap(pg_temp.words(n, {words}, 16)),
                substr(pg_temp.code(n, {place})::text, 1, 12) || n || '@example.com',
                jsonb_build_object('street', pg_temp.words(n, {place}, 18),
                    'number', pg_temp.pick(n, {place}, 200),
                    'postcode', 10000 + pg_temp.pick(n, {words}, 89999), 'country', 'DE'),
                timestamptz '2023-01-01 00:00:00+00' + n * interval '37 seconds'
            FROM generate_series(1::bigint, {customers}) n"
        )
    }

    /// Orders `first..=last` with one to five lines and a payment each. The total of an order is
    /// that of its lines.
    fn orders_sql(&self, first: u64, last: u64) -> String {
        let Self { customers, products, .. } = self;
        let (code, buyer, lines) = (self.salt(8), self.salt(9), self.salt(10));
        let (item, words, paid) = (self.salt(11), self.salt(12), self.salt(13));
        let price = self.price("product");
        format!(
            "WITH numbers AS (
                SELECT n, timestamptz '2024-01-01 00:00:00+00' + n * interval '11.7 seconds'
                    + pg_temp.pick(n, {lines}, 999999) * interval '1 microsecond' AS at
                FROM generate_series({first}::bigint, {last}) n
            ), lines AS (
                INSERT INTO order_lines
                SELECT n, line, product, 1 + pg_temp.pick(n * 8 + line, {lines}, 4), {price}
                FROM numbers
                CROSS JOIN LATERAL generate_series(1, 1 + pg_temp.pick(n, {lines}, 5)) line
                CROSS JOIN LATERAL (
                    SELECT 1 + pg_temp.pick(n * 8 + line, {item}, {products}) AS product) picked
                RETURNING order_id, quantity * unit_price AS amount
            ), totals AS (
                SELECT order_id, sum(amount) AS total FROM lines GROUP BY order_id
            ), placed AS (
                INSERT INTO orders
                SELECT n, pg_temp.code(n, {code}), 1 + pg_temp.pick(n, {buyer}, {customers}),
                    (ARRAY['delivered', 'delivered', 'delivered', 'shipped', 'returned'])
                        [1 + pg_temp.pick(n, {code}, 5)],
                    total, jsonb_build_object('method',
                        (ARRAY['post', 'courier', 'pickup'])[1 + pg_temp.pick(n, {words}, 3)],
                        'track', pg_temp.code(n, {paid}), 'street', pg_temp.words(n, {buyer}, 20)),
                    CASE WHEN n % 3 = 0
                        THEN pg_temp.words(n, {words}, 30 + pg_temp.pick(n, {paid}, 120)) END,
                    at, at + pg_temp.pick(n, {buyer}, 800000) * interval '1 second'
                FROM totals JOIN numbers ON n = order_id
            )
            INSERT INTO payments
            SELECT pg_temp.code(n, {item}), n,
                (ARRAY['card', 'card', 'transfer', 'wallet'])[1 + pg_temp.pick(n, {paid}, 4)],
                total, upper(replace(pg_temp.code(n, {words})::text, '-', '')),
                jsonb_build_object('provider', 'acme-pay', 'risk', pg_temp.pick(n, {item}, 1000),
                    'three_d_secure', n % 4 <> 0, 'message', pg_temp.words(n, {paid}, 30)),
                at + interval '3 seconds'
            FROM totals JOIN numbers ON n = order_id"
        )
    }
}

/// Runs statements that do not depend on each other on several connections.
async fn in_parallel(config: &Config, statements: &'static [&'static str]) -> anyhow::Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let client = connect(config).await?;
        let next = Arc::clone(&next);
        workers.spawn(async move {
            client.batch_execute("SET maintenance_work_mem = '256MB'").await?;
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let Some(statement) = statements.get(usize::try_from(turn)?) else {
                    return anyhow::Ok(());
                };
                client.batch_execute(statement).await?;
            }
        });
    }
    while let Some(done) = workers.join_next().await {
        done??;
    }
    Ok(())
}

/// Text that looks like text: words in no order, the same every time.
fn text() -> String {
    const WORDS: &str = "the a of with for and light small large new old warm soft bright quiet oak \
        steel linen paper cotton lamp chair table shelf cup bowl knife garden window winter summer \
        river stone cloud made by hand in two colours please leave at door neighbour ring twice gift \
        wrap no plastic deliver before noon thank you spare part set size fits wide narrow handle \
        cover travel home office kitchen";
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut text = String::with_capacity(TEXT_LENGTH + 16);
    while text.len() < TEXT_LENGTH {
        // Knuth's MMIX generator; its upper bits are the good ones.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let turn = usize::try_from(state >> 33).unwrap_or_default() % words.len();
        text.push_str(words.get(turn).copied().unwrap_or_default());
        text.push(' ');
    }
    text
}
