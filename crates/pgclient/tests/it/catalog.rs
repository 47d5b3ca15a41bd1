//! What is in a cluster.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use pgclient::{Client, Database, Relation};
use testbed::Workdir;
use testbed::postgres::{Cluster, installed};

use crate::bench::connect;

const PG_DEFAULT: u32 = 1663;
const PG_GLOBAL: u32 = 1664;

/// Where the relation's first file is, below the data directory.
fn file_of(relation: &Relation, database: &Database, data_dir: &Path) -> PathBuf {
    match relation.tablespace.get() {
        PG_GLOBAL => data_dir.join(format!("global/{}", relation.filenode)),
        PG_DEFAULT => data_dir.join(format!("base/{}/{}", database.oid, relation.filenode)),
        tablespace => {
            let link = data_dir.join(format!("pg_tblspc/{tablespace}"));
            let version = fs::read_dir(link).unwrap().next().unwrap().unwrap().path();
            version.join(format!("{}/{}", database.oid, relation.filenode))
        }
    }
}

/// Main forks in a database's folder: names of digits only.
fn main_forks(folder: &Path) -> BTreeSet<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_number = |path: &PathBuf| {
        path.file_name().unwrap().to_str().unwrap().bytes().all(|byte| byte.is_ascii_digit())
    };
    paths.filter(is_number).collect()
}

async fn database(client: &Client, name: &str) -> Database {
    let databases = client.databases().await.unwrap();
    databases.into_iter().find(|database| database.name == name).unwrap()
}

#[tokio::test]
async fn every_file_has_a_name_and_every_name_a_file() {
    for install in installed() {
        let cluster = Cluster::builder(&install).start();
        let elsewhere = Workdir::new();
        let space = elsewhere.folder("space", 0o700);
        cluster.psql(&format!("CREATE TABLESPACE far LOCATION '{}'", space.display()));
        cluster.psql("CREATE DATABASE shop");
        cluster.psql_in(
            "shop",
            "CREATE SCHEMA \"it's\"; CREATE TABLE \"it's\".\"Orders\" (id serial PRIMARY KEY, note text);
             CREATE TABLE away (id int) TABLESPACE far; CREATE UNLOGGED TABLE fast (id int);
             CREATE TABLE parted (id int) PARTITION BY RANGE (id); CREATE VIEW v AS SELECT 1;
             INSERT INTO \"it's\".\"Orders\" (note) VALUES ('x'); VACUUM FULL \"it's\".\"Orders\";
             VACUUM FULL pg_class; CHECKPOINT;",
        );
        let client = connect(&cluster).await;
        let shop = database(&client, "shop").await;
        let relations = client.relation_names("shop").await.unwrap();

        let mut named = BTreeSet::new();
        for relation in &relations {
            let file = file_of(relation, &shop, cluster.data_dir());
            assert!(file.is_file(), "{}: {relation:?}", install.major);
            named.insert(file);
        }
        let folder = cluster.data_dir().join(format!("base/{}", shop.oid));
        let nameless: Vec<_> = main_forks(&folder).difference(&named).cloned().collect();
        assert!(nameless.is_empty(), "{}: {nameless:?}", install.major);

        let orders = relations.iter().find(|relation| relation.name == "Orders").unwrap();
        assert_eq!((orders.schema.as_str(), orders.kind, orders.persistence), ("it's", 'r', 'p'));
        assert_ne!(orders.oid, orders.filenode, "it was rewritten");
        let of_orders = |kind| {
            let owned = relations.iter().filter(|one| one.owning_table == Some(orders.oid));
            owned.filter(|one| one.kind == kind).count()
        };
        assert_eq!((of_orders('i'), of_orders('t')), (2, 1), "key, TOAST index; TOAST table");
        assert!(
            relations.iter().any(|relation| relation.name == "fast" && relation.persistence == 'u')
        );
        assert!(relations.iter().any(|one| one.name == "pg_database" && one.shared));
        assert!(
            !relations.iter().any(|relation| relation.name == "parted" || relation.name == "v")
        );
    }
}

#[tokio::test]
async fn tablespaces_databases_and_extensions_are_listed() {
    for install in installed() {
        let cluster = Cluster::builder(&install).start();
        let elsewhere = Workdir::new();
        let space = elsewhere.folder("a space", 0o700);
        cluster.psql(&format!("CREATE TABLESPACE far LOCATION '{}'", space.display()));
        cluster.psql("CREATE DATABASE \"the shop\" TABLESPACE far");
        cluster.psql_in("the shop", "CREATE EXTENSION amcheck");
        let client = connect(&cluster).await;

        let tablespaces = client.tablespaces().await.unwrap();
        let names: Vec<&str> = tablespaces.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["pg_default", "pg_global", "far"]);
        assert_eq!(tablespaces[0].location, None);
        assert_eq!(tablespaces[2].location.as_deref(), Some(space.as_path()));

        let shop = database(&client, "the shop").await;
        assert_eq!(shop.tablespace, tablespaces[2].oid);
        assert_eq!((shop.encoding.as_str(), shop.locale_provider), ("UTF8", 'c'));
        assert_eq!((shop.collate.as_str(), shop.allows_connections), ("C", true));
        assert!(!database(&client, "template0").await.allows_connections);

        let extensions = client.extensions("the shop").await.unwrap();
        let names: Vec<&str> = extensions.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["amcheck", "plpgsql"]);
        assert!(extensions[0].version.starts_with('1'));
    }
}

#[tokio::test]
async fn another_collation_version_can_be_told() {
    for install in installed() {
        let cluster = Cluster::builder(&install).start();
        cluster.psql("CREATE COLLATION text_like_home (provider = libc, locale = 'C.UTF-8')");
        cluster
            .psql("UPDATE pg_collation SET collversion = '0.9' WHERE collname = 'text_like_home'");
        let client = connect(&cluster).await;
        let collations = client.collations("postgres").await.unwrap();
        let ours = collations.iter().find(|one| one.name == "text_like_home").unwrap();
        assert_eq!((ours.provider, ours.version.as_str()), ('c', "0.9"));
        assert_ne!(ours.version_actual.as_deref(), Some("0.9"));
    }
}

#[tokio::test]
async fn prepared_transactions_are_listed_oldest_first() {
    for install in installed() {
        let cluster = Cluster::builder(&install).setting("max_prepared_transactions", "3").start();
        cluster.psql("CREATE TABLE t (id int)");
        for gid in ["first", "it''s second"] {
            cluster.psql(&format!("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION '{gid}';"));
        }
        let prepared = connect(&cluster).await.prepared_transactions().await.unwrap();
        let gids: Vec<&str> = prepared.iter().map(|one| one.gid.as_str()).collect();
        assert_eq!(gids, ["first", "it's second"]);
        assert!(prepared[0].prepared < prepared[1].prepared && prepared[0].xid < prepared[1].xid);
        assert_eq!(
            (prepared[0].owner.as_str(), prepared[0].database.as_str()),
            ("postgres", "postgres")
        );
    }
}
