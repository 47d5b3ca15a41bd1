//! Alerts of real and of described monitoring systems in, people out: acknowledged, escalated,
//! told again, in the words of a template, on status pages.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testbed::{Alertmanager, MailServer, S3, poll};

use crate::endpoint::Endpoint;
use crate::program::{Ran, text};
use crate::shop::Shop;
use crate::site::{DEADLINE, Site};
use crate::vendors::{KEY, Vendors};

const PERSON: &str = "[person]\nsecondary = { key = \"ed25519:AAAA\" }\n";

/// The shop with more in its table and behind it; `KEY` is in the environment.
pub(crate) fn shop_with(major: u32, more: &str, tables: &str) -> Shop {
    let mut site = Site::new(major);
    site.variables.push(("VENDOR_KEY".into(), KEY.into()));
    Shop::on(site, |service| format!("{service}{more}\n{tables}"))
}

/// Runs the program with this on its standard input.
pub(crate) fn feed(shop: &Shop, words: &str, input: &[u8]) -> Ran {
    let mut command = shop.site.command(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    Ran::from_output(words.into(), &child.wait_with_output().unwrap())
}

pub(crate) fn kinds(shop: &Shop, id: &str) -> Vec<String> {
    let shown = shop.site.run(&format!("incident show {id}")).done();
    let entries = shown["entries"].as_array().unwrap().clone();
    entries.iter().map(|entry| text(entry, "kind")).collect()
}

#[test]
fn alerts_of_a_real_alertmanager_open_one_incident_each_and_repeats_none() {
    let shop = shop_with(17, "alerts = [{ alertname = \"OrdersGone\", team = \"shop\" }]\n", "");
    let room = Endpoint::start("token");
    let manager = Alertmanager::start(&format!("http://127.0.0.1:{}/room", room.port), 2);
    let alert = |name: &str, more: &str| {
        format!(
            "{{\"labels\": {{\"alertname\": \"{name}\", \"team\": \"shop\", \"severity\": \"page\"}}, \
             \"annotations\": {{\"summary\": \"{name} at night\", \"runbook_url\": \
             \"https://wiki.example/orders\"}}, \"startsAt\": \"2026-11-20T14:31:06Z\"{more}}}"
        )
    };
    manager.post(&format!("[{}]", alert("OrdersGone", "")));
    let heard = |part: &str| room.seen("POST /room").into_iter().find(|it| it.body.contains(part));
    poll(DEADLINE, "the alert", || heard("OrdersGone").is_some());
    let payload = heard("OrdersGone").unwrap().body;
    let opened = feed(&shop, "incident open --from -", payload.as_bytes()).done();
    let id = text(&opened, "incident");
    assert_eq!((&opened["new"], &opened["verified"]), (&true.into(), &false.into()));
    let listed = shop.site.run("incident list").done();
    assert_eq!(text(&listed, "incidents.0.summary"), "OrdersGone at night");
    assert_eq!(text(&listed, "incidents.0.started"), "2026-11-20T14:31:06Z");
    // It repeats every second; what was opened and closed by hand stays one incident.
    poll(DEADLINE, "a repeat", || room.seen("POST /room").len() > 1);
    shop.site.run(&format!("incident close {id}")).done();
    let repeat = room.seen("POST /room").last().unwrap().body.clone();
    let again = feed(&shop, "incident open --from -", repeat.as_bytes()).done();
    assert_eq!((text(&again, "incident"), &again["new"]), (id.clone(), &false.into()));
    assert_eq!(kinds(&shop, &id), ["open", "close"]);
    // Three at once, two of them fit into a payload, one of which is nobody's.
    let many = ["OrdersGone2", "Others1", "Others2"].map(|name| alert(name, ""));
    manager.post(&format!("[{}]", many.join(", ")));
    poll(DEADLINE, "what was cut off", || heard("\"truncatedAlerts\":2").is_some());
    let cut = heard("\"truncatedAlerts\":2").unwrap().body;
    let cut = feed(&shop, "incident open --from -", cut.as_bytes());
    assert!(cut.stderr.contains("the sender left out 2 alerts"), "{}", cut.stderr);
    // It is over there: noted, once.
    manager.post(&format!("[{}]", alert("OrdersGone", ", \"endsAt\": \"2026-11-20T15:00:00Z\"")));
    let over = |body: &str| {
        body.contains("\"status\":\"resolved\",\"labels\":{\"alertname\":\"OrdersGone\"")
    };
    let seen = || room.seen("POST /room").into_iter().find(|it| over(&it.body));
    poll(DEADLINE, "that it is over", || seen().is_some());
    let over = seen().unwrap().body;
    for _ in 0..2 {
        feed(&shop, "incident open --from -", over.as_bytes());
    }
    assert_eq!(kinds(&shop, &id), ["open", "close", "resolved"]);
    let nobody = payload.replace("\"team\":\"shop\"", "\"team\":\"ship\"");
    let refused = feed(&shop, "incident open --from -", nobody.as_bytes());
    assert!(refused.failed("RF0912", 4).contains("OrdersGone at night"));
}

const TOPIC: &str = "arn:aws:sns:eu-central-1:1:alarms";

/// A certificate that SNS could sign with, and its key.
struct Sns<'s> {
    shop: &'s Shop,
    cert: String,
}

