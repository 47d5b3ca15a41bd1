//! The account of what is archived, and salvage from folders that are not as they should be.

use std::fs;
use std::path::Path;

use archive::Error;
use archive::salvage::{SalvageRequest, Salvaged, salvage};
use archive::status::{Status, status};
use jiff::{SignedDuration, Timestamp};
use pg::{Lsn, TimelineId};
use repository::Repository;
use repository::gap::{self, Gap};
use stdx::Diagnostic;

use crate::support::{Site, in_memory, mib, name, now, run, segment_bytes};

const SYSTEM: u64 = 7_301_000_000_000_000_001;

async fn look(repository: &Repository, site: &Site, later: Timestamp) -> Status {
    status(repository, &site.lineage, later).await.unwrap()
}

#[test]
fn holes_conflicts_gaps_and_age_are_told() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        let later = now().checked_add(SignedDuration::from_secs(90)).unwrap();
        let nothing = look(&repository, &site, later).await;
        assert_eq!((nothing.timelines.len(), nothing.age), (0, None));
        site.archive(&repository, &[5, 6, 9, 10, 12]).await;
        site.push(&repository, &site.wal("00000002.history", b"1\t0/c80000\tx\n")).await.unwrap();
        site.push(&repository, &site.segment(2, 12, 7)).await.unwrap();
        site.push(&repository, &site.segment(1, 6, 8)).await.unwrap_err();
        let noted = Gap {
            timeline: TimelineId::FIRST,
            begin: Lsn::new(7 << 20),
            end: Lsn::new(9 << 20),
            reason: "the archive was full".into(),
            writer: site.credential.writer,
            noticed: now(),
        };
        gap::put(&repository, site.lineage.id, &noted).await.unwrap();

        let seen = look(&repository, &site, later).await;
        assert_eq!(seen.age, Some(SignedDuration::from_secs(90)));
        assert_eq!(seen.conflicts, [name(1, 6)]);
        assert_eq!(seen.histories, [TimelineId::new(2)]);
        let [first, second] = seen.timelines.as_slice() else { panic!("{seen:?}") };
        assert_eq!((first.segments, first.segment_size), (5, mib()));
        assert_eq!((first.first.number, first.last.number), (5, 12));
        let holes: Vec<_> = first.holes.iter().map(|(a, b)| (a.number, b.number)).collect();
        assert_eq!(holes, [(7, 8), (11, 11)]);
        assert_eq!(first.gaps, [noted]);
        assert!(second.is_whole() && second.tail.is_none() && !first.is_whole());
        assert_eq!(seen.bytes, first.bytes + second.bytes);
        assert!(first.bytes.get() > second.bytes.get() && second.bytes.get() > 0);
    });
}

async fn save(repository: &Repository, site: &Site, pg_wal: &Path) -> Result<Salvaged, Error> {
    let request = SalvageRequest {
        pg_wal,
        lineage: &site.lineage,
        writer: site.credential.writer,
        compression: repository::Compression::default(),
        threads: 1,
        now: now(),
    };
    salvage(repository, &request).await
}

#[test]
fn a_folder_without_our_wal_is_refused() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        let folder = tempfile::tempdir().unwrap();
        let code = async || save(&repository, &site, folder.path()).await.unwrap_err().info().code;
        assert_eq!(code().await, "RF0116");
        fs::write(folder.path().join(name(1, 5)), segment_bytes(SYSTEM + 1, 1, 5, 0)).unwrap();
        assert_eq!(code().await, "RF0103");
        fs::write(folder.path().join(name(1, 5)), &segment_bytes(SYSTEM, 1, 5, 0)[..5000]).unwrap();
        assert_eq!(code().await, "RF0116");
        // A recycled segment: the name of a future one, the bytes of a past one.
        fs::write(folder.path().join(name(1, 5)), segment_bytes(SYSTEM, 1, 2, 0)).unwrap();
        assert_eq!(code().await, "RF0116");
        let missing = folder.path().join("missing");
        assert_eq!(save(&repository, &site, &missing).await.unwrap_err().info().code, "RF0101");
        assert!(repository.list("wal/").await.unwrap().is_empty());
    });
}

#[test]
fn wal_that_does_not_decode_is_not_salvaged() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        let folder = tempfile::tempdir().unwrap();
        // A good header and nothing behind it, and one with garbage.
        for (number, fill) in [(5, 0), (6, 0x55)] {
            let bytes = segment_bytes(SYSTEM, 1, number, fill);
            fs::write(folder.path().join(name(1, number)), bytes).unwrap();
        }
        fs::write(folder.path().join("00000002.history"), "1\t0/500000\tx\n").unwrap();
        fs::write(folder.path().join("00000003.history"), "garbage").unwrap();
        let saved = save(&repository, &site, folder.path()).await.unwrap();
        assert_eq!(saved.stored, ["00000002.history"]);
        assert_eq!((saved.tail, saved.end), (None, Lsn::new(5 << 20)));
        assert!(repository.list("wal/").await.unwrap().is_empty());
        assert!(repository.list("piece/").await.unwrap().is_empty());
    });
}
