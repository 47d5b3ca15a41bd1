//! Archiving: what is taken, what is refused, and that nothing is ever replaced.

use std::fs;
use std::sync::Arc;

use archive::content;
use archive::credential::Credential;
use archive::{Error, Pushed, push};
use pg::{SystemId, TimelineId};
use repository::lineage::{self, Reservation};
use repository::timeline;
use repository::wal_object::{self, WalFile};
use stdx::{Diagnostic, Id};
use store::local::Access;
use store::{LocalStore, MemoryStore, Store};

use crate::support::{
    HOST, Site, in_folders, in_memory, mib, name, now, run, segment_bytes, set_of,
};

const SYSTEM: u64 = 7_301_000_000_000_000_001;

fn code(error: &Error) -> &'static str {
    error.info().code
}

#[test]
fn a_segment_is_stored_once_and_the_same_again_is_success() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let repository = in_folders(folder.path(), 2);
        let site = Site::register(&repository, SYSTEM, 16).await;
        let path = site.segment(1, 5, 7);
        assert_eq!(site.push(&repository, &path).await.unwrap(), Pushed::Stored);
        assert_eq!(site.push(&repository, &path).await.unwrap(), Pushed::AlreadyThere);
        for member in ["m0", "m1"] {
            let alone = repository.only(member).unwrap();
            let segment = pg::WalSegment { timeline: TimelineId::FIRST, number: 5 };
            let file = WalFile::Segment(segment, mib());
            let (info, bytes) = wal_object::get(&alone, site.lineage.id, &file).await.unwrap();
            assert_eq!(bytes, fs::read(&path).unwrap());
            assert_eq!(
                (info.system_id, info.writer),
                (SystemId::new(SYSTEM), site.credential.writer)
            );
        }
    });
}

#[test]
fn other_content_is_refused_and_kept_beside() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        site.archive(&repository, &[5]).await;
        let path = site.segment(1, 5, 8);
        let error = site.push(&repository, &path).await.unwrap_err();
        assert_eq!(code(&error), "RF0107");
        let Error::Conflict(conflict) = &error else { panic!("{error}") };
        let (kept, expected, seen) = (&conflict.kept, conflict.expected, conflict.seen);
        assert_eq!(expected, repository.keys().digest(&fs::read(&path).unwrap()));
        assert_eq!(
            error.to_string(),
            format!(
                "WAL file '{}' is already in the archive with another content\n  \
                 expected blake3 {expected}…, seen blake3 {seen}… (repository 'memory:', system identifier {SYSTEM})",
                name(1, 5)
            )
        );
        let listed = repository.list("conflict/").await.unwrap();
        assert_eq!(
            listed.iter().map(|meta| meta.key.as_str()).collect::<Vec<_>>(),
            [kept.as_str()]
        );
        // Again: still refused, and not kept twice.
        assert_eq!(code(&site.push(&repository, &path).await.unwrap_err()), "RF0107");
        assert_eq!(repository.list("conflict/").await.unwrap().len(), 1);
        // What was archived is what it was.
        let first = site.segment(1, 5, 7);
        assert_eq!(site.push(&repository, &first).await.unwrap(), Pushed::AlreadyThere);
    });
}

#[test]
fn of_racing_pushers_with_different_content_one_wins_and_both_are_kept() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let repository = in_folders(folder.path(), 1);
        let site = Site::register(&repository, SYSTEM, 16).await;
        for number in 10..16 {
            let path = site.segment(1, number, 1);
            let two = segment_bytes(SYSTEM, 1, number, 2);
            let first = site.push(&repository, &path);
            let second = async {
                let provenance = wal_object::Provenance {
                    lineage: site.lineage.id,
                    system_id: site.lineage.system_id,
                    writer: Id::random(),
                    written: now(),
                };
                let segment = pg::WalSegment { timeline: TimelineId::FIRST, number };
                let file = WalFile::Segment(segment, mib());
                let how = repository::Compression::default();
                wal_object::put(&repository, &file, &two, provenance, how, 1).await
            };
            let (first, second) = tokio::join!(first, second);
            let second = second.unwrap();
            let won =
                [matches!(first, Ok(Pushed::Stored)), matches!(second, wal_object::WalPut::Stored)];
            assert_eq!(won.iter().filter(|won| **won).count(), 1, "{first:?} {second:?}");
            if !won[0] {
                assert_eq!(code(&first.unwrap_err()), "RF0107");
            }
        }
        assert_eq!(repository.list("conflict/").await.unwrap().len(), 6);
    });
}

