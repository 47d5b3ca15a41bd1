//! CloudWatch alarms as SNS delivers them: an envelope whose `Message` is JSON in a string.
//! `MessageId` is the same for every attempt to deliver.

use serde_json::Value;

use super::{Alert, AlertError, Payload, Source, Status, field, links, moment};
use crate::plan::Parameters;

pub(super) fn read(envelope: &Value) -> Result<Payload, AlertError> {
    let kind = field(envelope, "/Type").unwrap_or_default();
    if kind != "Notification" {
        return Err(control(envelope, kind));
    }
    let missing = |field| AlertError::Missing { from: Source::CloudWatch, field };
    let key = field(envelope, "/MessageId").ok_or_else(|| missing("MessageId"))?;
    let message = envelope.get("Message").and_then(Value::as_str);
    let message = message.ok_or_else(|| missing("Message"))?;
    let alarm: Value = serde_json::from_str(message).unwrap_or_default();
    let Some(name) = field(&alarm, "/AlarmName") else {
        let topic = field(envelope, "/TopicArn").unwrap_or_default();
        let seen = format!("seen a message of topic '{topic}' that is no CloudWatch alarm");
        return Err(AlertError::Unknown(seen));
    };
    let state = field(&alarm, "/NewStateValue").ok_or_else(|| missing("NewStateValue"))?;
    let text = field(&alarm, "/AlarmDescription");
    let reason = field(&alarm, "/NewStateReason").unwrap_or_default();
    let alert = Alert {
        source: Source::CloudWatch,
        key: Some(key),
        subject: field(&alarm, "/AlarmArn").or_else(|| Some(name.clone())),
        status: match state.as_str() {
            "OK" => Status::Resolved,
            // What is not measured any more is no proof that all is well.
            _ => Status::Firing,
        },
        summary: super::shown(&format!("{}: {state}: {reason}", text.as_ref().unwrap_or(&name))),
        started: moment(&alarm, "/StateChangeTime").or_else(|| moment(envelope, "/Timestamp")),
        severity: None,
        labels: labels(&alarm, name, state),
        links: links([]),
    };
    Ok(Payload { alerts: vec![alert], truncated: 0 })
}

fn labels(alarm: &Value, name: String, state: String) -> Parameters {
    let mut labels = Parameters::from([("alarm".into(), name), ("state".into(), state)]);
    let trigger = [
        ("account", "/AWSAccountId"),
        ("region", "/Region"),
        ("metric", "/Trigger/MetricName"),
        ("namespace", "/Trigger/Namespace"),
    ];
    for (name, pointer) in trigger {
        if let Some(text) = field(alarm, pointer) {
            labels.insert(name.into(), text);
        }
    }
    let dimensions = alarm.pointer("/Trigger/Dimensions").and_then(Value::as_array);
    for dimension in dimensions.into_iter().flatten().take(super::LABELS_MAX) {
        if let (Some(name), Some(value)) = (field(dimension, "/name"), field(dimension, "/value")) {
            labels.entry(name).or_insert(value);
        }
    }
    labels
}

/// A message about the subscription itself. It is never obeyed: whoever can post to us could make
/// us fetch any address.
fn control(envelope: &Value, kind: String) -> AlertError {
    let topic = field(envelope, "/TopicArn").unwrap_or_default();
    let hint = match kind.as_str() {
        "SubscriptionConfirmation" => format!(
            "if topic '{topic}' is yours: `aws sns confirm-subscription --topic-arn {topic} --token …` \
             with the message's Token"
        ),
        "UnsubscribeConfirmation" => format!(
            "alarms of '{topic}' do not come any more; if nobody meant that, subscribe again"
        ),
        _ => "expected Type 'Notification'".into(),
    };
    AlertError::Control { kind, sender: "SNS", hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(kind: &str, message: &str) -> String {
        serde_json::json!({
            "Type": kind, "MessageId": "m-1", "TopicArn": "arn:aws:sns:eu-central-1:1:alarms",
            "Message": message, "Timestamp": "2026-11-20T14:31:09.101Z", "Token": "t",
        })
        .to_string()
    }

    const ALARM: &str = r#"{"AlarmName": "shop-db-storage", "AlarmDescription": null,
        "AWSAccountId": "1", "NewStateValue": "ALARM", "OldStateValue": "OK",
        "NewStateReason": "Threshold Crossed", "StateChangeTime": "2026-11-20T14:31:06.123+0000",
        "Region": "EU (Frankfurt)", "AlarmArn": "arn:alarm", "Trigger": {"MetricName":
        "FreeStorageSpace", "Namespace": "AWS/RDS", "Dimensions": [
        {"value": "shop-db", "name": "DBInstanceIdentifier"}]}}"#;

    #[test]
    fn an_alarm_is_read_out_of_its_envelope() {
        let read = |message: &str| {
            crate::alert::parse(envelope("Notification", message).as_bytes()).unwrap().alerts
        };
        let alert = read(ALARM).remove(0);
        assert_eq!(alert.key.as_deref(), Some("m-1"));
        assert_eq!(alert.subject.as_deref(), Some("arn:alarm"));
        assert_eq!(alert.summary, "shop-db-storage: ALARM: Threshold Crossed");
        assert_eq!(alert.started.unwrap().to_string(), "2026-11-20T14:31:06.123Z");
        assert_eq!(alert.labels["DBInstanceIdentifier"], "shop-db");
        assert_eq!(alert.labels["alarm"], "shop-db-storage");
        let over = read(&ALARM.replace("\"ALARM\"", "\"OK\"")).remove(0);
        assert_eq!((over.status, over.subject), (Status::Resolved, alert.subject));
        let silent = read(&ALARM.replace("\"ALARM\"", "\"INSUFFICIENT_DATA\"")).remove(0);
        assert_eq!(silent.status, Status::Firing);
    }

    #[test]
    fn messages_about_the_subscription_are_named_and_never_obeyed() {
        for kind in ["SubscriptionConfirmation", "UnsubscribeConfirmation", "Else"] {
            let refused = crate::alert::parse(envelope(kind, "x").as_bytes()).unwrap_err();
            assert!(matches!(&refused, AlertError::Control { kind: seen, .. } if seen == kind));
        }
        let other = crate::alert::parse(envelope("Notification", "hello").as_bytes()).unwrap_err();
        assert!(matches!(other, AlertError::Unknown(_)), "{other}");
    }
}
