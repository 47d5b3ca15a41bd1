//! What is known of a service's Kubernetes clusters before a plan is made. Touches nothing.

use std::collections::BTreeMap;

use recovery::effect::Failure;
use recovery::inventory::{KubernetesFact, KubernetesFacts, PauseFact, Probe};
use recovery::service::{Door, Setting, SettingPlace, Writer};
use serde_json::Value;

use super::access::{self, Need, manager_need, needs};
use super::client::{Cluster, Clusters, KubernetesAccess, known, number, split, text};
use super::failure::{is_forbidden, is_gone};
use super::managers::{self, Manager};
use super::workload::Target;
use super::{ANNOTATION, door, manifest, setting};

/// What a service has in Kubernetes.
#[derive(Debug)]
pub struct Asked<'s> {
    /// Its workloads.
    pub writers: Vec<&'s Writer>,
    /// Where its connection setting stands.
    pub settings: Vec<&'s Setting>,
    /// Its door.
    pub doors: Vec<&'s Door>,
    /// How connections are tried from inside, by the cluster's table.
    pub probes: BTreeMap<String, Probe>,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Looked {
    /// What plans are made of.
    pub facts: KubernetesFacts,
    /// Why a recovery would fail.
    pub problems: Vec<String>,
    /// What an operator should know.
    pub notes: Vec<String>,
}

/// Looks at everything of Kubernetes that a service has.
pub async fn look(access: &BTreeMap<String, KubernetesAccess>, asked: &Asked<'_>) -> Looked {
    let clusters = Clusters::new(access.clone());
    let mut looked = Looked::default();
    looked.facts.probes.clone_from(&asked.probes);
    for table in tables(asked) {
        if let Err(failure) = identity(&clusters, access, &table, &mut looked).await {
            looked.problems.push(said(&failure));
            // Whatever is asked for next would say the same.
            return looked;
        }
    }
    let doors = door_rights(&clusters, &asked.doors, &mut looked).await;
    let settings = asked.settings.iter().copied();
    let before = looked.problems.len();
    for need in needs(asked.writers.iter().copied(), settings, doors, &asked.probes) {
        match clusters.named(&need.table).await {
            Ok(cluster) => drop(rights(&cluster, &need, &mut looked).await),
            Err(failure) => looked.problems.push(said(&failure)),
        }
    }
    if looked.problems.len() > before {
        looked.problems.push(
            "`rollforward kubernetes rbac SERVICE --subject USER` prints the missing rights".into(),
        );
    }
    if !looked.problems.is_empty() {
        return looked;
    }
    for door in &asked.doors {
        look_at_door(&clusters, door, &mut looked).await;
    }
    for writer in &asked.writers {
        if let Err(failure) = look_at_writer(&clusters, writer, &mut looked).await {
            looked.problems.push(said(&failure));
        }
    }
    for setting in &asked.settings {
        if let Err(failure) = look_at_setting(&clusters, setting, &mut looked).await {
            looked.problems.push(said(&failure));
        }
    }
    looked
}

fn said(failure: &Failure) -> String {
    match failure.hint.is_empty() {
        true => failure.message.clone(),
        false => format!("{} ({})", failure.message, failure.hint),
    }
}

fn tables(asked: &Asked<'_>) -> Vec<String> {
    let writers = asked.writers.iter().filter_map(|writer| match writer {
        Writer::Kubernetes { context, .. } => Some(context.clone()),
        _ => None,
    });
    let settings = asked.settings.iter().filter_map(|setting| match &setting.place {
        SettingPlace::Kubernetes { context, .. } => Some(context.clone()),
        _ => None,
    });
    let doors = asked.doors.iter().filter_map(|door| match door {
        Door::Kubernetes { context, .. } => Some(context.clone()),
        _ => None,
    });
    let mut all: Vec<String> = writers.chain(settings).chain(doors).collect();
    all.sort();
    all.dedup();
    all
}

async fn identity(
    clusters: &Clusters,
    access: &BTreeMap<String, KubernetesAccess>,
    table: &str,
    looked: &mut Looked,
) -> Result<(), Failure> {
    let uid = clusters.named(table).await?.uid().await?;
    let Some(declared) = access.get(table) else { return Ok(()) };
    match &declared.uid {
        Some(expected) if *expected != uid => looked.problems.push(format!(
            "kubernetes.{table}: expected the cluster whose kube-system has UID {expected}, seen {uid}"
        )),
        Some(_) => {}
        None => looked.notes.push(format!(
            "kubernetes.{table} has no uid: write uid = \"{uid}\" into its table, so that no other \
             cluster is taken for it"
        )),
    }
    let fact = KubernetesFact { uid, context: declared.context.clone() };
    looked.facts.clusters.insert(table.into(), fact);
    Ok(())
}

