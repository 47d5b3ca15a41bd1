//! Settings as real servers know and read them.

use std::fs;
use std::process::Command;

use pg::MajorVersion;
use pg::recovery::{
    ArchiveRecovery, LEFTOVER_SETTINGS, RecoverySettings, RecoveryTarget, TARGET_SETTINGS,
    TargetAction, TargetTimeline, has_setting, neutralise,
};
use testbed::as_postgres;
use testbed::postgres::{Cluster, installed};

/// Settings around recovery and quarantine, besides those in the lists of `pg::recovery`.
const NAMES: [&str; 26] = [
    "archive_command",
    "archive_library",
    "archive_mode",
    "archive_timeout",
    "full_page_writes",
    "hba_file",
    "hot_standby",
    "idle_replication_slot_timeout",
    "listen_addresses",
    "max_active_replication_origins",
    "max_connections",
    "max_locks_per_transaction",
    "max_logical_replication_workers",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
    "port",
    "recovery_prefetch",
    "shared_preload_libraries",
    "summarize_wal",
    "synchronized_standby_slots",
    "synchronous_standby_names",
    "unix_socket_directories",
    "vacuum_defer_cleanup_age",
    "wal_decode_buffer_size",
    "wal_level",
];

#[test]
fn each_major_has_the_settings_we_think_it_has() {
    for install in installed() {
        let cluster = Cluster::builder(&install).start();
        let known = cluster.psql("SELECT name FROM pg_settings ORDER BY 1");
        let known: Vec<&str> = known.lines().collect();
        let major = MajorVersion::new(install.major).unwrap();
        for name in NAMES.iter().chain(&TARGET_SETTINGS).chain(&LEFTOVER_SETTINGS) {
            assert_eq!(has_setting(major, name), known.contains(name), "{name} in {major}");
        }
    }
}

#[test]
fn the_server_reads_the_values_that_were_meant() {
    let values = [
        (
            "restore_command",
            "rollforward wal get \"%f\" '%p' --config 'it''s here\\n' # no comment",
        ),
        ("archive_command", "C:\\new\\table 'quoted' = $HOME"),
        ("synchronous_standby_names", ""),
        ("primary_conninfo", "host=a password='x\\'y' application_name=ü"),
        ("cluster_name", "rehearsal"),
        ("cron.database_name", "it's"),
    ];
    for install in installed() {
        let cluster = Cluster::builder(&install).create();
        let mut block = RecoverySettings::new(MajorVersion::new(install.major).unwrap());
        for (name, value) in values {
            block.add(name, value).unwrap();
        }
        let path = cluster.data_dir().join("postgresql.auto.conf");
        let text = fs::read_to_string(&path).unwrap() + "cluster_name = 'before'";
        let text = block.apply(&text).unwrap();
        fs::write(&path, text).unwrap();
        for (name, value) in values {
            assert_eq!(read_setting(&cluster, name), Ok(value.to_owned()), "{name}");
        }
    }
}

#[test]
fn leftover_targets_stop_the_server_until_they_are_taken_out() {
    let recovery = ArchiveRecovery {
        restore_command: "false".into(),
        timeline: TargetTimeline::Latest,
        target: Some(RecoveryTarget::Time {
            time: "2026-11-21T02:14:35.123456+01:00".parse().unwrap(),
            inclusive: false,
        }),
        action: TargetAction::Shutdown,
    };
    for install in installed() {
        let cluster = Cluster::builder(&install).create();
        let path = cluster.data_dir().join("postgresql.auto.conf");
        let before = "recovery_target_xid = '741'\ncluster_name = 'kept'\n";
        let mut block = RecoverySettings::new(MajorVersion::new(install.major).unwrap());
        block.add_recovery(&recovery).unwrap();
        fs::write(&path, block.apply(before).unwrap()).unwrap();
        let refused = read_setting(&cluster, "cluster_name").unwrap_err();
        assert!(refused.contains("multiple recovery targets"), "{refused}");

        let neutral = neutralise(before, &TARGET_SETTINGS);
        assert_eq!(neutral.taken_out.len(), 1);
        fs::write(&path, block.apply(&neutral.text).unwrap()).unwrap();
        let expect = [
            ("recovery_target_xid", ""),
            ("recovery_target_time", "2026-11-21 01:14:35.123456+00"),
            ("recovery_target_inclusive", "off"),
            ("recovery_target_action", "shutdown"),
            ("recovery_target_timeline", "latest"),
            ("cluster_name", "kept"),
        ];
        for (name, value) in expect {
            assert_eq!(read_setting(&cluster, name), Ok(value.to_owned()), "{name}");
        }
    }
}

/// What the server takes a setting to be, or why it would not start.
fn read_setting(cluster: &Cluster, name: &str) -> Result<String, String> {
    let mut command = Command::new(cluster.install().tool("postgres"));
    let output = as_postgres(&mut command)
        .arg("-D")
        .arg(cluster.data_dir())
        .args(["-C", name])
        .output()
        .expect("run postgres");
    if output.status.success() {
        let text = String::from_utf8(output.stdout).unwrap();
        Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
