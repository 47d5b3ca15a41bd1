//! PagerDuty's V3 webhooks: one event about one incident of theirs.

use serde_json::Value;

use super::{Alert, AlertError, Payload, Severity, Source, Status, field, links, moment};
use crate::plan::Parameters;

pub(super) fn read(value: &Value) -> Result<Payload, AlertError> {
    let kind = field(value, "/event/event_type").unwrap_or_default();
    if kind == "pagey.ping" {
        let hint = "the webhook works; alerts come as 'incident.triggered'".into();
        return Err(AlertError::Control { kind, sender: "PagerDuty", hint });
    }
    let Some(what) = kind.strip_prefix("incident.") else {
        let hint = "subscribe the webhook to events of incidents".into();
        return Err(AlertError::Control { kind, sender: "PagerDuty", hint });
    };
    let data = value.pointer("/event/data").unwrap_or(&Value::Null);
    // Some events are about a part of an incident and carry a reference to it.
    let incident = if data.get("incident").is_some() { data.get("incident") } else { Some(data) };
    let incident = incident.unwrap_or(&Value::Null);
    let missing = |field| AlertError::Missing { from: Source::PagerDuty, field };
    let id = field(incident, "/id").ok_or_else(|| missing("event.data.id"))?;
    let agent = field(value, "/event/agent/summary").unwrap_or_else(|| "somebody".into());
    let mut labels = Parameters::new();
    for (name, pointer) in [
        ("pagerduty_service", "/service/summary"),
        ("pagerduty_service_id", "/service/id"),
        ("incident_key", "/incident_key"),
        ("title", "/title"),
    ] {
        if let Some(text) = field(incident, pointer) {
            labels.insert(name.into(), text);
        }
    }
    let priority = field(incident, "/priority/summary").and_then(|text| Severity::parse(&text));
    let urgency = field(incident, "/urgency").and_then(|text| Severity::parse(&text));
    let alert = Alert {
        source: Source::PagerDuty,
        key: Some(id.clone()),
        subject: Some(id),
        status: match what {
            "triggered" | "reopened" => Status::Firing,
            "resolved" => Status::Resolved,
            "acknowledged" => Status::Acknowledged(agent),
            other => Status::Said(format!("{other} by {agent}")),
        },
        summary: field(incident, "/title")
            .or_else(|| field(incident, "/summary"))
            .unwrap_or_else(|| "an incident without a title".into()),
        started: moment(incident, "/created_at").or_else(|| moment(value, "/event/occurred_at")),
        severity: priority.or(urgency),
        labels,
        links: links([field(incident, "/html_url")]),
    };
    Ok(Payload { alerts: vec![alert], truncated: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIGGERED: &str = r#"{"event": {"id": "01E", "event_type":
        "incident.triggered", "resource_type": "incident", "occurred_at": "2026-11-20T14:31:07Z",
        "agent": {"id": "P1", "type": "user_reference", "summary": "Ada"}, "client": null, "data":
        {"id": "PGR0VU2", "type": "incident", "html_url": "https://acme.pagerduty.com/i/PGR0VU2",
        "number": 2, "status": "triggered", "incident_key": "abc", "created_at":
        "2026-11-20T14:31:06Z", "title": "orders are gone", "service": {"id": "PF9KMXH", "summary":
        "Shop"}, "urgency": "high", "priority": {"summary": "P2"}}}}"#;

    #[test]
    fn events_of_one_incident_share_its_key() {
        let read = |kind: &str| {
            let text = TRIGGERED.replace("incident.triggered", kind);
            crate::alert::parse(text.as_bytes())
        };
        let alert = read("incident.triggered").unwrap().alerts.remove(0);
        assert_eq!((alert.key.as_deref(), &alert.status), (Some("PGR0VU2"), &Status::Firing));
        assert_eq!(alert.severity, Some(Severity::Error));
        assert_eq!(alert.labels["pagerduty_service"], "Shop");
        let taken = read("incident.acknowledged").unwrap().alerts.remove(0);
        assert_eq!((taken.key, taken.status), (alert.key, Status::Acknowledged("Ada".into())));
        let moved = read("incident.escalated").unwrap().alerts.remove(0);
        assert_eq!(moved.status, Status::Said("escalated by Ada".into()));
        for kind in ["pagey.ping", "service.updated"] {
            assert!(matches!(read(kind), Err(AlertError::Control { .. })), "{kind}");
        }
    }
}
