//! Somebody who can write to a store rewrites its descriptor to "not encrypted": whoever believed
//! it would store in the clear, and read what anybody may have written.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use repository::keys::SetKeys;
use repository::{Kind, Member, Repository, names, unlock};
use store::{MemoryStore, Store};

use crate::program::{Ran, program, text};
use crate::site::Site;

/// What each refusal says.
const SAID: &str = "nothing is encrypted";

fn descriptor(site: &Site, repository: &str) -> PathBuf {
    site.repository(repository).join(names::descriptor().as_str())
}

/// A descriptor that says of the same set and member that it is not encrypted, and is otherwise
/// whole.
async fn forged(genuine: Vec<u8>) -> Vec<u8> {
    let there: Arc<dyn Store> = Arc::new(MemoryStore::new());
    there.put_if_absent(&names::descriptor(), vec![genuine.into()]).await.unwrap();
    let seen = unlock::describe(&there).await.unwrap();
    assert!(seen.encrypted);
    // docs/repository-format.md: a map of member, encryption, single writer, creation.
    let mut map = vec![0xa4, 0x00, 0x50];
    map.extend(seen.member.as_bytes());
    map.extend([0x01, 0x00, 0x02, 0xf4, 0x03, 0x1b]);
    map.extend(seen.created.as_microsecond().to_be_bytes());
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let member = Member { name: "forged".into(), store: Arc::clone(&store) };
    let clear = Repository::new(vec![member], Arc::new(SetKeys::plain(seen.set)));
    clear.create(Kind::Descriptor, &names::descriptor(), &[&map]).await.unwrap();
    let told = unlock::describe(&store).await.unwrap();
    assert_eq!(told, unlock::Descriptor { encrypted: false, ..seen });
    store.get(&names::descriptor()).await.unwrap().to_vec()
}

/// Rewrites the descriptor of this repository; returns what was there.
fn downgrade(site: &Site, repository: &str) -> Vec<u8> {
    let path = descriptor(site, repository);
    let genuine = fs::read(&path).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    fs::write(path, runtime.block_on(forged(genuine.clone()))).unwrap();
    genuine
}

/// A cluster with a backup, a restored copy of it that was not started, and a segment that is not
/// archived.
struct Scene {
    site: Site,
    restored: PathBuf,
    archived: String,
    segment: PathBuf,
}

impl Scene {
    fn make(major: u32) -> Self {
        let site = Site::new(major);
        site.cluster.psql("CREATE TABLE t AS SELECT i FROM generate_series(1, 3000) i");
        site.backup();
        let archived = site.archive();
        let restored = site.restored("restored", "--latest").cluster.data_dir().to_owned();
        site.cluster.psql("ALTER SYSTEM SET archive_command = ''");
        site.cluster.reload();
        site.cluster.psql("INSERT INTO t VALUES (0)");
        let segment = site.cluster.data_dir().join("pg_wal").join(site.cluster.switch_wal());
        Self { site, restored, archived, segment }
    }

    /// Every command that opens the set, or would make it larger.
    fn commands(&self) -> Vec<String> {
        let folder = |name: &str| self.site.folder.join(name).display().to_string();
        vec![
            "backup shop".into(),
            format!("wal push --cluster shop {}", self.segment.display()),
            "wal salvage shop".into(),
            "wal status shop".into(),
            "backups shop".into(),
            "window shop".into(),
            "locate shop".into(),
            "verify shop --deep".into(),
            format!("restore shop --latest --to {}", folder("never")),
            format!("restore shop --copy --latest --to {}", folder("never")),
            format!("adopt shop --at {}", self.restored.display()),
            "init --enable-archiving".into(),
            format!("key add --key-file {}", folder("never")),
            format!("key add --recovery-code-file {}", folder("never")),
            "key rotate".into(),
        ]
    }

    /// Checks that no command believes these repositories, and that nothing comes of any.
    #[track_caller]
    fn refused(&self, forged: &[&str]) {
        let state = || ["main", "second"].map(|name| contents(&self.site.repository(name)));
        let before = state();
        for words in self.commands() {
            let said = self.site.run(&words).failed("RF0301", 1);
            assert!(said.contains(SAID), "{words}: {said}");
            assert!(state() == before, "{words} has written");
        }
        assert!(!self.site.folder.join("never").exists());
        let checked = self.site.run("check shop --read-only").ended(3);
        for name in forged {
            let problem = checked.as_array().unwrap().iter().any(|finding| {
                finding["subject"] == format!("repository {name}")
                    && finding["weight"] == "problem"
                    && text(finding, "seen").contains(SAID)
            });
            assert!(problem, "{name}: {checked}");
        }
        self.wal_get_aborts();
        assert!(state() == before);
    }

