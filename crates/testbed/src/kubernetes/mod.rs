//! Kubernetes: a real API server with its controllers, and a node that runs processes.

mod client;
mod control_plane;
mod kubelet;
mod objects;
mod users;
mod wire;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use client::Client;
use control_plane::ControlPlane;
use kubelet::Kubelet;
pub use kubelet::Running;
use users::ADMIN;
pub use wire::{ApiMishap, ApiRequest, ApiWire, Passed};

use crate::account::as_postgres;
use crate::poll;
use crate::tools::{self, INSTALL_COMMAND};
use crate::workdir::Workdir;

const ROLLOUT_DEADLINE: Duration = Duration::from_secs(120);

/// A control plane of its own on 127.0.0.1: etcd, the API server, and the controllers that make
/// replica sets of deployments, pods of replica sets and jobs, and so on; and one node. All end on
/// drop, together with every process of a pod.
///
/// The node runs a pod's first container as a process of this machine: its command and arguments
/// (the image is only a name), as user `postgres`, in a folder of its own. It resolves variables
/// when the container starts, probes readiness, restarts, and keeps grace periods. A pod has an
/// address of its own in 127.10.0.0/16 (`status.podIP`), which takes connections when the process
/// binds to it or to every interface; with `hostNetwork` it is 127.0.0.1. Volumes of `ConfigMap`s
/// and `Secret`s are written when they are mounted below /tmp. There is no network of services:
/// objects of kind `Endpoints` stay empty, since Kubernetes takes no address of loopback there.
///
/// Annotations of a pod that are `"true"` make trouble: `rollforward.test/never-dies` (goes on
/// whatever is done to it, as on a node that is cut off), `rollforward.test/crashes` (ends at once
/// with an error), `rollforward.test/never-ready`. A pod of another `schedulerName` stays pending.
///
/// The users are `admin`, who may do everything, and `recovery` and `stranger`, who may do
/// nothing until a test [grants](Kubernetes::grant) it.
///
/// ```no_run
/// # use serde_json::json;
/// let kubernetes = testbed::Kubernetes::start();
/// kubernetes.apply(&json!({
///     "apiVersion": "v1", "kind": "ConfigMap",
///     "metadata": {"name": "shop", "namespace": "default"}, "data": {"HOST": "a"},
/// }));
/// let map = kubernetes.get("/api/v1/namespaces/default/configmaps/shop");
/// assert_eq!(map["data"]["HOST"], "a");
/// ```
#[derive(Debug)]
pub struct Kubernetes {
    // In the order in which they end: the node need not wait for answers then.
    control_plane: ControlPlane,
    kubelet: Kubelet,
    client: Client,
    workdir: Workdir,
}

