//! A journal that cannot be written, in the middle of a run; and one that a newer version wrote.

use std::fs;
use std::sync::Arc;

use repository::journal::{self as objects, Link};
use repository::key_file::KeyFile;
use repository::{Member, unlock};
use store::Store;
use store::local::{Access, LocalStore};
use testbed::SmallDisk;
use testbed::postgres::{Cluster, Install};

use crate::program::{Ran, text};
use crate::services::assert_restored;
use crate::shop::Shop;
use crate::site::Site;

/// Whether the shop's process runs.
fn runs(shop: &Shop) -> bool {
    shop.get("/api/stats").is_some()
}

#[test]
fn a_home_that_is_lost_in_the_middle_stops_the_run_before_the_next_effect() {
    let shop = Shop::with(16, |text| {
        let door = text.lines().find(|line| line.starts_with("door = ")).unwrap().to_owned();
        let path = door.split('"').nth(1).unwrap().to_owned();
        let folder = path.rsplit_once('/').unwrap().0.to_owned();
        let words = |verb: &str| format!("[\"{folder}/door.sh\", \"{verb}\"]");
        let commands = format!(
            "door = {{ shut = {}, open = {}, probe = {} }}",
            words("shut"),
            words("open"),
            words("probe")
        );
        text.replace(&door, &commands)
    });
    // Whoever shuts the door loses the repository with it, the first time.
    let folder = shop.site.folder.path().display().to_string();
    shop.file(
        "door.sh",
        &format!(
            "#!/bin/sh\ncd '{folder}' || exit 2\ncase $1 in\n\
             shut) : >shop.maintenance; [ -e lost ] || mv main lost ;;\n\
             open) rm -f shop.maintenance ;;\nprobe) [ -e shop.maintenance ] ;;\nesac\n"
        ),
        0o755,
    );
    let before = shop.destroy();
    let failed = shop.recover("--confirm-any");
    let message = failed.failed("RF1004", 1);
    assert!(message.contains("main"), "{message}");
    assert!(shop.is_shut() && runs(&shop) && shop.site.cluster.is_running(), "no further effect");
    assert!(!shop.path("main").exists(), "nothing was written into its place");
    fs::rename(shop.path("lost"), shop.path("main")).unwrap();
    fs::write(shop.path("lost"), "").unwrap();
    let run = text(&shop.site.run("runs").done(), "runs.0.run");
    let report = shop.site.run(&format!("run resume {run} --as oncall --no-wait")).done();
    assert_restored(&shop, &report, &before);
}

#[test]
fn a_journal_on_a_full_disk_is_found_before_the_run_and_stops_it_in_the_middle() {
    let disk = SmallDisk::new(256);
    let site = Site::unprotected(18, 1, |builder| builder.setting("archive_mode", "on"));
    let repositories = [
        format!("main={}", site.repository("main").display()),
        format!("small={}/small", disk.path().display()),
    ];
    site.init(&repositories).done();
    let shop = Shop::on(site, |text| text);
    shop.site.edit_config("version = 1\n", "version = 1\njournal = [\"small\"]\n");
    let before = shop.destroy();
    let filler = disk.fill(0);
    let refused = shop.recover("--confirm-any --no-salvage");
    assert_ne!(refused.status.code(), Some(0));
    assert!(!shop.is_shut() && runs(&shop), "nothing was touched: {refused:?}");
    fs::remove_file(&filler).unwrap();

    let mut command = shop.site.command("recover shop --before-incident --as oncall --confirm-any");
    let died = Ran::of(command.env("ROLLFORWARD_FAULT", "After append:done#4"));
    assert_eq!(died.status.code(), None, "{died:?}");
    let run = text(&shop.site.run("runs").done(), "runs.0.run");
    let filler = disk.fill(0);
    let resume = format!("run resume {run} --as oncall --no-wait");
    let stopped = shop.site.run(&resume);
    assert_eq!(stopped.status.code(), Some(1), "{stopped:?}");
    assert!(runs(&shop) && shop.site.cluster.is_running(), "no further effect");
    fs::remove_file(&filler).unwrap();
    assert_restored(&shop, &shop.site.run(&resume).done(), &before);
}

/// Appends a record of a type that this version does not know.
async fn append_from_the_future(shop: &Shop, run: &str) {
    let path = shop.site.repository("main");
    let store: Arc<dyn Store> = Arc::new(LocalStore::open(&path, Access::Owner));
    let key = fs::read(shop.path("host.key")).unwrap();
    let key = KeyFile::parse("host.key", &key).unwrap();
    let member = Member { name: "main".into(), store: Arc::clone(&store) };
    let opened = unlock::open(vec![member], Some(&key.unlock("host.key"))).await.unwrap();
    let mut last = None;
    let mut sequence = 0;
    while let Ok(stored) = store.get(&objects::record(run, sequence).unwrap()).await {
        last = Some(stored);
        sequence += 1;
    }
    let last = last.expect("a run has records");
    let content = objects::open(opened.keys(), &last).unwrap();
    let mut record: serde_json::Value = serde_json::from_slice(&content).unwrap();
    record["seq"] = sequence.into();
    record["type"] = "teleported".into();
    record["must"] = true.into();
    record["binary"] = "9.0.0".into();
    record["body"] = serde_json::json!({ "step": "restore.teleport.shop" });
    let content = serde_json::to_vec(&record).unwrap();
    let sealed = objects::seal(opened.keys(), Link::to(&last), &content);
    let key = objects::record(run, sequence).unwrap();
    store.put_if_absent(&key, vec![sealed]).await.unwrap();
}

