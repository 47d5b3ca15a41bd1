//! `rollforward.toml` as it is written. Unknown keys are refused with the nearest known one.

mod dumps;
mod notify;
mod schedule;
mod service;
mod traffic;

use std::collections::BTreeMap;

pub(super) use dumps::{DumpsTable, SourceTable};
pub(super) use notify::*;
pub(super) use schedule::*;
pub(super) use service::*;
pub(super) use traffic::*;

use serde::Deserialize;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) version: u32,
    #[serde(default)]
    pub(super) journal: Vec<String>,
    pub(super) state_directory: Option<String>,
    #[serde(default)]
    pub(super) repository: BTreeMap<String, RepositoryTable>,
    #[serde(default)]
    pub(super) cluster: BTreeMap<String, ClusterTable>,
    #[serde(default)]
    pub(super) dumps: BTreeMap<String, DumpsTable>,
    #[serde(default)]
    pub(super) source: BTreeMap<String, SourceTable>,
    #[serde(default)]
    pub(super) person: BTreeMap<String, PersonTable>,
    #[serde(default)]
    pub(super) notify: BTreeMap<String, NotifyTable>,
    #[serde(default)]
    pub(super) template: BTreeMap<String, TemplateTable>,
    #[serde(default)]
    pub(super) kubernetes: BTreeMap<String, KubernetesTable>,
    #[serde(default)]
    pub(super) service: BTreeMap<String, ServiceTable>,
    #[serde(default)]
    pub(super) schedule: ScheduleTable,
}

/// `[repository.NAME]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RepositoryTable {
    pub(super) url: String,
    #[serde(default)]
    pub(super) keys: Vec<String>,
    #[serde(default)]
    pub(super) single_writer: bool,
    pub(super) access_key_id: Option<String>,
    pub(super) secret_access_key: Option<String>,
    pub(super) session_token: Option<String>,
}

/// `[cluster.NAME]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClusterTable {
    pub(super) host: Option<String>,
    pub(super) data_directory: String,
    pub(super) connection: String,
    pub(super) repositories: Vec<String>,
    pub(super) bin_directory: Option<String>,
    pub(super) compression: Option<String>,
    pub(super) workers: Option<usize>,
}