#[test]
fn many_pushers_of_the_same_segment_all_succeed() {
    let folder = tempfile::tempdir().unwrap();
    run(async {
        let repository = Arc::new(in_folders(folder.path(), 2));
        let site = Arc::new(Site::register(&repository, SYSTEM, 16).await);
        let path = site.segment(1, 3, 9);
        let pushers: Vec<_> = (0..6)
            .map(|_| {
                let (repository, site, path) =
                    (Arc::clone(&repository), Arc::clone(&site), path.clone());
                tokio::spawn(async move { site.push(&repository, &path).await.unwrap() })
            })
            .collect();
        for pusher in pushers {
            pusher.await.unwrap();
        }
        assert!(repository.list("conflict/").await.unwrap().is_empty());
    });
}

#[test]
fn wal_that_is_not_what_it_should_be_is_refused() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        let good = segment_bytes(SYSTEM, 1, 5, 7);
        let check = async |name: &str, bytes: &[u8], expect: &str| {
            let path = site.wal(name, bytes);
            let error = site.push(&repository, &path).await.unwrap_err();
            assert_eq!(format!("{} {error}", code(&error)), expect);
        };
        let called = name(1, 5);
        check(
            &called,
            &segment_bytes(SYSTEM + 1, 1, 5, 7),
            &format!("RF0103 WAL file '{called}' is of another cluster: expected system identifier {SYSTEM} (cluster 'shop'), seen {}", SYSTEM + 1),
        )
        .await;
        check(
            &called,
            &segment_bytes(SYSTEM, 1, 6, 7),
            &format!("RF0104 WAL file '{called}' is not what its name says: expected WAL from 0/500000, seen 0/600000"),
        )
        .await;
        check(
            &called,
            &segment_bytes(SYSTEM, 2, 5, 7),
            &format!("RF0104 WAL file '{called}' is not what its name says: expected WAL of timeline 1 or its ancestors, seen 2"),
        )
        .await;
        check(
            &called,
            &good[..good.len() - 1],
            &format!("RF0102 '{called}' is not a WAL file: expected 1048576 bytes, seen 1048575"),
        )
        .await;
        check(
            &called,
            &[good.clone(), vec![0]].concat(),
            &format!("RF0102 '{called}' is not a WAL file: expected 1048576 bytes, seen 1048577"),
        )
        .await;
        check(
            &called,
            b"",
            &format!("RF0102 '{called}' is not a WAL file: expected at least 24 bytes of a WAL page, seen 0"),
        )
        .await;
        check(
            "00000002.history",
            b"",
            "RF0102 '00000002.history' is not a WAL file: expected at least one switch of timelines, seen none",
        )
        .await;
        let backup = format!("{called}.00000028.backup");
        check(
            &backup,
            b"START WAL LOCATION: 0/600028 (file 000000010000000000000006)\n",
            &format!("RF0102 '{backup}' is not a WAL file: expected its first line to end in '(file {called})'"),
        )
        .await;
        fs::write(site.data.join("PG_VERSION"), "17\n").unwrap();
        check(
            &called,
            &good,
            &format!("RF0115 WAL segment '{called}' was written by PostgreSQL 16, expected 17 (data directory '{}')", site.data.display()),
        )
        .await;
        assert!(repository.list("wal/").await.unwrap().is_empty(), "nothing was stored");
    });
}

#[test]
fn histories_are_never_replaced_and_backup_notes_are_kept() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        let path = site.wal("00000002.history", b"1\t0/500000\tno recovery target specified\n");
        assert_eq!(site.push(&repository, &path).await.unwrap(), Pushed::Stored);
        assert_eq!(site.push(&repository, &path).await.unwrap(), Pushed::AlreadyThere);
        site.wal("00000002.history", b"1\t0/600000\tno recovery target specified\n");
        let error = site.push(&repository, &path).await.unwrap_err();
        assert_eq!(code(&error), "RF0107");
        let (_, kept) =
            wal_object::get(&repository, site.lineage.id, &WalFile::History(TimelineId::new(2)))
                .await
                .unwrap();
        assert_eq!(kept, b"1\t0/500000\tno recovery target specified\n");
        let note = format!("{}.00000028.backup", name(1, 5));
        let text = format!("START WAL LOCATION: 0/500028 (file {})\nSTOP WAL …\n", name(1, 5));
        let path = site.wal(&note, text.as_bytes());
        assert_eq!(site.push(&repository, &path).await.unwrap(), Pushed::Stored);
    });
}

