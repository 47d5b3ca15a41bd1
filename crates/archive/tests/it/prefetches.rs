//! The spool: what is taken from it, what is put into it, and what interruptions leave.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use archive::Route;
use archive::prefetch::{Expectations, FillRequest, Filled, Spool, fill, take};
use pg::{Lsn, SystemId};
use repository::Repository;
use testbed::poll;

use crate::support::{Site, in_memory, mib, name, route, run, segment_bytes};

const SYSTEM: u64 = 7_301_000_000_000_000_001;
const DEADLINE: Duration = Duration::from_secs(20);

/// A `pg_wal` of a recovering cluster.
struct Recovery {
    folder: tempfile::TempDir,
    route: Route,
}

impl Recovery {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), route: route(1, "") }
    }

    fn destination(&self) -> PathBuf {
        self.folder.path().join("RECOVERYXLOG")
    }

    fn spool(&self) -> Spool {
        Spool::beside(&self.destination()).unwrap()
    }

    fn expected<'a>(&self, restore: &'a str) -> Expectations<'a> {
        Expectations { restore, system_id: SystemId::new(SYSTEM), segment_size: mib() }
    }

    fn take(&self, restore: &str, number: u64) -> bool {
        let _ = fs::remove_file(self.destination());
        let taken = take(&name(1, number), &self.destination(), &self.expected(restore)).is_some();
        assert_eq!(self.destination().exists(), taken);
        taken
    }

    async fn fill(&self, repository: &Repository, site: &Site, next: u64, count: u64) -> Filled {
        self.try_fill(repository, site, "r1", next, count, None).await.unwrap()
    }

    async fn try_fill(
        &self,
        repository: &Repository,
        site: &Site,
        restore: &str,
        next: u64,
        count: u64,
        end: Option<u64>,
    ) -> Result<Filled, archive::Error> {
        let spool = self.spool();
        let request = FillRequest {
            spool: &spool,
            restore,
            lineage: &site.lineage,
            route: &self.route,
            next,
            end: end.map(Lsn::new),
            count,
            linger: Duration::ZERO,
        };
        fill(repository, &request).await
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.spool().folder()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "lock" && name != "restore");
        names.sort();
        names
    }
}

#[test]
fn what_was_fetched_ahead_is_renamed_into_place() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        site.archive(&repository, &[5, 6, 7, 9]).await;
        let recovery = Recovery::new();
        assert!(!recovery.take("r1", 5), "there is no spool yet");
        assert_eq!(recovery.fill(&repository, &site, 5, 2).await, Filled::Idle);
        assert_eq!(recovery.names(), [name(1, 5), name(1, 6)]);
        assert!(recovery.take("r1", 5));
        assert_eq!(fs::read(recovery.destination()).unwrap(), segment_bytes(SYSTEM, 1, 5, 7));
        assert!(!recovery.take("r1", 5), "it is there once");
        // It stops at the first one missing, and goes on from what is there already.
        assert_eq!(recovery.fill(&repository, &site, 6, 8).await, Filled::End);
        assert_eq!(recovery.names(), [name(1, 6), name(1, 7)]);
        assert!(recovery.take("r1", 6) && recovery.take("r1", 7) && !recovery.take("r1", 8));
        recovery.spool().remove().unwrap();
        recovery.spool().remove().unwrap();
    });
}

#[test]
fn nothing_behind_the_end_of_recovery_is_fetched() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        site.archive(&repository, &[5, 6, 7]).await;
        let recovery = Recovery::new();
        let end = Some((6 << 20) + 1);
        let filled = recovery.try_fill(&repository, &site, "r1", 5, 8, end).await.unwrap();
        assert_eq!(filled, Filled::End);
        assert_eq!(recovery.names(), [name(1, 5), name(1, 6)]);
    });
}

#[test]
fn what_another_restore_left_is_never_taken() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        site.archive(&repository, &[5, 6]).await;
        let recovery = Recovery::new();
        recovery.fill(&repository, &site, 5, 2).await;
        assert!(!recovery.take("r2", 5));
        // The next restore's filler throws it out and puts in its own.
        let filled = recovery.try_fill(&repository, &site, "r2", 6, 1, None).await.unwrap();
        assert_eq!(filled, Filled::Idle);
        assert_eq!(recovery.names(), [name(1, 6)]);
        assert!(!recovery.take("r1", 6) && recovery.take("r2", 6));
    });
}

