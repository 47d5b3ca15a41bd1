//! Fetching: what is delivered, and when "absent" may be said.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use archive::get::placeholder;
use archive::{Error, Exit, GetRequest, Route, Verdict, exit_of, get};
use bytes::Bytes;
use pg::{Lsn, TimelineHistory, TimelineId, WalSegment};
use repository::wal_object::Provenance;
use repository::{Repository, names, piece};
use stdx::Diagnostic;
use store::local::Access;
use store::testing::{Fault, FaultPlan, Faulty, Operation};
use store::{LocalStore, MemoryStore, Store};

use crate::support::{Site, in_memory, mib, name, now, route, run, segment_bytes, set_of};

const SYSTEM: u64 = 7_301_000_000_000_000_001;

/// One restore: a folder to deliver to, and what it follows.
struct Restore {
    folder: tempfile::TempDir,
    route: Route,
    end: Option<Lsn>,
    reserved: Option<TimelineId>,
    standby: bool,
    allow_partial: bool,
}

impl Restore {
    fn new(route: Route, end: Option<u64>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let end = end.map(Lsn::new);
        Self { folder, route, end, reserved: None, standby: false, allow_partial: false }
    }

    fn destination(&self) -> PathBuf {
        self.folder.path().join("RECOVERYXLOG")
    }

    async fn get(&self, repository: &Repository, site: &Site, name: &str) -> Verdict {
        let destination = self.destination();
        let request = GetRequest {
            name,
            destination: &destination,
            lineage: &site.lineage,
            route: &self.route,
            end: self.end,
            reserved: self.reserved,
            standby: self.standby,
            allow_partial: self.allow_partial,
        };
        get(repository, &request).await
    }

    /// The verdict in short: `delivered`, `absent`, or the error's code. Nothing half-written may
    /// be left in any case.
    async fn short(&self, repository: &Repository, site: &Site, name: &str) -> String {
        let _ = fs::remove_file(self.destination());
        let verdict = self.get(repository, site, name).await;
        let delivered = matches!(verdict, Verdict::Delivered);
        let left = fs::read_dir(self.folder.path()).unwrap().count();
        assert_eq!((self.destination().exists(), left), (delivered, usize::from(delivered)));
        match verdict {
            Verdict::Delivered => "delivered".into(),
            Verdict::Absent => "absent".into(),
            Verdict::Failed(error) => {
                assert_eq!(
                    exit_of(&Verdict::Failed(Error::Held { name: name.into() })),
                    Exit::Abort
                );
                error.info().code.into()
            }
        }
    }
}

const MIB: u64 = 1 << 20;

#[test]
fn a_segment_is_delivered_whole_and_replaces_what_was_there() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        site.archive(&repository, &[5]).await;
        let restore = Restore::new(route(1, ""), Some(6 * MIB));
        fs::write(restore.destination(), "old").unwrap();
        let verdict = restore.get(&repository, &site, &name(1, 5)).await;
        assert!(matches!(verdict, Verdict::Delivered), "{verdict:?}");
        assert_eq!(fs::read(restore.destination()).unwrap(), segment_bytes(SYSTEM, 1, 5, 7));
    });
}

#[test]
fn absence_is_told_only_at_or_behind_the_end() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        site.archive(&repository, &[5, 6, 8]).await;
        let check = async |end: Option<u64>, number: u64, expect: &str| {
            let restore = Restore::new(route(1, ""), end);
            let seen = restore.short(&repository, &site, &name(1, number)).await;
            assert_eq!(seen, expect, "{end:?} {number}");
        };
        check(Some(7 * MIB), 7, "absent").await;
        check(Some(7 * MIB + 1), 7, "RF0111").await;
        check(Some(9 * MIB), 8, "delivered").await;
        check(Some(9 * MIB), 9, "absent").await;
        check(Some(9 * MIB), 7, "RF0111").await;
        // Without a resolved end the archive itself says what is a hole.
        check(None, 7, "RF0111").await;
        check(None, 9, "absent").await;
        check(None, 100, "absent").await;
    });
}

