//! A server is killed after somebody destroyed its data: its last WAL is saved, the culprits are
//! found, and a recovery to the proposed target has everything from before.

use std::fs;
use std::path::{Path, PathBuf};

use archive::locate::{LocateRequest, Located, Names, Suspect, What, locate};
use archive::salvage::{Place, SalvageRequest, Salvaged, salvage};
use archive::status::status;
use archive::{GetRequest, Route, Verdict, get};
use pg::wal::TimestampTz;
use pg::wal::activity::Limits;
use pg::{Lsn, Oid, SystemId, TimelineHistory, TimelineId, WalSegment};
use repository::Repository;
use repository::coverage::Coverage;
use repository::lineage::{self, Lineage};
use repository::relation_map::{Relation, RelationMap};
use repository::target::Target;
use repository::timeline::TimelinePath;
use stdx::{Id, SystemClock};
use testbed::Workdir;
use testbed::postgres::{Cluster, Install, Stop};

use crate::recovery::{Copy, copy};
use crate::support::{in_folders, mib, now, run};

const ORDERS: u32 = 500;
const LINES: u32 = 1500;
const PAYMENTS: u32 = 400;
const CUSTOMERS: u32 = 12_000;

/// A shop after an evil afternoon.
struct Shop {
    cluster: Cluster,
    workdir: Workdir,
    backup: PathBuf,
    names: Names,
    /// Ids of the transactions that destroyed something.
    delete: String,
    /// Commit times of the last good and of the first bad transaction lie on either side.
    before: String,
    /// Where the log ended when the last transaction was told to be durable.
    durable: Lsn,
    system_id: SystemId,
}

impl Shop {
    fn run(install: &Install) -> Self {
        let workdir = Workdir::new();
        let mut cluster = Cluster::builder(install)
            .wal_segsize_mb(1)
            .setting("wal_keep_size", "512MB")
            .setting("autovacuum", "off")
            .start();
        cluster.psql(&format!(
            "CREATE TABLE customers (id int PRIMARY KEY, name text);
             CREATE TABLE orders (id int PRIMARY KEY, customer int, note text);
             CREATE TABLE order_lines (id int, item text);
             CREATE TABLE payments (id int, cents int);
             INSERT INTO customers SELECT g, 'customer ' || g FROM generate_series(1, {CUSTOMERS}) g;
             INSERT INTO orders SELECT g, g % 100, repeat('note ', 20) FROM generate_series(1, {ORDERS}) g;
             INSERT INTO order_lines SELECT g, 'item ' || g FROM generate_series(1, {LINES}) g;
             INSERT INTO payments SELECT g, g * 7 FROM generate_series(1, {PAYMENTS}) g;
             ANALYZE;
             CREATE DATABASE scratch"
        ));
        let names = Names::new(maps(&cluster));
        let system_id = cluster.psql("SELECT system_identifier FROM pg_control_system()");
        cluster.stop(Stop::Fast);
        let backup = workdir.join("backup");
        copy(cluster.data_dir(), &backup);
        cluster.start();
        let mut shop = Self {
            cluster,
            workdir,
            backup,
            names,
            delete: String::new(),
            before: String::new(),
            durable: Lsn::INVALID,
            system_id: SystemId::new(system_id.parse().unwrap()),
        };
        shop.work();
        shop
    }

    /// Everyday work, then five accidents with work in between, then death.
    fn work(&mut self) {
        let everyday = |id: u32| {
            self.cluster.psql(&format!(
                "INSERT INTO orders VALUES ({id}, 1, 'new'); UPDATE orders SET note = 'paid' WHERE id = {id}"
            ));
        };
        everyday(10_001);
        self.cluster.switch_wal();
        everyday(10_002);
        self.before = self.cluster.psql("SELECT clock_timestamp()");
        self.delete =
            self.cluster.psql("BEGIN; SELECT pg_current_xact_id(); DELETE FROM orders; COMMIT");
        everyday(10_003);
        self.cluster.psql("UPDATE customers SET name = 'oops'");
        everyday(10_004);
        self.cluster.psql("TRUNCATE order_lines");
        self.cluster.psql("DROP TABLE payments");
        self.cluster.psql("DROP DATABASE scratch");
        everyday(10_005);
        self.durable = self.cluster.psql("SELECT pg_current_wal_flush_lsn()").parse().unwrap();
        self.cluster.kill9();
    }

    fn pg_wal(&self) -> PathBuf {
        self.cluster.data_dir().join("pg_wal")
    }

