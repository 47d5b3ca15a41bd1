//! Whether an alert came from whom it says: HMAC-SHA256 of PagerDuty and of our own webhooks, RSA
//! of SNS.
//!
//! Sources: PagerDuty, "Verifying Signatures" (`X-PagerDuty-Signature: v1=HEX,v1=HEX`); AWS,
//! "Verifying the signatures of Amazon SNS messages".

use aws_lc_rs::{hmac, signature};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::AlertError;

/// Names of the signatures that are checked: PagerDuty's, and ours.
const VERSIONS: [&str; 2] = ["v1=", "sha256="];

/// What SNS signs of a notification, in this order.
const NOTIFICATION: [&str; 6] =
    ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"];

/// What SNS signs of a message about a subscription.
const SUBSCRIPTION: [&str; 7] =
    ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"];

fn wrong<T>(why: impl Into<String>) -> Result<T, AlertError> {
    Err(AlertError::Signature(why.into()))
}

/// Checks the value of a signature's header against the body as it came. One of several is enough:
/// a sender signs with the old and the new secret while it changes.
///
/// # Errors
/// [`AlertError::Signature`].
pub fn check_hmac(body: &[u8], header: &str, secret: &str) -> Result<(), AlertError> {
    if secret.is_empty() {
        return wrong("the secret is empty");
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let given = header.split(',').map(str::trim);
    let known = given.filter_map(|text| VERSIONS.iter().find_map(|it| text.strip_prefix(it)));
    let tags: Vec<Vec<u8>> = known.filter_map(unhex).collect();
    if tags.is_empty() {
        return wrong("expected 'v1=' or 'sha256=' and hexadecimal digits");
    }
    match tags.iter().any(|tag| hmac::verify(&key, body, tag).is_ok()) {
        true => Ok(()),
        false => wrong("the body was not signed with this secret"),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|it| u8::try_from(it).ok())).collect();
    let digits = digits.filter(|digits| !digits.is_empty() && digits.len().is_multiple_of(2))?;
    let pairs = digits.chunks_exact(2);
    Some(pairs.map(|pair| pair.iter().fold(0, |sum, digit| (sum << 4) | digit)).collect())
}

/// Checks an SNS envelope against the certificate that its sender signs with, in PEM. Whoever calls
/// this has got the certificate from AWS; the address in the envelope proves nothing by itself.
///
/// # Errors
/// [`AlertError::Signature`]; the errors of an envelope that is no JSON.
pub fn check_sns(body: &[u8], certificate: &str) -> Result<(), AlertError> {
    let envelope = super::json(body)?;
    let text = |name: &str| envelope.get(name).and_then(Value::as_str);
    let url = text("SigningCertURL").unwrap_or_default();
    if !is_of_sns(url) {
        return wrong(format!("'{}' is no address of SNS", super::shown(url)));
    }
    let algorithm = match text("SignatureVersion") {
        Some("1") => &signature::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
        Some("2") => &signature::RSA_PKCS1_2048_8192_SHA256,
        _ => return wrong("expected SignatureVersion 1 or 2"),
    };
    let given = text("Signature").and_then(|text| STANDARD.decode(text).ok());
    let Some(given) = given else { return wrong("expected a Signature in base 64") };
    let names: &[&str] = match text("Type") {
        Some("Notification") => &NOTIFICATION,
        _ => &SUBSCRIPTION,
    };
    let mut signed = String::new();
    for name in names {
        if let Some(value) = text(name) {
            signed.push_str(&format!("{name}\n{value}\n"));
        }
    }
    let der = pem(certificate);
    let Some(key) = der.as_deref().and_then(public_key) else {
        return wrong("expected a certificate in PEM");
    };
    let key = signature::UnparsedPublicKey::new(algorithm, key);
    match key.verify(signed.as_bytes(), &given) {
        Ok(()) => Ok(()),
        Err(_) => wrong("the envelope was not signed with this certificate's key"),
    }
}

