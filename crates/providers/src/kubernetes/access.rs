//! The rights that a service's steps need: asked for beforehand, and printed as manifests.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};
use recovery::effect::Failure;
use recovery::inventory::Probe;
use recovery::service::{Setting, SettingPlace, Workload, Writer};

use super::client::{Cluster, answered, split};
use super::failure::Request;
use super::managers::MANAGERS;

/// What must be allowed on one kind of object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// The cluster's table.
    pub table: String,
    /// The namespace; `None`: the whole cluster.
    pub namespace: Option<String>,
    /// The API group; empty for the core.
    pub group: String,
    /// The plural of the kind.
    pub resource: String,
    /// The one object; `None`: all of the kind.
    pub name: Option<String>,
    /// What must be allowed.
    pub verbs: &'static [&'static str],
    /// Whether a plan cannot do without it.
    pub is_must: bool,
    /// The kind whose plural and scope nobody was asked for: they are what is usual.
    pub guessed: Option<String>,
}

/// What the steps need for these writers, settings, objects of doors and probes.
#[must_use]
pub fn needs<'s>(
    writers: impl IntoIterator<Item = &'s Writer>,
    settings: impl IntoIterator<Item = &'s Setting>,
    doors: Vec<Need>,
    probes: &BTreeMap<String, Probe>,
) -> Vec<Need> {
    let mut all = BTreeSet::new();
    for writer in writers {
        if let Writer::Kubernetes { context, kind, object, .. } = writer {
            all.extend(of_workload(context, *kind, object));
        }
    }
    for setting in settings {
        if let SettingPlace::Kubernetes { context, kind, object, .. } = &setting.place {
            let resource = if *kind == "secret" { "secrets" } else { "configmaps" };
            let (namespace, name) = split(object);
            let need = need(context, namespace, "", resource, &["get", "patch"]);
            all.insert(Need { name: Some(name.into()), ..need });
        }
    }
    let tables: BTreeSet<String> = all.iter().map(|need| need.table.clone()).collect();
    for table in &tables {
        if let Some(probe) = probes.get(table) {
            let verbs = &["create", "get", "delete"];
            all.insert(need(table, &probe.namespace, "batch", "jobs", verbs));
            all.insert(need(table, &probe.namespace, "", "pods", &["list"]));
        }
    }
    // Nothing of a door connects to the database.
    all.extend(doors);
    let tables: BTreeSet<String> = all.iter().map(|need| need.table.clone()).collect();
    for table in &tables {
        let known = need(table, "", "", "namespaces", &["get"]);
        all.insert(Need { namespace: None, name: Some("kube-system".into()), ..known });
    }
    all.into_iter().collect()
}

fn need(
    table: &str,
    namespace: &str,
    group: &str,
    resource: &str,
    verbs: &'static [&'static str],
) -> Need {
    Need {
        table: table.into(),
        namespace: Some(namespace.into()),
        group: group.into(),
        resource: resource.into(),
        name: None,
        verbs,
        is_must: true,
        guessed: None,
    }
}

/// What a door needs of one object of its manifests: it is looked at, applied, and made where it
/// is not there.
pub(super) fn of_door(table: &str, namespace: Option<&str>, group: &str, object: &str) -> Need {
    let (resource, name) = object.split_once('/').unwrap_or((object, ""));
    let need = need(table, "", group, resource, &["create", "get", "patch"]);
    Need { namespace: namespace.map(str::to_owned), name: Some(name.into()), ..need }
}

fn of_workload(table: &str, kind: Workload, object: &str) -> Vec<Need> {
    let (namespace, name) = split(object);
    let group = if kind == Workload::CronJob { "batch" } else { "apps" };
    let itself = need(table, namespace, group, kind.plural(), &["get", "patch"]);
    let mut all = vec![
        Need { name: Some(name.into()), ..itself },
        need(table, namespace, "", "pods", &["list"]),
    ];
    if kind == Workload::CronJob {
        all.push(need(table, namespace, "batch", "jobs", &["list"]));
    }
    // What would undo our steps is looked for; without these rights it may be missed.
    for (group, resource) in [
        ("autoscaling", "horizontalpodautoscalers"),
        ("policy", "poddisruptionbudgets"),
        ("keda.sh", "scaledobjects"),
    ] {
        let looked = need(table, namespace, group, resource, &["list"]);
        all.push(Need { is_must: false, ..looked });
    }
    all
}