#[test]
fn a_silent_member_proves_nothing() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("second");
        let first: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let second: Arc<dyn Store> = Arc::new(LocalStore::create(&root, Access::Owner).unwrap());
        let repository = set_of(vec![first, second]);
        let site = Site::register(&repository, SYSTEM, 16).await;
        site.archive(&repository, &[5]).await;
        fs::remove_dir_all(&root).unwrap();
        let restore = Restore::new(route(1, ""), Some(6 * MIB));
        // What the other member has is enough; what it lacks the silent one may have.
        assert_eq!(restore.short(&repository, &site, &name(1, 5)).await, "delivered");
        for name in [name(1, 6), "00000002.history".into(), format!("{}.partial", name(1, 5))] {
            assert_eq!(restore.short(&repository, &site, &name).await, "RF0112", "{name}");
        }
        // A standby is told to wait, after a few more attempts.
        let standby = Restore { standby: true, ..Restore::new(route(1, ""), None) };
        assert_eq!(standby.short(&repository, &site, &name(1, 6)).await, "absent");
        fs::create_dir(&root).unwrap();
        assert_eq!(restore.short(&repository, &site, &name(1, 6)).await, "absent");
    });
}

#[test]
fn a_standby_rides_out_a_short_outage() {
    run(async {
        let inner: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let healthy = set_of(vec![Arc::clone(&inner)]);
        let site = Site::register(&healthy, SYSTEM, 16).await;
        site.archive(&healthy, &[5]).await;
        let plan = FaultPlan::new(1).at(Operation::Get, 0, Fault::Before);
        let faulty = Arc::new(Faulty::new(inner, plan));
        let members = vec![repository::Member { name: "m0".into(), store: faulty.clone() }];
        let repository = Repository::new(members, Arc::clone(healthy.keys()));
        let standby = Restore { standby: true, ..Restore::new(route(1, ""), None) };
        assert_eq!(standby.short(&repository, &site, &name(1, 5)).await, "delivered");
        assert_eq!(faulty.struck(), 1);
    });
}

#[test]
fn damage_and_wal_of_another_cluster_never_reach_the_destination() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> =
            Arc::new(LocalStore::create(folder.path(), Access::Owner).unwrap());
        let repository = set_of(vec![store]);
        let site = Site::register(&repository, SYSTEM, 16).await;
        site.archive(&repository, &[5]).await;
        let restore = Restore::new(route(1, ""), Some(6 * MIB));
        // The archive's own segment, under the lineage of a cluster with another system identifier.
        let mut other = Site::register(&repository, SYSTEM + 1, 16).await;
        other.lineage.id = site.lineage.id;
        assert_eq!(restore.short(&repository, &other, &name(1, 5)).await, "RF0103");
        let key = names::wal(site.lineage.id, segment(1, 5), mib());
        let path = folder.path().join(key.as_str());
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, &bytes).unwrap();
        assert_eq!(restore.short(&repository, &site, &name(1, 5)).await, "RF0112");
        fs::write(&path, &bytes[..middle]).unwrap();
        assert_eq!(restore.short(&repository, &site, &name(1, 5)).await, "RF0112");
    });
}

fn segment(timeline: u32, number: u64) -> WalSegment {
    WalSegment { timeline: TimelineId::new(timeline), number }
}

#[test]
fn a_name_that_postgresql_does_not_ask_for_is_a_failure() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        let restore = Restore::new(route(1, ""), Some(0));
        for name in ["", "%f", "../../etc/passwd", "000000010000000000001000"] {
            assert_eq!(restore.short(&repository, &site, name).await, "RF0102", "{name}");
        }
        let verdict = Restore::new(route(1, ""), Some(6 * MIB));
        let missing_folder = verdict.folder.path().join("missing/RECOVERYXLOG");
        site.archive(&repository, &[5]).await;
        let request = GetRequest {
            name: &name(1, 5),
            destination: &missing_folder,
            lineage: &site.lineage,
            route: &verdict.route,
            end: verdict.end,
            reserved: None,
            standby: false,
            allow_partial: false,
        };
        let seen = get(&repository, &request).await;
        assert_eq!(exit_of(&seen), Exit::Abort, "{seen:?}");
    });
}

#[test]
fn only_the_timelines_of_the_restore_are_served() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        site.archive(&repository, &[4, 5, 6]).await;
        // Timeline 2 begins in segment 5; its first segment was never archived.
        let restore = Restore::new(route(2, "1\t0/580000\tx\n"), Some(6 * MIB));
        assert_eq!(restore.short(&repository, &site, &name(1, 4)).await, "delivered");
        assert_eq!(restore.short(&repository, &site, &name(2, 5)).await, "RF0111");
        // The older timeline's file goes on with what timeline 2 never saw.
        assert_eq!(restore.short(&repository, &site, &name(1, 5)).await, "RF0111");
        assert_eq!(restore.short(&repository, &site, &name(1, 6)).await, "absent");
        assert_eq!(restore.short(&repository, &site, &name(3, 5)).await, "RF0114");
        let path = site.segment(2, 5, 7);
        site.push(&repository, &path).await.unwrap();
        assert_eq!(restore.short(&repository, &site, &name(2, 5)).await, "delivered");
    });
}