    /// A recovery from the backup with these settings and the WAL of the repository.
    fn recover(&self, folder: &str, wal: &Path, settings: &[(&str, &str)]) -> Copy {
        let data = self.workdir.join(folder);
        copy(&self.backup, &data);
        // The backup is cold: what its own pg_wal has must come from the repository as well.
        for entry in fs::read_dir(data.join("pg_wal")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::remove_file(path).unwrap();
            }
        }
        let command = format!("cp {}/%f %p", wal.display());
        let copy = Copy::of(self.cluster.install(), &data, "recovery.signal", &command);
        for (name, value) in settings {
            copy.cluster.append_setting(name, value);
        }
        copy
    }
}

/// The maps that a backup would carry, from the live server.
fn maps(cluster: &Cluster) -> Vec<RelationMap> {
    let rows = cluster.psql(
        "SELECT c.oid, pg_relation_filenode(c.oid), n.nspname, c.relname, c.relkind,
                c.relisshared, c.reltuples::bigint
         FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
         WHERE pg_relation_filenode(c.oid) IS NOT NULL",
    );
    let relations = rows.lines().map(|row| {
        let fields: Vec<&str> = row.split('|').collect();
        let oid = |at: usize| Oid::new(fields[at].parse().unwrap());
        Relation {
            oid: oid(0),
            filenode: oid(1),
            tablespace: Oid::new(1663),
            schema: fields[2].into(),
            name: fields[3].into(),
            kind: fields[4].chars().next().unwrap(),
            persistence: 'p',
            shared: fields[5] == "t",
            owning_table: None,
            estimated_rows: fields[6].parse().unwrap(),
        }
    });
    let relations = relations.collect();
    let database = |name: &str| {
        let oid = cluster.psql(&format!("SELECT oid FROM pg_database WHERE datname = '{name}'"));
        Oid::new(oid.parse().unwrap())
    };
    vec![
        RelationMap { database: database("postgres"), name: "postgres".into(), relations },
        RelationMap {
            database: database("scratch"),
            name: "scratch".into(),
            relations: Vec::new(),
        },
    ]
}

async fn save(repository: &Repository, shop: &Shop, lineage: &Lineage, writer: Id) -> Salvaged {
    let request = SalvageRequest {
        pg_wal: &shop.pg_wal(),
        lineage,
        place: Place::Elsewhere { writer },
        compression: repository::Compression::default(),
        threads: 2,
        now: now(),
    };
    salvage(repository, &request).await.unwrap()
}

/// Fetches every segment from the first one on, until the end is told.
async fn fetch(repository: &Repository, lineage: &Lineage, end: Lsn, first: u64, to: &Path) -> u64 {
    let path = TimelinePath::new(TimelineHistory::without_ancestors(TimelineId::FIRST));
    let route = Route::along(&path, mib());
    for number in first.. {
        let name = WalSegment { timeline: TimelineId::FIRST, number }.name(mib());
        let destination = to.join(&name);
        let request = GetRequest {
            name: &name,
            destination: &destination,
            lineage,
            route: &route,
            end: Some(end),
            reserved: None,
            standby: false,
            allow_partial: false,
        };
        match get(repository, &request).await {
            Verdict::Delivered => testbed::give_to_postgres(&destination),
            Verdict::Absent => return number,
            Verdict::Failed(error) => panic!("{error}"),
        }
    }
    first
}

fn check_disaster(major: u32) {
    let shop = Shop::run(&Install::by_major(major));
    let repositories = tempfile::tempdir().unwrap();
    run(async {
        let repository = in_folders(repositories.path(), 2);
        let lineage = lineage::register(&repository, "shop", shop.system_id, now()).await.unwrap();
        let writer = Id::random();
        let saved = save(&repository, &shop, &lineage, writer).await;
        assert!(saved.stored.len() > 2 && saved.conflicts.is_empty(), "{saved:?}");
        assert!(saved.end >= shop.durable, "{} {}", saved.end, shop.durable);
        let tail = saved.tail.clone().unwrap();
        let again = save(&repository, &shop, &lineage, writer).await;
        assert_eq!((again.stored.len(), again.end, &again.tail), (0, saved.end, &saved.tail));

        let seen = status(&repository, &lineage, now()).await.unwrap();
        let [timeline] = seen.timelines.as_slice() else { panic!("{seen:?}") };
        assert!(timeline.is_whole());
        assert_eq!(timeline.tail, Some(tail.end));

        let path = TimelinePath::new(TimelineHistory::without_ancestors(TimelineId::FIRST));
        let coverage = Coverage::load(&repository, lineage.id, &path, mib()).await.unwrap();
        let located = search(&repository, &shop, &lineage, &coverage, None).await;
        check_suspects(&shop, &located);
        let only = search(&repository, &shop, &lineage, &coverage, Some("orders")).await;
        assert_eq!(only.suspects.len(), 1, "{only:?}");

        let first = timeline.first.number;
        let wal = shop.workdir.folder("wal", 0o755);
        fetch(&repository, &lineage, saved.end, first, &wal).await;
        check_recoveries(&shop, &wal, culprit(&located, "public.orders"));
    });
}

