//! Retry, limit, metered and faulty, over the store in memory.

use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use stdx::ByteCount;
use store::limit::{Limit, Limits};
use store::metered::{Call, Meter, Metered};
use store::retry::{Retry, RetryPolicy};
use store::testing::{
    Answers, Fault, FaultPlan, Faulty, Operation, OperationSet, conformance, conformance_with,
};
use store::{Created, Error, MemoryStore, Store};
use tokio::time::Instant;

use crate::{key, parts};

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

fn quick(attempts_max: u32) -> RetryPolicy {
    RetryPolicy {
        attempts_max,
        delay_first: Duration::from_micros(10),
        delay_max: Duration::from_micros(100),
        elapsed_max: Duration::from_secs(60),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_half_the_requests_keeps_every_promise_with_retry() {
    for seed in 0..4 {
        let plan = FaultPlan::new(seed).random(250, Fault::Before).random(250, Fault::After);
        let faulty = Faulty::new(memory(), plan);
        let store = Arc::new(Retry::new(Arc::new(faulty.clone()), quick(40)));
        conformance_with(store, Answers::MayBeLost).await;
        assert!(faulty.struck() > 300, "seed {seed}: only {} calls failed", faulty.struck());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_meters_change_no_promise() {
    let limits = Limits { calls: NonZeroUsize::new(3), bytes_per_second: NonZeroU64::new(1 << 40) };
    let meter = Arc::new(Meter::default());
    let metered = Metered::new(memory(), Arc::clone(&meter));
    conformance(Arc::new(Limit::new(Arc::new(metered), limits))).await;
    for call in Call::ALL {
        assert!(meter.totals(call).calls > 10, "{}", call.name());
    }
}

#[tokio::test]
async fn a_lost_answer_of_a_put_is_told_as_exists_by_the_retry() {
    let plan = FaultPlan::new(0).at(Operation::Put, 0, Fault::After);
    let faulty = Faulty::new(memory(), plan.clone());
    let bare = faulty.put_if_absent(&key("a"), parts("mine")).await.unwrap_err();
    assert!(matches!(bare, Error::Unavailable { .. }), "{bare}");
    assert_eq!(faulty.get(&key("a")).await.unwrap(), "mine", "the effect took place");

    let faulty = Faulty::new(memory(), plan);
    let store = Retry::new(Arc::new(faulty.clone()), quick(3));
    let created = store.put_if_absent(&key("a"), parts("mine")).await.unwrap();
    assert_eq!(created, Created::Exists, "the repeat cannot know whose object it found");
    assert_eq!(store.get(&key("a")).await.unwrap(), "mine");
    assert_eq!(faulty.calls(Operation::Put), 2);
}

#[tokio::test]
async fn a_put_that_failed_before_its_effect_is_new_when_repeated() {
    let plan = FaultPlan::new(0).at(Operation::Put, 0, Fault::Before);
    let store = Retry::new(Arc::new(Faulty::new(memory(), plan)), quick(3));
    assert_eq!(store.put_if_absent(&key("a"), parts("x")).await.unwrap(), Created::New);
}

#[tokio::test]
async fn retry_gives_up_at_its_bounds_and_repeats_only_what_may_pass() {
    let always = FaultPlan::new(0).random(1000, Fault::Before);
    let faulty = Faulty::new(memory(), always.clone());
    let store = Retry::new(Arc::new(faulty.clone()), quick(4));
    let error = store.get(&key("a")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert_eq!(faulty.calls(Operation::Get), 4);

    let healthy = Faulty::new(memory(), FaultPlan::new(0));
    let store = Retry::new(Arc::new(healthy.clone()), quick(4));
    assert!(matches!(store.get(&key("a")).await, Err(Error::NotFound { .. })));
    assert_eq!(healthy.calls(Operation::Get), 1);
}

#[tokio::test(start_paused = true)]
async fn retry_ends_by_time_and_its_pauses_grow_but_stay_bounded() {
    let faulty = Faulty::new(memory(), FaultPlan::new(0).random(1000, Fault::Before));
    let policy = RetryPolicy {
        attempts_max: u32::MAX,
        delay_first: Duration::from_millis(100),
        delay_max: Duration::from_secs(2),
        elapsed_max: Duration::from_secs(60),
    };
    let begun = Instant::now();
    let store = Retry::new(Arc::new(faulty.clone()), policy);
    assert!(store.delete(&key("a")).await.is_err());
    assert!(begun.elapsed() <= Duration::from_secs(60), "{:?}", begun.elapsed());
    // Pauses average one second once they have grown: far fewer calls than with 100 ms each, and
    // more than with pauses that went on doubling.
    let calls = faulty.calls(Operation::Delete);
    assert!((30..150).contains(&calls), "{calls} calls in a minute");
}

#[tokio::test(start_paused = true)]
async fn at_most_so_many_calls_are_under_way() {
    let slow = FaultPlan::new(0).random(1000, Fault::Late(Duration::from_secs(1)));
    let limits = Limits { calls: NonZeroUsize::new(2), bytes_per_second: None };
    let store = Limit::new(Arc::new(Faulty::new(memory(), slow)), limits);
    let begun = Instant::now();
    let name = key("a");
    join_all((0..10).map(|_| store.delete(&name))).await;
    assert_eq!(begun.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn bytes_flow_at_the_rate_on_average() {
    let limits = Limits { calls: None, bytes_per_second: NonZeroU64::new(1000) };
    let store = Limit::new(memory(), limits);
    let begun = Instant::now();
    for name in ["a", "b", "c"] {
        store.put_if_absent(&key(name), vec![Bytes::from(vec![0; 2000])]).await.unwrap();
    }
    // The first passes at once, and each waits for those before it.
    assert_eq!(begun.elapsed().as_secs(), 4);
    store.get_range(&key("a"), 0..500).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 6);
    let mut upload = store.upload(&key("d")).await.unwrap();
    upload.write(Bytes::from(vec![0; 3500])).await.unwrap();
    upload.write(Bytes::from(vec![0; 10])).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 10);
    tokio::time::advance(Duration::from_secs(60)).await;
    let rested = Instant::now();
    store.get(&key("b")).await.unwrap();
    assert_eq!(rested.elapsed().as_secs(), 0, "rest is not saved up, but nothing is owed either");
}

#[tokio::test(start_paused = true)]
async fn a_meter_counts_calls_errors_bytes_and_time() {
    let plan = FaultPlan::new(0).at(Operation::Get, 1, Fault::Before).at(
        Operation::Get,
        2,
        Fault::Late(Duration::from_secs(2)),
    );
    let meter = Arc::new(Meter::default());
    let store = Metered::new(Arc::new(Faulty::new(memory(), plan)), Arc::clone(&meter));
    store.put_if_absent(&key("a"), parts("12345")).await.unwrap();
    store.put_if_absent(&key("a"), parts("not stored")).await.unwrap();
    store.get(&key("a")).await.unwrap();
    store.get(&key("a")).await.unwrap_err();
    store.get(&key("a")).await.unwrap();
    store.get(&key("missing")).await.unwrap_err();
    let reads = meter.totals(Call::Read);
    assert_eq!((reads.calls, reads.errors, reads.bytes), (4, 1, ByteCount::new(10)));
    assert_eq!((reads.busy.as_secs(), reads.slowest.as_secs()), (2, 2));
    assert_eq!(reads.latency.iter().sum::<u64>(), 4);
    assert_eq!(reads.latency[8], 1, "between one and four seconds: {:?}", reads.latency);
    let puts = meter.totals(Call::Put);
    assert_eq!((puts.calls, puts.errors, puts.bytes), (2, 0, ByteCount::new(5)));
}

#[tokio::test]
async fn faults_are_the_same_for_the_same_seed_and_differ_between_seeds() {
    async fn outcomes(seed: u64, backwards: bool) -> Vec<(String, bool)> {
        let plan = FaultPlan::new(seed).random(500, Fault::Before);
        let store = Faulty::new(memory(), plan);
        let mut names: Vec<String> = (0..100).map(|n| format!("key/{n}")).collect();
        if backwards {
            names.reverse();
        }
        let mut seen = Vec::new();
        for name in names {
            seen.push((name.clone(), store.put_if_absent(&key(&name), vec![]).await.is_ok()));
        }
        seen.sort();
        seen
    }
    let first = outcomes(1, false).await;
    assert_eq!(first, outcomes(1, false).await);
    assert_eq!(first, outcomes(1, true).await, "the order of calls must not matter");
    assert_ne!(first, outcomes(2, false).await);
    let failed = first.iter().filter(|(_, ok)| !ok).count();
    assert!((30..70).contains(&failed), "{failed} of 100 failed");
}

#[tokio::test]
async fn every_fault_does_what_it_says() {
    let plan = FaultPlan::new(0)
        .at(Operation::Put, 1, Fault::PhantomConflict)
        .at(Operation::Put, 2, Fault::Replace)
        .at(Operation::Get, 0, Fault::Truncate)
        .at(Operation::GetRange, 0, Fault::Truncate)
        .at(Operation::Finish, 0, Fault::After)
        .at(Operation::Write, 1, Fault::Before)
        .at(Operation::Head, 0, Fault::Silent)
        .striking(OperationSet::All);
    let store = Faulty::new(memory(), plan);
    assert_eq!(store.put_if_absent(&key("a"), parts("first")).await.unwrap(), Created::New);
    assert_eq!(store.put_if_absent(&key("b"), parts("x")).await.unwrap(), Created::Exists);
    assert!(matches!(store.head(&key("b")).poll_once(), Err(())), "a silent head answered");
    assert!(matches!(store.head(&key("b")).await, Err(Error::NotFound { .. })));
    assert_eq!(store.put_if_absent(&key("a"), parts("second")).await.unwrap(), Created::New);
    assert_eq!(store.get(&key("a")).await.unwrap(), "sec");
    assert_eq!(store.get_range(&key("a"), 0..4).await.unwrap(), "se");
    assert_eq!(store.get(&key("a")).await.unwrap(), "second");
    let mut upload = store.upload(&key("u")).await.unwrap();
    upload.write(Bytes::from_static(b"one")).await.unwrap();
    upload.write(Bytes::from_static(b"two")).await.unwrap_err();
    upload.finish().await.unwrap_err();
    assert_eq!(store.get(&key("u")).await.unwrap(), "one", "the finish took effect");
    assert_eq!(store.struck(), 7);
}

/// Polls once: an answer, or none yet.
trait PollOnce: Future + Sized {
    fn poll_once(self) -> Result<Self::Output, ()> {
        let mut future = std::pin::pin!(self);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(answer) => Ok(answer),
            std::task::Poll::Pending => Err(()),
        }
    }
}

impl<F: Future> PollOnce for F {}
