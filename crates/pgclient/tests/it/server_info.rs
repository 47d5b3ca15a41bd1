//! What a server says about itself.

use std::path::Path;

use testbed::postgres::{Cluster, installed};

use crate::bench::connect;

#[tokio::test]
async fn every_major_says_what_it_is() {
    for (install, segment_mib) in installed().iter().zip([1, 16, 64, 2, 4]) {
        let checksums = install.major % 2 == 0;
        let cluster = Cluster::builder(install)
            .wal_segsize_mb(segment_mib)
            .data_checksums(checksums)
            .setting("archive_mode", "on")
            .setting("archive_command", "test ! -f x || true")
            .setting("max_prepared_transactions", "7")
            .setting("shared_preload_libraries", "auto_explain")
            .start();
        let server = connect(&cluster).await.server().await.unwrap();

        assert_eq!(server.major.get(), install.major);
        assert_eq!(server.version_num / 10_000, install.major);
        assert_eq!(server.data_directory, cluster.data_dir());
        assert_eq!(server.wal_segment_size.get(), u64::from(segment_mib) << 20);
        assert_eq!((server.block_size, server.wal_block_size), (8192, 8192));
        assert_eq!(server.segment_pages, 131_072);
        assert_eq!(server.data_checksums, checksums);
        assert_eq!((server.timeline.get(), server.in_recovery), (1, false));
        assert_eq!(server.wal_level, "replica");
        assert!(server.full_page_writes && !server.wal_log_hints);
        assert_eq!(server.archive_mode, "on");
        assert_eq!(server.archive_command, "test ! -f x || true");
        assert_eq!(server.archive_library, "");
        assert_eq!(server.port, cluster.port());
        assert_eq!(server.unix_socket_directories, [cluster.socket_dir()]);
        assert_eq!(server.limits.max_prepared_transactions, 7);
        assert_eq!(server.limits.max_connections, 50);
        assert_eq!(server.limits.max_locks_per_transaction, 64);
        assert_eq!(server.shared_preload_libraries, "auto_explain");
        assert_eq!(server.config_file, cluster.data_dir().join("postgresql.conf"));
        assert_eq!(server.hba_file, cluster.data_dir().join("pg_hba.conf"));
        assert_eq!(server.ident_file, cluster.data_dir().join("pg_ident.conf"));
        let bytes = std::fs::read(cluster.data_dir().join("global/pg_control")).unwrap();
        let stored = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        assert_eq!(server.system_id.get(), stored, "the control file begins with it");
    }
}

#[tokio::test]
async fn a_role_without_rights_learns_which_one_is_missing() {
    let cluster = Cluster::builder(&installed()[0]).start();
    cluster.psql("CREATE ROLE guest LOGIN");
    let options = cluster.conninfo().replace("user=postgres", "user=guest");
    let options = pgclient::ConnectOptions::parse(&options).unwrap();
    let client = pgclient::Client::connect(&options).await.unwrap();
    let error = client.server().await.unwrap_err().to_string();
    assert!(error.contains("'unix_socket_directories'") || error.contains("'data_directory'"));
    assert!(error.contains("pg_read_all_settings"), "{error}");
    assert_eq!(client.major().await.unwrap().get(), 14);
}

#[tokio::test]
async fn configuration_outside_of_the_data_directory_is_found() {
    for install in installed() {
        let mut cluster = Cluster::builder(&install).create();
        let elsewhere = testbed::Workdir::new();
        let hba = elsewhere.file("hba.conf", "local all all trust\n");
        let extra = elsewhere.file("extra.conf", "work_mem = '5MB'\n");
        cluster.append_setting("hba_file", hba.to_str().unwrap());
        let conf = cluster.data_dir().join("postgresql.conf");
        let mut text = std::fs::read_to_string(&conf).unwrap();
        text += &format!("include '{}'\n", extra.display());
        std::fs::write(&conf, text).unwrap();
        cluster.start();
        let found = connect(&cluster).await.config_files_outside().await.unwrap();
        assert_eq!(found, [extra.as_path(), Path::new(&hba)], "{}", install.major);
    }
}