impl Kubernetes {
    /// Starts one, ready to take objects.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    pub fn start() -> Self {
        let workdir = Workdir::new();
        let (control_plane, client) = ControlPlane::start(&workdir);
        let kubelet = Kubelet::start(client.clone(), workdir.folder("pods", 0o755));
        Self { control_plane, kubelet, client, workdir }
    }

    /// Where the API server listens: `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.control_plane.port())
    }

    /// The file (PEM) with the certificate that signed the API server's.
    pub fn authority(&self) -> PathBuf {
        control_plane::authority(&self.workdir)
    }

    /// The token of a user.
    ///
    /// # Panics
    /// When there is no such user.
    pub fn token(&self, user: &str) -> String {
        users::token(user)
    }

    /// A configuration for clients that act as `user` in namespace `default`.
    ///
    /// # Panics
    /// When there is no such user.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        users::token(user); // tells who is there
        users::kubeconfig(&self.workdir, user)
    }

    /// A wire to the API server that a test may spoil; it must not outlive this.
    pub fn wire(&self) -> ApiWire {
        ApiWire::start(self.client.clone())
    }

    /// A folder that exists as long as this does.
    pub fn folder(&self) -> &Path {
        self.workdir.path()
    }

    /// `kubectl` as `user`, to be given arguments: it finds the server, and nothing else.
    ///
    /// # Panics
    /// When there is no such user.
    pub fn kubectl(&self, user: &str) -> Command {
        let mut command = Command::new(program("kubectl"));
        as_postgres(&mut command)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.workdir.path())
            .env("KUBECONFIG", self.kubeconfig(user));
        command
    }

    /// Creates or changes an object, as `kubectl apply --server-side --force-conflicts` does, and
    /// returns what became of it.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn apply(&self, object: &Value) -> Value {
        let path = format!("{}?fieldManager=test&force=true", objects::path(object));
        self.must("PATCH", &path, Some(("application/apply-patch+yaml", object)))
    }

    /// Returns the object (or list) at `path`, such as `/api/v1/namespaces/default/pods`.
    ///
    /// # Panics
    /// When there is none.
    pub fn get(&self, path: &str) -> Value {
        self.must("GET", path, None)
    }

    /// Returns the object at `path` if there is one.
    ///
    /// # Panics
    /// When the server says anything else.
    pub fn find(&self, path: &str) -> Option<Value> {
        let (status, body) = self.call(ADMIN, "GET", path, None);
        assert!(matches!(status, 200 | 404), "GET {path}: {status} {body}");
        (status == 200).then_some(body)
    }

    /// Creates an object in the list at `path`.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn create(&self, path: &str, object: &Value) -> Value {
        self.must("POST", path, Some(("application/json", object)))
    }

    /// Merges `change` into the object at `path` (RFC 7396).
    ///
    /// # Panics
    /// When the server refuses.
    pub fn patch(&self, path: &str, change: &Value) -> Value {
        self.must("PATCH", path, Some(("application/merge-patch+json", change)))
    }

    /// Deletes the object at `path`; what is below it goes later.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn delete(&self, path: &str) {
        self.must("DELETE", path, None);
    }

    /// Sends any request as `user`; `content` is a content type and a body. Returns the status
    /// and the body.
    ///
    /// # Panics
    /// When no answer comes, or there is no such user.
    pub fn call(
        &self,
        user: &str,
        method: &str,
        path: &str,
        content: Option<(&str, &Value)>,
    ) -> (u16, Value) {
        let client = self.client.with_token(&users::token(user));
        let answer = client.call(method, path, content);
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Lets `user` do what `rules` (of a `Role`) say, in one namespace; what was granted to the
    /// user there before is replaced.
    ///
    /// # Panics
    /// When there is no such user.
    pub fn grant(&self, user: &str, namespace: &str, rules: &Value) {
        users::token(user); // tells who is there
        let metadata = json!({"name": format!("test-{user}"), "namespace": namespace});
        let api = "rbac.authorization.k8s.io";
        self.apply(&json!({
            "apiVersion": format!("{api}/v1"), "kind": "Role", "metadata": metadata,
            "rules": rules,
        }));
        self.apply(&json!({
            "apiVersion": format!("{api}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": api, "kind": "Role", "name": format!("test-{user}")},
            "subjects": [{"apiGroup": api, "kind": "User", "name": user}],
        }));
    }

    /// Stops the API server without ending it: requests are accepted and never answered.
    pub fn pause(&self) {
        self.control_plane.signal_server(Signal::STOP);
    }

    /// Lets a paused API server go on.
    pub fn resume(&self) {
        self.control_plane.signal_server(Signal::CONT);
    }

    /// Returns the processes that run in pods of `namespace` whose names begin with `prefix`.
    pub fn running(&self, namespace: &str, prefix: &str) -> Vec<Running> {
        let is_meant = |it: &Running| it.namespace == namespace && it.pod.starts_with(prefix);
        self.kubelet.running().into_iter().filter(is_meant).collect()
    }

    /// Waits until the deployment is what its object says, as `kubectl rollout status` does: all
    /// replicas are of the newest template and available, and no others are left.
    ///
    /// # Panics
    /// When there is no such deployment, or that takes longer than two minutes.
    pub fn wait_for_rollout(&self, namespace: &str, name: &str) {
        let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}");
        poll(ROLLOUT_DEADLINE, &format!("the rollout of '{name}'"), || {
            let it = self.get(&path);
            let number = |pointer: &str| it.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
            let wanted = number("/spec/replicas");
            number("/status/observedGeneration") >= number("/metadata/generation")
                && number("/status/replicas") == wanted
                && number("/status/updatedReplicas") == wanted
                && number("/status/availableReplicas") == wanted
        });
    }

    fn must(&self, method: &str, path: &str, content: Option<(&str, &Value)>) -> Value {
        let (status, body) = self.call(ADMIN, method, path, content);
        assert!((200..300).contains(&status), "{method} {path}: {status} {body}");
        body
    }
}

/// Where a program of Kubernetes is installed.
fn program(name: &str) -> PathBuf {
    tools::find(&format!("kubernetes/bin/{name}"))
        .unwrap_or_else(|| panic!("{name} is not installed; run: {INSTALL_COMMAND}"))
}
