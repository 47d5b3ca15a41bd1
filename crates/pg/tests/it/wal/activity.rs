//! Destructive transactions found in the WAL of real servers.

use pg::wal::activity::{FileChange, Limits, TimePoint, TimePointKind, Transaction};
use pg::wal::rmgr::xlog::Xlog;
use pg::wal::{Activity, RecordReader, ResourceManager};
use pg::{Lsn, Oid, Xid};
use testbed::postgres::{Cluster, Install, installed};

use super::support::Wal;
use super::workload;

/// What was seen of a server's whole life so far.
struct Found {
    transactions: Vec<Transaction>,
    prepared: Vec<Transaction>,
    points: Vec<TimePoint>,
    restore_points: Vec<(String, Lsn)>,
}

impl Found {
    fn in_wal_of(cluster: &Cluster) -> Self {
        let wal = Wal::of(cluster, 1);
        let mut activity = Activity::new(Limits { rows_deleted_min: 50, ..Limits::default() });
        let (mut points, mut restore_points) = (Vec::new(), Vec::new());
        let end = wal.read(|record| {
            points.extend(activity.record(record).unwrap());
            if record.rmgr == ResourceManager::XLOG
                && let Xlog::RestorePoint { name, .. } = Xlog::decode(record).unwrap()
            {
                restore_points.push((String::from_utf8_lossy(name).into_owned(), record.end));
            }
        });
        assert!(end.reason.is_unwritten() && activity.is_complete());
        let prepared = activity.prepared();
        Self { transactions: activity.take_notable(), prepared, points, restore_points }
    }

    fn by_xid(&self, xid: Xid) -> &Transaction {
        self.transactions
            .iter()
            .find(|transaction| transaction.xid == xid)
            .unwrap_or_else(|| panic!("transaction {xid} not among {:#?}", self.transactions))
    }

    fn has(&self, xid: Xid) -> bool {
        self.transactions.iter().any(|transaction| transaction.xid == xid)
    }
}

/// Runs `sql` in one transaction and returns its id.
fn run(cluster: &Cluster, sql: &str) -> Xid {
    let answer = cluster.psql(&format!("BEGIN; SELECT pg_current_xact_id(); {sql}; COMMIT"));
    Xid::new(answer.lines().next().unwrap().parse().unwrap())
}

fn file_number(cluster: &Cluster, table: &str) -> Oid {
    let answer = cluster.psql(&format!("SELECT pg_relation_filenode('{table}')"));
    Oid::new(answer.parse().unwrap())
}

fn cluster(install: &Install, wal_level: &str, wal_compression: &str) -> Cluster {
    let cluster = workload::builder(install, 1)
        .setting("wal_level", wal_level)
        .setting("wal_compression", wal_compression)
        .setting("track_commit_timestamp", "on")
        .start();
    cluster.psql(
        "CREATE TABLE orders(id int PRIMARY KEY, name text);
         INSERT INTO orders SELECT i, md5(i::text) FROM generate_series(1, 1000) i;
         CREATE TABLE lines(id int PRIMARY KEY, order_id int);
         INSERT INTO lines SELECT i, i FROM generate_series(1, 500) i",
    );
    cluster
}

fn deleted_from(transaction: &Transaction, file: Oid) -> u64 {
    let rows = transaction.relations.iter().find(|rows| rows.relation.relation == file);
    rows.map_or(0, |rows| rows.rows.deleted)
}

