//! Opsgenie's Alert API v2. Every request is accepted first and processed later: what was created
//! is asked for until it is there. Source: docs.opsgenie.com, Alert API.

use std::time::Duration;

use jiff::Timestamp;
use recovery::effect::Failure;
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::about::{About, Action, action, severity};
use super::send::{Refusal, client, send};

/// Where Opsgenie is outside of its EU region.
pub const OPSGENIE_URL: &str = "https://api.opsgenie.com";

/// Longest message and alias, in characters.
const MESSAGE_LEN_MAX: usize = 130;
const ALIAS_LEN_MAX: usize = 512;
/// Longest description, in characters.
const DESCRIPTION_LEN_MAX: usize = 15_000;

/// How often, and how many times, a request is asked for.
const POLL_PAUSE: Duration = Duration::from_millis(400);
const POLLS_MAX: u32 = 15;

/// An Opsgenie channel.
pub struct Opsgenie {
    /// Where it is.
    pub url: String,
    /// The key of an API integration.
    pub key: Zeroizing<String>,
}

impl Opsgenie {
    pub(super) async fn tell(
        &self,
        about: &About,
        (what, text): (&str, &str),
        deadline: Duration,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let keys = match action(what) {
            Action::Trigger => vec![about.key(what)],
            Action::Acknowledge | Action::Resolve => about.keys(),
        };
        for key in keys {
            let alias: String = key.chars().take(ALIAS_LEN_MAX).collect();
            self.tell_one(&alias, about, (what, text), deadline, now).await?;
        }
        Ok(())
    }

    /// Tells the alert of this alias.
    async fn tell_one(
        &self,
        alias: &str,
        about: &About,
        (what, text): (&str, &str),
        deadline: Duration,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let base = format!("{}/v2/alerts", self.url.trim_end_matches('/'));
        let http = client("Opsgenie", deadline)?;
        let with_key = |request: RequestBuilder| {
            request.header("authorization", format!("GenieKey {}", self.key.as_str()))
        };
        let of_alias = |verb: &str| {
            let url = format!("{base}/{}/{verb}?identifierType=alias", escaped(alias));
            http.post(url)
        };
        let say = json!({ "source": "Rollforward", "note": text });
        let request = match action(what) {
            Action::Trigger => http.post(&base).json(&alert(about, alias, what, text)),
            Action::Acknowledge => of_alias("acknowledge").json(&say),
            Action::Resolve => of_alias("close").json(&say),
        };
        let answer = send("Opsgenie", with_key(request), now).await?;
        let accepted: Value = answer.json().await.unwrap_or_default();
        let Some(id) = accepted.get("requestId").and_then(Value::as_str).map(str::to_owned) else {
            return Err(
                Failure::retry("RF1109", "Opsgenie: expected 'requestId', seen none").into()
            );
        };
        for _ in 0..POLLS_MAX {
            let asked = with_key(http.get(format!("{base}/requests/{}", escaped(&id))));
            match send("Opsgenie", asked, now).await {
                Ok(answer) => {
                    let answer: Value = answer.json().await.unwrap_or_default();
                    if let Some(ended) = ended(&answer, action(what)) {
                        return ended.map_err(Refusal::from);
                    }
                }
                // Not processed yet.
                Err(refusal) if refusal.status == Some(StatusCode::NOT_FOUND) => {}
                Err(refusal) => return Err(refusal),
            }
            tokio::time::sleep(POLL_PAUSE).await;
        }
        let why = "Opsgenie has accepted the request and not processed it in time";
        Err(Failure::retry("RF1109", why).into())
    }
}

/// How a request ended; `None`: it has not yet.
fn ended(answer: &Value, act: Action) -> Option<Result<(), Failure>> {
    let data = answer.get("data")?;
    let is_success = data.get("isSuccess").or_else(|| data.get("success"))?.as_bool()?;
    let status = data.get("status").and_then(Value::as_str).unwrap_or("no status");
    // What is not there needs no end.
    let is_gone = act != Action::Trigger && status.contains("does not exist");
    Some(match is_success || is_gone {
        true => Ok(()),
        false => Err(Failure::terminal("RF1109", format!("Opsgenie: {status}"))),
    })
}

fn alert(about: &About, alias: &str, what: &str, text: &str) -> Value {
    let message =
        format!("[{}] {what}: {}", about.service, text.lines().next().unwrap_or_default());
    let cut = |text: &str, len| text.chars().take(len).collect::<String>();
    json!({
        "message": cut(&message, MESSAGE_LEN_MAX),
        "alias": alias,
        "description": cut(text, DESCRIPTION_LEN_MAX),
        "source": "Rollforward",
        "entity": about.service,
        "priority": match severity(about, what) {
            "critical" => "P1",
            "error" => "P2",
            "warning" => "P3",
            _ => "P5",
        },
        "details": {
            "incident": about.value("incident").unwrap_or(""),
            "runbook": about.value("runbook").unwrap_or(""),
        },
    })
}

/// A word of a path.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
