//! The crash matrix: a driver dies before and after everything that counts, in every plan of the
//! bench, and another one goes on, here or elsewhere. The world and the verdict are those of the
//! run that nothing disturbed.

use std::sync::Arc;
use std::time::Duration;

use recovery::inventory::{Inventory, KubernetesFact, PauseFact, Probe};
use recovery::method::Wish;
use recovery::plan::{Mode, Plan, StepKind, Target};
use recovery::planner::{Request, compile};
use recovery::runner::{Before, RunError};
use recovery::service::{Breach, Database, Files, Network, OnFailure, Persons, Policy, Service};
use recovery::testing::{Misbehaviour, five, sample};

use crate::bench::{Bench, Nth};

/// A plan and what goes wrong in it.
struct Case {
    name: &'static str,
    service: Service,
    inventory: Inventory,
    mode: Mode,
    wrong: Wrong,
}

type Wrong = &'static [(&'static str, &'static [Misbehaviour])];

fn case(name: &'static str, mode: Mode, change: impl FnOnce(&mut Service), wrong: Wrong) -> Case {
    let mut service = sample::shop();
    change(&mut service);
    Case { name, service, inventory: sample::inventory(), mode, wrong }
}

/// A service in Kubernetes, over the network, with something that would undo the steps.
fn in_kubernetes(name: &'static str, mode: Mode, wrong: Wrong) -> Case {
    let mut inventory = sample::inventory();
    let fact = KubernetesFact { uid: "7c0e".into(), context: "prod".into() };
    let pause = PauseFact {
        context: "prod".into(),
        manager: "flux-kustomization",
        object: "flux-system/apps".into(),
        of: "Deployment engine/api".into(),
        owns_setting: false,
    };
    let probe = Probe {
        namespace: "engine".into(),
        image: "postgres:16".into(),
        command: vec!["pg_isready".into(), "-h".into(), "{host}".into()],
    };
    inventory.kubernetes.clusters.insert("prod".into(), fact);
    inventory.kubernetes.pauses.push(pause);
    inventory.kubernetes.probes.insert("prod".into(), probe);
    let mut service = five::engine();
    let network = Network {
        address: "db1.acme.example".into(),
        listen: "*".into(),
        clients: vec!["10.0.0.0/8".into()],
        databases: Vec::new(),
    };
    if let Database::Cluster(place) = &mut service.database {
        place.network = Some(Box::new(network));
    }
    here(&mut service);
    Case { name, service, inventory, mode, wrong }
}

/// The standby site of a service whose own site is lost, for real or as a drill.
fn at_a_site(name: &'static str, mode: Mode, wrong: Wrong) -> Case {
    let inventory = Inventory { is_site_lost: true, ..sample::inventory() };
    let odoo = five::odoo();
    let placed = match mode {
        Mode::Incident => odoo.at_site("dr"),
        Mode::Drill | Mode::Copy => odoo.drilled_at("dr"),
    };
    let mut service = placed.unwrap();
    // Persons say their part in tests of their own.
    service.checklist.clear();
    here(&mut service);
    Case { name, service, inventory, mode, wrong }
}

/// The bench has one host.
fn here(service: &mut Service) {
    if let Database::Cluster(place) = &mut service.database {
        place.restore_host = None;
        place.cluster.host = None;
    }
}

/// Somebody has broken in.
fn after_a_breach(name: &'static str, wrong: Wrong) -> Case {
    let mut service = sample::shop();
    reopening(&mut service);
    service.breach = Some(Breach {
        tell: vec!["legal".into()],
        roles: [("shop".to_owned(), "file:/etc/shop.new".to_owned())].into(),
        commands: vec![vec!["rotate-tokens".into()]],
    });
    let (inventory, mode) = (sample::inventory(), Mode::Incident);
    Case { name, service, inventory, mode, wrong }
}

/// What no WAL reaches comes from a dump, beside the database on the server that runs.
fn of_a_dump(
    name: &'static str,
    mode: Mode,
    change: impl FnOnce(&mut Service),
    wrong: Wrong,
) -> Case {
    Case { inventory: sample::with_dumps(), ..case(name, mode, change, wrong) }
}

