//! The crash matrix: a driver dies before and after everything that counts, in every plan of the
//! bench, and another one goes on, here or elsewhere. The world and the verdict are those of the
//! run that nothing disturbed.

use std::sync::Arc;

use recovery::plan::Mode;
use recovery::runner::{Before, RunError};
use recovery::service::{Files, OnFailure, Policy, Service};
use recovery::testing::{Misbehaviour, sample};

use crate::bench::{Bench, Nth};

/// A plan and what goes wrong in it.
struct Case {
    name: &'static str,
    service: Service,
    mode: Mode,
    wrong: &'static [(&'static str, &'static [Misbehaviour])],
}

fn case(
    name: &'static str,
    mode: Mode,
    change: impl FnOnce(&mut Service),
    wrong: &'static [(&'static str, &'static [Misbehaviour])],
) -> Case {
    let mut service = sample::shop();
    change(&mut service);
    Case { name, service, mode, wrong }
}

fn reopening(service: &mut Service) {
    service.policy = Policy { on_failure: OnFailure::ReopenOld, ..Policy::default() };
}

fn with_files(service: &mut Service) {
    service.files = vec![Files {
        bucket: "s3://shop-files".into(),
        keys_sql: "SELECT name FROM files".into(),
        copy: Some("s3://shop-files-copy".into()),
        ..Files::default()
    }];
}

fn cases() -> Vec<Case> {
    use Misbehaviour::{BadData, FailForGood, Half, UndoFails};
    let same = |_: &mut Service| {};
    vec![
        case("incident", Mode::Incident, same, &[]),
        case("without a door", Mode::Incident, |service| service.door = None, &[]),
        case("drill", Mode::Drill, same, &[]),
        case("copy", Mode::Copy, same, &[]),
        case("files are missing", Mode::Incident, with_files, &[]),
        case(
            "files cannot be copied back",
            Mode::Incident,
            |service| {
                reopening(service);
                with_files(service);
            },
            &[("prove.copy-files.s3-//shop-files", &[FailForGood])],
        ),
        case(
            "the smoke test fails, stay shut",
            Mode::Incident,
            same,
            &[("start.smoke.1", &[FailForGood])],
        ),
        case(
            "the smoke test fails, reopen",
            Mode::Incident,
            reopening,
            &[("start.smoke.1", &[FailForGood]), ("switch.setting", &[UndoFails])],
        ),
        case(
            "without a door the smoke test fails, nobody wrote",
            Mode::Incident,
            |service| service.door = None,
            &[("start.smoke.1", &[FailForGood])],
        ),
        case("the newest backup is bad", Mode::Incident, same, &[("prove.data", &[BadData])]),
        case("a half-made restore", Mode::Incident, same, &[("restore.cluster.shop", &[Half])]),
        case(
            "adopting fails behind the point of no return",
            Mode::Incident,
            same,
            &[("protect.adopt.shop", &[FailForGood])],
        ),
        case(
            "a drill whose smoke test fails",
            Mode::Drill,
            same,
            &[("start.smoke.1", &[FailForGood])],
        ),
        case(
            "salvage fails",
            Mode::Incident,
            reopening,
            &[("secure.salvage.shop", &[FailForGood])],
        ),
    ]
}

impl Case {
    fn bench(&self) -> Bench {
        let bench = Bench::new(&self.service, self.mode);
        for (step, misbehaviours) in self.wrong {
            bench.world.script(step, misbehaviours);
        }
        bench
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_kills_the_driver_another_one_ends_where_it_would_have() {
    let mut killed = 0;
    for case in cases() {
        let undisturbed = Arc::new(Nth::default());
        let bench = case.bench();
        let expected = bench.run(undisturbed.clone()).await.unwrap();
        bench.check().await;
        let points = undisturbed.names.lock().unwrap().clone();
        assert!(points.len() > 20, "{}: {points:?}", case.name);
        for (number, point) in points.iter().enumerate() {
            for before in [Before::Dead, Before::Unknown] {
                let bench = case.bench();
                let died = bench.run(Arc::new(Nth::at(number))).await;
                assert!(matches!(died, Err(RunError::Died(_))), "{}: {point}: {died:?}", case.name);
                let outcome = bench.go_on(before).await.unwrap();
                assert_eq!(outcome, expected, "{}: {point}, {before:?}", case.name);
                bench.check().await;
                killed += 1;
            }
        }
    }
    assert!(killed > 1000, "{killed}");
    eprintln!("killed and gone on with: {killed}");
}

#[tokio::test(start_paused = true)]
async fn dying_again_and_again_changes_nothing() {
    for case in cases() {
        let expected = case.bench().run(Arc::new(Nth::default())).await.unwrap();
        let bench = case.bench();
        let driver = bench.driver(Arc::new(Nth::at(3)));
        let mut loaded = bench.begin(&driver).await;
        let mut driver = driver;
        let mut lives = 0;
        let ended = loop {
            match recovery::runner::drive(&driver, &loaded).await {
                Ok((ended, _)) => break ended,
                Err(RunError::Died(_)) => {}
                Err(error) => panic!("{}: {error}", case.name),
            }
            lives += 1;
            // Every driver lives a little longer than the one before.
            driver = bench.driver(Arc::new(Nth::at(4 + lives % 5)));
            let taken =
                recovery::runner::take_over(&mut driver, crate::bench::RUN, Before::Dead, "a", "b");
            loaded = taken.await.unwrap();
            assert!(lives < 500, "{}: it gets nowhere", case.name);
        };
        assert_eq!(ended, expected.ended, "{}", case.name);
        assert_eq!(bench.world.snapshot(), expected.world, "{}", case.name);
        bench.check().await;
    }
}
