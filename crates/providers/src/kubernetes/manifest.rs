//! Manifests: YAML with one or more objects, turned into the JSON that plans carry.

use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{Scope, pinned_kind};
use recovery::effect::Failure;
use serde_json::Value;

use super::access::{Need, of_door};
use super::client::{Cluster, answered, text};
use super::failure::Request;

/// Longest manifest: it becomes a part of the plan.
const TEXT_LEN_MAX: usize = 256 << 10;

/// Reads manifests: a JSON array of their objects.
///
/// # Errors
/// What is wrong with them, without their content.
pub(crate) fn to_json(yaml: &str) -> Result<String, String> {
    if yaml.len() > TEXT_LEN_MAX {
        return Err(format!("expected at most {TEXT_LEN_MAX} bytes, seen {}", yaml.len()));
    }
    let read: Vec<Value> = serde_saphyr::from_multiple(yaml)
        .map_err(|error| format!("not YAML: {}", first_line(&error.to_string())))?;
    let mut objects = Vec::new();
    for object in read {
        match object {
            Value::Null => {}
            Value::Object(ref map) if map.get("kind").is_some_and(|kind| kind == "List") => {
                let items = object.pointer("/items").and_then(Value::as_array);
                objects.extend(items.cloned().unwrap_or_default());
            }
            object => objects.push(object),
        }
    }
    if objects.is_empty() {
        return Err("there is no object in it".into());
    }
    for object in &objects {
        check(object)?;
    }
    serde_json::to_string(&objects).map_err(|error| error.to_string())
}

/// Reads a file with manifests.
///
/// # Errors
/// Which one it is, and what is wrong with it.
pub(crate) fn read(path: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    text.and_then(|yaml| to_json(&yaml)).map_err(|why| format!("manifest '{path}': {why}"))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn check(object: &Value) -> Result<(), String> {
    for name in ["/apiVersion", "/kind", "/metadata/name"] {
        if text(object, name).is_none_or(str::is_empty) {
            return Err(format!("an object has no '{}'", name.trim_start_matches('/')));
        }
    }
    // The plan, and with it the journal, carries what is applied.
    match text(object, "/kind") {
        Some("Secret") => Err("a Secret does not belong into a door's manifest".into()),
        _ => Ok(()),
    }
}

/// The objects of a step's parameter.
pub(super) fn objects(json: &str) -> Result<Vec<Value>, Failure> {
    serde_json::from_str(json)
        .map_err(|_| Failure::terminal("RF1001", "a manifest of the plan is no list of objects"))
}

/// Which kind an object is, and its namespace; asks the API server.
pub(super) async fn resource(
    cluster: &Cluster,
    object: &Value,
) -> Result<(ApiResource, Option<String>), Failure> {
    let version = text(object, "/apiVersion").unwrap_or_default();
    let kind = text(object, "/kind").unwrap_or_default();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let gvk = GroupVersionKind::gvk(group, version, kind);
    let what = format!("kind {kind} of '{group}/{version}' ({})", cluster.table);
    let found = pinned_kind(&cluster.client, &gvk);
    let (resource, capabilities) = answered(Request::Read, &what, found).await?;
    let namespace = match capabilities.scope {
        Scope::Cluster => None,
        Scope::Namespaced => {
            Some(text(object, "/metadata/namespace").unwrap_or("default").to_owned())
        }
    };
    Ok((resource, namespace))
}

/// What a door's objects need; asks the API server for their kinds.
pub(super) async fn needs(cluster: &Cluster, objects: &[Value]) -> Result<Vec<Need>, Failure> {
    let mut all = Vec::new();
    for object in objects {
        let (resource, namespace) = resource(cluster, object).await?;
        all.push(of_object(&cluster.table, object, namespace.as_deref(), &resource.plural));
    }
    Ok(all)
}

fn of_object(table: &str, object: &Value, namespace: Option<&str>, plural: &str) -> Need {
    let version = text(object, "/apiVersion").unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let name = text(object, "/metadata/name").unwrap_or_default();
    of_door(table, namespace, group, &format!("{plural}/{name}"))
}

/// The usual plural; and a kind of which nothing is known belongs to a namespace.
pub(super) fn guessed(table: &str, object: &Value) -> Need {
    let kind = text(object, "/kind").unwrap_or_default();
    let namespace = text(object, "/metadata/namespace").unwrap_or("default");
    let need = of_object(table, object, Some(namespace), &plural(kind));
    Need { guessed: Some(kind.into()), ..need }
}

/// What a kind is called when there are several, by English grammar: `Ingress` is `ingresses`,
/// `NetworkPolicy` is `networkpolicies`, `Gateway` is `gateways`.
fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    let after_vowel = |stem: &str| stem.ends_with(['a', 'e', 'i', 'o', 'u']);
    match kind.strip_suffix('y') {
        _ if kind == "endpoints" => kind,
        Some(stem) if !after_vowel(stem) => format!("{stem}ies"),
        _ if kind.ends_with(['s', 'x']) || kind.ends_with("ch") || kind.ends_with("sh") => {
            format!("{kind}es")
        }
        _ => format!("{kind}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::{guessed, plural, to_json};

    #[test]
    fn a_kind_that_nobody_was_asked_for_is_guessed() {
        for (kind, expect) in [
            ("ConfigMap", "configmaps"),
            ("Ingress", "ingresses"),
            ("NetworkPolicy", "networkpolicies"),
            ("Gateway", "gateways"),
            ("IngressRoute", "ingressroutes"),
            ("Endpoints", "endpoints"),
        ] {
            assert_eq!(plural(kind), expect);
        }
        let object = serde_json::json!({ "apiVersion": "traefik.io/v1alpha1",
            "kind": "IngressRoute", "metadata": { "name": "shop", "namespace": "web" } });
        let need = guessed("prod", &object);
        assert_eq!(
            need.describe(need.verbs),
            "create, get, patch ingressroutes.traefik.io web/shop"
        );
        assert_eq!(need.guessed.as_deref(), Some("IngressRoute"));
    }

    #[test]
    fn manifests_become_a_list_of_objects() {
        let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: n}\ndata:\n  \
                    on: \"true\"\n---\n---\napiVersion: v1\nkind: Service\nmetadata: {name: b}\n";
        let read: Vec<serde_json::Value> = serde_json::from_str(&to_json(yaml).unwrap()).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].pointer("/data/on").unwrap(), "true");
        let list = "kind: List\napiVersion: v1\nitems:\n- {apiVersion: v1, kind: ConfigMap, \
                    metadata: {name: a}}\n";
        assert!(to_json(list).unwrap().contains("ConfigMap"));
    }

    #[test]
    fn what_could_not_be_applied_is_told() {
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {p: c2VjcmV0}\n";
        for (yaml, says) in [
            ("", "no object"),
            ("a: [", "not YAML"),
            ("kind: ConfigMap\nmetadata: {name: a}\n", "apiVersion"),
            ("apiVersion: v1\nkind: ConfigMap\n", "metadata/name"),
            (secret, "Secret"),
        ] {
            let error = to_json(yaml).unwrap_err();
            assert!(error.contains(says), "{error}");
            assert!(!error.contains("c2VjcmV0"), "{error}");
        }
    }
}
