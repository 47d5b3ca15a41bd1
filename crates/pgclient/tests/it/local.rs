//! Control of a server on this machine.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use pgclient::local::{
    Awaited, InitOptions, LocalServer, Ping, Programs, RunAs, State, Status, StopMode,
    init_cluster, ping, processes_in, status,
};
use pgclient::{Client, ConnectOptions, Error};
use testbed::postgres::{Install, installed};
use testbed::{Port, Workdir};

const QUIET: Duration = Duration::from_secs(60);

/// A new cluster of ours; stopped at the end, whatever happens.
struct Bench {
    server: LocalServer,
    programs: Programs,
    work: Workdir,
    port: Port,
}

impl Bench {
    async fn new(install: &Install) -> Self {
        let work = Workdir::new();
        let programs = Programs::at(&install.bindir).await.unwrap();
        let data_dir = work.join("data");
        let options = InitOptions {
            superuser: "admin".into(),
            data_checksums: true,
            args: vec!["--auth-local=trust".into(), "--no-sync".into()],
        };
        let run_as = RunAs::user("postgres").unwrap();
        init_cluster(&programs, &data_dir, &options, &run_as).await.unwrap();
        let server = LocalServer::new(programs.clone(), &data_dir, &work.join("log")).unwrap();
        Self { server, programs, work, port: Port::reserve() }
    }

