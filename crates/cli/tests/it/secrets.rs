//! Secrets stay where they belong.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use testbed::S3;

use crate::program::{Ran, program};
use crate::site::{Site, files};

const DATABASE_PASSWORD: &str = "pw-3f9c1d7e-database";
const PASSPHRASE: &str = "pp-81b2c4aa correct horse";

/// Everything that must not be seen.
fn planted(site: &Site, s3: &S3) -> Vec<(&'static str, String)> {
    let read = |name: &str| fs::read_to_string(site.folder.join(name)).unwrap().trim().to_owned();
    let key = read("host.key");
    let token = read("state/writers/shop.token");
    vec![
        ("key file", key.split(':').max_by_key(|part| part.len()).unwrap().to_owned()),
        ("recovery code", read("recovery-code")),
        ("writer token", token.rsplit(' ').next().unwrap().to_owned()),
        ("passphrase", PASSPHRASE.into()),
        ("database password", DATABASE_PASSWORD.into()),
        ("S3 secret", s3.secret_key().into()),
    ]
}

#[track_caller]
fn assert_absent(secrets: &[(&str, String)], place: &str, bytes: &[u8]) {
    for (what, secret) in secrets {
        assert!(secret.len() >= 16, "{what} is too short to be looked for");
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "the {what} stands in {place}");
    }
}

/// The command lines of every process that has to do with the folder, until told to end.
fn watch(folder: &str, ended: &AtomicBool, seen: &Mutex<BTreeSet<Vec<u8>>>) {
    while !ended.load(Ordering::Relaxed) {
        for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            if let Ok(line) = fs::read(entry.path().join("cmdline"))
                && String::from_utf8_lossy(&line).contains(folder)
            {
                seen.lock().unwrap().insert(line);
            }
        }
        thread::yield_now();
    }
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_secret_is_printed_logged_stored_or_passed_as_an_argument() {
    let s3 = S3::start();
    let mut site = Site::unprotected(16, 1, |builder| builder.setting("archive_mode", "on"));
    site.variables = vec![
        ("AWS_ACCESS_KEY_ID".into(), s3.access_key().into()),
        ("AWS_SECRET_ACCESS_KEY".into(), s3.secret_key().into()),
        ("ROLLFORWARD_LOG".into(), "trace".into()),
    ];
    let url = format!("s3://{}/p?endpoint={}&allow_http=true", s3.bucket(), s3.endpoint());
    let (ended, lines) = (AtomicBool::new(false), Mutex::new(BTreeSet::new()));
    let folder = site.folder.path().display().to_string();
    let outputs = thread::scope(|scope| {
        scope.spawn(|| watch(&folder, &ended, &lines));
        let _end = End(&ended);
        story(&site, &s3, &url)
    });
    let secrets = planted(&site, &s3);
    for ran in &outputs {
        assert_absent(&secrets, &format!("the output of {}", ran.words), ran.stdout.as_bytes());
        assert_absent(&secrets, &format!("the messages of {}", ran.words), ran.stderr.as_bytes());
    }
    assert_absent(&secrets, "the server's log", site.cluster.log_text().as_bytes());
    let lines = lines.into_inner().unwrap();
    assert!(lines.len() > 5, "{} command lines", lines.len());
    for line in &lines {
        assert_absent(&secrets, &String::from_utf8_lossy(line).replace('\0', " "), line);
    }
    let objects = files(&site.repository("main"));
    assert!(objects.len() > 10);
    let restored = files(&site.folder.join("restored"));
    let logs = [site.folder.join("restored.log"), site.folder.join("rollforward-recovery-kit.md")];
    for path in objects.iter().chain(&restored).chain(&logs) {
        // A server that still writes may remove a file under our eyes.
        let Ok(bytes) = fs::read(path) else { continue };
        assert_absent(&secrets, &path.display().to_string(), &bytes);
    }
}

