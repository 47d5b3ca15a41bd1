//! A key of a ConfigMap or a Secret, read and written with everything around it left as it is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::core::ApiResource;
use recovery::effect::{Failure, StepContext};
use recovery::service::{Setting, SettingPlace};
use serde_json::{Value, json};

use super::FIELD_MANAGER;
use super::client::{Cluster, Clusters, known, split, text};
use crate::setting::{forms, place};

/// Longest name of an owner of fields (`fieldManager`).
const OWNER_LEN_MAX: usize = 128;

/// Where a setting stands.
struct Place<'c> {
    cluster: Cluster,
    is_secret: bool,
    object: &'c str,
    key: &'c str,
    inside: Option<&'c str>,
}

fn resource(is_secret: bool) -> ApiResource {
    match is_secret {
        true => known("", "v1", "Secret", "secrets"),
        false => known("", "v1", "ConfigMap", "configmaps"),
    }
}

impl<'c> Place<'c> {
    async fn of(clusters: &Clusters, context: &'c StepContext) -> Result<Self, Failure> {
        Ok(Self {
            cluster: clusters.of(context).await?,
            is_secret: context.parameter("kind")? == "secret",
            object: context.parameter("object")?,
            key: context.parameter("key")?,
            inside: context.parameters.get("inside").map(String::as_str),
        })
    }

    fn describe(&self) -> String {
        let kind = if self.is_secret { "Secret" } else { "ConfigMap" };
        format!("'{}' of {kind} {} ({})", self.key, self.object, self.cluster.table)
    }

    fn failed(&self, why: &str) -> Failure {
        Failure::terminal("RF1104", format!("setting {}: {why}", self.describe()))
    }

    /// The object, and the text of its key.
    async fn read(&self) -> Result<(Value, String), Failure> {
        let seen = self.cluster.must_get(&resource(self.is_secret), self.object).await?;
        let value = whole_of(&seen, self.is_secret, self.key)
            .map_err(|why| self.failed(why).hint("keys are case-sensitive: see `kubectl get`"))?;
        Ok((seen, value))
    }

    /// Writes the key, if the object is still the one that was read.
    async fn write(&self, seen: &Value, whole: &str) -> Result<(), Failure> {
        if seen.pointer("/immutable").and_then(Value::as_bool) == Some(true) {
            return Err(self.failed("the object is immutable").hint(
                "make a new one with another name, let the workloads read that, and name it in \
                 the configuration",
            ));
        }
        let (namespace, name) = split(self.object);
        let kind = if self.is_secret { "Secret" } else { "ConfigMap" };
        let stored = match self.is_secret {
            true => STANDARD.encode(whole),
            false => whole.to_owned(),
        };
        let object = json!({
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": namespace,
                "resourceVersion": text(seen, "/metadata/resourceVersion"),
            },
            "data": { self.key: stored },
        });
        let resource = resource(self.is_secret);
        // An owner for each key: applying one must not take away another.
        let owner: String =
            format!("{FIELD_MANAGER}:{}", self.key).chars().take(OWNER_LEN_MAX).collect();
        let applied = self.cluster.apply(&resource, Some(namespace), &object, (&owner, false));
        applied.await.map(drop)
    }
}

/// The text of a key.
fn whole_of(seen: &Value, is_secret: bool, key: &str) -> Result<String, &'static str> {
    let data = seen.pointer("/data").and_then(Value::as_object);
    let stored = data.and_then(|data| data.get(key)).and_then(Value::as_str);
    let stored = stored.ok_or("there is no such key")?;
    match is_secret {
        false => Ok(stored.to_owned()),
        true => STANDARD
            .decode(stored)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or("expected text in base64"),
    }
}

/// Why an object that was read holds no such setting; nothing of its values is said.
pub(super) fn wrong(seen: &Value, setting: &Setting) -> Option<String> {
    let SettingPlace::Kubernetes { kind, key, inside, .. } = &setting.place else { return None };
    let read = whole_of(seen, *kind == "secret", key).map_err(str::to_owned);
    let value = read.and_then(|whole| place::value_in(&whole, inside.as_deref()));
    value.and_then(|value| forms::parts(&value, setting.form, &setting.fields)).err()
}

/// The value of the setting.
pub(crate) async fn read(clusters: &Clusters, context: &StepContext) -> Result<String, Failure> {
    let here = Place::of(clusters, context).await?;
    let (_, whole) = here.read().await?;
    place::value_in(&whole, here.inside).map_err(|why| here.failed(&why))
}

/// Changes the value of the setting.
pub(crate) async fn write(
    clusters: &Clusters,
    context: &StepContext,
    change: &(dyn Fn(&str) -> Result<String, Failure> + Send + Sync),
) -> Result<(), Failure> {
    let here = Place::of(clusters, context).await?;
    let (seen, whole) = here.read().await?;
    let value = place::value_in(&whole, here.inside).map_err(|why| here.failed(&why))?;
    let changed = place::replaced_in(&whole, here.inside, &change(&value)?)
        .map_err(|why| here.failed(&why))?;
    if changed == whole {
        return Ok(());
    }
    here.write(&seen, &changed).await
}
