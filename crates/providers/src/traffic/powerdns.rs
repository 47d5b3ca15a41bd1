//! A record in PowerDNS Authoritative Server, by its HTTP API (doc.powerdns.com, "HTTP API",
//! zones). The API knows no condition: what is there is compared just before it is replaced.

use std::time::Duration;

use async_trait::async_trait;
use recovery::effect::Failure;
use recovery::service::TrafficRecord;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::dns::{Owner, RecordSet};
use super::record::Store;

/// Longest wait for an answer.
pub(super) const DEADLINE: Duration = Duration::from_secs(15);

/// Characters of an error of the API that are shown.
const SHOWN_LEN: usize = 200;

/// A zone of a server.
pub(super) struct PowerDns {
    client: Client,
    key: Zeroizing<String>,
    url: String,
    name: String,
    kind: String,
}

impl PowerDns {
    pub(super) fn new(
        client: Client,
        url: &str,
        server: &str,
        key: Zeroizing<String>,
        record: &TrafficRecord,
    ) -> Self {
        let zone = dotted(&record.zone);
        Self {
            client,
            key,
            url: format!("{}/api/v1/servers/{server}/zones/{zone}", url.trim_end_matches('/')),
            name: dotted(&record.name),
            kind: record.kind.clone(),
        }
    }

    fn request(&self, method: Method) -> RequestBuilder {
        self.client.request(method, &self.url).header("X-API-Key", self.key.as_str())
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let url = &self.url;
        let answer = request.send().await.map_err(|error| {
            let text = format!("PowerDNS {url} does not answer: {}", error.without_url());
            Failure::ambiguous("RF1161", text).hint("does it run with --api and --webserver?")
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let said = answer.text().await.unwrap_or_default();
        let said = serde_json::from_str::<Value>(&said)
            .ok()
            .and_then(|value| value.get("error").and_then(Value::as_str).map(str::to_owned))
            .unwrap_or(said);
        let said: String = said.trim().chars().take(SHOWN_LEN).collect();
        let text = format!("PowerDNS {url}: status {status}: {said}");
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::terminal("RF1162", text)
                .hint(
                    "is the configuration's `login` the server's api-key, and may this host ask?",
                ),
            StatusCode::NOT_FOUND => Failure::terminal("RF1162", text)
                .hint("compare `zone` and `server` (usually localhost) with GET /api/v1/servers"),
            StatusCode::TOO_MANY_REQUESTS => Failure::retry("RF1161", text),
            _ if status.is_server_error() => Failure::ambiguous("RF1161", text)
                .hint("see the server's log: does its database answer?"),
            _ => Failure::terminal("RF1162", text),
        })
    }

    /// The record's part of an answer.
    fn set_in(&self, zone: &Value) -> Result<Option<RecordSet>, Failure> {
        let unread =
            |what: &str| Failure::terminal("RF1161", format!("PowerDNS {}: {what}", self.url));
        let text = |value: &Value, name: &str| {
            value.get(name).and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase()
        };
        let sets = zone.get("rrsets").and_then(Value::as_array);
        let sets = sets.ok_or_else(|| unread("the answer has no 'rrsets'"))?;
        let mut ours = sets.iter().filter(|set| {
            text(set, "name") == self.name && text(set, "type") == self.kind.to_ascii_lowercase()
        });
        let Some(set) = ours.next() else { return Ok(None) };
        let ttl_s = set.get("ttl").and_then(Value::as_u64).and_then(|ttl| u32::try_from(ttl).ok());
        let ttl_s = ttl_s.ok_or_else(|| unread("a record set has no 'ttl'"))?;
        let records = set.get("records").and_then(Value::as_array);
        let records = records.ok_or_else(|| unread("a record set has no 'records'"))?;
        let owner = Owner::new(&self.name, &self.kind).map_err(|why| unread(&why))?;
        let mut values = Vec::new();
        for record in records {
            if record.get("disabled").and_then(Value::as_bool) == Some(true) {
                // Replacing the set would lose it.
                return Err(Failure::terminal(
                    "RF1164",
                    format!("record set '{}' has records that are disabled", self.name),
                )
                .hint("remove them, or keep them under another name"));
            }
            let content = owner.canonical(&text(record, "content")).map_err(|why| unread(&why))?;
            values.push(content);
        }
        values.sort();
        Ok((!values.is_empty()).then_some(RecordSet { ttl_s, values }))
    }
}

fn dotted(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.').to_ascii_lowercase())
}

#[async_trait]
impl Store for PowerDns {
    async fn read(&self) -> Result<Option<RecordSet>, Failure> {
        // Older servers ignore the two names and give the whole zone.
        let query = [("rrset_name", &self.name), ("rrset_type", &self.kind)];
        let query = query.map(|(name, value)| format!("{name}={value}")).join("&");
        let url = format!("{}?{query}", self.url);
        let request = self.client.get(url).header("X-API-Key", self.key.as_str());
        let answer = self.send(request).await?;
        let zone: Value = answer.json().await.map_err(|error| {
            Failure::ambiguous("RF1161", format!("PowerDNS {}: {}", self.url, error.without_url()))
        })?;
        self.set_in(&zone)
    }

    /// A key that may read a zone may change it: the API knows no other rights.
    async fn prove_right(&self, _now: &RecordSet) -> Result<(), Failure> {
        Ok(())
    }

    async fn replace(&self, from: &RecordSet, to: &RecordSet) -> Result<(), Failure> {
        let current = self.read().await?;
        if current.as_ref().map(|current| &current.values) != Some(&from.values) {
            let seen = current.map_or_else(|| "it is gone".into(), |it| it.describe());
            return Err(super::changed(&self.name, &seen));
        }
        let records = to.values.iter().map(|value| json!({ "content": value, "disabled": false }));
        let body = json!({ "rrsets": [{
            "name": self.name, "type": self.kind, "ttl": to.ttl_s, "changetype": "REPLACE",
            "records": records.collect::<Vec<_>>(),
        }] });
        self.send(self.request(Method::PATCH).json(&body)).await.map(drop)
    }
}
