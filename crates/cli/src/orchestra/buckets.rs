//! Buckets of a service's files, opened as repositories are: with references to credentials, else
//! with the environment's.

use std::collections::BTreeMap;
use std::sync::Arc;

use providers::Buckets;
use recovery::service::Service;
use store::{Bucket, Secret};

use crate::{secrets, wiring};

/// Opens buckets for steps.
#[derive(Debug)]
pub(crate) struct Opener;

impl Buckets for Opener {
    fn open(
        &self,
        url: &str,
        credentials: &BTreeMap<String, String>,
    ) -> Result<Arc<dyn Bucket>, String> {
        let place = store::bucket::shown(url);
        let mut resolved = BTreeMap::new();
        for (name, reference) in credentials {
            let value = secrets::resolve_text(reference, &format!("bucket '{place}'"))?;
            resolved.insert(name.clone(), Secret::new(value.as_str()));
        }
        store::bucket::open(url, &wiring::store_options(resolved)).map_err(|it| it.to_string())
    }
}

/// A bucket of a service, as it is declared.
pub(crate) struct Declared<'s> {
    /// For people: `files of 's3://b'`.
    pub(crate) what: String,
    url: &'s str,
    credentials: &'s BTreeMap<String, String>,
    /// Whether production's files lie there.
    pub(crate) is_copy: bool,
}

/// Every bucket that a service names.
pub(crate) fn declared(service: &Service) -> Vec<Declared<'_>> {
    let drill = service.drill.iter().flat_map(|drill| &drill.files);
    let all = service.files.iter().chain(drill);
    let both = all.flat_map(|files| {
        let copy = files.copy.as_ref().map(|copy| (copy, &files.copy_credentials, true));
        std::iter::once((&files.bucket, &files.credentials, false)).chain(copy)
    });
    let named = both.map(|(url, credentials, is_copy)| {
        let what = if is_copy { "copy of files" } else { "files" };
        let what = format!("{what} '{}'", store::bucket::shown(url));
        Declared { what, url, credentials, is_copy }
    });
    named.collect()
}

/// Addresses and credentials that mean nothing: seen without asking anybody.
pub(crate) fn problems(service: &Service) -> Vec<(String, String)> {
    let opened = declared(service).into_iter().map(|it| {
        let opened = Opener.open(it.url, it.credentials);
        (it.what, opened.err())
    });
    opened.filter_map(|(what, why)| Some((what, why?))).collect()
}

/// Lists the beginning of a bucket; how many objects were seen, at most a few.
pub(crate) async fn list(declared: &Declared<'_>) -> Result<usize, String> {
    const LOOKED_AT: usize = 10;
    let bucket = Opener.open(declared.url, declared.credentials)?;
    let listed = bucket.list(None, LOOKED_AT).await.map_err(|error| error.to_string())?;
    Ok(listed.len())
}
