//! Addresses: which store a text means, and opening it.
//!
//! ```text
//! /srv/backups   file:///srv/backups
//! s3://bucket/prefix?region=&endpoint=&style=path|virtual&checksum=crc64nvme|sha256|none&allow_http=
//! gs://bucket/prefix?endpoint=&allow_http=
//! az://container/prefix?account=&endpoint=&allow_http=
//! ```
//!
//! An address goes into configuration, logs and recovery kits, so credentials are refused in it:
//! they come in [`OpenOptions`].

mod address;
mod nearest;

use std::path::Path;
use std::sync::Arc;

use crate::retry::Retry;
use crate::{Error, LocalStore, MemoryStore, OpenOptions, Store, cloud};

pub(crate) use address::Address;
pub(crate) use nearest::nearest;

const SCHEMES: [&str; 4] = ["file", "s3", "gs", "az"];

/// Opens the store at `url`. Remote stores are not contacted yet; they come wrapped in
/// [`Retry`](crate::retry).
///
/// # Errors
/// [`Error::Address`] when the address or an option is not understood, with the nearest known
/// name; the local store's errors when its directory has to be created and cannot be.
pub fn open(url: &str, options: &OpenOptions) -> Result<Arc<dyn Store>, Error> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return match url {
            "memory:" if options.allow_memory => Ok(Arc::new(MemoryStore::new())),
            "memory:" => Err(refused(url, "a store in memory keeps nothing")),
            path => local(url, path, options),
        };
    };
    match scheme {
        "file" => local(url, &file_path(url, rest)?, options),
        "s3" | "gs" | "az" => {
            let address = Address::parse(url, scheme, rest)?;
            let store = cloud::open(&address, options)?;
            Ok(Arc::new(Retry::new(Arc::new(store), options.retry)))
        }
        _ => Err(unknown(url, "scheme", scheme, &SCHEMES)),
    }
}

fn local(url: &str, path: &str, options: &OpenOptions) -> Result<Arc<dyn Store>, Error> {
    let path = absolute(url, path, options)?;
    Ok(Arc::new(if options.create {
        LocalStore::create(path, options.access)?
    } else {
        LocalStore::open(path, options.access)
    }))
}

fn absolute<'p>(url: &str, path: &'p str, options: &OpenOptions) -> Result<&'p Path, Error> {
    if !options.secrets.is_empty() {
        return Err(refused(url, "a directory needs no credentials, but some were given"));
    }
    let path = Path::new(path);
    if !path.is_absolute() {
        // PostgreSQL runs commands in its data directory: a relative path would mean another place.
        return Err(refused(url, "the path of a directory must be absolute"));
    }
    Ok(path)
}

/// The directory that `url` means.
pub(crate) fn local_path(url: &str, options: &OpenOptions) -> Result<String, Error> {
    let path = match url.split_once("://") {
        None => url.to_owned(),
        Some(("file", rest)) => file_path(url, rest)?,
        Some((scheme, _)) => return Err(unknown(url, "scheme", scheme, &SCHEMES)),
    };
    absolute(url, &path, options)?;
    Ok(path)
}

fn file_path(url: &str, rest: &str) -> Result<String, Error> {
    if !rest.starts_with('/') {
        return Err(refused(url, "a file address has three slashes: file:///dir"));
    }
    if rest.contains(['?', '#']) {
        return Err(refused(url, "a directory has no options; write '?' as %3F and '#' as %23"));
    }
    address::percent_decoded(rest).ok_or_else(|| refused(url, "a broken % sequence"))
}

/// An address error with nothing secret in it.
pub(crate) fn refused(url: &str, reason: impl Into<String>) -> Error {
    Error::Address { url: address::redacted(url), reason: reason.into() }
}

