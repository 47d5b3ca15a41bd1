//! Golden plans: the five services of the requirements, and the five methods.

use recovery::inventory::Inventory;
use recovery::method::{Method, Wish};
use recovery::plan::{Mode, Plan, Target, plan_text};
use recovery::planner::{Request, compile};
use recovery::service::{Persons, Service};
use recovery::testing::{five, sample};

fn plan(service: &Service, wish: Wish, inventory: &Inventory) -> Plan {
    let persons = Persons::new();
    let request =
        Request { mode: Mode::Incident, wish, binary: "0.1.0".into(), persons, is_breach: false };
    compile(service, &request, inventory).unwrap_or_else(|error| panic!("{error}"))
}

fn before() -> Wish {
    Wish { before_incident: true, ..Wish::default() }
}

#[test]
fn each_of_the_five_services_has_its_plan() {
    let ours = sample::inventory();
    let managed = five::instance();
    let mut lost = ours.clone();
    lost.is_site_lost = true;
    let cases: [(&str, Service, &Inventory); 6] = [
        ("T-tms", five::tms(), &managed),
        ("V-web", five::web(), &managed),
        ("X-engine", five::engine(), &ours),
        ("O-odoo", five::odoo(), &ours),
        ("O-odoo-site-lost", five::odoo().at_site("dr").unwrap(), &lost),
        ("G-gateway", five::gateway(), &managed),
    ];
    for (name, service, inventory) in cases {
        let plan = plan(&service, before(), inventory);
        assert_eq!(Plan::from_value(&plan.to_value()).unwrap(), plan, "{name}");
        insta::assert_snapshot!(name, plan_text(&plan));
    }
}

#[test]
fn each_of_the_five_methods_is_chosen_where_the_decision_tree_says() {
    let known = five::instance();
    let mut unknown = five::instance();
    unknown.damage = None;
    let mut lost = five::instance();
    lost.is_site_lost = true;
    let old = Target::Time("2026-11-05T00:00:00Z".into());
    let named = |target: Target| Wish { target: Some(target), ..Wish::default() };
    let cases = [
        (Method::Pitr, before(), &known),
        (Method::AutomatedSnapshot, Wish::default(), &unknown),
        (Method::ManualSnapshot, named(Target::Snapshot("before-migration-42".into())), &known),
        (Method::Dump, named(old), &known),
        (Method::CrossRegion, before(), &lost),
    ];
    for (method, wish, inventory) in cases {
        let plan = plan(&five::tms(), wish, inventory);
        assert_eq!(plan.method, method.text());
        assert_eq!(plan.alternatives.len(), Method::ALL.len(), "every method is weighed");
        assert_eq!(plan.alternatives.iter().filter(|way| way.is_chosen).count(), 1);
        insta::assert_snapshot!(format!("method-{}", method.text()), plan_text(&plan));
    }
}

#[test]
fn a_dump_of_a_cluster_of_ours_is_restored_beside_its_database() {
    let inventory = sample::with_dumps();
    for (name, mode) in [("dump-of-ours", Mode::Incident), ("drill-of-a-dump", Mode::Drill)] {
        let plan = sample::dump_plan(&sample::shop(), mode, &inventory).unwrap();
        assert_eq!(Plan::from_value(&plan.to_value()).unwrap(), plan, "{name}");
        insta::assert_snapshot!(name, plan_text(&plan));
    }
}
