//! Restores in a process of its own: as another user, or killed at any moment.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use repository::root;
use testbed::postgres::Install;
use testbed::{Workdir, as_postgres, can_drop_privileges};

use crate::fixture::{self, Backup, builder, tree};

/// What the child restores: paths and names, one a line.
const ORDER_VARIABLE: &str = "ROLLFORWARD_TEST_RESTORE";

/// How often a restore is killed before it may end.
const KILLS: u32 = 14;

/// This test's name for the test program itself.
const CHILD: &str = "process::a_killed_restore_is_repeated_into_the_same_directory";

/// Restores as told by the environment, if it says so.
async fn serve_as_child() -> bool {
    #[allow(clippy::disallowed_methods)] // how a test program talks to itself
    let Ok(order) = std::env::var(ORDER_VARIABLE) else { return false };
    let mut lines = order.lines();
    let mut next = || lines.next().unwrap().to_owned();
    let (repository, key, lineage, label) = (next(), next(), next(), next());
    let (directory, wal, port) = (next(), next(), next());
    let repository = fixture::open(&[PathBuf::from(repository)], Path::new(&key)).await;
    let (lineage, label) = (lineage.parse().unwrap(), label.parse().unwrap());
    let root = root::read(&repository, lineage, &label).await.unwrap();
    let options = fixture::options(
        Path::new(&directory),
        Path::new(&wal),
        port.parse().unwrap(),
        root.summary.timeline,
    );
    match fixture::restore(&repository, &root, &options).await {
        Ok(_) => println!("restored"),
        Err(error) => println!("refused: {error}: {error:?}"),
    }
    true
}

