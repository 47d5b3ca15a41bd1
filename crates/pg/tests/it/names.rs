//! Names of segments as PostgreSQL makes them.

use pg::{Lsn, SegmentSize, TimelineId, WalSegment};
use testbed::postgres::{Cluster, installed};

/// Another segment size for each major, the ends among them.
const SEGMENT_SIZES_MIB: [u32; 5] = [64, 1024, 1, 2, 16];

#[test]
fn segments_are_named_as_the_server_names_them() {
    for (install, mib) in installed().iter().zip(SEGMENT_SIZES_MIB) {
        let cluster = Cluster::builder(install).wal_segsize_mb(mib).start();
        let size = SegmentSize::new(mib << 20).unwrap();
        let lsns = positions(size);
        let list = lsns.iter().map(|lsn| format!("('{lsn}'::pg_lsn)")).collect::<Vec<_>>();
        let list = list.join(",");
        let seen = cluster.psql(&format!("SELECT pg_walfile_name(l) FROM (VALUES {list}) v(l)"));
        let seen: Vec<&str> = seen.lines().collect();
        assert_eq!(seen.len(), lsns.len());
        for (lsn, seen) in lsns.into_iter().zip(seen) {
            let timeline = TimelineId::new(1);
            // The function answered by the last byte until 16, by the next one since.
            let segment = if install.major < 17 {
                WalSegment::ending_at(lsn, timeline, size)
            } else {
                WalSegment::containing(lsn, timeline, size)
            };
            assert_eq!(segment.name(size), seen, "{lsn} on PostgreSQL {}", install.major);
            assert_eq!(WalSegment::parse(seen, size), Ok(segment));
        }
    }
}

/// Around boundaries of segments and of the 4 GiB that share the middle digits.
fn positions(size: SegmentSize) -> Vec<Lsn> {
    let bases = [size.get(), 2 * size.get(), 1 << 32, (1 << 32) + size.get(), 0xA2_8000_0000];
    let mut positions: Vec<Lsn> =
        bases.iter().flat_map(|base| [base - 1, *base, base + 1]).map(Lsn::new).collect();
    positions.push(Lsn::new(0xFFFF_FFFF_0000_0001));
    positions
}
