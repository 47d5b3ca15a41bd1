//! One pod: what is done next, and what is told about it.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::container::{Container, Ended};
use super::environment::Sources;
use super::{Running, node, path, probe, text};
use crate::kubernetes::client::Client;

/// Annotation of a pod that goes on whatever is done to it, as on a node that is cut off.
const NEVER_DIES: &str = "/metadata/annotations/rollforward.test~1never-dies";
/// Annotation of a pod whose container ends at once with an error.
const CRASHES: &str = "/metadata/annotations/rollforward.test~1crashes";
/// Annotation of a pod that is never ready.
const NEVER_READY: &str = "/metadata/annotations/rollforward.test~1never-ready";

/// The wait before the second restart (the first comes at once), doubled up to the last: a
/// kubelet's times (10 s to 5 min) divided by 20.
const BACKOFF: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(15)];

/// What becomes of a pod after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Keep,
    Forget,
}

/// A pod that this node runs. Its process ends on drop.
#[derive(Debug)]
pub(super) struct Pod {
    namespace: String,
    name: String,
    folder: PathBuf,
    address: String,
    never_dies: bool,
    since: Timestamp,
    state: State,
    restarts: u32,
    last: Option<Ended>,
    /// When it is killed, once it was asked to end.
    deadline: Option<Instant>,
    /// Whether it is ready, and since when.
    ready: (bool, Timestamp),
    /// The status that the API server has.
    told: Value,
}

#[derive(Debug)]
enum State {
    Runs(Container),
    /// A reason and a message in Kubernetes' words, and when to try (again).
    Waits(&'static str, String, Instant),
    /// For good.
    Ended(Ended),
}

impl Pod {
    pub(super) fn new(item: &Value, folder: PathBuf, number: u16) -> Self {
        let word = |pointer: &str| text(item, pointer).unwrap_or_default().to_owned();
        let is_on_host = item.pointer("/spec/hostNetwork") == Some(&Value::Bool(true));
        let [high, low] = number.to_be_bytes();
        let now = Timestamp::now();
        Self {
            namespace: word("/metadata/namespace"),
            name: word("/metadata/name"),
            folder,
            // Every address 127.x.y.z is this machine's, so each pod has one of its own.
            address: match is_on_host {
                true => node::ADDRESS.to_owned(),
                false => format!("127.10.{high}.{low}"),
            },
            never_dies: false,
            since: now,
            state: State::Waits("ContainerCreating", String::new(), Instant::now()),
            restarts: 0,
            last: None,
            deadline: None,
            ready: (false, now),
            told: Value::Null,
        }
    }

    pub(super) fn never_dies(&self) -> bool {
        self.never_dies
    }

    pub(super) fn running(&self) -> Option<Running> {
        let State::Runs(container) = &self.state else { return None };
        let (namespace, pod) = (self.namespace.clone(), self.name.clone());
        Some(Running { namespace, pod, pid: container.pid() })
    }

    /// Looks after the pod, whose object is `item` now.
    pub(super) fn step(&mut self, client: &Client, item: &Value) -> io::Result<Next> {
        self.never_dies = is_set(item, NEVER_DIES);
        let spec = item.pointer("/spec/containers/0").unwrap_or(&Value::Null);
        let is_to_end = item.pointer("/metadata/deletionTimestamp").is_some();
        if let State::Runs(container) = &mut self.state
            && let Some(ended) = container.ended(&self.folder)
        {
            self.state = self.after(item, ended, is_to_end);
        }
        if is_to_end && !self.never_dies {
            return self.end(client, item);
        }
        if let State::Waits(_, _, until) = &self.state
            && *until <= Instant::now()
            && !is_to_end
        {
            self.state = self.begin(client, item, spec);
        }
        let is_ready = matches!(self.state, State::Runs(_))
            && !is_set(item, NEVER_READY)
            && probe::is_ready(spec, &self.address, &self.folder);
        if is_ready != self.ready.0 {
            self.ready = (is_ready, Timestamp::now());
        }
        self.tell(client, item, spec)?;
        Ok(Next::Keep)
    }

    /// Starts the container.
    fn begin(&mut self, client: &Client, item: &Value, spec: &Value) -> State {
        let sources = Sources { client, namespace: &self.namespace };
        let found = sources
            .write_volumes(item, spec)
            .and_then(|()| sources.variables(item, spec, &self.address));
        let variables = match found {
            Ok(variables) => variables,
            // It is tried again in the next round, for ever.
            Err(missing) => {
                return State::Waits("CreateContainerConfigError", missing, Instant::now());
            }
        };
        let crashing = json!({"command": ["sh", "-c", "echo told to crash; exit 1"]});
        let spec = if is_set(item, CRASHES) { &crashing } else { spec };
        match Container::start(spec, &self.folder, &variables) {
            Ok(container) => State::Runs(container),
            Err(error) => {
                let message = format!("failed to start container: {error}");
                State::Waits("RunContainerError", message, Instant::now() + BACKOFF[0])
            }
        }
    }