    /// Nothing of it is replayed, and recovery does not take it for the end of the archive.
    #[track_caller]
    fn wal_get_aborts(&self) {
        let destination = self.restored.join("pg_wal/RECOVERYXLOG");
        let ticket = self.restored.join("rollforward.ticket.json").display().to_string();
        for from in [format!("--ticket {ticket}"), "--cluster shop".into()] {
            let words = format!("wal get {from} {} {}", self.archived, destination.display());
            let said = self.site.run(&words).aborted();
            assert!(said.contains("error[RF0301]") && said.contains(SAID), "{said}");
            assert!(!destination.exists());
        }
    }
}

/// Every file below a folder with its bytes.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = crate::site::files(folder);
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn no_command_believes_that_a_repository_with_keys_is_not_encrypted() {
    let scene = Scene::make(16);
    let Scene { site, .. } = &scene;
    let [main, second] = ["main", "second"].map(|name| downgrade(site, name));
    scene.refused(&["main", "second"]);
    // One is enough, whichever it is.
    fs::write(descriptor(site, "second"), &second).unwrap();
    scene.refused(&["main"]);
    let alone = "restore shop --copy --latest --repository second";
    let to = site.folder.join("alone");
    site.run(&format!("{alone} --to {}", to.display())).done();
    downgrade(site, "second");
    fs::write(descriptor(site, "main"), &main).unwrap();
    scene.refused(&["second"]);

    fs::write(descriptor(site, "second"), &second).unwrap();
    let path = scene.segment.display();
    let pushed = site.run(&format!("wal push --cluster shop {path}")).done();
    assert_eq!(text(&pushed, "outcome"), "stored");
    site.verify_clean();
}

#[test]
fn on_a_bare_machine_neither_key_opens_it() {
    let site = Site::new(15);
    site.backup();
    downgrade(&site, "main");
    let address = site.repository("main").display().to_string();
    let fetched = site.folder.join("fetched.toml");
    for (option, name) in [("--key-file", "host.key"), ("--recovery-code-file", "recovery-code")] {
        let secret = site.folder.join(name).display().to_string();
        let run = |words: &[&str]| {
            let mut command = program();
            command.args(words).args([option, &secret, "--json", "--config"]).arg(&fetched);
            Ran::of(&mut command).failed("RF0301", 1)
        };
        let said = run(&["key", "prove", "--repository", &address]);
        assert!(said.contains(SAID), "{said}");
        let said = run(&["init", "--from-repository", &address]);
        assert!(said.contains(SAID), "{said}");
        assert!(!fetched.exists());
    }
}

#[test]
fn init_adds_no_repository_to_a_set_that_denies_its_encryption() {
    let site = Site::new(17);
    site.backup();
    site.archive();
    let (third, key) = (site.repository("third"), site.folder.join("third.key"));
    site.edit_config("\"second\"]", "\"second\", \"third\"]");
    let table = format!(
        "[repository.third]\nurl = \"{}\"\nkeys = [\"file:{}\"]\n\n[cluster.shop]",
        third.display(),
        key.display()
    );
    site.edit_config("[cluster.shop]", &table);
    let init = format!("init --recovery-code-file {}", site.folder.join("recovery-code").display());
    let state = || ["main", "second"].map(|name| contents(&site.repository(name)));
    for forged in [&["main"][..], &["second"], &["main", "second"]] {
        let genuine: Vec<_> =
            forged.iter().map(|name| (descriptor(&site, name), downgrade(&site, name))).collect();
        let before = state();
        let said = site.run(&init).failed("RF0301", 1);
        assert!(said.contains(SAID), "{said}");
        assert!(state() == before, "{forged:?}: something was written");
        assert!(!third.exists() && !key.exists(), "{forged:?}");
        genuine.into_iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    }
    let made = site.run(&init).done();
    assert_eq!(made["repositories"][2]["created"], true, "{made}");
    assert_eq!(made["repositories"][2]["set"], made["repositories"][0]["set"]);
    site.backup();
    let alone = site.restore("alone", "--copy --repository third");
    assert_eq!(alone.cluster.psql("SELECT 1"), "1");
}

#[test]
fn keys_that_only_a_person_has_mean_encryption_too() {
    let site = Site::new(14);
    site.backup();
    let segment = site.cluster.data_dir().join("pg_wal").join(site.archive());
    let host_key = format!("\"file:{}\", ", site.folder.join("host.key").display());
    site.edit_config(&host_key, "");
    let commands = [
        "backup shop".to_owned(),
        "backups shop".to_owned(),
        format!("wal push --cluster shop {}", segment.display()),
    ];
    for words in &commands {
        site.run(words).failed("RF0305", 1);
    }
    for name in ["main", "second"] {
        downgrade(&site, name);
    }
    let state = || ["main", "second"].map(|name| contents(&site.repository(name)));
    let before = state();
    for words in &commands {
        let said = site.run(words).failed("RF0301", 1);
        assert!(said.contains(SAID), "{words}: {said}");
    }
    assert!(state() == before);
}
