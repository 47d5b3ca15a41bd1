//! Kubernetes: what its API takes and refuses.

use serde_json::{Value, json};
use testbed::Kubernetes;

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
