//! A door that is moved by HTTP calls.

use std::sync::Arc;
use std::time::Duration;

use recovery::effect::{Failure, StepContext};
use reqwest::{Client, Method, RequestBuilder};

use crate::Secrets;

/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(15);

pub(super) struct HttpDoor {
    client: Client,
    secrets: Arc<dyn Secrets>,
}

impl HttpDoor {
    pub(super) fn new(secrets: Arc<dyn Secrets>) -> Result<Self, String> {
        let client = Client::builder().timeout(DEADLINE).build();
        Ok(Self { client: client.map_err(|error| error.to_string())?, secrets })
    }

    fn request(
        &self,
        context: &StepContext,
        method: Method,
        url: &str,
    ) -> Result<RequestBuilder, Failure> {
        let request = self.client.request(method, url);
        match context.parameters.get("login") {
            None => Ok(request),
            Some(reference) => {
                let token = self.secrets.resolve(reference).map_err(|why| {
                    Failure::terminal(
                        "RF1110",
                        format!("secret {reference} does not resolve: {why}"),
                    )
                })?;
                Ok(request.bearer_auth(token.as_str()))
            }
        }
    }

    pub(super) async fn is_shut(&self, context: &StepContext) -> Result<bool, Failure> {
        let url = context.parameter("probe")?;
        let unclear = |what: String| Failure::ambiguous("RF1111", format!("GET {url}: {what}"));
        let answer = self.request(context, Method::GET, url)?.send().await;
        let answer = answer.map_err(|error| unclear(error.without_url().to_string()))?;
        // An error page says nothing about the door, whatever words stand in it.
        if !answer.status().is_success() {
            return Err(unclear(format!("status {}", answer.status())));
        }
        let body = answer.text().await.map_err(|error| unclear(error.without_url().to_string()))?;
        Ok(body.contains(context.parameter("shut_word")?))
    }

    pub(super) async fn move_to(&self, context: &StepContext, shut: bool) -> Result<(), Failure> {
        let url = context.parameter(if shut { "shut" } else { "open" })?;
        let answer = self.request(context, Method::PUT, url)?.send().await;
        // Sent or not, done or not: only the probe tells.
        let answer = answer.map_err(|error| {
            Failure::ambiguous("RF1111", format!("PUT {url}: {}", error.without_url()))
        })?;
        let status = answer.status();
        match status.is_success() {
            true => Ok(()),
            false if status.is_server_error() => {
                Err(Failure::ambiguous("RF1111", format!("PUT {url}: status {status}")))
            }
            false => Err(Failure::terminal("RF1111", format!("PUT {url}: status {status}"))
                .hint("does the login have the right to move the door?")),
        }
    }
}
