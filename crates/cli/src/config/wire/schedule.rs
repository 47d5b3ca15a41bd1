//! `[schedule]` as it is written.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What runs by itself.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ScheduleTable {
    #[serde(default)]
    pub(in crate::config) tell: Vec<String>,
    pub(in crate::config) metrics: Option<String>,
    pub(in crate::config) user: Option<String>,
    pub(in crate::config) delay: Option<String>,
    pub(in crate::config) grace: Option<String>,
    #[serde(default)]
    pub(in crate::config) job: BTreeMap<String, JobTable>,
}

/// One job.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct JobTable {
    pub(in crate::config) run: String,
    pub(in crate::config) at: String,
    pub(in crate::config) period: Option<String>,
    pub(in crate::config) grace: Option<String>,
    pub(in crate::config) tell: Option<Vec<String>>,
}
