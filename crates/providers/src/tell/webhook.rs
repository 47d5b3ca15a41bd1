//! A POST of JSON, signed when there is a secret.

use std::time::Duration;

use aws_lc_rs::hmac;
use jiff::Timestamp;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::about::{About, is_verdict};
use super::send::{Refusal, client, send};

/// The header with the signature: `sha256=` and HMAC-SHA256 of the body in hexadecimal.
const SIGNATURE: &str = "x-rollforward-signature";

pub(super) async fn post(
    (url, secret): (&str, Option<&Zeroizing<String>>),
    about: &About,
    (what, text): (&str, &str),
    deadline: Duration,
    now: Timestamp,
) -> Result<(), Refusal> {
    let body = body(about, what, text, now).to_string();
    let mut request = client(url, deadline)?.post(url).header("content-type", "application/json");
    if let Some(secret) = secret {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, body.as_bytes());
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        request = request.header(SIGNATURE, format!("sha256={hex}"));
    }
    send(&format!("POST {url}"), request.body(body), now).await.map(drop)
}

/// What is posted: `service`, `what`, `text`, `incident`; of a run also `job_id` and `status`, and
/// `duration_s` when it is over.
fn body(about: &About, what: &str, text: &str, now: Timestamp) -> Value {
    let mut body = json!({
        "service": about.service, "what": what, "text": text, "incident": about.value("incident"),
    });
    if let (Some(fields), Some((run, declared_at))) = (body.as_object_mut(), &about.job) {
        let is_over = is_verdict(what);
        fields.insert("job_id".into(), run.as_str().into());
        fields.insert("status".into(), if is_over { what } else { "running" }.into());
        if is_over {
            let seconds = now.duration_since(*declared_at).as_secs();
            fields.insert("duration_s".into(), seconds.max(0).into());
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_run_says_how_and_how_long() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let job = Some(("shop-1".to_owned(), at("2026-11-26T12:00:00Z")));
        let about = About { service: "shop".into(), job, ..About::default() };
        let now = at("2026-11-26T12:21:04.9Z");
        let over = body(&about, "restored", "x", now);
        assert_eq!(over["job_id"], "shop-1");
        assert_eq!((&over["status"], &over["duration_s"]), (&"restored".into(), &1264.into()));
        let running = body(&about, "recovery begun", "x", now);
        assert_eq!((&running["status"], &running["duration_s"]), (&"running".into(), &Value::Null));
        assert_eq!(body(&About::default(), "halted", "x", now)["job_id"], Value::Null);
    }
}
