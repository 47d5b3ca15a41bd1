//! What a failed request means for the caller, told without secrets.

use super::Failure;
use crate::{Error, Secret};

/// Longest reason shown, in characters.
const REASON_MAX: usize = 300;

/// A credential shorter than this is not searched for in messages: it would blot out plain words.
const SECRET_MIN: usize = 6;

/// Codes by which stores say that the key, and not the bucket, is missing.
const KEY_MISSING: [&str; 2] = ["NoSuchKey", "BlobNotFound"];

/// Codes for a full store or an exhausted quota.
const FULL: [&str; 3] = ["QuotaExceeded", "XMinioStorageFull", "InsufficientCapacity"];

/// Codes with a status that looks final, for what the next attempt may well do.
const PASSING: [&str; 5] = [
    "RequestTimeout",
    "IncompleteBody",
    "BadDigest",
    "XAmzContentChecksumMismatch",
    "OperationAborted",
];

/// What a 404 is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotFound {
    /// The store says the key.
    Key,
    /// It does not say.
    Something,
}

impl Failure {
    /// Whether it says that something does not exist.
    pub(super) fn not_found(&self) -> Option<NotFound> {
        let Self::Answered(error @ object_store::Error::NotFound { .. }) = self else {
            return None;
        };
        let text = error.to_string();
        let key = tag(&text, "Code").is_some_and(|code| KEY_MISSING.contains(&code));
        Some(if key { NotFound::Key } else { NotFound::Something })
    }

    /// Whether a create was refused because something seems to be there.
    pub(super) fn already_exists(&self) -> bool {
        use object_store::Error::{AlreadyExists, Precondition};
        matches!(self, Self::Answered(AlreadyExists { .. } | Precondition { .. }))
    }
}

/// The crate's error for a failure that is not simply a missing key.
pub(super) fn error(
    store: &str,
    secrets: &[Secret],
    verb: &'static str,
    object: &str,
    failure: Failure,
) -> Error {
    let (store, key) = (store.to_owned(), object.to_owned());
    let answer = match failure {
        Failure::Silent(limit) => {
            let reason = format!("no answer within {} s", limit.as_secs_f32());
            return Error::Unavailable { store, verb, key, reason };
        }
        Failure::Answered(error) => Answer::of(&error),
    };
    let reason = without(secrets, &answer.reason);
    match answer.meaning {
        Meaning::Final => Error::Denied { store, verb, key, reason },
        Meaning::Full => Error::NoSpace { store, key },
        Meaning::Passing => Error::Unavailable { store, verb, key, reason },
    }
}

enum Meaning {
    Final,
    Full,
    Passing,
}

struct Answer {
    meaning: Meaning,
    reason: String,
}

impl Answer {
    fn of(error: &object_store::Error) -> Self {
        let text = error.to_string();
        let status = status(&text);
        let code = tag(&text, "Code");
        let meaning = match (error, status, code) {
            (_, _, Some(code)) if FULL.contains(&code) => Meaning::Full,
            (_, Some(507), _) => Meaning::Full,
            (_, _, Some(code)) if PASSING.contains(&code) => Meaning::Passing,
            (_, Some(408 | 429), _) => Meaning::Passing,
            // Redirects are a wrong region or endpoint; 501 is a call the store does not have.
            (_, Some(300..=499 | 501), _) => Meaning::Final,
            _ if text.contains("Received redirect without LOCATION") => Meaning::Final,
            (object_store::Error::NotSupported { .. }, ..)
            | (object_store::Error::NotImplemented { .. }, ..) => Meaning::Final,
            _ => Meaning::Passing,
        };
        Self { meaning, reason: reason(error, &text, status, code) }
    }
}

/// The store's own code and message if it sent one; else the status; else the innermost cause.
/// Never the whole answer: it repeats headers, signatures and addresses.
fn reason(
    error: &object_store::Error,
    text: &str,
    status: Option<u16>,
    code: Option<&str>,
) -> String {
    let told = match (code, tag(text, "Message"), status) {
        (Some(code), Some(message), _) => format!("{code}: {message}"),
        (Some(code), None, _) => code.to_owned(),
        (None, _, Some(status)) => format!("status {status}"),
        (None, _, None) => innermost(error),
    };
    let metadata = text.contains("169.254.169.254") || text.contains("metadata.google");
    if metadata {
        return format!("{told} (no credentials were given, so the machine's role was asked for)");
    }
    told
}

fn innermost(error: &object_store::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// The number after `status code: `.
fn status(text: &str) -> Option<u16> {
    let (_, after) = text.split_once("status code: ")?;
    after.get(..3)?.parse().ok()
}

/// The text of the first XML element `name`.
fn tag<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, after) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = after.split_once('<')?;
    Some(inner.trim())
}

/// One line of at most [`REASON_MAX`] characters in which no credential stands.
fn without(secrets: &[Secret], reason: &str) -> String {
    let mut clean = reason.to_owned();
    for secret in secrets.iter().map(Secret::reveal).filter(|value| value.len() >= SECRET_MIN) {
        clean = clean.replace(secret, "***");
    }
    clean.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(REASON_MAX).collect()
}
