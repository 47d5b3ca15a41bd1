//! The node's object.

use serde_json::json;

use crate::kubernetes::client::Client;

/// The only node.
pub(super) const NAME: &str = "node-1";

/// Its address, and that of pods in its network.
pub(super) const ADDRESS: &str = "127.0.0.1";

/// Makes the node known.
pub(super) fn register(client: &Client) {
    let room = json!({"cpu": "8", "memory": "16Gi", "pods": "110"});
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": NAME, "labels": {"kubernetes.io/hostname": NAME}},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": ADDRESS}, {"type": "Hostname", "address": NAME},
            ],
            "capacity": room, "allocatable": room,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    });
    let answer = client.call("POST", "/api/v1/nodes", Some(("application/json", &node)));
    let (status, said) = answer.expect("make the node known");
    assert_eq!(status, 201, "make the node known: {said}");
    // Admission marks a new node as not ready; the controller that takes this away needs reports.
    let untainted = json!({"spec": {"taints": null}});
    let content = Some(("application/merge-patch+json", &untainted));
    let answer = client.call("PATCH", &format!("/api/v1/nodes/{NAME}"), content);
    let (status, said) = answer.expect("make the node ready");
    assert_eq!(status, 200, "make the node ready: {said}");
}
