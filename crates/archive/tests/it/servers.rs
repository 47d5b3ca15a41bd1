//! Archiving what real servers write, on every version and segment size.

use std::fs;
use std::path::Path;

use archive::credential::Credential;
use archive::{Error, PushRequest, Pushed, push};
use pg::{SystemId, TimelineId};
use repository::Repository;
use repository::lineage::{self, Lineage};
use repository::wal_object::{self, WalFile};
use stdx::Diagnostic;
use testbed::Workdir;
use testbed::postgres::{Cluster, Install, Stop};

use crate::recovery::{Copy, copy};
use crate::support::{HOST, enroll, in_memory, now, run};

/// The files that the server wants archived, in its order: histories first.
fn ready(data: &Path) -> Vec<String> {
    let marks = fs::read_dir(data.join("pg_wal/archive_status")).unwrap();
    let marks = marks.map(|mark| mark.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        marks.filter_map(|mark| mark.strip_suffix(".ready").map(str::to_owned)).collect();
    names.sort_by_key(|name| (!name.ends_with(".history"), name.clone()));
    names
}

struct Server {
    credential: Credential,
    lineage: Lineage,
}

impl Server {
    async fn register(repository: &Repository, cluster: &Cluster, tokens: &Path) -> Self {
        let system_id = cluster.psql("SELECT system_identifier FROM pg_control_system()");
        let system_id = SystemId::new(system_id.parse().unwrap());
        let lineage = lineage::register(repository, "shop", system_id, now()).await.unwrap();
        let data = fs::canonicalize(cluster.data_dir()).unwrap();
        let token = tokens.join("token");
        let credential = enroll(repository, &lineage, &data, &token, 1, 1).await;
        Self { credential, lineage }
    }

    async fn push(
        &self,
        repository: &Repository,
        data: &Path,
        name: &str,
    ) -> Result<Pushed, Error> {
        let path = data.join("pg_wal").join(name);
        let request = PushRequest {
            path: &path,
            credential: &self.credential,
            host: HOST,
            hold: false,
            compression: repository::Compression::default(),
            threads: 2,
            now: now(),
        };
        push(repository, &request).await
    }
}

fn code(pushed: Result<Pushed, Error>) -> &'static str {
    pushed.unwrap_err().info().code
}

/// A server that wants its files archived and has no command that does it: the test is that.
fn server(install: &Install, mib: u32) -> Cluster {
    Cluster::builder(install)
        .wal_segsize_mb(mib)
        .setting("archive_mode", "on")
        .setting("archive_command", "")
        .start()
}

fn check_archiving(major: u32, mib: u32) {
    let install = Install::by_major(major);
    let (workdir, tokens) = (Workdir::new(), tempfile::tempdir().unwrap());
    let mut cluster = server(&install, mib);
    run(async {
        let repository = in_memory();
        let server = Server::register(&repository, &cluster, tokens.path()).await;
        cluster.psql("CREATE TABLE t (id int)");
        let segment = cluster.switch_wal();
        let data = cluster.data_dir().to_owned();
        assert!(ready(&data).contains(&segment), "{:?}", ready(&data));
        for name in ready(&data) {
            let pushed = server.push(&repository, &data, &name).await.unwrap();
            assert_eq!(pushed, Pushed::Stored, "{name}");
            assert_eq!(server.push(&repository, &data, &name).await.unwrap(), Pushed::AlreadyThere);
        }
        cluster.stop(Stop::Fast);

        // A copy of the directory is another cluster, though everything in it says otherwise.
        let clone = workdir.join("clone");
        copy(&data, &clone);
        assert_eq!(code(server.push(&repository, &clone, &segment).await), "RF0106");

        // The cluster is promoted in place.
        let archived = ready(&data);
        let mut promoted = Copy::of(&install, &data, "recovery.signal", "false");
        promoted.cluster.append_setting("archive_mode", "on");
        promoted.recover().unwrap();
        promoted.cluster.switch_wal();
        promoted.cluster.stop(Stop::Fast);
        let new: Vec<String> =
            ready(&data).into_iter().filter(|name| !archived.contains(name)).collect();
        assert!(new.contains(&"00000002.history".to_owned()), "{new:?}");
        assert!(new.iter().any(|name| name.starts_with("00000002") && name.len() == 24), "{new:?}");
        for name in &new {
            let pushed = server.push(&repository, &data, name).await.unwrap();
            assert_eq!(pushed, Pushed::Stored, "{name} of {new:?}");
        }
        let file = WalFile::History(TimelineId::new(2));
        let (_, history) = wal_object::get(&repository, server.lineage.id, &file).await.unwrap();
        assert_eq!(history, fs::read(data.join("pg_wal/00000002.history")).unwrap());
    });
}

#[test]
fn a_14_with_segments_of_1_mib_is_archived() {
    check_archiving(14, 1);
}

#[test]
fn a_15_with_segments_of_16_mib_is_archived() {
    check_archiving(15, 16);
}

#[test]
fn a_16_with_segments_of_4_mib_is_archived() {
    check_archiving(16, 4);
}

#[test]
fn a_17_with_segments_of_64_mib_is_archived() {
    check_archiving(17, 64);
}

#[test]
fn an_18_with_segments_of_1_mib_is_archived() {
    check_archiving(18, 1);
}

#[test]
fn another_clusters_segment_is_refused() {
    let install = Install::latest();
    let tokens = tempfile::tempdir().unwrap();
    let (ours, other) = (server(&install, 1), server(&install, 1));
    run(async {
        let repository = in_memory();
        let server = Server::register(&repository, &ours, tokens.path()).await;
        other.psql("CREATE TABLE t (id int)");
        let name = other.switch_wal();
        // By mistake the directories were mixed up: the name fits, the place fits.
        let place = ours.data_dir().join("pg_wal").join(&name);
        fs::copy(other.data_dir().join("pg_wal").join(&name), &place).unwrap();
        assert_eq!(code(server.push(&repository, ours.data_dir(), &name).await), "RF0103");
    });
}
