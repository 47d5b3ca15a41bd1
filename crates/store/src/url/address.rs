//! The parts of a remote address.

use std::collections::BTreeMap;

use super::{refused, unknown};
use crate::{Error, Key};

/// Words in the name of an option that would carry a credential.
const CREDENTIAL_WORDS: [&str; 8] =
    ["secret", "token", "password", "access_key", "account_key", "sas", "sig", "credential"];

/// A parsed remote address.
#[derive(Debug)]
pub(crate) struct Address {
    /// As given, for errors; printed only redacted.
    url: String,
    pub(crate) scheme: String,
    pub(crate) bucket: String,
    /// The prefix without slashes at its ends; empty for none.
    pub(crate) prefix: String,
    query: BTreeMap<String, String>,
}

impl Address {
    pub(crate) fn parse(url: &str, scheme: &str, rest: &str) -> Result<Self, Error> {
        if rest.contains('#') {
            return Err(refused(url, "'#' has no meaning in an address"));
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.contains('@') {
            return Err(refused(url, "credentials never stand in an address"));
        }
        if bucket.is_empty() {
            return Err(refused(url, "the bucket is missing"));
        }
        if !bucket.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
            return Err(refused(url, format!("'{bucket}' is not a bucket's name")));
        }
        let prefix = prefix.trim_end_matches('/');
        if !prefix.is_empty() && Key::new(prefix).is_err() {
            return Err(refused(url, format!("'{prefix}' is not a prefix: see the rules of keys")));
        }
        Ok(Self {
            url: url.to_owned(),
            scheme: scheme.to_owned(),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            query: parse_query(url, query)?,
        })
    }

    /// The address for messages: no options, no secrets.
    pub(crate) fn display(&self) -> String {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        format!("{}://{}{slash}{}", self.scheme, self.bucket, self.prefix)
    }

    /// Refuses options that are not among `known`.
    pub(crate) fn allow(&self, known: &[&str]) -> Result<(), Error> {
        for name in self.query.keys() {
            if known.contains(&name.as_str()) {
                continue;
            }
            let lower = name.to_lowercase();
            if CREDENTIAL_WORDS.iter().any(|word| lower.contains(word)) {
                return Err(
                    self.refused(format!("credentials never stand in an address: '{name}'"))
                );
            }
            return Err(self.unknown("option", name, known));
        }
        Ok(())
    }

    /// An option's value.
    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// An option that is `true` or `false`; false when absent.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Error> {
        match self.option(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(seen) => Err(self.refused(format!("{name} is 'true' or 'false', not '{seen}'"))),
        }
    }

    /// The server to ask instead of the vendor's, from the option or `fallback`. Plain HTTP has to
    /// be allowed explicitly.
    pub(crate) fn endpoint(&self, fallback: Option<&str>) -> Result<Option<String>, Error> {
        let plain = self.flag("allow_http")?;
        let Some(endpoint) = self.option("endpoint").or(fallback) else { return Ok(None) };
        let host = match endpoint.split_once("://") {
            Some(("https", host)) => host,
            Some(("http", host)) if plain => host,
            Some(("http", _)) => {
                return Err(self.refused("an http:// endpoint needs allow_http=true"));
            }
            _ => return Err(self.refused("an endpoint starts with https:// or http://")),
        };
        if host.contains('@') {
            return Err(self.refused("credentials never stand in an address"));
        }
        Ok(Some(endpoint.trim_end_matches('/').to_owned()))
    }

    /// An address error about this address.
    pub(crate) fn refused(&self, reason: impl Into<String>) -> Error {
        refused(&self.url, reason)
    }

    /// An unknown name in or beside this address.
    pub(crate) fn unknown(&self, what: &str, seen: &str, known: &[&str]) -> Error {
        unknown(&self.url, what, seen, known)
    }
}

fn parse_query(url: &str, query: &str) -> Result<BTreeMap<String, String>, Error> {
    let mut options = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if value.is_empty() {
            return Err(refused(url, format!("option '{name}' has no value")));
        }
        let Some(value) = percent_decoded(value) else {
            return Err(refused(url, format!("option '{name}' has a broken % sequence")));
        };
        if options.insert(name.to_owned(), value).is_some() {
            return Err(refused(url, format!("option '{name}' stands twice")));
        }
    }
    Ok(options)
}

/// Replaces `%41` by `A`; `None` when a sequence is broken or the result is not UTF-8.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let ([high, low], after) = rest.split_first_chunk()?;
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

/// The address with everything removed that may be a credential: what stands before `@`, and all
/// values of options.
pub(super) fn redacted(url: &str) -> String {
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let place = match (place.split_once("://"), place.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
        _ => place.to_owned(),
    };
    if query.is_empty() {
        return place;
    }
    let names: Vec<String> = query
        .split('&')
        .map(|pair| format!("{}=…", pair.split('=').next().unwrap_or_default()))
        .collect();
    format!("{place}?{}", names.join("&"))
}