#[test]
fn a_run_that_a_newer_version_drove_is_shown_and_not_driven() {
    let shop = Shop::open(15);
    shop.destroy();
    let mut command = shop.site.command("recover shop --before-incident --as oncall --confirm-any");
    Ran::of(command.env("ROLLFORWARD_FAULT", "Before act:shut.writer.shop"));
    let run = text(&shop.site.run("runs").done(), "runs.0.run");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(append_from_the_future(&shop, &run));
    let shown = shop.site.run(&format!("run show {run}")).done();
    assert!(text(&shown, "newer").contains("teleported"), "{shown}");
    let records = shown["records"].as_array().unwrap();
    assert_eq!(records.last().unwrap()["body"]["step"], "restore.teleport.shop");
    for words in ["run resume", "run takeover", "run abort"] {
        let reason = if words == "run abort" { "--reason no" } else { "--no-wait" };
        let refused = shop.site.run(&format!("{words} {run} --as oncall {reason}"));
        assert!(refused.failed("RF1006", 4).contains("9.0.0"), "{refused:?}");
    }
    assert!(runs(&shop) && shop.site.cluster.is_running(), "nothing was done");
    let before = shop.site.run("runs");
    assert!(before.stderr.contains("needs a newer version"), "{}", before.stderr);
}

#[test]
fn services_with_repositories_of_their_own_keep_their_journals_apart() {
    let shop = Shop::with(16, |text| text);
    let site = &shop.site;
    // Its repository comes first, whoever asks without a service.
    let other = Cluster::builder(&Install::by_major(16))
        .wal_segsize_mb(1)
        .setting("archive_mode", "on")
        .start();
    let at = site.folder.path().display();
    let tables = format!(
        "\n[repository.aaa]\nurl = \"{at}/aaa\"\nkeys = [\"file:{at}/host.key\"]\n\
         [cluster.billing]\ndata_directory = \"{}\"\nconnection = \"{}\"\n\
         repositories = [\"aaa\"]\nbin_directory = \"{}\"\n",
        other.data_dir().display(),
        other.conninfo(),
        other.install().bindir.display()
    );
    site.append_config(&tables);
    site.run("init --cluster billing --enable-archiving").done();
    let service = format!(
        "\n[service.billing]\nobjectives = {{ rpo = \"15m\", rto = \"4h\" }}\n\
         database = {{ cluster = \"billing\", name = \"postgres\", directory = \"{at}\" }}\n"
    );
    site.append_config(&service);
    site.run("backup billing").done();
    for service in ["shop", "billing"] {
        let drill = format!("drill {service} --copy --latest --as oncall");
        let run = text(&site.run(&drill).done(), "run");
        for (words, field) in [("run show", "run"), ("report", "report.run")] {
            let shown = site.run(&format!("{words} {run}")).done();
            assert_eq!(text(&shown, field), run, "{words}");
        }
        let opened = site.run(&format!("incident open {service} --summary slow")).done();
        site.run(&format!("incident ack {}", text(&opened, "incident"))).done();
    }
    let services = |list: &str, row: &str| -> Vec<String> {
        let listed = site.run(list).done();
        let rows = listed[row].as_array().unwrap().iter();
        rows.map(|it| text(it, "service")).collect()
    };
    assert_eq!(services("runs", "runs"), ["billing", "shop"], "the newest first");
    assert_eq!(services("incident list", "incidents"), ["billing", "shop"]);
    assert_eq!(site.run("incident watch").done()["open"], 2, "in both homes");
    // One that is away hides no other one.
    fs::rename(site.folder.join("aaa"), site.folder.join("away")).unwrap();
    assert_eq!(services("runs", "runs"), ["shop"]);
    // What began while the first one was away is found when that is back.
    let (main, away) = (site.folder.join("main"), site.folder.join("main-away"));
    fs::rename(&main, &away).unwrap();
    let opened = site.run("incident open shop --summary meanwhile").done();
    let run = text(&site.run("drill shop --copy --latest --as oncall").done(), "run");
    fs::rename(&away, &main).unwrap();
    site.run(&format!("incident ack {}", text(&opened, "incident"))).done();
    assert_eq!(text(&site.run(&format!("run show {run}")).done(), "run"), run);
}