impl<'s> Sns<'s> {
    fn of(shop: &'s Shop) -> Self {
        let (key, cert) = (shop.path("sns.key"), shop.path("sns.pem"));
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
        command.args(["-subj", "/CN=sns", "-keyout"]).arg(&key).arg("-out").arg(&cert);
        let made = command.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        testbed::give_to_postgres(&cert);
        Self { shop, cert: cert.display().to_string() }
    }

    /// An alarm in an envelope of this version, signed over this digest.
    fn alarm(&self, version: &str, digest: &str) -> Value {
        let alarm = json!({
            "AlarmName": "shop-storage", "AlarmDescription": "the disk is full", "NewStateValue": "ALARM",
            "NewStateReason": "Threshold Crossed", "AlarmArn": "arn:aws:cloudwatch:eu:1:alarm:shop",
            "StateChangeTime": "2026-11-20T14:31:06.123+0000", "Trigger": { "MetricName": "Free" },
        });
        let mut envelope = json!({
            "Type": "Notification", "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
            "TopicArn": TOPIC, "Subject": "ALARM",
            "Message": alarm.to_string(), "Timestamp": "2026-11-20T14:31:09.101Z",
            "SignatureVersion": version,
            "SigningCertURL": "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-1.pem",
        });
        let mut signed = String::new();
        for name in ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"] {
            signed.push_str(&format!("{name}\n{}\n", envelope[name].as_str().unwrap()));
        }
        let body = self.shop.site.folder.file("signed", signed);
        let mut sign = Command::new("openssl");
        sign.args(["dgst", digest, "-sign"]).arg(self.shop.path("sns.key")).arg(body);
        let output = sign.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        envelope["Signature"] = STANDARD.encode(output.stdout).into();
        envelope
    }

    fn open(&self, envelope: &Value) -> Ran {
        self.open_of(TOPIC, envelope)
    }

    /// Opens what came through this topic.
    fn open_of(&self, topic: &str, envelope: &Value) -> Ran {
        let words = format!(
            "incident open --from - --source cloudwatch --verify-signature {} --topic {topic}",
            self.cert
        );
        feed(self.shop, &words, envelope.to_string().as_bytes())
    }
}

#[test]
fn an_alarm_of_cloudwatch_counts_when_its_signature_fits() {
    let shop = shop_with(16, "alerts = [{ alarm = \"shop-storage\" }]\n", "");
    let sns = Sns::of(&shop);
    let envelope = sns.alarm("2", "-sha256");
    let opened = sns.open(&envelope).done();
    let id = text(&opened, "incident");
    assert_eq!((&opened["new"], &opened["verified"]), (&true.into(), &true.into()));
    // SNS delivers again when the answer came late.
    let again = sns.open(&envelope).done();
    assert_eq!((text(&again, "incident"), &again["new"]), (id.clone(), &false.into()));
    // AWS signs what anybody's topic says.
    let said = sns.open_of("arn:aws:sns:eu-central-1:2:alarms", &envelope).failed("RF1022", 4);
    assert!(said.contains(&format!("seen '{TOPIC}'")), "{said}");
    let without = format!("incident open --from - --verify-signature {}", sns.cert);
    let said = feed(&shop, &without, envelope.to_string().as_bytes());
    assert_eq!(said.status.code(), Some(2));
    assert!(said.stderr.contains("--topic"), "{}", said.stderr);
    let forged = envelope.to_string().replace("the disk is full", "the disk is fine");
    sns.open(&serde_json::from_str(&forged).unwrap()).failed("RF1022", 4);
    let ok = feed(&shop, "incident open --from -", forged.replace("ALARM", "OK").as_bytes()).done();
    assert_eq!((&ok["verified"], text(&ok, "incident")), (&false.into(), id.clone()));
    assert_eq!(kinds(&shop, &id), ["open", "resolved"]);
    let mut control = envelope;
    control["Type"] = "SubscriptionConfirmation".into();
    let refused = feed(&shop, "incident open --from -", control.to_string().as_bytes());
    assert!(refused.failed("RF1021", 2).contains("confirm-subscription"));
    feed(&shop, "incident open --from -", b"\x00\xff").failed("RF1021", 2);
}

