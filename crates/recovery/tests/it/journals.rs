//! The journal: chain, copies, stores that fail and lie, records of the future.

use std::sync::Arc;

use recovery::journal::{Entry, HomeError, check_chain};
use recovery::machine::State;
use recovery::plan::Mode;
use recovery::runner::{NoFaults, RunError};
use recovery::testing::sample;
use repository::journal as objects;
use store::retry::{Retry, RetryPolicy};
use store::testing::{Fault, FaultPlan, Faulty};
use store::{Created, MemoryStore, Store};

use crate::bench::{Bench, RUN};

#[tokio::test(start_paused = true)]
async fn the_chain_is_checked_without_a_key_and_every_change_breaks_it() {
    let bench = Bench::new(&sample::shop(), Mode::Incident);
    bench.run(Arc::new(NoFaults)).await.unwrap();
    let loaded = bench.home.load(RUN).await.unwrap();
    let stored = |bytes: &[bytes::Bytes]| -> Vec<(u32, Vec<u8>)> {
        (0..).zip(bytes.iter().map(|it| it.to_vec())).collect()
    };
    let whole = stored(&loaded.stored);
    let check = |records: &[(u32, Vec<u8>)]| {
        check_chain(records.iter().map(|(number, bytes)| (*number, bytes.as_slice())))
    };
    assert!(whole.len() > 40);
    check(&whole).unwrap();
    let mut changed = whole.clone();
    let last = changed[5].1.len() - 1;
    changed[5].1[last] ^= 1;
    check(&changed).unwrap_err();
    let mut missing = whole.clone();
    missing.remove(7);
    check(&missing).unwrap_err();
    let mut swapped = whole;
    swapped.swap(8, 9);
    check(&swapped).unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn copies_hold_the_same_bytes_and_a_copy_that_is_down_stops_nothing() {
    let mut bench = Bench::new(&sample::shop(), Mode::Incident);
    let copy = Arc::new(MemoryStore::new());
    let down: Arc<dyn Store> = Arc::new(Faulty::new(
        Arc::new(MemoryStore::new()),
        FaultPlan::new(1).random(1000, Fault::Before),
    ));
    bench.home.copies = vec![("local".into(), copy.clone()), ("down".into(), down)];
    bench.run(Arc::new(NoFaults)).await.unwrap();
    let loaded = bench.home.load(RUN).await.unwrap();
    for (number, stored) in (0..).zip(&loaded.stored) {
        let key = objects::record(RUN, number).unwrap();
        assert_eq!(copy.get(&key).await.unwrap(), *stored);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_often_loses_and_doubles_nothing() {
    let mut finished = 0;
    for seed in 0..20 {
        let plan = FaultPlan::new(seed)
            .random(150, Fault::After)
            .random(100, Fault::Before)
            .random(50, Fault::PhantomConflict);
        let bench = Bench::new(&sample::shop(), Mode::Incident).behind(|store| {
            Arc::new(Retry::new(Arc::new(Faulty::new(store, plan)), RetryPolicy::default()))
        });
        let driver = bench.driver(Arc::new(NoFaults));
        let Some(loaded) = bench.try_begin(&driver).await else { continue };
        match recovery::runner::drive(&driver, &loaded).await {
            Ok(_) => finished += 1,
            // The store was silent for too long: another driver goes on later.
            Err(RunError::Journal(HomeError::Unreachable { .. })) => {}
            Err(error) => panic!("seed {seed}: {error}"),
        }
        assert_eq!(bench.world.violations(), Vec::<String>::new(), "seed {seed}");
    }
    assert!(finished > 15, "{finished}");
}

#[tokio::test(start_paused = true)]
async fn no_effect_begins_when_the_home_is_lost() {
    let bench = Bench::new(&sample::shop(), Mode::Incident);
    let driver = bench.driver(Arc::new(NoFaults));
    let loaded = bench.begin(&driver).await;
    let mut lost = bench.driver(Arc::new(NoFaults));
    lost.home.store = Arc::new(Faulty::new(
        Arc::clone(&bench.home.store),
        FaultPlan::new(1).random(1000, Fault::Before),
    ));
    let error = recovery::runner::drive(&lost, &loaded).await.unwrap_err();
    assert!(matches!(error, RunError::Journal(HomeError::Unreachable { .. })), "{error}");
    assert_eq!(bench.world.acts(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_record_of_a_newer_version_is_shown_and_not_driven() {
    let bench = Bench::new(&sample::shop(), Mode::Incident);
    let driver = bench.driver(Arc::new(NoFaults));
    let loaded = bench.begin(&driver).await;
    let text = |kind: &str, must: bool, previous: &str| {
        format!(
            r#"{{"v":1,"run":"{RUN}","seq":1,"epoch":1,"writer":"{}","binary":"9.9","boot":"","wall":"2026-11-26T05:00:00Z","boottime_ms":"1","type":"{kind}","must":{must},"prev":"{previous}","body":{{}}}}"#,
            stdx::Id::from_bytes([1; 16])
        )
    };
    let link = objects::Link::to(&loaded.stored[0]);
    let put = async |must: bool| {
        let store = MemoryStore::new();
        let first = objects::record(RUN, 0).unwrap();
        store.put_if_absent(&first, vec![loaded.stored[0].clone()]).await.unwrap();
        let content = text("teleport", must, loaded.end.head());
        let sealed = objects::seal(&bench.home.keys, link, content.as_bytes());
        let second = objects::record(RUN, 1).unwrap();
        assert_eq!(store.put_if_absent(&second, vec![sealed]).await.unwrap(), Created::New);
        let mut home = bench.home.clone();
        home.store = Arc::new(store);
        home.load(RUN).await
    };
    let error = put(true).await.unwrap_err();
    assert!(matches!(error, HomeError::Newer { .. }), "{error}");
    assert!(error.to_string().contains("9.9"), "{error}");
    assert_eq!(put(false).await.unwrap().records.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn every_entry_is_read_back_as_it_was_written() {
    let bench = Bench::new(&sample::shop(), Mode::Incident);
    bench.world.script("prove.data", &[recovery::testing::Misbehaviour::BadData]);
    bench.world.script("start.smoke.1", &[recovery::testing::Misbehaviour::FailForGood]);
    bench.run(Arc::new(NoFaults)).await.unwrap();
    let loaded = bench.home.load(RUN).await.unwrap();
    let kinds: std::collections::BTreeSet<&str> =
        loaded.records.iter().map(|record| record.entry.kind()).collect();
    assert!(kinds.len() > 10, "{kinds:?}");
    for record in &loaded.records {
        let value = record.entry.to_value();
        let read = Entry::from_value(record.entry.kind(), &value).unwrap().unwrap();
        assert_eq!(read, record.entry);
    }
    State::replay(&loaded.records).unwrap();
}
