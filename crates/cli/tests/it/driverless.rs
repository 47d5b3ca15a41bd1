//! Runs whose driver is gone: nobody but `incident watch` says so, from any host, once.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::poll;

use crate::alerting::shop_with;
use crate::elsewhere::Elsewhere;
use crate::endpoint::Endpoint;
use crate::program::{Ran, text};
use crate::services::assert_restored;
use crate::shop::Shop;
use crate::site::DEADLINE;
use crate::vendors::{KEY, Vendors};

/// The lease of a run's driver is over: its records are ten minutes older.
fn age(shop: &Shop, run: &str) {
    for record in shop.site.objects("main", &format!("journal/run/{run}/")) {
        let file = fs::File::open(&record).unwrap();
        let written = file.metadata().unwrap().modified().unwrap();
        file.set_modified(written - Duration::from_secs(600)).unwrap();
    }
}

/// A word of a person.
fn say(shop: &Shop, words: &str, person: &str) -> Ran {
    let mut command = shop.site.command(&format!("{words} --as {person}"));
    Ran::of(command.env("ROLLFORWARD_PERSON_PASSPHRASE", format!("of {person}, long")))
}

/// What a pager and a room have heard.
struct Heard<'h> {
    vendors: &'h Vendors,
    room: &'h Endpoint,
}

impl Heard<'_> {
    /// Texts that the pager got under this heading.
    fn pages(&self, what: &str) -> Vec<String> {
        let events = self.vendors.bodies("POST /v2/enqueue", "202");
        let is = |event: &&Value| text(event, "payload.summary").contains(&format!("] {what}: "));
        let found = events.iter().filter(|event| event["event_action"] == "trigger").filter(is);
        found.map(|event| text(event, "payload.custom_details.text")).collect()
    }

    fn posts(&self, what: &str) -> usize {
        let bodies = self.room.seen("POST /room").into_iter().map(|request| request.body);
        bodies.filter(|body| body.contains(&format!("\"what\":\"{what}\""))).count()
    }
}

fn escalating(vendors: &Vendors, room: &Endpoint) -> Shop {
    let tables = format!(
        "[notify]\nroom = {{ webhook = \"http://127.0.0.1:{}/room\" }}\n\
         pager = {{ pagerduty = \"env:VENDOR_KEY\", url = \"{}\", \
         escalate = {{ after = \"2s\", to = \"secondary\" }} }}\n",
        room.port,
        vendors.url("/v2/enqueue")
    );
    let mut tables = format!("{tables}[person]\n");
    let policy = "policy = { final = 2 }\n";
    let shop = shop_with(16, policy, "");
    for (name, role) in [("oncall", "recovery-operator"), ("secondary", "approver")] {
        let mut add = shop.site.command(&format!("person add {name} --role {role}"));
        let added = add.env("ROLLFORWARD_PERSON_PASSPHRASE", format!("of {name}, long"));
        tables.push_str(&format!("{}\n", text(&Ran::of(added).done(), "line")));
    }
    let tell = format!("{policy}tell = [\"pager\", \"room\"]\n");
    let config = fs::read_to_string(shop.site.config()).unwrap();
    shop.site.write_config(&(config.replace(policy, &tell) + &tables));
    // Its configuration, channels and all, goes with the backup.
    shop.site.backup();
    shop
}

