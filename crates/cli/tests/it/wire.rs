//! S3 behind a wire that fails half of all requests, and S3 that ignores `If-None-Match`.

use std::path::Path;

use serde_json::{Value, json};
use testbed::postgres::Cluster;
use testbed::{Mishap, Order, Port, Proxy, S3};

use crate::program::{Ran, text};
use crate::recovering::recover;
use crate::s3;
use crate::site::{Site, edit};

/// Three of six requests fail, each in its own way.
const HALF: [Mishap; 6] =
    [Mishap::None, Mishap::Busy, Mishap::None, Mishap::LostAnswer, Mishap::None, Mishap::Refused];

/// How often a command is repeated. A request is tried six times: where chance decides, one of 64
/// fails for good, and so do about half of all backups.
const RUNS_MAX: u32 = 30;

/// Runs these words until they succeed; what fails before says that the repository is unavailable.
#[track_caller]
fn persistently(site: &Site, words: &str) -> Value {
    for _ in 0..RUNS_MAX {
        let ran = site.run(words);
        if ran.status.success() {
            return ran.done();
        }
        ran.failed("RF0204", 1);
    }
    panic!("{words} failed {RUNS_MAX} times");
}

/// Restores and starts until that succeeds.
fn restored(site: &Site) -> Cluster {
    let install = site.cluster.install();
    let mut given_up = 0;
    for _ in 0..RUNS_MAX {
        let directory = site.folder.join(format!("restored-{given_up}"));
        let (to, bin) = (directory.display(), install.bindir.display());
        let ran = site.run(&format!("restore shop --to {to} --start --bin-directory {bin}"));
        if ran.status.success() {
            let port = ran.done()["port"].as_u64().unwrap();
            return Cluster::attach(install, &directory, u16::try_from(port).unwrap());
        }
        if !directory.join("rollforward.ticket.json").exists() {
            // Begun again in the same directory.
            ran.failed("RF0204", 1);
            continue;
        }
        ran.failed("RF0516", 1);
        match recovered(site, &directory) {
            Some(cluster) => return cluster,
            None => given_up += 1,
        }
    }
    panic!("no restore of {RUNS_MAX} succeeded");
}

/// Starts a server whose recovery a failed request has stopped: each start goes on with it. `None`
/// when PostgreSQL had removed `recovery.signal` and was asking for its parent's history: what
/// starts then is no recovery any more.
fn recovered(site: &Site, directory: &Path) -> Option<Cluster> {
    let port = Port::reserve();
    let mut cluster = Cluster::attach(site.cluster.install(), directory, port.number());
    for _ in 0..RUNS_MAX {
        if !directory.join("recovery.signal").exists() {
            return None;
        }
        match recover(&mut cluster) {
            Ok(()) => return Some(cluster),
            Err(log) => {
                // Of a file that could not be looked for, or of anything else.
                let known = ["error[RF0112]", "error[RF0204]"].iter().any(|it| log.contains(it));
                assert!(known, "{log}");
            }
        }
    }
    panic!("recovery stopped {RUNS_MAX} times: {}", cluster.log_text());
}

