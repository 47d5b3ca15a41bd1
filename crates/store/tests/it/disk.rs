//! Disks that are full, closed to us, or whose writer is killed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use store::local::{Access, LocalStore};
use store::{Created, Error, Store};
use testbed::{SmallDisk, Workdir, poll};

use crate::{child, key, parts};

const DEADLINE: Duration = Duration::from_secs(60);

fn temp_files(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root.join(".tmp")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_nothing() {
    let disk = SmallDisk::new(24);
    let store = LocalStore::open(disk.path(), Access::Owner);
    store.put_if_absent(&key("before"), parts("kept")).await.unwrap();
    let filler = disk.fill(4 << 20);
    let large = Bytes::from(vec![7; 8 << 20]);

    let put = store.put_if_absent(&key("put"), vec![large.clone()]).await.unwrap_err();
    assert!(matches!(put, Error::NoSpace { .. }), "{put:?}");
    let mut upload = store.upload(&key("upload")).await.unwrap();
    let mut failed = None;
    for _ in 0..4 {
        if let Err(error) = upload.write(large.clone()).await {
            failed = Some(error);
            break;
        }
    }
    let error = failed.expect("the disk takes no 32 MiB");
    assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
    let after = upload.write(large.clone()).await.unwrap_err();
    assert!(matches!(after, Error::Unavailable { .. }), "{after:?}");
    assert!(upload.finish().await.is_err(), "an upload that lost bytes was finished");

    let listed = store.list("", None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|m| m.key.as_str()).collect::<Vec<_>>(), ["before", "filler"]);
    poll(DEADLINE, "the temporary files to go", || temp_files(disk.path()).is_empty());
    fs::remove_file(filler).unwrap();
    assert_eq!(store.put_if_absent(&key("put"), vec![large]).await.unwrap(), Created::New);
}

#[tokio::test]
async fn a_directory_closed_to_us_is_denied() {
    let name = "disk::a_directory_closed_to_us_is_denied";
    if let Some(root) = child::role() {
        let store = LocalStore::open(Path::new(&root), Access::Owner);
        let denied = |error: Error| assert!(matches!(error, Error::Denied { .. }), "{error:?}");
        assert_eq!(store.get(&key("open/object")).await.unwrap(), "readable");
        denied(store.put_if_absent(&key("open/new"), parts("x")).await.unwrap_err());
        denied(store.upload(&key("open/new")).await.unwrap_err());
        denied(store.delete(&key("open/object")).await.unwrap_err());
        denied(store.get(&key("closed/object")).await.unwrap_err());
        denied(store.list("", None, 10).await.unwrap_err());
        let inside = Path::new(&root).join("open/inside");
        denied(LocalStore::create(&inside, Access::Owner).unwrap_err());
        return;
    }
    let workdir = Workdir::new();
    let root = workdir.join("root");
    // Ours, readable by the other user but for one folder.
    let store = LocalStore::create(&root, Access::Owner).unwrap();
    store.put_if_absent(&key("open/object"), parts("readable")).await.unwrap();
    store.put_if_absent(&key("closed/object"), parts("secret")).await.unwrap();
    for (path, mode) in
        [("", 0o555), ("open", 0o555), ("open/object", 0o444), ("closed", 0o000), (".tmp", 0o555)]
    {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let output = child::command(&workdir, name, root.to_str().unwrap()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert!(root.join("open/object").exists());
    fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test]
async fn a_killed_writer_leaves_nothing_visible() {
    let name = "disk::a_killed_writer_leaves_nothing_visible";
    if let Some(root) = child::role() {
        let store = LocalStore::open(Path::new(&root), Access::Owner);
        let mut upload = store.upload(&key("packs/half")).await.unwrap();
        for _ in 0..5 {
            upload.write(Bytes::from(vec![1; 8 << 20])).await.unwrap();
        }
        // To be killed in the middle of the upload.
        std::future::pending::<()>().await;
    }
    let workdir = Workdir::new();
    let root = workdir.folder("root", 0o755);
    let mut writer = child::command(&workdir, name, root.to_str().unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    poll(DEADLINE, "the writer to have written 24 MiB", || {
        temp_files(&root).iter().any(|path| fs::metadata(path).is_ok_and(|m| m.len() >= 24 << 20))
    });
    writer.kill().unwrap(); // SIGKILL
    writer.wait().unwrap();

    let store = LocalStore::open(&root, Access::Owner);
    assert!(store.list("", None, 10).await.unwrap().is_empty());
    let head = store.head(&key("packs/half")).await.unwrap_err();
    assert!(matches!(head, Error::NotFound { .. }), "{head:?}");
    // The same name can be written now, by whole object or by upload.
    let mut upload = store.upload(&key("packs/half")).await.unwrap();
    upload.write(Bytes::from_static(b"whole")).await.unwrap();
    upload.finish().await.unwrap();
    assert_eq!(store.get(&key("packs/half")).await.unwrap(), "whole");
    // What it left costs space only, and goes when told to.
    assert_eq!(temp_files(&root).len(), 1);
    assert_eq!(store.sweep_temp(Duration::ZERO).await.unwrap(), 1);
}

#[tokio::test]
async fn of_racing_processes_one_wins_each_name() {
    const PROCESSES: usize = 6;
    const NAMES: usize = 40;
    let name = "disk::of_racing_processes_one_wins_each_name";
    if let Some(role) = child::role() {
        let (me, root) = role.split_once(':').unwrap();
        let store = LocalStore::open(Path::new(root), Access::Owner);
        println!(); // ends the runner's own line
        for at in 0..NAMES {
            let body = vec![Bytes::from(me.to_owned())];
            let created = store.put_if_absent(&key(&format!("a/{at}/b")), body).await.unwrap();
            println!("{me} {at} {}", if created == Created::New { "won" } else { "lost" });
        }
        return;
    }
    let workdir = Workdir::new();
    let root = workdir.folder("root", 0o755);
    let racers: Vec<_> = (0..PROCESSES)
        .map(|me| {
            let role = format!("{me}:{}", root.display());
            child::command(&workdir, name, &role).stdout(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut winners: Vec<Vec<String>> = vec![Vec::new(); NAMES];
    for racer in racers {
        let output = racer.wait_with_output().unwrap();
        assert!(output.status.success());
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            if let [me, at, "won"] = line.split(' ').collect::<Vec<_>>()[..] {
                winners[at.parse::<usize>().unwrap()].push(me.to_owned());
            }
        }
    }
    for (at, winners) in winners.iter().enumerate() {
        let stored = fs::read_to_string(root.join(format!("a/{at}/b"))).unwrap();
        assert_eq!(winners, &[stored], "name {at}");
    }
    assert!(temp_files(&root).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_uploads_and_puts_of_one_name_never_mix() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(LocalStore::open(dir.path(), Access::Owner));
    let name = key("contended");
    let mut upload = store.upload(&name).await.unwrap();
    upload.write(Bytes::from(vec![1; 9 << 20])).await.unwrap();
    assert_eq!(store.put_if_absent(&name, parts("first")).await.unwrap(), Created::New);
    let error = upload.finish().await.unwrap_err();
    assert!(error.to_string().contains("was used before"), "{error}");
    assert_eq!(store.get(&name).await.unwrap(), "first");
    assert!(temp_files(dir.path()).is_empty());
}
