//! `pg_control` as decoded here against SQL functions and `pg_controldata`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pg::control::{CONTROL_FILE_PATH, CONTROL_FILE_SIZE, ControlFile, WalLevel};
use pg::{MajorVersion, TimelineHistory, TimelineId, WalSegment};
use testbed::as_postgres;
use testbed::postgres::{Cluster, Install, Stop, installed};

type Fields = BTreeMap<String, String>;

/// Another segment size for each major.
const SEGMENT_SIZES_MIB: [u32; 5] = [1, 16, 2, 64, 4];

#[test]
fn every_field_is_what_postgresql_says_in_every_state() {
    for (install, mib) in installed().iter().zip(SEGMENT_SIZES_MIB) {
        let mut cluster = Cluster::builder(install)
            .data_checksums(install.major % 2 == 0)
            .wal_segsize_mb(mib)
            .setting("wal_level", "logical")
            .setting("wal_log_hints", "on")
            .setting("track_commit_timestamp", "on")
            .setting("max_connections", "51")
            .setting("max_worker_processes", "9")
            .setting("max_wal_senders", "11")
            .setting("max_prepared_transactions", "12")
            .setting("max_locks_per_transaction", "65")
            .start();
        cluster.psql("CREATE TABLE t AS SELECT 1 AS a; CREATE UNLOGGED TABLE u AS SELECT 1 AS a");
        cluster.psql("CHECKPOINT");
        let control = compare_with_sql(&cluster);
        assert_eq!(control.wal_level, WalLevel::Logical);
        assert_eq!(control.major, MajorVersion::new(install.major).unwrap());
        assert_eq!(control.checkpoint_copy.previous_timeline, TimelineId::new(1));

        cluster.stop(Stop::Fast);
        compare_with_program(&cluster, "shut down");

        // A standby without a source: in recovery, consistent, open for reading.
        fs::write(cluster.data_dir().join("standby.signal"), "").unwrap();
        cluster.start();
        let standby = compare_with_sql(&cluster);
        assert!(standby.min_recovery_point.is_valid());
        compare_with_program(&cluster, "in archive recovery");

        cluster.psql("SELECT pg_promote()");
        cluster.psql("CHECKPOINT");
        let promoted = compare_with_sql(&cluster);
        assert_eq!(promoted.checkpoint_copy.timeline, TimelineId::new(2));
        check_history(&cluster, &promoted);

        cluster.kill9();
        compare_with_program(&cluster, "in production");
    }
}

#[test]
fn without_backup_label_a_patched_control_file_keeps_the_server_from_starting() {
    for install in installed() {
        let mut cluster = Cluster::builder(&install).start();
        cluster.stop(Stop::Fast);
        let path = cluster.data_dir().join(CONTROL_FILE_PATH);
        let original = fs::read(&path).unwrap();
        assert_eq!(original.len(), CONTROL_FILE_SIZE);
        fs::write(&path, ControlFile::with_invalid_checkpoint(&original).unwrap()).unwrap();
        compare_with_program(&cluster, "shut down");
        let failure = cluster.try_start().expect_err("there is no checkpoint at 0/DEAD");
        assert!(failure.log.contains("valid checkpoint"), "{}: {}", install.major, failure.log);

        fs::write(&path, &original).unwrap();
        cluster.start();
        assert_eq!(cluster.psql("SELECT 1"), "1");
    }
}

fn decode(cluster: &Cluster) -> ControlFile {
    let bytes = fs::read(cluster.data_dir().join(CONTROL_FILE_PATH)).unwrap();
    ControlFile::decode(&bytes).unwrap()
}

/// The timeline history that the promotion wrote agrees with `pg_control`.
fn check_history(cluster: &Cluster, control: &ControlFile) {
    let bytes = fs::read(cluster.data_dir().join("pg_wal/00000002.history")).unwrap();
    let history = TimelineHistory::parse(TimelineId::new(2), &bytes).unwrap();
    let switch = history.switch_point(TimelineId::new(1)).unwrap();
    assert_eq!(history.entries().len(), 1);
    assert!(switch <= control.checkpoint_copy.redo);
    assert!(history.contains(TimelineId::new(2), control.checkpoint_copy.redo));
    assert!(history.contains(TimelineId::new(1), switch));
    assert!(!history.contains(TimelineId::new(1), switch + 1));
    assert_eq!(history.timeline_of(switch), TimelineId::new(2));
}

/// Compares the file with the four SQL functions on a running server; checkpoints and restartpoints
/// in between are seen by the file's being another one afterwards.
fn compare_with_sql(cluster: &Cluster) -> ControlFile {
    testbed::poll_for(std::time::Duration::from_secs(60), "a quiet control file", || {
        let before = decode(cluster);
        let seen = ["system", "checkpoint", "recovery", "init"].map(|part| {
            let call = format!("pg_control_{part}()");
            fields(
                &cluster.psql(&format!(
                    "SELECT * FROM jsonb_each_text((SELECT to_jsonb(c) FROM {call} c))"
                )),
                '|',
            )
        });
        (decode(cluster) == before).then(|| {
            let seen: Fields = seen.into_iter().flatten().collect();
            let major = cluster.install().major;
            assert_eq!(seen, sql_fields(&before), "PostgreSQL {major}");
            before
        })
    })
}

