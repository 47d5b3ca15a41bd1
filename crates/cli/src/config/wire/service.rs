//! `[person]`, `[kubernetes.NAME]` and `[service.NAME]` as they are written.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::TrafficTables;

/// One person.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct PersonTable {
    pub(in crate::config) key: String,
    #[serde(default)]
    pub(in crate::config) roles: Vec<String>,
}

/// A Kubernetes cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct KubernetesTable {
    pub(in crate::config) context: String,
    pub(in crate::config) kubeconfig: Option<String>,
    pub(in crate::config) uid: Option<String>,
    pub(in crate::config) probe: Option<ProbeTable>,
}

/// A job that tries connections from inside of a cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ProbeTable {
    pub(in crate::config) namespace: String,
    pub(in crate::config) image: String,
    pub(in crate::config) command: Option<Vec<String>>,
}

/// A service.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ServiceTable {
    pub(in crate::config) objectives: ObjectivesTable,
    pub(in crate::config) database: DatabaseTable,
    pub(in crate::config) setting: Option<SettingTable>,
    pub(in crate::config) door: Option<DoorTable>,
    #[serde(default)]
    pub(in crate::config) writers: Vec<WriterTable>,
    #[serde(default)]
    pub(in crate::config) files: Vec<FilesTable>,
    #[serde(default)]
    pub(in crate::config) validate: ValidateTable,
    #[serde(default)]
    pub(in crate::config) smoke: Vec<SmokeTable>,
    #[serde(default)]
    pub(in crate::config) traffic: TrafficTables,
    #[serde(default)]
    pub(in crate::config) checklist: Vec<String>,
    #[serde(default)]
    pub(in crate::config) policy: PolicyTable,
    #[serde(default)]
    pub(in crate::config) tell: Vec<String>,
    #[serde(default)]
    pub(in crate::config) alerts: Vec<super::AlertTable>,
    #[serde(default)]
    pub(in crate::config) about: super::AboutTable,
    pub(in crate::config) drill: Option<BindingsTable>,
    pub(in crate::config) staging: Option<BindingsTable>,
    #[serde(default)]
    pub(in crate::config) site: BTreeMap<String, SiteTable>,
    pub(in crate::config) breach: Option<BreachTable>,
}

/// Objectives.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ObjectivesTable {
    pub(in crate::config) rpo: String,
    pub(in crate::config) rto: String,
}

/// A database: a cluster of ours, or an RDS instance.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct DatabaseTable {
    pub(in crate::config) cluster: Option<String>,
    pub(in crate::config) name: Option<String>,
    pub(in crate::config) restore: Option<String>,
    pub(in crate::config) host: Option<String>,
    pub(in crate::config) directory: Option<String>,
    pub(in crate::config) address: Option<String>,
    pub(in crate::config) listen: Option<String>,
    #[serde(default)]
    pub(in crate::config) clients: Vec<String>,
    #[serde(default)]
    pub(in crate::config) databases: Vec<String>,
    pub(in crate::config) rds: Option<String>,
    pub(in crate::config) region: Option<String>,
    pub(in crate::config) login: Option<String>,
}

/// A connection setting.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct SettingTable {
    pub(in crate::config) file: Option<String>,
    pub(in crate::config) key: Option<String>,
    pub(in crate::config) inside: Option<String>,
    pub(in crate::config) aws_secret: Option<String>,
    pub(in crate::config) kubernetes: Option<String>,
    pub(in crate::config) configmap: Option<String>,
    pub(in crate::config) secret: Option<String>,
    pub(in crate::config) vercel: Option<String>,
    pub(in crate::config) variable: Option<String>,
    pub(in crate::config) app_configuration: Option<String>,
    pub(in crate::config) form: Option<String>,
    #[serde(default)]
    pub(in crate::config) fields: BTreeMap<String, String>,
}

/// A door.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct DoorTable {
    pub(in crate::config) file: Option<String>,
    pub(in crate::config) content: Option<String>,
    pub(in crate::config) kubernetes: Option<String>,
    pub(in crate::config) http: Option<String>,
    pub(in crate::config) shut_word: Option<String>,
    pub(in crate::config) login: Option<String>,
    pub(in crate::config) pgbouncer: Option<String>,
    pub(in crate::config) database: Option<String>,
    pub(in crate::config) shut: Option<Words>,
    pub(in crate::config) open: Option<Words>,
    pub(in crate::config) probe: Option<Words>,
}

/// A text, or a command with its arguments.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(in crate::config) enum Words {
    Text(String),
    Command(Vec<String>),
}

/// An application that writes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct WriterTable {
    pub(in crate::config) kubernetes: Option<String>,
    pub(in crate::config) deployment: Option<String>,
    pub(in crate::config) statefulset: Option<String>,
    pub(in crate::config) cronjob: Option<String>,
    pub(in crate::config) replicas: Option<u32>,
    pub(in crate::config) systemd: Option<String>,
    pub(in crate::config) command: Option<String>,
    pub(in crate::config) start: Option<Vec<String>>,
    pub(in crate::config) stop: Option<Vec<String>>,
    pub(in crate::config) probe: Option<Vec<String>>,
    pub(in crate::config) health: Option<SmokeTable>,
    pub(in crate::config) workflow: Option<String>,
    pub(in crate::config) github: Option<String>,
}

