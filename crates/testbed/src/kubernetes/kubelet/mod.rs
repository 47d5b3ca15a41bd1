//! The node: it runs the containers of pods as processes of this machine.
//!
//! It keeps to what a kubelet does where others can see it: what a container gets from
//! `ConfigMap`s and `Secret`s is read when it starts, a pod that is told to end has its grace
//! period, and a container that ends is started again, later each time.

mod container;
mod environment;
mod node;
mod pod;
mod probe;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use serde_json::{Value, json};

use super::client::Client;
use pod::Pod;

/// How often it looks at its pods and at its processes.
const PERIOD: Duration = Duration::from_millis(60);

/// One process of a container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The id of the container's first process.
    pub pid: u32,
}

/// The node's thread. On drop, all its processes are killed; the API server need not be there.
#[derive(Debug)]
pub(super) struct Kubelet {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    running: Arc<Mutex<Vec<Running>>>,
}

impl Kubelet {
    /// Makes the node known and starts to run its pods, whose files are below `folder`.
    pub(super) fn start(client: Client, folder: PathBuf) -> Self {
        node::register(&client);
        let (stop, stopped) = channel();
        let running = Arc::new(Mutex::new(Vec::new()));
        let shown = Arc::clone(&running);
        let thread = thread::spawn(move || {
            let mut node = Node { client, folder, pods: BTreeMap::new(), count: 0 };
            while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                // An API server that does not answer is asked again, as by any kubelet.
                let _ = node.round();
                *shown.lock().unwrap_or_else(PoisonError::into_inner) = node.running();
            }
        });
        Self { stop: Some(stop), thread: Some(thread), running }
    }

    /// The processes as of the last look.
    pub(super) fn running(&self) -> Vec<Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread knows.
struct Node {
    client: Client,
    folder: PathBuf,
    /// By the pods' unique ids.
    pods: BTreeMap<String, Pod>,
    /// How many pods there ever were.
    count: u16,
}

impl Node {
    fn round(&mut self) -> io::Result<()> {
        let (status, list) = self.client.call("GET", "/api/v1/pods", None)?;
        let Some(items) = list.get("items").and_then(Value::as_array).filter(|_| status == 200)
        else {
            return Err(io::Error::other("no list of pods"));
        };
        for item in items {
            if text(item, "/spec/nodeName") == Some(node::NAME) {
                self.look_after(item)?;
            } else if is_unbound(item) {
                self.bind(item)?;
            }
        }
        // Whoever deletes a pod without grace takes the object away and leaves the processes.
        let is_there =
            |uid: &str| items.iter().any(|item| text(item, "/metadata/uid") == Some(uid));
        self.pods.retain(|uid, pod| is_there(uid) || pod.never_dies());
        Ok(())
    }

    fn look_after(&mut self, item: &Value) -> io::Result<()> {
        let uid = text(item, "/metadata/uid").unwrap_or_default();
        let count = &mut self.count;
        let pod = self.pods.entry(uid.to_owned()).or_insert_with(|| {
            *count += 1;
            Pod::new(item, self.folder.join(uid), *count)
        });
        if pod.step(&self.client, item)? == pod::Next::Forget {
            self.pods.remove(uid);
        }
        Ok(())
    }

    /// Does the scheduler's work.
    fn bind(&self, item: &Value) -> io::Result<()> {
        let name = text(item, "/metadata/name").unwrap_or_default();
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node::NAME},
        });
        let path = format!("{}/binding", path(item));
        self.client.call("POST", &path, Some(("application/json", &binding)))?;
        Ok(())
    }

    fn running(&self) -> Vec<Running> {
        self.pods.values().filter_map(Pod::running).collect()
    }
}

/// A pod for another scheduler waits for that one.
fn is_unbound(item: &Value) -> bool {
    text(item, "/spec/nodeName").is_none()
        && text(item, "/metadata/deletionTimestamp").is_none()
        && text(item, "/spec/schedulerName") == Some("default-scheduler")
}

/// The path of a pod.
fn path(item: &Value) -> String {
    let word = |pointer: &str| text(item, pointer).unwrap_or_default();
    format!("/api/v1/namespaces/{}/pods/{}", word("/metadata/namespace"), word("/metadata/name"))
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// Entries of an array, none when there is no array.
fn entries<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