#[test]
fn a_dead_timelines_last_segment_is_served_only_when_that_is_asked_for() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        site.archive(&repository, &[5]).await;
        // A record of the segment before ends here, on the second page; nothing valid follows.
        let mut bytes = segment_bytes(SYSTEM, 1, 6, 3);
        bytes[2] |= 1; // XLP_FIRST_IS_CONTRECORD
        bytes[16..20].copy_from_slice(&9000_u32.to_le_bytes());
        let partial = site.wal(&format!("{}.partial", name(1, 6)), &bytes);
        site.push(&repository, &partial).await.unwrap();
        let valid_end = 6 * MIB + 40 + 9000 + 24;
        let end = Some(valid_end);
        let restore = Restore::new(route(1, ""), end);
        assert_eq!(restore.short(&repository, &site, &name(1, 6)).await, "RF0111");
        let finalise = Restore { allow_partial: true, ..Restore::new(route(1, ""), end) };
        assert_eq!(finalise.short(&repository, &site, &name(1, 6)).await, "delivered");
        assert_eq!(fs::read(finalise.destination()).unwrap(), bytes);
        assert_eq!(finalise.short(&repository, &site, &name(1, 7)).await, "absent");
        // It does not reach everything: neither what lies behind its end, nor other segments.
        let check = async |end: Option<u64>, expect: &str| {
            let restore = Restore { allow_partial: true, ..Restore::new(route(1, ""), end) };
            assert_eq!(restore.short(&repository, &site, &name(1, 6)).await, expect, "{end:?}");
        };
        check(None, "delivered").await;
        check(Some(valid_end + 1), "RF0111").await;
        check(Some(9 * MIB), "RF0111").await;
        site.archive(&repository, &[8]).await;
        check(None, "RF0111").await;
        // There is no partial one of a hole.
        let far = Restore { allow_partial: true, ..Restore::new(route(1, ""), Some(9 * MIB)) };
        assert_eq!(far.short(&repository, &site, &name(1, 7)).await, "RF0111");
    });
}

#[test]
fn a_segment_of_which_only_the_beginning_is_stored_serves_up_to_there() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        site.archive(&repository, &[5]).await;
        let provenance = Provenance {
            lineage: site.lineage.id,
            system_id: site.lineage.system_id,
            writer: site.credential.writer,
            written: now(),
        };
        let content = Bytes::from(segment_bytes(SYSTEM, 1, 6, 3)).slice(..4096);
        piece::put(&repository, segment(1, 6), mib(), 0, &content, provenance).await.unwrap();
        let check = async |end: Option<u64>, standby: bool, expect: &str| {
            let restore = Restore { standby, ..Restore::new(route(1, ""), end) };
            let seen = restore.short(&repository, &site, &name(1, 6)).await;
            assert_eq!(seen, expect, "{end:?} {standby}");
        };
        check(Some(6 * MIB + 4096), false, "delivered").await;
        check(Some(6 * MIB + 4097), false, "RF0111").await;
        check(None, false, "delivered").await;
        check(None, true, "absent").await; // a standby waits for the rest
        site.push(&repository, &site.segment(1, 7, 7)).await.unwrap();
        check(None, false, "RF0111").await; // more is there behind it: a hole
    });
}

#[test]
fn pieces_behind_what_is_missing_say_that_the_log_went_on() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        site.archive(&repository, &[5]).await;
        let provenance = Provenance {
            lineage: site.lineage.id,
            system_id: site.lineage.system_id,
            writer: site.credential.writer,
            written: now(),
        };
        let whole = Bytes::from(segment_bytes(SYSTEM, 1, 7, 3));
        let put = async |number: u64, start: u32, content: Bytes| {
            let at = segment(1, number);
            piece::put(&repository, at, mib(), start, &content, provenance).await.unwrap();
        };
        let check = async |number: u64, expect: &str| {
            let restore = Restore::new(route(1, ""), None);
            let seen = restore.short(&repository, &site, &name(1, number)).await;
            assert_eq!(seen, expect, "{number}");
        };
        check(6, "absent").await;
        // A piece of 7 whose beginning is missing: neither 6 nor 7 is the end.
        put(7, 4096, whole.slice(4096..8192)).await;
        check(6, "RF0111").await;
        check(7, "RF0111").await;
        check(8, "absent").await;
        put(7, 0, whole.slice(..4096)).await;
        check(6, "RF0111").await;
        check(7, "delivered").await;
    });
}

