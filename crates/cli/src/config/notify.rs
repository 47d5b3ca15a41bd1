//! `[notify]`, `[template.NAME]`, and what a service says of its alerts: checked and typed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::service::{Problem, one_of, reference, span, wrong};
use super::wire;

/// A channel that people are told through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Channel {
    /// What it is.
    pub(crate) kind: ChannelKind,
    /// The template that its messages are made from, by name.
    pub(crate) template: Option<String>,
    /// After how long without an answer which person is told.
    pub(crate) escalate: Option<(Duration, String)>,
}

/// What a channel is; secrets are references.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChannelKind {
    /// PagerDuty.
    PagerDuty {
        /// The routing key.
        key: String,
        /// Where events go.
        url: String,
        /// Where the REST API is, its token, and whose name is used.
        rest: Option<(String, String, String)>,
    },
    /// Opsgenie: the key, and where it is.
    Opsgenie {
        /// The key.
        key: String,
        /// Where it is.
        url: String,
    },
    /// A Slack incoming webhook: its address is the secret.
    Slack(String),
    /// Mail.
    Email {
        /// Host and port.
        server: String,
        /// The sender.
        from: String,
        /// The recipients.
        to: Vec<String>,
        /// `user:password`.
        login: Option<String>,
        /// Without TLS: for a relay on this machine.
        is_plain: bool,
    },
    /// A POST of JSON, signed when there is a secret.
    Webhook {
        /// Where to.
        url: String,
        /// The secret that signs.
        secret: Option<String>,
    },
    /// A status page at a vendor.
    StatusPage {
        /// The page's id.
        page: String,
        /// The key.
        key: String,
        /// Where the API is.
        url: String,
        /// What users call the service.
        name: String,
    },
    /// A status page of one's own.
    Page {
        /// Where it is.
        place: PagePlace,
        /// What users call the service.
        name: String,
    },
}

/// Where a status page of one's own is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PagePlace {
    /// In this directory.
    Directory(PathBuf),
    /// In a bucket.
    Bucket {
        /// Its name.
        bucket: String,
        /// What its keys begin with.
        prefix: String,
        /// `region`, `endpoint`.
        options: BTreeMap<String, String>,
        /// Id and secret of the key, when they do not come from the environment.
        key: Option<(String, String)>,
    },
}

/// A text for stakeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemplateConfig {
    /// The subject of a mail.
    pub(crate) subject: Option<String>,
    /// The text, or the file that holds it.
    pub(crate) text: TemplateText,
}

/// Where a template's text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TemplateText {
    /// In the configuration.
    Here(String),
    /// In a file.
    File(PathBuf),
}

/// What a service says of its alerts, and what people are told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AboutService {
    /// An alert that has all labels of one of these is the service's.
    pub(crate) alerts: Vec<BTreeMap<String, String>>,
    /// `environment`, `contact`, `impact`, `runbook`, when they are known.
    pub(crate) values: BTreeMap<String, String>,
}

/// A template of `[template.NAME]`.
pub(super) fn template(table: wire::TemplateTable) -> Result<TemplateConfig, Problem> {
    let text = match (table.text, table.file) {
        (Some(text), None) => TemplateText::Here(text),
        (None, Some(file)) if file.starts_with('/') => TemplateText::File(file.into()),
        _ => return wrong("", "expected exactly one of: text, file (an absolute path)"),
    };
    Ok(TemplateConfig { subject: table.subject, text })
}

/// What a service's table says of its alerts.
pub(super) fn about(
    alerts: Vec<wire::AlertTable>,
    table: wire::AboutTable,
) -> Result<AboutService, Problem> {
    if alerts.iter().any(BTreeMap::is_empty) {
        return wrong("alerts", "expected labels: an empty table would match every alert");
    }
    let values = [
        ("environment", table.environment),
        ("contact", table.contact),
        ("impact", table.impact),
        ("runbook", table.runbook),
    ];
    let known = values.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Ok(AboutService { alerts, values: known.collect() })
}

/// A channel of `[notify]`.
pub(super) fn channel(name: &str, mut table: wire::NotifyTable) -> Result<Channel, Problem> {
    let kinds = [
        ("pagerduty", table.pagerduty.take()),
        ("opsgenie", table.opsgenie.take()),
        ("slack", table.slack.take()),
        ("email", table.email.as_ref().map(|_| String::new())),
        ("webhook", table.webhook.take()),
        ("statuspage", table.statuspage.take()),
        ("page", table.page.take()),
    ];
    let (kind, value) = one_of("", &kinds)?;
    let escalate = match table.escalate.take() {
        None => None,
        Some(escalate) => Some((span("escalate.after", &escalate.after)?, escalate.to)),
    };
    let template = table.template.take();
    let kind = kind_of(kind, value, name, &mut table)?;
    let left = [
        ("url", &table.url),
        ("api", &table.api),
        ("token", &table.token),
        ("from", &table.from),
        ("secret", &table.secret),
        ("name", &table.name),
        ("access_key_id", &table.access_key_id),
        ("secret_access_key", &table.secret_access_key),
    ];
    match left.iter().find(|(_, value)| value.is_some()) {
        Some((key, _)) => wrong(key, "does not belong to this kind of channel"),
        None => Ok(Channel { kind, template, escalate }),
    }
}

