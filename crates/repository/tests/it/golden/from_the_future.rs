//! The hand-made repository really has what it is for, and what is left of it makes sense.

use std::collections::{BTreeMap, BTreeSet};

use pg::{SegmentSize, TimelineId, WalSegment};
use repository::header::Header;
use repository::lineage::Lineage;
use repository::root::{self, Root};
use repository::tree::{Content, Entry, Leaf, Page};
use repository::walk::{self, Walk};
use repository::window::{Detail, window};
use repository::{
    Kind, Label, PackId, Repository, catalog, condemned, gap, lease, lineage, moved, names, unlock,
};
use stdx::Id;

use super::fixture::{self, Fixture};

/// The relation that changes between all three backups.
const BUSY: &[u8] = b"base/5/16384";

async fn opened() -> (Fixture, Repository, Lineage) {
    let fixture = Fixture::load("from-the-future");
    let repository = fixture.open().await;
    let lineage = lineage::of_cluster(&repository, "shop").await.unwrap();
    (fixture, repository, lineage)
}

async fn roots(repository: &Repository, lineage: &Lineage) -> Vec<Root> {
    let catalog = catalog::backups(repository, lineage.id).await.unwrap();
    let mut roots = Vec::new();
    for summary in &catalog.backups {
        roots.push(root::read(repository, lineage.id, &summary.label).await.unwrap());
    }
    roots
}

async fn entry(repository: &Repository, root: &Root, path: &[u8]) -> Entry {
    let mut entries = Walk::new(repository, root.summary.tree);
    loop {
        let entry = entries.next().await.unwrap().expect("the entry is there");
        if entry.path == path {
            return entry;
        }
    }
}

#[tokio::test]
async fn it_has_every_kind_two_epochs_and_unknown_features_everywhere() {
    let (fixture, _, _) = opened().await;
    let headers: Vec<Header> =
        fixture.objects.values().map(|bytes| Header::decode(bytes).unwrap()).collect();
    let kinds: BTreeSet<Kind> = headers.iter().map(|header| header.kind).collect();
    assert_eq!(kinds, BTreeSet::from(Kind::ALL));
    let epochs: BTreeSet<u32> = headers.iter().map(|header| header.epoch).collect();
    assert_eq!(epochs, BTreeSet::from([0, 1, 2]));
    assert!(headers.iter().all(|header| header.optional != 0));
}

#[tokio::test]
async fn a_leaf_lists_pages_of_three_backups_and_a_frame_lists_pages_that_are_no_run() {
    let (_, repository, lineage) = opened().await;
    let roots = roots(&repository, &lineage).await;
    assert_eq!(roots.len(), 3);
    assert_eq!(roots[2].summary.parent.as_ref(), Some(&roots[1].summary.label));
    let busy = entry(&repository, &roots[2], BUSY).await;
    let Content::Leaf(Leaf { frames, extents, .. }) = &busy.content else { panic!("{busy:?}") };
    let packs: BTreeSet<PackId> = frames.iter().map(|(pack, _)| *pack).collect();
    assert_eq!(packs.len(), 3);
    let mut runs: BTreeMap<u32, usize> = BTreeMap::new();
    for extent in extents {
        *runs.entry(extent.frame).or_default() += 1;
    }
    assert!(runs.values().any(|runs| *runs > 2), "{extents:?}");
}

#[tokio::test]
async fn unchanged_nodes_are_the_parents_own() {
    let (_, repository, lineage) = opened().await;
    let roots = roots(&repository, &lineage).await;
    let mut children: Vec<BTreeSet<(PackId, u64)>> = Vec::new();
    for root in &roots {
        let page: Page = walk::read_node(&repository, &root.summary.tree).await.unwrap();
        let Page::Children(pages) = page else { panic!("a top page with entries") };
        children.push(pages.iter().map(|(_, node)| (node.pack, node.at.shape.number)).collect());
    }
    assert!(children[0].intersection(&children[1]).count() >= 2);
    assert!(children[0].intersection(&children[2]).count() >= 2);
    let large = |root| entry(&repository, root, b"base/5/16385");
    let (second, third) = (large(&roots[1]).await, large(&roots[2]).await);
    assert!(matches!(second.content, Content::Node(_)));
    assert_eq!(second.content, third.content);
}

