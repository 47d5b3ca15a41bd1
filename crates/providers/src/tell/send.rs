//! Requests to vendors: what passes is tried again, what is wrong once is not.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use recovery::effect::Failure;
use recovery::journal::FailureClass;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, RequestBuilder, Response, StatusCode};

/// The pause after the first attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(500);

/// How long a channel is tried before the next command has to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    pub(crate) attempts: u32,
    /// The longest pause; a vendor that asks for more is told later.
    pub(crate) pause_max: Duration,
}

impl Patience {
    /// A run goes on meanwhile, and comes back to channels itself.
    pub(crate) const RUN: Self = Self { attempts: 2, pause_max: Duration::from_secs(2) };
    /// Telling is all that a command does.
    pub(crate) const COMMAND: Self = Self { attempts: 6, pause_max: Duration::from_secs(30) };

    /// How long to wait after this attempt (from 1); `None`: no more.
    pub(crate) fn pause(self, attempt: u32, asked: Option<Duration>) -> Option<Duration> {
        let own = PAUSE.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
        let pause = asked.map_or_else(|| own.min(self.pause_max), |asked| asked.max(own));
        (attempt < self.attempts && pause <= self.pause_max).then_some(pause)
    }
}

/// A message that was not taken, and how long its server asks to wait.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) failure: Failure,
    pub(crate) after: Option<Duration>,
    /// The status of its answer, when there was one.
    pub(crate) status: Option<StatusCode>,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { failure, after: None, status: None }
    }
}

pub(super) fn client(vendor: &str, deadline: Duration) -> Result<Client, Failure> {
    // A redirect would carry keys elsewhere.
    let client = Client::builder().timeout(deadline).redirect(reqwest::redirect::Policy::none());
    client.build().map_err(|error| Failure::retry("RF1109", format!("{vendor}: {error}")))
}

/// Sends a request. A request that is wrong once is wrong again; too many, and a vendor's own
/// trouble, pass.
pub(super) async fn send(
    vendor: &str,
    request: RequestBuilder,
    now: Timestamp,
) -> Result<Response, Refusal> {
    let answer = request.send().await.map_err(|error| {
        Failure::retry("RF1109", format!("{vendor} does not answer: {}", error.without_url()))
    })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let after = answer.headers().get(RETRY_AFTER).and_then(|it| it.to_str().ok());
    let after = after.and_then(|text| seconds(text, now));
    let passes = status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
        || status.is_server_error();
    let class = if passes { FailureClass::Retry } else { FailureClass::Terminal };
    let failure =
        Failure::new(class, "RF1109", format!("{vendor}: expected 2xx, seen status {status}"))
            .hint("are the key and the address of this channel in [notify] still right?");
    Err(Refusal { failure, after, status: Some(status) })
}

/// RFC 9110, section 10.2.3: seconds, or a date.
fn seconds(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_a_server_may_ask_for_longer_ones() {
        let ms = Duration::from_millis;
        assert_eq!(Patience::RUN.pause(1, None), Some(ms(500)));
        assert_eq!(Patience::RUN.pause(2, None), None);
        assert_eq!(Patience::RUN.pause(1, Some(ms(60_000))), None);
        assert_eq!(Patience::COMMAND.pause(3, None), Some(ms(2000)));
        assert_eq!(Patience::COMMAND.pause(1, Some(ms(7000))), Some(ms(7000)));
        assert_eq!(Patience::COMMAND.pause(4, Some(ms(0))), Some(ms(4000)));
        assert_eq!(Patience::COMMAND.pause(6, None), None);
    }

    #[test]
    fn a_server_names_seconds_or_a_date() {
        let now = "2026-11-26T12:00:00Z".parse().unwrap();
        let check = |text, expect| assert_eq!(seconds(text, now), expect, "{text}");
        check("7", Some(Duration::from_secs(7)));
        check("Thu, 26 Nov 2026 12:00:09 GMT", Some(Duration::from_secs(9)));
        check("Thu, 26 Nov 2026 11:00:00 GMT", Some(Duration::ZERO));
        check("soon", None);
    }
}
