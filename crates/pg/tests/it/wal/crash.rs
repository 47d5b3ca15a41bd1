//! A record that a crash left unfinished, and what a server writes behind it.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use pg::wal::ResourceManager;
use pg::wal::rmgr::xlog::Xlog;
use pg::{Lsn, TimelineId, WalSegment};
use testbed::postgres::{Cluster, Install, Stop, installed};

use super::support::Wal;
use super::workload;

const PAGE: u64 = 8192;

/// Zeros the log from `from` on, as if it had never reached the disk.
fn forget_from(cluster: &Cluster, wal: &Wal, from: Lsn) {
    let end = wal.begin + wal.bytes.len() as u64;
    let mut at = from;
    while at < end {
        let segment = WalSegment::containing(at, TimelineId::FIRST, wal.size);
        let path = cluster.data_dir().join("pg_wal").join(segment.name(wal.size));
        let file = OpenOptions::new().write(true).open(path).unwrap();
        let offset = wal.size.offset(at);
        let zeros = vec![0; usize::try_from(wal.size.get() - offset).unwrap()];
        file.write_all_at(&zeros, offset).unwrap();
        at = segment.end(wal.size);
    }
}

fn check(install: &Install) {
    let mut cluster = workload::builder(install, 1).start();
    // Long records are flushed with the commit; this one covers many pages.
    cluster.psql("CREATE TABLE t(id int)");
    cluster.psql(
        "BEGIN; INSERT INTO t VALUES (1);
         SELECT pg_logical_emit_message(true, 'long', repeat('x', 1500000)) IS NULL; COMMIT",
    );
    cluster.stop(Stop::Immediate);

    let wal = Wal::of(&cluster, 1);
    let (mut long, mut before) = (None, 0);
    wal.read(|record| {
        if record.total_len() > 1_000_000 {
            long = Some((record.start, record.end));
        }
        before += u32::from(long.is_none());
    });
    let (start, end) = long.expect("the long record");
    let last_page = Lsn::new(end.get() - end.get() % PAGE);
    assert!(start < last_page);
    forget_from(&cluster, &wal, last_page);
    let cut = Wal::of(&cluster, 1).read(|_| ());
    assert_eq!(cut.at, start, "the log must end at the record that is cut");
    assert!(cut.reason.is_unwritten());

    cluster.start();
    cluster.psql("INSERT INTO t VALUES (2)");
    cluster.stop(Stop::Fast);
    let (mut records, mut overwritten) = (0, None);
    let end = Wal::of(&cluster, 1).read(|record| {
        records += 1;
        if record.rmgr == ResourceManager::XLOG
            && let Xlog::OverwriteContinuation { overwritten: lsn, .. } =
                Xlog::decode(record).unwrap()
        {
            overwritten = Some((lsn, record.start));
        }
    });
    assert!(end.reason.is_unwritten(), "{end}: {}", end.reason);
    assert_eq!(overwritten, Some((start, last_page + 24)), "on {}", install.major);
    assert!(records > before + 5, "{records} records, {before} before the crash");
}

#[test]
fn a_record_given_up_after_a_crash_is_passed_over_on_every_major() {
    for install in installed() {
        check(&install);
    }
}
