//! What would undo our steps: found by what it leaves on the objects, told to wait where it can be,
//! and let go on as it did.

use async_trait::async_trait;
use kube::core::ApiResource;
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::StepKind;
use serde_json::{Value, json};

use super::client::{Cluster, Clusters, known, split, text};

/// Something that can be told to wait.
pub(super) struct Manager {
    /// Its name in plans.
    pub(super) name: &'static str,
    group: &'static str,
    versions: &'static [&'static str],
    kind: &'static str,
    plural: &'static str,
    /// Where it is said that it waits, as a JSON pointer.
    at: &'static str,
    /// What stands there while it waits.
    waits: fn() -> Value,
}

/// Flux: <https://fluxcd.io/flux/components/kustomize/kustomizations/#suspend>; Argo CD:
/// <https://argo-cd.readthedocs.io/en/stable/user-guide/auto_sync/>; KEDA:
/// <https://keda.sh/docs/latest/concepts/scaling-deployments/#pause-autoscaling>.
pub(super) const MANAGERS: [Manager; 4] = [
    Manager {
        name: "argocd",
        group: "argoproj.io",
        versions: &["v1alpha1"],
        kind: "Application",
        plural: "applications",
        at: "/spec/syncPolicy/automated",
        waits: || Value::Null,
    },
    Manager {
        name: "flux-kustomization",
        group: "kustomize.toolkit.fluxcd.io",
        versions: &["v1", "v1beta2"],
        kind: "Kustomization",
        plural: "kustomizations",
        at: "/spec/suspend",
        waits: || Value::Bool(true),
    },
    Manager {
        name: "flux-helmrelease",
        group: "helm.toolkit.fluxcd.io",
        versions: &["v2", "v2beta1"],
        kind: "HelmRelease",
        plural: "helmreleases",
        at: "/spec/suspend",
        waits: || Value::Bool(true),
    },
    Manager {
        name: "keda",
        group: "keda.sh",
        versions: &["v1alpha1"],
        kind: "ScaledObject",
        plural: "scaledobjects",
        at: "/metadata/annotations/autoscaling.keda.sh~1paused",
        waits: || Value::String("true".into()),
    },
];

impl Manager {
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        MANAGERS.iter().find(|manager| manager.name == name)
    }

    pub(super) fn plural(&self) -> &'static str {
        self.plural
    }

    /// Its kind in the version that the API server has; `None`: it is not installed.
    pub(super) async fn resource(&self, cluster: &Cluster) -> Result<Option<ApiResource>, Failure> {
        for version in self.versions {
            let resource = known(self.group, version, self.kind, self.plural);
            if cluster.has(&resource).await? {
                return Ok(Some(resource));
            }
        }
        Ok(None)
    }

    fn value(&self, seen: &Value) -> Value {
        seen.pointer(self.at).cloned().unwrap_or(Value::Null)
    }

    pub(super) fn waits(&self, seen: &Value) -> bool {
        self.value(seen) == (self.waits)()
    }

    /// A change that puts a value where it is said that it waits; null takes it away.
    fn change(&self, value: Value) -> Value {
        let names = self.at.trim_start_matches('/').split('/');
        names.rev().fold(value, |inner, name| json!({ name.replace("~1", "/"): inner }))
    }
}

pub(super) struct Managers {
    clusters: Clusters,
}

impl Managers {
    pub(super) fn new(clusters: Clusters) -> Self {
        Self { clusters }
    }

    async fn find(&self, context: &StepContext) -> Result<There, Failure> {
        let name = context.parameter("manager")?;
        let manager = Manager::named(name)
            .ok_or_else(|| Failure::terminal("RF1001", format!("a manager '{name}'")))?;
        let cluster = self.clusters.of(context).await?;
        let resource = manager.resource(&cluster).await?.ok_or_else(|| {
            Failure::terminal("RF1124", format!("the cluster has no {} any more", manager.kind))
        })?;
        let object = context.parameter("object")?.to_owned();
        let seen = cluster.must_get(&resource, &object).await?;
        Ok(There { manager, cluster, resource, object, seen })
    }
}

