//! The account of what is archived, and salvage from folders that are not as they should be.

use std::fs;
use std::path::Path;

use archive::Error;
use archive::credential::Credential;
use archive::salvage::{Place, SalvageRequest, Salvaged, salvage};
use archive::status::{Status, status};
use jiff::{SignedDuration, Timestamp};
use pg::{Lsn, TimelineId};
use repository::Repository;
use repository::gap::{self, Gap};
use repository::seal::Secret;
use stdx::Diagnostic;

use crate::support::{HOST, Site, in_memory, mib, name, now, run, segment_bytes};

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
    save_from(repository, site, pg_wal, Place::Elsewhere { writer: site.credential.writer }).await
}

async fn save_from(
    repository: &Repository,
    site: &Site,
    pg_wal: &Path,
    place: Place<'_>,
) -> Result<Salvaged, Error> {
    let request = SalvageRequest {
        pg_wal,
        lineage: &site.lineage,
        place,
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
fn only_the_productions_own_folder_is_salvaged_unless_somebody_says_otherwise() {
    run(async {
        let repository = in_memory();
        let old = Site::register(&repository, SYSTEM, 16).await;
        let site = Site::join(&repository, old.lineage.clone(), 16, 2, 1).await;
        let history = "1\t0/500000\tx\n";
        let copy = tempfile::tempdir().unwrap();
        for (folder, site) in [(site.data.join("pg_wal"), &site), (old.data.join("pg_wal"), &old)] {
            fs::write(folder.join(name(1, 5)), segment_bytes(SYSTEM, 1, 5, 0)).unwrap();
            fs::write(folder.join("00000002.history"), history).unwrap();
            assert_eq!(site.lineage.id, old.lineage.id);
        }
        fs::write(copy.path().join(name(1, 5)), segment_bytes(SYSTEM, 1, 5, 0)).unwrap();
        let check = async |folder: &Path, credential: &Credential, host: &str, expect: &str| {
            let place = Place::Registered { credential, host };
            let seen = save_from(&repository, &site, folder, place).await;
            let seen = seen.map_or_else(|error| error.info().code, |_| "salvaged");
            assert_eq!(seen, expect, "{} {host}", folder.display());
            let stored = repository.list("history/").await.unwrap().len();
            assert_eq!(stored, usize::from(expect == "salvaged"));
        };
        let own = site.data.join("pg_wal");
        check(copy.path(), &site.credential, HOST, "RF0117").await;
        check(&old.data.join("pg_wal"), &old.credential, HOST, "RF0117").await;
        check(&own, &site.credential, "db2", "RF0117").await;
        check(&own, &old.credential, HOST, "RF0105").await;
        let forged = Credential { token: Secret::random(), ..site.credential.clone() };
        check(&own, &forged, HOST, "RF0105").await;
        check(&own, &site.credential, HOST, "salvaged").await;
        // pg_wal may be a link to another disk.
        let disk = tempfile::tempdir().unwrap();
        fs::rename(&own, disk.path().join("wal")).unwrap();
        std::os::unix::fs::symlink(disk.path().join("wal"), &own).unwrap();
        check(&own, &site.credential, HOST, "salvaged").await;
        check(&disk.path().join("wal"), &site.credential, HOST, "salvaged").await;
        // The registered directory is gone; what is left of it is mounted elsewhere.
        fs::remove_file(&own).unwrap();
        let mounted = disk.path().join("wal");
        let place = Place::Registered { credential: &site.credential, host: HOST };
        let error = save_from(&repository, &site, &mounted, place).await.unwrap_err();
        assert_eq!(error.info().code, "RF0117");
        assert!(error.hints().iter().any(|hint| hint.contains("--elsewhere")));
        assert_eq!(save(&repository, &site, &mounted).await.unwrap().already_there, 1);
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
