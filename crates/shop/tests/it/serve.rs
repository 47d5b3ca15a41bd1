//! The running shop.

use std::fs;

use testbed::postgres::{Cluster, Install, Stop, installed};

use crate::bench::{DEADLINE, Shop, load, settings, url};

#[test]
fn the_shop_shows_and_places_orders() {
    for install in installed() {
        let cluster = Cluster::builder(&install).start();
        load(&cluster, "5MB", "1");
        let before: i64 = cluster.psql("SELECT max(id) FROM orders").parse().unwrap();
        let (_work, file) = settings(&cluster);
        let shop = Shop::start(&file, "50");
        shop.wait_for_orders(10);

        let (status, health) = shop.get("/health");
        assert_eq!((status, health["status"].as_str()), (200, Some("ok")));
        assert_eq!(health["database"]["writable"], true);
        let (status, answer) = shop.get("/api/orders?limit=5");
        let orders = answer["orders"].as_array().unwrap();
        assert_eq!((status, orders.len()), (200, 5));
        assert!(orders[0]["id"].as_i64().unwrap() > before);
        assert!(orders[0]["placed_at"].as_str() > orders[4]["placed_at"].as_str());
        for order in orders {
            assert_eq!(order["total"], order["paid"], "{order}");
            assert!(order["lines"].as_u64().unwrap() >= 1, "{order}");
        }
        let (_, stats) = shop.get("/api/stats");
        assert_eq!(stats["shop"]["write_failures"], 0, "{stats}");
        assert!(stats["shop"]["orders_moved_on"].as_u64().unwrap() > 0, "{stats}");
        assert!(stats["database"]["newest_order"].as_i64().unwrap() > before);
        assert!(shop.terminate().success());
        let half = "SELECT count(*) FROM orders WHERE id NOT IN (SELECT order_id FROM payments)";
        assert_eq!(cluster.psql(half), "0", "no half order stays behind");
    }
}

#[test]
fn an_outage_is_shown_counted_and_survived() {
    let mut cluster = Cluster::builder(&Install::latest()).start();
    load(&cluster, "5MB", "1");
    let (_work, file) = settings(&cluster);
    let shop = Shop::start(&file, "50");
    shop.wait_for_orders(3);
    cluster.stop(Stop::Immediate);
    testbed::poll(DEADLINE, "the outage to be seen", || shop.get("/health").0 == 503);
    assert_eq!(shop.get("/api/orders").0, 503);
    let (status, stats) = shop.get("/api/stats");
    assert_eq!((status, &stats["database"]), (200, &serde_json::Value::Null));
    testbed::poll(DEADLINE, "failures to be counted", || {
        shop.get("/api/stats").1["shop"]["write_failures"].as_u64().unwrap() > 1
    });
    cluster.start();
    testbed::poll(DEADLINE, "health", || shop.get("/health").0 == 200);
    shop.wait_for_orders(3);
    assert!(shop.get("/api/stats").1["shop"]["reconnects"].as_u64().unwrap() >= 1);
}

#[test]
fn a_database_that_hangs_is_not_healthy() {
    let cluster = Cluster::builder(&Install::latest()).start();
    load(&cluster, "2MB", "1");
    let (_work, file) = settings(&cluster);
    let shop = Shop::start(&file, "0");
    assert_eq!(shop.get("/health").0, 200);
    let mut session = cluster.spawn_psql();
    session.query("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE;");
    let (status, body) = shop.get("/health");
    assert_eq!(status, 503, "{body}");
    session.query("ROLLBACK;");
    testbed::poll(DEADLINE, "health", || shop.get("/health").0 == 200);
    assert_eq!(shop.orders_placed(), 0);
}

#[test]
fn another_database_is_used_after_a_restart_only() {
    let (one, two) = (
        Cluster::builder(&Install::by_major(15)).start(),
        Cluster::builder(&Install::by_major(16)).start(),
    );
    load(&one, "2MB", "1");
    load(&two, "2MB", "2");
    let (_work, file) = settings(&one);
    let shop = Shop::start(&file, "50");
    shop.wait_for_orders(1);
    let untouched = two.psql("SELECT max(id) FROM orders");
    fs::write(&file, format!("{}\n", url(&two))).unwrap();
    shop.wait_for_orders(3);
    assert_eq!(two.psql("SELECT max(id) FROM orders"), untouched);
    assert!(shop.terminate().success());
    let shop = Shop::start(&file, "50");
    shop.wait_for_orders(1);
    assert_ne!(two.psql("SELECT max(id) FROM orders"), untouched);
}

#[test]
fn the_shop_starts_without_a_database_and_waits_for_it() {
    let mut cluster = Cluster::builder(&Install::latest()).start();
    load(&cluster, "2MB", "1");
    cluster.stop(Stop::Fast);
    let (_work, file) = settings(&cluster);
    let shop = Shop::start(&file, "50");
    assert_eq!(shop.get("/health").0, 503);
    cluster.start();
    shop.wait_for_orders(1);
}