#[test]
fn a_promotion_in_place_moves_the_lineage_to_its_timeline() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        let history = async |timeline: u32, text: &str| {
            let path = site.wal(&format!("{timeline:08X}.history"), text.as_bytes());
            site.push(&repository, &path).await.unwrap();
            let state = lineage::state(&repository, site.lineage.id).await.unwrap().unwrap();
            assert_eq!(state.writer, site.credential.writer);
            let latest = timeline::latest(&repository, site.lineage.id).await.unwrap();
            assert_eq!(latest, state.timeline);
            (state.number, state.timeline.get())
        };
        let reserve = async |timeline: u32, place: String| {
            let reservation = Reservation {
                timeline: TimelineId::new(timeline),
                parent: TimelineId::new(2),
                owner: Id::random(),
                place,
                taken: now(),
            };
            lineage::reserve(&repository, site.lineage.id, &reservation).await.unwrap();
        };
        site.archive(&repository, &[3]).await;
        for _ in 0..2 {
            assert_eq!(history(2, "1\t0/580000\tx\n").await, (2, 2));
        }
        // What it wrote before and had not archived yet still comes.
        site.archive(&repository, &[4]).await;
        // Another branch of timeline 1, and one that somebody else has reserved.
        assert_eq!(history(3, "1\t0/480000\tx\n").await, (2, 2));
        reserve(4, "db2:/var/lib/restored".into()).await;
        assert_eq!(history(4, "1\t0/580000\tx\n2\t0/680000\ty\n").await, (2, 2));
        reserve(5, format!("{HOST}:{}", site.data.display())).await;
        assert_eq!(history(5, "1\t0/580000\tx\n2\t0/680000\ty\n").await, (3, 5));
        // An ancestor's history again changes nothing.
        assert_eq!(history(2, "1\t0/580000\tx\n").await, (3, 5));
        site.archive(&repository, &[2]).await;
        // Who comes after it does not write what it wrote.
        let heir = Site::join(&repository, site.lineage.clone(), 16, 4, 5).await;
        let error = heir.push(&repository, &heir.segment(1, 7, 7)).await.unwrap_err();
        assert_eq!(code(&error), "RF0109");
    });
}

#[test]
fn a_second_partial_segment_is_kept_beside_and_does_not_stop_archiving() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        let called = format!("{}.partial", name(1, 5));
        let path = site.wal(&called, &segment_bytes(SYSTEM, 1, 5, 1));
        assert_eq!(site.push(&repository, &path).await.unwrap(), Pushed::Stored);
        site.wal(&called, &segment_bytes(SYSTEM, 1, 5, 2));
        let second = site.push(&repository, &path).await.unwrap();
        assert!(matches!(second, Pushed::KeptBeside { .. }), "{second:?}");
        let foreign = site.wal(&called, &segment_bytes(SYSTEM + 1, 1, 5, 2));
        assert_eq!(code(&site.push(&repository, &foreign).await.unwrap_err()), "RF0103");
    });
}

#[test]
fn the_first_segment_of_a_timeline_may_begin_with_its_parents_bytes_only() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        // The header says timeline 1, the name timeline 3.
        let path = site.wal(&name(3, 5), &segment_bytes(SYSTEM, 1, 5, 7));
        site.wal("00000003.history", b"2\t0/580000\tx\n");
        assert_eq!(code(&site.push(&repository, &path).await.unwrap_err()), "RF0104");
        site.wal("00000003.history", b"1\t0/580000\tx\n");
        assert_eq!(site.push(&repository, &path).await.unwrap(), Pushed::Stored);
    });
}

#[test]
fn only_the_writer_in_force_archives() {
    run(async {
        let repository = in_memory();
        let old = Site::register(&repository, SYSTEM, 16).await;
        old.archive(&repository, &[5, 6]).await;
        // A restored cluster is adopted: it goes on from timeline 2.
        let new = Site::join(&repository, old.lineage.clone(), 16, 2, 2).await;
        let error = old.push(&repository, &old.segment(1, 7, 7)).await.unwrap_err();
        assert_eq!(code(&error), "RF0109");
        assert!(error.hints().iter().any(|hint| hint.contains("rollforward init --take-over")));
        assert_eq!(new.push(&repository, &new.segment(2, 6, 7)).await.unwrap(), Pushed::Stored);
        // What was archived before may come again; anything new on the left timeline may not.
        let again = new.push(&repository, &new.segment(1, 5, 7)).await.unwrap();
        assert_eq!(again, Pushed::AlreadyThere);
        for (number, fill) in [(5, 8), (7, 7)] {
            let path = new.segment(1, number, fill);
            assert_eq!(code(&new.push(&repository, &path).await.unwrap_err()), "RF0109");
        }
    });
}

