//! What scripts rely on: help, JSON, what goes where, codes and completions.

use std::process::Command;

use serde_json::Value;

use crate::program::{Ran, program, text};
use crate::site::Site;

fn plain(words: &str) -> Ran {
    Ran::of(program().args(words.split_whitespace()))
}

/// The commands that `--help` of `words` lists.
fn listed(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect()
}

fn check_help(command: &str, seen: &mut Vec<String>) {
    let ran = plain(&format!("{command} --help"));
    assert!(ran.status.success(), "{ran:?}");
    assert!(ran.stderr.is_empty(), "{ran:?}");
    assert!(ran.stdout.contains("Usage: rollforward"), "{ran:?}");
    seen.push(command.trim().to_owned());
    for below in listed(&ran.stdout) {
        check_help(&format!("{command} {below}"), seen);
    }
}

#[test]
fn every_command_has_help() {
    let mut seen = Vec::new();
    check_help("", &mut seen);
    for expected in [
        "demo",
        "init",
        "check",
        "backup",
        "backups",
        "window",
        "locate",
        "restore",
        "adopt",
        "verify",
        "plan",
        "runbook",
        "recover",
        "drill",
        "diagnose",
        "runs",
        "run show",
        "run watch",
        "run approve",
        "run pause",
        "run resume",
        "run retry",
        "run skip",
        "run abort",
        "run takeover",
        "report",
        "incident open",
        "incident ack",
        "incident list",
        "incident show",
        "incident close",
        "person add",
        "person list",
        "explain",
        "completions",
        "version",
        "wal push",
        "wal get",
        "wal status",
        "wal salvage",
        "metrics",
        "schedule list",
        "schedule print",
        "schedule install",
        "schedule remove",
        "schedule run",
        "schedule check",
        "key add",
        "key rotate",
        "key list",
        "key remove",
        "key prove",
    ] {
        assert!(
            seen.iter().any(|command| command == expected),
            "no help of '{expected}': {seen:?}"
        );
    }
}

#[test]
fn every_code_is_explained() {
    let codes = Ran::of(program().args(["explain", "--json"])).done();
    let codes = codes.as_array().unwrap();
    assert!(codes.len() > 80, "{} codes", codes.len());
    for code in codes {
        let code = code["code"].as_str().unwrap();
        let ran = plain(&format!("explain {}", code.to_lowercase()));
        assert!(ran.status.success(), "{ran:?}");
        assert!(ran.stdout.starts_with(&format!("{code}: ")), "{ran:?}");
        assert!(ran.stdout.contains("exit code"), "{ran:?}");
    }
}

#[test]
fn completions_are_scripts_that_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = plain(&format!("completions {shell}"));
        assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
        for word in ["salvage", "allow-partial", "recovery-code-file"] {
            assert!(ran.stdout.contains(word), "{shell} does not know '{word}'");
        }
    }
    let script = plain("completions bash").stdout;
    let checked = Command::new("bash").args(["-n", "-c", &script]).status().unwrap();
    assert!(checked.success());
}

#[test]
fn the_version_is_the_packages() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(plain("version").stdout.contains(version));
    assert!(plain("--version").stdout.contains(version));
    assert_eq!(text(&Ran::of(program().args(["version", "--json"])).done(), "version"), version);
}

#[test]
fn data_goes_to_standard_output_and_everything_else_does_not() {
    let site = Site::new(16);
    site.cluster.psql("CREATE TABLE t AS SELECT i FROM generate_series(1, 500) i");
    site.backup();
    site.cluster.psql("DELETE FROM t");
    site.archive();
    let to = |name: &str| format!("restore shop --copy --to {}", site.folder.join(name).display());
    let commands = [
        "init --enable-archiving".to_owned(),
        "check shop".into(),
        "backup shop".into(),
        "backups shop".into(),
        "window shop".into(),
        "window shop --latest".into(),
        "locate shop".into(),
        "verify shop".into(),
        "verify shop --deep".into(),
        "wal status shop".into(),
        "key list".into(),
        "key rotate".into(),
        "version".into(),
        "explain".into(),
        "explain RF0107".into(),
        to("NAME"),
    ];
    for words in commands {
        let json = site.run(&words.replace("NAME", "json"));
        assert!(json.status.success(), "{json:?}");
        assert!(matches!(json.json(), Value::Object(_) | Value::Array(_)), "{json:?}");
        assert_eq!(json.stdout.lines().count(), 1, "one document, one line: {json:?}");
        assert!(!json.stderr.contains("next: "), "{json:?}");

        let words = words.replace("NAME", "quiet");
        let mut command = program();
        command.args(words.split_whitespace()).arg("--quiet");
        let quiet = Ran::of(command.env("ROLLFORWARD_CONFIG", site.config()));
        assert!(quiet.status.success(), "{quiet:?}");
        assert!(!quiet.stdout.is_empty(), "{quiet:?}");
        assert_eq!(quiet.stderr, "", "{quiet:?}");
        serde_json::from_str::<Value>(&quiet.stdout).expect_err("text is for people");
    }
    let mut command = program();
    let ran = Ran::of(command.args(["backups", "shop"]).env("ROLLFORWARD_CONFIG", site.config()));
    assert!(ran.stderr.contains("next: rollforward window shop"), "{ran:?}");
    assert!(!ran.stdout.contains("next: "), "{ran:?}");
}

#[test]
fn a_closed_standard_output_is_no_error() {
    let mut command = Command::new("sh");
    testbed::as_postgres(&mut command);
    let program = testbed::binary("rollforward");
    let line = format!("{} explain | true; echo ${{PIPESTATUS:-}}", program.display());
    let ran = Ran::of(command.args(["-c", &line]));
    assert!(!ran.stderr.contains("panicked"), "{ran:?}");
}