/// Checks whose topic an SNS envelope is of: AWS signs the messages of everybody's topics.
///
/// # Errors
/// [`AlertError::Signature`]; the errors of an envelope that is no JSON.
pub fn check_topic(body: &[u8], topics: &[String]) -> Result<(), AlertError> {
    let envelope = super::json(body)?;
    let topic = envelope.get("TopicArn").and_then(Value::as_str).unwrap_or_default();
    match topics.iter().any(|known| known == topic) {
        true => Ok(()),
        false => wrong(format!(
            "expected a message of topic '{}', seen '{}'",
            topics.join("' or '"),
            super::shown(topic)
        )),
    }
}

/// `https://sns.REGION.amazonaws.com/…`, or the same in China.
fn is_of_sns(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://") else { return false };
    let host = rest.split('/').next().unwrap_or_default();
    let host = host.strip_suffix(".cn").unwrap_or(host);
    let region = host.strip_prefix("sns.").and_then(|it| it.strip_suffix(".amazonaws.com"));
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    region.is_some_and(|region| !region.is_empty() && region.chars().all(is_of_name))
}

fn pem(text: &str) -> Option<Vec<u8>> {
    let body = text.split_once("-----BEGIN CERTIFICATE-----")?.1;
    let body = body.split_once("-----END CERTIFICATE-----")?.0;
    let joined: String = body.split_whitespace().collect();
    STANDARD.decode(joined).ok()
}

/// The SubjectPublicKeyInfo of a certificate (RFC 5280, section 4.1), as DER.
fn public_key(der: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let certificate = element(der, SEQUENCE)?.content;
    let mut rest = element(certificate, SEQUENCE)?.content;
    if let Some(version) = element(rest, VERSION) {
        rest = version.rest;
    }
    // Serial number, signature, issuer, validity, subject.
    for _ in 0..5 {
        rest = element(rest, *rest.first()?)?.rest;
    }
    Some(element(rest, SEQUENCE)?.whole)
}

struct Element<'d> {
    whole: &'d [u8],
    content: &'d [u8],
    rest: &'d [u8],
}

fn element(der: &[u8], tag: u8) -> Option<Element<'_>> {
    let (first, after) = der.split_first()?;
    if *first != tag {
        return None;
    }
    let (length, after) = after.split_first()?;
    let (len, head) = match length {
        short @ 0..=0x7f => (usize::from(*short), 2),
        long @ 0x81..=0x83 => {
            let bytes = after.get(..usize::from(long & 0x7f))?;
            let len = bytes.iter().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte));
            (len, 2 + bytes.len())
        }
        _ => return None,
    };
    let (whole, rest) = der.split_at_checked(head.checked_add(len)?)?;
    Some(Element { whole, content: whole.get(head..)?, rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fitting_signature_of_several_is_enough() {
        // RFC 4231, test case 2.
        let tag = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let body = b"what do ya want for nothing?";
        let zeros = "0".repeat(64);
        for header in
            [format!("v1={tag}"), format!("v1={zeros}, v1={tag}"), format!("sha256={tag}")]
        {
            check_hmac(body, &header, "Jefe").unwrap();
        }
        for header in ["", "v1=", "v1=xyz", "v2=00", &format!("v1={zeros}"), &format!("v1={tag}0")]
        {
            check_hmac(body, header, "Jefe").unwrap_err();
        }
        check_hmac(b"else", &format!("v1={tag}"), "Jefe").unwrap_err();
        check_hmac(body, &format!("v1={tag}"), "").unwrap_err();
    }

    #[test]
    fn only_addresses_of_sns_are_believed() {
        assert!(is_of_sns("https://sns.eu-central-1.amazonaws.com/x.pem"));
        assert!(is_of_sns("https://sns.cn-north-1.amazonaws.com.cn/x.pem"));
        for url in [
            "http://sns.eu-central-1.amazonaws.com/x.pem",
            "https://sns.eu.amazonaws.com.evil.example/x.pem",
            "https://evil.example/sns.eu.amazonaws.com",
            "https://sns..amazonaws.com/x",
            "https://sns.evil.example/x?.amazonaws.com",
            "https://me@sns.x.amazonaws.com/",
        ] {
            assert!(!is_of_sns(url), "{url}");
        }
    }

    #[test]
    fn a_certificate_may_be_any_bytes() {
        for len in 0..64 {
            assert_eq!(public_key(&vec![0x30; len]), None);
            assert_eq!(public_key(&vec![0x83; len]), None);
        }
    }
}
