//! What would undo our steps in Kubernetes: found, told to wait, let go on.

use recovery::inventory::PauseFact;
use recovery::service::{Service, Workload};
use serde_json::{Value, json};
use testbed::{Kubernetes, poll};

use crate::kubernetes::{
    DEADLINE, access, facts, providers, setting, undoable, with, workload, writer,
};

/// Group, version, kind and plural of what manages, as the real ones have them.
const KINDS: [(&str, &str, &str, &str); 4] = [
    ("kustomize.toolkit.fluxcd.io", "v1", "Kustomization", "kustomizations"),
    ("helm.toolkit.fluxcd.io", "v2", "HelmRelease", "helmreleases"),
    ("argoproj.io", "v1alpha1", "Application", "applications"),
    ("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects"),
];

/// Makes a kind known, and an object of it.
fn install(kubernetes: &Kubernetes, kind: &str, spec: &Value) -> String {
    let (group, version, kind, plural) = KINDS.into_iter().find(|known| known.2 == kind).unwrap();
    kubernetes.apply(&json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{group}") },
        "spec": { "group": group, "scope": "Namespaced",
            "names": { "plural": plural, "singular": kind.to_lowercase(), "kind": kind,
                       "listKind": format!("{kind}List") },
            "versions": [{ "name": version, "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object",
                    "x-kubernetes-preserve-unknown-fields": true } } }] } }));
    let object = json!({ "apiVersion": format!("{group}/{version}"), "kind": kind,
        "metadata": { "name": "apps", "namespace": "default" }, "spec": spec });
    let list = format!("/apis/{group}/{version}/namespaces/default/{plural}");
    poll(DEADLINE, "the kind", || {
        kubernetes.call("admin", "POST", &list, Some(("application/json", &object))).0 == 201
    });
    format!("{list}/apps")
}

fn install_all(kubernetes: &Kubernetes) -> Vec<(&'static str, String)> {
    let automated = json!({ "syncPolicy": { "automated": { "prune": true, "selfHeal": true } } });
    let scales = json!({ "scaleTargetRef": { "name": "api" } });
    let interval = json!({ "interval": "1m" });
    vec![
        ("flux-kustomization", install(kubernetes, "Kustomization", &interval)),
        ("flux-helmrelease", install(kubernetes, "HelmRelease", &interval)),
        ("argocd", install(kubernetes, "Application", &automated)),
        ("keda", install(kubernetes, "ScaledObject", &scales)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_manager_waits_and_goes_on_as_it_did() {
    let kubernetes = Kubernetes::start();
    let providers = providers(access(&kubernetes, "admin"));
    let mut facts = facts(&kubernetes);
    let service = with(writer(Workload::Deployment, "api"));
    for (manager, path) in install_all(&kubernetes) {
        let before = kubernetes.get(&path);
        facts.pauses = vec![PauseFact {
            context: "prod".into(),
            manager,
            object: "default/apps".into(),
            of: "Deployment default/api".into(),
            owns_setting: false,
        }];
        undoable(&providers, &service, &facts, "shut.pause.default/apps").await;
        let after = kubernetes.get(&path);
        assert_eq!(after["spec"], before["spec"], "{manager}");
        let notes =
            |seen: &Value| seen["metadata"].get("annotations").cloned().unwrap_or(json!({}));
        assert_eq!(notes(&after), notes(&before), "{manager}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_undo_the_steps_is_found_beforehand() {
    let kubernetes = Kubernetes::start();
    install_all(&kubernetes);
    let mut api = workload("Deployment", "api", 1);
    api["metadata"]["annotations"] =
        json!({ "argocd.argoproj.io/tracking-id": "default_apps:apps/Deployment:default/api" });
    kubernetes.apply(&api);
    kubernetes.apply(&json!({ "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "api", "namespace": "default" },
        "spec": { "maxReplicas": 5, "scaleTargetRef":
            { "apiVersion": "apps/v1", "kind": "Deployment", "name": "api" } } }));
    kubernetes.apply(&json!({ "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": "db", "namespace": "default", "ownerReferences": [{
            "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "name": "db",
            "uid": "4e1c0000-0000-0000-0000-000000000000", "controller": true }] },
        "stringData": { "url": "postgres://u:s3cret@db1:5432/shop" } }));
    let secret = setting("secret", "default/db", "url", None);
    let service = Service { setting: Some(secret), ..with(writer(Workload::Deployment, "api")) };
    let asked = providers::KubernetesAsked {
        writers: service.writers.iter().collect(),
        settings: service.setting.iter().collect(),
        doors: Vec::new(),
        probes: Default::default(),
    };
    let looked = providers::look_at_kubernetes(&access(&kubernetes, "admin"), &asked).await;
    let pauses: Vec<_> =
        looked.facts.pauses.iter().map(|it| (it.manager, it.object.as_str())).collect();
    assert_eq!(pauses, [("argocd", "default/apps"), ("keda", "default/apps")]);
    let says = |all: &[String], what: &str| all.iter().any(|it| it.contains(what));
    assert!(says(&looked.notes, "HorizontalPodAutoscaler api"), "{:?}", looked.notes);
    assert!(says(&looked.problems, "ExternalSecret db"), "{:?}", looked.problems);
    assert!(!format!("{looked:?}").contains("s3cret"), "a secret");
}