#[test]
fn a_file_in_the_spool_is_taken_only_if_it_is_the_segment_asked_for() {
    let recovery = Recovery::new();
    let spool = recovery.spool();
    fs::create_dir(spool.folder()).unwrap();
    fs::write(spool.folder().join("restore"), "r1").unwrap();
    let good = segment_bytes(SYSTEM, 1, 5, 7);
    let check = |bytes: &[u8], expect: bool| {
        fs::write(spool.folder().join(name(1, 5)), bytes).unwrap();
        assert_eq!(recovery.take("r1", 5), expect);
    };
    check(&good[..good.len() - 1], false);
    check(&[], false);
    check(&segment_bytes(SYSTEM + 1, 1, 5, 7), false);
    check(&segment_bytes(SYSTEM, 1, 6, 7), false);
    check(&segment_bytes(SYSTEM, 2, 5, 7), false);
    check(&good, true);
    assert!(take("00000002.history", &recovery.destination(), &recovery.expected("r1")).is_none());
    assert!(take("../restore", &recovery.destination(), &recovery.expected("r1")).is_none());
}

#[test]
fn what_a_killed_filler_left_is_ignored_and_cleaned_up() {
    run(async {
        let repository = in_memory();
        let site = Site::register(&repository, SYSTEM, 16).await;
        site.archive(&repository, &[5, 6]).await;
        let recovery = Recovery::new();
        recovery.fill(&repository, &site, 5, 1).await;
        let folder = recovery.spool().folder().to_owned();
        // Killed while it wrote segment 6: the announcement and half a temporary file remain.
        fs::write(folder.join(format!("{}.coming", name(1, 6))), "").unwrap();
        let temp = stdx::durable::temp_sibling(&folder.join(name(1, 6)));
        fs::write(&temp, &segment_bytes(SYSTEM, 1, 6, 7)[..1000]).unwrap();
        // Nobody holds the lock, so nobody is waited for.
        assert!(!recovery.spool().is_filling());
        assert!(!recovery.take("r1", 6));
        recovery.fill(&repository, &site, 6, 1).await;
        assert_eq!(recovery.names(), [name(1, 6)], "5 is behind, the rest was left over");
        assert!(recovery.take("r1", 6));
    });
}

#[test]
fn one_filler_at_a_time_follows_the_reader() {
    run(async {
        let repository = Arc::new(in_memory());
        let site = Arc::new(Site::register(&repository, SYSTEM, 16).await);
        site.archive(&repository, &(1..=30).collect::<Vec<_>>()).await;
        let recovery = Arc::new(Recovery::new());
        let filler = {
            let (repository, site, recovery) =
                (Arc::clone(&repository), Arc::clone(&site), Arc::clone(&recovery));
            tokio::spawn(async move {
                let spool = recovery.spool();
                let request = FillRequest {
                    spool: &spool,
                    restore: "r1",
                    lineage: &site.lineage,
                    route: &recovery.route,
                    next: 1,
                    end: None,
                    count: 3,
                    linger: DEADLINE,
                };
                fill(&repository, &request).await
            })
        };
        poll(DEADLINE, "the spool to fill", || recovery.spool().folder().join(name(1, 3)).exists());
        assert!(recovery.spool().is_filling());
        assert_eq!(recovery.fill(&repository, &site, 9, 3).await, Filled::Busy);
        assert!(!recovery.spool().folder().join(name(1, 4)).exists(), "three are enough");
        for number in 1..=10 {
            poll(DEADLINE, "the next segment", || recovery.take("r1", number));
        }
        // The server was restarted and begins again further back than the filler is.
        recovery.spool().redirect(&name(1, 2)).unwrap();
        for number in 2..=30 {
            poll(DEADLINE, "the next segment", || recovery.take("r1", number));
        }
        assert_eq!(filler.await.unwrap().unwrap(), Filled::End);
        assert!(!recovery.spool().is_filling());
    });
}
