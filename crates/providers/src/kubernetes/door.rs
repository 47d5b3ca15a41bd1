//! A door of manifests: one set keeps users out, the other lets them in.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::StepKind;
use recovery::service::Door;
use serde_json::Value;

use super::FIELD_MANAGER;
use super::access::Need;
use super::client::{Cluster, Clusters, KubernetesAccess, split};
use super::manifest;

/// Who owns the fields of a door's objects: what only one of the two manifests has comes and goes.
const OWNER: &str = FIELD_MANAGER;

pub(super) struct ManifestDoor {
    clusters: Clusters,
}

impl ManifestDoor {
    pub(super) fn new(clusters: Clusters) -> Self {
        Self { clusters }
    }

    /// Whether applying these manifests would change nothing: the API server itself says so.
    async fn is_applied(&self, context: &StepContext, which: &str) -> Result<bool, Failure> {
        let cluster = self.clusters.of(context).await?;
        is_applied(&cluster, context.parameter(&parameter(which))?).await
    }

    async fn apply(&self, context: &StepContext, which: &str) -> Result<(), Failure> {
        let cluster = self.clusters.of(context).await?;
        for object in manifest::objects(context.parameter(&parameter(which))?)? {
            let (resource, namespace) = manifest::resource(&cluster, &object).await?;
            cluster.apply(&resource, namespace.as_deref(), &object, (OWNER, false)).await?;
        }
        Ok(())
    }
}

/// The rights that doors need for the objects of their manifests. The API server is asked for its
/// kinds; one that does not answer leaves guesses, which say so.
///
/// # Errors
/// A manifest that cannot be read, or is none.
pub async fn needs(
    access: &BTreeMap<String, KubernetesAccess>,
    doors: &[&Door],
) -> Result<Vec<Need>, String> {
    let clusters = Clusters::new(access.clone());
    let mut all = Vec::new();
    // One that did not answer is not asked again: each question takes its time.
    let mut silent = BTreeSet::new();
    for door in doors {
        let Door::Kubernetes { context, shut, open } = door else { continue };
        for path in [shut, open] {
            let json = manifest::read(path)?;
            let objects = manifest::objects(&json).map_err(|failure| failure.message)?;
            let asked = match silent.contains(context) {
                true => None,
                false => asked(&clusters, context, &objects).await,
            };
            if asked.is_none() {
                silent.insert(context);
            }
            let guessed = || objects.iter().map(|object| manifest::guessed(context, object));
            all.extend(asked.unwrap_or_else(|| guessed().collect()));
        }
    }
    Ok(all)
}

/// What the API server says of these objects' kinds; `None`: nothing.
async fn asked(clusters: &Clusters, table: &str, objects: &[Value]) -> Option<Vec<Need>> {
    let cluster = clusters.named(table).await.ok()?;
    manifest::needs(&cluster, objects).await.ok()
}

fn parameter(which: &str) -> String {
    format!("{which}_manifest")
}

/// Whether the cluster is as the manifests say.
pub(super) async fn is_applied(cluster: &Cluster, manifests: &str) -> Result<bool, Failure> {
    for object in manifest::objects(manifests)? {
        let (resource, namespace) = manifest::resource(cluster, &object).await?;
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let path = format!("{}/{name}", namespace.as_deref().unwrap_or_default());
        let there = match &namespace {
            Some(_) => cluster.get(&resource, &path).await?,
            None => cluster.get_of_cluster(&resource, split(&path).1).await?,
        };
        let Some(there) = there else { return Ok(false) };
        let then = cluster.apply(&resource, namespace.as_deref(), &object, (OWNER, true)).await?;
        if essence(there) != essence(then) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// An object without what the API server counts and notes by itself.
fn essence(mut object: Value) -> Value {
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
    if let Some(meta) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        for noise in ["managedFields", "resourceVersion", "generation"] {
            meta.remove(noise);
        }
    }
    object
}

fn wanted(context: &StepContext) -> &'static str {
    if context.step.kind == StepKind::ShutDoor { "shut" } else { "open" }
}

#[async_trait]
impl Effect for ManifestDoor {
    async fn original(&self, context: &StepContext) -> Result<Option<(String, String)>, Failure> {
        let value = if self.is_applied(context, "shut").await? { "shut" } else { "open" };
        Ok(Some(("door".into(), value.into())))
    }

    async fn probe(&self, context: &StepContext) -> Found {
        match self.is_applied(context, wanted(context)).await {
            Ok(true) => Found::Done,
            Ok(false) => Found::Absent,
            Err(failure) => failure.into(),
        }
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        self.apply(context, wanted(context)).await
    }

    /// As it was before the incident's first run touched it.
    async fn undo(&self, context: &StepContext) -> Result<String, Failure> {
        let Some(original) = context.originals.get("door") else {
            return Ok("it was never touched".into());
        };
        let which = if original == "shut" { "shut" } else { "open" };
        if !self.is_applied(context, which).await? {
            self.apply(context, which).await?;
        }
        match self.is_applied(context, which).await? {
            true if which == "shut" => Ok("it was shut before: left so".into()),
            true => Ok("it is open again".into()),
            false => Err(Failure::retry("RF1111", "the manifests do not stay applied")
                .hint("something else manages these objects")),
        }
    }
}