/// This test program as a child that restores `backup` into `directory`.
fn child(program: &Path, backup: &Backup, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--exact", CHILD, "--nocapture"]).stdin(Stdio::null());
    let summary = &backup.root.summary;
    let order = [
        backup.members[0].display().to_string(),
        backup.key_file.display().to_string(),
        summary.lineage.to_string(),
        summary.label.to_string(),
        directory.display().to_string(),
        backup.wal.display().to_string(),
        backup.port.number().to_string(),
    ];
    command.env(ORDER_VARIABLE, order.join("\n"));
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_restore_is_repeated_into_the_same_directory() {
    if serve_as_child().await {
        return;
    }
    let cluster = builder(17).start();
    fs::create_dir(cluster.data_dir().parent().unwrap().join("space")).unwrap();
    let space = cluster.data_dir().parent().unwrap().join("space");
    testbed::give_to_postgres(&space);
    fixture::spool(&cluster);
    cluster.psql(&format!("CREATE TABLESPACE fast LOCATION '{}'", space.display()));
    cluster.psql(
        "CREATE TABLE orders AS SELECT g AS id, md5(g::text) AS code, repeat('x', 100) AS note
            FROM generate_series(1, 200000) g;
         CREATE TABLE spaced TABLESPACE fast AS SELECT * FROM orders",
    );
    let backup = Backup::of(&cluster).await;
    let program = std::env::current_exe().unwrap();
    let directory = backup.directory();

    let begun = Instant::now();
    let output = child(&program, &backup, &directory).output().unwrap();
    assert!(said(&output).contains("restored"), "{}", said(&output));
    let mut whole = begun.elapsed();
    // A complete restore is not repeated over.
    let output = child(&program, &backup, &directory).output().unwrap();
    assert!(said(&output).contains("is not empty"), "{}", said(&output));
    let mut killed = 0;
    let mut complete = true;
    while killed < KILLS {
        if complete {
            fs::remove_dir_all(&directory).unwrap();
            fs::remove_dir_all(backup.workdir.join("spaces")).unwrap();
        }
        // Random moments, each second one near the end, where names and marks change.
        let part = u32::from(stdx::Id::random().as_bytes()[0]);
        let (from, width) = if killed % 2 == 0 { (0, 256) } else { (192, 64) };
        let moment = whole * (from + part * width / 256) / 256;
        let begun = Instant::now();
        let mut running =
            child(&program, &backup, &directory).stdout(Stdio::null()).spawn().unwrap();
        let mut ended = None;
        testbed::poll(moment + fixture::SOON, "the moment to kill it", || {
            ended = running.try_wait().unwrap();
            ended.is_some() || begun.elapsed() >= moment
        });
        let _ = running.kill();
        complete = running.wait().unwrap().success();
        match ended {
            // It was quicker than the one before, which other tests may have slowed down.
            Some(_) => whole = whole.min(begun.elapsed()) * 9 / 10,
            None => {
                eprintln!("killed after {moment:?} of {whole:?}");
                killed += 1;
            }
        }
    }
    let options = backup.options(&directory);
    let (restored, _) = backup.restored(&options).await;
    let sums = "SELECT (SELECT count(*) FROM orders), (SELECT sum(id) FROM spaced)";
    assert_eq!(restored.psql(sums), cluster.psql(sums));
    assert!(!tree(&directory).iter().any(|path| path.ends_with("rollforward.restoring")));
    let spaces = tree(&backup.workdir.join("spaces"));
    assert!(!spaces.iter().any(|path| path.ends_with("rollforward.restoring")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_user_restores_for_itself_only() {
    assert!(can_drop_privileges(), "this test changes users: run `make test` as root");
    let cluster = builder(16).start();
    fixture::spool(&cluster);
    cluster.psql("CREATE TABLE t AS SELECT 42 AS a");
    let backup = Backup::of(&cluster).await;
    let mine = Workdir::new();
    let program = mine.file("tests", fs::read(std::env::current_exe().unwrap()).unwrap());
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    for path in tree(&backup.members[0]).iter().chain([&backup.members[0]]) {
        testbed::give_to_postgres(path);
    }
    let run = |directory: &Path| {
        let mut command = child(&program, &backup, directory);
        let output = as_postgres(&mut command).output().unwrap();
        said(&output)
    };
    // Somebody else's directory, and a folder that only root may write to.
    let foreign = mine.join("foreign");
    fs::create_dir(&foreign).unwrap();
    let said = run(&foreign);
    assert!(said.contains("belongs to user 0, expected user"), "{said}");
    let said = run(&foreign.join("inside/data"));
    assert!(said.contains("PermissionDenied"), "{said}");
    assert_eq!(tree(&foreign).len(), 0);
    // Its own directory, though nobody may write to it.
    let own = mine.folder("own", 0o500);
    let said = run(&own);
    assert!(said.contains("restored"), "{said}");
    assert_eq!(fs::metadata(&own).unwrap().permissions().mode() & 0o777, 0o700);
    let options = backup.options(&own);
    let mut restored = backup.cluster(&options);
    restored.start();
    restored.wait_until("SELECT pg_is_in_recovery()", "f", Duration::from_secs(60));
    assert_eq!(restored.psql("SELECT a FROM t"), "42");
}

#[tokio::test(flavor = "multi_thread")]
async fn root_restores_for_the_owner_of_the_directory() {
    assert!(can_drop_privileges(), "this test changes users: run `make test` as root");
    let cluster = builder(15).start();
    fixture::spool(&cluster);
    cluster.psql("CREATE TABLE t AS SELECT 42 AS a");
    let backup = Backup::of(&cluster).await;
    let owner = fs::metadata(cluster.data_dir()).unwrap();
    // A folder made by root, as `mkdir` does, below folders that are not there yet either.
    let base = tempfile::Builder::new().prefix("rf-").tempdir_in("/tmp").unwrap();
    fs::set_permissions(base.path(), Permissions::from_mode(0o755)).unwrap();
    let made = base.path().join("made");
    fs::create_dir(&made).unwrap();
    for directory in [made, base.path().join("a/b/data")] {
        let options = backup.options(&directory);
        backup.restore(&options).await.unwrap();
        for path in tree(&directory).iter().chain([&directory]) {
            let seen = fs::symlink_metadata(path).unwrap();
            assert_eq!((seen.uid(), seen.gid()), (owner.uid(), owner.gid()), "{}", path.display());
            assert_eq!(seen.mode() & 0o027, 0, "{}", path.display());
        }
        let mut restored = backup.cluster(&options);
        assert_eq!(restored.install(), &Install::by_major(15));
        restored.start();
        restored.wait_until("SELECT pg_is_in_recovery()", "f", Duration::from_secs(60));
        assert_eq!(restored.psql("SELECT a FROM t"), "42");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_restores_do_not_fill_one_directory() {
    let cluster = builder(18).start();
    fixture::spool(&cluster);
    let backup = Backup::of(&cluster).await;
    let directory = backup.directory();
    let program = std::env::current_exe().unwrap();
    let mut first = child(&program, &backup, &directory)
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    // Stopped in the middle: it holds the directory for as long as it is wanted.
    testbed::poll(fixture::SOON, "the restore to begin", || directory.join("base").exists());
    let pid = rustix::process::Pid::from_child(&first);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let seen = backup.restore(&backup.options(&directory)).await;
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    assert!(matches!(seen, Err(restore::Error::Busy { .. })), "{seen:?}");
    assert!(first.wait().unwrap().success());
    let mut restored = backup.cluster(&backup.options(&directory));
    restored.start();
}
