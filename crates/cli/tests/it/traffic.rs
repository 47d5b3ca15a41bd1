//! Users are led to the standby site by a recovery, on real servers.

use serde_json::Value;
use testbed::{Bind, HaProxy};

use crate::program::text;
use crate::services::assert_restored;
use crate::shop::Shop;

const LINES: &str = "shop 2 IN CNAME main\nmain 60 IN A 10.1.0.1\ndr 60 IN A 10.2.0.1\n\
                     slow 3600 IN CNAME main\n";

fn tables(haproxy: &HaProxy, bind: &Bind, shop: &str, name: &str) -> String {
    format!(
        "traffic = [\n  {{ haproxy = \"{}\", backend = \"shop\", primary = [\"a\", \"b\"], \
         standby = \"dr\" }},\n  {{ nsupdate = \"{address}\", zone = \"shop.example\", \
         name = \"{name}.shop.example\", type = \"CNAME\", standby = \"dr.shop.example\", ttl = \"1s\", key = \"file:{shop}/traffic.key\", \
         resolvers = [\"{address}\"] }},\n]\n",
        haproxy.socket(),
        address = bind.address(),
    )
}

/// The shop behind both.
fn shop(haproxy: &HaProxy, bind: &Bind, name: &str) -> Shop {
    let shop = Shop::with(16, |service| {
        let door = service.split("door = { file = \"").nth(1).unwrap();
        let folder = door.split("/shop.maintenance").next().unwrap().to_owned();
        service + &tables(haproxy, bind, &folder, name)
    });
    shop.file("traffic.key", &Bind::key("traffic"), 0o600);
    shop
}

fn steps<'r>(report: &'r Value, part: &str) -> Vec<(&'r str, &'r str)> {
    let steps = report["steps"].as_array().unwrap().iter();
    let named = steps.map(|step| (step["id"].as_str().unwrap(), step["outcome"].as_str().unwrap()));
    named.filter(|(id, _)| id.contains(part)).collect()
}

#[test]
fn users_are_led_to_the_standby_site_behind_the_smoke_tests() {
    let (haproxy, bind) = (HaProxy::start(), Bind::start(LINES));
    let shop = shop(&haproxy, &bind, "shop");
    let checked = shop.site.run("check shop");
    let findings = checked.done();
    assert!(findings.to_string().contains("it can be switched to dr"), "{findings}");
    let runbook = shop.site.run("runbook shop --latest").stdout;
    for line in
        ["set server shop/dr state ready", "nsupdate -k", "update add shop.shop.example 1 CNAME"]
    {
        assert!(runbook.contains(line), "no {line:?} in {runbook}");
    }
    assert!(!runbook.contains("cGxhbnRlZC10c2lnLXNlY3JldC1vZi10aGUtdGVzdHM="), "a secret");
    let before = shop.destroy();
    let report = shop.recover("--confirm-any").done();
    assert_restored(&shop, &report, &before);
    assert_eq!(haproxy.answers(), ["dr"]);
    assert_eq!(bind.records("shop", "CNAME"), ["1 dr.shop.example."]);
    let done = steps(&report, ".traffic.");
    assert_eq!(done.len(), 4, "{report}");
    assert!(done.iter().all(|(_, outcome)| *outcome == "done"), "{done:?}");
}

#[test]
fn traffic_that_cannot_be_switched_stops_a_recovery_before_anything_is_touched() {
    let (mut haproxy, bind) = (HaProxy::start(), Bind::start(LINES));
    let shop = shop(&haproxy, &bind, "slow");
    haproxy.stop();
    let plan = shop.site.run("plan shop --latest").done();
    let warnings = plan["plan"]["warnings"].to_string();
    assert!(warnings.contains("may be cached for 60 min"), "{warnings}");
    assert!(warnings.contains("cannot be switched now: HAProxy"), "{warnings}");
    let waited = plan["plan"]["steps"]
        .as_array()
        .unwrap()
        .iter()
        .find(|step| step["id"] == "open.traffic.slow-shop-example");
    assert!(waited.unwrap()["predicted_s"].as_u64().unwrap() > 3600, "{waited:?}");
    let checked = shop.site.run("check shop").ended(3).to_string();
    assert!(checked.contains("it could not be switched: HAProxy"), "{checked}");
    let ran = shop.site.run("recover shop --latest --as oncall --confirm-any");
    let report = ran.ended(6);
    let failed = steps(&report, "assess.traffic.shop");
    assert_eq!(failed, [("assess.traffic.shop", "failed")], "{report}");
    assert!(report.to_string().contains("does not answer 'show servers state shop'"), "{report}");
    assert!(shop.is_healthy() && !shop.is_shut(), "nothing was touched");
    assert_eq!(text(&shop.site.run("runs").done(), "runs.0.verdict"), "rolled_back");
}
