//! Kubernetes: what its API takes and refuses.

use std::process::Command;

use serde_json::{Value, json};
use testbed::ApiMishap::{self, Busy, Cut, Leaves, LostAnswer, Silence, Status};
use testbed::{ApiWire, Kubernetes};

const MAP: &str = "/api/v1/namespaces/default/configmaps/shop";

fn map(host: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "shop", "namespace": "default"}, "data": {"HOST": host},
    })
}

#[test]
fn objects_are_kept_and_users_may_do_what_was_granted() {
    let kubernetes = Kubernetes::start();
    let created = kubernetes.apply(&map("a"));
    assert_eq!(kubernetes.get(MAP)["data"]["HOST"], "a");
    kubernetes.patch(MAP, &json!({"data": {"PORT": "5432"}}));
    assert_eq!(kubernetes.get(MAP)["data"], json!({"HOST": "a", "PORT": "5432"}));

    // What was read before another's change is refused.
    let mut stale = map("b");
    stale["metadata"]["resourceVersion"] = created["metadata"]["resourceVersion"].clone();
    let content = ("application/json", &stale);
    assert_eq!(kubernetes.call("admin", "PUT", MAP, Some(content)).0, 409);

    let status = |user: &str| kubernetes.call(user, "GET", MAP, None).0;
    assert_eq!(status("recovery"), 403);
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    kubernetes.grant("recovery", "default", &rules);
    testbed::poll(std::time::Duration::from_secs(20), "the grant", || status("recovery") == 200);
    assert_eq!(status("stranger"), 403);
    assert_eq!(kubernetes.call("recovery", "DELETE", MAP, None).0, 403);

    let mut kubectl = kubernetes.kubectl("admin");
    kubectl.args(["get", "configmap", "shop", "-o", "jsonpath={.data.PORT}"]);
    let output = kubectl.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "5432", "{output:?}");

    kubernetes.delete(MAP);
    assert_eq!(kubernetes.find(MAP), None);
}

/// How `curl` ends, and the status that it saw, when it makes the map.
fn made(kubernetes: &Kubernetes, wire: &ApiWire) -> (i32, String) {
    let mut command = Command::new("curl");
    command.args(["-sS", "-m", "3", "-o", "/dev/null", "-w", "%{http_code} %header{retry-after}"]);
    command.arg("--cacert").arg(wire.authority());
    command.args(["-H", &format!("Authorization: Bearer {}", kubernetes.token("admin"))]);
    command.args(["-H", "Content-Type: application/json", "-d", &map("a").to_string()]);
    command.arg(format!("{}{}", wire.url(), MAP.trim_end_matches("/shop")));
    let output = command.output().unwrap();
    let seen = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    // A connection that ends without an answer is 52 or 56, by the version of TLS below.
    let code = output.status.code().unwrap();
    (if code == 56 { 52 } else { code }, seen)
}

#[test]
fn a_wire_spoils_what_its_script_says_and_notes_what_the_server_saw() {
    let kubernetes = Kubernetes::start();
    let wire = kubernetes.wire();
    let check = |mishap: ApiMishap, ended: i32, seen: &str, is_there: bool| {
        wire.spoil(move |_| mishap);
        let (code, status) = made(&kubernetes, &wire);
        assert_eq!((code, status.as_str()), (ended, seen), "{mishap:?}");
        let struck: &[ApiMishap] = if mishap == ApiMishap::None { &[] } else { &[mishap] };
        assert_eq!(wire.struck(), struck);
        assert_eq!(kubernetes.find(MAP).is_some(), is_there, "{mishap:?}");
        assert_eq!(wire.changes().len(), usize::from(is_there), "{mishap:?}: {:?}", wire.passed());
        if is_there {
            kubernetes.delete(MAP);
        }
    };
    check(ApiMishap::None, 0, "201", true);
    check(Status(503), 0, "503", false);
    check(Busy(None), 0, "429", false);
    check(Busy(Some(7)), 0, "429 7", false);
    // curl: 28 is a deadline, 52 and 56 are no answer, 7 is nobody who listens.
    check(Silence, 28, "000", false);
    check(Cut, 52, "000", false);
    check(LostAnswer, 52, "000", true);
    check(Leaves, 0, "201", true);
    assert_eq!(made(&kubernetes, &wire).0, 7);
    wire.comes_back();
    check(ApiMishap::None, 0, "201", true);
}