/// From `init` to an adopted cluster, with errors on the way; returns all that was printed.
fn story(site: &Site, s3: &S3, url: &str) -> Vec<Ran> {
    write_config(site, s3, url);
    let mut outputs = Vec::new();
    let mut run = |words: &str| {
        let ran = site.run(words);
        let ok = ran.status.success();
        outputs.push(ran);
        ok
    };
    let code = site.folder.join("recovery-code").display().to_string();
    assert!(run(&format!("init --enable-archiving --recovery-code-file {code}")));
    site.cluster.psql("CREATE TABLE t AS SELECT i FROM generate_series(1, 300) i");
    assert!(run("backup shop") && run("check shop"));
    site.cluster.psql("DELETE FROM t");
    site.archive();
    assert!(run("locate shop") && run("window shop") && run("verify shop --deep"));
    assert!(run("key list") && run("key rotate") && run("wal status shop"));
    let bin = site.cluster.install().bindir.display().to_string();
    let to = site.folder.join("restored").display().to_string();
    assert!(run(&format!("restore shop --to {to} --latest --start --bin-directory {bin}")));
    // Errors say a lot, and never that.
    assert!(!run("restore shop --to /proc/x --latest"));
    assert!(!run("restore shop --to /x --target-lsn FF/0"));
    assert!(!run(&format!("adopt shop --at {to}")), "the old one still runs");
    let address = site.repository("main").display().to_string();
    assert!(run(&format!("key prove --repository {address} --recovery-code-file {code}")));
    broken(site, &mut outputs);
    let port = pid_file_port(&to);
    let restored = testbed::postgres::Cluster::attach(site.cluster.install(), to.as_ref(), port);
    assert_eq!(restored.psql("SELECT count(*) FROM t"), "0");
    outputs
}

/// A configuration with every kind of reference to a secret, and a password in the connection.
fn write_config(site: &Site, s3: &S3, url: &str) {
    let file = |name: &str, content: &str| site.folder.file(name, content).display().to_string();
    let keys = format!(
        "keys = [\"passphrase:file:{}\", \"file:{}\", \"recovery-code\"]",
        file("passphrase", PASSPHRASE),
        site.folder.join("host.key").display()
    );
    let connection = format!("{} password={DATABASE_PASSWORD}", site.cluster.conninfo());
    let text = format!(
        "version = 1\nstate_directory = \"{state}\"\n\n\
         [repository.main]\nurl = \"{main}\"\n{keys}\n\n\
         [repository.s3]\nurl = \"{url}\"\n{keys}\naccess_key_id = \"file:{access}\"\n\
         secret_access_key = \"file:{secret}\"\n\n\
         [cluster.shop]\ndata_directory = \"{data}\"\nconnection = \"{connection}\"\n\
         repositories = [\"main\", \"s3\"]\n",
        state = site.folder.join("state").display(),
        main = site.repository("main").display(),
        access = file("access-key", s3.access_key()),
        secret = file("secret-key", s3.secret_key()),
        data = site.cluster.data_dir().display(),
    );
    site.folder.file("rollforward.toml", text);
}

fn pid_file_port(directory: &str) -> u16 {
    let text = fs::read_to_string(format!("{directory}/postmaster.pid")).unwrap();
    text.lines().nth(3).unwrap().parse().unwrap()
}

/// Secrets in places where they do not belong, and broken ones: told without being shown.
fn broken(site: &Site, outputs: &mut Vec<Ran>) {
    let good = fs::read_to_string(site.config()).unwrap();
    let mut with = |text: String| {
        site.write_config(&text);
        let ran = site.run("backup shop");
        assert!(!ran.status.success(), "{ran:?}");
        outputs.push(ran);
    };
    let secret = site.folder.join("secret-key").display().to_string();
    with(good.replace(&format!("file:{secret}"), "rollforward/test/secret/key"));
    with(good.replace("connection = \"", "connection = \"nonsense "));
    with(good.replace("user=postgres ", "usr=postgres "));
    with(good.replace("version = 1", "version = 1\nunknown_key = 1"));
    site.write_config(&good);
    let code = fs::read_to_string(site.folder.join("recovery-code")).unwrap();
    let given = site.folder.file("mistyped", format!("{}x", code.trim())).display().to_string();
    let address = site.repository("main").display().to_string();
    let mut command = program();
    command.args(["key", "prove", "--repository", &address, "--recovery-code-file", &given]);
    outputs.push(Ran::of(&mut command));
}
