//! A status page of a vendor, by Statuspage's REST API: one incident that goes from investigating
//! to resolved. The page itself remembers which one it is: its metadata names the service.

use std::time::Duration;

use jiff::Timestamp;
use recovery::effect::Failure;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::About;
use super::public::{Phase, Update, update};
use super::send::{Refusal, client, send};

/// Where Statuspage is.
pub const STATUSPAGE_URL: &str = "https://api.statuspage.io";

/// A page at a vendor.
pub struct StatusPage {
    /// Where the API is.
    pub url: String,
    /// The page.
    pub page: String,
    /// The key.
    pub key: Zeroizing<String>,
    /// What users call the service.
    pub name: String,
}

impl StatusPage {
    pub(super) async fn tell(
        &self,
        about: &About,
        what: &str,
        deadline: Duration,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let Some(update) = update(about, what) else { return Ok(()) };
        let http = client("the status page", deadline)?;
        let base = format!("{}/v1/pages/{}/incidents", self.url.trim_end_matches('/'), self.page);
        let with_key = |request: RequestBuilder| {
            request.header("authorization", format!("OAuth {}", self.key.as_str()))
        };
        let asked = with_key(http.get(format!("{base}/unresolved")));
        let answer = send("the status page", asked, now).await?;
        let unresolved: Value = answer.json().await.map_err(|_| {
            Failure::retry("RF1109", "the status page: expected a list of incidents as JSON")
        })?;
        let request = match self.known(&unresolved, about) {
            Some(there) if says(there, &update) => return Ok(()),
            Some(there) => {
                let id = there.get("id").and_then(Value::as_str).unwrap_or_default();
                http.patch(format!("{base}/{id}")).json(&json!({ "incident": {
                    "status": update.phase.text(), "body": update.body,
                }}))
            }
            // What users never heard of needs no end.
            None if update.phase == Phase::Resolved => return Ok(()),
            None => http.post(&base).json(&json!({ "incident": {
                "name": format!("{}: disruption", self.name),
                "status": update.phase.text(), "body": update.body,
                "metadata": { "rollforward": { "service": about.service } },
            }})),
        };
        send("the status page", with_key(request), now).await.map(drop)
    }

    /// The incident of ours that is not over.
    fn known<'v>(&self, unresolved: &'v Value, about: &About) -> Option<&'v Value> {
        let service = |it: &Value| {
            it.pointer("/metadata/rollforward/service").and_then(Value::as_str).map(str::to_owned)
        };
        let mut all = unresolved.as_array()?.iter();
        all.find(|it| service(it).as_ref() == Some(&about.service))
    }
}

/// Whether the newest update says just this.
fn says(incident: &Value, update: &Update) -> bool {
    let text = |pointer: &str| incident.pointer(pointer).and_then(Value::as_str);
    text("/status") == Some(update.phase.text())
        && text("/incident_updates/0/body") == Some(update.body.as_str())
}
