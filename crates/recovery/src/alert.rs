//! Alerts of monitoring systems: untrusted bytes in, alerts out. Nothing here panics, whatever the
//! bytes are, and no text of an alert carries control characters to a terminal.
//!
//! Sources: Alertmanager's webhook (`notify/webhook/webhook.go`, version 4), CloudWatch alarms in
//! SNS envelopes, PagerDuty's V3 webhooks, and JSON of one's own.

mod alertmanager;
mod cloudwatch;
mod generic;
mod pagerduty;
pub mod signature;

use jiff::Timestamp;
use serde_json::Value;
use stdx::diagnostic::{CodeInfo, Diagnostic, Exit, Retry};

use crate::plan::Parameters;

/// The longest payload that is read, in bytes: SNS sends at most 256 KiB, Alertmanager as much as
/// its `max_alerts` lets through.
pub const PAYLOAD_LEN_MAX: usize = 4 << 20;

/// So many alerts of one payload are read; the rest counts as cut off.
pub const ALERTS_MAX: usize = 256;

/// So many labels of one alert are kept.
const LABELS_MAX: usize = 64;

/// The longest text that is kept, in characters: PagerDuty's longest summary.
const TEXT_LEN_MAX: usize = 1024;

/// Who sent an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// JSON of one's own.
    Generic,
    /// Prometheus' Alertmanager.
    Alertmanager,
    /// CloudWatch, through SNS.
    CloudWatch,
    /// PagerDuty.
    PagerDuty,
}

impl Source {
    /// For people and journals.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Alertmanager => "alertmanager",
            Self::CloudWatch => "cloudwatch",
            Self::PagerDuty => "pagerduty",
        }
    }

    /// By the name that [`Source::text`] gives.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Generic, Self::Alertmanager, Self::CloudWatch, Self::PagerDuty];
        all.into_iter().find(|source| source.text() == text)
    }

    /// Whether its keys name one time that an alert fired: a repeat is no other time, also when the
    /// incident is closed.
    #[must_use]
    pub const fn names_each_time(self) -> bool {
        matches!(self, Self::Alertmanager | Self::CloudWatch)
    }
}

/// What an alert says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It fires.
    Firing,
    /// It is over: noted, and no reason to close an incident.
    Resolved,
    /// Somebody has taken it over there.
    Acknowledged(String),
    /// Anything else that happened to it.
    Said(String),
}

/// How bad it is, in PagerDuty's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Users suffer.
    Critical,
    /// Something is broken.
    Error,
    /// Something will be.
    Warning,
    /// For the record.
    Info,
}

impl Severity {
    /// As PagerDuty writes it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }

    /// What monitoring systems and people call it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "critical" | "page" | "fatal" | "emergency" | "high" | "p1" | "sev1" => Self::Critical,
            "error" | "major" | "p2" | "sev2" => Self::Error,
            "warning" | "warn" | "minor" | "low" | "p3" | "sev3" => Self::Warning,
            "info" | "informational" | "none" | "p4" | "p5" => Self::Info,
            _ => return None,
        })
    }
}

/// One alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Who sent it.
    pub source: Source,
    /// The same for every repeat; `None`: it does not say who it is.
    pub key: Option<String>,
    /// What it is about: the same when it fires and when it is over.
    pub subject: Option<String>,
    /// What it says of itself.
    pub status: Status,
    /// What happened.
    pub summary: String,
    /// Since when.
    pub started: Option<Timestamp>,
    /// How bad it is.
    pub severity: Option<Severity>,
    /// What services are found by.
    pub labels: Parameters,
    /// Where to read more.
    pub links: Vec<String>,
}

/// What one payload carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Its alerts.
    pub alerts: Vec<Alert>,
    /// How many the sender, or our limit, has left out.
    pub truncated: u64,
}

/// Why a payload is no alert.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlertError {
    /// It is too long.
    #[error("expected an alert of at most {PAYLOAD_LEN_MAX} bytes, seen {0}")]
    TooLong(usize),
    /// It is no JSON.
    #[error("expected an alert as JSON: {0}")]
    NotJson(String),
    /// It is of no known kind.
    #[error("expected an alert of Alertmanager, CloudWatch or PagerDuty, or 'summary'; {0}")]
    Unknown(String),
    /// It lacks something.
    #[error("expected '{field}' in an alert of {}, seen none", source_text(.from))]
    Missing {
        /// Who sent it.
        from: Source,
        /// What it lacks.
        field: &'static str,
    },
    /// It is about the channel itself.
    #[error("this is no alert, it is '{kind}' of {sender}")]
    Control {
        /// What it is.
        kind: String,
        /// Who sent it.
        sender: &'static str,
        /// What to do about it.
        hint: String,
    },
    /// It was not signed by whom it should be.
    #[error("the alert's signature does not fit: {0}")]
    Signature(String),
}

fn source_text(source: &Source) -> &'static str {
    source.text()
}