#[test]
fn backup_push_and_restore_get_through_though_half_of_all_requests_fail() {
    let s3 = S3::start();
    let site = s3::site(17, &s3, &[s3::address(&s3)]);
    let by_chance = Proxy::start(&s3.endpoint(), Order::Random(7), &HALF);
    edit(&site.config(), &s3.endpoint(), &by_chance.endpoint());
    site.cluster.psql("CREATE TABLE t AS SELECT i FROM generate_series(1, 3000) i");
    let backup = persistently(&site, "backup shop");
    for row in 1..=3 {
        site.cluster.psql(&format!("INSERT INTO t VALUES (-{row})"));
        let path = site.cluster.data_dir().join("pg_wal").join(site.cluster.switch_wal());
        let words = format!("wal push --cluster shop {}", path.display());
        let outcome = text(&persistently(&site, &words), "outcome");
        // The server's own archiver may have been first, or an answer was lost.
        assert!(["stored", "already there"].contains(&outcome.as_str()), "{outcome}");
    }
    assert!(by_chance.struck() > 30, "{}", by_chance.struck());

    // A recovery needs too many requests in a row to be left to chance.
    let in_turn = Proxy::start(&s3.endpoint(), Order::InTurn, &HALF);
    edit(&site.config(), &by_chance.endpoint(), &in_turn.endpoint());
    let restored = restored(&site);
    assert_eq!(restored.psql("SELECT count(*), min(i) FROM t"), "3003|-3");
    assert!(in_turn.struck() > 30, "{}", in_turn.struck());

    // What went through the failures is whole, and nothing of it is there twice.
    edit(&site.config(), &in_turn.endpoint(), &s3.endpoint());
    site.verify_clean();
    // One whose last answer was lost may be there besides.
    let listed = site.run("backups shop").done();
    let label = &backup["backup"]["label"];
    assert!(listed["backups"].as_array().unwrap().iter().any(|it| it["label"] == *label));
    let status = site.run("wal status shop").done();
    assert_eq!(status["conflicts"], json!([]), "{status}");
}

#[test]
fn a_store_that_ignores_conditions_is_refused_and_left_as_it_was() {
    let s3 = S3::start();
    let mut site = Site::unprotected(15, 1, |builder| builder.setting("archive_mode", "on"));
    site.variables = s3::credentials(&s3);
    let proxy = Proxy::start(&s3.endpoint(), Order::InTurn, &[Mishap::Unconditional]);
    let address = s3::address_at(&s3, &proxy.endpoint());
    let refused = |ran: &Ran| {
        let said = ran.failed("RF0207", 4);
        assert!(said.contains("does not honour put-if-absent"), "{said}");
        assert!(said.contains("declare the repository single-writer"), "{said}");
        assert_eq!(s3.keys(), [""; 0]);
        for name in ["host.key", "recovery-code", "state"] {
            assert!(!site.folder.join(name).exists(), "{name}");
        }
    };
    refused(&site.init(std::slice::from_ref(&address)));
    // With the configuration that the first one wrote.
    let code = site.folder.join("recovery-code");
    let again = format!("init --enable-archiving --recovery-code-file {}", code.display());
    refused(&site.run(&again));
    assert!(proxy.struck() > 30, "{}", proxy.struck());

    // It was honest when the repository was made, and is replaced by one that lies.
    edit(&site.config(), &proxy.endpoint(), &s3.endpoint());
    site.run(&again).done();
    let seen = |read_only: &str| {
        let findings = site.run(&format!("check shop {read_only}")).ended(3);
        let of_s3 = |finding: &&Value| finding["subject"] == "repository s3";
        findings.as_array().unwrap().iter().filter(of_s3).map(Value::to_string).collect::<String>()
    };
    assert!(seen("").contains("put-if-absent is honoured"), "{}", seen(""));
    let before = s3.keys();
    edit(&site.config(), &s3.endpoint(), &proxy.endpoint());
    let told = seen("");
    assert!(told.contains("\"problem\"") && told.contains("does not honour"), "{told}");
    assert!(!seen("--read-only").contains("put-if-absent"), "nothing was proved");
    assert_eq!(s3.keys(), before);
}

#[test]
fn a_store_that_ignores_conditions_can_be_declared_to_have_one_writer() {
    let s3 = S3::start();
    let mut site = Site::unprotected(18, 1, |builder| builder.setting("archive_mode", "on"));
    site.variables = s3::credentials(&s3);
    let proxy = Proxy::start(&s3.endpoint(), Order::InTurn, &[Mishap::Unconditional]);
    let mut init = site.init_command(&[s3::address_at(&s3, &proxy.endpoint())]);
    Ran::of(init.arg("--single-writer")).done();
    s3::give_credentials(&site, &s3);
    site.backup();
    site.archive();
    site.verify_clean();
}