/// Whether everything of a need is allowed.
async fn rights(cluster: &Cluster, need: &Need, looked: &mut Looked) -> bool {
    match access::refused(cluster, need).await {
        Ok(refused) if refused.is_empty() => return true,
        Err(failure) => looked.problems.push(said(&failure)),
        Ok(refused) => {
            let what =
                format!("not allowed in kubernetes.{}: {}", need.table, need.describe(&refused));
            if need.is_must {
                looked.problems.push(what);
            } else {
                looked.notes.push(format!("{what}: what would undo our steps may be missed"));
            }
        }
    }
    false
}

/// Reads the manifests; what their objects need.
async fn door_rights(clusters: &Clusters, doors: &[&Door], looked: &mut Looked) -> Vec<Need> {
    let mut all = Vec::new();
    for door in doors {
        let Door::Kubernetes { context, shut, open } = door else { continue };
        for path in [shut, open] {
            let needed = async {
                let json = manifest::read(path)?;
                let objects = manifest::objects(&json).map_err(|failure| said(&failure))?;
                looked.facts.manifests.insert(path.clone(), json);
                let cluster = clusters.named(context).await.map_err(|failure| said(&failure))?;
                let needed = manifest::needs(&cluster, &objects).await;
                needed.map_err(|failure| format!("manifest '{path}': {}", said(&failure)))
            };
            match needed.await {
                Ok(needed) => all.extend(needed),
                Err(why) => looked.problems.push(why),
            }
        }
    }
    all
}

/// Whether the door is as the manifest for production says.
async fn look_at_door(clusters: &Clusters, door: &Door, looked: &mut Looked) {
    let Door::Kubernetes { context, open, .. } = door else { return };
    let Some(production) = looked.facts.manifests.get(open).cloned() else { return };
    let applied = async {
        let cluster = clusters.named(context).await?;
        door::is_applied(&cluster, &production).await
    };
    match applied.await {
        Ok(true) => {}
        Ok(false) => looked.notes.push(format!(
            "what is there differs from '{open}': opening the door will change it to that"
        )),
        Err(failure) => looked.problems.push(format!("door: {}", said(&failure))),
    }
}

async fn look_at_writer(
    clusters: &Clusters,
    writer: &Writer,
    looked: &mut Looked,
) -> Result<(), Failure> {
    let Writer::Kubernetes { context, kind, object, replicas } = writer else { return Ok(()) };
    let cluster = clusters.named(context).await?;
    let target = Target::new(cluster, *kind, object).await?;
    let seen = target.get().await?;
    let what = writer.describe();
    if let Some(operator) = managers::operator(&seen) {
        looked.problems.push(format!(
            "{what} belongs to {operator}, which would undo our steps: name what that makes it from"
        ));
    }
    if seen.pointer("/spec/paused").and_then(Value::as_bool) == Some(true) {
        looked.problems.push(format!("{what} is paused: no pod would be replaced"));
    }
    let noted = text(&seen, &format!("/metadata/annotations/{ANNOTATION}~1replicas"));
    if target.replicas(&seen) == 0 && replicas.is_none() && noted.is_none() {
        looked.problems.push(format!(
            "{what} has 0 replicas, and nothing says how many it needs: add replicas = N to it"
        ));
    }
    owned(&target.cluster, &seen, &what, false, looked).await?;
    scalers(&target, &what, looked).await
}

/// A manager that put the object there is to be paused, unless it waits already.
async fn owned(
    cluster: &Cluster,
    seen: &Value,
    what: &str,
    is_setting: bool,
    looked: &mut Looked,
) -> Result<(), Failure> {
    let Some((name, object)) = managers::owner(seen) else { return Ok(()) };
    pausable(cluster, name, &object, what, is_setting, looked).await
}