    /// What follows the end of the container.
    fn after(&mut self, item: &Value, ended: Ended, is_to_end: bool) -> State {
        let policy = text(item, "/spec/restartPolicy").unwrap_or("Always");
        let is_over = match policy {
            "Never" => true,
            "OnFailure" => ended.code == 0,
            _ => false,
        };
        if is_over || is_to_end {
            return State::Ended(ended);
        }
        self.last = Some(ended);
        self.restarts += 1;
        let Some(doublings) = self.restarts.checked_sub(2) else {
            return State::Waits("ContainerCreating", String::new(), Instant::now());
        };
        let factor = 2_u32.saturating_pow(doublings);
        let wait = BACKOFF[0].saturating_mul(factor).min(BACKOFF[1]);
        let name = text(item, "/spec/containers/0/name").unwrap_or_default();
        let message = format!("back-off {wait:?} restarting failed container={name}");
        State::Waits("CrashLoopBackOff", message, Instant::now() + wait)
    }

    /// Ends the container within its grace period, then takes the object away.
    fn end(&mut self, client: &Client, item: &Value) -> io::Result<Next> {
        if let State::Runs(container) = &self.state {
            let grace = item.pointer("/metadata/deletionGracePeriodSeconds");
            let grace = Duration::from_secs(grace.and_then(Value::as_u64).unwrap_or(30));
            match self.deadline {
                None => {
                    container.terminate();
                    self.deadline = Some(Instant::now() + grace);
                }
                Some(deadline) if Instant::now() >= deadline => container.kill(),
                Some(_) => {}
            }
            return Ok(Next::Keep);
        }
        let uid = text(item, "/metadata/uid");
        let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}});
        client.call("DELETE", &path(item), Some(("application/json", &options)))?;
        Ok(Next::Forget)
    }

    /// Tells the API server how the pod is, when that is news.
    fn tell(&mut self, client: &Client, item: &Value, spec: &Value) -> io::Result<()> {
        let status = self.status(spec);
        if status == self.told {
            return Ok(());
        }
        let change = json!({"status": status});
        let content = Some(("application/merge-patch+json", &change));
        let (code, _) = client.call("PATCH", &format!("{}/status", path(item)), content)?;
        if code == 200 {
            self.told = status;
        }
        Ok(())
    }

    fn status(&self, spec: &Value) -> Value {
        let (is_ready, ready_since) = self.ready;
        let (phase, state) = match &self.state {
            State::Runs(container) => {
                ("Running", json!({"running": {"startedAt": time(container.started)}}))
            }
            State::Waits(reason, message, _) => {
                let phase = if self.last.is_some() { "Running" } else { "Pending" };
                (phase, json!({"waiting": {"reason": reason, "message": message}}))
            }
            State::Ended(ended) => {
                let phase = if ended.code == 0 { "Succeeded" } else { "Failed" };
                (phase, json!({"terminated": terminated(ended)}))
            }
        };
        let condition = |kind: &str, holds: bool, since: Timestamp| {
            let status = if holds { "True" } else { "False" };
            json!({"type": kind, "status": status, "lastTransitionTime": time(since)})
        };
        let last = self.last.as_ref().map(|ended| json!({"terminated": terminated(ended)}));
        json!({
            "phase": phase,
            "hostIP": node::ADDRESS, "podIP": self.address, "podIPs": [{"ip": self.address}],
            "startTime": time(self.since),
            "conditions": [
                condition("PodScheduled", true, self.since),
                condition("Initialized", true, self.since),
                condition("ContainersReady", is_ready, ready_since),
                condition("Ready", is_ready, ready_since),
            ],
            "containerStatuses": [{
                "name": spec.get("name"), "image": spec.get("image"), "imageID": "",
                "ready": is_ready, "started": matches!(self.state, State::Runs(_)),
                "restartCount": self.restarts,
                "state": state, "lastState": last.unwrap_or_else(|| json!({})),
            }],
        })
    }
}

fn terminated(ended: &Ended) -> Value {
    json!({
        "exitCode": ended.code, "reason": if ended.code == 0 { "Completed" } else { "Error" },
        "message": ended.message,
        "startedAt": time(ended.started), "finishedAt": time(ended.finished),
    })
}

fn is_set(item: &Value, pointer: &str) -> bool {
    text(item, pointer) == Some("true")
}

/// Kubernetes' times have no fractions.
fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