#[tokio::test]
async fn the_first_backups_packs_were_moved_one_of_them_twice() {
    let (fixture, repository, lineage) = opened().await;
    let first = &roots(&repository, &lineage).await[0];
    let mut twice = 0;
    for pack in &first.packs {
        assert!(!fixture.objects.contains_key(&names::pack(pack.id)));
        let moved = moved::read(&repository, pack.id).await.unwrap();
        let now: BTreeSet<PackId> = moved.frames.values().map(|(pack, _)| *pack).collect();
        twice +=
            now.iter().filter(|pack| !fixture.objects.contains_key(&names::pack(**pack))).count();
    }
    assert_eq!((first.packs.len(), twice), (2, 1));
}

#[tokio::test]
async fn pieces_and_late_segments_leave_no_hole_and_the_gap_counts_no_more() {
    let (fixture, repository, lineage) = opened().await;
    let size = SegmentSize::new(1 << 20).unwrap();
    for number in [8, 9] {
        let segment = WalSegment { timeline: TimelineId::FIRST, number };
        assert!(!fixture.objects.contains_key(&names::wal(lineage.id, segment, size)));
    }
    let noted = gap::list(&repository, lineage.id, TimelineId::FIRST).await.unwrap();
    assert_eq!(noted.len(), 1);
    let window = window(&repository, &lineage, None, Detail::Times).await.unwrap();
    assert!(window.holes.is_empty() && window.gaps.is_empty() && window.unusable.is_empty());
    assert!(window.problems.is_empty() && window.elsewhere.is_empty());
    let [span] = window.spans.as_slice() else { panic!("{:?}", window.spans) };
    assert_eq!(span.backups.len(), 3);
    // Segment 9 is there as 240 bytes: a header and five commits.
    assert_eq!(span.until.to_string(), "0/9000F0");
    let last = span.last_commit.unwrap();
    assert_eq!((last.xid.get(), last.time.to_string()), (884, "2026-11-21T02:03:04Z".into()));
}

#[tokio::test]
async fn clones_are_lineages_of_their_own() {
    let (_, repository, shop) = opened().await;
    let copy = lineage::of_cluster(&repository, "shop-copy").await.unwrap();
    assert_eq!(copy.system_id, shop.system_id);
    assert_ne!(copy.id, shop.id);
    let ours = roots(&repository, &shop).await;
    let theirs = roots(&repository, &copy).await;
    let packs = |roots: &[Root]| -> BTreeSet<PackId> {
        roots.iter().flat_map(|root| root.packs.iter().map(|pack| pack.id)).collect()
    };
    assert!(packs(&ours).is_disjoint(&packs(&theirs)));
    let taken = lineage::timelines_taken(&repository, shop.id).await.unwrap();
    assert_eq!(taken, [TimelineId::new(2)]);
}

#[tokio::test]
async fn leases_and_condemned_packs_are_understood_and_unknown_slots_passed_over() {
    let (fixture, repository, _) = opened().await;
    let leases = lease::list(&repository).await.unwrap();
    let [found] = leases.as_slice() else { panic!("{leases:?}") };
    assert_eq!((found.lease.beat, found.lease.epoch, &found.lease.parent), (2, 2, &None));
    let condemned_packs = condemned::list(&repository).await.unwrap();
    let pack = *condemned_packs.first().unwrap();
    assert_eq!(condemned::read(&repository, pack).await.unwrap().reason, "expired");
    assert!(fixture.objects.contains_key(&names::pack(pack)));
    let slots = fixture.objects.values().filter(|bytes| fixture::kind(bytes) == Kind::KeySlot);
    assert_eq!(slots.count(), 3);
    let store = fixture.store().await;
    assert_eq!(unlock::slots(&store).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_backup_that_a_later_version_makes_is_found_by_its_label() {
    let (_, repository, lineage) = opened().await;
    let label: Label = "20261121T020000Z-fut2".parse().unwrap();
    let root = root::read(&repository, lineage.id, &label).await.unwrap();
    assert_eq!(root.details.tablespaces[0].1, "/srv/fast disk/ts");
    let absent = PackId(Id::from_bytes([0; 16]));
    assert!(moved::read(&repository, absent).await.is_err());
}