struct There {
    manager: &'static Manager,
    cluster: Cluster,
    resource: ApiResource,
    object: String,
    seen: Value,
}

impl There {
    async fn put(&self, value: Value) -> Result<(), Failure> {
        if self.manager.value(&self.seen) == value {
            return Ok(());
        }
        let change = self.manager.change(value);
        self.cluster.merge(&self.resource, &self.object, &change).await
    }
}

fn object(context: &StepContext) -> String {
    let part = |name: &str| context.parameters.get(name).map_or("", String::as_str);
    format!("manager {} {} {}", part("context"), part("manager"), part("object"))
}

/// What stood there before we touched it.
fn original(context: &StepContext) -> Option<Value> {
    serde_json::from_str(context.originals.get(&object(context))?).ok()
}

#[async_trait]
impl Effect for Managers {
    async fn original(&self, context: &StepContext) -> Result<Option<(String, String)>, Failure> {
        let there = self.find(context).await?;
        Ok(Some((object(context), there.manager.value(&there.seen).to_string())))
    }

    async fn probe(&self, context: &StepContext) -> Found {
        match self.find(context).await {
            Err(failure) => failure.into(),
            Ok(there) => {
                let is_done = match context.step.kind {
                    StepKind::PauseManager => there.manager.waits(&there.seen),
                    _ => original(context)
                        .is_none_or(|before| there.manager.value(&there.seen) == before),
                };
                if is_done { Found::Done } else { Found::Absent }
            }
        }
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        let there = self.find(context).await?;
        match context.step.kind {
            StepKind::PauseManager => there.put((there.manager.waits)()).await,
            _ => there.put(original(context).unwrap_or(Value::Null)).await,
        }
    }

    async fn undo(&self, context: &StepContext) -> Result<String, Failure> {
        let Some(before) = original(context) else {
            return Ok("it was never touched".into());
        };
        self.find(context).await?.put(before).await?;
        Ok("it goes on as it did".into())
    }
}

/// Who manages an object, by what stands on it: a manager and its object.
pub(super) fn owner(seen: &Value) -> Option<(&'static str, String)> {
    let label = |name: &str| text(seen, &format!("/metadata/labels/{}", name.replace('/', "~1")));
    let annotation =
        |name: &str| text(seen, &format!("/metadata/annotations/{}", name.replace('/', "~1")));
    for (manager, group) in [
        ("flux-kustomization", "kustomize.toolkit.fluxcd.io"),
        ("flux-helmrelease", "helm.toolkit.fluxcd.io"),
    ] {
        let named = (label(&format!("{group}/namespace")), label(&format!("{group}/name")));
        if let (Some(namespace), Some(name)) = named {
            return Some((manager, format!("{namespace}/{name}")));
        }
    }
    // `APP:GROUP/KIND:NAMESPACE/NAME`, where APP may be `NAMESPACE_NAME`.
    let tracked = annotation("argocd.argoproj.io/tracking-id");
    let application = tracked.and_then(|id| id.split(':').next());
    let application = application.or_else(|| label("argocd.argoproj.io/instance"));
    // Its usual label is also that of Helm: it counts where Argo CD has written fields.
    let fields = seen.pointer("/metadata/managedFields").and_then(Value::as_array);
    let is_applied = fields
        .into_iter()
        .flatten()
        .any(|field| text(field, "/manager").is_some_and(|manager| manager.starts_with("argocd")));
    let usual = || is_applied.then(|| label("app.kubernetes.io/instance").unwrap_or("unknown"));
    let application = application.or_else(usual)?;
    let (namespace, name) = application.split_once('_').unwrap_or(("argocd", application));
    Some(("argocd", format!("{namespace}/{name}")))
}

