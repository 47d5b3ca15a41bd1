//! Somebody has broken in: the service is recovered to before that, with other passwords, and what
//! they left is evidence.

use std::fs;

use crate::program::{Ran, text};
use crate::services::verdict;
use crate::shop::{PASSWORD, Shop};
use crate::site::{edit, files};

const NEW: &str = "n3w-planted-passw0rd";

/// The shop, with a script that rotates something else.
fn shop() -> Shop {
    let shop = Shop::with(16, |service| {
        let door = service.split("door = { file = \"").nth(1).unwrap();
        let folder = door.split("/shop.maintenance").next().unwrap().to_owned();
        service
            + &format!(
                "breach = {{ rotate = {{ shop = \"file:{folder}/new-password\" }}, \
                 commands = [[\"{folder}/rotate.sh\"]] }}\n"
            )
    });
    shop.file("new-password", &format!("{NEW}\n"), 0o600);
    let folder = shop.site.folder.path().display().to_string();
    let script = format!("#!/bin/sh\ntouch '{folder}/rotated'\n");
    shop.file("rotate.sh", &script, 0o755);
    shop
}

#[test]
fn after_a_breach_credentials_are_others_and_the_replaced_cluster_is_evidence() {
    let shop = shop();
    let site = &shop.site;
    let verifier = "SELECT rolpassword FROM pg_authid WHERE rolname = 'shop'";
    let known = site.cluster.psql(verifier);
    let before = shop.destroy();
    site.archive();
    let found = site.run("locate shop").done();
    let target = text(&found, "suspects.0.recover_before");

    for words in ["recover shop --breach --latest", "recover shop --breach --before-incident"] {
        let refused = site.run(&format!("{words} --as oncall --confirm-any")).failed("RF0912", 4);
        assert!(refused.contains("before the intrusion"), "{refused}");
    }
    let recover = format!("recover shop --breach --before {target} --as oncall");
    let plan = site.run(&format!("plan shop --breach --before {target}")).done();
    let recovered = site.run(&format!("{recover} --no-wait --confirm {}", text(&plan, "confirm")));
    let run = text(&recovered.ended(5), "run");
    assert!(shop.is_shut(), "nobody is let in before legal has been told");
    site.run(&format!("run approve {run} --as oncall")).done();
    let report = site.run(&format!("run resume {run} --as oncall --no-wait")).done();
    assert_eq!(verdict(&report), ("restored".into(), "new".into()), "{report}");
    assert!(!shop.is_shut() && shop.is_healthy());
    assert_eq!(shop.restored_orders(&report, &before.at), before.orders);

    // The application has come in with the new password, and the old one is nobody's.
    assert!(shop.setting().contains(NEW) && !shop.setting().contains(PASSWORD));
    assert!(shop.path("rotated").exists());
    let now = shop.ask_restored(&report, verifier);
    assert!(now.starts_with("SCRAM-SHA-256$") && now != known, "{now}");
    for path in files(&site.folder.join("state")) {
        let kept = fs::read(&path).unwrap();
        let kept = String::from_utf8_lossy(&kept);
        assert!(!kept.contains(NEW), "a password in '{}'", path.display());
    }

    // The evidence stays, whatever the policy says, until somebody lifts the hold.
    let mut remove = site.command(&format!("run remove-old {run} --as oncall --early"));
    let confirm = "shop remove ".to_owned() + &text(&report, "facts.safety_copy_system_id");
    let refused = Ran::of(remove.args(["--confirm", &confirm])).failed("RF0912", 4);
    assert!(refused.contains("held as evidence"), "{refused}");
    assert!(site.cluster.data_dir().exists());
}

#[test]
fn a_breach_nobody_declared_and_a_password_that_is_not_there_are_refused_beforehand() {
    let shop = shop();
    fs::remove_file(shop.path("new-password")).unwrap();
    let plan = "plan shop --breach --immediate";
    let refused = shop.site.run(plan).failed("RF0912", 4);
    assert!(refused.contains("new-password"), "{refused}");
    shop.file("new-password", NEW, 0o600);
    shop.site.run(plan).done();
    a_password_that_the_setting_cannot_hold_ends_the_run_before_anything(&shop);
    let config = fs::read_to_string(shop.site.config()).unwrap();
    let lines = config.lines().filter(|line| !line.starts_with("breach = "));
    shop.site.write_config(&lines.map(|line| format!("{line}\n")).collect::<String>());
    let refused = shop.site.run(plan).failed("RF0912", 4);
    assert!(refused.contains("declares no breach"), "{refused}");
}

/// In the form of a URI it can: so the setting gets another one.
fn a_password_that_the_setting_cannot_hold_ends_the_run_before_anything(shop: &Shop) {
    let uri = shop.setting();
    let (config, port) = (shop.site.config(), shop.site.cluster.port());
    let libpq =
        format!("DATABASE_URL=\"host=127.0.0.1 port={port} user=shop password={PASSWORD}\"\n");
    shop.file("shop.env", &libpq, 0o600);
    edit(&config, "form = \"uri\"", "form = \"libpq\"");
    shop.file("new-password", "two wörds", 0o600);
    let run = "recover shop --breach --immediate --as oncall --confirm-any --no-wait";
    let report = shop.site.run(run).ended(6);
    let said = report.to_string();
    assert!(said.contains("the new password holds characters"), "{said}");
    assert!(!said.contains("wörds") && !said.contains(PASSWORD));
    assert_eq!(verdict(&report), ("rolled_back".into(), "old".into()), "{report}");
    assert!(!shop.is_shut() && shop.setting() == libpq);
    edit(&config, "form = \"libpq\"", "form = \"uri\"");
    shop.file("shop.env", &uri, 0o600);
    shop.file("new-password", NEW, 0o600);
}