#[test]
fn a_copy_of_the_cluster_is_refused() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        let path = site.segment(1, 5, 7);
        // The same disk image on another host.
        let mut request = site.request(&path);
        request.host = "db2";
        let error = push(&repository, &request).await.unwrap_err();
        assert_eq!(code(&error), "RF0106");
        assert_eq!(
            error.to_string(),
            format!(
                "this is a copy of cluster 'shop': expected writer at '{HOST}:{0}', seen 'db2:{0}'",
                site.data.display()
            )
        );
        assert!(error.hints().iter().any(|hint| hint.contains("rollforward adopt")));
        // A copied directory on the same host, with the original's configuration.
        let copy = site.data.with_file_name("copy");
        for sub in ["pg_wal", "global"] {
            fs::create_dir_all(copy.join(sub)).unwrap();
        }
        fs::write(copy.join("global/pg_control"), b"").unwrap();
        let copied = copy.join("pg_wal").join(name(1, 5));
        fs::copy(&path, &copied).unwrap();
        assert_eq!(code(&site.push(&repository, &copied).await.unwrap_err()), "RF0106");
        // A link to the registered directory is the registered directory.
        let link = site.data.with_file_name("link");
        std::os::unix::fs::symlink(&site.data, &link).unwrap();
        let linked = link.join("pg_wal").join(name(1, 5));
        assert_eq!(site.push(&repository, &linked).await.unwrap(), Pushed::Stored);
    });
}

#[test]
fn a_token_proves_nothing_unless_it_is_the_registered_one_and_outside_the_data() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        let path = site.segment(1, 5, 7);
        let refused = async |credential: &Credential| {
            let mut request = site.request(&path);
            request.credential = credential;
            code(&push(&repository, &request).await.unwrap_err())
        };
        let forged = repository::seal::Secret::random();
        assert_eq!(
            refused(&Credential { token: forged, ..site.credential.clone() }).await,
            "RF0105"
        );
        assert_eq!(
            refused(&Credential { writer: Id::random(), ..site.credential.clone() }).await,
            "RF0105"
        );
        let nowhere = repository::LineageId(Id::random());
        assert_eq!(
            refused(&Credential { lineage: nowhere, ..site.credential.clone() }).await,
            "RF0105"
        );
        let inside = Credential { file: site.data.join("token"), ..site.credential.clone() };
        inside.write().unwrap();
        assert_eq!(refused(&inside).await, "RF0110");
        // Registered, but nothing is in force yet.
        let fresh =
            lineage::register(&repository, "new", site.lineage.system_id, now()).await.unwrap();
        let writer = lineage::add_writer(
            &repository,
            fresh.id,
            HOST,
            site.data.to_str().unwrap(),
            site.credential.token.expose(),
            now(),
        )
        .await
        .unwrap();
        let early = Credential { lineage: fresh.id, writer: writer.id, ..site.credential.clone() };
        assert_eq!(refused(&early).await, "RF0105");
        assert!(repository.list("wal/").await.unwrap().is_empty());
    });
}

#[test]
fn a_held_cluster_archives_nothing_at_all() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        let segment = site.segment(1, 5, 7);
        let history = site.wal("00000002.history", b"1\t0/500000\tx\n");
        for path in [&segment, &history] {
            let mut request = site.request(path);
            request.hold = true;
            let error = push(&repository, &request).await.unwrap_err();
            assert_eq!((code(&error), error.info().exit.code()), ("RF0108", 1));
        }
        assert!(repository.list("wal/").await.unwrap().is_empty());
        assert!(repository.list("history/").await.unwrap().is_empty());
    });
}

#[test]
fn nothing_is_called_archived_before_every_member_has_it() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("second");
        let good: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let bad: Arc<dyn Store> = Arc::new(LocalStore::create(&root, Access::Owner).unwrap());
        let repository = set_of(vec![good, bad]);
        let site = Site::register(&repository, SYSTEM, 16).await;
        let path = site.segment(1, 5, 7);
        let unmounted = folder.path().join("unmounted");
        fs::rename(&root, &unmounted).unwrap();
        let error = site.push(&repository, &path).await.unwrap_err();
        assert!(error.is_outage(), "{error}");
        fs::rename(&unmounted, &root).unwrap();
        site.push(&repository, &path).await.unwrap();
        let second = repository.only("m1").unwrap();
        assert_eq!(second.list("wal/").await.unwrap().len(), 1);
    });
}

#[test]
fn every_declared_error_ends_an_archive_command_between_1_and_125() {
    for info in
        archive::error::CODES.iter().chain(repository::error::CODES).chain(store::error::CODES)
    {
        assert!((1..=125).contains(&info.exit.code()), "{info}");
    }
}

#[test]
fn every_cut_of_a_segment_is_refused_without_a_panic() {
    let lineage = lineage::Lineage {
        id: repository::LineageId(Id::random()),
        cluster: "shop".into(),
        system_id: SystemId::new(SYSTEM),
        created: now(),
    };
    let bytes = segment_bytes(SYSTEM, 1, 5, 7);
    let Ok(pg::WalFileName::Segment(called)) = name(1, 5).parse() else { panic!("a segment") };
    for len in (0..64).chain([4096, bytes.len() - 1]) {
        assert!(content::check_segment(called, &bytes[..len], &lineage).is_err(), "{len}");
    }
    assert!(content::check_segment(called, &bytes, &lineage).is_ok());
}
