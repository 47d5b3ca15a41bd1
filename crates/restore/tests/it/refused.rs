//! Directories that are not ours to fill.

use std::fs;

use restore::Error;
use testbed::postgres::Stop;

use crate::fixture::{Backup, builder, spool, tree};

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_holds_something_is_not_touched() {
    let source = builder(14).start();
    spool(&source);
    let backup = Backup::of(&source).await;
    let directory = backup.workdir.folder("taken", 0o755);
    fs::write(directory.join("precious"), "data").unwrap();
    let error = backup.restore(&backup.options(&directory)).await.unwrap_err();
    assert!(matches!(&error, Error::NotEmpty { first, .. } if first == "precious"), "{error:?}");
    assert_eq!(tree(&directory).len(), 1);
    assert_eq!(fs::read(directory.join("precious")).unwrap(), b"data");

    let file = backup.workdir.file("file", "data");
    let error = backup.restore(&backup.options(&file)).await.unwrap_err();
    assert!(matches!(error, Error::File { .. }), "{error:?}");
    assert_eq!(fs::read(&file).unwrap(), b"data");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_is_recognised() {
    let source = builder(18).start();
    spool(&source);
    let backup = Backup::of(&source).await;
    let error = backup.restore(&backup.options(source.data_dir())).await.unwrap_err();
    assert!(matches!(error, Error::ServerRuns { .. }), "{error:?}");
    assert_eq!(source.psql("SELECT 1"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_was_started_is_never_taken_for_an_unfinished_restore() {
    let source = builder(15).start();
    spool(&source);
    source.psql("CREATE TABLE t (x int)");
    let backup = Backup::of(&source).await;
    let options = backup.options(&backup.directory());
    let (mut restored, _) = backup.restored(&options).await;
    restored.psql("INSERT INTO t VALUES (1)");
    restored.stop(Stop::Fast);
    // As if the restore had been killed when only its mark was left to remove.
    let mark = options.directory.join("rollforward.restoring");
    fs::write(&mark, format!("{}\n", backup.label())).unwrap();
    let error = backup.restore(&options).await.unwrap_err();
    assert!(matches!(error, Error::NotEmpty { .. }), "{error:?}");
    restored.start();
    assert_eq!(restored.psql("SELECT count(*) FROM t"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_directory_and_an_absent_one_are_filled() {
    let source = builder(14).start();
    spool(&source);
    let backup = Backup::of(&source).await;
    let empty = backup.workdir.folder("empty", 0o777);
    fs::create_dir(empty.join("lost+found")).unwrap();
    // What a killed restore may leave of its very first step.
    fs::write(empty.join(".rollforward.restoring.x.tmp"), "").unwrap();
    for directory in [empty, backup.workdir.join("deep/er/absent")] {
        let mut options = backup.options(&directory);
        options.directory.push(".");
        let report = backup.restore(&options).await.unwrap();
        assert_eq!(report.size.get(), backup.root.summary.size);
        let mut restored = backup.cluster(&options);
        restored.start();
        assert!(!directory.join("rollforward.restoring").exists());
        assert!(!directory.join(".rollforward.restoring.x.tmp").exists());
    }
}
