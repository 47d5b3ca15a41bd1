//! The proof of put-if-absent passes honest stores and no others.

use std::sync::Arc;
use std::time::Duration;

use stdx::{Diagnostic, Exit, Id};
use store::local::{Access, LocalStore};
use store::retry::{Retry, RetryPolicy};
use store::testing::{Fault, FaultPlan, Faulty, LyingStore, Operation};
use store::{MemoryStore, ProofError, Store, prove_put_if_absent};

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

async fn prove(store: Arc<dyn Store>) -> Result<(), ProofError> {
    prove_put_if_absent(&store, &Id::random).await
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_stores_pass_and_are_left_clean() {
    let dir = tempfile::tempdir().unwrap();
    let local: Arc<dyn Store> = Arc::new(LocalStore::open(dir.path(), Access::Owner));
    for store in [memory(), local] {
        prove(Arc::clone(&store)).await.unwrap();
        assert!(store.list("", None, 10).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_store_passes_also_when_answers_get_lost() {
    for seed in 0..16 {
        let plan = FaultPlan::new(seed).random(200, Fault::After).random(200, Fault::Before);
        let policy = RetryPolicy {
            attempts_max: 40,
            delay_first: Duration::from_micros(10),
            delay_max: Duration::from_micros(50),
            ..RetryPolicy::default()
        };
        let store = Retry::new(Arc::new(Faulty::new(memory(), plan)), policy);
        prove(Arc::new(store)).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

async fn assert_refused(store: Arc<dyn Store>, expect: &str) {
    let error = prove(Arc::clone(&store)).await.unwrap_err();
    assert!(error.to_string().contains(expect), "{error}");
    assert!(matches!(error, ProofError::NotHonoured { .. }), "{error:?}");
    assert_eq!((error.info().code, error.info().exit), ("RF0207", Exit::Refused));
    assert!(error.hints().iter().any(|hint| hint.contains("single-writer")));
    assert!(store.list("", None, 10).await.unwrap().is_empty(), "the proof left objects behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn lying_stores_are_refused() {
    let lying = LyingStore::new(memory());
    assert_refused(Arc::new(lying), "expected one of the racing creates to win, seen 16 of 16")
        .await;
    // Honest to those who come alone, as with a check that is not one step with the write.
    for seed in 0..16 {
        let racy = FaultPlan::new(seed).random(100, Fault::Replace);
        assert_refused(Arc::new(Faulty::new(memory(), racy)), "does not honour").await;
    }
    // Right in the race, wrong afterwards.
    let late = FaultPlan::new(0).at(Operation::Put, 16, Fault::Replace);
    let late = Arc::new(Faulty::new(memory(), late));
    assert_refused(late, "expected a second create to be refused").await;
    let phantom = FaultPlan::new(0).random(1000, Fault::PhantomConflict);
    assert_refused(
        Arc::new(Faulty::new(memory(), phantom)),
        "expected the created object to be there",
    )
    .await;
    let corrupt = FaultPlan::new(0).at(Operation::Get, 0, Fault::Truncate);
    assert_refused(Arc::new(Faulty::new(memory(), corrupt)), "the winner's bytes").await;
}

#[tokio::test]
async fn a_store_that_cannot_be_asked_proves_nothing() {
    let down = FaultPlan::new(0).random(1000, Fault::Before);
    let error = prove(Arc::new(Faulty::new(memory(), down))).await.unwrap_err();
    assert!(matches!(error, ProofError::Store(_)), "{error:?}");
    assert_eq!(error.info().code, "RF0204");
}
