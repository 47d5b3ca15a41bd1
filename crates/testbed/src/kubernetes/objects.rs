//! Where objects are.

use serde_json::Value;

/// Kinds that belong to no namespace, of those that tests use.
const WITHOUT_NAMESPACE: [&str; 6] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "Namespace",
    "Node",
    "PersistentVolume",
];

/// Returns the path of an object: `/apis/apps/v1/namespaces/default/deployments/shop`.
///
/// # Panics
/// When it does not say what it is.
pub(super) fn path(object: &Value) -> String {
    let word = |pointer: &str| {
        let word = object.pointer(pointer).and_then(Value::as_str);
        word.unwrap_or_else(|| panic!("an object without '{pointer}': {object}"))
    };
    let (version, kind, name) = (word("/apiVersion"), word("/kind"), word("/metadata/name"));
    // The core API has no group, and a place of its own.
    let root = if version.contains('/') { "apis" } else { "api" };
    let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
    let namespace = match namespace {
        _ if WITHOUT_NAMESPACE.contains(&kind) => String::new(),
        given => format!("/namespaces/{}", given.unwrap_or("default")),
    };
    format!("/{root}/{version}{namespace}/{}/{name}", plural(kind))
}

/// The name of a kind's list, by English grammar: true of the built-in kinds but `Endpoints`.
fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.strip_suffix('y') {
        _ if kind == "endpoints" => kind,
        Some(stem) => format!("{stem}ies"),
        None if kind.ends_with('s') => format!("{kind}es"),
        None => format!("{kind}s"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_says_where_it_is() {
        let check = |version: &str, kind: &str, namespace: Option<&str>, expected: &str| {
            let metadata = json!({"name": "a", "namespace": namespace});
            let object = json!({"apiVersion": version, "kind": kind, "metadata": metadata});
            assert_eq!(path(&object), expected);
        };
        check("v1", "Secret", None, "/api/v1/namespaces/default/secrets/a");
        check("v1", "Namespace", None, "/api/v1/namespaces/a");
        check("v1", "Endpoints", Some("n"), "/api/v1/namespaces/n/endpoints/a");
        check("apps/v1", "Deployment", Some("n"), "/apis/apps/v1/namespaces/n/deployments/a");
        let network = "networking.k8s.io/v1";
        let expected = "/apis/networking.k8s.io/v1/namespaces/n/networkpolicies/a";
        check(network, "NetworkPolicy", Some("n"), expected);
        let expected = "/apis/networking.k8s.io/v1/namespaces/n/ingresses/a";
        check(network, "Ingress", Some("n"), expected);
    }
}
