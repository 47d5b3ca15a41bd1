//! Alertmanager's webhook, version 4. Repeats every `repeat_interval`; an alert is the same one as
//! long as fingerprint and beginning are.

use serde_json::Value;

use super::{Alert, AlertError, Payload, Severity, Source, Status, field, labels, links, moment};

/// The version that is understood.
const VERSION: &str = "4";

pub(super) fn read(value: &Value) -> Result<Payload, AlertError> {
    let version = field(value, "/version").unwrap_or_default();
    if version != VERSION {
        let seen = format!("seen 'alerts' of version '{version}', expected '{VERSION}'");
        return Err(AlertError::Unknown(seen));
    }
    let alerts = value.get("alerts").and_then(Value::as_array).into_iter().flatten();
    let alerts: Result<Vec<Alert>, AlertError> =
        alerts.take(super::ALERTS_MAX + 1).map(|alert| one(value, alert)).collect();
    let truncated = value.get("truncatedAlerts").and_then(Value::as_u64).unwrap_or_default();
    Ok(Payload { alerts: alerts?, truncated })
}

fn one(group: &Value, alert: &Value) -> Result<Alert, AlertError> {
    let missing = |field| AlertError::Missing { from: Source::Alertmanager, field };
    let fingerprint = field(alert, "/fingerprint").ok_or_else(|| missing("fingerprint"))?;
    let started = moment(alert, "/startsAt").ok_or_else(|| missing("startsAt"))?;
    let labels = labels(alert.get("labels"));
    let summary = ["/annotations/summary", "/annotations/description", "/labels/alertname"];
    let summary = summary.into_iter().find_map(|pointer| field(alert, pointer));
    let severity = labels.get("severity").and_then(|text| Severity::parse(text));
    Ok(Alert {
        source: Source::Alertmanager,
        key: Some(format!("{fingerprint} {started}")),
        subject: Some(fingerprint),
        status: match field(alert, "/status").as_deref() {
            Some("resolved") => Status::Resolved,
            _ => Status::Firing,
        },
        summary: summary.unwrap_or_else(|| "an alert without a name".into()),
        started: Some(started),
        severity,
        links: links([
            field(alert, "/annotations/runbook_url"),
            field(alert, "/generatorURL"),
            field(group, "/externalURL"),
        ]),
        labels,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"{"version": "4", "groupKey": "{}:{}", "truncatedAlerts": 3,
        "status": "firing", "receiver": "r", "externalURL": "http://am:9093", "alerts": [
        {"status": "firing", "labels": {"alertname": "OrdersGone", "service": "shop",
         "severity": "page"}, "annotations": {"summary": "orders are gone",
         "runbook_url": "https://wiki/orders"}, "startsAt": "2026-11-20T14:31:06.123Z",
         "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://prom/g", "fingerprint": "f1"},
        {"status": "resolved", "labels": {"alertname": "Slow"}, "annotations": {},
         "startsAt": "2026-11-20T14:00:00+01:00", "endsAt": "2026-11-20T15:00:00Z",
         "generatorURL": "", "fingerprint": "f2"}]}"#;

    #[test]
    fn each_alert_has_its_own_key_and_what_was_cut_off_is_counted() {
        let payload = crate::alert::parse(TWO.as_bytes()).unwrap();
        assert_eq!(payload.truncated, 3);
        let [gone, slow] = &payload.alerts[..] else { panic!("{payload:?}") };
        assert_eq!(gone.key.as_deref(), Some("f1 2026-11-20T14:31:06.123Z"));
        assert_eq!(gone.severity, Some(Severity::Critical));
        assert_eq!(gone.links, ["https://wiki/orders", "http://prom/g", "http://am:9093"]);
        assert_eq!((&slow.status, slow.summary.as_str()), (&Status::Resolved, "Slow"));
        assert_eq!(slow.key.as_deref(), Some("f2 2026-11-20T13:00:00Z"));
    }

    #[test]
    fn another_version_and_an_alert_without_identity_are_refused() {
        let of = |from, to| crate::alert::parse(TWO.replace(from, to).as_bytes()).unwrap_err();
        let other = of("\"version\": \"4\"", "\"version\": \"5\"").to_string();
        assert!(other.ends_with("of version '5', expected '4'"), "{other}");
        let nobody = of("\"fingerprint\": \"f2\"", "\"fingerprint\": \"\"");
        let expected = AlertError::Missing { from: Source::Alertmanager, field: "fingerprint" };
        assert_eq!(nobody, expected);
    }
}
