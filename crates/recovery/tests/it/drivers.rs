//! Two drivers, long pauses, closed lids.

use std::sync::Arc;
use std::time::Duration;

use recovery::journal::{Entry, HomeError, ServiceState, Verdict, claim, claimed_by, release};
use recovery::plan::Mode;
use recovery::runner::{Before, Ended, NoFaults, RunError, drive, take_over};
use recovery::service::Database;
use recovery::testing::{Misbehaviour, sample};

use crate::bench::{Bench, Nth, RUN};

#[tokio::test(start_paused = true)]
async fn of_two_drivers_one_stops() {
    let bench = Bench::new(&sample::shop(), Mode::Incident);
    let first = bench.driver(Arc::new(NoFaults));
    let loaded = bench.begin(&first).await;
    // The second one believes that the first is dead.
    let mut second = bench.driver(Arc::new(NoFaults));
    let taken = take_over(&mut second, RUN, Before::Dead, "b", "mistaken").await.unwrap();
    let error = drive(&first, &loaded).await.unwrap_err();
    assert!(matches!(error, RunError::Journal(HomeError::Lost { .. })), "{error}");
    assert_eq!(bench.world.acts(), 0, "the first one did nothing any more");
    let (ended, _) = drive(&second, &taken).await.unwrap();
    assert!(matches!(ended, Ended::Closed { verdict: Verdict::Restored, .. }));
    bench.check().await;
}