/// Compares the file with `pg_controldata`, where this major has one.
fn compare_with_program(cluster: &Cluster, state: &str) {
    let control = decode(cluster);
    assert_eq!(control.state.to_string(), state);
    if let Some(text) = controldata(cluster.install(), cluster.data_dir()) {
        assert_eq!(decode(cluster), control, "the file changed meanwhile");
        assert_eq!(fields(&text, ':'), program_fields(&control));
    }
}

fn controldata(install: &Install, data_dir: &Path) -> Option<String> {
    let program = install.has("pg_controldata").then(|| install.tool("pg_controldata"))?;
    let output = as_postgres(&mut Command::new(program))
        .env("TZ", "UTC")
        .arg(data_dir)
        .output()
        .expect("run pg_controldata");
    let warnings = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && warnings.is_empty(), "{warnings}");
    Some(String::from_utf8(output.stdout).unwrap())
}

fn fields(text: &str, separator: char) -> Fields {
    let pair = |line: &str| {
        let (name, value) = line.split_once(separator).expect("a name and a value");
        (name.to_owned(), value.trim().to_owned())
    };
    text.lines().map(pair).collect()
}

fn collect<const N: usize>(fields: [(&str, String); N]) -> Fields {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn format_time(time: Timestamp, format: &str) -> String {
    time.to_zoned(TimeZone::UTC).strftime(format).to_string()
}

fn redo_segment(control: &ControlFile) -> String {
    let (last, size) = (control.checkpoint_copy, control.wal_segment_size);
    WalSegment::containing(last.redo, last.timeline, size).name(size)
}

/// What `pg_control_system()`, `_checkpoint()`, `_recovery()` and `_init()` return.
fn sql_fields(control: &ControlFile) -> Fields {
    let last = control.checkpoint_copy;
    let time = |time| format_time(time, "%Y-%m-%dT%H:%M:%S+00:00");
    let next_xid = format!("{}:{}", last.next_xid.epoch(), last.next_xid.xid());
    let mut fields = collect([
        ("pg_control_version", control.control_version.to_string()),
        ("catalog_version_no", control.catalog_version.to_string()),
        ("system_identifier", control.system_id.to_string()),
        ("pg_control_last_modified", time(control.time)),
        ("checkpoint_lsn", control.checkpoint.to_string()),
        ("redo_lsn", last.redo.to_string()),
        ("redo_wal_file", redo_segment(control)),
        ("timeline_id", last.timeline.to_string()),
        ("prev_timeline_id", last.previous_timeline.to_string()),
        ("full_page_writes", last.full_page_writes.to_string()),
        ("next_xid", next_xid),
        ("next_oid", last.next_oid.to_string()),
        ("next_multixact_id", last.next_multi.to_string()),
        ("next_multi_offset", last.next_multi_offset.to_string()),
        ("oldest_xid", last.oldest_xid.to_string()),
        ("oldest_xid_dbid", last.oldest_xid_database.to_string()),
        ("oldest_active_xid", last.oldest_active_xid.to_string()),
        ("oldest_multi_xid", last.oldest_multi.to_string()),
        ("oldest_multi_dbid", last.oldest_multi_database.to_string()),
        ("oldest_commit_ts_xid", last.oldest_commit_ts_xid.to_string()),
        ("newest_commit_ts_xid", last.newest_commit_ts_xid.to_string()),
        ("checkpoint_time", time(last.time)),
        ("min_recovery_end_lsn", control.min_recovery_point.to_string()),
        ("min_recovery_end_timeline", control.min_recovery_timeline.to_string()),
        ("backup_start_lsn", control.backup_start_point.to_string()),
        ("backup_end_lsn", control.backup_end_point.to_string()),
        ("end_of_backup_record_required", control.backup_end_required.to_string()),
        ("max_data_alignment", control.max_align.to_string()),
        ("database_block_size", control.block_size.get().to_string()),
        ("blocks_per_segment", control.relation_segment_blocks.to_string()),
        ("wal_block_size", control.wal_block_size.to_string()),
        ("bytes_per_wal_segment", control.wal_segment_size.get().to_string()),
        ("max_identifier_length", control.name_data_len.to_string()),
        ("max_index_columns", control.index_max_keys.to_string()),
        ("max_toast_chunk_size", control.toast_max_chunk_size.to_string()),
        ("large_object_chunk_size", control.large_object_block_size.to_string()),
        ("float8_pass_by_value", control.float8_by_value.to_string()),
        ("data_page_checksum_version", control.data_checksum_version.to_string()),
    ]);
    if let Some(signed) = control.char_is_signed {
        fields.insert("default_char_signedness".into(), signed.to_string());
    }
    fields
}

/// What `pg_controldata` prints.
fn program_fields(control: &ControlFile) -> Fields {
    let mut fields = checkpoint_lines(control);
    fields.extend(setting_lines(control));
    let time = |time| format_time(time, "%a %b %e %H:%M:%S %Y");
    let hex = control.mock_authentication_nonce.map(|byte| format!("{byte:02x}")).concat();
    fields.extend(collect([
        ("pg_control version number", control.control_version.to_string()),
        ("Catalog version number", control.catalog_version.to_string()),
        ("Database system identifier", control.system_id.to_string()),
        ("Database cluster state", control.state.to_string()),
        ("pg_control last modified", time(control.time)),
        ("Fake LSN counter for unlogged rels", control.unlogged_lsn.to_string()),
        ("Minimum recovery ending location", control.min_recovery_point.to_string()),
        ("Min recovery ending loc's timeline", control.min_recovery_timeline.to_string()),
        ("Backup start location", control.backup_start_point.to_string()),
        ("Backup end location", control.backup_end_point.to_string()),
        ("End-of-backup record required", yes(control.backup_end_required)),
        ("Maximum data alignment", control.max_align.to_string()),
        ("Database block size", control.block_size.get().to_string()),
        ("Blocks per segment of large relation", control.relation_segment_blocks.to_string()),
        ("WAL block size", control.wal_block_size.to_string()),
        ("Bytes per WAL segment", control.wal_segment_size.get().to_string()),
        ("Maximum length of identifiers", control.name_data_len.to_string()),
        ("Maximum columns in an index", control.index_max_keys.to_string()),
        ("Maximum size of a TOAST chunk", control.toast_max_chunk_size.to_string()),
        ("Size of a large-object chunk", control.large_object_block_size.to_string()),
        ("Date/time type storage", "64-bit integers".to_owned()),
        ("Float8 argument passing", by_value(control.float8_by_value)),
        ("Data page checksum version", control.data_checksum_version.to_string()),
        ("Mock authentication nonce", hex),
    ]));
    if let Some(signed) = control.char_is_signed {
        let word = if signed { "signed" } else { "unsigned" };
        fields.insert("Default char data signedness".into(), word.into());
    }
    fields
}

fn checkpoint_lines(control: &ControlFile) -> Fields {
    let last = control.checkpoint_copy;
    let next_xid = format!("{}:{}", last.next_xid.epoch(), last.next_xid.xid());
    collect([
        ("Latest checkpoint location", control.checkpoint.to_string()),
        ("Latest checkpoint's REDO location", last.redo.to_string()),
        ("Latest checkpoint's REDO WAL file", redo_segment(control)),
        ("Latest checkpoint's TimeLineID", last.timeline.to_string()),
        ("Latest checkpoint's PrevTimeLineID", last.previous_timeline.to_string()),
        ("Latest checkpoint's full_page_writes", on(last.full_page_writes)),
        ("Latest checkpoint's NextXID", next_xid),
        ("Latest checkpoint's NextOID", last.next_oid.to_string()),
        ("Latest checkpoint's NextMultiXactId", last.next_multi.to_string()),
        ("Latest checkpoint's NextMultiOffset", last.next_multi_offset.to_string()),
        ("Latest checkpoint's oldestXID", last.oldest_xid.to_string()),
        ("Latest checkpoint's oldestXID's DB", last.oldest_xid_database.to_string()),
        ("Latest checkpoint's oldestActiveXID", last.oldest_active_xid.to_string()),
        ("Latest checkpoint's oldestMultiXid", last.oldest_multi.to_string()),
        ("Latest checkpoint's oldestMulti's DB", last.oldest_multi_database.to_string()),
        ("Latest checkpoint's oldestCommitTsXid", last.oldest_commit_ts_xid.to_string()),
        ("Latest checkpoint's newestCommitTsXid", last.newest_commit_ts_xid.to_string()),
        ("Time of latest checkpoint", format_time(last.time, "%a %b %e %H:%M:%S %Y")),
    ])
}

fn setting_lines(control: &ControlFile) -> Fields {
    let limits = control.limits;
    collect([
        ("wal_level setting", control.wal_level.to_string()),
        ("wal_log_hints setting", on(control.wal_log_hints)),
        ("max_connections setting", limits.max_connections.to_string()),
        ("max_worker_processes setting", limits.max_worker_processes.to_string()),
        ("max_wal_senders setting", limits.max_wal_senders.to_string()),
        ("max_prepared_xacts setting", limits.max_prepared_transactions.to_string()),
        ("max_locks_per_xact setting", limits.max_locks_per_transaction.to_string()),
        ("track_commit_timestamp setting", on(control.track_commit_timestamp)),
    ])
}

fn on(value: bool) -> String {
    if value { "on" } else { "off" }.to_owned()
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn by_value(value: bool) -> String {
    if value { "by value" } else { "by reference" }.to_owned()
}
