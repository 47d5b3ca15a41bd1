//! Wrong keys and right ones.

use std::fs;
use std::path::Path;

use repository::key_file::KeyFile;
use repository::recovery_code::RecoveryCode;
use serde_json::json;

use crate::program::{Ran, program, text};
use crate::site::{Site, mode};

fn write(site: &Site, name: &str, content: &str) -> String {
    let path = site.folder.file(name, content);
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    path.display().to_string()
}

fn run(words: &[&str]) -> Ran {
    Ran::of(program().args(words).arg("--json"))
}

/// A code with its first character replaced by another one of the alphabet.
fn mistyped(code: &str) -> String {
    let first = if code.starts_with('7') { '8' } else { '7' };
    format!("{first}{}", &code[1..])
}

#[test]
fn a_wrong_key_file_opens_nothing_and_writes_nothing() {
    let site = Site::new(15);
    site.backup();
    site.archive();
    let before = site.objects("main", "");
    let right = fs::read_to_string(site.folder.join("host.key")).unwrap();
    let target = site.folder.join("restored");
    let commands = [
        "backup shop".to_owned(),
        "window shop".to_owned(),
        "verify shop".to_owned(),
        "locate shop".to_owned(),
        "wal salvage shop".to_owned(),
        format!("restore shop --to {}", target.display()),
    ];
    let check = |key: &str, code: &str, exit: i32| {
        fs::write(site.folder.join("host.key"), key).unwrap();
        for words in &commands {
            let said = site.run(words).failed(code, exit);
            assert!(key.is_empty() || !said.contains(key.trim()), "{said}");
        }
    };
    check(&KeyFile::random().render(), "RF0305", 1);
    check(&right[..right.len() / 2], "RF0316", 2);
    check("", "RF0316", 2);
    fs::remove_file(site.folder.join("host.key")).unwrap();
    for words in &commands {
        site.run(words).failed("RF0906", 2);
    }
    assert_eq!(site.objects("main", ""), before);
    assert!(!target.exists());
}

#[test]
fn a_bare_machine_gets_in_with_the_recovery_code_and_with_nothing_wrong() {
    let site = Site::new(18);
    let label = site.backup();
    let address = site.repository("main").display().to_string();
    let code = fs::read_to_string(site.folder.join("recovery-code")).unwrap();
    let other = RecoveryCode::random().render();
    let bad = [
        (write(&site, "other-code", &other), "RF0305", 1),
        (write(&site, "mistyped-code", &mistyped(&code)), "RF0316", 2),
        (write(&site, "short-code", &code[..10]), "RF0316", 2),
    ];
    let fetched = site.folder.join("fetched.toml").display().to_string();
    for (file, expected, exit) in &bad {
        let prove = ["key", "prove", "--repository", &address, "--recovery-code-file", file];
        run(&prove).failed(expected, *exit);
        let fetch = ["init", "--from-repository", &address, "--recovery-code-file", file];
        run(&[&fetch[..], &["--config", &fetched]].concat()).failed(expected, *exit);
        assert!(!Path::new(&fetched).exists());
    }

    let right = site.folder.join("recovery-code").display().to_string();
    let prove = ["key", "prove", "--repository", &address, "--recovery-code-file", &right];
    let proved = run(&prove).done();
    assert_eq!((&proved["clusters"], &proved["backups"]), (&json!(1), &json!(1)));
    let key = site.folder.join("host.key").display().to_string();
    run(&["key", "prove", "--repository", &address, "--key-file", &key]).done();

    let fetch = ["init", "--from-repository", &address, "--recovery-code-file", &right];
    let fetch = [&fetch[..], &["--config", &fetched]].concat();
    run(&fetch).done();
    assert_eq!(fs::read(&fetched).unwrap(), fs::read(site.config()).unwrap());
    assert_eq!(mode(Path::new(&fetched)) & 0o007, 0, "others may not read it");
    run(&fetch).failed("RF0912", 4);
    // With it and the key file where it says, everything is there again.
    let listed = run(&["backups", "shop", "--config", &fetched]).done();
    assert_eq!(text(&listed, "backups.0.label"), label);
}

#[test]
fn keys_are_added_rotated_and_removed_but_never_the_last_two() {
    let site = Site::new(17);
    site.cluster.psql("CREATE TABLE t AS SELECT 1 AS i");
    site.backup();
    let slots = |site: &Site| site.run("key list").done().as_array().unwrap().len();
    assert_eq!(slots(&site), 4, "two ways into each of two repositories");
    let listed = site.run("key list").done();
    let words = format!("key remove {} --confirm xxxx", text(&listed, "0.id"));
    assert!(site.run(&words).failed("RF0912", 4).contains("last 2 ways"));

    let spare = site.folder.join("spare.key");
    let added = site.run(&format!("key add --key-file {} --name spare", spare.display())).done();
    assert_eq!(slots(&site), 6);
    assert_eq!(mode(&spare), 0o600);
    assert_eq!(site.run("key rotate").done()["epoch"], 2);
    site.cluster.psql("INSERT INTO t VALUES (2)");
    site.backup();
    site.archive();
    let address = site.repository("second").display().to_string();
    let spare = spare.display().to_string();
    let proved = run(&["key", "prove", "--repository", &address, "--key-file", &spare]).done();
    assert_eq!(proved["backups"], 2);

    let slot = text(&added, "0.slot");
    let hint = site.run(&format!("key remove {slot}")).failed("RF0912", 4);
    let confirm = format!("--confirm {}", &slot[slot.len() - 4..]);
    assert!(hint.contains(&confirm), "{hint}");
    site.run(&format!("key remove {slot} {confirm}")).done();
    assert_eq!(slots(&site), 5);
    let main = site.repository("main").display().to_string();
    run(&["key", "prove", "--repository", &main, "--key-file", &spare]).failed("RF0305", 1);
    // Objects of both epochs are read.
    let restored = site.restore("restored", "--copy").cluster;
    assert_eq!(restored.psql("SELECT sum(i) FROM t"), "3");
    site.verify_clean();
}

#[test]
fn a_passphrase_from_a_file_opens_and_a_wrong_one_does_not() {
    let site = Site::unprotected(16, 1, |builder| builder.setting("archive_mode", "on"));
    let passphrase = write(&site, "passphrase", "correct horse battery staple\n");
    let text = format!(
        "version = 1\nstate_directory = \"{state}\"\n\n[repository.main]\nurl = \"{url}\"\n\
         keys = [\"passphrase:file:{passphrase}\", \"recovery-code\"]\n\n[cluster.shop]\n\
         data_directory = \"{data}\"\nconnection = \"{connection}\"\nrepositories = [\"main\"]\n",
        state = site.folder.join("state").display(),
        url = site.repository("main").display(),
        data = site.cluster.data_dir().display(),
        connection = site.cluster.conninfo(),
    );
    write(&site, "rollforward.toml", &text);
    let code = site.folder.join("recovery-code");
    let init = format!("init --enable-archiving --recovery-code-file {}", code.display());
    site.run(&init).done();
    site.backup();
    site.archive();
    let before = site.objects("main", "");
    write(&site, "passphrase", "correct horse battery stable\n");
    let said = site.run("backup shop").failed("RF0305", 1);
    assert!(!said.contains("stable"), "{said}");
    assert_eq!(site.objects("main", ""), before);
    fs::remove_file(&passphrase).unwrap();
    site.run("backup shop").failed("RF0906", 2);
    write(&site, "passphrase", "correct horse battery staple");
    site.verify_clean();
}