fn check_deletes(install: &Install) {
    let cluster = cluster(install, "replica", "off");
    let (orders, lines) = (file_number(&cluster, "orders"), file_number(&cluster, "lines"));
    let small = run(&cluster, "DELETE FROM orders WHERE id <= 10");
    let large = run(
        &cluster,
        "DELETE FROM orders WHERE id <= 310; SAVEPOINT s; DELETE FROM lines WHERE id <= 40;
         ROLLBACK TO s; SAVEPOINT t; DELETE FROM lines WHERE id > 430; RELEASE t;
         UPDATE orders SET name = 'x' WHERE id > 900",
    );
    let rolled_back = cluster
        .psql("BEGIN; SELECT pg_current_xact_id(); DELETE FROM orders; ROLLBACK")
        .parse()
        .map(Xid::new)
        .unwrap();
    cluster.psql("VACUUM orders; VACUUM FREEZE lines");
    let target = cluster.psql("SELECT pg_create_restore_point('before the rest')");
    let pending = cluster.psql(
        "BEGIN; SELECT pg_current_xact_id(); DELETE FROM orders WHERE id <= 400;
         PREPARE TRANSACTION 'pending'",
    );
    let pending = Xid::new(pending.parse().unwrap());
    let prepared = cluster.psql(
        "BEGIN; SELECT pg_current_xact_id(); DELETE FROM lines WHERE id <= 100;
         PREPARE TRANSACTION 'done'; COMMIT PREPARED 'done'",
    );
    let prepared = Xid::new(prepared.parse().unwrap());
    let end: Lsn = cluster.psql("SELECT pg_current_wal_insert_lsn()").parse().unwrap();

    let found = Found::in_wal_of(&cluster);
    let transaction = found.by_xid(large);
    assert_eq!(deleted_from(transaction, orders), 300);
    assert_eq!(deleted_from(transaction, lines), 70);
    assert_eq!((transaction.rows.deleted, transaction.rows.updated), (370, 100));
    // After ROLLBACK TO the savepoint goes on as the parent of the next one.
    assert_eq!(transaction.subtransactions, 2);
    assert_eq!(transaction.file_change, FileChange::None);
    assert_eq!(transaction.ended_by, TimePointKind::Commit);
    assert!(!found.has(small) && !found.has(rolled_back) && !found.has(pending));
    assert_eq!(found.restore_points, [("before the rest".to_owned(), target.parse().unwrap())]);

    let transaction = found.by_xid(prepared);
    assert_eq!(transaction.ended_by, TimePointKind::CommitPrepared);
    assert_eq!(transaction.gid.as_deref(), Some("done"));
    assert_eq!((transaction.rows.deleted, transaction.end), (100, end));
    let names: Vec<_> = found.prepared.iter().map(|one| (one.xid, one.gid.clone())).collect();
    assert_eq!(names, [(pending, Some("pending".to_owned()))]);
    assert_eq!(found.prepared.first().map(|one| one.rows.deleted), Some(90));
    check_points(&cluster, &found, &[small, large]);
}

/// Commit times are those the server itself remembers of each transaction's rows.
fn check_points(cluster: &Cluster, found: &Found, committed: &[Xid]) {
    for xid in committed {
        let point = found.points.iter().find(|point| point.xid == *xid).expect("a commit");
        assert!(point.is_commit() && point.stops_recovery_by_time());
        let micros = cluster.psql(&format!(
            "SELECT (extract(epoch FROM pg_xact_commit_timestamp('{xid}')) * 1000000)::bigint"
        ));
        let unix_micros = point.time.to_timestamp().unwrap().as_microsecond();
        assert_eq!(unix_micros.to_string(), micros, "transaction {xid}");
    }
    let kinds =
        |kind: TimePointKind| found.points.iter().filter(|point| point.kind == kind).count();
    assert_eq!(kinds(TimePointKind::Prepare), 2);
    assert_eq!(kinds(TimePointKind::CommitPrepared), 1);
    assert!(kinds(TimePointKind::Abort) >= 2);
}

/// What deletes files, told apart with `wal_level` `replica`, where `TRUNCATE` leaves no record.
fn check_files(install: &Install, wal_compression: &str) {
    let cluster = cluster(install, "replica", wal_compression);
    cluster.psql(
        "CREATE TABLE noted(id serial PRIMARY KEY, body text);
         INSERT INTO noted(body) VALUES ('a'), ('b');
         CREATE TABLE spare AS SELECT * FROM orders; CREATE UNLOGGED TABLE light(id int);
         CREATE MATERIALIZED VIEW names AS SELECT name FROM orders",
    );
    let orders = file_number(&cluster, "orders");
    // Compressed pages of a new index cannot be told from pages of rows.
    let dropped_and_indexed =
        if wal_compression == "off" { FileChange::Dropped } else { FileChange::Replaced };
    let check = |sql: &str, expect: FileChange| (run(&cluster, sql), sql.to_owned(), expect);
    let changes = [
        check("TRUNCATE orders", FileChange::Emptied),
        check("TRUNCATE noted RESTART IDENTITY", FileChange::Emptied),
        check("TRUNCATE light", FileChange::Emptied),
        check("ALTER TABLE lines ALTER order_id TYPE bigint", FileChange::Replaced),
        check("TRUNCATE spare; INSERT INTO spare SELECT 1, 'new'", FileChange::Replaced),
        check("REFRESH MATERIALIZED VIEW names", FileChange::Emptied),
        check("DROP TABLE spare", FileChange::Dropped),
        check("DROP TABLE light; CREATE INDEX ON lines(order_id)", dropped_and_indexed),
        check("DROP MATERIALIZED VIEW names", FileChange::Dropped),
    ];
    let reindex = run(&cluster, "REINDEX TABLE lines");
    let temporary = run(&cluster, "CREATE TEMP TABLE t ON COMMIT DROP AS SELECT 1 AS one");
    let own = run(&cluster, "CREATE TABLE own(id int); DROP TABLE own");
    cluster.psql("VACUUM FULL lines");

    let found = Found::in_wal_of(&cluster);
    for (xid, sql, expect) in &changes {
        assert_eq!(found.by_xid(*xid).file_change, *expect, "{sql} on {}", install.major);
        assert!(found.by_xid(*xid).truncates.is_empty());
    }
    let first = found.by_xid(changes[0].0);
    assert!(first.dropped.iter().any(|file| file.relation == orders));
    let last = found.transactions.last().expect("the rewrite");
    assert_eq!(last.file_change, FileChange::Replaced, "VACUUM FULL: {last:#?}");
    for xid in [reindex, temporary, own] {
        let files = found.transactions.iter().find(|transaction| transaction.xid == xid);
        let change = files.map_or(FileChange::None, |transaction| transaction.file_change);
        assert!(change <= FileChange::Reindexed, "{files:?}");
    }
}

