//! Buckets of applications: any name, listed in order, added to and never replaced.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use jiff::Timestamp;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::multipart::PartId;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, PutMode, PutPayload};

use super::{CloudStore, Failure, Shared, reason};
use crate::bucket::{Bucket, Item, PIECE_LEN, piece};
use crate::{Created, Error};

/// Parts of one object: S3 and GCS allow 10,000.
const PARTS_MAX: u64 = 10_000;

/// Objects asked for per request.
const PAGE_MAX: usize = 1000;

/// Pages without a wanted object after which something is wrong with the listing.
const PAGES_MAX: usize = 100_000;

impl Shared {
    /// The path of a name. Names that the client would change in silence are refused: another
    /// object would be meant.
    fn named(&self, verb: &'static str, name: &str) -> Result<Path, Error> {
        let path = Path::parse(format!("{}{name}", self.prefix)).ok();
        let is_same = |path: &Path| path.as_ref().strip_prefix(&self.prefix) == Some(name);
        path.filter(|path| !name.is_empty() && is_same(path)).ok_or_else(|| Error::Denied {
            store: self.address.clone(),
            verb,
            key: name.into(),
            reason: "it is no name: expected one without '/' at its ends, empty parts, '.', '..' \
                     and control characters"
                .into(),
        })
    }

