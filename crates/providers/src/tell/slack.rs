//! Slack's incoming webhooks. Source: docs.slack.dev, incoming webhooks. The address is the secret.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::send::{Refusal, client, send};

/// Posts a message.
pub(super) async fn slack(
    url: &str,
    (service, what, text): (&str, &str, &str),
    deadline: Duration,
    now: Timestamp,
) -> Result<(), Refusal> {
    let request = client("Slack", deadline)?
        .post(url)
        .json(&json!({ "text": format!("*[{service}] {what}*\n{text}") }));
    send("Slack", request, now).await.map(drop)
}
