//! What stands around a recovery: doors and channels of others, and plans that cannot be performed.

use std::fs;

use aws_lc_rs::hmac;
use serde_json::Value;

use crate::endpoint::{Endpoint, Request};
use crate::program::text;
use crate::shop::{Shop, TOKEN};

const SECRET: &str = "what signs what the room hears";

#[test]
fn a_door_moves_by_calls_and_channels_hear_even_when_one_is_down() {
    let endpoint = Endpoint::start(TOKEN);
    let url = |path: &str| format!("http://127.0.0.1:{}/{path}", endpoint.port);
    let shop = Shop::with(18, |service| {
        let file = service.lines().find(|line| line.starts_with("door = ")).unwrap().to_owned();
        let token = file.split('"').nth(1).unwrap().replace("shop.maintenance", "shop.token");
        let door = format!(
            "door = {{ http = \"{}\", shut = \"{}\", open = \"{}\", login = \"file:{token}\" }}\n\
             tell = [\"room\", \"dead\", \"pager\", \"chat\"]",
            url("door"),
            url("shut"),
            url("open")
        );
        let secret = token.replace("shop.token", "room.secret");
        format!(
            "{}\n[notify]\nroom = {{ webhook = \"{}\", secret = \"file:{secret}\" }}\n\
             dead = {{ webhook = \"http://127.0.0.1:1/nobody\" }}\n\
             pager = {{ pagerduty = \"file:{secret}\", url = \"{}\" }}\n\
             chat = {{ slack = \"file:{}\" }}\n",
            service.replace(&file, &door),
            url("room"),
            url("pager"),
            secret.replace("room.secret", "chat.address")
        )
    });
    fs::write(shop.path("chat.address"), url("chat")).unwrap();
    testbed::give_to_postgres(&shop.path("chat.address"));
    fs::write(shop.path("room.secret"), SECRET).unwrap();
    testbed::give_to_postgres(&shop.path("room.secret"));
    let before = shop.destroy();
    let report = shop.recover("--confirm-any").done();
    assert_eq!(text(&report, "verdict"), "restored");
    assert_eq!(shop.restored_orders(&report, &before.at), before.orders);
    assert_eq!(endpoint.seen("PUT /shut").len(), 1, "once, and its probe tells that it is done");
    assert_eq!(endpoint.seen("PUT /open").len(), 1);
    let heard = endpoint.seen("POST /room");
    let words: Vec<String> = heard
        .iter()
        .map(|request| text(&serde_json::from_str(&request.body).unwrap(), "what"))
        .collect();
    assert!(
        words.contains(&"open again".into()) && words.contains(&"restored".into()),
        "{words:?}"
    );
    assert_says_that_it_is_over(&heard, &text(&report, "run"));
    for request in heard {
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        let tag = hmac::sign(&key, request.body.as_bytes());
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let signature = format!("x-rollforward-signature: sha256={hex}");
        assert!(request.headers.contains(&signature), "{request:?}");
    }
    let bodies = |line: &str| -> Vec<Value> {
        let seen = endpoint.seen(line);
        seen.iter().map(|request| serde_json::from_str(&request.body).unwrap()).collect()
    };
    let events = bodies("POST /pager");
    assert_eq!(text(&events[0], "event_action"), "trigger");
    assert_eq!(text(&events[0], "routing_key"), SECRET);
    assert!(text(&events[0], "payload.custom_details.text").contains("rollforward restore shop"));
    assert_eq!(text(events.last().unwrap(), "event_action"), "resolve");
    let said = bodies("POST /chat");
    assert!(text(&said[0], "text").starts_with("*[shop] recovery begun*"), "{said:?}");
    let steps = report["steps"].as_array().unwrap();
    let dead = steps.iter().find(|step| step["id"] == "tell.channel.dead").unwrap();
    assert_eq!(dead["outcome"], "failed", "it is said: {dead}");
}

/// A machine that hears of a finished run reads which, how, and how long.
fn assert_says_that_it_is_over(heard: &[Request], run: &str) {
    let over = heard.iter().find(|request| request.body.contains("\"restored\"")).unwrap();
    let over: Value = serde_json::from_str(&over.body).unwrap();
    assert_eq!((text(&over, "job_id"), text(&over, "status")), (run.into(), "restored".into()));
    assert!(over["duration_s"].as_u64().is_some_and(|it| it < 900), "{over}");
}

#[test]
fn a_plan_that_cannot_be_performed_is_shown_and_never_begun() {
    let shop = Shop::with(15, |service| {
        let ours = service.lines().find(|line| line.starts_with("setting = ")).unwrap().to_owned();
        let other = "setting = { app_configuration = \"https://shop.example\", key = \"Db\" }";
        service.replace(&ours, other)
    });
    let shown = shop.site.run("plan shop --latest");
    assert!(shown.stderr.contains("cannot perform assess.setting"), "{}", shown.stderr);
    let code = text(&shown.done(), "confirm");
    for options in ["--confirm-any".to_owned(), format!("--confirm {code}")] {
        let refused = shop.site.run(&format!("recover shop --latest {options}"));
        assert!(refused.failed("RF0912", 4).contains("nothing was touched"));
    }
    assert!(shop.is_healthy() && !shop.is_shut());
    assert_eq!(shop.site.run("runs").done()["runs"], Value::Array(Vec::new()));
}

#[test]
fn a_plan_takes_the_backup_it_is_told_and_refuses_what_it_would_not_follow() {
    let shop = Shop::open(16);
    let site = &shop.site;
    let first = text(&site.run("backups shop").done(), "backups.0.label");
    site.backup();
    let plan = site.run(&format!("plan shop --latest --backup {first}")).done();
    let steps = plan["plan"]["steps"].as_array().unwrap();
    let restore = steps.iter().find(|step| step["id"] == "restore.cluster.shop").unwrap();
    assert_eq!(restore["parameters"]["backup"], first.as_str());
    let other = first.replace(first.rsplit('-').next().unwrap(), "zzzz");
    site.run(&format!("plan shop --latest --backup {other}")).failed("RF0912", 4);
    for option in ["--exclusive", "--timeline 1"] {
        site.run(&format!("plan shop --latest {option}")).failed("RF0911", 2);
    }
}
