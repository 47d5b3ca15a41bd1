//! Measures how fast WAL segments are read, verified and added up.
//!
//! `cargo run --release -p pg --example wal_read_speed -- SEGMENT...` with consecutive segments of
//! one cluster, oldest first. Prints megabytes per second of one core for the reader alone and with
//! the activity on top.

use std::error::Error;
use std::time::Instant;

use pg::wal::activity::Limits;
use pg::wal::{Activity, RecordReader, SegmentHeader};

/// How often the segments are read; the fastest pass counts.
const PASSES: usize = 5;

#[allow(clippy::print_stdout)] // the result of a measurement
fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<_> = std::env::args_os().skip(1).collect();
    let segments = paths.iter().map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
    let bytes: usize = segments.iter().map(Vec::len).sum();
    for with_activity in [false, true] {
        let mut best_s = f64::INFINITY;
        let mut records = 0;
        for _ in 0..PASSES {
            let started = Instant::now();
            records = pass(&segments, with_activity)?;
            best_s = best_s.min(started.elapsed().as_secs_f64());
        }
        #[allow(clippy::cast_precision_loss)] // only printed
        let rate = bytes as f64 / best_s / 1e6;
        let what = if with_activity { "reader and activity" } else { "reader" };
        println!("{what}: {records} records, {bytes} bytes, {rate:.0} MB/s");
    }
    Ok(())
}

fn pass(segments: &[Vec<u8>], with_activity: bool) -> Result<u64, Box<dyn Error>> {
    let header = SegmentHeader::decode(segments.first().ok_or("name at least one segment")?)?;
    let start = header.page.address;
    let mut reader = RecordReader::new(start, header.segment_size, header.block_size);
    let mut activity = Activity::new(Limits::default());
    let mut records = 0;
    for segment in segments {
        reader.feed(segment);
        while let Some(record) = reader.next_record()? {
            if with_activity {
                activity.record(&record)?;
            }
            records += 1;
        }
    }
    Ok(records)
}
