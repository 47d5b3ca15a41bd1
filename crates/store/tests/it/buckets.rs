//! Buckets of applications, in directories and on a real S3-compatible server.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use store::bucket::{Bucket, Item, PIECE_LEN, open};
use store::{Created, Error, OpenOptions};
use testbed::S3;

/// Names as applications choose them, in the order of their bytes.
const NAMES: [&str; 7] = ["a b", "a#.pdf", "a.b", "a/b/ä ö.txt", "a/c~%20", "a0", "ü/1"];

fn directory(root: &Path) -> Arc<dyn Bucket> {
    open(&root.display().to_string(), &OpenOptions::default()).unwrap()
}

fn on(s3: &S3) -> Arc<dyn Bucket> {
    open(&crate::s3::url(s3, &s3.endpoint(), ""), &crate::s3::options(s3)).unwrap()
}

fn fill(root: &Path, names: &[&str]) {
    for name in names {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("content of {name}")).unwrap();
    }
}

async fn item(bucket: &Arc<dyn Bucket>, name: &str) -> Item {
    bucket.head(name).await.unwrap().unwrap_or_else(|| panic!("no '{name}'"))
}

async fn names(bucket: &Arc<dyn Bucket>, page: usize) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    loop {
        let listed = bucket.list(all.last().map(String::as_str), page).await.unwrap();
        let is_last = listed.len() < page;
        all.extend(listed.into_iter().map(|item| item.name));
        if is_last {
            return all;
        }
    }
}

/// What holds for every bucket, filled from a directory.
async fn keeps_its_promises(bucket: Arc<dyn Bucket>) {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), &NAMES);
    let from = directory(folder.path());
    for name in NAMES {
        assert!(bucket.head(name).await.unwrap().is_none(), "{name}");
        let found = item(&from, name).await;
        assert_eq!(bucket.copy_from(from.as_ref(), &found).await.unwrap(), Created::New, "{name}");
        let there = item(&bucket, name).await;
        assert_eq!((there.name.as_str(), there.size), (name, found.size));
        let bytes = bucket.read(name, 0..there.size).await.unwrap();
        assert_eq!(bytes, format!("content of {name}"));
    }
    for page in [1, 2, 3, 100] {
        assert_eq!(names(&bucket, page).await, NAMES, "pages of {page}");
    }
    assert_eq!(names(&from, 2).await, NAMES);
    // Nothing is replaced.
    fs::write(folder.path().join("a0"), "another").unwrap();
    let other = item(&from, "a0").await;
    assert_eq!(bucket.copy_from(from.as_ref(), &other).await.unwrap(), Created::Exists);
    assert_eq!(bucket.read("a0", 0..10).await.unwrap(), "content of");
    assert!(bucket.read("a0", 0..1000).await.is_err(), "shorter than asked for");
    assert!(bucket.read("none", 0..1).await.is_err());
    for bad in ["/a0", "a0/", "a//b", "../a0", "a/./b", ""] {
        let error = bucket.head(bad).await.unwrap_err();
        assert!(matches!(error, Error::Denied { .. }), "'{bad}': {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_takes_files_of_any_name_and_replaces_none() {
    let folder = tempfile::tempdir().unwrap();
    keeps_its_promises(directory(folder.path())).await;
    let metadata = fs::metadata(folder.path().join("a b")).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o640, "the application's group may read it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_s3_bucket_takes_objects_of_any_name_and_replaces_none() {
    keeps_its_promises(on(&S3::start())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_into_one_request_is_copied_in_parts_and_replaces_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let len = usize::try_from(PIECE_LEN * 2 + 5).unwrap();
    let content: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
    fs::write(folder.path().join("big"), &content).unwrap();
    let (s3, back) = (S3::start(), tempfile::tempdir().unwrap());
    let (from, there, back) = (directory(folder.path()), on(&s3), directory(back.path()));
    let found = item(&from, "big").await;
    assert_eq!(there.copy_from(from.as_ref(), &found).await.unwrap(), Created::New);
    assert_eq!(there.copy_from(from.as_ref(), &found).await.unwrap(), Created::Exists);
    let found = item(&there, "big").await;
    assert_eq!(found.size, len as u64);
    assert_eq!(back.copy_from(there.as_ref(), &found).await.unwrap(), Created::New);
    assert_eq!(back.copy_from(there.as_ref(), &found).await.unwrap(), Created::Exists);
    assert!(back.read("big", 0..found.size).await.unwrap() == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_says_nothing_about_objects() {
    let nowhere = directory(Path::new("/does/not/exist"));
    assert!(matches!(nowhere.head("a").await, Err(Error::Unavailable { .. })));
    assert!(nowhere.list(None, 1).await.is_err());
    let s3 = S3::start();
    let url = format!("s3://no-such-bucket?endpoint={}&allow_http=true", s3.endpoint());
    let missing = open(&url, &crate::s3::options(&s3)).unwrap();
    assert!(missing.head("a").await.is_err(), "the bucket is missing, not the object");
    assert!(missing.list(None, 1).await.is_err());
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc/hostname", folder.path().join("link")).unwrap();
    let linked = directory(folder.path());
    assert!(linked.head("link").await.is_err() && linked.list(None, 9).await.is_err());
}

#[test]
fn addresses_of_buckets_hold_no_secrets_and_are_absolute() {
    let refused = |url: &str| open(url, &OpenOptions::default()).unwrap_err().to_string();
    assert!(refused("relative/path").contains("absolute"));
    assert!(refused("ftp://x/y").contains("unknown scheme"));
    assert!(refused("s3://bucket?secret_access_key=hush").contains("never stand in an address"));
    assert_eq!(store::bucket::shown("s3://b/p/?endpoint=http://x"), "s3://b/p");
}
