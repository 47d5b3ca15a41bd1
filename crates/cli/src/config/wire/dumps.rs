//! What others make and keep, as it is written.

use serde::Deserialize;

/// `[dumps.NAME]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct DumpsTable {
    pub(in crate::config) source: String,
    #[serde(default)]
    pub(in crate::config) open: Vec<String>,
    pub(in crate::config) cluster: Option<String>,
    pub(in crate::config) bin_directory: Option<String>,
    pub(in crate::config) access_key_id: Option<String>,
    pub(in crate::config) secret_access_key: Option<String>,
    pub(in crate::config) session_token: Option<String>,
}

/// `[source.NAME]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct SourceTable {
    pub(in crate::config) list: Vec<String>,
    pub(in crate::config) restore: Vec<String>,
    pub(in crate::config) cluster: Option<String>,
}
