//! What persons say to a run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use recovery::journal::{Entry, Message, MessageKind, ServiceState, Verdict, send};
use recovery::machine::Awaited;
use recovery::person::SigningKey;
use recovery::plan::{Mode, Plan, PlanDigest};
use recovery::runner::{Before, Driver, Ended, NoFaults, drive};
use recovery::service::{Escalation, Person};
use recovery::testing::{Misbehaviour, sample};

use crate::bench::{Bench, Outcome, RUN};

fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&[number; 32]).unwrap()
}

/// A plan whose final steps need two persons.
fn two_persons() -> Plan {
    let mut plan = sample::plan(&sample::shop(), Mode::Incident, &sample::inventory()).unwrap();
    plan.policy.final_persons = 2;
    let person =
        |number, role: &str| Person { key: key(number).public(), roles: vec![role.into()] };
    plan.persons = BTreeMap::from([
        ("oncall".into(), person(1, "recovery-operator")),
        ("secondary".into(), person(2, "approver")),
        ("reader".into(), person(3, "viewer")),
    ]);
    plan
}

fn message(bench: &Bench, person: &str, kind: MessageKind) -> Message {
    Message {
        run: RUN.into(),
        digest: PlanDigest::of(&bench.plan).to_string(),
        target: bench.plan.target.to_string(),
        person: person.into(),
        at: sample::now(),
        kind,
    }
}

fn approval(gate: &str) -> MessageKind {
    MessageKind::Approve { gate: gate.into(), is_break_glass: false, reason: String::new() }
}

async fn waits_at_the_point(bench: &Bench) {
    let outcome = bench.run(Arc::new(NoFaults)).await.unwrap();
    let Ended::Waiting(Awaited::Approval { gate, missing, text }) = outcome.ended else {
        panic!("{outcome:?}");
    };
    assert_eq!((gate.as_str(), missing, text.as_str()), ("open.point", 1, "shop lose 43"));
}

