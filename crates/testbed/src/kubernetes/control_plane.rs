//! etcd, the API server and the controllers, as processes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::client::Client;
use super::users::{self, ADMIN};
use crate::account::as_postgres;
use crate::poll_for;
use crate::port::Port;
use crate::tools::INSTALL_COMMAND;
use crate::workdir::Workdir;

/// Four of them may start at once on a machine with two cores.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// All but those that need a cloud, or a kubelet that reports on time.
const CONTROLLERS: &str = "*,-nodeipam,-nodelifecycle,-cloud-node-lifecycle,-service";

/// The three processes. They end on drop, in the order of the fields.
#[derive(Debug)]
pub(super) struct ControlPlane {
    _manager: Process,
    server: Process,
    _etcd: Process,
    port: Port,
    _etcd_ports: [Port; 2],
}

impl ControlPlane {
    /// Starts them, and waits until pods can be created.
    pub(super) fn start(workdir: &Workdir) -> (Self, Client) {
        let (port, etcd_ports) = (Port::reserve(), [Port::reserve(), Port::reserve()]);
        make_key(workdir);
        let mut etcd = start_etcd(workdir, &etcd_ports);
        let mut server = start_server(workdir, &port, &etcd_ports[0]);
        let authority = authority(workdir);
        let client = poll_for(START_DEADLINE, "the API server to be ready", || {
            etcd.must_run();
            server.must_run();
            let client = Client::new(port.number(), &users::token(ADMIN), &authority).ok()?;
            let (status, _) = client.call("GET", "/readyz", None).ok()?;
            (status == 200).then_some(client)
        });
        users::write_kubeconfigs(workdir, port.number(), &authority);
        let mut manager = start_manager(workdir);
        let account = "/api/v1/namespaces/default/serviceaccounts/default";
        poll_for(START_DEADLINE, "the account of pods in namespace 'default'", || {
            manager.must_run();
            let (_, account) = client.call("GET", account, None).ok()?;
            // Without its token no pod is admitted.
            account.get("secrets").is_some().then_some(())
        });
        let it = Self { _manager: manager, server, _etcd: etcd, port, _etcd_ports: etcd_ports };
        (it, client)
    }

    pub(super) fn port(&self) -> u16 {
        self.port.number()
    }

    /// Sends a signal to the API server.
    pub(super) fn signal_server(&self, signal: Signal) {
        self.server.signal(signal);
    }
}

/// What signs for the API server: it makes both itself when it starts.
pub(super) fn authority(workdir: &Workdir) -> PathBuf {
    workdir.join("certs/apiserver.crt")
}

/// The key that signs the tokens of service accounts.
fn make_key(workdir: &Workdir) {
    let mut command = Command::new("openssl");
    command.args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"]);
    let output = as_postgres(command.arg(workdir.join("accounts.key"))).output();
    let output = output.unwrap_or_else(|error| panic!("openssl: {error}: `{INSTALL_COMMAND}`"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "make a key: {said}");
}

fn start_etcd(workdir: &Workdir, ports: &[Port; 2]) -> Process {
    let [clients, peers] =
        ports.each_ref().map(|port| format!("http://127.0.0.1:{port}", port = port.number()));
    let mut command = program("etcd");
    command
        .arg(flag("--data-dir", workdir.join("etcd").display()))
        .arg(flag("--listen-client-urls", &clients))
        .arg(flag("--advertise-client-urls", &clients))
        .arg(flag("--listen-peer-urls", &peers))
        .arg(flag("--initial-advertise-peer-urls", &peers))
        .arg(flag("--initial-cluster", format!("default={peers}")));
    Process::spawn(workdir, "etcd", command)
}

fn start_server(workdir: &Workdir, port: &Port, etcd: &Port) -> Process {
    let key = workdir.join("accounts.key");
    let tokens = workdir.file("tokens.csv", users::table());
    let mut command = program("kube-apiserver");
    command
        .arg(flag("--etcd-servers", format!("http://127.0.0.1:{}", etcd.number())))
        .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
        .arg(flag("--secure-port", port.number()))
        .arg(flag("--cert-dir", workdir.join("certs").display()))
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg(flag("--service-account-key-file", key.display()))
        .arg(flag("--service-account-signing-key-file", key.display()))
        .arg(flag("--token-auth-file", tokens.display()))
        .args(["--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16"])
        .arg("--allow-privileged=true");
    Process::spawn(workdir, "kube-apiserver", command)
}

fn start_manager(workdir: &Workdir) -> Process {
    let mut command = program("kube-controller-manager");
    command
        .arg(flag("--kubeconfig", users::kubeconfig(workdir, ADMIN).display()))
        .arg(flag("--service-account-private-key-file", workdir.join("accounts.key").display()))
        .arg(flag("--controllers", CONTROLLERS))
        .args(["--use-service-account-credentials=false", "--leader-elect=false"])
        // It need not listen anywhere.
        .args(["--port=0", "--secure-port=0", "--bind-address=127.0.0.1"])
        // Its own limits are those of a cluster that many share.
        .args(["--kube-api-qps=200", "--kube-api-burst=400"]);
    Process::spawn(workdir, "kube-controller-manager", command)
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("{name}={value}")
}

fn program(name: &str) -> Command {
    Command::new(super::program(name))
}

/// A running program, and its log. Killed on drop.
#[derive(Debug)]
struct Process {
    child: Child,
    name: &'static str,
    log: PathBuf,
}

impl Process {
    fn spawn(workdir: &Workdir, name: &'static str, mut command: Command) -> Self {
        let path = workdir.join(format!("{name}.log"));
        let log = File::create(&path).expect("create a log");
        as_postgres(&mut command)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", workdir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share a log"))
            .stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("run {name}: {error}"));
        Self { child, name, log: path }
    }

    fn must_run(&mut self) {
        if let Some(status) = self.child.try_wait().expect("look after a process") {
            panic!("{} ended while starting ({status}):\n{}", self.name, tail(&self.log));
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("process ids fit"), signal).expect("signal a process");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of a log.
fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
}
