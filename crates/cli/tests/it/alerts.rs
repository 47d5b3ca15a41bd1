//! From the alert to the verdict: incidents, and what is seen of a real server.

use std::fs;

use testbed::postgres::Stop;

use crate::program::text;
use crate::shop::Shop;

#[test]
fn an_alert_is_one_incident_however_often_it_comes() {
    let shop = Shop::open(17);
    let site = &shop.site;
    let alert =
        "{\"summary\": \"orders are gone\", \"started_at\": \"2026-11-20T14:31:06Z\", \"x\": 1}";
    fs::write(shop.path("alert.json"), alert).unwrap();
    testbed::give_to_postgres(&shop.path("alert.json"));
    let words =
        format!("incident open shop --from {} --as pager", shop.path("alert.json").display());
    let opened = site.run(&words).done();
    let id = text(&opened, "incident");
    assert_eq!(opened["new"], true);
    let again = site.run(&words).done();
    assert_eq!((text(&again, "incident"), &again["new"]), (id.clone(), &false.into()));
    site.run(&format!("incident ack {id} --as oncall")).done();
    let listed = site.run("incident list").done();
    assert_eq!(listed["incidents"].as_array().unwrap().len(), 1);
    assert_eq!(text(&listed, "incidents.0.summary"), "orders are gone");
    assert_eq!(text(&listed, "incidents.0.started"), "2026-11-20T14:31:06Z");
    let shown = site.run(&format!("incident show {id}")).done();
    let kinds: Vec<String> = shown["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| format!("{} by {}", text(entry, "kind"), text(entry, "by")))
        .collect();
    assert_eq!(
        (kinds[0].as_str(), kinds.last().unwrap().as_str()),
        ("open by pager", "ack by oncall")
    );
    // A recovery belongs to the incident that is open.
    shop.destroy();
    let report = shop.recover("--confirm-any").done();
    assert_eq!(text(&report, "incident"), id);
    site.run(&format!("incident close {id} --as oncall")).done();
    assert_eq!(text(&site.run("incident list").done(), "incidents.0.state"), "closed");
    site.run("incident show shop-0000-none").failed("RF1007", 2);
}

#[test]
fn a_diagnosis_says_what_it_saw_of_a_running_and_of_a_stopped_server() {
    let mut shop = Shop::open(16);
    let healthy = shop.site.run("diagnose shop").done();
    assert_eq!(text(&healthy, "condition"), "healthy");
    // Its own collector's file is read where there is one.
    let data = shop.site.cluster.data_dir().to_owned();
    fs::create_dir(data.join("log")).unwrap();
    let line = "ERROR:  invalid page in block 7 of relation base/16384/16397";
    fs::write(data.join("log/postgresql-Thu.log"), format!("LOG:  ready\n{line}\n")).unwrap();
    fs::write(data.join("current_logfiles"), "stderr log/postgresql-Thu.log\n").unwrap();
    let damaged = shop.site.run("diagnose shop").ended(3);
    assert_eq!(text(&damaged, "condition"), "damaged");
    assert!(damaged["evidence"].to_string().contains("invalid page in block 7"), "{damaged}");
    shop.site.cluster.stop(Stop::Immediate);
    let down = shop.site.run("diagnose shop").ended(3);
    assert_ne!(text(&down, "condition"), "healthy");
    let says: Vec<String> = down["evidence"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| format!("{}: {}", text(line, "what"), text(line, "seen")))
        .collect();
    assert!(says.iter().any(|line| line.starts_with("server process: ")), "{says:?}");
}