#[test]
fn a_signature_of_sns_counts_under_its_own_version_and_from_an_address_of_sns() {
    let shop = shop_with(17, "alerts = [{ alarm = \"shop-storage\" }]\n", "");
    let sns = Sns::of(&shop);
    // What a topic signs with unless it is told otherwise.
    let opened = sns.open(&sns.alarm("1", "-sha1")).done();
    assert_eq!((&opened["new"], &opened["verified"]), (&true.into(), &true.into()));
    let refused = |envelope: &Value, part: &str| {
        let said = sns.open(envelope).failed("RF1022", 4);
        assert!(said.contains(part), "no {part:?} in {said}");
    };
    for (version, digest) in [("1", "-sha256"), ("2", "-sha1"), ("1", "-sha512")] {
        refused(&sns.alarm(version, digest), "was not signed with this certificate's key");
    }
    for version in ["3", "", "01"] {
        refused(&sns.alarm(version, "-sha1"), "expected SignatureVersion 1 or 2");
    }
    let mut another = sns.alarm("1", "-sha1");
    another["Message"] = another["Message"].as_str().unwrap().replace("full", "fine").into();
    refused(&another, "was not signed with this certificate's key");
    let stranger = Shop::path(&shop, "sns.key");
    fs::rename(&stranger, shop.path("old.key")).unwrap();
    let made = Command::new("openssl").args(["genrsa", "-out"]).arg(&stranger).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    refused(&sns.alarm("1", "-sha1"), "was not signed with this certificate's key");
    fs::rename(shop.path("old.key"), &stranger).unwrap();
    // The address is not signed: whoever can change it must not lead anybody elsewhere.
    let mut elsewhere = sns.alarm("1", "-sha1");
    for url in [
        "http://sns.eu-central-1.amazonaws.com/a.pem",
        "https://sns.eu-central-1.amazonaws.com.evil.example/a.pem",
        "https://sns.eu-central-1.amazonaws.com@evil.example/a.pem",
        "https://evil.example/sns.eu-central-1.amazonaws.com/a.pem",
        "https://sns.evil.example/.amazonaws.com/a.pem",
        "https://sns..amazonaws.com/a.pem",
        "https://sns.eu-central-1.amazonaws.com:8443/a.pem",
        "https://bucket.s3.eu-central-1.amazonaws.com/a.pem",
        "https://sns.a.b.amazonaws.com/a.pem",
    ] {
        elsewhere["SigningCertURL"] = url.into();
        refused(&elsewhere, "is no address of SNS");
    }
    for url in [
        "https://sns.us-gov-west-1.amazonaws.com/a.pem",
        "https://sns.cn-north-1.amazonaws.com.cn/a.pem",
    ] {
        elsewhere["SigningCertURL"] = url.into();
        sns.open(&elsewhere).done();
    }
}

pub(crate) fn webhook(kind: &str, id: &str, key: &str) -> String {
    json!({ "event": {
        "id": "01E", "event_type": format!("incident.{kind}"), "occurred_at": "2026-11-20T14:31:07Z",
        "agent": { "summary": "Ada" }, "data": {
            "id": id, "type": "incident", "html_url": "https://acme.pagerduty.com/i", "title":
            "orders are gone", "incident_key": key, "urgency": "high",
            "created_at": "2026-11-20T14:31:06Z", "service": { "summary": "Shop" } } } })
    .to_string()
}

/// How a body is opened that PagerDuty has signed.
pub(crate) fn signed(body: &str) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes()), body.as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("incident open --from - --secret env:VENDOR_KEY --signature v1={hex}")
}

