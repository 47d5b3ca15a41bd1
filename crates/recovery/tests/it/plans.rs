//! Plans: the same input gives the same plan, stored and read back; drills touch nothing.

use recovery::inventory::{Inventory, ServerFact};
use recovery::method::{Method, Wish};
use recovery::plan::{Mode, Plan, PlanDigest, Target, plan_text, runbook};
use recovery::planner::{PlanError, Request, compile};
use recovery::service::{BindingPlace, Database, Files};
use recovery::testing::sample;

#[test]
fn a_plan_is_read_back_as_it_was_written_and_its_digest_means_it() {
    for mode in [Mode::Incident, Mode::Drill, Mode::Copy] {
        let mut plan = sample::plan(&sample::shop(), mode, &sample::inventory()).unwrap();
        let again = sample::plan(&sample::shop(), mode, &sample::inventory()).unwrap();
        assert_eq!(PlanDigest::of(&plan), PlanDigest::of(&again));
        let read = Plan::from_value(&plan.to_value()).unwrap();
        assert_eq!(read, plan);
        let mut other = plan.clone();
        other.steps[0].predicted_s += 1;
        assert_ne!(PlanDigest::of(&plan), PlanDigest::of(&other));
        plan.site = Some("dr".into());
        assert_eq!(Plan::from_value(&plan.to_value()).unwrap(), plan);
        assert_ne!(PlanDigest::of(&plan), PlanDigest::of(&again));
    }
}

#[test]
fn a_drill_that_would_touch_production_is_refused() {
    type Change = fn(&mut recovery::service::Service);
    let cases: [(&str, Change); 6] = [
        ("setting", |service| {
            service.drill.as_mut().unwrap().setting = service.setting.clone();
        }),
        ("writer", |service| {
            service.drill.as_mut().unwrap().writers = service.writers.clone();
        }),
        ("smoke test", |service| service.drill.as_mut().unwrap().smoke = service.smoke.clone()),
        ("restores into", |service| {
            let Database::Cluster(place) = &service.database else { panic!() };
            let path = format!("{}/drill", place.cluster.data_directory);
            service.drill.as_mut().unwrap().database = BindingPlace::Directory(path);
        }),
        ("its files are in", |service| {
            let at = |bucket: &str, copy: Option<&str>| {
                let (bucket, copy) = (bucket.to_owned(), copy.map(str::to_owned));
                vec![Files { bucket, copy, keys_sql: "SELECT 1".into(), ..Files::default() }]
            };
            service.files = at("s3://files", Some("s3://copy?region=x"));
            service.drill.as_mut().unwrap().files = at("s3://copy/drill", Some("s3://files"));
        }),
        ("no drill", |service| service.drill = None),
    ];
    for (what, change) in cases {
        let mut service = sample::shop();
        change(&mut service);
        let error = sample::plan(&service, Mode::Drill, &sample::inventory()).unwrap_err();
        let refused =
            matches!(error, PlanError::TouchesProduction { .. } | PlanError::Undeclared { .. });
        assert!(refused && error.to_string().contains(what), "{what}: {error}");
        assert!(!error.hint().is_empty());
    }
}

#[test]
fn a_service_that_is_not_ready_gets_no_plan() {
    let mut inventory = sample::inventory();
    inventory.problems = vec!["the setting points to another database".into()];
    let error = sample::plan(&sample::shop(), Mode::Incident, &inventory).unwrap_err();
    assert!(error.to_string().contains("points to another database"), "{error}");
    let mut inventory = sample::inventory();
    inventory.backups.clear();
    let error = sample::plan(&sample::shop(), Mode::Incident, &inventory).unwrap_err();
    assert!(error.to_string().contains("no valid backup"), "{error}");
}

#[test]
fn the_runbook_can_be_followed_by_hand() {
    let plan = sample::plan(&sample::shop(), Mode::Incident, &sample::inventory()).unwrap();
    let text = runbook(&plan);
    for step in &plan.steps {
        assert!(text.contains(&format!("`{}`", step.id)), "{}", step.id);
        if let Some(command) = &step.command {
            for line in command.lines() {
                assert!(text.contains(&format!("$ {line}\n")), "{command}");
            }
        }
    }
    assert!(text.contains(
        "rollforward restore shop --to /srv/pg/shop-20261126T050000Z --before 0/29C692D0"
    ));
}

