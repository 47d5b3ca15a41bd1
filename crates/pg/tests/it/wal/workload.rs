//! Makes a server write as many kinds of WAL records as it can be made to.

use testbed::Workdir;
use testbed::postgres::{Builder, Cluster, Install};

/// A server that keeps all its WAL and writes nothing by itself that can be helped.
pub(super) fn builder(install: &Install, segment_mib: u32) -> Builder {
    Cluster::builder(install)
        .wal_segsize_mb(segment_mib)
        .setting("wal_keep_size", "4GB")
        .setting("autovacuum", "off")
        .setting("max_prepared_transactions", "10")
        .setting("max_wal_senders", "2")
}

/// Runs everything. `folder` takes a tablespace.
pub(super) fn run(cluster: &Cluster, folder: &Workdir) {
    tables_and_indexes(cluster);
    transactions(cluster);
    rewrites(cluster);
    databases(cluster, folder);
    cluster.psql("SELECT pg_create_restore_point('before the end')");
    // Longer than a segment of 1 MiB: begins on one, fills one, ends on a third.
    cluster.psql(
        "SELECT pg_logical_emit_message(false, 'long', repeat('x', 2500000)) IS NULL;
         SELECT pg_switch_wal() IS NULL;
         CHECKPOINT",
    );
    cluster.psql("INSERT INTO item(name) VALUES ('after the switch')");
}

fn tables_and_indexes(cluster: &Cluster) {
    cluster.psql(
        "CREATE TABLE item(id serial PRIMARY KEY, name text, tags int[], place point, amount int,
           at timestamptz DEFAULT now());
         CREATE INDEX ON item USING hash (name);
         CREATE INDEX ON item USING gin (tags);
         CREATE INDEX ON item USING gist (place);
         CREATE INDEX ON item USING spgist (place);
         CREATE INDEX ON item USING brin (at) WITH (pages_per_range = 1, autosummarize = off);
         INSERT INTO item(name, tags, place, amount)
           SELECT md5(i::text), ARRAY[i, i % 10, i % 100], point(i, -i), i
           FROM generate_series(1, 5000) i;
         CREATE TABLE wide(id int PRIMARY KEY, body text);
         ALTER TABLE wide ALTER body SET STORAGE EXTERNAL;
         INSERT INTO wide SELECT i, repeat(md5(i::text), 500) FROM generate_series(1, 100) i;
         CREATE TABLE copied(n int);
         COPY copied FROM PROGRAM 'seq 1 3000';
         CHECKPOINT;
         UPDATE item SET amount = amount + 1 WHERE id % 7 = 0;
         UPDATE item SET name = 'n' || name WHERE id % 11 = 0;
         DELETE FROM item WHERE id % 5 = 0;
         DELETE FROM wide WHERE id > 50;
         INSERT INTO item(id, name) VALUES (1, 'there'), (1000001, 'new') ON CONFLICT DO NOTHING;
         SELECT brin_summarize_new_values('item_at_idx');
         VACUUM (FREEZE) item;
         VACUUM wide;
         ANALYZE item;
         DELETE FROM copied WHERE n > 100;
         VACUUM copied;
         CREATE UNLOGGED TABLE unlogged(id serial PRIMARY KEY, name text);
         INSERT INTO unlogged(name) SELECT md5(i::text) FROM generate_series(1, 100) i;
         CREATE TABLE part(k int, v text) PARTITION BY LIST (k);
         CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
         CREATE TABLE part_2 PARTITION OF part FOR VALUES IN (2);
         INSERT INTO part SELECT 1, i::text FROM generate_series(1, 20) i;
         UPDATE part SET k = 2",
    );
}

fn transactions(cluster: &Cluster) {
    cluster.psql(
        "BEGIN; INSERT INTO item(name) VALUES ('a'); SAVEPOINT s; DELETE FROM item WHERE id < 100;
           ROLLBACK TO s; SAVEPOINT t; UPDATE item SET amount = 0 WHERE id = 101; COMMIT;
         BEGIN; DELETE FROM item WHERE id BETWEEN 200 AND 300; ROLLBACK;
         DO $$ BEGIN FOR i IN 1..200 LOOP
           BEGIN INSERT INTO item(name) VALUES ('sub'); EXCEPTION WHEN division_by_zero THEN END;
           END LOOP; END $$;
         BEGIN; SELECT count(*) FROM (SELECT id FROM item WHERE id < 20 FOR KEY SHARE) q; SAVEPOINT s;
           UPDATE item SET amount = 7 WHERE id < 20; COMMIT;
         BEGIN; LOCK TABLE item; INSERT INTO item(name) VALUES ('p1'); SAVEPOINT s;
           DELETE FROM item WHERE id = 401; CREATE TABLE prepared_new(id int);
           DROP TABLE copied; PREPARE TRANSACTION 'one'; COMMIT PREPARED 'one';
         BEGIN; INSERT INTO item(name) VALUES ('p2'); PREPARE TRANSACTION 'two';
         ROLLBACK PREPARED 'two';
         BEGIN; DELETE FROM wide WHERE id = 2; PREPARE TRANSACTION 'three';
         CHECKPOINT",
    );
}

fn rewrites(cluster: &Cluster) {
    cluster.psql(
        "CREATE TABLE gone AS SELECT i AS id, md5(i::text) AS name FROM generate_series(1, 500) i;
         CREATE INDEX ON gone(id);
         TRUNCATE gone RESTART IDENTITY;
         INSERT INTO gone SELECT i FROM generate_series(1, 500) i;
         ALTER TABLE gone ALTER id TYPE bigint;
         VACUUM FULL gone;
         CLUSTER item USING item_pkey;
         REINDEX TABLE gone;
         ALTER TABLE unlogged SET LOGGED;
         CREATE MATERIALIZED VIEW totals AS SELECT count(*) FROM item;
         REFRESH MATERIALIZED VIEW totals;
         CREATE SEQUENCE counter; SELECT count(nextval('counter')) FROM generate_series(1, 200);
         DROP TABLE gone",
    );
}

fn databases(cluster: &Cluster, folder: &Workdir) {
    let major = cluster.install().major;
    let place = folder.folder("space", 0o700);
    let place = place.display();
    cluster.psql(&format!("CREATE TABLESPACE space LOCATION '{place}'"));
    cluster.psql(
        "CREATE TABLE elsewhere(id int) TABLESPACE space;
         INSERT INTO elsewhere VALUES (1);
         CREATE DATABASE copied_files",
    );
    if major >= 15 {
        cluster.psql("CREATE DATABASE by_copy STRATEGY file_copy; DROP DATABASE by_copy");
    }
    cluster.psql("DROP DATABASE copied_files; DROP TABLE elsewhere; DROP TABLESPACE space");
}