/// What cannot be read.
pub(crate) const UNREADABLE: CodeInfo = CodeInfo {
    code: "RF1021",
    title: "an alert cannot be read",
    retry: Retry::Permanent,
    exit: Exit::Usage,
};

/// What somebody else may have sent.
pub(crate) const UNSIGNED: CodeInfo = CodeInfo {
    code: "RF1022",
    title: "the signature of an alert does not fit",
    retry: Retry::Permanent,
    exit: Exit::Refused,
};

impl Diagnostic for AlertError {
    fn info(&self) -> &'static CodeInfo {
        match self {
            Self::Signature(_) => &UNSIGNED,
            _ => &UNREADABLE,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Control { hint, .. } => vec![hint.clone()],
            Self::Signature(_) => vec![
                "pass the body as it came, byte for byte, and the secret or certificate of its sender"
                    .into(),
            ],
            _ => vec!["docs/guide/alerts.md shows what is understood".into()],
        }
    }
}

/// Reads a payload of whoever it looks like.
///
/// # Errors
/// [`AlertError`]; never a panic.
pub fn parse(bytes: &[u8]) -> Result<Payload, AlertError> {
    parse_as(bytes, None)
}

/// Reads a payload of this sender; `None`: of whoever it looks like.
///
/// # Errors
/// [`AlertError`]; never a panic.
pub fn parse_as(bytes: &[u8], source: Option<Source>) -> Result<Payload, AlertError> {
    let value = json(bytes)?;
    let mut payload = match source.unwrap_or_else(|| guessed(&value)) {
        Source::CloudWatch => cloudwatch::read(&value)?,
        Source::Alertmanager => alertmanager::read(&value)?,
        Source::PagerDuty => pagerduty::read(&value)?,
        Source::Generic => generic::read(&value)?,
    };
    let over = payload.alerts.len().saturating_sub(ALERTS_MAX);
    payload.truncated = payload.truncated.saturating_add(over as u64);
    payload.alerts.truncate(ALERTS_MAX);
    Ok(payload)
}

fn guessed(value: &Value) -> Source {
    let is_text = |name: &str| value.get(name).is_some_and(Value::is_string);
    if is_text("Type") && value.get("TopicArn").is_some() {
        Source::CloudWatch
    } else if value.get("alerts").is_some_and(Value::is_array) {
        Source::Alertmanager
    } else if value.pointer("/event/event_type").is_some() {
        Source::PagerDuty
    } else {
        Source::Generic
    }
}

fn json(bytes: &[u8]) -> Result<Value, AlertError> {
    if bytes.len() > PAYLOAD_LEN_MAX {
        return Err(AlertError::TooLong(bytes.len()));
    }
    serde_json::from_slice(bytes).map_err(|error| AlertError::NotJson(error.to_string()))
}

/// A text as it may be kept and shown: bounded, in one line, without control characters.
#[must_use]
pub fn shown(text: &str) -> String {
    let safe = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    safe.take(TEXT_LEN_MAX).collect::<String>().trim().to_owned()
}

/// A text of an object, as it may be shown; `None` when there is none or it is empty.
fn field(value: &Value, pointer: &str) -> Option<String> {
    let text = value.pointer(pointer).and_then(Value::as_str).map(shown)?;
    (!text.is_empty()).then_some(text)
}

fn labels(value: Option<&Value>) -> Parameters {
    let map = value.and_then(Value::as_object).into_iter().flatten();
    let texts = map.filter_map(|(name, value)| Some((shown(name), shown(value.as_str()?))));
    texts.take(LABELS_MAX).collect()
}

/// A moment; without its offset from UTC it is none.
fn moment(value: &Value, pointer: &str) -> Option<Timestamp> {
    let text = value.pointer(pointer)?.as_str()?;
    let known = text.parse().ok();
    known.or_else(|| Timestamp::strptime("%Y-%m-%dT%H:%M:%S%.f%z", text).ok())
}

fn links(texts: impl IntoIterator<Item = Option<String>>) -> Vec<String> {
    let is_link = |text: &String| text.starts_with("https://") || text.starts_with("http://");
    texts.into_iter().flatten().filter(is_link).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_alert_is_refused_by_name() {
        let refused = |bytes: &[u8]| parse(bytes).unwrap_err();
        assert!(matches!(refused(b"{"), AlertError::NotJson(_)));
        assert!(matches!(refused(b"[1]"), AlertError::Unknown(_)));
        assert!(matches!(refused(&vec![b' '; PAYLOAD_LEN_MAX + 1]), AlertError::TooLong(_)));
        let unknown = refused(br#"{"message": "x"}"#).to_string();
        assert!(unknown.ends_with("seen: message"), "{unknown}");
    }

    #[test]
    fn texts_are_bounded_and_harmless_on_a_terminal() {
        assert_eq!(shown("\u{1b}[2Jgone\r\n "), "[2Jgone");
        assert_eq!(shown(&"ä".repeat(5000)).chars().count(), TEXT_LEN_MAX);
    }
}
