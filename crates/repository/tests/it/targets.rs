//! Targets on real WAL, compared with where PostgreSQL itself stops.

use jiff::ToSpan;
use pg::{FullXid, MajorVersion};
use repository::lineage::Lineage;
use repository::target::{Request, Resolved, Stop, Target, resolve};
use repository::{Error, Repository};
use stdx::Diagnostic;
use testbed::postgres::Install;

use crate::site::{BaseBackup, Done, Site, on_off, settings};
use crate::support;

/// A cluster with one backup and, behind it, transactions of every kind.
struct Story {
    site: Site,
    repository: Repository,
    lineage: Lineage,
    backup: BaseBackup,
    one: Done,
    two: Done,
    four: Done,
    five: Done,
    six: Done,
    prepared: Done,
    last: Done,
    /// Between the commits of 2 and 4.
    position: pg::Lsn,
}

async fn story(major: u32) -> Story {
    let story = not_pushed(major).await;
    story.site.push(&story.repository, &story.lineage).await;
    story
}

/// Rows in the order in which they are committed, with the restore point behind 4.
async fn not_pushed(major: u32) -> Story {
    let mut site = Site::new(&Install::by_major(major));
    let repository = support::in_memory().await.0;
    let lineage = support::lineage(&repository, site.system_id()).await;
    site.insert_and(100, "PREPARE TRANSACTION 'before'");
    site.cluster.psql("CHECKPOINT");
    let backup = site.backup();
    let one = site.insert(1);
    let two = site.insert(2);
    let position = site.insert_position();
    let prepared = site.insert_and(3, "PREPARE TRANSACTION 'p1'");
    let four = site.insert(4);
    let five = site.insert_and(5, "ROLLBACK");
    site.cluster.psql("SELECT pg_create_restore_point('here')");
    let six = site.insert(6);
    site.cluster.psql("COMMIT PREPARED 'p1'");
    site.insert_and(7, "PREPARE TRANSACTION 'p2'");
    let last = site.insert(8);
    site.archive_all();
    site.publish(&repository, &lineage, &backup, "base").await;
    Story { site, repository, lineage, backup, one, two, four, five, six, prepared, last, position }
}

impl Story {
    async fn resolve(&self, request: &Request) -> Result<Resolved, Error> {
        resolve(&self.repository, &self.lineage, request).await
    }

    /// Recovers with PostgreSQL's own setting and with what the target was resolved to: the same
    /// rows and prepared transactions must be there.
    async fn check(&mut self, request: &Request, native: &[(&str, String)], expect: (&str, &str)) {
        self.check_native(native, expect);
        self.check_ours(request, expect).await;
    }

    fn check_native(&mut self, native: &[(&str, String)], expect: (&str, &str)) {
        let recovered = self.site.recover(&self.backup, native).unwrap();
        assert_eq!((recovered.rows().as_str(), recovered.prepared().as_str()), expect);
    }

    async fn check_ours(&mut self, request: &Request, expect: (&str, &str)) {
        let resolved = self.resolve(request).await.unwrap();
        let recovered = self.site.recover(&self.backup, &settings(&resolved)).unwrap();
        let seen = (recovered.rows(), recovered.prepared());
        assert_eq!((seen.0.as_str(), seen.1.as_str()), expect, "{resolved:?}");
        assert_eq!(pending(&resolved), expect.1);
    }
}

/// Names of the prepared transactions; the one that only the backup knows is told by its id.
fn pending(resolved: &Resolved) -> String {
    let prepared = resolved.prepared.as_ref().unwrap();
    let mut names: Vec<String> = prepared
        .iter()
        .map(|transaction| transaction.gid.clone().unwrap_or_else(|| "before".into()))
        .collect();
    names.sort();
    names.join(" ")
}

fn exclusive(target: Target) -> Request {
    Request { inclusive: false, ..Request::new(target) }
}

