//! `[notify]`, `[template.NAME]`, and what a service says of its alerts, as they are written.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One channel: exactly one of its kinds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct NotifyTable {
    pub(in crate::config) pagerduty: Option<String>,
    pub(in crate::config) opsgenie: Option<String>,
    pub(in crate::config) slack: Option<String>,
    pub(in crate::config) email: Option<EmailTable>,
    pub(in crate::config) webhook: Option<String>,
    pub(in crate::config) statuspage: Option<String>,
    pub(in crate::config) page: Option<String>,
    pub(in crate::config) url: Option<String>,
    pub(in crate::config) api: Option<String>,
    pub(in crate::config) token: Option<String>,
    pub(in crate::config) from: Option<String>,
    pub(in crate::config) secret: Option<String>,
    pub(in crate::config) name: Option<String>,
    pub(in crate::config) access_key_id: Option<String>,
    pub(in crate::config) secret_access_key: Option<String>,
    pub(in crate::config) template: Option<String>,
    pub(in crate::config) escalate: Option<EscalateTable>,
}

/// Mail.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct EmailTable {
    pub(in crate::config) server: String,
    pub(in crate::config) from: String,
    pub(in crate::config) to: Vec<String>,
    pub(in crate::config) login: Option<String>,
    #[serde(default)]
    pub(in crate::config) plain: bool,
}

/// Who is told when nobody answers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct EscalateTable {
    pub(in crate::config) after: String,
    pub(in crate::config) to: String,
}

/// A text for stakeholders.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct TemplateTable {
    pub(in crate::config) subject: Option<String>,
    pub(in crate::config) text: Option<String>,
    pub(in crate::config) file: Option<String>,
}

/// What a service's alerts are known by: every label must be the same.
pub(in crate::config) type AlertTable = BTreeMap<String, String>;

/// What people are told of a service.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct AboutTable {
    pub(in crate::config) environment: Option<String>,
    pub(in crate::config) contact: Option<String>,
    pub(in crate::config) impact: Option<String>,
    pub(in crate::config) runbook: Option<String>,
}
