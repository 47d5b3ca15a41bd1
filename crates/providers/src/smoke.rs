//! Smoke tests: a warm-up, then the median of five against the limit; status, body and count.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::Parameters;
use reqwest::{Client, Method};
use serde_json::Value;

use crate::Secrets;
use crate::command::shown;
use crate::looked::Looked;

/// Longest wait for one answer.
const DEADLINE: Duration = Duration::from_secs(30);

/// Requests whose median counts.
const SAMPLES: usize = 5;

/// Longest wait for a service that has just been started to answer at all.
const PATIENCE: Duration = Duration::from_secs(45);

/// Between two tries of a service that does not answer yet.
const PAUSE: Duration = Duration::from_millis(250);

pub(crate) struct SmokeTest {
    client: Client,
    secrets: Arc<dyn Secrets>,
    looked: Looked,
}

/// One answer.
struct Answer {
    status: u16,
    body: String,
    took: Duration,
}

impl SmokeTest {
    pub(crate) fn new(secrets: Arc<dyn Secrets>) -> Result<Self, String> {
        let client = Client::builder().timeout(DEADLINE).build();
        let client = client.map_err(|error| error.to_string())?;
        Ok(Self { client, secrets, looked: Looked::default() })
    }

    async fn ask(&self, context: &StepContext) -> Result<Answer, Failure> {
        let url = context.parameter("url")?;
        let method = match context.parameter("method")? {
            "POST" => Method::POST,
            _ => Method::GET,
        };
        let mut request = self.client.request(method, url);
        if let Some(body) = context.parameters.get("body") {
            request = request.header("content-type", "application/json").body(body.clone());
        }
        if let Some(reference) = context.parameters.get("login") {
            let secret = self.secrets.resolve(reference).map_err(|why| {
                Failure::terminal("RF1110", format!("secret {reference} does not resolve: {why}"))
            })?;
            request = match secret.split_once(':') {
                Some((user, password)) => request.basic_auth(user, Some(password)),
                None => request.bearer_auth(secret.as_str()),
            };
        }
        let unclear = |error: reqwest::Error| {
            Failure::retry("RF1108", format!("{url} does not answer: {}", error.without_url()))
        };
        let began = Instant::now();
        let answer = request.send().await.map_err(unclear)?;
        let status = answer.status().as_u16();
        let body = answer.text().await.map_err(unclear)?;
        Ok(Answer { status, body, took: began.elapsed() })
    }

    /// The first answer that is right: a service that has just been started may need a moment.
    async fn warm_up(&self, context: &StepContext) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            let wrong = match self.ask(context).await {
                Ok(answer) => match check(context, &answer) {
                    Ok(()) => return Ok(()),
                    Err(failure) => failure,
                },
                Err(failure) if failure.code == "RF1110" => return Err(failure),
                Err(failure) => failure,
            };
            if began.elapsed() >= PATIENCE {
                return Err(Failure::terminal("RF1108", wrong.message).hint(wrong.hint));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn check(context: &StepContext, answer: &Answer) -> Result<(), Failure> {
    let url = context.parameter("url")?;
    let wrong = |what: String| {
        Failure::terminal("RF1108", format!("{url}: {what}"))
            .hint(format!("it answered: {}", shown(answer.body.trim())))
    };
    let status = context.parameter("status")?;
    if status != answer.status.to_string() {
        return Err(wrong(format!("expected status {status}, seen {}", answer.status)));
    }
    let json: Option<Value> = serde_json::from_str(&answer.body).ok();
    for (name, expected) in &context.parameters {
        let Some(pointer) = name.strip_prefix("json.") else { continue };
        let seen = json.as_ref().and_then(|json| json.pointer(pointer));
        if seen.map(Value::to_string).as_ref() != Some(expected) {
            let seen = seen.map_or_else(|| "nothing".into(), Value::to_string);
            return Err(wrong(format!("expected {expected} at {pointer}, seen {seen}")));
        }
    }
    if let Some(items) = context.parameters.get("min_items").and_then(|n| n.parse::<usize>().ok()) {
        let seen = json.as_ref().and_then(items_in).unwrap_or(0);
        if seen < items {
            return Err(wrong(format!("expected at least {items} items, seen {seen}")));
        }
    }
    Ok(())
}

/// Items of the body's array, or of the first array in its object.
fn items_in(json: &Value) -> Option<usize> {
    match json {
        Value::Array(items) => Some(items.len()),
        Value::Object(members) => members.values().find_map(|value| value.as_array().map(Vec::len)),
        _ => None,
    }
}

#[async_trait]
impl Effect for SmokeTest {
    async fn probe(&self, context: &StepContext) -> Found {
        self.looked.probe(context)
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        self.warm_up(context).await?;
        let mut took = Vec::with_capacity(SAMPLES);
        for _ in 0..SAMPLES {
            let answer = self.ask(context).await?;
            check(context, &answer)?;
            took.push(answer.took);
        }
        took.sort();
        let median = took.get(SAMPLES / 2).copied().unwrap_or_default();
        let limit = context.parameters.get("within_ms").and_then(|ms| ms.parse().ok());
        if let Some(limit) = limit.map(Duration::from_millis)
            && median > limit
        {
            return Err(Failure::terminal(
                "RF1108",
                format!(
                    "{}: expected the median of {SAMPLES} within {} ms, seen {} ms",
                    context.parameter("url")?,
                    limit.as_millis(),
                    median.as_millis()
                ),
            ));
        }
        let name = format!("{}_ms", context.step.id);
        let outputs = Parameters::from([(name, median.as_millis().to_string())]);
        self.looked.remember(context, outputs);
        Ok(())
    }

    async fn verify(&self, context: &StepContext) -> Result<Parameters, Failure> {
        Ok(self.looked.outputs(context).unwrap_or_default())
    }
}