/// What was done with the alert of this key, in order.
fn acts(vendors: &Vendors, key: &str) -> Vec<String> {
    let events = vendors.bodies("POST /v2/enqueue", "202");
    let of_key = events.iter().filter(|event| text(event, "dedup_key") == key);
    of_key.map(|event| text(event, "event_action")).collect()
}

#[test]
fn an_incident_that_began_in_pagerduty_is_taken_and_ended_there() {
    let vendors = Vendors::start();
    let tables = format!(
        "{PERSON}[notify]\npager = {{ pagerduty = \"env:VENDOR_KEY\", url = \"{}\", token = \
         \"env:VENDOR_KEY\", from = \"ops@shop.example\", api = \"{}\", \
         escalate = {{ after = \"1s\", to = \"secondary\" }} }}\n",
        vendors.url("/v2/enqueue"),
        vendors.url("")
    );
    let shop = shop_with(15, "tell = [\"pager\"]\n", &tables);
    let body = webhook("triggered", "PGR0VU2", "theirs");
    let signed = signed(&body);
    let opened = feed(&shop, &signed, body.as_bytes()).done();
    let id = text(&opened, "incident");
    assert_eq!(opened["verified"], true);
    assert_eq!(vendors.bodies("POST /v2/enqueue", "2").len(), 0, "they were paged already");
    feed(&shop, &signed, webhook("triggered", "OTHER", "x").as_bytes()).failed("RF1022", 4);
    // Nobody takes it there: they are paged by us, and what takes it takes both.
    poll(DEADLINE, "the escalation", || {
        shop.site.run("incident watch").done();
        acts(&vendors, "rollforward shop nobody answered") == ["trigger"]
    });
    shop.site.run(&format!("incident ack {id} --as oncall")).done();
    let put = vendors.bodies("PUT /incidents/PGR0VU2", "200");
    assert_eq!(put.len(), 1, "{put:?}");
    assert_eq!(text(&put[0], "incident.status"), "acknowledged");
    let over = webhook("resolved", "PGR0VU2", "theirs");
    feed(&shop, "incident open --from -", over.as_bytes()).done();
    let listed = shop.site.run("incident list").done();
    assert_eq!(text(&listed, "incidents.0.state"), "acknowledged", "closed by people alone");
    shop.site.run(&format!("incident close {id}")).done();
    assert_eq!(text(&vendors.bodies("PUT ", "200")[1], "incident.status"), "resolved");
    // What they were paged with by us ends too.
    let own = acts(&vendors, "rollforward shop nobody answered");
    assert_eq!(own, ["trigger", "acknowledge", "resolve"]);
    // What we have triggered comes back as a webhook, and begins nothing.
    for key in ["rollforward shop", "rollforward shop nobody answered"] {
        let body = webhook("triggered", "P2", key);
        let echo = feed(&shop, "incident open --from -", body.as_bytes());
        assert_eq!(echo.done()["incident"], Value::Null, "{key}");
    }
    assert_eq!(vendors.refused(), Vec::<String>::new());
}