/// Takes what belongs to a kind out of the table.
fn kind_of(
    kind: &str,
    value: String,
    name: &str,
    table: &mut wire::NotifyTable,
) -> Result<ChannelKind, Problem> {
    let url = |table: &mut wire::NotifyTable, default: &str| {
        table.url.take().unwrap_or_else(|| default.into())
    };
    let public = |table: &mut wire::NotifyTable| table.name.take().unwrap_or_else(|| name.into());
    Ok(match (kind, table.email.take()) {
        ("pagerduty", _) => ChannelKind::PagerDuty {
            key: reference("pagerduty", &value)?,
            url: url(table, providers::PAGERDUTY_URL),
            rest: rest(table)?,
        },
        ("opsgenie", _) => ChannelKind::Opsgenie {
            key: reference("opsgenie", &value)?,
            url: url(table, providers::OPSGENIE_URL),
        },
        ("slack", _) => ChannelKind::Slack(reference("slack", &value)?),
        ("statuspage", _) => {
            let is_of_id = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if value.is_empty() || !value.chars().all(is_of_id) {
                return wrong("statuspage", "expected the id of a page");
            }
            let Some(token) = table.token.take() else {
                return wrong("token", "expected a reference to the API key of the page");
            };
            ChannelKind::StatusPage {
                page: value,
                key: reference("token", &token)?,
                url: url(table, providers::STATUSPAGE_URL),
                name: public(table),
            }
        }
        ("page", _) => ChannelKind::Page { place: place(&value, table)?, name: public(table) },
        (_, Some(email)) => ChannelKind::Email {
            server: email.server,
            from: email.from,
            to: email.to,
            login: email.login.map(|text| reference("email.login", &text)).transpose()?,
            is_plain: email.plain,
        },
        _ => ChannelKind::Webhook {
            url: value,
            secret: table.secret.take().map(|text| reference("secret", &text)).transpose()?,
        },
    })
}

/// Access to PagerDuty's REST API: token and user go together.
fn rest(table: &mut wire::NotifyTable) -> Result<Option<(String, String, String)>, Problem> {
    match (table.token.take(), table.from.take()) {
        (None, None) => Ok(None),
        (Some(token), Some(from)) if from.contains('@') => {
            let api = table.api.take().unwrap_or_else(|| providers::PAGERDUTY_API.into());
            Ok(Some((api, reference("token", &token)?, from)))
        }
        _ => wrong("token", "expected 'token' and 'from', the mail address of a user, together"),
    }
}

/// A directory, or `s3://BUCKET/PREFIX?region=…&endpoint=…`.
fn place(text: &str, table: &mut wire::NotifyTable) -> Result<PagePlace, Problem> {
    if text.starts_with('/') {
        return Ok(PagePlace::Directory(text.into()));
    }
    let Some(rest) = text.strip_prefix("s3://") else {
        return wrong("page", format!("expected an absolute path or 's3://BUCKET', seen '{text}'"));
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    if bucket.is_empty() || bucket.contains('@') {
        return wrong("page", "expected the name of a bucket behind 's3://'");
    }
    let mut options = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some((name @ ("region" | "endpoint"), value)) => {
                options.insert(name.to_owned(), value.to_owned());
            }
            _ => return wrong("page", format!("expected region or endpoint, seen '{pair}'")),
        }
    }
    let key = match (table.access_key_id.take(), table.secret_access_key.take()) {
        (None, None) => None,
        (Some(id), Some(secret)) => {
            Some((reference("access_key_id", &id)?, reference("secret_access_key", &secret)?))
        }
        _ => return wrong("access_key_id", "expected it together with 'secret_access_key'"),
    };
    let prefix = prefix.trim_matches('/').to_owned();
    Ok(PagePlace::Bucket { bucket: bucket.into(), prefix, options, key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &str) {
        let table: wire::NotifyTable = toml::from_str(text).unwrap();
        let seen = match channel("c", table) {
            Ok(channel) => format!("{:?}", channel.kind),
            Err((key, why)) => format!("{key}: {why}"),
        };
        assert!(seen.contains(expect), "{seen}");
    }

    #[test]
    fn a_key_belongs_to_its_kind_and_secrets_are_references() {
        check("opsgenie = \"env:K\"", "api.opsgenie.com");
        check("pagerduty = \"env:K\"", "events.pagerduty.com/v2/enqueue\", rest: None");
        check("pagerduty = \"env:K\"\ntoken = \"env:T\"\nfrom = \"a@b\"", "api.pagerduty.com");
        check("pagerduty = \"env:K\"\ntoken = \"env:T\"", "token: expected 'token' and 'from'");
        check("slack = \"env:K\"\nurl = \"http://x\"", "url: does not belong to this kind");
        check("statuspage = \"p\"", "token: expected a reference");
        check("statuspage = \"p/../q\"\ntoken = \"env:T\"", "expected the id of a page");
        check("page = \"relative\"", "expected an absolute path");
        check("page = \"s3://b/p/q?region=x\"", "bucket: \"b\", prefix: \"p/q\"");
        check("page = \"s3://b?style=path\"", "seen 'style=path'");
        check("page = \"s3://b\"\naccess_key_id = \"env:I\"", "together with");
        check("webhook = \"http://x\"\nslack = \"env:K\"", "expected exactly one of");
        let hidden: wire::NotifyTable = toml::from_str("opsgenie = \"hunter2\"").unwrap();
        assert!(!channel("c", hidden).unwrap_err().1.contains("hunter2"));
    }
}
