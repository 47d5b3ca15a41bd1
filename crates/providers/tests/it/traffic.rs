//! What leads users, on the real servers: BIND, PowerDNS, HAProxy, nginx.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use providers::{OwnProgram, Providers, Secrets};
use recovery::effect::{Effects, Failure, Found, StepContext};
use recovery::service::{Service, Traffic, TrafficHow, TrafficRecord};
use recovery::testing::{conformance, sample};
use stdx::{Clock, SystemClock};
use testbed::{Bind, HaProxy, Nginx, PowerDns, ZONE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use crate::conformance::context;

/// What the zone says before, and the standby site's own names.
const LINES: &str = "shop 2 IN CNAME main\nmain 60 IN A 10.1.0.1\ndr 60 IN A 10.2.0.1\n\
                     www 60 IN A 10.1.0.1\nwww 60 IN A 10.1.0.2\nslow 3600 IN CNAME main\n";

/// Keys by name.
struct Keys;

impl Secrets for Keys {
    fn resolve(&self, reference: &str) -> Result<Zeroizing<String>, String> {
        let key = Bind::key("traffic");
        Ok(Zeroizing::new(match reference {
            "env:TRAFFIC" => key,
            "env:READER" => Bind::key("reader"),
            "env:UNKNOWN" => Bind::key("unknown"),
            "env:OTHER" => "hmac-sha256:traffic:YW5vdGhlciBzZWNyZXQ=".into(),
            "env:PDNS" => PowerDns::KEY.into(),
            "env:WRONG" => "wrong".into(),
            other => return Err(format!("there is no {other}")),
        }))
    }
}

fn providers() -> Providers {
    let own = OwnProgram { program: "/does/not/exist".into(), config: "/does/not/exist".into() };
    Providers::new(own, Arc::new(Keys), BTreeMap::new(), BTreeMap::new()).unwrap()
}

fn record(name: &str, kind: &str, standby: &str, resolvers: &[String]) -> TrafficRecord {
    TrafficRecord {
        zone: ZONE.into(),
        name: format!("{name}.{ZONE}"),
        kind: kind.into(),
        standby: standby.into(),
        ttl_s: 1,
        ttl_s_max: 300,
        resolvers: resolvers.into(),
    }
}

fn by_bind(bind: &Bind, key: &str, record: TrafficRecord) -> TrafficHow {
    TrafficHow::Nsupdate { server: bind.address(), key: key.into(), record }
}

/// The record that users ask for, and its standby name.
fn shop(bind: &Bind, key: &str) -> TrafficHow {
    by_bind(bind, key, record("shop", "CNAME", "dr.shop.example", &[bind.address()]))
}

/// The steps that look at it and switch it. The second one may be undone.
fn steps(how: TrafficHow) -> (StepContext, StepContext) {
    let traffic = vec![Traffic { name: "users".into(), how }];
    let service = Service { traffic, ..sample::shop() };
    (context(&service, "assess.traffic.users"), context(&service, "open.traffic.users"))
}

/// Looking twice, then the suite.
async fn conforms(how: TrafficHow) {
    let providers = providers();
    let (look, mut switch) = steps(how);
    let effect = providers.of(&look.step).unwrap();
    conformance::looking(effect, &look).await.unwrap();
    let seen = effect.verify(&look).await.unwrap();
    assert!(seen.contains_key("traffic.users"), "{seen:?}");
    switch.facts.extend(seen);
    conformance::undoable(providers.of(&switch.step).unwrap(), &mut switch).await.unwrap();
}

/// Why it cannot be switched, as it is seen beforehand.
async fn refused(how: TrafficHow) -> Failure {
    let providers = providers();
    let (look, switch) = steps(how);
    let failure = providers.of(&look.step).unwrap().act(&look).await.unwrap_err();
    let later = providers.of(&switch.step).unwrap().precheck(&switch).await;
    assert!(later.is_err() || failure.message.contains("may be cached"), "{failure:?}");
    failure
}

#[track_caller]
fn expect(failure: &Failure, code: &str, parts: &[&str]) {
    assert_eq!(failure.code, code, "{failure:?}");
    for part in parts {
        assert!(failure.message.contains(part), "no {part:?} in {failure:?}");
    }
    assert!(!failure.hint.is_empty() || code == "RF1110", "{failure:?}");
}

/// Switches and remembers what was there, as a driver does.
async fn switched(providers: &Providers, switch: &mut StepContext) -> Result<(), Failure> {
    let effect = providers.of(&switch.step).unwrap();
    let original = effect.original(switch).await.unwrap().unwrap();
    switch.originals.insert(original.0, original.1);
    effect.act(switch).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_bind_is_switched_by_signed_updates_and_comes_back() {
    let bind = Bind::start(LINES);
    conforms(shop(&bind, "env:TRAFFIC")).await;
    assert_eq!(bind.records("shop", "CNAME"), ["2 main.shop.example."], "value and TTL");
    let many = record("www", "A", "10.2.0.1", &[bind.address()]);
    conforms(by_bind(&bind, "env:TRAFFIC", many)).await;
    assert_eq!(bind.records("www", "A"), ["60 10.1.0.1", "60 10.1.0.2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_at_a_record_changes_nothing_not_even_the_serial() {
    let bind = Bind::start(LINES);
    let before = bind.serial();
    assert!(!before.is_empty());
    let (look, _) = steps(shop(&bind, "env:TRAFFIC"));
    let providers = providers();
    providers.of(&look.step).unwrap().act(&look).await.unwrap();
    assert_eq!(bind.serial(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_of_dns_would_refuse_is_told_beforehand() {
    let bind = Bind::start(LINES);
    let with = |key: &str| shop(&bind, key);
    let failure = refused(with("env:UNKNOWN")).await;
    expect(&failure, "RF1162", &["NOTAUTH", "BADKEY", "'unknown'"]);
    expect(&refused(with("env:OTHER")).await, "RF1162", &["BADSIG", "'traffic'"]);
    expect(&refused(with("env:READER")).await, "RF1162", &["REFUSED", "'reader'"]);
    expect(&refused(with("env:NONE")).await, "RF1110", &["env:NONE"]);
    expect(&refused(with("env:WRONG")).await, "RF1110", &["no TSIG key"]);
    let here = [bind.address()];
    let other = |change: &dyn Fn(&mut TrafficRecord)| {
        let mut record = record("shop", "CNAME", "dr.shop.example", &here);
        change(&mut record);
        by_bind(&bind, "env:TRAFFIC", record)
    };
    let foreign = other(&|record| {
        record.zone = "acme.example".into();
        record.name = "shop.acme.example".into();
    });
    expect(&refused(foreign).await, "RF1162", &["does not serve zone 'acme.example.'"]);
    let inner = other(&|record| record.zone = "inner.shop.example".into());
    expect(&refused(inner).await, "RF1162", &["NOTAUTH", "not the primary server"]);
    let gone = other(&|record| record.name = "gone.shop.example".into());
    expect(&refused(gone).await, "RF1164", &["there is no CNAME record 'gone.shop.example'"]);
    let nowhere = other(&|record| record.standby = "nowhere.shop.example".into());
    expect(&refused(nowhere).await, "RF1164", &["'nowhere.shop.example' has no address"]);
    let slow = other(&|record| record.name = "slow.shop.example".into());
    expect(&refused(slow).await, "RF1164", &["may be cached for 3600 s, expected at most 300 s"]);
}

/// A clock that goes wrong.
#[derive(Debug)]
struct Late(SystemClock);

impl Clock for Late {
    fn now(&self) -> Timestamp {
        self.0.now() - jiff::Span::new().hours(1)
    }
    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
    fn boottime(&self) -> Duration {
        self.0.boottime()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_differ_are_told() {
    let bind = Bind::start(LINES);
    let (look, _) = steps(shop(&bind, "env:TRAFFIC"));
    let providers = providers().with_clock(Arc::new(Late(SystemClock::new())));
    let failure = providers.of(&look.step).unwrap().act(&look).await.unwrap_err();
    expect(&failure, "RF1162", &["BADTIME"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_taken_and_not_served_is_a_failure() {
    let bind = Bind::start(LINES);
    let stale = Bind::stale(LINES);
    let resolvers = [bind.address(), stale.address()];
    let record = record("shop", "CNAME", "dr.shop.example", &resolvers);
    let (_, mut switch) = steps(by_bind(&bind, "env:TRAFFIC", record));
    let providers = providers();
    switched(&providers, &mut switch).await.unwrap();
    let effect = providers.of(&switch.step).unwrap();
    assert_eq!(effect.probe(&switch).await, Found::Done);
    let failure = effect.verify(&switch).await.unwrap_err();
    expect(&failure, "RF1165", &["not served", &stale.address(), "answers main.shop.example."]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_changed_meanwhile_is_not_overwritten() {
    let bind = Bind::start(LINES);
    let (_, mut switch) = steps(shop(&bind, "env:TRAFFIC"));
    let providers = providers();
    let effect = providers.of(&switch.step).unwrap();
    let (object, value) = effect.original(&switch).await.unwrap().unwrap();
    switch.originals.insert(object, value);
    let elsewhere = "update delete shop.shop.example CNAME\n\
                     update add shop.shop.example 60 CNAME elsewhere.shop.example.";
    bind.change(elsewhere);
    let found = effect.probe(&switch).await;
    assert!(matches!(&found, Found::Foreign(what) if what.contains("elsewhere")), "{found:?}");
    let failure = effect.act(&switch).await.unwrap_err();
    expect(&failure, "RF1163", &["elsewhere.shop.example."]);
    assert_eq!(bind.records("shop", "CNAME"), ["60 elsewhere.shop.example."]);
    // Neither does an undo.
    let failure = effect.undo(&switch).await.unwrap_err();
    expect(&failure, "RF1163", &["elsewhere.shop.example."]);
    assert_eq!(bind.records("shop", "CNAME"), ["60 elsewhere.shop.example."]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_leaves_it_open_whether_something_is_there() {
    let mut bind = Bind::start(LINES);
    let mut powerdns = PowerDns::start(&[("shop", "CNAME", "main.shop.example")]);
    let mut haproxy = HaProxy::start();
    let all =
        [shop(&bind, "env:TRAFFIC"), by_powerdns(&powerdns, "env:PDNS"), by_haproxy(&haproxy)];
    bind.stop();
    powerdns.stop();
    haproxy.stop();
    let providers = providers();
    for how in all {
        let (look, switch) = steps(how);
        let effect = providers.of(&switch.step).unwrap();
        let found = effect.probe(&switch).await;
        assert!(
            matches!(&found, Found::Unknown(why) if why.contains("does not answer")),
            "{found:?}"
        );
        let failure = effect.act(&switch).await.unwrap_err();
        expect(&failure, "RF1161", &["does not answer"]);
        let failure = providers.of(&look.step).unwrap().act(&look).await.unwrap_err();
        expect(&failure, "RF1161", &["does not answer"]);
    }
}

fn by_powerdns(server: &PowerDns, login: &str) -> TrafficHow {
    TrafficHow::PowerDns {
        url: server.url(),
        server: "localhost".into(),
        login: login.into(),
        record: record("shop", "CNAME", "dr.shop.example", &[server.address()]),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_powerdns_is_switched_by_its_api_and_comes_back() {
    let server = PowerDns::start(&[
        ("shop", "CNAME", "main.shop.example"),
        ("main", "A", "10.1.0.1"),
        ("dr", "A", "10.2.0.1"),
    ]);
    conforms(by_powerdns(&server, "env:PDNS")).await;
    server.wait_for("shop", "CNAME", &["60 main.shop.example."]);
    let failure = refused(by_powerdns(&server, "env:WRONG")).await;
    expect(&failure, "RF1162", &["status 401"]);
    let mut other = by_powerdns(&server, "env:PDNS");
    if let TrafficHow::PowerDns { record, .. } = &mut other {
        record.zone = "acme.example".into();
        record.name = "shop.acme.example".into();
    }
    expect(&refused(other).await, "RF1162", &["status 404"]);
    let (_, mut switch) = steps(by_powerdns(&server, "env:PDNS"));
    let providers = providers();
    let effect = providers.of(&switch.step).unwrap();
    let (object, value) = effect.original(&switch).await.unwrap().unwrap();
    switch.originals.insert(object, value);
    server.change("shop", "CNAME", "elsewhere.shop.example.");
    let found = effect.probe(&switch).await;
    assert!(matches!(&found, Found::Foreign(what) if what.contains("elsewhere")), "{found:?}");
    let failure = effect.act(&switch).await.unwrap_err();
    expect(&failure, "RF1163", &["elsewhere.shop.example."]);
}

fn by_haproxy(haproxy: &HaProxy) -> TrafficHow {
    TrafficHow::HaProxy {
        socket: haproxy.socket(),
        backend: "shop".into(),
        primary: vec!["a".into(), "b".into()],
        standby: "dr".into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_haproxy_change_places_and_come_back() {
    let haproxy = HaProxy::start();
    conforms(by_haproxy(&haproxy)).await;
    assert_eq!(haproxy.answers(), ["a", "b"]);
    let mut over_tcp = by_haproxy(&haproxy);
    if let TrafficHow::HaProxy { socket, .. } = &mut over_tcp {
        *socket = haproxy.tcp_socket();
    }
    // What was drained before is drained again.
    haproxy.tell("set server shop/b state drain");
    let (_, mut switch) = steps(over_tcp);
    let providers = providers();
    switched(&providers, &mut switch).await.unwrap();
    let effect = providers.of(&switch.step).unwrap();
    effect.verify(&switch).await.unwrap();
    assert_eq!(haproxy.answers(), ["dr"]);
    effect.undo(&switch).await.unwrap();
    assert_eq!(haproxy.answers(), ["a"]);
    // A state that is neither the old one nor the wanted one is somebody else's.
    effect.act(&switch).await.unwrap();
    haproxy.tell("set server shop/a state drain");
    let found = effect.probe(&switch).await;
    assert!(matches!(&found, Found::Foreign(what) if what.contains("'a'")), "{found:?}");
    expect(&effect.undo(&switch).await.unwrap_err(), "RF1163", &["'a' is in state drain"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_haproxy_would_refuse_is_told_beforehand() {
    let haproxy = HaProxy::start();
    let with = |change: &dyn Fn(&mut String, &mut String, &mut String)| {
        let mut how = by_haproxy(&haproxy);
        if let TrafficHow::HaProxy { socket, backend, standby, .. } = &mut how {
            change(socket, backend, standby);
        }
        how
    };
    let reader = haproxy.reader_socket();
    let failure = refused(with(&|socket, _, _| *socket = reader.clone())).await;
    expect(&failure, "RF1162", &["level 'operator', expected admin"]);
    let failure = refused(with(&|_, backend, _| *backend = "other".into())).await;
    expect(&failure, "RF1164", &["backend 'other'"]);
    let failure = refused(with(&|_, _, standby| *standby = "gone".into())).await;
    assert!(failure.message.contains("no server 'gone'; it has a, b, dr"), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_server_that_is_down_takes_no_users() {
    let haproxy = HaProxy::without_standby();
    let (_, mut switch) = steps(by_haproxy(&haproxy));
    let providers = providers();
    let failure = switched(&providers, &mut switch).await.unwrap_err();
    expect(&failure, "RF1165", &["'shop/dr'", "not up"]);
    assert_eq!(haproxy.answers(), ["a", "b"], "the others serve on");
    providers.of(&switch.step).unwrap().undo(&switch).await.unwrap();
    let states = haproxy.tell("show servers state shop");
    assert!(states.lines().any(|line| line.contains(" dr 127.0.0.1 0 5 ")), "{states}");
}

fn by_nginx(nginx: &Nginx) -> TrafficHow {
    TrafficHow::Nginx {
        file: nginx.path("upstream.inc").display().to_string(),
        standby: nginx.path("standby.inc").display().to_string(),
        test: nginx.command(&["-t"]),
        reload: nginx.command(&["-s", "reload"]),
        probe_url: Some(nginx.url()),
        probe_word: Some("standby".into()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_loads_the_standby_file_and_the_old_one_again() {
    let nginx = Nginx::start();
    let file = nginx.path("upstream.inc");
    let before = fs::read(&file).unwrap();
    conforms(by_nginx(&nginx)).await;
    assert_eq!(fs::read(&file).unwrap(), before);
    let (_, mut switch) = steps(by_nginx(&nginx));
    let providers = providers();
    switched(&providers, &mut switch).await.unwrap();
    let effect = providers.of(&switch.step).unwrap();
    effect.verify(&switch).await.unwrap();
    // No worker with the old file takes a connection any more.
    let answers: Vec<_> = (0..50).map(|_| nginx.answers()).collect();
    assert!(answers.iter().all(|it| it.as_deref() == Some("standby")), "{answers:?}");
    assert_eq!(fs::read(&file).unwrap(), fs::read(nginx.path("standby.inc")).unwrap());
    fs::write(&file, "# mine\n").unwrap();
    let found = effect.probe(&switch).await;
    assert!(matches!(&found, Found::Foreign(what) if what.contains("sha256")), "{found:?}");
    expect(&effect.act(&switch).await.unwrap_err(), "RF1163", &["another content"]);
    expect(&effect.undo(&switch).await.unwrap_err(), "RF1163", &["sha256"]);
    assert_eq!(fs::read(&file).unwrap(), b"# mine\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_replaced_and_not_loaded_is_loaded_by_the_next_driver() {
    let nginx = Nginx::start();
    let (_, mut switch) = steps(by_nginx(&nginx));
    let providers = providers();
    let effect = providers.of(&switch.step).unwrap();
    let (object, value) = effect.original(&switch).await.unwrap().unwrap();
    switch.originals.insert(object, value);
    // As left by a driver that died between the two.
    fs::copy(nginx.path("standby.inc"), nginx.path("upstream.inc")).unwrap();
    assert_eq!(effect.probe(&switch).await, Found::Absent);
    effect.act(&switch).await.unwrap();
    effect.verify(&switch).await.unwrap();
    assert_eq!(nginx.answers().as_deref(), Some("standby"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_file_that_nginx_refuses_leaves_everything_as_it_was() {
    let nginx = Nginx::start();
    let file = nginx.path("upstream.inc");
    let before = fs::read(&file).unwrap();
    let (_, mut switch) = steps(by_nginx(&nginx));
    let providers = providers();
    let nonsense = "upstream shop { nonsense; }\n";
    fs::write(nginx.path("standby.inc"), nonsense).unwrap();
    // As a switch of another night left it, which somebody took back by hand.
    let mark = nginx.path(".upstream.inc.rollforward-mark");
    fs::write(&mark, format!("loaded {}\n", digest(nonsense))).unwrap();
    let failure = switched(&providers, &mut switch).await.unwrap_err();
    assert!(!fs::read_to_string(&mark).unwrap().starts_with("loaded"), "it would count as done");
    expect(&failure, "RF1164", &["nonsense"]);
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_eq!(nginx.answers().as_deref(), Some("primary"));
    fs::remove_file(nginx.path("standby.inc")).unwrap();
    expect_missing(&refused(by_nginx(&nginx)).await, "standby.inc");
}

fn digest(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn expect_missing(failure: &Failure, name: &str) {
    assert_eq!(failure.code, "RF1164", "{failure:?}");
    assert!(failure.message.contains(name), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nginx_that_does_not_load_the_file_is_found_out() {
    let nginx = Nginx::start();
    let mut how = by_nginx(&nginx);
    if let TrafficHow::Nginx { reload, .. } = &mut how {
        // It says that it did.
        *reload = vec!["true".into()];
    }
    let (_, mut switch) = steps(how);
    let providers = providers();
    switched(&providers, &mut switch).await.unwrap();
    let failure = providers.of(&switch.step).unwrap().verify(&switch).await.unwrap_err();
    expect(&failure, "RF1165", &["does not serve it", "'standby'"]);
}

/// Answers on every connection what `answer` says of its number; the address.
async fn answering(answer: fn(usize) -> &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            let body = answer(counted.fetch_add(1, Ordering::Relaxed));
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len());
            stream.write_all(format!("{head}\r\n{body}").as_bytes()).await.unwrap();
        }
    });
    (address, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_worker_that_answers_once_more_is_waited_for() {
    let nginx = Nginx::start();
    for (answer, is_seen) in
        [(|at| if at == 1 { "primary" } else { "standby" }) as fn(usize) -> &'static str, |at| {
            if at % 5 == 4 { "primary" } else { "standby" }
        }]
        .into_iter()
        .zip([true, false])
    {
        let (url, count) = answering(answer).await;
        let mut how = by_nginx(&nginx);
        if let TrafficHow::Nginx { probe_url, .. } = &mut how {
            *probe_url = Some(url);
        }
        let (_, switch) = steps(how);
        let seen = providers().of(&switch.step).unwrap().verify(&switch).await;
        assert_eq!(seen.is_ok(), is_seen, "{seen:?}");
        // A connection of its own for each, also behind the wrong answer.
        assert!(count.load(Ordering::Relaxed) > 8, "{count:?}");
    }
}
