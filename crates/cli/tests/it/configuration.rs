//! Configurations that are wrong, and the state directory.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::program::{Ran, program};
use crate::site::{Site, edit, mode};

#[test]
fn a_wrong_configuration_is_refused_with_the_nearest_right_one() {
    let site = Site::new(17);
    let good = fs::read_to_string(site.config()).unwrap();
    let check = |from: &str, to: &str, code: &str, parts: &[&str]| {
        edit(&site.config(), from, to);
        for words in ["backup shop", "backups shop"] {
            let said = site.run(words).failed(code, 2);
            for part in parts {
                assert!(said.contains(part), "no {part:?} in: {said}");
            }
        }
        site.write_config(&good);
    };
    check(
        "data_directory",
        "data_dir",
        "RF0903",
        &["'data_dir'", "did you mean 'data_directory'?"],
    );
    check("[cluster.shop]", "[cluster.shop]\nworker = 2", "RF0903", &["did you mean 'workers'?"]);
    check("version = 1", "version = 1\nstatedirectory = \"/x\"", "RF0903", &["'state_directory'?"]);
    check("url = ", "urls = ", "RF0903", &["did you mean 'url'?"]);
    check("version = 1", "version = 2", "RF0904", &["expected 1, seen 2"]);
    check("version = 1", "version = ", "RF0904", &["rollforward.toml"]);
    check("\"second\"]", "\"secnod\"]", "RF0904", &["no [repository.secnod]", "main, second"]);
    check("[cluster.shop]", "[cluster.shop]\ncompression = \"gzip\"", "RF0904", &["'gzip'", "lz4"]);
    check("[cluster.shop]", "[cluster.shop]\nworkers = 0", "RF0904", &["at least 1"]);
    check("url = \"", "url = \"ftp://x", "RF0205", &["ftp"]);
    site.run("backup shop").done();
}

#[test]
fn a_missing_or_closed_configuration_is_told() {
    let run =
        |config: &str| Ran::of(program().args(["backups", "shop", "--json", "--config", config]));
    run("/does/not/exist.toml").failed("RF0902", 2);
    let folder = testbed::Workdir::new();
    let closed = folder.file("closed.toml", "version = 1\n");
    std::os::unix::fs::chown(&closed, Some(0), Some(0)).expect("run as root");
    fs::set_permissions(&closed, Permissions::from_mode(0o600)).unwrap();
    run(&closed.display().to_string()).failed("RF0902", 2);
    let mut command = program();
    let none = Ran::of(command.args(["backups", "--json"]).current_dir(folder.path()));
    none.failed("RF0901", 2);
}

#[test]
fn what_init_writes_is_closed_to_others() {
    let site = Site::new(15);
    site.backup();
    let postgres = fs::metadata(site.cluster.data_dir()).unwrap().uid();
    for name in ["host.key", "recovery-code", "state/writers/shop.token"] {
        let path = site.folder.join(name);
        assert_eq!(mode(&path) & 0o077, 0, "{name}: {:o}", mode(&path));
        assert_eq!(fs::metadata(&path).unwrap().uid(), postgres, "{name}");
    }
    assert_eq!(mode(&site.config()) & 0o007, 0);
    for name in ["main", "second"] {
        for path in crate::site::files(&site.repository(name)) {
            assert_eq!(mode(&path) & 0o077, 0, "'{}': {:o}", path.display(), mode(&path));
        }
    }
    // The kit holds no secret, and is for everybody who might need it.
    let kit = fs::read_to_string(site.folder.join("rollforward-recovery-kit.md")).unwrap();
    let code = fs::read_to_string(site.folder.join("recovery-code")).unwrap();
    assert!(!kit.contains(code.trim()));
    assert!(kit.contains(&site.repository("main").display().to_string()), "{kit}");
}

#[test]
fn init_again_changes_nothing_and_never_takes_another_cluster() {
    let site = Site::new(18);
    site.backup();
    site.archive();
    let before = site.objects("main", "");
    let again = site.run("init --enable-archiving").done();
    assert_eq!(again["repositories"][0]["created"], false);
    assert_eq!(site.objects("main", ""), before);
    site.init(&site.two_repositories()).failed("RF0912", 4);

    // Another configuration, onto the repository that is there: no key, no way in.
    let other = Site::unprotected(18, 1, |builder| builder.setting("archive_mode", "on"));
    let onto = vec![format!("main={}", site.repository("main").display())];
    other.init(&onto).failed("RF0906", 2);
    assert_eq!(site.objects("main", ""), before);
    // With the key it is still another cluster: the name is taken.
    let key = fs::read(site.folder.join("host.key")).unwrap();
    fs::write(other.folder.join("host.key"), key).unwrap();
    let said = other.run("init --enable-archiving").failed("RF0912", 4);
    assert!(said.contains("system identifier"), "{said}");
    assert_eq!(site.objects("main", ""), before);
}
