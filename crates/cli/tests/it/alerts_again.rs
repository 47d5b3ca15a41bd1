//! Alerts that come back, come beside others, or are not what they say.

use serde_json::{Value, json};

use crate::alerting::{feed, kinds, shop_with, signed, webhook};
use crate::endpoint::Endpoint;
use crate::program::text;
use crate::shop::Shop;

fn alert(key: &str, status: &str) -> String {
    json!({ "summary": format!("{key} is wrong"), "key": key, "status": status }).to_string()
}

/// Says it, and what became of it.
fn say(shop: &Shop, key: &str, status: &str) -> (String, bool) {
    let ran = feed(shop, "incident open --from - --source generic", alert(key, status).as_bytes());
    let came = ran.done();
    let incident = came["incident"].as_str().unwrap_or_default().to_owned();
    (incident, came["new"] == true)
}

#[test]
fn an_alert_that_comes_back_after_its_incident_is_over_opens_another() {
    let shop = shop_with(16, "", "");
    let (first, is_new) = say(&shop, "disk", "firing");
    assert!(is_new);
    assert_eq!(say(&shop, "disk", "firing"), (first.clone(), false), "a repeat");
    // Over, and wrong again before anybody closed it: said, and no repeat.
    for _ in 0..2 {
        say(&shop, "disk", "resolved");
    }
    assert_eq!(say(&shop, "disk", "firing"), (first.clone(), false));
    assert_eq!(say(&shop, "disk", "firing"), (first.clone(), false));
    say(&shop, "disk", "resolved");
    assert_eq!(kinds(&shop, &first), ["open", "resolved", "note", "resolved"]);
    shop.site.run(&format!("incident close {first}")).done();
    let (second, is_new) = say(&shop, "disk", "firing");
    assert!(is_new && second != first);
    // Closed by hand while it fires: what is said later is news.
    shop.site.run(&format!("incident close {second}")).done();
    let (third, is_new) = say(&shop, "disk", "firing");
    assert!(is_new && third != second);
    assert_eq!(say(&shop, "disk", "resolved").0, third);
    assert_eq!(kinds(&shop, &second), ["open", "close"]);
}

#[test]
fn another_alert_beside_one_that_somebody_has_taken_is_heard_once() {
    let room = Endpoint::start("token");
    let tables =
        format!("[notify]\nroom = {{ webhook = \"http://127.0.0.1:{}/room\" }}\n", room.port);
    let shop = shop_with(15, "tell = [\"room\"]\n", &tables);
    let heard = || -> Vec<String> {
        let bodies = room.seen("POST /room").into_iter().map(|request| request.body);
        let told = bodies.map(|body| serde_json::from_str::<Value>(&body).unwrap());
        told.map(|it| {
            format!("{}: {}", text(&it, "what"), text(&it, "text").lines().next().unwrap())
        })
        .collect()
    };
    let (id, _) = say(&shop, "disk", "firing");
    assert_eq!(say(&shop, "table", "firing").0, id);
    assert_eq!(heard(), ["incident opened: disk is wrong"], "nobody has taken it yet");
    shop.site.run(&format!("incident ack {id} --as oncall")).done();
    for _ in 0..2 {
        assert_eq!(say(&shop, "network", "firing").0, id);
    }
    shop.site.run("incident watch").done();
    let all = [
        "incident opened: disk is wrong",
        "incident acknowledged: disk is wrong",
        "another alert: network is wrong",
    ];
    assert_eq!(heard(), all);
}

#[test]
fn an_acknowledgement_counts_only_when_pagerduty_has_signed_it() {
    let shop = shop_with(17, "", "");
    let body = webhook("triggered", "PGR0VU2", "theirs");
    let id = text(&feed(&shop, &signed(&body), body.as_bytes()).done(), "incident");
    let body = webhook("acknowledged", "PGR0VU2", "theirs");
    for _ in 0..2 {
        feed(&shop, "incident open --from -", body.as_bytes()).done();
    }
    assert_eq!(kinds(&shop, &id), ["open", "note"]);
    let state = || text(&shop.site.run("incident list").done(), "incidents.0.state");
    assert_eq!(state(), "open");
    // Pinned to another kind it is not even read.
    let pinned = feed(&shop, "incident open --from - --source alertmanager", body.as_bytes());
    pinned.failed("RF1021", 2);
    let odd = feed(&shop, "incident open --from - --source nagios", body.as_bytes());
    assert_eq!(odd.status.code(), Some(2));
    feed(&shop, &signed(&body), body.as_bytes()).done();
    assert_eq!(state(), "acknowledged");
    assert_eq!(kinds(&shop, &id), ["open", "note", "ack"]);
}

#[test]
fn one_incident_that_cannot_be_read_stops_neither_alerts_nor_the_watch() {
    let room = Endpoint::start("token");
    let tables =
        format!("[notify]\nroom = {{ webhook = \"http://127.0.0.1:{}/room\" }}\n", room.port);
    let shop = shop_with(18, "tell = [\"room\"]\n", &tables);
    let (first, _) = say(&shop, "disk", "firing");
    let prefix = format!("journal/incident/{first}/");
    let entries: Vec<_> = ["main", "second"]
        .iter()
        .flat_map(|repository| shop.site.objects(repository, &prefix))
        .collect();
    assert!(!entries.is_empty());
    entries.iter().for_each(|entry| crate::site::replace(entry, "no entry"));
    let ran = feed(&shop, "incident open --from -", alert("table", "firing").as_bytes());
    let second = text(&ran.done(), "incident");
    assert!(second != first && ran.stderr.contains(&first), "{}", ran.stderr);
    let ran = shop.site.run("incident list");
    assert_eq!(text(&ran.done(), "incidents.0.incident"), second);
    assert!(ran.stderr.contains(&first), "{}", ran.stderr);
    let ran = shop.site.run("incident watch").ended(1);
    assert_eq!((&ran["open"], ran["damaged"].as_array().unwrap().len()), (&1.into(), 1), "{ran}");
}