    fn settings(&self) -> Vec<(String, String)> {
        let socket_dir = self.work.path().display().to_string();
        [
            ("port", self.port.number().to_string()),
            ("unix_socket_directories", socket_dir),
            ("listen_addresses", "127.0.0.1".into()),
            ("fsync", "off".into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    fn options(&self) -> ConnectOptions {
        ConnectOptions::local(self.work.path(), self.port.number(), "admin")
    }

    async fn start(&self) -> Result<pgclient::local::Postmaster, Error> {
        self.server.start(&self.settings(), QUIET).await
    }

    async fn stop(&self, mode: StopMode) {
        self.server.stop(mode, QUIET).await.unwrap();
    }

    fn append(&self, file: &str, text: &str) {
        let path = self.server.data_dir().join(file);
        let mut content = fs::read_to_string(&path).unwrap_or_default();
        content.push_str(text);
        fs::write(&path, content).unwrap();
        testbed::give_to_postgres(&path);
    }

    /// What PostgreSQL's own program says.
    fn pg_ctl_status(&self) -> i32 {
        let mut command = Command::new(self.programs.bindir().join("pg_ctl"));
        command.arg("-D").arg(self.server.data_dir()).arg("status");
        testbed::as_postgres(&mut command).output().unwrap().status.code().unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Ok(Status::Running(postmaster)) = self.server.status() {
            let _ = Command::new("kill").args(["-QUIT", &postmaster.pid.to_string()]).status();
        }
    }
}

#[tokio::test]
async fn a_server_is_made_started_and_stopped_on_every_major() {
    for install in installed() {
        let bench = Bench::new(&install).await;
        assert_eq!(bench.server.status().unwrap(), Status::Stopped);
        assert_eq!(bench.pg_ctl_status(), 3);
        assert_eq!(ping(&bench.options()).await, Ping::Silent);

        let postmaster = bench.start().await.unwrap();
        assert_eq!(postmaster.state, State::Ready);
        assert_eq!(postmaster.port, Some(bench.port.number()));
        assert_eq!(bench.server.status().unwrap(), Status::Running(postmaster.clone()));
        assert_eq!(bench.pg_ctl_status(), 0);
        assert_eq!(postmaster.connect_options("admin"), Some(bench.options()));
        assert_eq!(ping(&bench.options()).await, Ping::Accepting);
        let stranger = ConnectOptions::local(bench.work.path(), bench.port.number(), "stranger");
        assert_eq!(ping(&stranger).await, Ping::Accepting);
        assert!(processes_in(bench.server.data_dir()).contains(&postmaster.pid));
        let client = Client::connect(&bench.options()).await.unwrap();
        assert_eq!(client.server().await.unwrap().major.get(), install.major);

        let error = bench.start().await.unwrap_err();
        assert!(matches!(error, Error::Running { pid, .. } if pid == postmaster.pid), "{error}");
        bench.stop(StopMode::Fast).await;
        bench.stop(StopMode::Fast).await;
        assert_eq!(bench.server.status().unwrap().pg_ctl_code(), 3);
        assert_eq!(bench.pg_ctl_status(), 3);
        assert_eq!(processes_in(bench.server.data_dir()), Vec::<u32>::new());
        assert!(matches!(bench.server.postmaster(), Err(Error::NotRunning { .. })));
    }
}

#[tokio::test]
async fn a_server_runs_as_the_owner_with_all_the_owners_groups() {
    let bench = Bench::new(&Install::latest()).await;
    let postmaster = bench.start().await.unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", postmaster.pid)).unwrap();
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let mut numbers: Vec<u32> =
            line.split_whitespace().map(|number| number.parse().unwrap()).collect();
        numbers.sort_unstable();
        numbers
    };
    match bench.server.run_as() {
        RunAs::Account { uid, gid, groups } => {
            let mut groups = groups.clone();
            groups.sort_unstable();
            assert_eq!((line("Uid:"), line("Gid:")), (vec![*uid; 4], vec![*gid; 4]));
            assert_eq!(line("Groups:"), groups);
        }
        RunAs::Caller => assert_ne!(line("Uid:"), [0; 4]),
    }
    // The thread that became another account was not this process's.
    let own = fs::read_to_string("/proc/self/status").unwrap();
    assert!(own.contains(&format!("\nUid:\t{}\t", rustix::process::getuid().as_raw())));
}

#[tokio::test]
async fn a_folder_without_a_cluster_has_no_server() {
    let work = Workdir::new();
    let folder = work.folder("empty", 0o700);
    assert_eq!(status(&folder).unwrap().pg_ctl_code(), 4);
    assert_eq!(status(&work.join("missing")).unwrap().pg_ctl_code(), 4);
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    for install in installed() {
        let bench = Bench::new(&install).await;
        bench.append("postgresql.conf", "\nno_such_setting = 1\n");
        let error = bench.start().await.unwrap_err();
        assert!(matches!(error, Error::StartFailed { .. }));
        assert!(error.to_string().contains("no_such_setting"), "{error}");
    }
}

#[tokio::test]
async fn why_a_server_did_not_start_is_found_in_its_collectors_log_too() {
    let bench = Bench::new(&Install::latest()).await;
    bench.append(
        "postgresql.conf",
        "\nlogging_collector = on\nhot_standby = off\nrestore_command = 'false'\n",
    );
    bench.append("recovery.signal", "");
    bench.append("postgresql.conf", "recovery_target_lsn = '7/0'\n");
    let error = bench.start().await.unwrap_err().to_string();
    assert!(error.contains("recovery ended before configured recovery target"), "{error}");
}

#[tokio::test]
async fn a_killed_server_is_not_taken_for_a_running_one() {
    let bench = Bench::new(&Install::latest()).await;
    let postmaster = bench.start().await.unwrap();
    let pids = processes_in(bench.server.data_dir());
    assert!(pids.len() > 1, "the server has children");
    for pid in [&[postmaster.pid], pids.as_slice()].concat() {
        let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
    }
    testbed::poll(QUIET, "the end of all", || processes_in(bench.server.data_dir()).is_empty());
    assert!(bench.server.data_dir().join("postmaster.pid").exists());
    assert_eq!(bench.server.status().unwrap(), Status::Stopped);
    bench.start().await.unwrap();
    bench.stop(StopMode::Immediate).await;
    assert_eq!(bench.server.status().unwrap(), Status::Stopped);
}

#[tokio::test]
async fn a_standby_is_consistent_pauses_and_is_promoted() {
    for install in installed() {
        let bench = Bench::new(&install).await;
        bench.append("standby.signal", "");
        bench.start().await.unwrap();
        let options = bench.options();
        let wait = async |awaited| bench.server.wait_until(awaited, &options, QUIET).await.unwrap();
        let state = wait(Awaited::Consistent).await;
        assert!(state.in_recovery);
        let client = Client::connect(&options).await.unwrap();
        let server = client.server().await.unwrap();
        assert_eq!((server.in_recovery, server.timeline.get()), (true, 1));

        client.query_text("SELECT pg_wal_replay_pause()", QUIET).await.unwrap();
        // Nothing is replayed, so that only the order to pause can be waited for before 14's pause.
        assert!(matches!(wait(Awaited::Target).await.pause, pgclient::PauseState::Paused));
        client.resume_replay().await.unwrap();
        client.promote(QUIET).await.unwrap();
        assert!(!wait(Awaited::Promoted).await.in_recovery);
        let server = client.server().await.unwrap();
        assert_eq!((server.in_recovery, server.timeline.get()), (false, 2), "at once");
        assert!(client.promote(QUIET).await.is_err(), "there is nothing to promote");
    }
}

#[tokio::test]
async fn a_recovery_that_hangs_is_told_from_one_that_is_long() {
    let bench = Bench::new(&Install::latest()).await;
    bench.append("recovery.signal", "");
    bench.append("postgresql.conf", "\nrestore_command = 'exec sleep 300'\n");
    let error = bench.server.start(&bench.settings(), Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(error, Error::NoProgress { .. }), "{error}");
    assert!(error.to_string().contains("it is starting"), "{error}");
    assert_eq!(ping(&bench.options()).await, Ping::NotReady);
    bench.stop(StopMode::Immediate).await;
}

#[tokio::test]
async fn programs_are_found_by_version() {
    let folders: Vec<PathBuf> = installed().into_iter().map(|install| install.bindir).collect();
    for install in installed() {
        let major = pg::MajorVersion::new(install.major).unwrap();
        let found = Programs::find(major, &folders).await.unwrap();
        assert_eq!(found.major(), major);
        assert!(found.version().starts_with(&format!("{major}.")), "{}", found.version());
        assert!(found.path("initdb").is_some() && found.path("no_such_program").is_none());
    }
    let all = Programs::discover(&folders).await;
    assert!(all.len() >= 5 && all[0].major().get() == 18);
    let error = Programs::find(pg::MajorVersion::V13, &folders).await.unwrap_err();
    assert!(error.to_string().starts_with("no PostgreSQL programs of version 13 in '"), "{error}");
    let error = Programs::at(&PathBuf::from("/nowhere")).await.unwrap_err();
    assert!(error.to_string().contains("'/nowhere/postgres' failed"), "{error}");
}