fn cases_of_dumps() -> Vec<Case> {
    use Misbehaviour::{BadData, FailForGood, Half, UndoFails};
    let same = |_: &mut Service| {};
    vec![
        of_a_dump("a dump", Mode::Incident, same, &[]),
        of_a_dump("a dump, without a door", Mode::Incident, |service| service.door = None, &[]),
        of_a_dump("a drill of a dump", Mode::Drill, same, &[]),
        of_a_dump(
            "a drill of a dump whose checks fail",
            Mode::Drill,
            same,
            &[("prove.sql", &[FailForGood])],
        ),
        of_a_dump(
            "a dump, the smoke test fails, reopen",
            Mode::Incident,
            reopening,
            &[("start.smoke.1", &[FailForGood]), ("switch.database.shop", &[UndoFails])],
        ),
        of_a_dump(
            "a dump, the smoke test fails, stay shut",
            Mode::Incident,
            same,
            &[("start.smoke.1", &[FailForGood])],
        ),
        of_a_dump(
            "a dump that is damaged, an older one is taken",
            Mode::Incident,
            |service| service.policy.extra_loss = Duration::from_secs(60 * 86_400),
            &[("prove.data", &[BadData])],
        ),
        of_a_dump(
            "half a dump",
            Mode::Incident,
            same,
            &[("restore.dump.20261118T020000Z-new2", &[Half])],
        ),
    ]
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
            "traffic is led elsewhere",
            Mode::Incident,
            |service| service.traffic = five::odoo().sites["dr"].traffic.clone(),
            &[],
        ),
        case(
            "traffic cannot be led elsewhere",
            Mode::Incident,
            |service| service.traffic = five::odoo().sites["dr"].traffic.clone(),
            &[("open.traffic.odoo-acme-example", &[FailForGood])],
        ),
        case(
            "salvage fails",
            Mode::Incident,
            reopening,
            &[("secure.salvage.shop", &[FailForGood])],
        ),
    ]
}

fn cases_elsewhere() -> Vec<Case> {
    use Misbehaviour::FailForGood;
    vec![
        in_kubernetes("Kubernetes", Mode::Incident, &[]),
        in_kubernetes(
            "Kubernetes, the application fails",
            Mode::Incident,
            &[("start.smoke.1", &[FailForGood])],
        ),
        in_kubernetes(
            "Kubernetes, the database is not reached",
            Mode::Incident,
            &[("switch.reach.prod", &[FailForGood])],
        ),
        after_a_breach("a breach", &[]),
        after_a_breach("a breach, a role is missing", &[("switch.rotate.shop", &[FailForGood])]),
        at_a_site("a standby site", Mode::Incident, &[]),
        at_a_site(
            "a standby site whose applications fail",
            Mode::Incident,
            &[("start.health.odoo/odoo", &[FailForGood])],
        ),
        at_a_site("a drill of a standby site", Mode::Drill, &[]),
        at_a_site(
            "a drill of a standby site whose traffic is not led",
            Mode::Drill,
            &[("open.traffic.odoo-drill-acme-example", &[FailForGood])],
        ),
    ]
}

impl Case {
    /// Persons say their part in tests of their own.
    fn plan_of_a_breach(&self) -> Plan {
        let target = Some(Target::Before("0/29C692D0".into()));
        let request = Request {
            mode: self.mode,
            wish: Wish { target, ..Wish::default() },
            binary: "0.1.0".into(),
            persons: Persons::new(),
            is_breach: true,
        };
        let mut plan = compile(&self.service, &request, &self.inventory).unwrap();
        assert_eq!(plan.policy.on_failure, OnFailure::StayShut);
        plan.steps.retain(|step| step.kind != StepKind::Confirm);
        plan
    }

    fn bench(&self) -> Bench {
        let bench = match self.service.breach {
            None if !self.inventory.dumps.is_empty() => {
                let plan = sample::dump_plan(&self.service, self.mode, &self.inventory);
                Bench::with(plan.unwrap())
            }
            None => Bench::of(&self.service, self.mode, &self.inventory),
            Some(_) => Bench::with(self.plan_of_a_breach()),
        };
        for (step, misbehaviours) in self.wrong {
            bench.world.script(step, misbehaviours);
        }
        bench
    }
}

/// Every plan of the matrix.
fn all() -> impl Iterator<Item = Case> {
    cases().into_iter().chain(cases_elsewhere()).chain(cases_of_dumps())
}

/// Kills the drivers of every [`GROUPS`]th plan, from this one on.
async fn kill_all(group: usize) {
    let mut killed = 0;
    for case in all().skip(group).step_by(GROUPS) {
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
        eprintln!("{}: {} points", case.name, points.len());
    }
    assert!(killed > 100, "{killed}");
    eprintln!("killed and gone on with: {killed}");
}

/// The plans are dealt out to so many tests, which run beside each other.
const GROUPS: usize = 8;

mod whatever_kills_the_driver_another_one_ends_where_it_would_have {
    macro_rules! groups {
        ($($name:ident = $group:literal),*) => {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::kill_all($group).await;
            })*

            #[test]
            fn no_plan_is_left_out() {
                let all: [usize; super::GROUPS] = std::array::from_fn(|at| at);
                assert_eq!([$($group),*], all);
            }
        };
    }

    groups!(
        plans_0 = 0,
        plans_1 = 1,
        plans_2 = 2,
        plans_3 = 3,
        plans_4 = 4,
        plans_5 = 5,
        plans_6 = 6,
        plans_7 = 7
    );
}

#[tokio::test(start_paused = true)]
async fn dying_again_and_again_changes_nothing() {
    for case in all() {
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