/// Several hosts look in the same second; what all of them told.
fn look_at_once(shop: &Shop, run: &str) -> Vec<String> {
    let looks: Vec<_> = (0..4)
        .map(|_| {
            let mut watch = shop.site.command("incident watch");
            watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut told = Vec::new();
    for look in looks {
        let watched = Ran::from_output("watch".into(), &look.wait_with_output().unwrap()).done();
        assert_eq!(text(&watched, "driverless.0.run"), run);
        for it in watched["driverless"][0]["told"].as_array().unwrap() {
            told.push(["channel", "what", "outcome"].map(|name| text(it, name)).join(" "));
        }
    }
    told
}

#[track_caller]
fn assert_lines(page: &str, lines: &[String]) {
    for line in lines {
        assert!(page.lines().any(|seen| seen == line), "{line}: {page}");
    }
}

#[test]
fn a_run_whose_driver_is_gone_is_told_of_until_a_driver_goes_on() {
    let (vendors, room) = (Vendors::start(), Endpoint::start("token"));
    let heard = Heard { vendors: &vendors, room: &room };
    let shop = escalating(&vendors, &room);
    let before = shop.destroy();
    let mut first = shop.site.command("recover shop --before-incident --as oncall --confirm-any");
    first.env("ROLLFORWARD_PERSON_PASSPHRASE", "of oncall, long");
    let died = Ran::of(first.env("ROLLFORWARD_FAULT", "Before act:restore.cluster.shop"));
    assert_eq!(died.status.code(), None, "{died:?}");
    let run = text(&shop.site.run("runs").done(), "runs.0.run");
    // As long as its lease lasts it may live.
    let watched = shop.site.run("incident watch").done();
    assert_eq!(watched["driverless"], json!([]));

    age(&shop, &run);
    let told = look_at_once(&shop, &run);
    assert_eq!(told, ["pager no driver told", "room no driver told"]);
    let page = heard.pages("no driver").remove(0);
    assert!(page.starts_with(&format!("run {run} has no driver, for 10 min")), "{page}");
    assert_lines(
        &page,
        &["at restore.cluster.shop".into(), format!("rollforward run resume {run}")],
    );
    // Nobody does: the next person is asked, by another host, once for all that look.
    let elsewhere = Elsewhere::reached(&shop);
    let watch_there =
        || Ran::of(elsewhere.command(&["incident", "watch"]).env("VENDOR_KEY", KEY)).done();
    poll(DEADLINE, "the escalation", || {
        watch_there();
        !heard.pages("nobody answered").is_empty()
    });
    assert!(heard.pages("nobody answered")[0].contains("secondary is asked now; run"));
    assert_eq!(watch_there()["driverless"][0]["told"], json!([]));
    assert_eq!(shop.site.run("incident watch").done()["driverless"][0]["told"], json!([]));
    let counts = (heard.pages("no driver").len(), heard.posts("no driver"));
    assert_eq!((counts, heard.pages("nobody answered").len()), ((1, 1), 1));

    // A driver goes on, and ends because somebody has to approve.
    say(&shop, &format!("run resume {run} --no-wait"), "oncall").ended(5);
    assert_eq!(shop.site.run("incident watch").done()["driverless"], json!([]));
    age(&shop, &run);
    watch_there();
    watch_there();
    let page = heard.pages("waits without a driver").remove(0);
    assert!(page.starts_with(&format!("run {run} waits for a person, without a driver")), "{page}");
    assert_lines(
        &page,
        &[
            format!("1. rollforward run approve {run} --gate open.point"),
            format!("2. rollforward run resume {run}"),
        ],
    );
    assert_eq!(heard.pages("waits without a driver").len(), 1);
    say(&shop, &format!("run approve {run}"), "secondary").done();
    let report = say(&shop, &format!("run resume {run} --no-wait"), "oncall").done();
    assert_restored(&shop, &report, &before);

    // It is over, and stays silent.
    age(&shop, &run);
    let pages = vendors.bodies("POST /v2/enqueue", "202").len();
    assert_eq!(shop.site.run("incident watch").done()["driverless"], json!([]));
    assert_eq!(vendors.bodies("POST /v2/enqueue", "202").len(), pages);
    assert_eq!(vendors.refused(), Vec::<String>::new());
}

#[test]
fn a_drill_without_a_driver_is_told_of_once_though_it_belongs_to_no_incident() {
    let room = Endpoint::start("token");
    let tables =
        format!("[notify]\nroom = {{ webhook = \"http://127.0.0.1:{}/room\" }}\n", room.port);
    let shop = shop_with(17, "tell = [\"room\"]\n", &tables);
    let mut drill = shop.site.command("drill shop --copy --as oncall --latest");
    Ran::of(drill.env("ROLLFORWARD_FAULT", "After act:restore.cluster.shop"));
    let run = text(&shop.site.run("runs").done(), "runs.0.run");
    age(&shop, &run);
    for _ in 0..2 {
        let watched = shop.site.run("incident watch").done();
        assert_eq!(
            (text(&watched, "driverless.0.run"), &watched["open"]),
            (run.clone(), &0.into())
        );
    }
    let heard = room.seen("POST /room");
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(heard[0].body.contains("\"what\":\"no driver\""), "{}", heard[0].body);
    assert!(heard[0].body.contains(&format!("rollforward run resume {run}")), "{}", heard[0].body);
    assert_eq!(shop.site.run("incident list").done()["incidents"], json!([]));
    shop.site.run(&format!("run resume {run} --as oncall --no-wait"));
    assert_eq!(shop.site.run("incident watch").done()["driverless"], json!([]));
}
