//! A session that asks again: what surely changed nothing is repeated, later each time. An API
//! server that is busy or away for a moment must not cost a step one of its few attempts, nor a
//! plan its facts.
//!
//! Invariant: a request that may have changed something is sent once; only its probe tells more.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use kube::{Client, Error};
use tower_service::Service;

/// Longest wait for one answer.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// All pauses of one request together. What lasts longer is for the driver, which says meanwhile
/// that it lives.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The first pause; each is twice the one before.
const PAUSE: Duration = Duration::from_millis(250);

/// Where an API server is asked for rights: a creation that creates nothing.
const RIGHTS: &str = "/selfsubjectaccessreviews";

type BoxError = Box<dyn StdError + Send + Sync>;

/// No answer came in time.
#[derive(Debug, thiserror::Error)]
#[error("nothing in {} s", DEADLINE.as_secs())]
struct Late;

/// Wraps a session.
pub(super) fn patient(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    Client::new(Patient { client }, namespace)
}

struct Patient {
    client: Client,
}

impl Service<Request<Body>> for Patient {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let client = self.client.clone();
        Box::pin(async move { ask(&client, request).await })
    }
}

async fn ask(client: &Client, request: Request<Body>) -> Result<Response<Body>, BoxError> {
    let only_reads = only_reads(request.method(), request.uri().path(), request.uri().query());
    let (mut request, mut waited, mut pause) = (request, Duration::ZERO, PAUSE);
    loop {
        let again = copy(&request);
        let Ok(answer) = tokio::time::timeout(DEADLINE, client.send(request)).await else {
            return Err(Late.into());
        };
        let wait = match &answer {
            Ok(answer) => after_answer(answer.status(), wish(answer), only_reads, pause),
            Err(error) => (only_reads && may_pass(error)).then_some(pause),
        };
        match (wait, again) {
            (Some(wait), Some(again)) if waited + wait <= PATIENCE => {
                tokio::time::sleep(wait).await;
                (request, waited, pause) = (again, waited + wait, pause * 2);
            }
            _ => return answer.map_err(Into::into),
        }
    }
}

/// Whether a request changes nothing, whatever becomes of it.
fn only_reads(method: &Method, path: &str, query: Option<&str>) -> bool {
    let is_dry = query.is_some_and(|query| query.split('&').any(|it| it == "dryRun=All"));
    method == Method::GET || is_dry || path.ends_with(RIGHTS)
}

/// How long to wait before a request is repeated that was answered so; `None`: it is not.
fn after_answer(
    status: StatusCode,
    wish: Option<Duration>,
    only_reads: bool,
    pause: Duration,
) -> Option<Duration> {
    // Whoever is told that there are too many requests was not heard.
    let is_busy = status == StatusCode::TOO_MANY_REQUESTS;
    let repeats = is_busy || (only_reads && status.is_server_error());
    // What the server wishes is the least; it wishes the same each time.
    repeats.then(|| wish.map_or(pause, |wish| wish.max(pause)))
}

fn wish(answer: &Response<Body>) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Whether the same request may be answered later.
fn may_pass(error: &Error) -> bool {
    !matches!(error, Error::Auth(_) | Error::BuildRequest(_) | Error::TlsRequired)
}

fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_changed_something_is_sent_once_unless_nobody_heard_it() {
        let after = |status: u16, only_reads| {
            after_answer(StatusCode::from_u16(status).unwrap(), None, only_reads, PAUSE).is_some()
        };
        for status in [500, 502, 503, 504] {
            assert!(after(status, true), "{status}");
            assert!(!after(status, false), "{status}");
        }
        assert!(after(429, true) && after(429, false));
        for status in [200, 201, 401, 403, 404, 409, 422] {
            assert!(!after(status, true) && !after(status, false), "{status}");
        }
    }

    #[test]
    fn a_dry_run_and_a_question_about_rights_only_read() {
        let reads = |method, path, query| only_reads(&method, path, query);
        assert!(reads(Method::GET, "/api/v1/pods", None));
        assert!(reads(Method::PATCH, "/api/v1/x", Some("force=true&dryRun=All")));
        assert!(reads(
            Method::POST,
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            None
        ));
        assert!(!reads(Method::PATCH, "/api/v1/x", Some("force=true")));
        assert!(!reads(Method::POST, "/apis/batch/v1/namespaces/a/jobs", Some("")));
    }

    #[test]
    fn what_the_server_wishes_is_the_least() {
        let busy = StatusCode::TOO_MANY_REQUESTS;
        let after = |wish: u64, pause| {
            after_answer(busy, Some(Duration::from_secs(wish)), false, pause).unwrap()
        };
        assert_eq!(after(3, PAUSE), Duration::from_secs(3));
        assert_eq!(after(0, PAUSE), PAUSE, "no server may make it ask without a pause");
        assert_eq!(after(1, Duration::from_secs(2)), Duration::from_secs(2));
    }
}
