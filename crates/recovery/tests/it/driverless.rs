//! Runs that nobody drives, as they are found and told of.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use recovery::duty::driverless::Driverless;
use recovery::journal::{Entry, IncidentEntry, Message, MessageKind, send};
use recovery::machine::State;
use recovery::plan::{Mode, Parameters, PlanDigest};
use recovery::runner::{Before, Faults, LEASE_TTL, NoFaults};
use recovery::service::Escalation;
use recovery::testing::sample;

use crate::bench::{Bench, Nth, RUN};

const TELL: [&str; 2] = ["pager", "room"];

/// What is found `later`, and what has to be told then.
async fn look(bench: &Bench, log: &mut Vec<IncidentEntry>, now: Timestamp) -> Option<String> {
    let loaded = bench.home.load(RUN).await.unwrap();
    let state = State::replay(&loaded.records).unwrap();
    let found = Driverless::of(&loaded, &state, now)?;
    let escalate = [Escalation {
        channel: "pager".into(),
        after: Duration::from_secs(600),
        to: "secondary".into(),
    }];
    let tell = TELL.map(str::to_owned);
    let mut told = Vec::new();
    for duty in found.duties(log, &tell, &escalate, now) {
        told.push(format!("{}: {}: {}", duty.channel, duty.what.text(), found.message(&duty, now)));
        log.push(duty.entry(now, "rollforward", "told"));
    }
    Some(told.join("\n"))
}

async fn killed(at: usize) -> (Bench, Timestamp) {
    let bench = Bench::new(&sample::shop(), Mode::Incident);
    bench.run(Arc::new(Nth::at(at))).await.unwrap_err();
    let last = bench.home.load(RUN).await.unwrap().last_written;
    (bench, last)
}