async fn pausable(
    cluster: &Cluster,
    name: &'static str,
    object: &str,
    what: &str,
    is_setting: bool,
    looked: &mut Looked,
) -> Result<(), Failure> {
    let pauses = &mut looked.facts.pauses;
    let known = pauses.iter_mut().find(|pause| {
        pause.context == cluster.table && pause.manager == name && pause.object == object
    });
    if let Some(known) = known {
        known.owns_setting |= is_setting;
        if !known.of.contains(what) {
            known.of = format!("{}, {what}", known.of);
        }
        return Ok(());
    }
    let Some(manager) = Manager::named(name) else { return Ok(()) };
    let there = match manager.resource(cluster).await? {
        Some(resource) => {
            let need = manager_need(&cluster.table, name, object);
            if let Some(need) = need
                && !rights(cluster, &need, looked).await
            {
                looked.problems.push(format!(
                    "{name} {object} manages {what} and has to wait: `rollforward kubernetes rbac \
                     SERVICE --manager {name}={object}` prints the right to tell it so"
                ));
                return Ok(());
            }
            cluster.get(&resource, object).await?
        }
        None => None,
    };
    match there {
        // It would be put back in the middle of a run.
        Some(there) if !manager.waits(&there) && maker(name, &there).is_some() => {
            let maker = maker(name, &there).unwrap_or_default();
            looked.problems.push(format!(
                "{name} {object} manages {what} and is itself made by {maker}, which would let it \
                 go on in the middle: tell it to wait where {maker} takes it from"
            ));
        }
        Some(there) if !manager.waits(&there) => looked.facts.pauses.push(PauseFact {
            context: cluster.table.clone(),
            manager: manager.name,
            object: object.to_owned(),
            of: what.to_owned(),
            owns_setting: is_setting,
        }),
        Some(_) => {}
        None => looked.notes.push(format!(
            "{what} says that {name} {object} manages it, and there is none here: see to it that \
             nothing puts it back"
        )),
    }
    Ok(())
}

/// Who makes a manager's object and puts back what it was told; Flux keeps that it waits.
fn maker(name: &str, there: &Value) -> Option<String> {
    let applied = || managers::owner(there).map(|(manager, object)| format!("{manager} {object}"));
    (name == "argocd").then(|| managers::operator(there).or_else(applied))?
}

/// What changes the number of replicas by itself.
async fn scalers(target: &Target, what: &str, looked: &mut Looked) -> Result<(), Failure> {
    let (namespace, _) = split(&target.object);
    let cluster = &target.cluster;
    let kind = target.kind.kind();
    let mut failures = Vec::new();
    let mut listed = |result: Result<Vec<Value>, Failure>| match result {
        Ok(found) => found,
        // Without the kind there is nothing of it; rights that are missing were told.
        Err(failure) if is_gone(&failure) || is_forbidden(&failure) => Vec::new(),
        Err(failure) => {
            failures.push(failure);
            Vec::new()
        }
    };
    let keda = known("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects");
    for scaler in listed(cluster.list(&keda, Some(namespace), "").await) {
        if managers::scales(&scaler, kind, &target.object) {
            let name = text(&scaler, "/metadata/name").unwrap_or_default();
            let object = format!("{namespace}/{name}");
            pausable(cluster, "keda", &object, what, false, looked).await?;
        }
    }
    let hpa = known("autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers");
    for scaler in listed(cluster.list(&hpa, Some(namespace), "").await) {
        // One that KEDA made is told to wait by KEDA.
        if managers::scales(&scaler, kind, &target.object)
            && !super::workload::is_owned_by_kind(&scaler, "ScaledObject")
        {
            looked.notes.push(format!(
                "HorizontalPodAutoscaler {} scales {what}: it stands still while there are no replicas",
                text(&scaler, "/metadata/name").unwrap_or_default()
            ));
        }
    }
    let pdb = known("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets");
    for budget in listed(cluster.list(&pdb, Some(namespace), "").await) {
        if number(&budget, "/status/disruptionsAllowed") == Some(0) {
            looked.notes.push(format!(
                "PodDisruptionBudget {} allows no disruption now: scaling ignores it, draining a \
                 node does not",
                text(&budget, "/metadata/name").unwrap_or_default()
            ));
        }
    }
    // What cannot be looked at may scale it.
    failures.into_iter().next().map_or(Ok(()), Err)
}

async fn look_at_setting(
    clusters: &Clusters,
    setting: &Setting,
    looked: &mut Looked,
) -> Result<(), Failure> {
    let SettingPlace::Kubernetes { context, kind, object, .. } = &setting.place else {
        return Ok(());
    };
    let cluster = clusters.named(context).await?;
    let resource = match *kind {
        "secret" => known("", "v1", "Secret", "secrets"),
        _ => known("", "v1", "ConfigMap", "configmaps"),
    };
    let seen = cluster.must_get(&resource, object).await?;
    let what = setting.place.describe();
    if let Some(why) = setting::wrong(&seen, setting) {
        looked.problems.push(format!("{what}: {why}"));
    }
    if seen.pointer("/immutable").and_then(Value::as_bool) == Some(true) {
        looked.problems.push(format!(
            "{what}: the {kind} is immutable: make a new one, let the workloads read that, and \
             name it here"
        ));
    }
    if let Some(operator) = managers::operator(&seen) {
        looked.problems.push(format!(
            "{what} is written by {operator}, which would put the old value back: name the place \
             that it copies from"
        ));
    }
    owned(&cluster, &seen, &what, true, looked).await
}
