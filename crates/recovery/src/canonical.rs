//! Canonical JSON (RFC 8785): one text for one value, so that a digest or a signature of it means
//! the value.
//!
//! Numbers are integers of at most 53 bits; larger ones and fractions are written as strings by
//! whoever makes the value, because JSON readers round them.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;

/// The largest integer that every JSON reader keeps (RFC 8785, section 3.2.2.3).
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// A value that has no canonical form here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an integer of at most 53 bits, seen {0}")]
pub struct NotCanonical(String);

/// The canonical text of a value.
///
/// # Errors
/// [`NotCanonical`] for a fraction or a large integer.
pub fn canonical(value: &Value) -> Result<Vec<u8>, NotCanonical> {
    let mut out = Vec::new();
    write(value, &mut out)?;
    Ok(out)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), NotCanonical> {
    match value {
        Value::Null | Value::Bool(_) => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Number(number) => {
            let fits = number.as_i64().is_some_and(|n| n.unsigned_abs() <= INTEGER_MAX);
            if !fits {
                return Err(NotCanonical(number.to_string()));
            }
            out.extend_from_slice(number.to_string().as_bytes());
        }
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            // By UTF-16 code units, not by bytes.
            names.sort_by(|a, b| match a.is_ascii() && b.is_ascii() {
                true => a.cmp(b),
                false => a.encode_utf16().cmp(b.encode_utf16()),
            });
            out.push(b'{');
            for (at, name) in names.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_text(name, out);
                out.push(b':');
                write(members.get(name).unwrap_or(&Value::Null), out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

/// serde_json escapes as ECMAScript's JSON.stringify does.
fn write_text(text: &str, out: &mut Vec<u8>) {
    let written = serde_json::to_writer(out, text);
    assert!(written.is_ok(), "a text is written into memory");
}

/// SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// Bytes in lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(value: &Value, expect: &str) {
        assert_eq!(String::from_utf8(canonical(value).unwrap()).unwrap(), expect);
    }

    #[test]
    fn one_text_for_one_value() {
        check(&json!({"b": 1, "a": [true, null, "x"]}), r#"{"a":[true,null,"x"],"b":1}"#);
        check(&json!("\u{8}\t\n\u{c}\r\"\\/\u{1f}€"), "\"\\b\\t\\n\\f\\r\\\"\\\\/\\u001f€\"");
        // RFC 8785, 3.2.3: U+FB33 sorts behind the surrogates of U+1F600.
        check(
            &json!({"\u{fb33}": 1, "\u{1f600}": 2, "1": 3}),
            "{\"1\":3,\"\u{1f600}\":2,\"\u{fb33}\":1}",
        );
        check(&json!(9_007_199_254_740_991_i64), "9007199254740991");
    }

    #[test]
    fn refuses_what_readers_would_round() {
        for value in [json!(1.5), json!(9_007_199_254_740_992_u64), json!(u64::MAX), json!(-1.0e9)]
        {
            assert!(canonical(&value).is_err(), "{value}");
        }
    }

    #[test]
    fn the_digest_is_sha_256() {
        assert_eq!(
            hex(&sha256(b"abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
