//! Every record compared with what PostgreSQL's own programs say of it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use pg::wal::Record;
use pg::{Lsn, Xid};
use testbed::postgres::{Cluster, Install, Stop};
use testbed::{Workdir, as_postgres};

use super::support::Wal;
use super::workload;

/// What is compared of a record.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    start: Lsn,
    prev: Lsn,
    xid: Xid,
    rmgr: String,
    total_len: u32,
    /// Each as `pg_waldump` writes it: `blkref #0: rel 1663/5/1259 fork vm blk 0 FPW`.
    blocks: Vec<String>,
}

impl Seen {
    fn by_us(record: &Record<'_>) -> Self {
        let blocks = record.blocks().iter().map(|block| {
            let fork = match block.fork {
                pg::wal::Fork::Main => String::new(),
                fork => format!(" fork {}", fork.name()),
            };
            let image = match &block.image {
                None => "",
                Some(image) if image.apply => " FPW",
                Some(_) => " FPW for WAL verification",
            };
            format!("blkref #{}: rel {}{fork} blk {}{image}", block.id, block.relation, block.block)
        });
        Self {
            start: record.start,
            prev: record.prev,
            xid: record.xid,
            rmgr: record.rmgr.to_string(),
            total_len: record.total_len(),
            blocks: blocks.collect(),
        }
    }

    /// Reads a line of `pg_waldump`: `rmgr: Heap   len (rec/tot):  54/  54, tx:  735, lsn:
    /// 0/01512C10, prev 0/01512BD8, desc: INSERT off 1 flags 0x08, blkref #0: rel 1663/5/16384 blk
    /// 0`.
    fn by_waldump(line: &str) -> Self {
        let between = |before: &str, after: &str| {
            let rest = line.split_once(before).unwrap_or_else(|| panic!("{before} in {line}")).1;
            rest.split_once(after)
                .unwrap_or_else(|| panic!("{after} in {line}"))
                .0
                .trim()
                .to_owned()
        };
        let lengths = between("len (rec/tot):", ", tx:");
        let blocks = line.split(", blkref #").skip(1).map(|block| format!("blkref #{block}"));
        Self {
            start: between(", lsn: ", ",").parse().unwrap(),
            prev: between(", prev ", ",").parse().unwrap(),
            xid: Xid::new(between(", tx:", ",").parse().unwrap()),
            rmgr: between("rmgr: ", "len (rec/tot)"),
            total_len: lengths.split_once('/').unwrap().1.trim().parse().unwrap(),
            blocks: blocks.map(|block| block.trim_end().to_owned()).collect(),
        }
    }
}

fn waldump(cluster: &Cluster, wal: &Wal) -> Vec<Seen> {
    let mut command = Command::new(cluster.install().tool("pg_waldump"));
    as_postgres(&mut command);
    let pg_wal = cluster.data_dir().join("pg_wal");
    let first_record = wal.begin + 40;
    command.arg("-p").arg(pg_wal).args(["-s", &first_record.to_string()]);
    let output = command.output().expect("run pg_waldump");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| line.starts_with("rmgr: ")).map(Seen::by_waldump).collect()
}

/// Runs the workload, stops the server, and compares record by record.
fn check_with_waldump(major: u32, segment_mib: u32, settings: &[(&str, &str)]) {
    let folder = Workdir::new();
    let install = Install::by_major(major);
    let mut builder = workload::builder(&install, segment_mib);
    for (name, value) in settings {
        builder = builder.setting(name, value);
    }
    let mut cluster = builder.start();
    workload::run(&cluster, &folder);
    cluster.stop(Stop::Fast);

    let wal = Wal::of(&cluster, segment_mib);
    let mut ours = Vec::new();
    let end = wal.read(|record| ours.push(Seen::by_us(record)));
    assert!(end.reason.is_unwritten(), "{end}: {}", end.reason);
    let expected = waldump(&cluster, &wal);
    assert!(expected.len() > 20_000, "pg_waldump gave {} records", expected.len());
    for (ours, expected) in ours.iter().zip(&expected) {
        assert_eq!(ours, expected);
    }
    assert_eq!(ours.len(), expected.len());
    assert_every_kind_was_there(&ours);
}

fn assert_every_kind_was_there(records: &[Seen]) {
    let rmgrs: BTreeSet<&str> = records.iter().map(|record| record.rmgr.as_str()).collect();
    for rmgr in [
        "XLOG",
        "Transaction",
        "Storage",
        "Database",
        "Tablespace",
        "MultiXact",
        "Standby",
        "Heap2",
        "Heap",
        "Btree",
        "Hash",
        "Gin",
        "Gist",
        "Sequence",
        "SPGist",
        "BRIN",
        "LogicalMessage",
    ] {
        assert!(rmgrs.contains(rmgr), "the workload wrote no record of {rmgr}: {rmgrs:?}");
    }
    assert!(records.iter().any(|record| record.blocks.iter().any(|block| block.ends_with("FPW"))));
}

#[test]
fn every_record_is_read_as_pg_waldump_15_reads_it() {
    check_with_waldump(15, 1, &[("wal_level", "logical"), ("wal_compression", "lz4")]);
}

