//! Every step, failing in every way: once, for ever, with its answer lost, done twice, by half.

use std::sync::Arc;

use recovery::journal::{ServiceState, Verdict};
use recovery::machine::{Awaited, Phase};
use recovery::plan::{Class, Mode, StepKind, UndoWhen};
use recovery::runner::{Ended, NoFaults};
use recovery::service::{OnFailure, Policy};
use recovery::testing::{Misbehaviour, sample};

use crate::bench::{Bench, Nth};

fn closed(verdict: Verdict, service: ServiceState) -> Ended {
    Ended::Closed { verdict, service }
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_once_changes_nothing_in_the_end() {
    use Misbehaviour::{FailBefore, Half, Hang, LoseAnswer, LoseRequest, ProbeFails, Twice};
    for mode in [Mode::Incident, Mode::Drill] {
        let expected =
            Bench::new(&sample::shop(), mode).run(Arc::new(Nth::default())).await.unwrap();
        let plan = Bench::new(&sample::shop(), mode).plan;
        for step in plan.steps.iter().filter(|step| !step.kind.is_recorded_only()) {
            for wrong in [FailBefore, LoseAnswer, LoseRequest, Twice, Half, ProbeFails, Hang] {
                let bench = Bench::new(&sample::shop(), mode);
                bench.world.script(step.id.as_str(), &[wrong]);
                let outcome = bench.run(Arc::new(NoFaults)).await.unwrap();
                assert_eq!(outcome, expected, "{}: {wrong:?}", step.id);
                bench.check().await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_ever_is_rolled_back_before_the_point_and_halts_behind_it() {
    let plan = Bench::new(&sample::shop(), Mode::Incident).plan;
    let point = plan.way_back_until().unwrap() - 1;
    for (at, step) in plan.steps.iter().enumerate() {
        if step.kind.is_recorded_only() || step.is_optional {
            continue;
        }
        for on_failure in [OnFailure::StayShut, OnFailure::ReopenOld] {
            let mut service = sample::shop();
            service.policy = Policy { on_failure, ..Policy::default() };
            let bench = Bench::new(&service, Mode::Incident);
            bench.world.script(step.id.as_str(), &[Misbehaviour::FailForGood]);
            let outcome = bench.run(Arc::new(NoFaults)).await.unwrap();
            bench.check().await;
            if at > point {
                assert!(
                    matches!(outcome.ended, Ended::Waiting(Awaited::Decision { .. })),
                    "{}: {outcome:?}",
                    step.id
                );
                assert_eq!(outcome.world.setting, "/srv/pg/shop-20261126T050000Z");
                continue;
            }
            // Where nothing was shut yet, half of it is taken back whatever the policy.
            let begun = plan.steps.iter().take(at).any(|step| step.kind == StepKind::ShutDoor);
            let service = match (on_failure, begun) {
                (OnFailure::StayShut, true) => ServiceState::Shut,
                _ => ServiceState::Old,
            };
            assert_eq!(outcome.ended, closed(Verdict::RolledBack, service), "{}", step.id);
            // Whatever the policy: what the run made is gone, and the setting is the old one.
            assert!(outcome.world.made.is_empty(), "{}: {outcome:?}", step.id);
            assert_eq!(outcome.world.setting, "old", "{}", step.id);
            let reopened = !outcome.world.is_door_shut
                && !outcome.world.is_fenced
                && outcome.world.stopped.is_empty();
            assert_eq!(reopened, service == ServiceState::Old, "{}: {outcome:?}", step.id);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fallback_to_the_same_target_goes_by_itself_and_one_that_loses_more_asks() {
    // The first candidate is bad: the second reaches the same target.
    let bench = Bench::new(&sample::shop(), Mode::Incident);
    bench.world.script("restore.cluster.shop", &[Misbehaviour::BadData]);
    let outcome = bench.run(Arc::new(NoFaults)).await.unwrap();
    assert_eq!(outcome.ended, closed(Verdict::Restored, ServiceState::New));
    assert_eq!(bench.state().await.candidate, 1);
    assert!(bench.world.told().iter().any(|told| told.contains("falling back")));
    // Both are bad: what is left loses more than the policy allows.
    let bench = Bench::new(&sample::shop(), Mode::Incident);
    bench.world.script("prove.data", &[Misbehaviour::BadData, Misbehaviour::BadData]);
    let outcome = bench.run(Arc::new(NoFaults)).await.unwrap();
    let Ended::Waiting(Awaited::Approval { gate, text, .. }) = &outcome.ended else {
        panic!("{outcome:?}");
    };
    assert_eq!(gate, "fallback.2");
    assert!(text.contains("loses"), "{text}");
    // The policy may say beforehand that this much is worth it.
    let mut service = sample::shop();
    service.policy.extra_loss = std::time::Duration::from_secs(100_000);
    let bench = Bench::new(&service, Mode::Incident);
    bench.world.script("prove.data", &[Misbehaviour::BadData, Misbehaviour::BadData]);
    let outcome = bench.run(Arc::new(NoFaults)).await.unwrap();
    assert_eq!(outcome.ended, closed(Verdict::Restored, ServiceState::New));
    assert_eq!(bench.state().await.candidate, 2);
}

#[tokio::test(start_paused = true)]
async fn work_of_users_is_never_rolled_back_by_itself() {
    let mut service = sample::shop();
    service.door = None;
    let bench = Bench::new(&service, Mode::Incident);
    bench.world.script("start.smoke.1", &[Misbehaviour::FailForGood]);
    bench.world.write_foreign(3);
    let outcome = bench.run(Arc::new(NoFaults)).await.unwrap();
    let Ended::Waiting(Awaited::Decision { reason }) = &outcome.ended else {
        panic!("{outcome:?}");
    };
    assert!(reason.contains("3 transactions"), "{reason}");
    assert_ne!(outcome.world.setting, "old");
}

#[tokio::test(start_paused = true)]
async fn a_strangers_directory_is_left_alone() {
    let bench = Bench::new(&sample::shop(), Mode::Incident);
    bench.world.put_stranger("/srv/pg/shop-20261126T050000Z");
    let outcome = bench.run(Arc::new(NoFaults)).await.unwrap();
    assert_eq!(outcome.ended, closed(Verdict::RolledBack, ServiceState::Shut));
    assert_eq!(outcome.world.made, ["/srv/pg/shop-20261126T050000Z"]);
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_fails_for_good_is_told() {
    use Misbehaviour::{FailForGood, UndoFails};
    let bench = Bench::new(&sample::shop(), Mode::Incident);
    bench.world.script("start.smoke.1", &[FailForGood]);
    bench.world.script("switch.setting", &[UndoFails; 5]);
    let outcome = bench.run(Arc::new(NoFaults)).await.unwrap();
    assert_eq!(outcome.ended, closed(Verdict::RolledBackWithErrors, ServiceState::Shut));
    // What the setting still points to is not removed, and what kept users out still does.
    assert_eq!(outcome.world.made, [outcome.world.setting]);
    assert!(outcome.world.is_door_shut && outcome.world.is_fenced);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_down_does_not_stop_the_run() {
    let bench = Bench::new(&sample::shop(), Mode::Incident);
    bench.world.silence("pager", true);
    let outcome = bench.run(Arc::new(NoFaults)).await.unwrap();
    assert_eq!(outcome.ended, closed(Verdict::Restored, ServiceState::New));
    assert!(!bench.state().await.untold.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_was_down_hears_late_what_it_missed() {
    let bench = Bench::new(&sample::shop(), Mode::Incident);
    bench.world.script("start.smoke.1", &[Misbehaviour::FailForGood]);
    bench.world.silence("pager", true);
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(100));
    let ended = async {
        while bench.world.is_silent("pager") {
            tick.tick().await;
            let loaded = bench.home.load(crate::bench::RUN).await;
            let is_over = loaded
                .is_ok_and(|it| it.records.iter().any(|record| record.entry.kind() == "closed"));
            bench.world.silence("pager", !is_over);
        }
    };
    let (outcome, ()) = tokio::join!(bench.run(Arc::new(NoFaults)), ended);
    assert_eq!(outcome.unwrap().ended, closed(Verdict::RolledBack, ServiceState::Shut));
    assert_eq!(bench.state().await.untold, []);
    let mut told = bench.world.told();
    told.retain(|said| said.starts_with("pager: "));
    for (what, text) in [
        ("recovery begun", "recovery of shop to "),
        ("rolling back", "step start.smoke.1 failed"),
        ("rolled_back", "rolled_back; service: shut; step start.smoke.1 failed"),
    ] {
        let begin = format!("pager: {what}: told late, the run is over: {text}");
        let heard = told.iter().filter(|said| said.starts_with(&begin)).count();
        assert_eq!(heard, 1, "{begin}: {told:#?}");
    }
    assert_eq!(told.len(), 3, "once each, and not late of being late: {told:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_drill_leaves_nothing_and_walks_the_way_back() {
    let bench = Bench::new(&sample::shop(), Mode::Drill);
    let before = bench.world.snapshot();
    let outcome = bench.run(Arc::new(NoFaults)).await.unwrap();
    assert_eq!(outcome.ended, closed(Verdict::Restored, ServiceState::Old));
    let after = bench.world.snapshot();
    assert_eq!(after.made, before.made);
    assert_eq!(after.setting, before.setting);
    assert!(!after.is_door_shut && !after.is_fenced);
    let state = bench.state().await;
    assert!(matches!(state.phase, Phase::Closed { .. }));
}

#[test]
fn every_step_that_touches_something_says_how_it_is_undone_or_why_not() {
    for mode in [Mode::Incident, Mode::Drill, Mode::Copy] {
        let plan = sample::plan(&sample::shop(), mode, &sample::inventory()).unwrap();
        for step in &plan.steps {
            assert!(!step.effect.is_empty() && !step.undo.is_empty(), "{}", step.id);
            assert_eq!(
                step.class == Class::Undoable,
                step.undo_when != UndoWhen::Never && step.class != Class::Own,
                "{}",
                step.id
            );
        }
    }
}
