//! `verify` on the golden repository that a later version could have written: WAL in pieces, packs
//! that were moved, page lists over three backups.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backup::Silent;
use backup::verify::{Verification, verify};
use repository::key_file::KeyFile;
use repository::{Member, Repository, catalog, lineage, moved, names, root, unlock};
use store::LocalStore;
use store::local::Access;

/// A copy of the golden repository that may be damaged.
struct Copy {
    folder: tempfile::TempDir,
    golden: PathBuf,
}

impl Copy {
    fn new() -> Self {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../repository/tests/golden/from-the-future");
        let folder = tempfile::tempdir().unwrap();
        copy(&golden.join("repository"), folder.path());
        Self { folder, golden }
    }

    fn path(&self, key: &store::Key) -> PathBuf {
        self.folder.path().join(key.as_str())
    }

    async fn open(&self) -> Repository {
        let key = fs::read(self.golden.join("key")).unwrap();
        let key = KeyFile::parse("key", &key).unwrap();
        let store = Arc::new(LocalStore::open(self.folder.path(), Access::Owner));
        let member = Member { name: "golden".into(), store };
        unlock::open(vec![member], Some(&key.unlock("key"))).await.unwrap()
    }

    async fn verify(&self, deep: bool) -> Verification {
        let repository = self.open().await;
        let lineage = lineage::of_cluster(&repository, "shop").await.unwrap();
        verify(&repository, &lineage, deep, &Silent).await.unwrap()
    }

    /// Everything that `verify` finds, as text.
    async fn findings(&self, deep: bool) -> String {
        let found = self.verify(deep).await.findings;
        found.iter().map(|it| format!("{}: {}\n", it.object, it.what)).collect()
    }

    /// A pack of the first backup that was moved, and one that holds its frames now.
    async fn a_move(&self) -> (repository::PackId, repository::PackId) {
        let repository = self.open().await;
        let lineage = lineage::of_cluster(&repository, "shop").await.unwrap();
        let catalog = catalog::backups(&repository, lineage.id).await.unwrap();
        let first = &catalog.backups[0].label;
        let root = root::read(&repository, lineage.id, first).await.unwrap();
        for pack in &root.packs {
            let moved = moved::read(&repository, pack.id).await.unwrap();
            let mut now = moved.frames.values().map(|(pack, _)| *pack);
            if let Some(target) = now.find(|target| self.path(&names::pack(*target)).exists()) {
                return (pack.id, target);
            }
        }
        panic!("no pack of the first backup was moved once");
    }

    /// Turns one bit in the middle of an object.
    fn flip(&self, path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), &to).unwrap();
        }
    }
}

/// The first file below a folder.
fn first_file(folder: &Path) -> PathBuf {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let first = entries.swap_remove(0);
    if first.is_dir() { first_file(&first) } else { first }
}

#[tokio::test]
async fn pieces_and_moved_packs_are_no_findings() {
    let copy = Copy::new();
    for deep in [false, true] {
        let seen = copy.verify(deep).await;
        assert_eq!(seen.findings, [], "deep: {deep}");
        assert_eq!(seen.backups, 3);
        // Five segments, and the pieces of two.
        assert!(seen.wal_files > 7 && seen.packs > 4, "{seen:?}");
        assert_eq!(deep, seen.bytes > 0);
    }
}

#[tokio::test]
async fn a_pack_that_holds_moved_frames_is_missed_when_it_is_gone_and_read_when_asked() {
    let copy = Copy::new();
    let (_, target) = copy.a_move().await;
    let path = copy.path(&names::pack(target));
    let whole = fs::read(&path).unwrap();
    copy.flip(&path);
    assert!(copy.findings(true).await.contains(&target.to_string()));
    fs::remove_file(&path).unwrap();
    assert!(copy.findings(false).await.contains(&target.to_string()));
    fs::write(&path, whole).unwrap();
    assert_eq!(copy.findings(true).await, "");
}

#[tokio::test]
async fn a_move_that_is_lost_loses_the_pack() {
    let copy = Copy::new();
    let (pack, _) = copy.a_move().await;
    fs::remove_file(copy.path(&names::moved(pack))).unwrap();
    assert!(copy.findings(false).await.contains(&pack.to_string()));
}

#[tokio::test]
async fn a_damaged_piece_is_found() {
    let copy = Copy::new();
    copy.flip(&first_file(&copy.folder.path().join("piece")));
    assert!(copy.findings(true).await.contains("pieces of"));
}