/// An operator that owns an object and would make it again as it wants it.
pub(super) fn operator(seen: &Value) -> Option<String> {
    if let Some(cluster) = text(seen, "/metadata/labels/cnpg.io~1cluster") {
        return Some(format!("CloudNativePG (Cluster {cluster})"));
    }
    let scope = text(seen, "/metadata/labels/application");
    if scope == Some("spilo") || text(seen, "/metadata/annotations/patroni").is_some() {
        return Some("Patroni".into());
    }
    let owners = seen.pointer("/metadata/ownerReferences").and_then(Value::as_array)?;
    let owner = owners
        .iter()
        .find(|owner| owner.pointer("/controller").and_then(Value::as_bool) == Some(true))?;
    let kind = text(owner, "/kind")?;
    Some(format!("{kind} {}", text(owner, "/name").unwrap_or_default()))
}

/// Whether a scaler means a workload.
pub(super) fn scales(scaler: &Value, kind: &str, object: &str) -> bool {
    let target = scaler.pointer("/spec/scaleTargetRef");
    target.is_some_and(|target| {
        text(target, "/name") == Some(split(object).1)
            && text(target, "/kind").unwrap_or("Deployment") == kind
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(labels: &Value, annotations: &Value) -> Value {
        json!({ "metadata": { "labels": labels, "annotations": annotations } })
    }

    #[test]
    fn managers_are_known_by_what_they_leave() {
        let check = |seen: &Value, expect: Option<(&'static str, &str)>| {
            assert_eq!(owner(seen), expect.map(|(name, object)| (name, object.to_owned())));
        };
        check(&with(&json!({}), &json!({})), None);
        let helm = with(&json!({ "app.kubernetes.io/instance": "shop" }), &json!({}));
        check(&helm, None);
        let mut applied = helm;
        applied["metadata"]["managedFields"] = json!([{ "manager": "argocd-controller" }]);
        check(&applied, Some(("argocd", "argocd/shop")));
        check(
            &with(
                &json!({ "kustomize.toolkit.fluxcd.io/name": "apps",
                         "kustomize.toolkit.fluxcd.io/namespace": "flux-system" }),
                &json!({}),
            ),
            Some(("flux-kustomization", "flux-system/apps")),
        );
        let tracked = |id: &str| with(&json!({}), &json!({ "argocd.argoproj.io/tracking-id": id }));
        check(&tracked("odoo:apps/Deployment:odoo/odoo"), Some(("argocd", "argocd/odoo")));
        check(&tracked("gitops_odoo:apps/Deployment:odoo/odoo"), Some(("argocd", "gitops/odoo")));
    }

    #[test]
    fn operators_are_known_by_labels_and_owners() {
        let owned = |controller: bool| {
            json!({ "metadata": { "ownerReferences": [
                { "kind": "ExternalSecret", "name": "db", "controller": controller } ] } })
        };
        assert_eq!(operator(&owned(true)).unwrap(), "ExternalSecret db");
        assert_eq!(operator(&owned(false)), None);
        let labelled = |name: &str, value: &str| with(&json!({ name: value }), &json!({}));
        assert!(operator(&labelled("cnpg.io/cluster", "pg")).unwrap().contains("CloudNativePG"));
        assert_eq!(operator(&labelled("application", "spilo")).unwrap(), "Patroni");
        assert_eq!(operator(&labelled("application", "odoo")), None);
    }

    #[test]
    fn a_change_goes_to_its_place_and_nowhere_else() {
        let keda = Manager::named("keda").unwrap();
        assert_eq!(
            keda.change(json!("true")),
            json!({ "metadata": { "annotations": { "autoscaling.keda.sh/paused": "true" } } })
        );
        let argo = Manager::named("argocd").unwrap();
        assert_eq!(
            argo.change(Value::Null),
            json!({ "spec": { "syncPolicy": { "automated": null } } })
        );
        assert!(argo.waits(&json!({ "spec": {} })));
        assert!(!argo.waits(&json!({ "spec": { "syncPolicy": { "automated": {} } } })));
    }
}