#[test]
fn the_plan_of_the_shop() {
    let plan = sample::plan(&sample::shop(), Mode::Incident, &sample::inventory()).unwrap();
    insta::assert_snapshot!("shop-incident", plan_text(&plan));
    insta::assert_snapshot!("shop-runbook", runbook(&plan));
    let drill = sample::plan(&sample::shop(), Mode::Drill, &sample::inventory()).unwrap();
    insta::assert_snapshot!("shop-drill", plan_text(&drill));
}

#[test]
fn the_runbook_of_a_dump_restores_it_beside_and_renames() {
    let plan = sample::dump_plan(&sample::shop(), Mode::Incident, &sample::with_dumps()).unwrap();
    insta::assert_snapshot!("dump-runbook", runbook(&plan));
}

#[test]
fn a_dump_that_cannot_be_restored_beside_is_refused_with_the_next_moves() {
    type Change = fn(&mut Inventory);
    let label = "20261118T020000Z-new2";
    let cases: [(Mode, Change, &str, &str); 6] = [
        (
            Mode::Incident,
            |it| it.server = ServerFact::Fails("connection refused".into()),
            "connection refused",
            "initdb",
        ),
        (Mode::Incident, |it| it.server = ServerFact::NoDatabase, "has no database", "--create"),
        (Mode::Incident, |it| it.is_site_lost = true, "its site is lost", "initdb"),
        (Mode::Incident, |it| drop(it.dumps.remove(0)), "has no dump", "rollforward dump list"),
        (
            Mode::Drill,
            |it| {
                it.server = ServerFact::Ready { size: 1 << 30, free: 1 << 30, slots: Vec::new() };
            },
            "1.0 GiB are free",
            "make room",
        ),
        (Mode::Incident, |_| {}, "is not trusted", "initdb"),
    ];
    for (mode, change, what, hint) in cases {
        let mut inventory = sample::with_dumps();
        change(&mut inventory);
        let request = Request {
            mode,
            wish: Wish { target: Some(Target::Dump(label.into())), ..Wish::default() },
            binary: "0.1.0".into(),
            persons: Default::default(),
            is_breach: what == "is not trusted",
        };
        let wish = Wish { method: Some(Method::Dump), ..request.wish.clone() };
        let error = compile(&sample::shop(), &Request { wish, ..request }, &inventory).unwrap_err();
        assert!(error.to_string().contains(what), "{what}: {error}");
        assert!(error.hint().contains(hint), "{what}: {}", error.hint());
    }
}

#[test]
fn what_a_dump_costs_stands_in_the_warnings() {
    let mut inventory = sample::with_dumps();
    inventory.server =
        ServerFact::Ready { size: 8 << 30, free: 5 << 30, slots: vec!["warehouse".into()] };
    let plan = sample::dump_plan(&sample::shop(), Mode::Incident, &inventory).unwrap();
    let warnings = plan.warnings.join("\n");
    for expected in [
        "written after 2026-11-18",
        "about 8.0 GiB beside the old one, 5.0 GiB are free",
        "'warehouse' stays with the old database",
    ] {
        assert!(warnings.contains(expected), "{expected}: {warnings}");
    }
}

#[test]
fn a_dump_among_the_alternatives_has_its_own_time_and_loss() {
    let mut inventory = sample::with_dumps();
    let dump = |inventory: &Inventory| {
        let plan = sample::plan(&sample::shop(), Mode::Incident, inventory).unwrap();
        assert_eq!(plan.method, "pitr");
        plan.alternatives.into_iter().find(|way| way.method == "dump").unwrap()
    };
    let small = dump(&inventory);
    // From the dump to the damage.
    assert_eq!(small.loss_s, Some(8 * 86_400 - 60));
    inventory.dumps[0].size *= 10;
    let large = dump(&inventory);
    let more = large.rto_s.unwrap() - small.rto_s.unwrap();
    let expected = (27 << 30) / inventory.speeds.load;
    assert!(more.abs_diff(expected) <= 1, "{more} {expected}: {small:?} {large:?}");
    inventory.server = ServerFact::Fails("connection refused".into());
    let none = dump(&inventory);
    assert_eq!((none.rto_s, none.what.as_str()), (None, "not possible"));
    assert!(none.reason.contains("connection refused"), "{}", none.reason);
}
