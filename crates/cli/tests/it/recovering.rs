//! Recoveries of a restored cluster that may fail.

use std::fs;
use std::path::Path;

use pg::control::{CONTROL_FILE_PATH, ClusterState, ControlFile};
use testbed::poll;
use testbed::postgres::Cluster;

use crate::site::DEADLINE;

const COMPLETE: &str = "archive recovery complete";

/// Starts the server and waits until recovery is complete; an error is what the server logged
/// when it ended instead.
pub(crate) fn recover(cluster: &mut Cluster) -> Result<(), String> {
    let begin = cluster.log_text().len();
    // A hot standby takes sessions long before the end of recovery.
    let started = cluster.try_start().is_ok();
    let completed = |cluster: &Cluster| cluster.log_text()[begin..].contains(COMPLETE);
    poll(DEADLINE, "the recovery to end", || {
        !started || completed(cluster) || !cluster.is_running()
    });
    if !completed(cluster) {
        return Err(cluster.log_text()[begin..].to_owned());
    }
    cluster.wait_until("SELECT pg_is_in_recovery()", "f", DEADLINE);
    Ok(())
}

/// Checks that a recovery that failed has promoted nothing and would go on as a recovery.
#[track_caller]
pub(crate) fn assert_still_recovering(data: &Path) {
    let control = fs::read(data.join(CONTROL_FILE_PATH)).unwrap();
    let control = ControlFile::decode(&control).unwrap();
    // Stopped before it read a single record, it is as the backup left it, with its label.
    let fresh = data.join("backup_label").exists();
    let recovering = control.state == ClusterState::InArchiveRecovery;
    assert!(recovering || fresh, "{:?}", control.state);
    assert!(data.join("recovery.signal").exists(), "the next start recovers, too");
    assert_eq!(control.checkpoint_copy.timeline.get(), 1);
    let histories: Vec<_> = fs::read_dir(data.join("pg_wal"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("00000002"))
        .collect();
    assert!(histories.is_empty(), "{histories:?}");
}

/// Checks that recovery ends with this error code twice, and promotes nothing.
#[track_caller]
pub(crate) fn assert_stops_with(cluster: &mut Cluster, code: &str) {
    for _ in 0..2 {
        let log = recover(cluster).expect_err("promoted without its WAL");
        assert!(log.contains(&format!("error[{code}]")), "expected {code}: {log}");
        assert_still_recovering(cluster.data_dir());
    }
}
