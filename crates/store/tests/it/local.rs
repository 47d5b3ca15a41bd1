//! The store in a directory.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use store::local::{Access, LocalStore};
use store::testing::conformance;
use store::{Created, Error, Store};

use crate::key;

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn temp_files(root: &Path) -> usize {
    std::fs::read_dir(root.join(".tmp")).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_keeps_every_promise() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("made/anew");
    let store = LocalStore::create(&root, Access::Owner).unwrap();
    conformance(Arc::new(store)).await;
    assert_eq!(temp_files(&root), 0, "temporary files stay behind");
}

#[tokio::test]
async fn objects_are_files_readable_by_those_meant() {
    for (access, dir_mode, file_mode) in
        [(Access::Owner, 0o700, 0o600), (Access::GroupRead, 0o750, 0o640)]
    {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        let store = LocalStore::create(&root, access).unwrap();
        let parts = vec![Bytes::from_static(b"he"), Bytes::from_static(b"llo")];
        assert_eq!(store.put_if_absent(&key("a/b/c"), parts).await.unwrap(), Created::New);
        let mut upload = store.upload(&key("a/d")).await.unwrap();
        upload.write(Bytes::from_static(b"streamed")).await.unwrap();
        upload.finish().await.unwrap();
        assert_eq!(std::fs::read(root.join("a/b/c")).unwrap(), b"hello");
        assert_eq!(std::fs::read(root.join("a/d")).unwrap(), b"streamed");
        for folder in ["", "a", "a/b", ".tmp"] {
            assert_eq!(mode(&root.join(folder)), dir_mode, "{folder}");
        }
        for file in ["a/b/c", "a/d"] {
            assert_eq!(mode(&root.join(file)), file_mode, "{file}");
        }
    }
}

#[tokio::test]
async fn a_missing_root_is_unavailable_and_never_an_absent_object() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("not-mounted");
    let store = LocalStore::open(&root, Access::Owner);
    let get = store.get(&key("a")).await.unwrap_err();
    assert!(matches!(get, Error::Unavailable { .. }), "{get}");
    let put = store.put_if_absent(&key("a"), vec![]).await.unwrap_err();
    assert!(matches!(put, Error::Unavailable { .. }), "{put}");
    let list = store.list("", None, 10).await.unwrap_err();
    assert!(matches!(list, Error::Unavailable { .. }), "{list}");
    assert!(!root.exists(), "a write made the root of a disk that is not mounted");
    // Mounted later, it is seen.
    std::fs::create_dir(&root).unwrap();
    let get = store.get(&key("a")).await.unwrap_err();
    assert!(matches!(get, Error::NotFound { .. }), "{get}");
}

#[tokio::test]
async fn symbolic_links_below_the_root_are_never_followed() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), b"secret").unwrap();
    let root = dir.path().join("store");
    let store = LocalStore::create(&root, Access::Owner).unwrap();
    std::os::unix::fs::symlink(&outside, root.join("dir")).unwrap();
    std::os::unix::fs::symlink(outside.join("secret"), root.join("file")).unwrap();
    let refused = |error: Error| {
        assert!(matches!(error, Error::Denied { .. }), "{error}");
        assert!(error.to_string().contains("symbolic link"), "{error}");
    };
    refused(store.get(&key("dir/secret")).await.unwrap_err());
    refused(store.get(&key("file")).await.unwrap_err());
    refused(store.head(&key("file")).await.unwrap_err());
    refused(store.get_range(&key("file"), 0..1).await.unwrap_err());
    refused(store.put_if_absent(&key("dir/new"), vec![]).await.unwrap_err());
    refused(store.delete(&key("dir/secret")).await.unwrap_err());
    refused(store.list("", None, 10).await.unwrap_err());
    let put = store.put_if_absent(&key("file"), vec![]).await.unwrap_err();
    assert!(matches!(put, Error::Denied { .. }), "{put}");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"secret");
    // The root itself may be a link.
    let link = dir.path().join("link");
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::os::unix::fs::symlink(&other, &link).unwrap();
    let store = LocalStore::open(&link, Access::Owner);
    store.put_if_absent(&key("a"), vec![Bytes::from_static(b"x")]).await.unwrap();
    assert_eq!(std::fs::read(other.join("a")).unwrap(), b"x");
}

#[tokio::test]
async fn leftovers_of_killed_writers_go_once_they_are_old_by_the_disk_s_clock() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::create(dir.path(), Access::Owner).unwrap();
    let temp = dir.path().join(".tmp");
    std::fs::create_dir(&temp).unwrap();
    let leave = |name: &str, hours: u64| {
        let file = std::fs::File::create(temp.join(name)).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        let past: SystemTime = modified - Duration::from_secs(hours * 3600);
        file.set_modified(past).unwrap();
    };
    leave("yesterday", 25);
    leave("today", 2);
    assert!(store.list("", None, 10).await.unwrap().is_empty());
    assert!(temp.join("yesterday").exists(), "reading removes nothing");
    store.put_if_absent(&key("a"), vec![]).await.unwrap();
    assert!(!temp.join("yesterday").exists());
    assert!(temp.join("today").exists());
    assert_eq!(store.sweep_temp(Duration::from_secs(3600)).await.unwrap(), 1);
    assert_eq!(temp_files(dir.path()), 0);
}

#[tokio::test]
async fn an_object_and_a_folder_cannot_share_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::create(dir.path(), Access::Owner).unwrap();
    store.put_if_absent(&key("a"), vec![]).await.unwrap();
    let below = store.put_if_absent(&key("a/b"), vec![]).await.unwrap_err();
    assert!(below.to_string().contains("nothing can be stored below it"), "{below}");
    store.put_if_absent(&key("c/d"), vec![]).await.unwrap();
    let above = store.put_if_absent(&key("c"), vec![]).await.unwrap_err();
    assert!(above.to_string().contains("a folder of that name exists"), "{above}");
}

#[tokio::test]
async fn a_listing_leaves_out_what_is_not_an_object() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::create(dir.path(), Access::Owner).unwrap();
    for name in ["lost+found/x", "with space", "a/ä"] {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"").unwrap();
    }
    std::fs::create_dir_all(dir.path().join("empty/deep")).unwrap();
    assert!(store.list("", None, 10).await.unwrap().is_empty());
}