#[test]
fn a_promotion_finds_every_id_taken_up_to_the_one_reserved_for_it() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        let real = b"1\t0/500000\tno recovery target specified\n";
        for name in ["00000002.history", "00000004.history"] {
            site.push(&repository, &site.wal(name, real)).await.unwrap();
        }
        let mut restore = Restore::new(route(2, "1\t0/500000\tx\n"), Some(6 * MIB));
        restore.reserved = Some(TimelineId::new(6));
        let content = |restore: &Restore| fs::read(restore.destination()).unwrap();
        let history = |id: u32| format!("{id:08X}.history");
        assert_eq!(restore.short(&repository, &site, &history(2)).await, "delivered");
        for id in [3, 5] {
            assert_eq!(restore.short(&repository, &site, &history(id)).await, "delivered", "{id}");
            let expected = placeholder(TimelineId::new(2), TimelineId::new(id), TimelineId::new(6));
            assert_eq!(content(&restore), expected.as_bytes());
            TimelineHistory::parse(TimelineId::new(id), &content(&restore)).unwrap();
        }
        assert_eq!(restore.short(&repository, &site, &history(4)).await, "delivered");
        assert_eq!(content(&restore), real);
        for id in [1, 6, 7] {
            assert_eq!(restore.short(&repository, &site, &history(id)).await, "absent", "{id}");
        }
        site.push(&repository, &site.wal("00000006.history", real)).await.unwrap();
        assert_eq!(restore.short(&repository, &site, &history(6)).await, "RF0113");
        assert!(repository.list("history/").await.unwrap().iter().all(|meta| {
            !meta.key.as_str().ends_with("00000003") && !meta.key.as_str().ends_with("00000005")
        }));
    });
}

#[test]
fn a_history_may_be_absent_unless_the_restore_follows_it() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        let restore = Restore::new(route(3, "1\t0/500000\tx\n"), Some(6 * MIB));
        assert_eq!(restore.short(&repository, &site, "00000003.history").await, "RF0111");
        assert_eq!(restore.short(&repository, &site, "00000002.history").await, "absent");
        assert_eq!(restore.short(&repository, &site, "00000004.history").await, "absent");
        assert_eq!(restore.short(&repository, &site, "00000001.history").await, "absent");
    });
}

/// What PostgreSQL finds when it searches the latest timeline, from `from` on: the last id before
/// the first one without a history (`findNewestTimeLine`).
async fn newest(restore: &Restore, repository: &Repository, site: &Site, from: u32) -> u32 {
    let mut newest = from;
    while restore.short(repository, site, &format!("{:08X}.history", newest + 1)).await != "absent"
    {
        newest += 1;
    }
    newest
}

#[test]
fn a_search_for_the_latest_timeline_ends_at_the_current_one() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        site.archive(&repository, &[4, 5, 6]).await;
        // 2 and 4 were given up before they had a history; 3 and 6 were abandoned behind theirs.
        let real = "1\t0/580000\tno recovery target specified\n";
        for (id, text) in [(3, "1\t0/480000\tx\n"), (5, real), (6, "1\t0/490000\ty\n")] {
            let path = site.wal(&format!("{id:08X}.history"), text.as_bytes());
            site.push(&repository, &path).await.unwrap();
        }
        for standby in [false, true] {
            let way = route(5, real).searched();
            let restore = Restore { standby, ..Restore::new(way, None) };
            assert_eq!(newest(&restore, &repository, &site, 1).await, 5);
            assert_eq!(newest(&restore, &repository, &site, 5).await, 5);
            let content = async |id: u32| {
                let name = format!("{id:08X}.history");
                assert_eq!(restore.short(&repository, &site, &name).await, "delivered");
                let text = fs::read(restore.destination()).unwrap();
                TimelineHistory::parse(TimelineId::new(id), &text).unwrap();
                String::from_utf8(text).unwrap()
            };
            assert_eq!(content(5).await, real);
            // The abandoned branch is not told where it really left.
            for id in 2..5 {
                let (id, end) = (TimelineId::new(id), TimelineId::new(5));
                assert_eq!(content(id.get()).await, placeholder(TimelineId::FIRST, id, end));
            }
            assert_eq!(restore.short(&repository, &site, &name(1, 4)).await, "delivered");
            // Timeline 5 begins in segment 5 and is not archived yet: a standby waits for it.
            let missing = if standby { "absent" } else { "RF0111" };
            assert_eq!(restore.short(&repository, &site, &name(1, 5)).await, missing);
            let elsewhere = if standby { "absent" } else { "RF0114" };
            assert_eq!(restore.short(&repository, &site, &name(6, 5)).await, elsewhere);
        }
    });
}
