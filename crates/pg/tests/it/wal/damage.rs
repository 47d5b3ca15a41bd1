//! Bytes that are not what a server wrote: nothing panics, and nothing false is given out.

use std::collections::HashMap;
use std::sync::OnceLock;

use pg::wal::{Activity, RecordReader, SegmentHeader, WalBlockSize, activity::Limits};
use pg::{Lsn, SegmentSize};
use proptest::prelude::*;
use testbed::Workdir;
use testbed::postgres::{Install, Stop};

use super::support::Wal;
use super::workload;

/// What real WAL holds: the bytes, and every record's bytes by its start.
struct Real {
    wal: Wal,
    records: HashMap<Lsn, Vec<u8>>,
}

/// How much of the log is damaged and read again: some segments, among them a crossing record.
const LENGTH: usize = 3 << 20;

fn real() -> &'static Real {
    static REAL: OnceLock<Real> = OnceLock::new();
    REAL.get_or_init(|| {
        let folder = Workdir::new();
        let mut cluster = workload::builder(&Install::latest(), 1).start();
        // initdb's own WAL is dull; what follows a switch is the workload's.
        let first = cluster.psql("SELECT pg_switch_wal() IS NULL; SELECT pg_current_wal_lsn()");
        let first: Lsn = first.lines().last().unwrap().parse().unwrap();
        workload::run(&cluster, &folder);
        cluster.stop(Stop::Fast);
        let mut wal = Wal::of(&cluster, 1);
        let begin = first.get() - wal.size.offset(first);
        let skipped = usize::try_from(begin - wal.begin.get()).unwrap();
        wal.bytes = wal.bytes[skipped..skipped + LENGTH].to_vec();
        wal.begin = Lsn::new(begin);
        let mut records = HashMap::new();
        let end = wal.read_in(LENGTH, |record| {
            records.insert(record.start, record.bytes().to_vec());
        });
        assert!(end.is_none() && records.len() > 1000, "{end:?} after {} records", records.len());
        Real { wal, records }
    })
}

/// Reads `wal` to its end, decoding and adding up everything.
fn read_all(wal: &Wal, chunk: usize, mut each: impl FnMut(Lsn, &[u8])) {
    let mut activity = Activity::new(Limits { rows_deleted_min: 1, ..Limits::default() });
    wal.read_in(chunk, |record| {
        each(record.start, record.bytes());
        for block in record.blocks() {
            assert!(block.image.iter().all(|image| !record.image_bytes(image).is_empty()));
        }
        let _ = activity.record(record);
    });
    let _ = (activity.prepared(), activity.take_notable());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_changed_bit_never_makes_a_record_that_was_not_written(
        at in 0_usize..LENGTH,
        bit in 0_u32..8,
        chunk in 500_usize..100_000,
    ) {
        let real = real();
        let mut bytes = real.wal.bytes.clone();
        bytes[at] ^= 1 << bit;
        let damaged = Wal { bytes, ..real.wal };
        let mut read = 0;
        read_all(&damaged, chunk, |start, bytes| {
            read += 1;
            assert_eq!(real.records.get(&start).map(Vec::as_slice), Some(bytes), "at {start}");
        });
        prop_assert!(read <= real.records.len());
    }

    #[test]
    fn overwritten_stretches_never_make_a_record_that_was_not_written(
        at in 0_usize..LENGTH - 20_000,
        with in proptest::collection::vec(any::<u8>(), 1..20_000),
    ) {
        let real = real();
        let mut bytes = real.wal.bytes.clone();
        bytes[at..at + with.len()].copy_from_slice(&with);
        let damaged = Wal { bytes, ..real.wal };
        read_all(&damaged, 8192, |start, bytes| {
            assert_eq!(real.records.get(&start).map(Vec::as_slice), Some(bytes), "at {start}");
        });
    }

    #[test]
    fn reading_from_any_position_gives_the_records_from_there_on(offset in 0_u64..3 << 20) {
        let real = real();
        let from = real.wal.begin + offset;
        let mut reader = RecordReader::new(from, real.wal.size, WalBlockSize::DEFAULT);
        let skipped = usize::try_from(reader.position() - real.wal.begin).unwrap();
        reader.feed(&real.wal.bytes[skipped..]);
        let mut read = 0;
        while let Some(record) = reader.next_record().unwrap() {
            prop_assert!(record.start >= from && real.records.contains_key(&record.start));
            read += 1;
        }
        let expected = real.records.keys().filter(|start| **start >= from).count();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60_000)) {
        let _ = SegmentHeader::decode(&bytes);
        let mut reader = RecordReader::new(
            Lsn::new(1 << 24), SegmentSize::DEFAULT, WalBlockSize::DEFAULT);
        reader.feed(&bytes);
        prop_assert!(!matches!(reader.next_record(), Ok(Some(_))));
    }
}