/// Files that rows point to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct FilesTable {
    pub(in crate::config) bucket: String,
    pub(in crate::config) keys_sql: String,
    pub(in crate::config) copy: Option<String>,
    pub(in crate::config) missing_max: Option<u64>,
    pub(in crate::config) copy_missing_max: Option<u64>,
    pub(in crate::config) newest_within: Option<String>,
    pub(in crate::config) sample: Option<u32>,
    #[serde(default)]
    pub(in crate::config) credentials: CredentialsTable,
    #[serde(default)]
    pub(in crate::config) copy_credentials: CredentialsTable,
}

/// Credentials of a bucket: references.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct CredentialsTable {
    pub(in crate::config) access_key_id: Option<String>,
    pub(in crate::config) secret_access_key: Option<String>,
    pub(in crate::config) session_token: Option<String>,
}

/// Checks of the restored data.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ValidateTable {
    pub(in crate::config) sql: Option<String>,
    pub(in crate::config) timeout: Option<String>,
    pub(in crate::config) schema: Option<String>,
    #[serde(default)]
    pub(in crate::config) tables: BTreeMap<String, TableTable>,
}

/// What must hold for one table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct TableTable {
    pub(in crate::config) newest: Option<String>,
    pub(in crate::config) within: Option<String>,
    pub(in crate::config) min_rows: Option<u64>,
}

/// A smoke test.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct SmokeTable {
    pub(in crate::config) get: Option<String>,
    pub(in crate::config) post: Option<String>,
    pub(in crate::config) body: Option<String>,
    pub(in crate::config) login: Option<String>,
    #[serde(default)]
    pub(in crate::config) expect: ExpectTable,
}

/// What a smoke test expects.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ExpectTable {
    pub(in crate::config) status: Option<u16>,
    #[serde(default)]
    pub(in crate::config) json: BTreeMap<String, toml::Value>,
    pub(in crate::config) min_items: Option<u64>,
    pub(in crate::config) within: Option<String>,
}

/// What is decided beforehand.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct PolicyTable {
    pub(in crate::config) on_failure: Option<String>,
    #[serde(rename = "final")]
    pub(in crate::config) final_persons: Option<u32>,
    pub(in crate::config) extra_loss: Option<String>,
    pub(in crate::config) keep_old: Option<String>,
}

/// Other places for the same service.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct BindingsTable {
    pub(in crate::config) database: BindingTable,
    pub(in crate::config) setting: Option<SettingTable>,
    #[serde(default)]
    pub(in crate::config) writers: Vec<WriterTable>,
    #[serde(default)]
    pub(in crate::config) activate: Vec<WriterTable>,
    pub(in crate::config) door: Option<DoorTable>,
    #[serde(default)]
    pub(in crate::config) files: Vec<FilesTable>,
    #[serde(default)]
    pub(in crate::config) smoke: Vec<SmokeTable>,
    #[serde(default)]
    pub(in crate::config) traffic: TrafficTables,
}

/// What is done besides after a breach.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct BreachTable {
    #[serde(default)]
    pub(in crate::config) tell: Vec<String>,
    #[serde(default)]
    pub(in crate::config) rotate: BTreeMap<String, String>,
    #[serde(default)]
    pub(in crate::config) commands: Vec<Vec<String>>,
}

/// A standby site.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct SiteTable {
    pub(in crate::config) host: Option<String>,
    pub(in crate::config) database: BindingTable,
    pub(in crate::config) setting: Option<SettingTable>,
    #[serde(default)]
    pub(in crate::config) writers: Vec<WriterTable>,
    #[serde(default)]
    pub(in crate::config) activate: Vec<WriterTable>,
    pub(in crate::config) door: Option<DoorTable>,
    #[serde(default)]
    pub(in crate::config) files: Vec<FilesTable>,
    #[serde(default)]
    pub(in crate::config) smoke: Vec<SmokeTable>,
    #[serde(default)]
    pub(in crate::config) traffic: TrafficTables,
    #[serde(default)]
    pub(in crate::config) checklist: Vec<String>,
    #[serde(default)]
    pub(in crate::config) drill: SiteDrillTable,
}

/// What a drill at a standby site uses instead.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct SiteDrillTable {
    #[serde(default)]
    pub(in crate::config) traffic: TrafficTables,
}

/// Where a binding's database goes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct BindingTable {
    pub(in crate::config) directory: Option<String>,
    pub(in crate::config) address: Option<String>,
    pub(in crate::config) listen: Option<String>,
    #[serde(default)]
    pub(in crate::config) clients: Vec<String>,
    #[serde(default)]
    pub(in crate::config) databases: Vec<String>,
    pub(in crate::config) subnet_group: Option<String>,
    #[serde(default)]
    pub(in crate::config) security_groups: Vec<String>,
}
