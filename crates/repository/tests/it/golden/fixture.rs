//! One golden repository in memory, and what it is known to hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use repository::key_file::KeyFile;
use repository::recovery_code::RecoveryCode;
use repository::unlock::{self, Unlock};
use repository::{Kind, Member, Repository};
use store::{Key, MemoryStore, Store};

/// A golden repository.
pub(crate) struct Fixture {
    pub(crate) name: String,
    pub(crate) objects: BTreeMap<Key, Bytes>,
    pub(crate) clusters: Vec<Expected>,
    folder: PathBuf,
}

/// What `expected.txt` says of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub(crate) name: String,
    pub(crate) lineage: String,
    pub(crate) system_id: u64,
    /// By label, the lines of what is in it.
    pub(crate) backups: BTreeMap<String, Vec<String>>,
    /// `wal NAME LENGTH DIGEST`.
    pub(crate) wal: Vec<String>,
    /// `conflict NAME LENGTH DIGEST`.
    pub(crate) conflicts: Vec<String>,
}

/// What an object is, by its header.
pub(crate) fn kind(object: &[u8]) -> Kind {
    Kind::from_byte(object[10]).unwrap()
}

impl Fixture {
    /// Every golden repository there is.
    pub(crate) fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let folders = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path());
        let mut found: Vec<Self> =
            folders.filter(|path| path.join("repository").is_dir()).map(Self::read).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// The golden repository of that name.
    pub(crate) fn load(name: &str) -> Self {
        Self::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name))
    }

    fn read(folder: PathBuf) -> Self {
        let mut objects = BTreeMap::new();
        let root = folder.join("repository");
        let mut pending = vec![root.clone()];
        while let Some(path) = pending.pop() {
            if path.is_dir() {
                pending.extend(std::fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
            } else {
                let key = path.strip_prefix(&root).unwrap().to_str().unwrap();
                objects.insert(Key::new(key).unwrap(), std::fs::read(&path).unwrap().into());
            }
        }
        let text = std::fs::read_to_string(folder.join("expected.txt")).unwrap();
        let name = folder.file_name().unwrap().to_str().unwrap().into();
        Self { name, objects, clusters: parse(&text), folder }
    }

    /// Its objects in a store of their own.
    pub(crate) async fn store(&self) -> Arc<dyn Store> {
        let store = MemoryStore::new();
        for (key, bytes) in &self.objects {
            store.put_if_absent(key, vec![bytes.clone()]).await.unwrap();
        }
        Arc::new(store)
    }

    /// The same with other bytes in place of one object.
    pub(crate) async fn store_with(&self, changed: &Key, bytes: Bytes) -> Arc<dyn Store> {
        let store = self.store().await;
        store.delete(changed).await.unwrap();
        store.put_if_absent(changed, vec![bytes]).await.unwrap();
        store
    }

    /// Everything that opens it, the key file first; nothing when it is not encrypted.
    pub(crate) fn unlocks(&self) -> Vec<Unlock> {
        let secret = |name: &str| std::fs::read_to_string(self.folder.join(name)).ok();
        let key = secret("key").map(|text| KeyFile::parse("key", text.as_bytes()).unwrap());
        let code = secret("recovery-code").map(|text| RecoveryCode::parse(&text).unwrap());
        let passphrase = secret("passphrase").map(|text| text.trim_end().to_owned());
        let mut unlocks: Vec<Unlock> = key.iter().map(|key| key.unlock("key")).collect();
        unlocks.extend(code.iter().map(RecoveryCode::unlock));
        unlocks.extend(passphrase.map(|text| Unlock::Passphrase(text.into())));
        unlocks
    }

    /// Opens it with its first key.
    pub(crate) async fn open(&self) -> Repository {
        let member = Member { name: "golden".into(), store: self.store().await };
        unlock::open(vec![member], self.unlocks().first()).await.unwrap()
    }
}

fn parse(text: &str) -> Vec<Expected> {
    let mut clusters: Vec<Expected> = Vec::new();
    let mut label = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        match (words.as_slice(), clusters.last_mut()) {
            (["cluster", name, lineage, system_id], _) => clusters.push(Expected {
                name: (*name).into(),
                lineage: (*lineage).into(),
                system_id: system_id.parse().unwrap(),
                ..Expected::default()
            }),
            (["backup", name], Some(cluster)) => {
                label = (*name).into();
                cluster.backups.insert(label.clone(), Vec::new());
            }
            (["wal", ..], Some(cluster)) => cluster.wal.push(line.into()),
            (["conflict", ..], Some(cluster)) => cluster.conflicts.push(line.into()),
            (_, Some(cluster)) => cluster.backups.get_mut(&label).unwrap().push(line.into()),
            (_, None) => panic!("'{line}' belongs to no cluster"),
        }
    }
    clusters
}