#[test]
fn pagers_hear_of_an_incident_until_somebody_takes_it() {
    let vendors = Vendors::start();
    let tables = format!(
        "{PERSON}[notify]\npager = {{ pagerduty = \"env:VENDOR_KEY\", url = \"{}\", \
         escalate = {{ after = \"1s\", to = \"secondary\" }} }}\n\
         genie = {{ opsgenie = \"env:VENDOR_KEY\", url = \"{}\" }}\n",
        vendors.url("/v2/enqueue"),
        vendors.url("")
    );
    let more =
        "tell = [\"pager\", \"genie\"]\nabout = { runbook = \"https://wiki.example/shop\" }\n";
    let shop = shop_with(18, more, &tables);
    // What passes is tried again, as late as the vendor asks.
    vendors.trouble("/v2/enqueue", "429 Too Many Requests\r\nRetry-After: 1");
    vendors.trouble("/v2/enqueue", "503 Service Unavailable");
    let opened = shop.site.run("incident open shop --summary gone --data orders").done();
    let id = text(&opened, "incident");
    let events = vendors.bodies("POST /v2/enqueue", "202");
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(text(&events[0], "event_action"), "trigger");
    assert_eq!(text(&events[0], "payload.severity"), "critical");
    assert_eq!(text(&events[0], "links.0.href"), "https://wiki.example/shop");
    let steps = text(&events[0], "payload.custom_details.text");
    assert!(steps.contains(&format!("rollforward incident ack {id}")), "{steps}");
    assert!(steps.contains("data affected: orders"), "{steps}");
    assert_eq!(text(&vendors.bodies("POST /v2/alerts", "202")[0], "alias"), "rollforward shop");
    // Nobody answers: the next person is asked, by any command on any host, once.
    let mut last = Value::Null;
    poll(DEADLINE, "the escalation", || {
        last = shop.site.run("incident watch").done();
        last["told"][0]["what"] == "nobody answered"
    });
    assert_eq!(shop.site.run("incident escalate").done()["told"], json!([]));
    let events = vendors.bodies("POST /v2/enqueue", "202");
    assert_eq!(events.len(), 2);
    assert!(text(&events[1], "payload.custom_details.text").contains("secondary is asked now"));
    // What joins an open alert rings nobody.
    assert_eq!(text(&events[0], "dedup_key"), "rollforward shop");
    assert_eq!(text(&events[1], "dedup_key"), "rollforward shop nobody answered");
    shop.site.run(&format!("incident ack {id} --as oncall")).done();
    shop.site.run(&format!("incident close {id} --as oncall")).done();
    for key in ["rollforward shop", "rollforward shop nobody answered"] {
        assert_eq!(acts(&vendors, key), ["trigger", "acknowledge", "resolve"], "{key}");
        for verb in ["acknowledge", "close"] {
            let line = format!("POST /v2/alerts/{}/{verb}", key.replace(' ', "%20"));
            assert_eq!(vendors.bodies(&line, "202").len(), 1, "{line}");
        }
    }
    assert_eq!(vendors.refused(), Vec::<String>::new());
    // A request that is wrong is not repeated, and who was not told is said.
    let wrong = KEY.get(1..).unwrap().to_owned();
    let mut command = shop.site.command("incident open shop --summary again");
    let ran = Ran::of(command.env("VENDOR_KEY", wrong)).ended(3);
    assert_eq!(vendors.refused().iter().filter(|it| it.contains("enqueue")).count(), 1);
    assert!(text(&ran, "incidents.0.told.1.outcome").contains("seen status 400"), "{ran}");
}

#[test]
fn stakeholders_read_a_template_also_when_their_server_greylists() {
    let (grey, gone) = (MailServer::greylisting(), MailServer::refusing());
    let mail = |server: &MailServer, to: &str| {
        format!(
            "email = {{ server = \"{}\", from = \"dr@shop.example\", to = [\"{to}@shop.example\"], plain = true }}",
            server.address()
        )
    };
    let tables = format!(
        "[notify]\nboard = {{ {}, template = \"board\" }}\ngone = {{ {} }}\n\
         [template.board]\nsubject = \"{{environment}}: {{event}}\"\n\
         text = \"{{issue}} ({{data}}), back {{eta}}, ask {{contact}}, RPO {{rpo}} {{imapct}}\"\n",
        mail(&grey, "board"),
        mail(&gone, "gone")
    );
    let more =
        "tell = [\"board\"]\nabout = { environment = \"production\", contact = \"+49 30 1\" }\n";
    let shop = shop_with(14, more, &tables);
    let found = shop.site.run("check shop").ended(3);
    let found = found.to_string();
    assert!(found.contains("unknown placeholder '{imapct}'"), "{found}");
    assert!(found.contains("did you mean '{impact}'?"), "{found}");
    shop.site.edit_config(" {imapct}", "");
    let opened = shop.site.run("incident open shop --summary gone --data orders").done();
    let id = text(&opened, "incident");
    assert_eq!(grey.messages().len(), 1, "refused with 451 once, then taken");
    let mail = &grey.messages()[0];
    assert!(mail.contains("Subject: production: incident opened"), "{mail}");
    assert!(mail.contains("gone (orders), back not known, ask +49 30 1, RPO 15 min"), "{mail}");
    let words =
        format!("incident note {id} --eta 2026-11-26T13:00:00Z --target 2026-11-26T12:00:00Z");
    shop.site.run(&words).done();
    let told = shop.site.run(&format!("incident tell {id}")).done();
    assert!(text(&told, "text").contains("Expected back: 2026-11-26T13:00:00Z"), "{told}");
    assert!(text(&told, "text").contains("Restored to: 2026-11-26T12:00:00Z"), "{told}");
    assert_eq!(grey.messages().len(), 2);
    let refused = shop.site.run(&format!("incident tell {id} --to gone")).ended(3);
    assert!(text(&refused, "told.0.outcome").contains("550"), "{refused}");
    shop.site.run(&format!("incident tell {id} --template nothing")).failed("RF0911", 2);
}

