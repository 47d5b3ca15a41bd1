//! Repositories on an S3-compatible server.

use std::time::{Duration, Instant};

use testbed::S3;
use testbed::postgres::Stop;

use crate::program::text;
use crate::site::{Site, edit};

/// The longest that a command may take when its only repository refuses connections.
const REFUSED_MAX: Duration = Duration::from_secs(60);

pub(crate) fn address(s3: &S3) -> String {
    address_at(s3, &s3.endpoint())
}

/// The bucket at another endpoint that leads to it.
pub(crate) fn address_at(s3: &S3, endpoint: &str) -> String {
    format!("s3=s3://{}/some/prefix?endpoint={endpoint}&allow_http=true", s3.bucket())
}

/// The variables from which commands take the credentials.
pub(crate) fn credentials(s3: &S3) -> Vec<(String, String)> {
    vec![
        ("AWS_ACCESS_KEY_ID".into(), s3.access_key().into()),
        ("AWS_SECRET_ACCESS_KEY".into(), s3.secret_key().into()),
    ]
}

/// A site whose commands have the credentials in their environment, and whose server's commands
/// get them by reference.
pub(crate) fn site(major: u32, s3: &S3, repositories: &[String]) -> Site {
    let mut site = Site::unprotected(major, 1, |builder| builder.setting("archive_mode", "on"));
    site.variables = credentials(s3);
    site.init(repositories).done();
    give_credentials(&site, s3);
    site.run("init --enable-archiving").done();
    site
}

/// PostgreSQL's environment has no credentials: what it runs takes them from files.
pub(crate) fn give_credentials(site: &Site, s3: &S3) {
    site.folder.file("access-key", s3.access_key());
    site.folder.file("secret-key", s3.secret_key());
    let reference = |name: &str| format!("\"file:{}\"", site.folder.join(name).display());
    let credentials = format!(
        "[repository.s3]\naccess_key_id = {}\nsecret_access_key = {}",
        reference("access-key"),
        reference("secret-key")
    );
    edit(&site.config(), "[repository.s3]", &credentials);
}

fn load(site: &Site) -> String {
    site.cluster.psql("CREATE TABLE t AS SELECT i FROM generate_series(1, 3000) i");
    let label = site.backup();
    site.cluster.psql("INSERT INTO t VALUES (-1)");
    site.archive();
    label
}

#[test]
fn a_cluster_comes_back_from_s3() {
    let s3 = S3::start();
    let mut site = site(16, &s3, &[address(&s3)]);
    let label = load(&site);
    site.cluster.psql("DELETE FROM t");
    site.archive();
    let found = site.run("locate shop").done();
    assert_eq!(found["suspects"][0]["rows_lost"], 3001);
    let target = text(&found, "suspects.0.recover_before");
    site.cluster.stop(Stop::Fast);
    site.run("wal salvage shop").done();
    let restored = site.restore("restored", &format!("--before {target}"));
    assert_eq!(text(&restored.report, "backup"), label);
    assert_eq!(restored.cluster.psql("SELECT count(*), min(i) FROM t"), "3001|-1");
    let directory = restored.cluster.data_dir().display().to_string();
    site.run(&format!("adopt shop --keep-port --at {directory}")).done();
    site.backup();
    let verified = site.verify_clean();
    assert_eq!(verified["backups"], 2);
    let checked = site.run("check shop").done();
    assert!(checked.to_string().contains("put-if-absent is honoured"), "{checked}");
}

#[test]
fn a_set_of_a_directory_and_s3_survives_the_loss_of_either() {
    let s3 = S3::private();
    let mut site = site(18, &s3, &[address(&s3)]);
    // A member that joins later gets what a recovery needs of the set.
    let main = site.repository("main").display().to_string();
    let keys = format!("file:{}", site.folder.join("host.key").display());
    edit(
        &site.config(),
        "[repository.s3]",
        &format!("[repository.main]\nurl = \"{main}\"\nkeys = [\"{keys}\"]\n\n[repository.s3]"),
    );
    edit(&site.config(), "repositories = [\"s3\"]", "repositories = [\"main\", \"s3\"]");
    let code = site.folder.join("recovery-code");
    let init = format!("init --enable-archiving --recovery-code-file {}", code.display());
    site.run(&init).done();
    load(&site);
    site.verify_clean();
    site.cluster.stop(Stop::Fast);

    let away = site.folder.join("away");
    std::fs::rename(site.repository("main"), &away).unwrap();
    let from_s3 = site.restore("from-s3", "--copy --latest --repository s3").cluster;
    assert_eq!(from_s3.psql("SELECT count(*) FROM t"), "3001");
    std::fs::rename(away, site.repository("main")).unwrap();

    s3.kill();
    let started = Instant::now();
    site.run("verify shop").failed("RF0204", 1);
    assert!(started.elapsed() < REFUSED_MAX, "{:?}", started.elapsed());
    let from_main = site.restore("from-main", "--copy --latest --repository main").cluster;
    assert_eq!(from_main.psql("SELECT count(*) FROM t"), "3001");
    // Without naming one it would end at the end of the WAL, which a silent one cannot prove.
    let either = site.folder.join("either");
    let words = format!("restore shop --copy --to {}", either.display());
    let said = site.run(&words).failed("RF0912", 4);
    assert!(said.contains("--repository main"), "{said}");
    assert!(!either.exists());
}

#[test]
fn a_server_that_is_gone_fails_every_command_within_a_bound() {
    let s3 = S3::private();
    let site = site(15, &s3, &[address(&s3)]);
    load(&site);
    let segment = site.archive();
    s3.kill();
    let path = site.cluster.data_dir().join("pg_wal").join(segment);
    for words in [
        format!("wal push --cluster shop {}", path.display()),
        "backup shop".into(),
        "window shop".into(),
        format!("restore shop --to {}", site.folder.join("r").display()),
    ] {
        let started = Instant::now();
        let said = site.run(&words).failed("RF0204", 1);
        assert!(started.elapsed() < REFUSED_MAX, "{words}: {:?}", started.elapsed());
        assert!(!said.contains(s3.secret_key()));
    }
    assert!(!site.folder.join("r").exists());
}

#[test]
fn wrong_credentials_and_addresses_are_told() {
    let s3 = S3::start();
    let site = Site::unprotected(17, 1, |builder| builder);
    let url = |rest: &str| vec![format!("s3=s3://{}/x?{rest}", s3.bucket())];
    for (rest, part) in [
        ("endpoint=http://127.0.0.1:1", "allow_http=true"),
        ("secret_access_key=hunter2", "credentials never stand in an address"),
        ("regoin=x", "region"),
    ] {
        let ran = site.init(&url(rest));
        let said = ran.failed("RF0205", 2);
        assert!(said.contains(part), "{said}");
        assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("hunter2"), "{ran:?}");
        std::fs::remove_file(site.config()).unwrap();
    }
}

/// What takes minutes.
mod wide {
    use super::*;

    /// Four tries of 30 s each, and the pauses between; twice, for the question before the work.
    const SILENT_MAX: Duration = Duration::from_secs(400);

    #[test]
    fn a_server_that_never_answers_is_given_up_within_a_bound() {
        let s3 = S3::private();
        let site = site(14, &s3, &[address(&s3)]);
        load(&site);
        let segment = site.archive();
        s3.pause();
        let started = Instant::now();
        let path = site.cluster.data_dir().join("pg_wal").join(segment);
        site.run(&format!("wal push --cluster shop {}", path.display())).failed("RF0204", 1);
        assert!(started.elapsed() < SILENT_MAX, "{:?}", started.elapsed());
        s3.resume();
        site.verify_clean();
    }
}