/// What is needed to tell a manager to wait: `argocd`, `flux-kustomization`, `flux-helmrelease` or
/// `keda`; `None` for any other.
#[must_use]
pub fn manager_need(table: &str, manager: &str, object: &str) -> Option<Need> {
    let groups = [
        ("argocd", "argoproj.io"),
        ("flux-kustomization", "kustomize.toolkit.fluxcd.io"),
        ("flux-helmrelease", "helm.toolkit.fluxcd.io"),
        ("keda", "keda.sh"),
    ];
    let (_, group) = groups.into_iter().find(|(name, _)| *name == manager)?;
    let resource = MANAGERS.iter().find(|known| known.name == manager)?.plural();
    let (namespace, name) = split(object);
    let need = need(table, namespace, group, resource, &["get", "patch"]);
    Some(Need { name: Some(name.into()), ..need })
}

/// Asks the API server which verbs of a need are not allowed.
pub(super) async fn refused(cluster: &Cluster, need: &Need) -> Result<Vec<&'static str>, Failure> {
    let api: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let what = format!("ask for rights ({})", cluster.table);
    let mut refused = Vec::new();
    for verb in need.verbs {
        let attributes = ResourceAttributes {
            group: Some(need.group.clone()),
            resource: Some(need.resource.clone()),
            namespace: need.namespace.clone(),
            name: need.name.clone(),
            verb: Some((*verb).into()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let parameters = PostParams::default();
        let asked = api.create(&parameters, &review);
        let answer = answered(Request::Read, &what, asked).await?;
        if !answer.status.is_some_and(|status| status.allowed) {
            refused.push(*verb);
        }
    }
    Ok(refused)
}

impl Need {
    /// For people: `patch deployments engine/api`.
    #[must_use]
    pub fn describe(&self, verbs: &[&str]) -> String {
        let place = match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => format!(" {namespace}/{name}"),
            (Some(namespace), None) => format!(" in {namespace}"),
            (None, Some(name)) => format!(" {name}"),
            (None, None) => String::new(),
        };
        let group = if self.group.is_empty() { String::new() } else { format!(".{}", self.group) };
        format!("{} {}{group}{place}", verbs.join(", "), self.resource)
    }
}

/// Manifests that give a subject these rights and no more.
#[must_use]
pub fn rbac_manifest(needs: &[Need], subject: &str) -> String {
    let mut places: BTreeMap<Option<&str>, Vec<&Need>> = BTreeMap::new();
    for need in needs {
        places.entry(need.namespace.as_deref()).or_default().push(need);
    }
    let documents = places.into_iter().map(|(namespace, needs)| {
        let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
        let within = namespace.map_or_else(String::new, |it| format!("\n  namespace: {it}"));
        let rules: String = needs.iter().map(|need| rule(need)).collect();
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata:\n  name: \
             rollforward{within}\nrules:\n{rules}---\napiVersion: \
             rbac.authorization.k8s.io/v1\nkind: {kind}Binding\nmetadata:\n  name: \
             rollforward{within}\nroleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: \
             {kind}\n  name: rollforward\nsubjects:\n{}",
            subject_lines(subject)
        )
    });
    documents.collect::<Vec<_>>().join("---\n")
}

fn rule(need: &Need) -> String {
    let quoted = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
        words.join(", ")
    };
    let names = need
        .name
        .as_ref()
        .map_or_else(String::new, |name| format!("\n    resourceNames: [\"{name}\"]"));
    let guess = need.guessed.as_ref().map_or_else(String::new, |kind| {
        format!(
            "  # A guess from kind {kind}, since the API server was not asked: compare with \
             `kubectl api-resources`.\n"
        )
    });
    format!(
        "{guess}  - apiGroups: [\"{}\"]\n    resources: [\"{}\"]{names}\n    verbs: [{}]\n",
        need.group,
        need.resource,
        quoted(need.verbs)
    )
}

/// `NAMESPACE/NAME` is a service account, everything else a user.
fn subject_lines(subject: &str) -> String {
    match subject.split_once('/') {
        Some((namespace, name)) => {
            format!("  - kind: ServiceAccount\n    name: {name}\n    namespace: {namespace}\n")
        }
        None => format!(
            "  - kind: User\n    name: {subject}\n    apiGroup: rbac.authorization.k8s.io\n"
        ),
    }
}
