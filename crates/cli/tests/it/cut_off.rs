//! A site that nobody reaches any more: its service goes on at the standby site, and later back.

use serde_json::{Value, json};
use testbed::poll;
use testbed::postgres::{Cluster, Stop};

use crate::program::text;
use crate::services::verdict;
use crate::site::{DEADLINE, archive};
use crate::suite::{APPLICATIONS, PASSWORD, Suite};

/// The recovery at a site, from its confirmation to its end.
fn recovered(run: impl Fn(&str) -> crate::program::Ran, site: &str) -> Value {
    let recover =
        format!("recover suite --site {site} --latest --as oncall --confirm-any --no-wait");
    let id = text(&run(&recover).ended(5), "run");
    run(&format!("run approve {id} --as oncall")).done();
    let report = run(&format!("run resume {id} --as oncall --no-wait")).done();
    assert_eq!(verdict(&report), ("restored".into(), "new".into()), "{report}");
    assert_eq!(report["method"], "cross-region");
    assert_eq!(report["missed"], json!([]), "{report}");
    assert!(!report.to_string().contains(PASSWORD));
    println!("{site}: RPO {} ms, RTO {} ms", report["rpo_reached_ms"], report["rto_ms"]);
    report
}

fn server(suite: &Suite, report: &Value) -> Cluster {
    let port = report["facts"]["port"].as_str().unwrap().parse().unwrap();
    let directory = text(report, "facts.directory");
    Cluster::attach(suite.site.cluster.install(), directory.as_ref(), port)
}

#[test]
fn four_applications_go_on_elsewhere_while_their_site_is_cut_off_and_come_back_later() {
    let mut suite = Suite::open();
    for name in ["one", "two"] {
        suite.order(name);
    }
    // The file of one order got there; the other one's is on a disk only.
    suite.replicate("one");
    suite.copy("two");
    suite.site.archive();
    suite.network.cut();

    // It lives on: what is written there from now on, only it has.
    let lost = json!({ "name": "lost" }).to_string();
    assert!(suite.insider("POST", "/odoo/web/orders", &lost).is_some());
    suite.site.cluster.switch_wal();
    assert_eq!(suite.serves(), None);
    suite.reach();
    drilled(&suite);
    let report = std::thread::scope(|scope| {
        // Who is cut off waits for the others no longer than a person would, and is told of it.
        scope.spawn(|| {
            let plan = suite.first("plan suite --latest").done();
            let warnings = plan["plan"]["warnings"].to_string();
            assert!(warnings.contains("repository 'second' does not answer"), "{warnings}");
        });
        recovered(|words| suite.at_standby(words), "dr")
    });
    assert_eq!(suite.serves().as_deref(), Some("standby"));
    assert_eq!(suite.orders(), ["one", "two"]);
    assert_eq!(suite.second.text("files/filestore/two").as_deref(), Some("the file of two"));
    for (role, _) in APPLICATIONS.into_iter().chain([("storage", "")]) {
        assert_eq!(suite.replicas(role), 1, "{role}");
    }
    suite.order("three");
    assert_eq!(suite.at_standby("verify shop --deep").done()["findings"], json!([]));
    assert!(suite.insider("GET", "/odoo/web/orders", "").is_some(), "the first site lives on");

    // The wire is mended: what the first site has in stock for the offsite repository is refused.
    suite.network.mend();
    poll(DEADLINE, "the refusal", || suite.site.cluster.log_text().contains("error[RF0109]"));
    let refused = suite.first("backup shop").failed("RF0602", 4);
    assert!(refused.contains("production is on timeline 2"), "{refused}");
    assert_eq!(suite.at_standby("verify shop --deep").done()["findings"], json!([]));

    way_back(&mut suite, &report);
}

/// The standby is tried while nobody reaches the first site, and is as it was afterwards.
fn drilled(suite: &Suite) {
    let report = suite.at_standby("drill suite --site dr --as oncall").done();
    assert_eq!(verdict(&report), ("restored".into(), "old".into()), "{report}");
    println!("drill: RPO {} ms, RTO {} ms", report["rpo_reached_ms"], report["rto_ms"]);
    for (role, _) in APPLICATIONS.into_iter().chain([("storage", "")]) {
        assert_eq!(suite.replicas(role), 0, "{role}");
    }
    let left = std::fs::read_dir(suite.standby.join("databases")).unwrap().count();
    assert_eq!((left, suite.serves()), (0, None));
}

/// Back to the first site: nothing is lost on the way.
fn way_back(suite: &mut Suite, report: &Value) {
    suite.stop_first();
    suite.stop_standby();
    let mut standby = server(suite, report);
    archive(&standby);
    standby.stop(Stop::Fast);
    let report = recovered(|words| suite.first(words), "home");
    poll(DEADLINE, "users at the first site", || suite.serves().as_deref() == Some("first"));
    assert_eq!(suite.orders(), ["one", "two", "three"]);
    suite.order("four");
    assert!(suite.site.cluster.data_dir().exists(), "what only the first site had is kept");
    let server = server(suite, &report);
    archive(&server);
    assert_eq!(suite.first("verify shop --deep").done()["findings"], json!([]));
}
