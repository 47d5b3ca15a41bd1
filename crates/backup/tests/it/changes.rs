//! Files that change while they are copied, and pages that are damaged.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use backup::Progress;
use pg::BlockNumber;
use stdx::SystemClock;
use testbed::Port;
use testbed::postgres::{Cluster, Install};

use crate::fixture::{Protected, builder};
use crate::image::Image;

const SOON: Duration = Duration::from_secs(120);

/// Runs statements when the files are listed and before any is copied.
struct Meanwhile<'a> {
    cluster: &'a Cluster,
    sql: &'a str,
}

impl Progress for Meanwhile<'_> {
    fn total(&self, _bytes: u64, _files: u64) {
        self.cluster.psql(self.sql);
    }

    fn advance(&self, _bytes: u64) {}

    fn note(&self, _text: &str) {}
}

/// Recovers from a backup's files and the archived WAL.
fn recover(protected: &Protected, image: &Image, major: u32) -> (testbed::Workdir, Cluster) {
    let workdir = testbed::Workdir::new();
    let tablespaces = workdir.folder("spaces", 0o755);
    let data_dir = workdir.join("data");
    image.write(&data_dir, &tablespaces);
    let mut cluster =
        Cluster::attach(&Install::by_major(major), &data_dir, Port::reserve().number());
    cluster.append_setting("archive_mode", "off");
    let command = format!("cp {}/%f %p", protected.spool().display());
    cluster.append_setting("restore_command", &command);
    // As far as the backup itself reaches: to its stop.
    cluster.append_setting("recovery_target", "immediate");
    cluster.append_setting("recovery_target_action", "promote");
    cluster.start();
    cluster.wait_until("SELECT pg_is_in_recovery()", "f", SOON);
    (workdir, cluster)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_vanish_shrink_and_grow_are_healed_by_replay() {
    let protected = Protected::start(builder(17)).await;
    let cluster = &protected.cluster;
    cluster.psql(
        "CREATE TABLE doomed AS SELECT g, md5(g::text) FROM generate_series(1, 30000) g;
         CREATE TABLE small AS SELECT 1 AS x;
         CREATE TABLE shrunk AS SELECT g, md5(g::text) FROM generate_series(1, 30000) g;
         CREATE TABLE grown AS SELECT g, md5(g::text) FROM generate_series(1, 30000) g;
         CREATE INDEX ON grown (g);
         CHECKPOINT",
    );
    let size = |table: &str| -> u64 {
        let path = cluster.psql(&format!("SELECT pg_relation_filepath('{table}')"));
        std::fs::metadata(cluster.data_dir().join(path)).unwrap().len()
    };
    let (grown_before, grown_path) =
        (size("grown"), cluster.psql("SELECT pg_relation_filepath('grown')"));
    let meanwhile = Meanwhile {
        cluster,
        sql: "DROP TABLE doomed;
              DROP TABLE small;
              DELETE FROM shrunk WHERE g > 100;
              VACUUM shrunk;
              INSERT INTO grown SELECT g, md5(g::text) FROM generate_series(30001, 60000) g;
              CREATE TABLE born AS SELECT g FROM generate_series(1, 1000) g;
              CHECKPOINT",
    };
    let clock = SystemClock::new();
    let report =
        backup::full(&protected.repository, &protected.options, &meanwhile, &clock).await.unwrap();
    assert!(report.statistics.vanished >= 2, "{:?}", report.statistics);
    assert!(report.statistics.shrunk >= 1, "{:?}", report.statistics);
    assert_eq!(report.summary.damaged_pages, 0);

    let image = Image::read(&protected.repository, protected.lineage, &report.summary.label).await;
    assert!(size("grown") > grown_before);
    assert_eq!(image.content(&grown_path).len() as u64, grown_before, "as long as when listed");
    let (_workdir, restored) = recover(&protected, &image, 17);
    let counts = "SELECT (SELECT count(*) FROM shrunk), (SELECT count(*) FROM grown),
        (SELECT count(*) FROM born), to_regclass('doomed') IS NULL";
    assert_eq!(restored.psql(counts), "100|60000|1000|t");
    restored.psql("CREATE EXTENSION amcheck; SELECT bt_index_check('grown_g_idx', true)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_with_tiny_segments_recovers_to_a_consistent_state() {
    let protected = Protected::start(builder(16).wal_segsize_mb(1)).await;
    let cluster = &protected.cluster;
    cluster.psql(
        "CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL, note text);
         INSERT INTO account SELECT g, 100, repeat('x', 200) FROM generate_series(1, 20000) g;
         CREATE TABLE ledger (id bigserial PRIMARY KEY, what text);
         CREATE EXTENSION amcheck;
         CHECKPOINT",
    );
    let mut transfers = cluster.spawn_psql();
    transfers.send(
        "DO $$ DECLARE payer int; BEGIN LOOP
            payer := 1 + (random() * 19998)::int;
            UPDATE account SET balance = balance - 7 WHERE id = payer;
            UPDATE account SET balance = balance + 7 WHERE id = 20000;
            INSERT INTO ledger (what) SELECT md5(random()::text) FROM generate_series(1, 20);
            COMMIT;
         END LOOP; END $$;",
    );
    let mut tables = cluster.spawn_psql();
    tables.send(
        "DO $$ BEGIN LOOP
            CREATE TABLE passing AS SELECT g, md5(g::text) FROM generate_series(1, 3000) g;
            COMMIT;
            DROP TABLE passing;
            COMMIT;
         END LOOP; END $$;",
    );
    let moving = "SELECT count(*) > 200 FROM ledger";
    cluster.wait_until(moving, "t", SOON);
    let report = protected.backup().await;
    cluster.psql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
    );
    assert_eq!(report.summary.segment_size, 1 << 20);
    assert_eq!(report.summary.damaged_pages, 0, "{:?}", report.damaged);
    let segments = (report.summary.stop.get() - report.summary.redo.get()) >> 20;
    assert!(segments >= 1, "the load wrote {segments} segments during the backup");

    let image = Image::read(&protected.repository, protected.lineage, &report.summary.label).await;
    let (_workdir, restored) = recover(&protected, &image, 16);
    assert_eq!(restored.psql("SELECT sum(balance), count(*) FROM account"), "2000000|20000");
    restored
        .psql("SELECT bt_index_check('account_pkey', true), bt_index_check('ledger_pkey', true)");
    let found = "SELECT count(*) FROM verify_heapam('account') UNION ALL
        SELECT count(*) FROM verify_heapam('ledger')";
    assert_eq!(restored.psql(found), "0\n0");
}

fn overwrite(data_dir: &Path, path: &str, at: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(data_dir.join(path)).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_pages_are_reported_and_kept_and_never_excused() {
    let protected = Protected::start(builder(18)).await;
    let cluster = &protected.cluster;
    cluster.psql(
        "CREATE TABLE large AS SELECT g, md5(g::text) FROM generate_series(1, 30000) g;
         CREATE TABLE small AS SELECT g FROM generate_series(1, 1000) g;
         CHECKPOINT",
    );
    let large = cluster.psql("SELECT pg_relation_filepath('large')");
    let small = cluster.psql("SELECT pg_relation_filepath('small')");
    overwrite(cluster.data_dir(), &large, 3 * 8192 + 5000, b"flip");
    // An LSN far in the future says nothing about a page that is damaged.
    overwrite(cluster.data_dir(), &large, 20 * 8192, &[0xff; 8]);
    overwrite(cluster.data_dir(), &small, 8192 + 8000, b"flip");
    let report = protected.backup().await;
    let mut seen: Vec<_> =
        report.damaged.iter().map(|page| (page.path.as_str(), page.block)).collect();
    seen.sort_unstable();
    let mut expect = vec![
        (large.as_str(), BlockNumber::new(3)),
        (large.as_str(), BlockNumber::new(20)),
        (small.as_str(), BlockNumber::new(1)),
    ];
    expect.sort_unstable();
    assert_eq!(seen, expect);
    assert_eq!(report.summary.damaged_pages, 3);
    let image = Image::read(&protected.repository, protected.lineage, &report.summary.label).await;
    assert_eq!(image.root.summary.damaged_pages, 3);
    let there = std::fs::read(cluster.data_dir().join(&large)).unwrap();
    assert!(image.content(&large) == there);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_checksums_is_backed_up_as_it_is() {
    let protected = Protected::start(builder(15).data_checksums(false)).await;
    let cluster = &protected.cluster;
    cluster.psql("CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g; CHECKPOINT");
    let path = cluster.psql("SELECT pg_relation_filepath('t')");
    overwrite(cluster.data_dir(), &path, 5000, b"flip");
    let report = protected.backup().await;
    assert_eq!((report.summary.checksums, report.summary.damaged_pages), (false, 0));
}