async fn search(
    repository: &Repository,
    shop: &Shop,
    lineage: &Lineage,
    coverage: &Coverage,
    table: Option<&str>,
) -> Located {
    let request = LocateRequest {
        lineage,
        coverage,
        from: None,
        to: None,
        since: Some(shop.before.replace(' ', "T").replace("+00", "Z").parse().unwrap()),
        until: None,
        table,
        limits: Limits::default(),
        names: &shop.names,
    };
    locate(repository, &request, &SystemClock::new()).await.unwrap()
}

fn culprit<'a>(located: &'a Located, table: &str) -> &'a Suspect {
    let found = located
        .suspects
        .iter()
        .find(|suspect| suspect.damage.iter().any(|damage| damage.name.as_deref() == Some(table)));
    found.unwrap_or_else(|| panic!("{table}: {located:#?}"))
}

fn check_suspects(shop: &Shop, located: &Located) {
    assert!(located.is_complete && located.prepared.is_empty());
    assert_eq!(located.suspects.len(), 5, "{located:#?}");
    let first = &located.suspects[0];
    assert_eq!(first.damage[0].what, What::DatabaseDropped);
    assert_eq!(first.damage[0].name.as_deref(), Some("scratch"));
    let check = |table: &str, what: What, rows_lost: u32| {
        let suspect = culprit(located, table);
        let damage: Vec<_> =
            suspect.damage.iter().map(|it| (it.what, it.name.as_deref())).collect();
        assert_eq!(damage, [(what, Some(table))]);
        assert_eq!(suspect.rows_lost, u64::from(rows_lost), "{table}");
    };
    // Two rows of everyday work had been added.
    check("public.orders", What::Deleted(u64::from(ORDERS) + 2), ORDERS + 2);
    check("public.customers", What::Updated(u64::from(CUSTOMERS)), 0);
    check("public.order_lines", What::Emptied, LINES);
    check("public.payments", What::Dropped, PAYMENTS);
    // By rows lost or overwritten.
    let order: Vec<_> =
        located.suspects[1..].iter().filter_map(|suspect| suspect.damage[0].name.clone()).collect();
    assert_eq!(
        order,
        ["public.customers", "public.order_lines", "public.orders", "public.payments"]
    );

    let delete = culprit(located, "public.orders");
    assert_eq!(delete.transaction.xid.get().to_string(), shop.delete);
    let stop = delete.transaction.end_start;
    assert_eq!(delete.proposal.target, Target::BeforeRecord(stop));
    let last = delete.proposal.last_commit.unwrap();
    assert!(last.end <= stop && last.time < delete.transaction.time);
    let lost = delete.proposal.last_lost.unwrap();
    assert!(lost.start > stop && lost.time > delete.transaction.time);
    // Three times everyday work of two statements each, and the four other accidents.
    assert!(delete.proposal.transactions_lost >= 10, "{delete:?}");
    let bad: TimestampTz = delete.transaction.time;
    let good = shop.before.replace(' ', "T").replace("+00", "Z").parse().unwrap();
    assert!(bad > TimestampTz::from_timestamp_floor(good));
}

fn check_recoveries(shop: &Shop, wal: &Path, culprit: &Suspect) {
    let count = "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM order_lines),
                        (SELECT count(*) FROM customers WHERE name = 'oops')";
    let Target::BeforeRecord(stop) = culprit.proposal.target else { panic!("a record") };
    let settings = [
        ("recovery_target_lsn", stop.to_string()),
        ("recovery_target_inclusive", "off".into()),
        ("recovery_target_action", "promote".into()),
    ];
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut before = shop.recover("before", wal, &settings);
    before.recover().unwrap();
    assert_eq!(before.cluster.psql(count), format!("{}|{LINES}|0", ORDERS + 2));
    assert_eq!(before.cluster.psql("SELECT count(*) FROM payments"), PAYMENTS.to_string());
    // And to the end: with the last transaction, which was in no complete segment.
    let mut end = shop.recover("end", wal, &[]);
    end.recover().unwrap();
    assert_eq!(end.cluster.psql(count), format!("3|0|{CUSTOMERS}"));
    assert_eq!(end.cluster.psql("SELECT note FROM orders WHERE id = 10005"), "paid");
}

#[test]
fn a_disaster_on_14_is_found_and_undone() {
    check_disaster(14);
}

#[test]
fn a_disaster_on_15_is_found_and_undone() {
    check_disaster(15);
}

#[test]
fn a_disaster_on_16_is_found_and_undone() {
    check_disaster(16);
}

#[test]
fn a_disaster_on_17_is_found_and_undone() {
    check_disaster(17);
}

#[test]
fn a_disaster_on_18_is_found_and_undone() {
    check_disaster(18);
}