/// An unknown name, with the nearest known one.
pub(crate) fn unknown(url: &str, what: &str, seen: &str, known: &[&str]) -> Error {
    let known_list = known.join(", ");
    refused(
        url,
        match nearest(seen, known) {
            Some(near) => format!("unknown {what} '{seen}', did you mean '{near}'?"),
            None => format!("unknown {what} '{seen}', expected one of {known_list}"),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::open;
    use crate::{OpenOptions, Secret};

    fn options() -> OpenOptions {
        let secrets = [("access_key_id", "AKIDEXAMPLE"), ("secret_access_key", "hush-hush")];
        OpenOptions {
            secrets: secrets.map(|(k, v)| (k.into(), Secret::new(v))).into(),
            ..OpenOptions::default()
        }
    }

    #[test]
    fn names_the_store_without_options() {
        for (url, address) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://bucket/a/b/?region=eu-west-1&checksum=none", "s3://bucket/a/b"),
            ("s3://b/p?endpoint=http%3A%2F%2F127.0.0.1%3A9&allow_http=true", "s3://b/p"),
            ("s3://b/p?endpoint=https://minio.example:9000&style=virtual", "s3://b/p"),
        ] {
            assert_eq!(open(url, &options()).unwrap().address(), address, "{url}");
        }
        let none = OpenOptions::default();
        assert_eq!(open("/srv/x", &none).unwrap().address(), "/srv/x");
        assert_eq!(open("file:///srv/a%20b", &none).unwrap().address(), "/srv/a b");
        let memory = OpenOptions { allow_memory: true, ..none };
        assert_eq!(open("memory:", &memory).unwrap().address(), "memory:");
    }

    #[test]
    fn refuses_what_it_does_not_know_and_names_the_nearest() {
        for (url, expect) in [
            ("s4://bucket", "unknown scheme 's4', did you mean 's3'?"),
            ("s3://bucket?regoin=x", "unknown option 'regoin', did you mean 'region'?"),
            ("s3://bucket?zzzzzzzz=x", "unknown option 'zzzzzzzz', expected one of region, "),
            ("az://c?acount=x", "unknown option 'acount', did you mean 'account'?"),
            ("az://c/p", "the storage account is missing"),
            ("s3://bucket?checksum=crc32", "unknown checksum 'crc32', "),
            ("s3://bucket?allow_http=1", "allow_http is 'true' or 'false'"),
            ("s3://bucket?region=a&region=b", "option 'region' stands twice"),
            ("s3://bucket?region", "option 'region' has no value"),
            ("s3://b?endpoint=http://x", "needs allow_http=true"),
            ("s3://b?endpoint=ftp://x", "starts with https:// or http://"),
            ("s3://", "the bucket is missing"),
            ("s3://Bucket Name/x", "is not a bucket's name"),
            ("s3://b/a//b", "is not a prefix"),
            ("s3://b/../x", "is not a prefix"),
            ("s3://b/x#frag", "'#'"),
            ("file://host/dir", "three slashes"),
            ("dir/relative", "must be absolute"),
            ("", "must be absolute"),
            ("memory:", "keeps nothing"),
        ] {
            let options = if url.contains("3://b") { options() } else { OpenOptions::default() };
            let error = open(url, &options).unwrap_err().to_string();
            assert!(error.contains(expect), "{url}: {error}");
        }
    }

    #[test]
    fn credentials_never_stand_in_an_address_nor_in_its_error() {
        for url in [
            "s3://AKID:hush-hush@bucket/x",
            "s3://bucket/x?secret_access_key=hush-hush",
            "s3://bucket/x?token=hush-hush",
            "az://c/x?account=a&sas_token=hush-hush",
            "az://c/x?account=a&sig=hush-hush",
            "s5://AKID:hush-hush@bucket/x?y=hush-hush",
            "s3://b?endpoint=https://u:hush-hush@host",
        ] {
            let error = open(url, &options()).unwrap_err().to_string();
            assert!(!error.contains("hush"), "{error}");
        }
        let error = open("s3://bucket?secret_access_key=x", &options()).unwrap_err().to_string();
        assert!(error.contains("credentials never stand in an address"), "{error}");
        assert!(!format!("{:?}", options()).contains("hush"));
    }

    #[test]
    fn unknown_or_half_credentials_are_refused() {
        let with = |names: &[&str]| OpenOptions {
            secrets: names.iter().map(|n| ((*n).to_owned(), Secret::new("hush-hush"))).collect(),
            ..OpenOptions::default()
        };
        for (url, names, expect) in [
            ("s3://b", &["acces_key_id"][..], "did you mean 'access_key_id'?"),
            ("s3://b", &["access_key_id"], "'secret_access_key' is missing"),
            ("s3://b", &["session_token"], "'access_key_id' is missing"),
            ("az://c?account=a", &["account_kee"], "did you mean 'account_key'?"),
            ("gs://b", &["service_account_key"], "service account"),
            ("/srv", &["access_key_id"], "needs no credentials"),
        ] {
            let error = open(url, &with(names)).unwrap_err().to_string();
            assert!(error.contains(expect), "{url} {names:?}: {error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
