//! Channels: mail, signed webhooks, PagerDuty and Slack.

mod mail;
mod step;
mod vendors;

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::hmac;
use recovery::effect::Failure;
use serde_json::json;
use zeroize::Zeroizing;

pub use mail::Mail;
pub(crate) use step::TellStep;
pub use vendors::PAGERDUTY_URL;

/// Longest wait for a channel.
const DEADLINE: Duration = Duration::from_secs(20);

/// The header with the signature: `sha256=` and HMAC-SHA256 of the body in hexadecimal.
const SIGNATURE: &str = "x-rollforward-signature";

/// A channel, with its secrets resolved.
pub enum Channel {
    /// Mail.
    Mail(Mail),
    /// A POST of JSON.
    Webhook {
        /// Where to.
        url: String,
        /// What signs.
        secret: Option<Zeroizing<String>>,
        /// The service that is spoken of.
        service: String,
    },
    /// PagerDuty's Events API.
    PagerDuty {
        /// Where events go.
        url: String,
        /// The routing key.
        key: Zeroizing<String>,
        /// The service that is spoken of.
        service: String,
    },
    /// A Slack incoming webhook.
    Slack {
        /// Its address, which is a secret.
        url: Zeroizing<String>,
        /// The service that is spoken of.
        service: String,
    },
    /// One that cannot be used, and why.
    Unusable(String),
}

/// Channels by their names.
pub(crate) type Channels = BTreeMap<String, Channel>;

/// Tells the channel of that name.
pub(crate) async fn tell(
    channels: &Channels,
    name: &str,
    what: &str,
    text: &str,
) -> Result<(), Failure> {
    match channels.get(name) {
        Some(channel) => channel.tell(what, text).await,
        None => Err(Failure::terminal("RF1109", format!("there is no channel '{name}'"))),
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Mail(_) => "Mail",
            Self::Webhook { .. } => "Webhook",
            Self::PagerDuty { .. } => "PagerDuty",
            Self::Slack { .. } => "Slack",
            Self::Unusable(_) => "Unusable",
        })
    }
}

impl Channel {
    pub(crate) async fn tell(&self, what: &str, text: &str) -> Result<(), Failure> {
        match self {
            Self::Mail(mail) => mail.send(what, text, DEADLINE).await,
            Self::Webhook { url, secret, service } => {
                post(url, secret.as_ref(), service, what, text).await
            }
            Self::PagerDuty { url, key, service } => {
                vendors::pagerduty(url, key, (service, what, text), DEADLINE).await
            }
            Self::Slack { url, service } => {
                vendors::slack(url, (service, what, text), DEADLINE).await
            }
            Self::Unusable(why) => Err(Failure::terminal("RF1109", why.clone())),
        }
    }
}

async fn post(
    url: &str,
    secret: Option<&Zeroizing<String>>,
    service: &str,
    what: &str,
    text: &str,
) -> Result<(), Failure> {
    let failed = |why: String| Failure::retry("RF1109", format!("POST {url}: {why}"));
    let body = json!({ "service": service, "what": what, "text": text }).to_string();
    let client = reqwest::Client::builder().timeout(DEADLINE).build();
    let client = client.map_err(|error| failed(error.to_string()))?;
    let mut request = client.post(url).header("content-type", "application/json");
    if let Some(secret) = secret {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, body.as_bytes());
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        request = request.header(SIGNATURE, format!("sha256={hex}"));
    }
    let answer = request.body(body).send().await;
    let answer = answer.map_err(|error| failed(error.without_url().to_string()))?;
    match answer.status().is_success() {
        true => Ok(()),
        false => Err(failed(format!("status {}", answer.status()))),
    }
}