    fn item(&self, meta: &object_store::ObjectMeta) -> Option<Item> {
        let name = meta.location.as_ref().strip_prefix(&self.prefix)?;
        let micros = meta.last_modified.timestamp_micros();
        Some(Item {
            name: name.to_owned(),
            size: meta.size,
            modified: Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH),
            etag: meta.e_tag.clone(),
        })
    }

    async fn look(&self, name: &str) -> Result<Option<Item>, Error> {
        let path = self.named("read", name)?;
        let options = GetOptions { head: true, ..GetOptions::default() };
        let asked = self.client.objects.get_opts(&path, options);
        match self.within(self.deadlines.answer, asked).await {
            Ok(result) => Ok(self.item(&result.meta)),
            Err(failure) => match failure.not_found() {
                None => Err(self.error("read", name, failure)),
                Some(reason::NotFound::Key) => Ok(None),
                // The answer to a HEAD has no body: the bucket itself may be missing.
                Some(reason::NotFound::Something) => self.items(None, 1).await.map(|_| None),
            },
        }
    }

    async fn part(&self, name: &str, range: Range<u64>) -> Result<Bytes, Error> {
        if range.start >= range.end {
            return Ok(Bytes::new());
        }
        let path = self.named("read", name)?;
        let bounded = Some(GetRange::Bounded(range.clone()));
        let options = GetOptions { range: bounded, ..GetOptions::default() };
        let expected = range.end - range.start;
        let work = async {
            let asked = self.client.objects.get_opts(&path, options);
            let result = self.within(self.deadlines.answer, asked).await?;
            self.collect(result.into_stream(), expected).await
        };
        let limit = self.deadlines.transfer(expected);
        let read = tokio::time::timeout(limit, work).await.unwrap_or(Err(Failure::Silent(limit)));
        let bytes = read.map_err(|failure| self.error("read", name, failure))?;
        match bytes.len() as u64 == expected {
            true => Ok(bytes),
            false => Err(self.wrong("read", name, "the object is shorter than it was")),
        }
    }

    fn wrong(&self, verb: &'static str, name: &str, reason: &str) -> Error {
        let (store, key) = (self.address.clone(), name.to_owned());
        Error::Unavailable { store, verb, key, reason: reason.into() }
    }

    async fn items(&self, after: Option<&str>, limit: usize) -> Result<Vec<Item>, Error> {
        let mut found: Vec<Item> = Vec::new();
        let listed = match &self.client.pages {
            Some(pages) => self.by_pages(pages.as_ref(), after, limit, &mut found).await,
            None => self.by_stream(after, limit, &mut found).await,
        };
        listed.map_err(|failure| self.error("list", &self.prefix, failure))?;
        if !found.is_sorted_by(|a, b| a.name < b.name) {
            return Err(self.wrong("list", &self.prefix, "it does not list in order of names"));
        }
        Ok(found)
    }

    /// Takes an object. A folder's mark (`a/`, empty) is shown under another name than its own, and
    /// so out of order: it is no file of anybody.
    fn take(
        &self,
        object: &object_store::ObjectMeta,
        after: Option<&str>,
        limit: usize,
        found: &mut Vec<Item>,
    ) {
        let Some(item) = self.item(object) else { return };
        let is_behind = found.last().is_none_or(|last| last.name < item.name);
        let is_mark = item.size == 0 && !is_behind;
        let is_wanted = after.is_none_or(|after| item.name.as_str() > after);
        if is_wanted && !is_mark && !item.name.is_empty() && found.len() < limit {
            found.push(item);
        }
    }

    async fn by_pages(
        &self,
        pages: &dyn PaginatedListStore,
        after: Option<&str>,
        limit: usize,
        found: &mut Vec<Item>,
    ) -> Result<(), Failure> {
        let mut options = PaginatedListOptions {
            offset: after.map(|after| format!("{}{after}", self.prefix)),
            ..PaginatedListOptions::default()
        };
        for _ in 0..PAGES_MAX {
            options.max_keys = Some(limit.saturating_sub(found.len()).min(PAGE_MAX));
            let request = pages.list_paginated(Some(&self.prefix), options.clone());
            let page = self.within(self.deadlines.answer, request).await?;
            page.result.objects.iter().for_each(|it| self.take(it, after, limit, found));
            match page.page_token {
                Some(token) if found.len() < limit => options.page_token = Some(token),
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    async fn by_stream(
        &self,
        after: Option<&str>,
        limit: usize,
        found: &mut Vec<Item>,
    ) -> Result<(), Failure> {
        let folder = self.prefix.strip_suffix('/').map(Path::from);
        let mut objects = match after {
            Some(after) => {
                let after = format!("{}{after}", self.prefix);
                let after = Path::parse(&after).unwrap_or_else(|_| Path::from(after));
                self.client.objects.list_with_offset(folder.as_ref(), &after)
            }
            None => self.client.objects.list(folder.as_ref()),
        };
        while found.len() < limit {
            let next = async { objects.next().await.transpose() };
            let Some(object) = self.within(self.deadlines.answer, next).await? else { break };
            self.take(&object, after, limit, found);
        }
        Ok(())
    }

    /// Puts what fits into one request: the store refuses when something has the name.
    async fn create(&self, path: &Path, name: &str, bytes: Bytes) -> Result<Created, Error> {
        let limit = self.deadlines.transfer(bytes.len() as u64);
        let put = self.client.objects.put_opts(path, bytes.into(), PutMode::Create.into());
        match self.within(limit, put).await {
            Ok(_) => Ok(Created::New),
            Err(failure) if failure.already_exists() => match self.look(name).await? {
                Some(_) => Ok(Created::Exists),
                None => {
                    Err(self.wrong("write", name, "it was said to exist already, and does not"))
                }
            },
            Err(failure) => Err(self.error("write", name, failure)),
        }
    }

    /// Uploads in parts. Completing knows no condition everywhere, so the name is asked for last.
    async fn upload_parts(
        &self,
        path: &Path,
        from: &dyn Bucket,
        item: &Item,
    ) -> Result<Created, Error> {
        let name = item.name.as_str();
        let answer = self.deadlines.answer;
        let begun = self.within(answer, self.client.multipart.create_multipart(path)).await;
        let id = begun.map_err(|failure| self.error("write", name, failure))?;
        let done = async {
            let parts = self.parts(path, &id, from, item).await?;
            if self.look(name).await?.is_some() {
                return Ok(Created::Exists);
            }
            let completed = self.client.multipart.complete_multipart(path, &id, parts);
            let limit = self.deadlines.transfer(item.size);
            match self.within(limit, completed).await {
                Ok(_) => Ok(Created::New),
                Err(failure) => Err(self.error("write", name, failure)),
            }
        };
        let done = done.await;
        if !matches!(done, Ok(Created::New)) {
            // Left parts are invisible and only cost space.
            let _ = self.within(answer, self.client.multipart.abort_multipart(path, &id)).await;
        }
        done
    }

    async fn parts(
        &self,
        path: &Path,
        id: &String,
        from: &dyn Bucket,
        item: &Item,
    ) -> Result<Vec<PartId>, Error> {
        let part_len = PIECE_LEN.max(item.size.div_ceil(PARTS_MAX));
        let (mut parts, mut at) = (Vec::new(), 0);
        while at < item.size {
            let bytes = from.read(&item.name, piece(item, at, part_len)).await?;
            at += bytes.len() as u64;
            let payload = PutPayload::from(bytes);
            let sent = self.retry.run(|| async {
                let limit = self.deadlines.transfer(part_len);
                let put = self.client.multipart.put_part(path, id, parts.len(), payload.clone());
                let sent = self.within(limit, put).await;
                sent.map_err(|failure| self.error("write", &item.name, failure))
            });
            let sent = sent.await?;
            parts.push(sent);
        }
        Ok(parts)
    }
}

#[async_trait]
impl Bucket for CloudStore {
    fn address(&self) -> &str {
        &self.shared.address
    }

    fn prefers_asking(&self) -> bool {
        // Without pages every listing begins at the beginning.
        self.shared.client.pages.is_none()
    }

    async fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<Item>, Error> {
        self.shared.retry.run(|| self.shared.items(after, limit)).await
    }

    async fn head(&self, name: &str) -> Result<Option<Item>, Error> {
        self.shared.retry.run(|| self.shared.look(name)).await
    }

    async fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes, Error> {
        self.shared.retry.run(|| self.shared.part(name, range.clone())).await
    }

    async fn copy_from(&self, from: &dyn Bucket, item: &Item) -> Result<Created, Error> {
        let path = self.shared.named("write", &item.name)?;
        if item.size > PIECE_LEN {
            return self.shared.upload_parts(&path, from, item).await;
        }
        let bytes = from.read(&item.name, piece(item, 0, PIECE_LEN)).await?;
        let create = || self.shared.create(&path, &item.name, bytes.clone());
        self.shared.retry.run(create).await
    }
}
