//! Push, get and the filler of the spool are killed with SIGKILL at random points: nothing that
//! shows afterwards is half done, and doing it again succeeds.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use archive::credential::Credential;
use archive::prefetch::{FillRequest, Spool, fill};
use archive::{GetRequest, PushRequest, Verdict, get, push};
use pg::{SystemId, TimelineId, WalSegment};
use repository::lineage::{self, Lineage};
use repository::seal::Secret;
use repository::unlock::{self, NewRepository, NewSet, Unlock};
use repository::wal_object::{self, WalFile};
use repository::{Member, Repository};
use store::local::Access;
use store::{LocalStore, Store};

use crate::support::{HOST, enroll, mib, name, now, route, run, segment_bytes};

const SYSTEM: u64 = 7_301_000_000_000_000_001;
const ROLE: &str = "ARCHIVE_TEST_ROLE";
const FOLDER: &str = "ARCHIVE_TEST_FOLDER";
const SEGMENTS: u64 = 12;
const KILLS: u32 = 16;
const DEADLINE: Duration = Duration::from_secs(60);

/// Everything two processes share.
struct Place {
    folder: PathBuf,
}

impl Place {
    fn unlock() -> Unlock {
        Unlock::KeyFile { origin: "test".into(), secret: Secret::from_bytes([9; 32]) }
    }

    /// Makes repository, cluster and its segments.
    async fn make(folder: &Path) -> Self {
        let folder = fs::canonicalize(folder).unwrap();
        let store: Arc<dyn Store> =
            Arc::new(LocalStore::create(&folder.join("repository"), Access::Owner).unwrap());
        let slots = [("host".to_owned(), Self::unlock())];
        let new = NewRepository { slots: &slots, single_writer: false, created: now() };
        NewSet::draw(true).create_member(&store, &new).await.unwrap();
        let place = Self { folder };
        let data = place.folder.join("data");
        fs::create_dir_all(data.join("pg_wal")).unwrap();
        fs::create_dir(data.join("global")).unwrap();
        fs::write(data.join("PG_VERSION"), "16\n").unwrap();
        fs::write(data.join("global/pg_control"), "").unwrap();
        for number in 1..=SEGMENTS {
            fs::write(place.source(number), segment_bytes(SYSTEM, 1, number, 7)).unwrap();
        }
        fs::create_dir(place.folder.join("to")).unwrap();
        let repository = place.open().await;
        let lineage =
            lineage::register(&repository, "shop", SystemId::new(SYSTEM), now()).await.unwrap();
        enroll(&repository, &lineage, &data, &place.folder.join("token"), 1, 1).await;
        place
    }

    async fn open(&self) -> Repository {
        let store = LocalStore::open(&self.folder.join("repository"), Access::Owner);
        let member = Member { name: "m0".into(), store: Arc::new(store) };
        unlock::open(vec![member], Some(&Self::unlock())).await.unwrap()
    }

    fn source(&self, number: u64) -> PathBuf {
        self.folder.join("data/pg_wal").join(name(1, number))
    }

    fn destination(&self) -> PathBuf {
        self.folder.join("to/RECOVERYXLOG")
    }

    async fn lineage(&self, repository: &Repository) -> Lineage {
        lineage::of_cluster(repository, "shop").await.unwrap()
    }

    async fn push_all(&self) {
        let repository = self.open().await;
        let credential = Credential::read(&self.folder.join("token")).unwrap();
        for number in 1..=SEGMENTS {
            let request = PushRequest {
                path: &self.source(number),
                credential: &credential,
                host: HOST,
                hold: false,
                compression: repository::Compression::default(),
                threads: 2,
                now: now(),
            };
            push(&repository, &request).await.unwrap();
        }
    }

    async fn get_all(&self) {
        let repository = self.open().await;
        let lineage = self.lineage(&repository).await;
        for number in 1..=SEGMENTS {
            let request = GetRequest {
                name: &name(1, number),
                destination: &self.destination(),
                lineage: &lineage,
                route: &route(1, ""),
                end: None,
                reserved: None,
                standby: false,
                allow_partial: false,
            };
            let verdict = get(&repository, &request).await;
            assert!(matches!(verdict, Verdict::Delivered), "{verdict:?}");
        }
    }

    async fn fill_all(&self) {
        let repository = self.open().await;
        let spool = Spool::beside(&self.destination()).unwrap();
        let request = FillRequest {
            spool: &spool,
            restore: "r1",
            lineage: &self.lineage(&repository).await,
            route: &route(1, ""),
            next: 1,
            end: None,
            count: SEGMENTS + 1,
            linger: Duration::ZERO,
        };
        fill(&repository, &request).await.unwrap();
    }

