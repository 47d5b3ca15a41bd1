//! `backup_label` and `tablespace_map` as real servers return them.

use pg::backup_label::BackupSource;
use pg::{BackupLabel, ControlFile, Oid, SegmentSize, TablespaceMap, TimelineId, WalSegment};
use testbed::Workdir;
use testbed::postgres::{Cluster, installed};

/// Paths that the map must escape or keep: a backslash, a line break, spaces, and plain.
const FOLDERS: [&str; 4] = ["back\\slash", "line\nbreak", " two  words ", "plain"];

#[test]
fn label_and_map_are_read_as_the_server_meant_them() {
    for install in installed() {
        let cluster = Cluster::builder(&install).start();
        let workdir = Workdir::new();
        let mut expect = Vec::new();
        for (number, folder) in FOLDERS.iter().enumerate() {
            let path = workdir.folder(folder, 0o700).display().to_string();
            let quoted = path.replace('\\', "\\\\").replace('\n', "\\n");
            cluster.psql(&format!(
                "SELECT 'CREATE TABLESPACE t{number} LOCATION ' || quote_literal(E'{quoted}') \\gexec"
            ));
            let oid =
                cluster.psql(&format!("SELECT oid FROM pg_tablespace WHERE spcname = 't{number}'"));
            expect.push((Oid::new(oid.parse().unwrap()), path));
        }
        let (label, map) = back_up(&cluster, "it's a label: yes");
        let map_text = map;
        let map = TablespaceMap::parse(&map_text).unwrap();
        let mut entries = map.entries.clone();
        entries.sort();
        assert_eq!(entries, expect, "PostgreSQL {}", install.major);
        assert_eq!(map.render(), map_text);
        check_label(&cluster, &BackupLabel::parse(&label).unwrap());
    }
}

fn check_label(cluster: &Cluster, label: &BackupLabel) {
    let bytes = std::fs::read(cluster.data_dir().join("global/pg_control")).unwrap();
    let control = ControlFile::decode(&bytes).unwrap();
    let first = WalSegment::containing(label.start_lsn, TimelineId::new(1), SegmentSize::DEFAULT);
    assert_eq!(label.start_segment.segment(SegmentSize::DEFAULT), Ok(first));
    assert_eq!(label.label, "it's a label: yes");
    assert_eq!((label.method.as_str(), label.from), ("streamed", BackupSource::Primary));
    assert_eq!(label.start_timeline, TimelineId::new(1));
    assert_eq!(label.checkpoint_lsn, control.checkpoint);
    assert_eq!(label.start_lsn, control.checkpoint_copy.redo);
    assert!(label.start_time.ends_with(" UTC"), "{}", label.start_time);
    assert_eq!(label.incremental_from, None);
}

/// Starts and stops a backup in one session; returns label and map byte for byte.
fn back_up(cluster: &Cluster, label: &str) -> (String, String) {
    let label = label.replace('\'', "''");
    let (start, stop) = if cluster.install().major < 15 {
        (format!("pg_start_backup('{label}', true, false)"), "pg_stop_backup(false, false)")
    } else {
        (format!("pg_backup_start('{label}', true)"), "pg_backup_stop(false)")
    };
    let hex = |column| format!("encode(convert_to({column}, 'UTF8'), 'hex')");
    let answer = cluster.psql(&format!(
        "SELECT {start} IS NULL \\g /dev/null\nSELECT {}, {} FROM {stop}",
        hex("labelfile"),
        hex("spcmapfile"),
    ));
    let (label, map) = answer.trim().split_once('|').unwrap();
    (unhex(label), unhex(map))
}

fn unhex(text: &str) -> String {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    String::from_utf8(digits.map(byte).collect()).unwrap()
}
