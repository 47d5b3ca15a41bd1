//! One step in the hands of the real driver, with its journal in memory: what its provider's
//! answers come to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use providers::Providers;
use recovery::journal::{Appended, Entry, FailureClass, Home, Writer};
use recovery::machine::State;
use recovery::plan::{Plan, UndoWhen};
use recovery::runner::{Driver, Ended, Event, NoFaults, Observer, drive};
use repository::SetKeys;
use stdx::{Clock, Id, SystemClock};
use store::MemoryStore;

const RUN: &str = "shop-1126-test";

/// A failed attempt, as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) class: FailureClass,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) hint: String,
}

/// How a run of one step ended.
#[derive(Debug)]
pub(crate) struct Driven {
    pub(crate) ended: Ended,
    pub(crate) failed: Vec<Failed>,
    /// Steps that were undone, and those that could not be.
    pub(crate) undone: (usize, usize),
    pub(crate) took: Duration,
}

type OnFailure = Box<dyn FnMut() + Send>;

struct Watching(Mutex<OnFailure>);

impl Observer for Watching {
    fn event(&self, _state: &State, event: &Event<'_>) {
        if matches!(event, Event::Recorded(Entry::Failed { .. })) {
            (self.0.lock().unwrap())();
        }
    }
}

/// Drives step `id` of `plan` alone, as if the restored cluster were there; `on_failure` is called
/// whenever an attempt has failed.
pub(crate) async fn driven(
    providers: Arc<Providers>,
    mut plan: Plan,
    id: &str,
    on_failure: impl FnMut() + Send + 'static,
) -> Driven {
    let before = plan.steps.iter().find(|step| step.undo_when == UndoWhen::Never).unwrap();
    let before = before.id.to_string();
    plan.steps.retain(|step| step.id.as_str() == id || step.id.as_str() == before);
    assert_eq!(plan.steps.len(), 2, "no step {id}");
    plan.tell.clear();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let store = Arc::new(MemoryStore::with_clock(Arc::clone(&clock)));
    let keys = Arc::new(SetKeys::plain(Id::from_bytes([7; 16])));
    let home = Home { store, keys, copies: Vec::new() };
    let driver = Driver {
        home: home.clone(),
        writer: Writer {
            id: Id::random(),
            epoch: 1,
            binary: "0.1.0".into(),
            boot: "boot-1".into(),
        },
        effects: providers,
        clock,
        observer: Arc::new(Watching(Mutex::new(Box::new(on_failure)))),
        faults: Arc::new(NoFaults),
        host: "db1".into(),
        ends_when_waiting: true,
        pause: tokio::sync::watch::channel(false).1,
    };
    begin(&driver, plan, before).await;
    let loaded = home.load(RUN).await.unwrap();
    let began = Instant::now();
    let (ended, _) = drive(&driver, &loaded).await.unwrap();
    let took = began.elapsed();
    let records = home.load(RUN).await.unwrap().records;
    let count = |kind: &str| records.iter().filter(|it| it.entry.kind() == kind).count();
    let undone = (count("undone"), count("undo-failed"));
    let failed = records.into_iter().filter_map(|record| match record.entry {
        Entry::Failed { class, code, message, hint, .. } => {
            Some(Failed { class, code, message, hint })
        }
        _ => None,
    });
    Driven { ended, failed: failed.collect(), undone, took }
}

async fn begin(driver: &Driver, plan: Plan, before: String) {
    let mut end = Appended::nothing(RUN);
    let now = driver.clock.now();
    let created = Entry::Created {
        plan: Box::new(plan),
        requester: "oncall".into(),
        incident: "shop-1126".into(),
        alert_at: now,
        declared_at: now,
        is_confirmed: true,
        supersedes: None,
        originals: BTreeMap::new(),
    };
    let outputs = [("host", "127.0.0.1"), ("port", "6543")];
    let outputs = outputs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let done =
        Entry::Done { step: before, generation: 1, outputs, was_there: true, evidence: None };
    for entry in [created, done] {
        driver.home.append(&mut end, &driver.writer, &*driver.clock, entry).await.unwrap();
    }
}
