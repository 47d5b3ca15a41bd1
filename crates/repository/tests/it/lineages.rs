//! Who goes on with a lineage, when several want to.

use std::sync::Arc;

use pg::{SystemId, TimelineId};
use repository::lineage::{self, Reservation, State};
use repository::{Error, Repository};
use stdx::Id;
use store::{LocalStore, MemoryStore, Store};

use crate::support::{self, now};

const TAKERS: u32 = 8;

/// Lets takers run at the same moment; how many got it, when all others saw a conflict.
async fn race<F, Fut>(repository: &Arc<Repository>, take: F) -> usize
where
    F: Fn(Arc<Repository>, u32) -> Fut,
    Fut: Future<Output = Result<(), Error>> + Send + 'static,
{
    let barrier = Arc::new(tokio::sync::Barrier::new(TAKERS as usize));
    let tasks: Vec<_> = (0..TAKERS)
        .map(|taker| {
            let (barrier, taken) = (Arc::clone(&barrier), take(Arc::clone(repository), taker));
            tokio::spawn(async move {
                barrier.wait().await;
                taken.await
            })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => won += 1,
            Err(error) => assert!(matches!(error, Error::Conflict { .. }), "{error}"),
        }
    }
    won
}

async fn one_taker_wins(stores: &[Arc<dyn Store>]) {
    let repository = Arc::new(support::create(stores).await);
    let shop = support::lineage(&repository, SystemId::new(7)).await.id;
    for number in 1..=10 {
        let won = race(&repository, |repository, taker| async move {
            let state = State {
                number,
                timeline: TimelineId::new(number),
                writer: Id::from_bytes([u8::try_from(taker).unwrap(); 16]),
                reason: "adopted".into(),
                since: now(),
            };
            lineage::advance(&repository, shop, &state).await
        })
        .await;
        assert_eq!(won, 1, "state {number}");
        let won = race(&repository, |repository, taker| async move {
            let reservation = Reservation {
                timeline: TimelineId::new(number + 1),
                parent: TimelineId::new(number),
                owner: Id::from_bytes([u8::try_from(taker).unwrap(); 16]),
                place: format!("host{taker}:/data"),
                taken: now(),
            };
            lineage::reserve(&repository, shop, &reservation).await
        })
        .await;
        assert_eq!(won, 1, "timeline {}", number + 1);
    }
    let state = lineage::state(&repository, shop).await.unwrap().unwrap();
    assert_eq!((state.number, state.timeline), (10, TimelineId::new(10)));
    let taken: Vec<u32> = lineage::timelines_taken(&repository, shop)
        .await
        .unwrap()
        .into_iter()
        .map(TimelineId::get)
        .collect();
    assert_eq!(taken, (2..=11).collect::<Vec<_>>());
    assert!(lineage::reservation(&repository, shop, TimelineId::new(12)).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_eight_takers_in_memory_one_wins() {
    one_taker_wins(&[Arc::new(MemoryStore::new())]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_eight_takers_in_a_directory_one_wins() {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStore::open(directory.path(), store::local::Access::default());
    one_taker_wins(&[Arc::new(store)]).await;
}

#[tokio::test]
async fn a_name_is_bound_anew_and_the_old_lineage_stays() {
    let (repository, _) = support::in_memory().await;
    let first = support::lineage(&repository, SystemId::new(7)).await;
    let second = support::lineage(&repository, SystemId::new(7)).await;
    assert_ne!(first.id, second.id);
    assert_eq!(lineage::of_cluster(&repository, "shop").await.unwrap(), second);
    assert_eq!(lineage::read(&repository, first.id).await.unwrap(), first);
    let error = lineage::of_cluster(&repository, "other").await.unwrap_err();
    assert_eq!(error.to_string(), "no cluster 'other' in repository 'memory:'");
}
