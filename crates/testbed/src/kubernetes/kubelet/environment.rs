//! What a container finds when it starts: variables, and files of volumes.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{entries, node, text};
use crate::account::give_to_postgres;
use crate::kubernetes::client::Client;

/// Names and values; no name occurs twice.
pub(super) type Variables = Vec<(String, String)>;

/// Why a container cannot be made: the kubelet's `CreateContainerConfigError`.
pub(super) type Missing = String;

/// Where volumes may be: nothing else of this machine is written to.
const VOLUMES: &str = "/tmp/";

/// Reads `ConfigMap`s and `Secret`s of one namespace.
pub(super) struct Sources<'a> {
    pub(super) client: &'a Client,
    pub(super) namespace: &'a str,
}

/// What a reference names.
#[derive(Clone, Copy)]
enum Kind {
    ConfigMap,
    Secret,
}

impl Sources<'_> {
    /// The variables of the container `spec` of the pod `item`.
    pub(super) fn variables(
        &self,
        item: &Value,
        spec: &Value,
        address: &str,
    ) -> Result<Variables, Missing> {
        let mut variables = Variables::new();
        for source in entries(spec, "/envFrom") {
            let prefix = text(source, "/prefix").unwrap_or_default();
            let found = match (source.get("configMapRef"), source.get("secretRef")) {
                (Some(reference), _) => self.data(Kind::ConfigMap, reference, "/name")?,
                (_, Some(reference)) => self.data(Kind::Secret, reference, "/name")?,
                (None, None) => None,
            };
            for (name, value) in found.unwrap_or_default() {
                set(&mut variables, &format!("{prefix}{name}"), value);
            }
        }
        for entry in entries(spec, "/env") {
            let name = text(entry, "/name").unwrap_or_default();
            let value = match entry.get("valueFrom") {
                Some(source) => self.value(item, source, address)?,
                None => Some(expand(text(entry, "/value").unwrap_or_default(), &variables)),
            };
            if let Some(value) = value {
                set(&mut variables, name, value);
            }
        }
        Ok(variables)
    }

    /// Writes the volumes of the container that come from `ConfigMap`s and `Secret`s, and whose
    /// place is below [`VOLUMES`]. Unlike with a real kubelet, they stay as they are until the
    /// container starts again.
    pub(super) fn write_volumes(&self, item: &Value, spec: &Value) -> Result<(), Missing> {
        for mount in entries(spec, "/volumeMounts") {
            let name = text(mount, "/name");
            let volumes = entries(item, "/spec/volumes");
            let volume = volumes.iter().find(|volume| text(volume, "/name") == name);
            let place = text(mount, "/mountPath").filter(|place| place.starts_with(VOLUMES));
            let (Some(volume), Some(place)) = (volume, place) else { continue };
            let found = match (volume.get("configMap"), volume.get("secret")) {
                (Some(source), _) => (self.data(Kind::ConfigMap, source, "/name")?, source),
                (_, Some(source)) => (self.data(Kind::Secret, source, "/secretName")?, source),
                (None, None) => continue,
            };
            write_files(Path::new(place), found.0.unwrap_or_default(), found.1);
        }
        Ok(())
    }

    fn value(
        &self,
        item: &Value,
        source: &Value,
        address: &str,
    ) -> Result<Option<String>, Missing> {
        let (kind, reference) = match (source.get("configMapKeyRef"), source.get("secretKeyRef")) {
            (Some(reference), _) => (Kind::ConfigMap, reference),
            (_, Some(reference)) => (Kind::Secret, reference),
            (None, None) => return Ok(field(item, source, address)),
        };
        let found = self.data(kind, reference, "/name")?;
        let key = text(reference, "/key").unwrap_or_default();
        let found = found.unwrap_or_default().into_iter().find(|(name, _)| name == key);
        if found.is_none() && !is_optional(reference) {
            return Err(format!("couldn't find key {key} in {}", kind.word()));
        }
        Ok(found.map(|(_, value)| value))
    }

    /// All keys and values; `None` when there is no such object and there need not be.
    fn data(
        &self,
        kind: Kind,
        reference: &Value,
        pointer: &str,
    ) -> Result<Option<Variables>, Missing> {
        let name = text(reference, pointer).unwrap_or_default();
        let path = format!("/api/v1/namespaces/{}/{}s/{name}", self.namespace, kind.word());
        let (status, object) = self.client.call("GET", &path, None).map_err(|e| e.to_string())?;
        match status {
            200 => {}
            404 if is_optional(reference) => return Ok(None),
            _ => return Err(format!("{} \"{name}\" not found", kind.word())),
        }
        let data = object.get("data").and_then(Value::as_object);
        let pairs = data.into_iter().flatten().map(|(key, value)| {
            let value = value.as_str().unwrap_or_default();
            (key.clone(), kind.plain(value))
        });
        Ok(Some(pairs.collect()))
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }

    fn plain(self, value: &str) -> String {
        match self {
            Self::ConfigMap => value.to_owned(),
            Self::Secret => {
                let bytes = STANDARD.decode(value).expect("the API server checks base64");
                String::from_utf8(bytes).expect("a variable's value is text")
            }
        }
    }
}

fn is_optional(reference: &Value) -> bool {
    reference.get("optional").and_then(Value::as_bool).unwrap_or(false)
}

/// The pod's own facts.
fn field(item: &Value, source: &Value, address: &str) -> Option<String> {
    let field = text(source, "/fieldRef/fieldPath")?;
    Some(match field {
        "status.podIP" => address.to_owned(),
        "status.hostIP" => node::ADDRESS.to_owned(),
        _ => text(item, &format!("/{}", field.replace('.', "/"))).unwrap_or_default().to_owned(),
    })
}

fn set(variables: &mut Variables, name: &str, value: String) {
    variables.retain(|(known, _)| known != name);
    variables.push((name.to_owned(), value));
}

fn write_files(place: &Path, files: Variables, source: &Value) {
    fs::create_dir_all(place).expect("make a volume");
    fs::set_permissions(place, Permissions::from_mode(0o755)).expect("set the mode");
    let mode = source.get("defaultMode").and_then(Value::as_u64);
    let mode = mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o644);
    for (name, content) in files {
        let path = place.join(name);
        fs::write(&path, content).expect("write a file of a volume");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("set the mode");
        give_to_postgres(&path);
    }
}

/// Replaces `$(NAME)` of the variables, and `$$` by one dollar sign.
pub(super) fn expand(input: &str, variables: &Variables) -> String {
    let mut output = String::new();
    let mut rest = input;
    while let Some((before, after)) = rest.split_once('$') {
        output.push_str(before);
        let reference = after.strip_prefix('(').and_then(|after| after.split_once(')'));
        let known = reference.and_then(|(name, after)| {
            let (_, value) = variables.iter().find(|(known, _)| known == name)?;
            Some((value, after))
        });
        if let Some((value, after)) = known {
            output.push_str(value);
            rest = after;
        } else {
            output.push('$');
            rest = after.strip_prefix('$').unwrap_or(after);
        }
    }
    output + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_replaced() {
        let variables =
            vec![("A".to_owned(), "1".to_owned()), ("B_C".to_owned(), "$(A)".to_owned())];
        let check = |input: &str, expected: &str| assert_eq!(expand(input, &variables), expected);
        check("", "");
        check("-p $(A)$(B_C)", "-p 1$(A)");
        check("$(D) $ $A $(A", "$(D) $ $A $(A");
        check("$$(A) $$$(A)", "$(A) $1");
    }
}