/// With `wal_level` `logical` a `TRUNCATE` says which tables it emptied.
fn check_truncate_records(cluster: &Cluster) {
    let oids = cluster.psql("SELECT 'orders'::regclass::oid, 'lines'::regclass::oid");
    let oids: Vec<Oid> = oids.split('|').map(|oid| Oid::new(oid.parse().unwrap())).collect();
    let xid = run(cluster, "TRUNCATE orders, lines CASCADE");
    let found = Found::in_wal_of(cluster);
    let transaction = found.by_xid(xid);
    let [truncate] = transaction.truncates.as_slice() else { panic!("{transaction:#?}") };
    assert_eq!(truncate.relations, oids);
    assert!(truncate.cascade && !truncate.restart_sequences);
    assert_eq!(Some(truncate.database), transaction.database);
}

/// A database is gone as soon as the record that drops it is replayed, before the commit.
fn check_databases(cluster: &Cluster) {
    cluster.psql("CREATE DATABASE lost");
    let oid = cluster.psql("SELECT oid FROM pg_database WHERE datname = 'lost'");
    let before: Lsn = cluster.psql("SELECT pg_current_wal_insert_lsn()").parse().unwrap();
    cluster.psql("DROP DATABASE lost");
    let found = Found::in_wal_of(cluster);
    let transaction = found
        .transactions
        .iter()
        .find(|transaction| !transaction.dropped_databases.is_empty())
        .expect("the drop");
    assert_eq!(transaction.dropped_databases, [Oid::new(oid.parse().unwrap())]);
    assert!(transaction.recover_before() >= before);
    assert!(transaction.recover_before() < transaction.end_start);
}

#[test]
fn deleted_rows_are_counted_for_their_transaction_on_every_major() {
    for install in installed() {
        check_deletes(&install);
    }
}

#[test]
fn drops_truncates_and_rewrites_are_told_apart_on_every_major() {
    for install in installed() {
        check_files(&install, "off");
    }
}

#[test]
fn drops_truncates_and_rewrites_are_told_apart_with_compressed_images() {
    check_files(&Install::by_major(14), "on");
    check_files(&Install::by_major(15), "zstd");
}

#[test]
fn truncate_and_drop_database_name_what_they_hit_on_every_major() {
    for install in installed() {
        let cluster = cluster(&install, "logical", "off");
        check_truncate_records(&cluster);
        check_databases(&cluster);
    }
}

/// The same segments read by two readers, one after the other, give what one reader gives.
#[test]
fn reading_can_be_taken_up_where_another_reader_stopped() {
    let cluster = cluster(&Install::by_major(15), "replica", "off");
    cluster
        .psql("INSERT INTO orders SELECT i, repeat('y', 300) FROM generate_series(2000, 9999) i");
    let wal = Wal::of(&cluster, 1);
    let mut all = Vec::new();
    wal.read(|record| all.push(record.start));
    let half = usize::try_from(wal.size.get()).unwrap();
    let mut first = wal.reader();
    first.feed(&wal.bytes[..half]);
    let mut starts = Vec::new();
    while let Some(record) = first.next_record().unwrap() {
        starts.push(record.start);
    }
    let resume = first.unfinished().unwrap_or(first.end());
    let mut second = RecordReader::new(resume, wal.size, pg::wal::WalBlockSize::DEFAULT);
    let skipped = usize::try_from(second.position() - wal.begin).unwrap();
    second.feed(&wal.bytes[skipped..]);
    while let Ok(Some(record)) = second.next_record() {
        starts.push(record.start);
    }
    assert_eq!(starts, all);
}