    /// This program again, to play another role in the same test.
    fn spawn(&self, role: &str) -> Child {
        let test = match role {
            "push" => "kills::a_killed_push_leaves_whole_segments_only",
            "get" => "kills::a_killed_get_never_shows_a_part_of_a_segment",
            _ => "kills::a_killed_filler_leaves_whole_segments_only",
        };
        Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(ROLE, role)
            .env(FOLDER, &self.folder)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Starts the role many times, kills it when it has changed something for the first time, the
    /// second time, and so on, and looks after each.
    fn kill_often(&self, role: &str, mut look: impl FnMut()) {
        let mut killed = 0;
        for changes in 1..=KILLS {
            let mut child = self.spawn(role);
            self.wait_for_changes(changes, &mut child);
            child.kill().unwrap();
            killed += u32::from(!child.wait().unwrap().success());
            look();
        }
        assert!(killed > 0, "no process was still at work when it was killed");
        assert!(self.spawn(role).wait().unwrap().success());
        look();
    }

    /// Waits until so many changes of the files were seen, in the middle of writing them, too; or
    /// until the process has ended.
    fn wait_for_changes(&self, changes: u32, child: &mut Child) {
        let mut before = self.files();
        let (mut seen, began) = (0, Instant::now());
        while seen < changes && child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < DEADLINE, "{seen} of {changes} changes");
            let now = self.files();
            seen += u32::from(now != before);
            before = now;
            std::thread::yield_now();
        }
    }

    /// Every file that is written, with its length.
    fn files(&self) -> BTreeSet<(PathBuf, u64)> {
        let mut found = BTreeSet::new();
        let mut folders = vec![self.folder.join("repository"), self.folder.join("to")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(seen) if seen.is_dir() => folders.push(entry.path()),
                    Ok(seen) => drop(found.insert((entry.path(), seen.len()))),
                    Err(_) => {}
                }
            }
        }
        found
    }
}

/// Plays the role that this process was started for, if it was.
#[allow(clippy::disallowed_methods)] // the way a test talks to its own child
fn played_role() -> bool {
    let (Ok(role), Ok(folder)) = (std::env::var(ROLE), std::env::var(FOLDER)) else { return false };
    let place = Place { folder: folder.into() };
    run(async {
        match role.as_str() {
            "push" => place.push_all().await,
            "get" => place.get_all().await,
            "fill" => place.fill_all().await,
            other => panic!("unknown role {other}"),
        }
    });
    true
}

#[test]
fn a_killed_push_leaves_whole_segments_only() {
    if played_role() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let place = run(Place::make(folder.path()));
    place.kill_often("push", || {
        run(async {
            let repository = place.open().await;
            let lineage = place.lineage(&repository).await;
            for meta in repository.list("wal/").await.unwrap() {
                let called = meta.key.as_str().rsplit('/').next().unwrap();
                let segment = WalSegment::parse(called, mib()).unwrap();
                let file = WalFile::Segment(segment, mib());
                let (_, bytes) = wal_object::get(&repository, lineage.id, &file).await.unwrap();
                assert_eq!(bytes, fs::read(place.source(segment.number)).unwrap());
            }
        });
    });
    run(async {
        let repository = place.open().await;
        assert_eq!(repository.list("wal/").await.unwrap().len() as u64, SEGMENTS);
        assert!(repository.list("conflict/").await.unwrap().is_empty());
    });
}

#[test]
fn a_killed_get_never_shows_a_part_of_a_segment() {
    if played_role() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let place = run(Place::make(folder.path()));
    run(place.push_all());
    let whole: Vec<Vec<u8>> =
        (1..=SEGMENTS).map(|number| fs::read(place.source(number)).unwrap()).collect();
    place.kill_often("get", || {
        if let Ok(seen) = fs::read(place.destination()) {
            assert!(whole.contains(&seen), "{} bytes", seen.len());
        }
    });
    let left = fs::read_dir(place.folder.join("to")).unwrap().count();
    assert_eq!(left, 1, "what killed commands left was removed by the next ones");
}

#[test]
fn a_killed_filler_leaves_whole_segments_only() {
    if played_role() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let place = run(Place::make(folder.path()));
    run(place.push_all());
    let spool = Spool::beside(&place.destination()).unwrap();
    let segment = |number| WalSegment { timeline: TimelineId::FIRST, number }.name(mib());
    place.kill_often("fill", || {
        for number in 1..=SEGMENTS {
            if let Ok(seen) = fs::read(spool.folder().join(segment(number))) {
                assert_eq!(seen, fs::read(place.source(number)).unwrap());
            }
        }
    });
    let waiting = fs::read_dir(spool.folder()).unwrap();
    let waiting = waiting.filter(|it| it.as_ref().unwrap().file_name().len() == 24).count();
    assert_eq!(waiting as u64, SEGMENTS);
}