async fn go_on(bench: &Bench) -> Outcome {
    bench.go_on(Before::Dead).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_final_step_needs_the_requester_and_one_more() {
    let bench = Bench::with(two_persons());
    waits_at_the_point(&bench).await;
    assert!(bench.world.snapshot().is_door_shut);
    send(&bench.home, &message(&bench, "secondary", approval("open.point")), Some(&key(2)))
        .await
        .unwrap();
    let outcome = go_on(&bench).await;
    let restored = Ended::Closed { verdict: Verdict::Restored, service: ServiceState::New };
    assert_eq!(outcome.ended, restored);
    bench.check().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_signed_right_or_is_about_something_else_does_not_count() {
    let bench = Bench::with(two_persons());
    waits_at_the_point(&bench).await;
    let good = message(&bench, "secondary", approval("open.point"));
    let wrong = [
        // By the requester.
        (message(&bench, "oncall", approval("open.point")), Some(key(1))),
        // With another key, without one, by a stranger, by somebody who only reads.
        (good.clone(), Some(key(1))),
        (good.clone(), None),
        (message(&bench, "nobody", approval("open.point")), Some(key(2))),
        (message(&bench, "reader", approval("open.point")), Some(key(3))),
        // About another plan, target, run or gate.
        (Message { digest: "00".into(), ..good.clone() }, Some(key(2))),
        (Message { target: "the end of the WAL".into(), ..good.clone() }, Some(key(2))),
        (Message { run: "other".into(), ..good.clone() }, Some(key(2))),
        (message(&bench, "secondary", approval("open.window")), Some(key(2))),
    ];
    let count = wrong.len();
    for (said, key) in wrong {
        send(&bench.home, &said, key.as_ref()).await.unwrap();
    }
    let outcome = go_on(&bench).await;
    assert!(matches!(outcome.ended, Ended::Waiting(Awaited::Approval { .. })), "{outcome:?}");
    assert!(bench.world.snapshot().is_door_shut, "no door opens on {count} wrong messages");
    // The one that went into another run's inbox was not even found here.
    assert_eq!(bench.state().await.refused.len(), count - 1);
}

#[tokio::test(start_paused = true)]
async fn the_glass_is_broken_by_the_requester_and_stands_in_the_journal() {
    let bench = Bench::with(two_persons());
    waits_at_the_point(&bench).await;
    let kind = MessageKind::Approve {
        gate: "open.point".into(),
        is_break_glass: true,
        reason: "nobody answers".into(),
    };
    send(&bench.home, &message(&bench, "oncall", kind), Some(&key(1))).await.unwrap();
    let outcome = go_on(&bench).await;
    assert!(matches!(outcome.ended, Ended::Closed { verdict: Verdict::Restored, .. }));
    let loaded = bench.home.load(RUN).await.unwrap();
    assert!(loaded.records.iter().any(|record| match &record.entry {
        Entry::Heard { obeys: Some(entry), .. } => matches!(
            &**entry,
            Entry::Approved { is_break_glass: true, reason, .. } if reason == "nobody answers"
        ),
        _ => false,
    }));
}

#[tokio::test(start_paused = true)]
async fn pause_abort_retry_and_skip_are_obeyed() {
    // Abort before anything is restored.
    let bench = Bench::new(&sample::shop(), Mode::Incident);
    let driver = bench.driver(Arc::new(NoFaults));
    let loaded = bench.begin(&driver).await;
    let abort = MessageKind::Abort("wrong database".into());
    send(&bench.home, &message(&bench, "oncall", abort.clone()), None).await.unwrap();
    let (ended, _) = recovery::runner::drive(&driver, &loaded).await.unwrap();
    assert!(matches!(ended, Ended::Closed { verdict: Verdict::RolledBack, .. }));
    // Pause, then resume.
    let bench = Bench::new(&sample::shop(), Mode::Incident);
    let driver = bench.driver(Arc::new(NoFaults));
    let loaded = bench.begin(&driver).await;
    send(&bench.home, &message(&bench, "oncall", MessageKind::Pause), None).await.unwrap();
    let (ended, _) = recovery::runner::drive(&driver, &loaded).await.unwrap();
    assert!(matches!(ended, Ended::Waiting(Awaited::Resume { .. })));
    assert_eq!(bench.world.acts(), 0);
    send(&bench.home, &message(&bench, "oncall", MessageKind::Resume), None).await.unwrap();
    assert!(matches!(go_on(&bench).await.ended, Ended::Closed { .. }));
    // Behind the point of no return: abort is refused, retry goes on.
    let bench = Bench::new(&sample::shop(), Mode::Incident);
    bench.world.script("protect.adopt.shop", &[Misbehaviour::FailForGood]);
    let outcome = bench.run(Arc::new(NoFaults)).await.unwrap();
    assert!(matches!(outcome.ended, Ended::Waiting(Awaited::Decision { .. })));
    send(&bench.home, &message(&bench, "oncall", abort), None).await.unwrap();
    assert!(matches!(go_on(&bench).await.ended, Ended::Waiting(Awaited::Decision { .. })));
    let skip = MessageKind::Skip { step: "protect.adopt.shop".into(), reason: "by hand".into() };
    send(&bench.home, &message(&bench, "oncall", skip), None).await.unwrap();
    assert!(matches!(go_on(&bench).await.ended, Ended::Closed { verdict: Verdict::Restored, .. }));
}

#[tokio::test(start_paused = true)]
async fn a_person_confirms_what_only_a_person_can_see() {
    let mut service = sample::shop();
    service.checklist = vec!["the invoices of yesterday are there".into()];
    let bench = Bench::new(&service, Mode::Incident);
    let outcome = bench.run(Arc::new(NoFaults)).await.unwrap();
    let Ended::Waiting(Awaited::Approval { gate, text, .. }) = outcome.ended else {
        panic!("{outcome:?}");
    };
    assert_eq!(
        (gate.as_str(), text.as_str()),
        ("prove.confirm.1", "the invoices of yesterday are there")
    );
    assert_eq!(outcome.world.setting, "old", "nothing is switched before");
    let said = message(&bench, "oncall", approval("prove.confirm.1"));
    send(&bench.home, &said, None).await.unwrap();
    assert!(matches!(go_on(&bench).await.ended, Ended::Closed { verdict: Verdict::Restored, .. }));
}

#[tokio::test(start_paused = true)]
async fn when_nobody_answers_those_who_come_next_are_asked_once_and_nothing_is_approved() {
    let mut plan = two_persons();
    plan.escalate = vec![Escalation {
        channel: "pager".into(),
        after: Duration::from_secs(600),
        to: "secondary".into(),
    }];
    let bench = Bench::with(plan);
    let driver = Driver { ends_when_waiting: false, ..bench.driver(Arc::new(NoFaults)) };
    let loaded = bench.begin(&driver).await;
    let mut driving = Box::pin(drive(&driver, &loaded));
    let heard = |what: &str| {
        bench.world.told().iter().filter(|said| said.starts_with(&format!("pager: {what}"))).count()
    };
    let half = tokio::time::timeout(Duration::from_secs(1200), &mut driving).await;
    assert!(half.is_err(), "a timeout never approves: {half:?}");
    assert_eq!((heard("waits for approval"), heard("nobody answered")), (1, 1));
    assert!(bench.world.told().iter().any(|said| said.contains("secondary is asked now")));
    assert!(bench.world.snapshot().is_door_shut);
    send(&bench.home, &message(&bench, "secondary", approval("open.point")), Some(&key(2)))
        .await
        .unwrap();
    let (ended, _) = driving.await.unwrap();
    assert!(matches!(ended, Ended::Closed { verdict: Verdict::Restored, .. }), "{ended:?}");
    assert_eq!(heard("nobody answered"), 1);
    bench.check().await;
}

#[tokio::test(start_paused = true)]
async fn each_who_comes_next_is_tried_on_their_own_and_not_for_ever() {
    let mut plan = two_persons();
    let escalation = |channel: &str, minutes: u64| Escalation {
        channel: channel.into(),
        after: Duration::from_secs(minutes * 60),
        to: "secondary".into(),
    };
    plan.escalate = vec![escalation("pager", 10), escalation("chat", 20)];
    let bench = Bench::with(plan);
    bench.world.silence("pager", true);
    let driver = Driver { ends_when_waiting: false, ..bench.driver(Arc::new(NoFaults)) };
    let loaded = bench.begin(&driver).await;
    let mut driving = Box::pin(drive(&driver, &loaded));
    let day = tokio::time::timeout(Duration::from_secs(6 * 3600), &mut driving).await;
    assert!(day.is_err(), "a timeout never approves: {day:?}");
    let records = bench.home.load(RUN).await.unwrap().records;
    let tried = |name: &str| {
        let told = records.iter().filter(|record| match &record.entry {
            Entry::Told { channel, what, .. } => channel == name && what == "nobody answered",
            _ => false,
        });
        told.map(|record| record.wall).collect::<Vec<_>>()
    };
    let (pager, chat) = (tried("pager"), tried("chat"));
    assert_eq!((pager.len(), chat.len()), (11, 1), "the first try and ten more; one that is heard");
    let minutes = chat[0].duration_since(pager[0]).as_mins();
    assert_eq!(minutes, 10, "the other one's silence delays nobody");
    let pauses: Vec<i64> =
        pager.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs()).collect();
    assert!(pauses.iter().all(|pause| (29..=31).contains(pause)), "{pauses:?}");
}
