//! The data the shop is filled with.

use testbed::postgres::{Cluster, Install, installed};

use crate::bench::load;

/// Everything in the shop, in one number.
const DIGEST: &str = "SELECT sum(hashtextextended(row::text, 0)) FROM (
    SELECT to_jsonb(customers) AS row FROM customers UNION ALL SELECT to_jsonb(products) FROM products
    UNION ALL SELECT to_jsonb(orders) FROM orders UNION ALL SELECT to_jsonb(payments) FROM payments
    UNION ALL SELECT to_jsonb(order_lines) FROM order_lines) AS everything";

#[test]
fn the_same_seed_gives_the_same_shop() {
    let digest = |major, seed| {
        let cluster = Cluster::builder(&Install::by_major(major)).start();
        load(&cluster, "10MB", seed);
        cluster.psql(DIGEST)
    };
    let first = digest(15, "7");
    assert_eq!(first, digest(18, "7"), "on every major");
    assert_ne!(first, digest(15, "8"));
}

#[test]
fn the_shop_is_as_large_as_asked_and_in_order() {
    for install in installed() {
        let cluster = Cluster::builder(&install).start();
        load(&cluster, "60MB", "1");
        let size: f64 = cluster
            .psql(
                "SELECT sum(pg_total_relation_size(oid)) FROM pg_class
                 WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'",
            )
            .parse()
            .unwrap();
        let ratio = size / f64::from(60 << 20);
        assert!((0.85..1.15).contains(&ratio), "{ratio} of the size asked for");
        // Every order has the total of its lines and is paid.
        let wrong = "SELECT count(*) FROM orders o
            LEFT JOIN (SELECT order_id, sum(quantity * unit_price) AS total FROM order_lines
                GROUP BY order_id) AS l ON l.order_id = o.id
            LEFT JOIN payments p ON p.order_id = o.id
            WHERE o.total IS DISTINCT FROM l.total OR o.total IS DISTINCT FROM p.amount";
        assert_eq!(cluster.psql(wrong), "0");
        let references = "SELECT count(*) FILTER (WHERE contype = 'f' AND convalidated),
            count(*) FILTER (WHERE contype = 'p') FROM pg_constraint
            WHERE connamespace = 'public'::regnamespace";
        assert_eq!(cluster.psql(references), "4|5");
    }
}

#[test]
fn a_size_of_nothing_makes_the_tables_only() {
    let cluster = Cluster::builder(&Install::latest()).start();
    load(&cluster, "0", "1");
    assert_eq!(cluster.psql("SELECT count(*) FROM orders"), "0");
}
