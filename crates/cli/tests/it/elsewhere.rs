//! Another machine goes on with a run: it has the repository and the keys, and nothing else of the
//! first one. It is a mount namespace, a user and a folder of its own.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use testbed::{Workdir, binary, give_to_postgres};

use crate::program::{Ran, text};
use crate::services::assert_restored;
use crate::shop::Shop;
use crate::site::{edit, files};

/// Hides what the first machine alone has, and runs the rest of the words.
const BECOME_ANOTHER: &str = "mount -t tmpfs none \"$1\" && mount --bind /dev/null \"$2\" && \
     mount --bind /dev/null \"$3\" && mount --bind /dev/null \"$4\" && shift 4 && exec \"$@\"";

/// The same on a host that the cluster does not name.
const ON_ANOTHER_HOST: [&str; 4] =
    ["sh", "-c", "echo elsewhere >/proc/sys/kernel/hostname && exec \"$@\"", "another"];

pub(crate) struct Elsewhere<'s> {
    shop: &'s Shop,
    folder: Workdir,
}

impl<'s> Elsewhere<'s> {
    /// A machine that has fetched the configuration with the recovery code.
    pub(crate) fn reached(shop: &'s Shop) -> Self {
        assert!(testbed::can_drop_privileges(), "root is needed: run `make test` as root");
        let it = Self { shop, folder: Workdir::new() };
        for name in ["host.key", "recovery-code"] {
            fs::copy(shop.path(name), it.folder.join(name)).unwrap();
        }
        let repository = shop.site.repository("main").display().to_string();
        let code = it.folder.join("recovery-code").display().to_string();
        let fetch = ["init", "--from-repository", &repository, "--recovery-code-file", &code];
        Ran::of(&mut it.command(&fetch)).done();
        let (theirs, ours) = (shop.site.folder.path(), it.folder.path());
        for name in ["state", "host.key"] {
            let [from, to] = [theirs, ours].map(|folder| folder.join(name).display().to_string());
            edit(&it.config(), &from, &to);
        }
        // Root goes on; what the server's own user has to read there is given to it.
        it.folder.folder("state", 0o755);
        for path in [it.config(), it.folder.join("host.key")] {
            give_to_postgres(&path);
        }
        it
    }

    fn config(&self) -> PathBuf {
        self.folder.join("rollforward.toml")
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        self.command_behind(&[], words)
    }

    fn command_behind(&self, before: &[&str], words: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--uts", "sh", "-c", BECOME_ANOTHER, "another"]);
        for name in ["state", "rollforward.toml", "host.key", "recovery-code"] {
            command.arg(self.shop.path(name));
        }
        command.args(before).arg(binary("rollforward")).args(words).args(["--json", "--config"]);
        command.arg(self.config()).stdin(Stdio::null()).current_dir("/");
        command
    }

    fn run(&self, words: &str) -> Ran {
        let words: Vec<&str> = words.split_whitespace().collect();
        Ran::of(&mut self.command(&words))
    }
}

#[test]
fn another_machine_takes_a_run_over_with_the_repository_and_the_keys() {
    let shop = Shop::open(17);
    // Its configuration, services and all, goes with the backup.
    shop.site.backup();
    let before = shop.destroy();
    let mut first = shop.site.command("recover shop --before-incident --as oncall --confirm-any");
    let died = Ran::of(first.env("ROLLFORWARD_FAULT", "After act:secure.salvage.shop"));
    assert_eq!(died.status.code(), None, "{died:?}");
    let state = || {
        let mut seen: Vec<_> = files(&shop.path("state"));
        seen.sort();
        seen.into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect::<Vec<_>>()
    };
    let left = state();

    let elsewhere = Elsewhere::reached(&shop);
    let listed = elsewhere.run("runs").done();
    let run = text(&listed, "runs.0.run");
    // Nobody there can know that the first driver is dead.
    let refused = elsewhere.run(&format!("run resume {run} --as second --no-wait"));
    assert!(refused.failed("RF0912", 4).contains("takeover"));
    // What has to be done on the cluster's host is not done on another one; nobody waits for that.
    let words = ["run", "takeover", &run, "--as", "second", "--no-wait"];
    let other_host = Ran::of(&mut elsewhere.command_behind(&ON_ANOTHER_HOST, &words));
    assert!(other_host.failed("RF1008", 4).contains("'elsewhere'"));
    let report = elsewhere.run(&format!("run takeover {run} --as second --no-wait")).done();
    assert_restored(&shop, &report, &before);
    let remarks = report["remarks"].as_array().unwrap();
    let says = |what: &str| remarks.iter().any(|remark| text(remark, "text").contains(what));
    assert!(says("second took the run over"), "{remarks:?}");
    // It is protected from there, and the first machine's files are as they were.
    elsewhere.run("backup shop").done();
    let verified = elsewhere.run("verify shop --deep").done();
    assert_eq!(verified["findings"], Value::Array(Vec::new()));
    assert_eq!(state(), left);
    // The first machine sees that it is over.
    shop.site.run(&format!("run resume {run} --as oncall --no-wait"));
    let seen = shop.site.run("runs").done();
    assert_eq!(text(&seen, "runs.0.verdict"), "restored");
}
