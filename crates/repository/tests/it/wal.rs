//! WAL files, whole and in pieces, and what is known to be missing.

use std::sync::Arc;

use bytes::Bytes;
use pg::{Lsn, SegmentSize, SystemId, TimelineId, WalSegment};
use repository::gap::{self, Gap};
use repository::lineage::Lineage;
use repository::wal_object::{self, Provenance, WalFile, WalPut};
use repository::window::{Detail, window};
use repository::{Compression, Error, Kind, Repository, names, piece};
use stdx::{Diagnostic, Id};
use store::testing::{Fault, FaultPlan, Faulty, Operation};
use store::{MemoryStore, Store};

use crate::damage::replace;
use crate::support::{self, Backup, now};

const SIZE: SegmentSize = SegmentSize::DEFAULT;

fn segment(number: u64) -> WalSegment {
    WalSegment { timeline: TimelineId::FIRST, number }
}

fn file(number: u64) -> WalFile {
    WalFile::Segment(segment(number), SIZE)
}

async fn shop(repository: &Repository) -> (Lineage, Provenance) {
    let lineage = support::lineage(repository, SystemId::new(7)).await;
    (lineage.clone(), support::provenance(lineage.id, lineage.system_id))
}

async fn put(
    repository: &Repository,
    number: u64,
    content: &[u8],
    from: Provenance,
) -> Result<WalPut, Error> {
    let content = Bytes::copy_from_slice(content);
    wal_object::put(repository, &file(number), &content, from, Compression::default(), 2).await
}

#[tokio::test]
async fn the_same_bytes_again_are_success_and_others_are_kept_beside() {
    let (repository, store) = support::in_memory().await;
    let (lineage, from) = shop(&repository).await;
    let content = vec![7; 700_000];
    assert_eq!(put(&repository, 1, &content, from).await.unwrap(), WalPut::Stored);
    let key = names::wal(lineage.id, segment(1), SIZE);
    let before = store.get(&key).await.unwrap();
    // Another host, later, under another salt: the plain bytes count.
    let again = Provenance { writer: Id::from_bytes([2; 16]), ..from };
    assert_eq!(put(&repository, 1, &content, again).await.unwrap(), WalPut::AlreadyThere);
    assert_eq!(store.get(&key).await.unwrap(), before);
    let mut other = content.clone();
    other[699_999] = 8;
    for _ in 0..2 {
        let WalPut::Conflict { there, kept } = put(&repository, 1, &other, again).await.unwrap()
        else {
            panic!("expected a conflict")
        };
        assert_eq!(there.writer, from.writer);
        assert_eq!(there.digest, repository.keys().digest(&content));
        assert!(kept.as_str().starts_with(&names::conflicts(lineage.id)), "{kept}");
        let frames = repository.read(Kind::WalConflict, &kept).await.unwrap();
        assert_eq!(wal_object::assemble(repository.keys(), &frames).unwrap().1, other);
    }
    // Kept once, and nothing was replaced.
    assert_eq!(repository.list(&names::conflicts(lineage.id)).await.unwrap().len(), 1);
    assert_eq!(store.get(&key).await.unwrap(), before);
    let (info, read) = wal_object::get(&repository, lineage.id, &file(1)).await.unwrap();
    assert_eq!((info.len, info.system_id), (700_000, lineage.system_id));
    assert_eq!(read, content);
}

#[tokio::test]
async fn a_history_is_never_replaced() {
    let (repository, _) = support::in_memory().await;
    let (lineage, from) = shop(&repository).await;
    let history = WalFile::History(TimelineId::new(2));
    let put = async |text: &'static str| {
        let content = Bytes::from_static(text.as_bytes());
        wal_object::put(&repository, &history, &content, from, Compression::None, 1).await.unwrap()
    };
    assert_eq!(put("1\t0/3000000\tx\n").await, WalPut::Stored);
    assert!(matches!(put("1\t0/4000000\tx\n").await, WalPut::Conflict { .. }));
    let (_, content) = wal_object::get(&repository, lineage.id, &history).await.unwrap();
    assert_eq!(content, b"1\t0/3000000\tx\n");
}