/// The shop with a page at a vendor, one in a directory and one in a bucket; its smoke test fails.
fn shop_with_pages(vendors: &Vendors, bucket: &S3) -> Shop {
    let mut site = Site::new(17);
    site.variables.push(("VENDOR_KEY".into(), KEY.into()));
    site.variables.push(("S3_SECRET".into(), bucket.secret_key().into()));
    site.variables.push(("S3_ID".into(), bucket.access_key().into()));
    let folder = site.folder.folder("page", 0o755);
    let tables = format!(
        "[notify]\nvendor = {{ statuspage = \"p4ge\", token = \"env:VENDOR_KEY\", url = \"{}\", name = \"Orders\" }}\n\
         own = {{ page = \"{}\", name = \"Orders\" }}\n\
         bucket = {{ page = \"s3://{}/p?endpoint={}\", name = \"Orders\", \
         access_key_id = \"env:S3_ID\", secret_access_key = \"env:S3_SECRET\" }}\n",
        vendors.url(""),
        folder.display(),
        bucket.bucket(),
        bucket.endpoint()
    );
    Shop::on(site, |service| {
        let service = service.replace("min_items = 5", "min_items = 50000");
        format!("{service}tell = [\"vendor\", \"own\", \"bucket\"]\n{tables}")
    })
}

#[test]
fn users_read_on_status_pages_how_it_goes_and_nothing_of_its_inside() {
    let (vendors, bucket) = (Vendors::start(), S3::start());
    let shop = shop_with_pages(&vendors, &bucket);
    let folder = shop.path("page");
    let read = || -> Value {
        serde_json::from_str(&fs::read_to_string(folder.join("status.json")).unwrap()).unwrap()
    };
    shop.destroy();
    let said = "incident open shop --summary db-7.internal:DROP_TABLE_orders";
    let opened = shop.site.run(said).done();
    let id = text(&opened, "incident");
    for told in opened["incidents"][0]["told"].as_array().unwrap() {
        assert_eq!(told["outcome"], "told", "{told}");
    }
    assert_eq!(text(&read(), "incidents.0.status"), "investigating");
    assert_eq!(text(&vendors.page()[0], "status"), "investigating");
    // A first recovery does not pass its smoke test.
    let report = shop.recover("--confirm-any").ended(6);
    assert_eq!(text(&report, "verdict"), "rolled_back");
    assert_eq!(text(&read(), "incidents.0.status"), "identified");
    let body = text(&read(), "incidents.0.updates.0.body");
    assert!(body.starts_with("Our first repair did not succeed"), "{body}");
    shop.site.edit_config("min_items = 50000", "min_items = 5");
    let report = shop.recover("--confirm-any").done();
    assert_eq!(text(&report, "verdict"), "restored");
    assert_eq!(text(&report, "incident"), id);
    assert_eq!(text(&read(), "incidents.0.status"), "monitoring");
    assert_eq!(text(&read(), "status.indicator"), "major");
    shop.site.run(&format!("incident close {id}")).done();
    let page = read();
    let went: Vec<String> = page["incidents"][0]["updates"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|update| text(update, "status"))
        .collect();
    let [first, middle @ .., before, last] = &went[..] else { panic!("{went:?}") };
    assert_eq!([first, before, last], ["investigating", "monitoring", "resolved"]);
    assert_eq!(middle, ["identified", "identified", "identified"], "begun, failed, begun again");
    assert_eq!(text(&page, "status.indicator"), "none");
    let incident = &vendors.page()[0];
    assert_eq!((vendors.page().len(), text(incident, "status")), (1, "resolved".into()));
    let html = fs::read_to_string(folder.join("index.html")).unwrap();
    assert!(html.contains("Orders: disruption"), "{html}");
    let stored = bucket.text("p/status.json").unwrap_or_else(|| panic!("{:?}", bucket.keys()));
    assert!(stored.contains("\"resolved\""), "{stored}");
    for public in [html, page.to_string(), stored, vendors.page()[0].to_string()] {
        for inside in ["db-7", "DROP", "rollforward ", "127.0.0.1", &id] {
            assert!(!public.contains(inside), "{inside} in {public}");
        }
    }
    assert_eq!(vendors.refused(), Vec::<String>::new());
}