#[test]
fn every_record_is_read_as_pg_waldump_15_reads_it_with_zstd_and_consistency_images() {
    let settings = [("wal_compression", "zstd"), ("wal_consistency_checking", "all")];
    check_with_waldump(15, 4, &settings);
}

#[test]
fn every_record_is_read_as_pg_waldump_16_reads_it() {
    check_with_waldump(16, 16, &[("wal_compression", "pglz")]);
}

#[test]
fn every_record_is_read_as_pg_waldump_18_reads_it() {
    check_with_waldump(18, 1, &[("wal_level", "logical")]);
}

/// 17 comes without `pg_waldump`; its extension `pg_walinspect` reads the same way and tells more.
#[test]
fn every_record_is_read_as_pg_walinspect_17_reads_it() {
    let folder = Workdir::new();
    let cluster = workload::builder(&Install::by_major(17), 1)
        .setting("wal_level", "logical")
        .setting("wal_compression", "pglz")
        .start();
    workload::run(&cluster, &folder);
    cluster.psql("CREATE EXTENSION pg_walinspect");
    let end: Lsn = cluster.psql("SELECT pg_current_wal_flush_lsn()").parse().unwrap();
    let wal = Wal::of(&cluster, 1);
    let (mut ours, mut our_blocks) = (Vec::new(), Vec::new());
    wal.read(|record| {
        if record.end <= end {
            ours.push(describe(record));
            our_blocks.extend(describe_blocks(record));
        }
    });

    let range = format!("'{}', '{end}'", wal.begin + 40);
    let expected = cluster.psql(&format!(
        "SELECT start_lsn, end_lsn, prev_lsn, xid, resource_manager, record_length, main_data_length
         FROM pg_get_wal_records_info({range}) ORDER BY start_lsn"
    ));
    let mut compared = 0;
    for (ours, expected) in ours.iter().zip(expected.lines()) {
        assert_eq!(ours, expected);
        compared += 1;
    }
    assert!(compared > 20_000 && ours.len() == expected.lines().count(), "{compared}");

    let expected = cluster.psql(&format!(
        "SELECT start_lsn, block_id, reltablespace, reldatabase, relfilenode, relforknumber,
           relblocknumber, coalesce(length(block_data), 0), coalesce(length(block_fpi_data), 0) > 0,
           coalesce('APPLY' = ANY (block_fpi_info), false)
         FROM pg_get_wal_block_info({range}) ORDER BY start_lsn, block_id"
    ));
    for (ours, expected) in our_blocks.iter().zip(expected.lines()) {
        assert_eq!(ours, expected);
    }
    assert_eq!(our_blocks.len(), expected.lines().count());
}

fn describe(record: &Record<'_>) -> String {
    let Record { start, end, prev, xid, rmgr, .. } = record;
    let len = record.total_len();
    format!("{start}|{end}|{prev}|{xid}|{rmgr}|{len}|{}", record.main_data().len())
}

fn describe_blocks(record: &Record<'_>) -> Vec<String> {
    let describe = |block: &pg::wal::BlockRef| {
        let file = block.relation;
        let letter = |is: bool| if is { 't' } else { 'f' };
        format!(
            "{}|{}|{}|{}|{}|{}|{}|{}|{}|{}",
            record.start,
            block.id,
            file.tablespace,
            file.database,
            file.relation,
            block.fork as u8,
            block.block,
            record.block_data(block).len(),
            letter(block.has_image()),
            letter(block.applies_image()),
        )
    };
    record.blocks().iter().map(describe).collect()
}

/// 14 has no program that reads WAL here; what its server says of positions must hold.
#[test]
fn records_of_14_lie_where_the_server_says() {
    let folder = Workdir::new();
    let cluster =
        workload::builder(&Install::by_major(14), 1).setting("wal_compression", "on").start();
    workload::run(&cluster, &folder);
    let mut expected = BTreeMap::new();
    for number in 0..20 {
        // The insert position right after a commit is the end of the commit record.
        let answer = cluster.psql(&format!(
            "BEGIN; INSERT INTO item(name) VALUES ('{number}') RETURNING pg_current_xact_id();
             COMMIT; SELECT pg_current_wal_insert_lsn()"
        ));
        let (xid, lsn) = answer.split_once('\n').unwrap();
        expected.insert(lsn.parse::<Lsn>().unwrap(), Xid::new(xid.parse().unwrap()));
    }
    let flushed: Lsn = cluster.psql("SELECT pg_current_wal_flush_lsn()").parse().unwrap();
    let wal = Wal::of(&cluster, 1);
    let (mut ends, mut records) = (BTreeMap::new(), 0);
    let end = wal.read(|record| {
        records += 1;
        ends.insert(record.end, (record.rmgr.to_string(), record.xid));
    });
    assert!(end.reason.is_unwritten() && end.at >= flushed, "{end}, flushed {flushed}");
    assert!(ends.contains_key(&flushed), "no record ends at {flushed}");
    assert!(records > 20_000, "{records} records");
    for (lsn, xid) in expected {
        assert_eq!(ends.get(&lsn), Some(&("Transaction".to_owned(), xid)), "at {lsn}");
    }
}