fn ack(at: Timestamp) -> IncidentEntry {
    let fields = Parameters::new();
    IncidentEntry { kind: "ack".into(), at, by: "oncall".into(), fields }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_over_is_told_once_and_escalated_once() {
    let (bench, last) = killed(40).await;
    let mut log = vec![ack(last)];
    let ttl = LEASE_TTL.as_secs() as i64;
    let at = |seconds: i64| last + jiff::SignedDuration::from_secs(ttl + seconds);
    assert_eq!(look(&bench, &mut log, at(-1)).await, None);
    let first = look(&bench, &mut log, at(0)).await.unwrap();
    assert_eq!(first.matches("no driver: run shop-1126-k7f3 has no driver, for 90 s").count(), 2);
    assert!(first.contains("\nrollforward run resume shop-1126-k7f3\n"), "{first}");
    assert_eq!(look(&bench, &mut log, at(599)).await.unwrap(), "");
    let asked = look(&bench, &mut log, at(600)).await.unwrap();
    assert!(asked.starts_with("pager: nobody answered: "), "{asked}");
    assert_eq!(look(&bench, &mut log, at(9000)).await.unwrap(), "");
    // A driver goes on, and is gone again: that is another absence.
    let mut driver = bench.driver(Arc::new(NoFaults));
    recovery::runner::take_over(&mut driver, RUN, Before::Dead, "b", "x").await.unwrap();
    let last = bench.home.load(RUN).await.unwrap().last_written;
    let at = |seconds: i64| last + jiff::SignedDuration::from_secs(ttl + seconds);
    assert_eq!(look(&bench, &mut log, at(-1)).await, None);
    assert_eq!(look(&bench, &mut log, at(0)).await.unwrap().matches("no driver: ").count(), 2);
    // Somebody takes it this time.
    log.push(ack(at(10)));
    assert_eq!(look(&bench, &mut log, at(9000)).await.unwrap(), "");
    bench.go_on(Before::Dead).await.unwrap();
    let late = bench.home.load(RUN).await.unwrap().last_written;
    assert_eq!(look(&bench, &mut log, late + jiff::SignedDuration::from_hours(9)).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_down_is_tried_again_and_keeps_nobody_from_coming_next() {
    let (bench, last) = killed(40).await;
    let loaded = bench.home.load(RUN).await.unwrap();
    let state = State::replay(&loaded.records).unwrap();
    let at = |seconds: i64| last + jiff::SignedDuration::from_secs(100 + seconds);
    let escalation =
        Escalation { channel: "room".into(), after: Duration::from_secs(60), to: "second".into() };
    let found = Driverless::of(&loaded, &state, at(0)).unwrap();
    let duties = |log: &[IncidentEntry], seconds: i64| {
        let due =
            found.duties(log, &["pager".into()], std::slice::from_ref(&escalation), at(seconds));
        due.iter().map(|it| format!("{} {}", it.channel, it.what.text())).collect::<Vec<_>>()
    };
    let first = found.duties(&[], &["pager".into()], std::slice::from_ref(&escalation), at(0));
    let log = vec![first[0].entry(at(0), "rollforward", "it does not answer")];
    assert_eq!(duties(&log, 14), Vec::<String>::new());
    assert_eq!(duties(&log, 15), ["pager no driver"]);
    assert_eq!(duties(&log, 60), ["pager no driver", "room nobody answered"]);
}

#[tokio::test(start_paused = true)]
async fn of_all_that_look_at_once_one_tells_and_another_when_that_one_is_gone() {
    let (bench, last) = killed(40).await;
    let loaded = bench.home.load(RUN).await.unwrap();
    let state = State::replay(&loaded.records).unwrap();
    let at = |seconds: i64| last + jiff::SignedDuration::from_secs(100 + seconds);
    let found = Driverless::of(&loaded, &state, at(0)).unwrap();
    let tells = |log: &[IncidentEntry]| -> Vec<&str> {
        ["a", "b", "c"].into_iter().filter(|teller| found.is_told_by(log, teller)).collect()
    };
    let mut log = vec![found.telling("a", false, at(0)), found.telling("b", false, at(0))];
    assert_eq!(tells(&log), ["a"]);
    // Who came too late may come again, when the first one is over, or gone.
    let over = [&log[..], &[found.telling("a", true, at(5)), found.telling("c", false, at(5))]];
    assert_eq!(tells(&over.concat()), ["c"]);
    log.push(found.telling("c", false, at(119)));
    assert_eq!(tells(&log), ["a"]);
    log.push(found.telling("b", false, at(120)));
    assert_eq!(tells(&log), ["b"]);
    log.push(found.telling("a", true, at(121)));
    assert_eq!(tells(&log), ["b"], "the one that was gone ends nothing");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_says_for_what_and_one_that_was_paused_asks_nobody_else() {
    let mut service = sample::shop();
    service.checklist = vec!["the invoices are there".into()];
    let bench = Bench::new(&service, Mode::Incident);
    // It ends because it waits.
    let faults: Arc<dyn Faults> = Arc::new(NoFaults);
    bench.run(Arc::clone(&faults)).await.unwrap();
    let later = |hours| bench_time(&bench, hours);
    let told = look(&bench, &mut Vec::new(), later(1).await).await.unwrap();
    for line in [
        "prove.confirm.1 waits for 1 more approval(s): the invoices are there",
        "1. rollforward run approve shop-1126-k7f3 --gate prove.confirm.1",
        "2. rollforward run resume shop-1126-k7f3",
    ] {
        assert_eq!(told.lines().filter(|seen| *seen == line).count(), 2, "{line}: {told}");
    }
    assert!(told.contains("waits for a person, without a driver, for 60 min"), "{told}");
    let message = Message {
        run: RUN.into(),
        digest: PlanDigest::of(&bench.plan).to_string(),
        target: bench.plan.target.to_string(),
        person: "oncall".into(),
        at: sample::now(),
        kind: MessageKind::Pause,
    };
    send(&bench.home, &message, None).await.unwrap();
    bench.go_on(Before::Dead).await.unwrap();
    let records = bench.home.load(RUN).await.unwrap().records;
    assert!(records.iter().any(|record| matches!(&record.entry, Entry::Heard { .. })));
    let mut log = Vec::new();
    let told = look(&bench, &mut log, later(2).await).await.unwrap();
    assert!(told.contains("was paused by oncall, without a driver"), "{told}");
    assert_eq!(look(&bench, &mut log, later(9).await).await.unwrap(), "", "who paused it knows");
}

async fn bench_time(bench: &Bench, hours: i64) -> Timestamp {
    let last = bench.home.load(RUN).await.unwrap().last_written;
    last + jiff::SignedDuration::from_hours(hours)
}
