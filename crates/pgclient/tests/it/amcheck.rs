//! Checking the structure of every table and index.

use std::time::Duration;

use testbed::postgres::{Cluster, installed};

use crate::bench::connect;

const DEADLINE: Duration = Duration::from_secs(60);

/// Rows that the index does not know: it was told to look away.
const BLIND_INDEX: &str = "CREATE TABLE orders (id int, note text);
    CREATE INDEX orders_id ON orders (id); INSERT INTO orders VALUES (1, 'seen');
    UPDATE pg_index SET indisready = false WHERE indexrelid = 'orders_id'::regclass;
    INSERT INTO orders VALUES (2, 'unseen');
    UPDATE pg_index SET indisready = true WHERE indexrelid = 'orders_id'::regclass;";

#[tokio::test]
async fn a_sound_database_has_no_findings_and_keeps_no_extension() {
    for install in installed() {
        let cluster = Cluster::builder(&install).start();
        cluster.psql(
            "CREATE TABLE t AS SELECT g AS id, repeat('x', g) AS v FROM generate_series(1, 3000) g",
        );
        cluster.psql("CREATE INDEX ON t (id); CREATE INDEX ON t (v)");
        let client = connect(&cluster).await;
        let report = client.amcheck("postgres", DEADLINE).await.unwrap();
        assert_eq!(report.findings, [], "{}", install.major);
        assert!(report.tables > 50 && report.indexes > 100, "{report:?}");
        assert_eq!(cluster.psql("SELECT count(*) FROM pg_extension"), "1", "plpgsql only");
        assert_eq!(
            cluster.psql("SELECT count(*) FROM pg_namespace WHERE nspname ~ 'rollforward'"),
            "0"
        );
    }
}

#[tokio::test]
async fn a_row_that_an_index_lacks_is_found() {
    for install in installed() {
        let cluster = Cluster::builder(&install).start();
        cluster.psql(BLIND_INDEX);
        if install.major % 2 == 0 {
            cluster.psql("CREATE SCHEMA tools; CREATE EXTENSION amcheck SCHEMA tools");
        }
        let report = connect(&cluster).await.amcheck("postgres", DEADLINE).await.unwrap();
        let [finding] = report.findings.as_slice() else { panic!("{report:?}") };
        assert_eq!(finding.relation, "public.orders_id");
        assert!(finding.message.contains("lacks matching index tuple"), "{}", finding.message);
    }
}

#[tokio::test]
async fn a_damaged_page_is_found() {
    for install in installed() {
        let mut cluster = Cluster::builder(&install).data_checksums(false).start();
        cluster.psql(
            "CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 1000) g; VACUUM FREEZE t",
        );
        let path = cluster.data_dir().join(cluster.psql("SELECT pg_relation_filepath('t')"));
        cluster.stop(testbed::postgres::Stop::Fast);
        let mut bytes = std::fs::read(&path).unwrap();
        // The first line pointer of the second page, behind its header of 24 bytes: in use, and far
        // beyond the page's end in offset and length.
        bytes[8192 + 24..8192 + 28].copy_from_slice(&0xfffe_ffff_u32.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        cluster.start();
        let report = connect(&cluster).await.amcheck("postgres", DEADLINE).await.unwrap();
        assert!(!report.findings.is_empty(), "{}", install.major);
        assert!(report.findings.iter().all(|finding| finding.relation == "public.t"), "{report:?}");
    }
}