#[tokio::test(start_paused = true)]
async fn of_two_who_take_over_at_once_one_does() {
    let bench = Bench::new(&sample::shop(), Mode::Incident);
    let died = bench.run(Arc::new(Nth::at(30))).await;
    assert!(matches!(died, Err(RunError::Died(_))));
    let mut a = bench.driver(Arc::new(NoFaults));
    let mut b = bench.driver(Arc::new(NoFaults));
    let (first, second) = tokio::join!(
        take_over(&mut a, RUN, Before::Unknown, "a", "x"),
        take_over(&mut b, RUN, Before::Unknown, "b", "y")
    );
    let taken: Vec<bool> = [&first, &second].iter().map(|taken| taken.is_ok()).collect();
    // One is first; the other one either sees it at once, or finds it when it appends.
    assert!(taken.contains(&true), "{first:?} {second:?}");
    let mut stopped = 0;
    for (driver, taken) in [(&a, first), (&b, second)] {
        match taken {
            Ok(loaded) => match drive(driver, &loaded).await {
                Ok(_) => {}
                Err(RunError::Journal(HomeError::Lost { .. })) => stopped += 1,
                Err(error) => panic!("{error}"),
            },
            Err(RunError::Journal(HomeError::Lost { .. })) => stopped += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(stopped, 1);
    bench.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_lives_is_not_taken_over() {
    let bench = Bench::new(&sample::shop(), Mode::Incident);
    // A step that takes long: it hangs until its deadline, and the driver beats meanwhile.
    bench.world.script("secure.salvage.shop", &[Misbehaviour::Hang]);
    let driver = bench.driver(Arc::new(NoFaults));
    let loaded = bench.begin(&driver).await;
    let mut other = bench.driver(Arc::new(NoFaults));
    let (ended, taken) = tokio::join!(drive(&driver, &loaded), async {
        take_over(&mut other, RUN, Before::Unknown, "b", "impatient").await
    });
    assert!(matches!(ended.unwrap().0, Ended::Closed { verdict: Verdict::Restored, .. }));
    // It was waited for until the run was over; then there is nothing to take over.
    let records = taken.unwrap().records;
    assert!(!records.iter().any(|record| record.entry.kind() == "driver-changed"));
}

#[tokio::test(start_paused = true)]
async fn a_lid_that_was_closed_keeps_no_lease() {
    let bench = Bench::new(&sample::shop(), Mode::Incident);
    let died = bench.run(Arc::new(Nth::at(30))).await;
    assert!(matches!(died, Err(RunError::Died(_))));
    let before = bench.world.acts();
    // The machine slept for an hour; meanwhile somebody else took over.
    bench.clock.suspend(Duration::from_secs(3600));
    let mut other = bench.driver(Arc::new(NoFaults));
    let taken = take_over(&mut other, RUN, Before::Dead, "b", "asleep").await.unwrap();
    let asleep = bench.driver(Arc::new(NoFaults));
    let mut old = bench.home.load(RUN).await.unwrap();
    // What the sleeper knew: all but the change of drivers.
    old.records.pop();
    old.stored.pop();
    let mut end = recovery::journal::Appended::nothing(RUN);
    for stored in &old.stored {
        end = end.followed_by(stored);
    }
    old.end = end;
    let error = drive(&asleep, &old).await.unwrap_err();
    assert!(matches!(error, RunError::Journal(HomeError::Lost { .. })), "{error}");
    assert_eq!(bench.world.acts(), before, "the sleeper did nothing any more");
    drive(&other, &taken).await.unwrap();
    bench.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_of_which_only_its_end_is_to_be_recorded_is_ended_on_any_host() {
    let mut service = sample::shop();
    if let Database::Cluster(place) = &mut service.database {
        place.cluster.host = Some("db1".into());
    }
    let bench = || {
        let bench = Bench::new(&service, Mode::Incident);
        bench.world.script("start.smoke.1", &[Misbehaviour::FailForGood]);
        bench
    };
    let undisturbed = Arc::new(Nth::default());
    let expected = bench().run(undisturbed.clone()).await.unwrap();
    let points = undisturbed.names.lock().unwrap().clone();
    let mut seen = (0, 0);
    for (number, point) in points.iter().enumerate() {
        if !point.contains("undo") && !point.contains("closed") {
            continue;
        }
        let bench = bench();
        bench.run(Arc::new(Nth::at(number))).await.unwrap_err();
        let mut other = bench.driver(Arc::new(NoFaults));
        other.host = "elsewhere".into();
        match take_over(&mut other, RUN, Before::Dead, "b", "gone").await {
            Err(RunError::OtherHost { .. }) => seen.0 += 1,
            Ok(taken) => {
                // Nothing of what is left needs the host: it ends as it would have there.
                let (ended, _) = drive(&other, &taken).await.unwrap();
                assert_eq!(
                    (&ended, bench.world.snapshot()),
                    (&expected.ended, expected.world.clone())
                );
                seen.1 += 1;
            }
            Err(error) => panic!("{point}: {error}"),
        }
        bench.check().await;
    }
    eprintln!("refused and ended elsewhere: {seen:?}");
    assert!(seen.0 > 1 && seen.1 > 1, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn one_run_has_a_service() {
    let bench = Bench::new(&sample::shop(), Mode::Incident);
    let home = &bench.home;
    assert_eq!(claimed_by(home, "shop").await.unwrap(), None);
    claim(home, "shop", "run-1", None).await.unwrap().unwrap();
    let there = claim(home, "shop", "run-2", None).await.unwrap().unwrap_err();
    assert_eq!(there.run, "run-1");
    claim(home, "shop", "run-1", None).await.unwrap().unwrap();
    claim(home, "other", "run-2", None).await.unwrap().unwrap();
    // A run that goes on from another one takes the claim from that one only.
    claim(home, "shop", "run-3", Some("run-0")).await.unwrap().unwrap_err();
    claim(home, "shop", "run-3", Some("run-1")).await.unwrap().unwrap();
    release(home, "shop", "run-1").await.unwrap();
    assert_eq!(claimed_by(home, "shop").await.unwrap().unwrap().run, "run-3");
    release(home, "shop", "run-3").await.unwrap();
    release(home, "shop", "run-3").await.unwrap();
    assert_eq!(claimed_by(home, "shop").await.unwrap(), None);
    let racers: Vec<String> = (0..8).map(|number| format!("racer-{number}")).collect();
    let claims = racers.iter().map(|run| claim(home, "shop", run, None));
    let won: Vec<bool> =
        futures::future::join_all(claims).await.into_iter().map(|it| it.unwrap().is_ok()).collect();
    assert_eq!(won.iter().filter(|won| **won).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_objective_that_will_be_missed_is_told_early() {
    let mut plan = sample::plan(&sample::shop(), Mode::Incident, &sample::inventory()).unwrap();
    plan.objectives.rto = Duration::from_secs(90);
    let bench = Bench::with(plan);
    let outcome = bench.run(Arc::new(NoFaults)).await.unwrap();
    assert_eq!(
        outcome.ended,
        Ended::Closed { verdict: Verdict::Restored, service: ServiceState::New }
    );
    let loaded = bench.home.load(RUN).await.unwrap();
    let warned = loaded.records.iter().position(
        |record| matches!(&record.entry, Entry::Warned { text } if text.contains("will be missed")),
    );
    let shut = loaded.records.iter().position(|record| record.entry.step() == Some("shut.door"));
    assert!(warned.unwrap() < shut.unwrap(), "told before anything is shut");
    assert!(bench.world.told().iter().any(|told| told.contains("objective in danger")));
}
