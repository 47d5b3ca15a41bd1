//! PagerDuty: the Events API v2, and the REST API for incidents that began there.
//!
//! Sources: the OpenAPI descriptions of `POST /v2/enqueue`, `PUT /incidents/{id}` and
//! `POST /incidents/{id}/notes`. Routing key and token are secrets: no error shows them.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::about::{About, Action, CRITICAL, action, severity};
use super::send::{Refusal, client, send};
use recovery::effect::Failure;

/// Where PagerDuty takes events outside of its EU region.
pub const PAGERDUTY_URL: &str = "https://events.pagerduty.com/v2/enqueue";

/// Where its REST API is, outside of its EU region.
pub const PAGERDUTY_API: &str = "https://api.pagerduty.com";

/// Longest summary that PagerDuty takes, in characters.
const SUMMARY_LEN_MAX: usize = 1024;

/// Longest note, in characters.
const NOTE_LEN_MAX: usize = 2000;

/// A PagerDuty channel.
pub struct PagerDuty {
    /// Where events go.
    pub url: String,
    /// The routing key.
    pub key: Zeroizing<String>,
    /// The REST API, when it may be used.
    pub rest: Option<PagerDutyRest>,
}

/// Access to PagerDuty's REST API.
pub struct PagerDutyRest {
    /// Where it is.
    pub url: String,
    /// The token.
    pub token: Zeroizing<String>,
    /// The mail address of the user who acts.
    pub from: String,
}

impl PagerDuty {
    pub(super) async fn tell(
        &self,
        about: &About,
        (what, text): (&str, &str),
        deadline: Duration,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        // People who were paged by PagerDuty itself are not paged a second time.
        let theirs = about.value("pagerduty_incident").filter(|_| !CRITICAL.contains(&what));
        let keys = match action(what) {
            Action::Trigger if theirs.is_some() => Vec::new(),
            Action::Trigger => vec![about.key(what)],
            // What they were paged with later is ours, also when the incident is theirs.
            Action::Acknowledge | Action::Resolve => about.keys(),
        };
        let http = client("PagerDuty", deadline)?;
        for key in keys {
            let event = event(&self.key, about, (&key, what), text);
            send("PagerDuty", http.post(&self.url).json(&event), now).await?;
        }
        match theirs {
            Some(incident) => self.say_there(incident, about, (what, text), deadline, now).await,
            None => Ok(()),
        }
    }

    /// Says something of an incident that began in PagerDuty.
    async fn say_there(
        &self,
        incident: &str,
        about: &About,
        (what, text): (&str, &str),
        deadline: Duration,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        if what == "incident opened" {
            return Ok(());
        }
        let Some(rest) = &self.rest else {
            let why = format!("incident {incident} began in PagerDuty: expected its REST API");
            return Err(Failure::terminal("RF1109", why)
                .hint("set 'token' and 'from' of the channel in [notify]")
                .into());
        };
        let is_of_id = |c: char| c.is_ascii_alphanumeric();
        if !incident.chars().all(is_of_id) {
            let why = format!("'{incident}' is no id of PagerDuty");
            return Err(Failure::terminal("RF1109", why).into());
        }
        let url = format!("{}/incidents/{incident}", rest.url.trim_end_matches('/'));
        let http = client("PagerDuty", deadline)?;
        let status = match action(what) {
            Action::Acknowledge => Some("acknowledged"),
            Action::Resolve => Some("resolved"),
            Action::Trigger => None,
        };
        let request = match status {
            Some(status) => http.put(url).json(&json!({
                "incident": { "type": "incident_reference", "status": status },
            })),
            None => {
                let note = format!("[{}] {what}: {text}", about.service);
                let note: String = note.chars().take(NOTE_LEN_MAX).collect();
                http.post(format!("{url}/notes")).json(&json!({ "note": { "content": note } }))
            }
        };
        let request = request
            .header("authorization", format!("Token token={}", rest.token.as_str()))
            .header("accept", "application/vnd.pagerduty+json;version=2")
            .header("from", &rest.from);
        send("PagerDuty", request, now).await.map(drop)
    }
}

/// The event of something that is told, for the alert of this key.
fn event(routing: &str, about: &About, (key, what): (&str, &str), text: &str) -> Value {
    let act = action(what);
    let mut event = json!({
        "routing_key": routing,
        "event_action": match act {
            Action::Trigger => "trigger",
            Action::Acknowledge => "acknowledge",
            Action::Resolve => "resolve",
        },
        "dedup_key": key,
    });
    let Some(fields) = event.as_object_mut() else { return event };
    if act != Action::Trigger {
        return event;
    }
    let service = &about.service;
    let summary = format!("[{service}] {what}: {}", text.lines().next().unwrap_or_default());
    let details = json!({
        "text": text, "incident": about.value("incident"), "run": about.value("run"),
        "runbook": about.value("runbook"),
    });
    fields.insert("client".into(), "Rollforward".into());
    fields.insert(
        "payload".into(),
        json!({
            "summary": summary.chars().take(SUMMARY_LEN_MAX).collect::<String>(),
            "source": service,
            "severity": severity(about, what),
            "custom_details": details,
        }),
    );
    let runbook = about.value("runbook").filter(|it| it.starts_with("http"));
    let runbook = runbook.map(|href| json!({ "href": href, "text": "runbook" }));
    let others = about.value("links").unwrap_or_default().split(' ').filter(|it| !it.is_empty());
    let others = others.map(|href| json!({ "href": href, "text": "alert" }));
    let links: Vec<Value> = runbook.into_iter().chain(others).collect();
    if !links.is_empty() {
        fields.insert("links".into(), links.into());
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_begins_joins_and_ends() {
        let values = [("runbook", "https://wiki/shop"), ("severity", "error")];
        let values = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let about = About { service: "shop".into(), values: values.into(), ..About::default() };
        let of = |what, text| event("R0", &about, (&about.key(what), what), text);
        let begun = of("recovery begun", "to 0/1\nmore");
        assert_eq!(begun["event_action"], "trigger");
        assert_eq!(begun["payload"]["summary"], "[shop] recovery begun: to 0/1");
        assert_eq!(begun["payload"]["severity"], "warning");
        assert_eq!(begun["payload"]["custom_details"]["text"], "to 0/1\nmore");
        assert_eq!(begun["links"][0]["href"], "https://wiki/shop");
        assert_eq!(of("halted", "look")["payload"]["severity"], "critical");
        assert_eq!(of("incident opened", "look")["payload"]["severity"], "error");
        let taken = of("incident acknowledged", "by Ada");
        assert_eq!(
            (&taken["event_action"], &taken["payload"]),
            (&"acknowledge".into(), &Value::Null)
        );
        for what in ["restored", "incident closed"] {
            let ended = of(what, "new");
            assert_eq!(ended["event_action"], "resolve");
            assert_eq!(ended["dedup_key"], begun["dedup_key"], "the same alert");
        }
        let long = "ä".repeat(5000);
        let summary = of("halted", &long)["payload"]["summary"].as_str().unwrap().chars().count();
        assert_eq!(summary, SUMMARY_LEN_MAX);
    }
}
