//! Channels of vendors: PagerDuty's Events API v2 and Slack's incoming webhooks.
//!
//! Sources: the PagerDuty OpenAPI description of `POST /v2/enqueue`; docs.slack.dev, incoming
//! webhooks. The routing key and the webhook's address are secrets: no error shows them.

use std::time::Duration;

use recovery::effect::Failure;
use recovery::journal::FailureClass;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// Where PagerDuty takes events outside of its EU region.
pub const PAGERDUTY_URL: &str = "https://events.pagerduty.com/v2/enqueue";

/// Longest summary that PagerDuty takes, in characters.
const SUMMARY_LEN_MAX: usize = 1024;

/// What ends an alert: users are back, a job succeeds again.
const RESOLVES: [&str; 3] = ["restored", "open again", "recovered"];

/// What somebody has to do something about at once.
const CRITICAL: [&str; 5] =
    ["halted", "nobody answered", "objective in danger", "rolled_back", "rolled_back_with_errors"];

/// The event of something that is told. One alert for each service: what comes later joins it.
fn event(key: &str, service: &str, what: &str, text: &str) -> Value {
    let summary = format!("[{service}] {what}: {}", text.lines().next().unwrap_or_default());
    let severity = match what {
        what if CRITICAL.contains(&what) => "critical",
        "waits for approval" => "error",
        _ => "warning",
    };
    let action = if RESOLVES.contains(&what) { "resolve" } else { "trigger" };
    json!({
        "routing_key": key,
        "event_action": action,
        "dedup_key": format!("rollforward {service}"),
        "payload": {
            "summary": summary.chars().take(SUMMARY_LEN_MAX).collect::<String>(),
            "source": service,
            "severity": severity,
            "custom_details": { "text": text },
        },
        "client": "Rollforward",
    })
}

/// Sends an event.
pub(super) async fn pagerduty(
    url: &str,
    key: &str,
    (service, what, text): (&str, &str, &str),
    deadline: Duration,
) -> Result<(), Failure> {
    let client = client("PagerDuty", deadline)?;
    let request = client.post(url).json(&event(key, service, what, text));
    send("PagerDuty", request).await
}

/// Posts a message.
pub(super) async fn slack(
    url: &str,
    (service, what, text): (&str, &str, &str),
    deadline: Duration,
) -> Result<(), Failure> {
    let client = client("Slack", deadline)?;
    let request =
        client.post(url).json(&json!({ "text": format!("*[{service}] {what}*\n{text}") }));
    send("Slack", request).await
}

fn client(vendor: &str, deadline: Duration) -> Result<Client, Failure> {
    let client = Client::builder().timeout(deadline).build();
    client.map_err(|error| Failure::retry("RF1109", format!("{vendor}: {error}")))
}

/// A request that is wrong once is wrong again; too many, and a vendor's own trouble, pass.
async fn send(vendor: &str, request: RequestBuilder) -> Result<(), Failure> {
    let answer = request.send().await;
    let answer = answer.map_err(|error| {
        Failure::retry("RF1109", format!("{vendor} does not answer: {}", error.without_url()))
    })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let passes = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
    let class = if passes { FailureClass::Retry } else { FailureClass::Terminal };
    Err(Failure::new(class, "RF1109", format!("{vendor}: expected 2xx, seen status {status}"))
        .hint("is the key or the webhook's address in [notify] still right?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_begins_joins_and_ends() {
        let of = |what, text| event("R0", "shop", what, text);
        let begun = of("recovery begun", "to 0/1\nmore");
        assert_eq!(begun["event_action"], "trigger");
        assert_eq!(begun["payload"]["summary"], "[shop] recovery begun: to 0/1");
        assert_eq!(begun["payload"]["severity"], "warning");
        assert_eq!(begun["payload"]["custom_details"]["text"], "to 0/1\nmore");
        let halted = of("halted", "look");
        assert_eq!(
            (&halted["event_action"], &halted["payload"]["severity"]),
            (&"trigger".into(), &"critical".into())
        );
        let ended = of("restored", "new");
        assert_eq!(ended["event_action"], "resolve");
        assert_eq!(ended["dedup_key"], begun["dedup_key"], "the same alert");
        let long = "ä".repeat(5000);
        let summary = of("halted", &long)["payload"]["summary"].as_str().unwrap().chars().count();
        assert_eq!(summary, SUMMARY_LEN_MAX);
    }
}
