//! A report with its signature: checked offline, with nothing but the file.

use serde_json::{Value, json};

use super::Report;
use crate::canonical::canonical;
use crate::person::{SigningKey, is_signed_by};

/// A report as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Signed {
    /// The report, its key and its signature.
    pub document: Value,
}

/// Why a report does not prove itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// It is no report.
    #[error("expected a report with 'report', 'key' and 'signature'")]
    NoReport,
    /// It was changed, or signed with another key.
    #[error("the signature does not fit: the report was changed, or signed with another key")]
    Changed,
    /// It is signed with a key that was not expected.
    #[error("it is signed with {seen}, expected {expected}")]
    OtherKey {
        /// The key that was expected.
        expected: String,
        /// The key in it.
        seen: String,
    },
}

/// Signs a report.
#[must_use]
pub fn sign(report: &Report, key: &SigningKey) -> Signed {
    let report = report.to_value();
    let signature = key.sign(&canonical(&report).unwrap_or_default());
    Signed { document: json!({ "report": report, "key": key.public(), "signature": signature }) }
}

/// Checks a report; `expected` is the key it must be signed with, when that is known. Gives the
/// report and the head of its journal.
///
/// # Errors
/// [`VerifyError`].
pub fn verify<'d>(document: &'d Value, expected: Option<&str>) -> Result<&'d Value, VerifyError> {
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    let (Some(report), Some(key), Some(signature)) =
        (document.get("report"), text("key"), text("signature"))
    else {
        return Err(VerifyError::NoReport);
    };
    if let Some(expected) = expected.filter(|expected| *expected != key) {
        return Err(VerifyError::OtherKey { expected: expected.into(), seen: key.into() });
    }
    let bytes = canonical(report).map_err(|_| VerifyError::NoReport)?;
    match is_signed_by(key, &bytes, signature) {
        true => Ok(report),
        false => Err(VerifyError::Changed),
    }
}