async fn postgresql_stops_where_we_say(major: u32) {
    let mut story = story(major).await;
    let (four, six) = (story.site.time_of(story.four), story.site.time_of(story.six));
    let time = |time: jiff::Timestamp| ("recovery_target_time", postgresql_time(time));
    let xid = |done: Done| ("recovery_target_xid", done.xid.xid().to_string());
    let exclusively = ("recovery_target_inclusive", on_off(false));

    let cases = [
        // The commit at the very time is kept, the rollback behind it is not needed.
        (Request::new(Target::Time(four)), vec![time(four)], ("1 2 4", "before p1")),
        (
            exclusive(Target::Time(four)),
            vec![time(four), exclusively.clone()],
            ("1 2", "before p1"),
        ),
        (Request::new(Target::Time(six)), vec![time(six)], ("1 2 4 6", "before p1")),
        (
            Request::new(Target::Xid(story.prepared.xid)),
            vec![xid(story.prepared)],
            ("1 2 3 4 6", "before"),
        ),
        (
            exclusive(Target::Xid(story.six.xid)),
            vec![xid(story.six), exclusively],
            ("1 2 4", "before p1"),
        ),
        (Request::new(Target::Xid(story.five.xid)), vec![xid(story.five)], ("1 2 4", "before p1")),
        (
            Request::new(Target::Name("here".into())),
            vec![("recovery_target_name", "here".to_owned())],
            ("1 2 4", "before p1"),
        ),
    ];
    let ends = [MajorVersion::V14.get(), MajorVersion::V18.get()];
    for (number, (request, native, expect)) in cases.iter().enumerate() {
        story.check_native(native, *expect);
        // That a position carries to PostgreSQL what was resolved is the same in all majors: every
        // case on the oldest and the newest, some on those between.
        if ends.contains(&major) || number % 3 == 1 {
            story.check_ours(request, *expect).await;
        } else {
            assert_eq!(pending(&story.resolve(request).await.unwrap()), expect.1);
        }
    }
}

/// PostgreSQL refuses `Z` in this setting: it knows no abbreviations of time zones that early.
fn postgresql_time(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S%.6f+00").to_string()
}

/// One test for each major, so that they run side by side.
macro_rules! on_every_major {
    ($($name:ident = $major:literal)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            postgresql_stops_where_we_say($major).await;
        }
    )*};
}

