//! Small objects, read the way their users do: from a repository in memory into which the bytes
//! were put, sealed, under the name that is asked for.

use std::sync::Arc;

use pg::{SegmentSize, TimelineId, WalSegment};
use repository::names::{LineageId, PackId};
use repository::seal::Secret;
use repository::unlock::{self, Unlock};
use repository::{
    Kind, Member, Repository, condemned, gap, lease, lineage as lineages, names, piece,
};
use stdx::Id;
use store::{Key, MemoryStore, Store};

use super::{frames, objects};

const LINEAGE: LineageId = LineageId(Id::from_bytes([1; 16]));
const ID: Id = Id::from_bytes([2; 16]);

/// A repository with objects of these frames under these names.
async fn repository(objects: &[(Kind, Key)], frames: &[Vec<u8>]) -> (Repository, Arc<dyn Store>) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let member = Member { name: "m".into(), store: Arc::clone(&store) };
    let repository = Repository::new(vec![member], Arc::new(objects::keys()));
    let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    for (kind, key) in objects {
        repository.create(*kind, key, &frames).await.unwrap();
    }
    (repository, store)
}

fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn key(text: String) -> Key {
    Key::new(text).unwrap()
}

/// Descriptor, slots and data keys.
pub fn keys(bytes: &[u8]) {
    wait(async {
        let frames = frames(bytes);
        let (_, store) = repository(&[(Kind::Descriptor, names::descriptor())], &frames).await;
        let _ = unlock::describe(&store).await;
        let clear = [(Kind::KeySlot, names::slot(ID)), (Kind::KeyEpoch, names::epoch(1))];
        let (clear, store) = repository(&clear, &frames).await;
        let _ = unlock::slots(&store).await;
        // A descriptor that says "encrypted", so that the slot and the data key are opened.
        let encrypted = b"\xa4\x00\x50\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\
            \x02\x01\x01\x02\xf4\x03\x00";
        clear.create(Kind::Descriptor, &names::descriptor(), &[encrypted]).await.unwrap();
        unlock::describe(&store).await.unwrap();
        let secret = Secret::from_bytes([3; 32]);
        for unlock in [
            Unlock::KeyFile { origin: "x".into(), secret: secret.clone() },
            Unlock::RecoveryCode(secret),
        ] {
            let member = Member { name: "m".into(), store: Arc::clone(&store) };
            let _ = unlock::open(vec![member], Some(&unlock)).await;
        }
    });
}

/// Everything that is kept of a lineage beside backups and WAL.
pub fn lineage(bytes: &[u8]) {
    wait(async {
        let timeline = TimelineId::new(2);
        let objects = [
            (Kind::Lineage, names::lineage(LINEAGE)),
            (Kind::Writer, names::writer(LINEAGE, ID)),
            (Kind::LineageState, names::state(LINEAGE, 1)),
            (Kind::TimelineReservation, names::reservation(LINEAGE, timeline)),
            (Kind::ClusterName, names::cluster("shop", 1)),
        ];
        let (repository, _) = repository(&objects, &frames(bytes)).await;
        let _ = lineages::read(&repository, LINEAGE).await;
        let _ = lineages::read_writer(&repository, LINEAGE, ID).await;
        let _ = lineages::state(&repository, LINEAGE).await;
        let _ = lineages::reservation(&repository, LINEAGE, timeline).await;
        let _ = lineages::of_cluster(&repository, "shop").await;
    });
}

/// Two pieces of one segment of 1 MiB: the input is both, and the places they claim: two times two
/// bytes, start and length.
pub fn piece(bytes: &[u8]) {
    let Some((places, rest)) = bytes.split_first_chunk::<8>() else { return };
    let size = SegmentSize::new(1 << 20).unwrap();
    let segment = WalSegment { timeline: TimelineId::FIRST, number: 3 };
    let folder = format!("{}{}", names::pieces(LINEAGE, TimelineId::FIRST), segment.name(size));
    let objects: Vec<(Kind, Key)> = places
        .chunks_exact(4)
        .zip([ID, LINEAGE.0])
        .map(|(place, writer)| {
            let [start, len] = [[place[0], place[1]], [place[2], place[3]]].map(u16::from_le_bytes);
            let (start, end) = (u32::from(start), u32::from(start) + u32::from(len));
            (Kind::WalPiece, key(format!("{folder}/{start:08x}-{end:08x}-{writer}")))
        })
        .collect();
    wait(async {
        let (repository, _) = repository(&objects, &frames(rest)).await;
        let _ = piece::held(&repository, LINEAGE, TimelineId::FIRST, size).await;
        let _ = piece::assemble(&repository, LINEAGE, segment, size).await;
    });
}

pub fn gap(bytes: &[u8]) {
    wait(async {
        let name = format!("{}{:016x}-{:016x}", names::gaps(LINEAGE, TimelineId::FIRST), 1, 2);
        let (repository, _) = repository(&[(Kind::WalGap, key(name))], &frames(bytes)).await;
        let _ = gap::list(&repository, LINEAGE, TimelineId::FIRST).await;
    });
}

pub fn lease(bytes: &[u8]) {
    wait(async {
        let (repository, _) =
            repository(&[(Kind::Lease, names::lease(ID, 1))], &frames(bytes)).await;
        for found in lease::list(&repository).await.unwrap_or_default() {
            let _ = found.expires();
        }
    });
}

pub fn condemned(bytes: &[u8]) {
    wait(async {
        let pack = PackId(ID);
        let (repository, _) =
            repository(&[(Kind::Condemned, names::condemned(pack))], &frames(bytes)).await;
        let _ = condemned::list(&repository).await;
        let _ = condemned::read(&repository, pack).await;
    });
}