#[tokio::test]
async fn a_lost_response_is_not_a_conflict() {
    for fault in [Fault::Before, Fault::After] {
        let inner: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let calm = support::create(&[Arc::clone(&inner)]).await;
        let (lineage, from) = shop(&calm).await;
        let plan = FaultPlan::new(1).at(Operation::Put, 0, fault);
        let faulty: Arc<dyn Store> = Arc::new(Faulty::new(inner, plan));
        let members = vec![support::member("m", &faulty)];
        let repository = Repository::new(members, Arc::clone(calm.keys()));
        match (fault, put(&repository, 1, b"content", from).await) {
            // It was stored, and reading it back told so.
            (Fault::After, Ok(WalPut::Stored)) => {}
            (Fault::Before, Err(error)) => {
                assert_eq!(error.info().code, "RF0204", "{error}");
                assert_eq!(put(&repository, 1, b"content", from).await.unwrap(), WalPut::Stored);
            }
            (fault, result) => panic!("{fault:?}: {result:?}"),
        }
        assert_eq!(put(&repository, 1, b"content", from).await.unwrap(), WalPut::AlreadyThere);
        assert!(repository.list(&names::conflicts(lineage.id)).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn racing_writers_agree_on_one_content() {
    let (repository, _) = support::in_memory().await;
    let (lineage, from) = shop(&repository).await;
    let (one, two) =
        futures::future::join(put(&repository, 1, b"one", from), put(&repository, 1, b"two", from))
            .await;
    let outcomes = [one.unwrap(), two.unwrap()];
    let stored = outcomes.iter().filter(|put| **put == WalPut::Stored).count();
    let conflicts = outcomes.iter().filter(|put| matches!(put, WalPut::Conflict { .. })).count();
    assert_eq!((stored, conflicts), (1, 1));
    assert_eq!(repository.list(&names::conflicts(lineage.id)).await.unwrap().len(), 1);
}

async fn put_piece(
    repository: &Repository,
    start: u32,
    bytes: &[u8],
    from: Provenance,
) -> Result<(), Error> {
    piece::put(repository, segment(1), SIZE, start, &Bytes::copy_from_slice(bytes), from).await
}

#[tokio::test]
async fn pieces_make_a_segment_when_the_whole_one_is_not_there() {
    let (repository, _) = support::in_memory().await;
    let (lineage, from) = shop(&repository).await;
    let content: Vec<u8> = (0..16_u32 << 20).map(|at| at.to_le_bytes()[1]).collect();
    let at = |range: std::ops::Range<usize>| content[range].to_vec();
    let other = Provenance { writer: Id::from_bytes([2; 16]), ..from };
    put_piece(&repository, 0, &at(0..300_000), from).await.unwrap();
    put_piece(&repository, 0, &at(0..300_000), from).await.unwrap();
    put_piece(&repository, 200_000, &at(200_000..500_000), other).await.unwrap();
    let held = piece::held(&repository, lineage.id, TimelineId::FIRST, SIZE).await.unwrap();
    assert_eq!(held.len(), 1);
    assert_eq!((held[0].len, held[0].complete, held[0].broken), (500_000, false, false));
    let (info, joined) = wal_object::get(&repository, lineage.id, &file(1)).await.unwrap();
    assert_eq!(joined.len(), content.len());
    assert_eq!(joined[..500_000], content[..500_000]);
    assert!(joined[500_000..].iter().all(|byte| *byte == 0));
    assert_eq!(info.system_id, lineage.system_id);

    // A piece behind a hole: what is before the hole must not pass for the end of the log.
    put_piece(&repository, 600_000, &at(600_000..content.len()), from).await.unwrap();
    let error = wal_object::get(&repository, lineage.id, &file(1)).await.unwrap_err();
    assert!(matches!(error, Error::Store(store::Error::NotFound { .. })), "{error}");
    put_piece(&repository, 500_000, &at(500_000..600_000), other).await.unwrap();
    let (_, joined) = wal_object::get(&repository, lineage.id, &file(1)).await.unwrap();
    assert!(joined == content);
    let held = piece::held(&repository, lineage.id, TimelineId::FIRST, SIZE).await.unwrap();
    assert!(held[0].complete);

    // The complete segment comes first once it is there.
    put(&repository, 1, b"the whole one", from).await.unwrap();
    let (_, whole) = wal_object::get(&repository, lineage.id, &file(1)).await.unwrap();
    assert_eq!(whole, b"the whole one");
}

#[tokio::test]
async fn pieces_that_disagree_are_a_conflict() {
    let (repository, _) = support::in_memory().await;
    let (lineage, from) = shop(&repository).await;
    put_piece(&repository, 0, b"abcdef", from).await.unwrap();
    let error = put_piece(&repository, 0, b"abcdeX", from).await.unwrap_err();
    assert_eq!(error.info().code, "RF0309", "{error}");
    let other = Provenance { writer: Id::from_bytes([2; 16]), ..from };
    put_piece(&repository, 4, b"eXgh", other).await.unwrap();
    let error = piece::assemble(&repository, lineage.id, segment(1), SIZE).await.unwrap_err();
    assert!(error.to_string().ends_with("seen others at offset 5"), "{error}");
    for (start, len) in [(0, 0), (16 << 20, 1), (u32::MAX, 2)] {
        let error = put_piece(&repository, start, &vec![0; len], from).await.unwrap_err();
        assert!(matches!(error, Error::Limit { .. }), "{error}");
    }
}

#[tokio::test]
async fn holes_are_taken_out_of_the_window_by_names_alone() {
    let (repository, store) = support::in_memory().await;
    let (lineage, from) = shop(&repository).await;
    for number in [2, 3, 4, 6, 7, 10] {
        put(&repository, number, b"not even WAL", from).await.unwrap();
    }
    for (label, redo, stop) in [
        ("first", "0/2000028", "0/3000000"),
        ("second", "0/3000028", "0/4000100"),
        ("third", "0/6000028", "0/7000100"),
        ("lost", "0/8000028", "0/9000100"),
    ] {
        support::publish(&repository, &lineage, &Backup::new(label, 1, redo, stop)).await;
    }
    let stranger = Backup::new("stranger", 2, "0/3000028", "0/4000100");
    support::publish(&repository, &lineage, &stranger).await;
    let gap = |begin: u64, end: u64| Gap {
        timeline: TimelineId::FIRST,
        begin: Lsn::new(begin << 24),
        end: Lsn::new(end << 24),
        reason: "the slot was lost".into(),
        writer: from.writer,
        noticed: now(),
    };
    // The first was filled since, the second was not; noted twice, it is one.
    for (begin, end) in [(3, 4), (8, 10), (8, 10)] {
        gap::put(&repository, lineage.id, &gap(begin, end)).await.unwrap();
    }
    let error = gap::put(&repository, lineage.id, &gap(4, 4)).await.unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error}");

    let seen = window(&repository, &lineage, None, Detail::Positions).await.unwrap();
    let spans: Vec<String> = seen
        .spans
        .iter()
        .map(|span| {
            let labels: Vec<&str> =
                span.backups.iter().map(|backup| backup.label.as_str()).collect();
            format!("{} {}-{}", labels.join("+"), span.from, span.until)
        })
        .collect();
    assert_eq!(spans, ["first+second 0/3000000-0/5000000", "third 0/7000100-0/8000000"]);
    let holes: Vec<(u64, u64)> =
        seen.holes.iter().map(|hole| (hole.first.number, hole.last.number)).collect();
    assert_eq!(holes, [(5, 5), (8, 9)]);
    assert_eq!(seen.gaps, [gap(8, 10)]);
    assert_eq!(seen.unusable.len(), 1);
    assert_eq!(
        seen.elsewhere.iter().map(|(_, reason)| reason.as_str()).collect::<Vec<_>>(),
        ["is on timeline 2, which is no ancestor of timeline 1"]
    );
    assert_eq!(seen.begin(), Some(Lsn::new(0x300_0000)));
    assert_eq!(seen.end(), Some(Lsn::new(0x800_0000)));

    // A segment that comes late fills the hole.
    put(&repository, 5, b"late", from).await.unwrap();
    let seen = window(&repository, &lineage, None, Detail::Positions).await.unwrap();
    assert_eq!(seen.spans.len(), 1);
    // Damaged bytes are found by whoever reads them.
    let key = names::wal(lineage.id, segment(5), SIZE);
    replace(&store, &key, b"rubbish".to_vec()).await;
    let error = window(&repository, &lineage, None, Detail::Times).await.unwrap_err();
    assert!(matches!(error, Error::WalDamaged { .. }), "{error}");
}
