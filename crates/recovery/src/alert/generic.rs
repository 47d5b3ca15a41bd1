//! JSON of one's own: `summary`, and whatever else is known.

use serde_json::Value;

use super::{Alert, AlertError, Payload, Severity, Source, Status, field, labels, links, moment};

pub(super) fn read(value: &Value) -> Result<Payload, AlertError> {
    let Some(object) = value.as_object() else {
        return Err(AlertError::Unknown("seen no object".into()));
    };
    let text = |name: &str| field(value, &format!("/{name}"));
    let Some(summary) = text("summary") else {
        let mut names: Vec<String> = object.keys().take(8).map(|name| super::shown(name)).collect();
        names.sort();
        return Err(AlertError::Unknown(format!("seen: {}", names.join(", "))));
    };
    let key = ["dedup_key", "key", "id"].into_iter().find_map(text);
    let listed = value.get("links").and_then(Value::as_array);
    let listed = listed.into_iter().flatten().map(|it| it.as_str().map(super::shown));
    let mut labels = labels(value.get("labels"));
    for name in ["service", "alertname"] {
        if let Some(text) = text(name) {
            labels.entry(name.into()).or_insert(text);
        }
    }
    let alert = Alert {
        source: Source::Generic,
        subject: key.clone(),
        key,
        status: match text("status").as_deref() {
            Some("resolved" | "ok") => Status::Resolved,
            _ => Status::Firing,
        },
        summary,
        started: moment(value, "/started_at"),
        severity: text("severity").and_then(|text| Severity::parse(&text)),
        labels,
        links: links(listed),
    };
    Ok(Payload { alerts: vec![alert], truncated: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_there_is() {
        let text = r#"{"summary": "orders are gone", "started_at": "2026-11-20T14:31:06Z", "x": 1,
            "service": "shop", "severity": "P1", "links": ["https://x/y", "javascript:x"]}"#;
        let payload = crate::alert::parse(text.as_bytes()).unwrap();
        let alert = &payload.alerts[0];
        assert_eq!((alert.summary.as_str(), &alert.key), ("orders are gone", &None));
        assert_eq!(alert.started.unwrap().to_string(), "2026-11-20T14:31:06Z");
        assert_eq!(
            (alert.severity, alert.labels["service"].as_str()),
            (Some(Severity::Critical), "shop")
        );
        assert_eq!(alert.links, ["https://x/y"]);
    }
}
