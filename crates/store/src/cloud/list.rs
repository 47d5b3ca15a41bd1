//! Ordered listing with a start, over clients that page by themselves or not.

use futures::StreamExt;
use jiff::Timestamp;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;

use super::{Failure, Shared};
use crate::{Key, ObjectMeta};

/// Objects asked for per request: the most that S3 and GCS give.
const PAGE_MAX: usize = 1000;

/// Pages without a wanted object after which something is wrong with the listing.
const PAGES_MAX: usize = 100_000;

pub(super) fn meta(key: Key, meta: &object_store::ObjectMeta) -> ObjectMeta {
    let micros = meta.last_modified.timestamp_micros();
    let modified = Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH);
    ObjectMeta { key, size: meta.size, modified }
}

/// What a listing is to bring.
struct Wanted<'a> {
    store_prefix: &'a str,
    prefix: &'a str,
    after: Option<&'a Key>,
    limit: usize,
    found: Vec<ObjectMeta>,
}

impl Wanted<'_> {
    /// Takes the object if it is wanted. Objects of others under our prefix whose names are not
    /// keys are not ours.
    fn take(&mut self, object: &object_store::ObjectMeta) {
        let Some(name) = object.location.as_ref().strip_prefix(self.store_prefix) else { return };
        let wanted = name.starts_with(self.prefix)
            && self.after.is_none_or(|after| name > after.as_str())
            && self.found.len() < self.limit;
        if let (true, Ok(key)) = (wanted, Key::new(name)) {
            self.found.push(meta(key, object));
        }
    }

    fn full(&self) -> bool {
        self.found.len() >= self.limit
    }
}

pub(super) async fn list(
    shared: &Shared,
    prefix: &str,
    after: Option<&Key>,
    limit: usize,
) -> Result<Vec<ObjectMeta>, Failure> {
    let mut wanted =
        Wanted { store_prefix: &shared.prefix, prefix, after, limit, found: Vec::new() };
    if limit == 0 {
        return Ok(wanted.found);
    }
    match &shared.client.pages {
        Some(pages) => by_pages(shared, pages.as_ref(), &mut wanted).await?,
        None => by_stream(shared, &mut wanted).await?,
    }
    debug_assert!(wanted.found.is_sorted_by(|a, b| a.key < b.key), "the store lists out of order");
    Ok(wanted.found)
}

async fn by_pages(
    shared: &Shared,
    pages: &dyn PaginatedListStore,
    wanted: &mut Wanted<'_>,
) -> Result<(), Failure> {
    let prefix = format!("{}{}", shared.prefix, wanted.prefix);
    let mut options = PaginatedListOptions {
        offset: wanted.after.map(|after| format!("{}{after}", shared.prefix)),
        ..PaginatedListOptions::default()
    };
    for _ in 0..PAGES_MAX {
        options.max_keys = Some((wanted.limit - wanted.found.len()).min(PAGE_MAX));
        let request = pages.list_paginated(Some(&prefix), options.clone());
        let page = shared.within(shared.deadlines.answer, request).await?;
        page.result.objects.iter().for_each(|object| wanted.take(object));
        match page.page_token {
            Some(token) if !wanted.full() => options.page_token = Some(token),
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// Lists the folder that the prefix lies in and leaves out the rest: Azure's client knows prefixes
/// of whole parts only.
async fn by_stream(shared: &Shared, wanted: &mut Wanted<'_>) -> Result<(), Failure> {
    let full = format!("{}{}", shared.prefix, wanted.prefix);
    let folder = full.rsplit_once('/').map(|(folder, _)| Path::from(folder));
    let mut objects = match wanted.after {
        Some(after) => {
            let after = Path::from(format!("{}{after}", shared.prefix));
            shared.client.objects.list_with_offset(folder.as_ref(), &after)
        }
        None => shared.client.objects.list(folder.as_ref()),
    };
    while !wanted.full() {
        let next = async { objects.next().await.transpose() };
        let Some(object) = shared.within(shared.deadlines.answer, next).await? else { break };
        let name = object.location.as_ref();
        if !name.starts_with(&full) && name > full.as_str() {
            break; // past everything that begins with the prefix
        }
        wanted.take(&object);
    }
    Ok(())
}