on_every_major! {
    postgresql_14_stops_where_we_say = 14
    postgresql_15_stops_where_we_say = 15
    postgresql_16_stops_where_we_say = 16
    postgresql_17_stops_where_we_say = 17
    postgresql_18_stops_where_we_say = 18
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_the_latest_and_the_first_consistent_point_are_reached() {
    let mut story = story(16).await;
    let everything = ("1 2 3 4 6 8", "before p2");
    let request = Request::new(Target::Latest);
    story.check(&request, &[], everything).await;
    let latest = story.resolve(&request).await.unwrap();
    assert_eq!(latest.stop, Stop::EndOfWal);
    assert_eq!(latest.last_commit.unwrap().xid, story.last.xid.xid());
    assert_eq!(latest.newest_commit.unwrap().time, story.site.time_of(story.last));

    let native = [("recovery_target", "immediate".to_owned())];
    story.check(&Request::new(Target::Immediate), &native, ("", "before")).await;

    let native = [("recovery_target_lsn", story.position.to_string())];
    let request = Request::new(Target::Lsn(story.position));
    // The record at the position is the insertion of row 3.
    story.check(&request, &native, ("1 2", "before")).await;

    // The incident: the commit of 4. Its record's start is what the finder hands over.
    let bad = story.resolve(&Request::new(Target::Xid(story.four.xid))).await.unwrap();
    let bad = bad.last_commit.unwrap();
    assert_eq!(bad.xid, story.four.xid.xid());
    let before = Request::new(Target::BeforeRecord(bad.lsn));
    story.check_ours(&before, ("1 2", "before p1")).await;
    let resolved = story.resolve(&before).await.unwrap();
    assert_eq!(resolved.stop, Stop::AtRecord { lsn: bad.lsn, inclusive: false });
    assert!(resolved.end > bad.lsn);
    // To look while paused: behind the last earlier commit.
    let earlier = resolved.last_commit.unwrap();
    assert!(earlier.lsn < bad.lsn);
    story.check_ours(&Request::new(Target::Lsn(earlier.lsn)), ("1 2", "before")).await;

    // Without a survey the commit is found as well, from behind.
    let quick = Request { survey: false, ..before };
    let quick = story.resolve(&quick).await.unwrap();
    assert_eq!((quick.last_commit, quick.prepared), (Some(earlier), None));
    let quick = Request { survey: false, ..Request::new(Target::Latest) };
    let quick = story.resolve(&quick).await.unwrap();
    assert_eq!((quick.end, quick.last_commit), (latest.end, latest.last_commit));
}

fn unreachable(error: &Error) -> (String, Vec<String>) {
    match error {
        Error::Unreachable { reason, nearest, .. } => (reason.clone(), nearest.clone()),
        other => panic!("expected an unreachable target, seen {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_refused_with_what_can() {
    let mut story = story(18).await;
    let last = story.site.time_of(story.last);

    // PostgreSQL would fail only at the very end.
    let failure = story
        .site
        .recover(&story.backup, &[("recovery_target_time", postgresql_time(last))])
        .unwrap_err();
    let expected = "recovery ended before configured recovery target was reached";
    assert!(failure.log.contains(expected), "{}", failure.log);
    let error = story.resolve(&Request::new(Target::Time(last))).await.unwrap_err();
    assert_eq!(error.info().code, "RF0312");
    let (reason, nearest) = unreachable(&error);
    assert!(
        reason.starts_with("no transaction ended after it in the WAL archived up to"),
        "{reason}"
    );
    assert!(reason.ends_with(&format!("the last commit is of {last}")), "{reason}");
    let latest = story.resolve(&Request::new(Target::Latest)).await.unwrap();
    let lsn = latest.last_commit.unwrap().lsn;
    assert_eq!(
        nearest,
        ["--latest".to_owned(), format!("--target-lsn {lsn} (the commit of {last})")]
    );

    // Before the backup: PostgreSQL says so after everything was copied.
    let backup = story.resolve(&Request::new(Target::Immediate)).await.unwrap().backup;
    let early = Request::new(Target::Time(backup.started - 1.hour()));
    let (reason, nearest) = unreachable(&story.resolve(&early).await.unwrap_err());
    assert!(
        reason.starts_with("it lies before the oldest usable backup 'base' is consistent"),
        "{reason}"
    );
    let stop = backup.stop;
    let consistent =
        format!("--immediate --backup base (consistent at {stop}, {})", backup.stopped);
    assert_eq!(nearest, std::slice::from_ref(&consistent));
    let early = Request::new(Target::BeforeRecord(backup.redo));
    let (_, nearest) = unreachable(&story.resolve(&early).await.unwrap_err());
    assert_eq!(nearest, [consistent]);

    let late = Request::new(Target::Lsn("7/0".parse().unwrap()));
    let (reason, nearest) = unreachable(&story.resolve(&late).await.unwrap_err());
    assert!(reason.starts_with("the archived WAL ends before it"), "{reason}");
    assert_eq!(nearest, ["--latest"]);

    let amid = Request::new(Target::BeforeRecord(pg::Lsn::new(lsn.get() + 1)));
    let (reason, nearest) = unreachable(&story.resolve(&amid).await.unwrap_err());
    assert!(
        reason.starts_with(&format!("no record starts at {}", pg::Lsn::new(lsn.get() + 1))),
        "{reason}"
    );
    assert_eq!(nearest.len(), 1);

    let unknown = Request::new(Target::Xid(FullXid::new(story.last.xid.get() + 1000)));
    let (reason, _) = unreachable(&story.resolve(&unknown).await.unwrap_err());
    assert!(reason.starts_with("no such record in the archived WAL"), "{reason}");
    let other_epoch = Request::new(Target::Xid(FullXid::new(story.last.xid.get() | 1 << 32)));
    unreachable(&story.resolve(&other_epoch).await.unwrap_err());
    let unknown = Request::new(Target::Name("nowhere".into()));
    unreachable(&story.resolve(&unknown).await.unwrap_err());

    let named =
        Request { backup: Some("nothing".parse().unwrap()), ..Request::new(Target::Latest) };
    let error = story.resolve(&named).await.unwrap_err();
    assert_eq!(error.to_string(), "no backup of cluster 'shop' labelled 'nothing'");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_backup_before_the_target_is_chosen_and_a_hole_is_never_crossed() {
    let mut story = story(17).await;
    let second = story.site.backup();
    let nine = story.site.insert(9);
    story.site.archive_all();
    let ten = story.site.insert(10);
    story.site.archive_all();
    story.site.insert(11);
    story.site.archive_all();
    story.site.push(&story.repository, &story.lineage).await;
    story.site.publish(&story.repository, &story.lineage, &second, "second").await;
    let chosen = |resolved: &Resolved| {
        let others: Vec<String> =
            resolved.candidates.iter().map(|backup| backup.label.to_string()).collect();
        (resolved.backup.label.to_string(), others)
    };
    let both = ("second".to_owned(), vec!["base".to_owned()]);
    let only_base = ("base".to_owned(), Vec::new());
    for target in [Target::Xid(nine.xid), Target::Time(story.site.time_of(nine)), Target::Latest] {
        let resolved = story.resolve(&Request::new(target)).await.unwrap();
        assert_eq!(chosen(&resolved), both);
    }
    for target in [
        Target::Xid(story.one.xid),
        Target::Time(story.site.time_of(story.one)),
        Target::Lsn(story.position),
        Target::Name("here".into()),
    ] {
        let resolved = story.resolve(&Request::new(target)).await.unwrap();
        assert_eq!(chosen(&resolved), only_base);
    }
    let named =
        Request { backup: Some("base".parse().unwrap()), ..Request::new(Target::Xid(nine.xid)) };
    assert_eq!(story.resolve(&named).await.unwrap().backup.label.to_string(), "base");

    // The segment in which 10 was committed is lost.
    let resolved = story.resolve(&Request::new(Target::Xid(ten.xid))).await.unwrap();
    let lost = resolved.last_segment;
    let key = repository::names::wal(story.lineage.id, lost, Site::size());
    story.repository.delete(&key).await.unwrap();
    let name = lost.name(Site::size());
    let last =
        story.resolve(&Request::new(Target::Xid(nine.xid))).await.unwrap().last_commit.unwrap();
    for target in [
        Target::Latest,
        Target::Xid(ten.xid),
        Target::Time(story.site.time_of(ten)),
        Target::Lsn(lost.begin(Site::size())),
    ] {
        let (reason, nearest) =
            unreachable(&story.resolve(&Request::new(target)).await.unwrap_err());
        assert!(reason.contains(&format!("WAL segment '{name}' is missing")), "{reason}");
        assert_eq!(nearest, [format!("--target-lsn {} (the commit of {})", last.lsn, last.time)]);
    }
    // Before the hole everything is as it was.
    assert_eq!(chosen(&story.resolve(&Request::new(Target::Xid(nine.xid))).await.unwrap()), both);
    let window = repository::window::window(
        &story.repository,
        &story.lineage,
        None,
        repository::window::Detail::Times,
    )
    .await
    .unwrap();
    assert_eq!(window.spans.len(), 1);
    let span = &window.spans[0];
    let labels: Vec<String> = span.backups.iter().map(|backup| backup.label.to_string()).collect();
    assert_eq!(labels, ["base", "second"]);
    assert_eq!(span.from, span.backups[0].stop);
    assert!(last.lsn < span.until && span.until <= lost.begin(Site::size()));
    assert_eq!(span.last_commit, Some(last));
    assert_eq!(span.first_commit.unwrap().xid, story.one.xid.xid());
    assert_eq!(window.holes.len(), 1);
    assert_eq!(window.holes[0].first, lost);

    // A backup whose own WAL is lost serves nothing; the one before it takes its place.
    let own = pg::WalSegment::ending_at(second.stop(), pg::TimelineId::FIRST, Site::size());
    let key = repository::names::wal(story.lineage.id, own, Site::size());
    story.repository.delete(&key).await.unwrap();
    let immediate = Request::new(Target::Immediate);
    assert_eq!(chosen(&story.resolve(&immediate).await.unwrap()), only_base);
    let named = Request { backup: Some("second".parse().unwrap()), ..immediate };
    let (reason, _) = unreachable(&story.resolve(&named).await.unwrap_err());
    assert!(reason.starts_with("the WAL that backup 'second' itself needs"), "{reason}");
    let (_, nearest) =
        unreachable(&story.resolve(&Request::new(Target::Xid(nine.xid))).await.unwrap_err());
    assert_eq!(nearest.len(), 1, "{nearest:?}");
    assert!(nearest[0].starts_with("--target-lsn"), "{nearest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_later_commit_in_wal_order_counts_whatever_the_times_behind_it() {
    let mut story = not_pushed(16).await;
    let (four, six) = (story.site.time_of(story.four), story.site.time_of(story.six));
    // As if the clock had been an hour ahead when 2 was committed.
    story.site.set_commit_time(story.two, six + 1.hour());
    story.site.push(&story.repository, &story.lineage).await;
    let native = [("recovery_target_time", postgresql_time(four))];
    story.check(&Request::new(Target::Time(four)), &native, ("1", "before")).await;
    let resolved = story.resolve(&Request::new(Target::Latest)).await.unwrap();
    assert_eq!(resolved.newest_commit.unwrap().xid, story.two.xid.xid());
    assert_eq!(resolved.last_commit.unwrap().xid, story.last.xid.xid());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_segment_may_be_there_in_pieces() {
    let mut story = story(15).await;
    let nine = story.site.insert(9);
    let (segment, content) = story.site.current_segment();
    let provenance = support::provenance(story.lineage.id, story.lineage.system_id);
    let size = Site::size();
    let put = async |start: usize, end: usize| {
        let bytes = bytes::Bytes::copy_from_slice(&content[start..end]);
        let start = u32::try_from(start).unwrap();
        let (repository, from) = (&story.repository, provenance);
        repository::piece::put(repository, segment, size, start, &bytes, from).await.unwrap();
    };
    let half = content.len() / 2;
    // The second half alone tells that the log went on, and not how.
    put(half, content.len()).await;
    let (reason, nearest) =
        unreachable(&story.resolve(&Request::new(Target::Latest)).await.unwrap_err());
    let missing = format!("WAL segment '{}' is missing", segment.name(size));
    assert!(reason.starts_with(&missing), "{reason}");
    assert_eq!(nearest.len(), 1);
    put(0, half + 8).await;
    let latest = story.resolve(&Request::new(Target::Latest)).await.unwrap();
    assert_eq!(latest.last_commit.unwrap().xid, nine.xid.xid());
    assert_eq!(latest.last_segment, segment);
    assert!(latest.end > segment.begin(size));

    let file = repository::wal_object::WalFile::Segment(segment, size);
    let (_, joined) =
        repository::wal_object::get(&story.repository, story.lineage.id, &file).await.unwrap();
    story.site.add_to_archive(&segment.name(size), &joined);
    let expect = ("1 2 3 4 6 8 9", "before p2");
    story.check_ours(&Request::new(Target::Latest), expect).await;
}
