//! A streamed write in parts, some of them under way at a time, each repeated by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::multipart::PartId;
use object_store::{PutMode, PutPayload};
use tokio::task::JoinSet;

use super::{Failure, Shared};
use crate::{Error, Key, Upload};

/// Bytes of every part but the last. Stores demand at least 5 MiB, and some that all are equal.
const PART_LEN: usize = 8 << 20;

/// Parts under way at a time. With the one being gathered, an upload holds at most 40 MiB.
const PARTS_UNDER_WAY: usize = 4;

/// Parts of one object: S3 and GCS allow 10,000, which makes 78 GiB.
const PARTS_MAX: usize = 10_000;

pub(super) struct CloudUpload {
    shared: Arc<Shared>,
    key: Key,
    /// The store's name of this upload, once the first part is full.
    id: Option<String>,
    gathered: Vec<Bytes>,
    gathered_len: usize,
    total: u64,
    begun: usize,
    under_way: JoinSet<(usize, Result<PartId, Error>)>,
    done: BTreeMap<usize, PartId>,
    failed: bool,
}

impl std::fmt::Debug for CloudUpload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CloudUpload")
            .field("key", &self.key)
            .field("total", &self.total)
            .field("begun", &self.begun)
            .finish_non_exhaustive()
    }
}

impl CloudUpload {
    pub(super) fn new(shared: Arc<Shared>, key: Key) -> Self {
        Self {
            shared,
            key,
            id: None,
            gathered: Vec::new(),
            gathered_len: 0,
            total: 0,
            begun: 0,
            under_way: JoinSet::new(),
            done: BTreeMap::new(),
            failed: false,
        }
    }

    /// Takes exactly `len` gathered bytes, without copying.
    fn take(&mut self, len: usize) -> Vec<Bytes> {
        let mut part = Vec::new();
        let mut missing = len;
        let mut rest = std::mem::take(&mut self.gathered).into_iter();
        while missing > 0
            && let Some(mut bytes) = rest.next()
        {
            if bytes.len() > missing {
                part.push(bytes.split_to(missing));
                self.gathered.push(bytes);
                missing = 0;
            } else {
                missing -= bytes.len();
                part.push(bytes);
            }
        }
        self.gathered.extend(rest);
        self.gathered_len -= len;
        part
    }

    async fn id(&mut self) -> Result<String, Error> {
        if let Some(id) = &self.id {
            return Ok(id.clone());
        }
        let (shared, key) = (&self.shared, &self.key);
        let path = shared.path(key);
        let create = || async {
            let create = shared.client.multipart.create_multipart(&path);
            let created = shared.within(shared.deadlines.answer, create).await;
            created.map_err(|failure| shared.error("write", key.as_str(), failure))
        };
        let id = shared.retry.run(create).await?;
        self.id = Some(id.clone());
        Ok(id)
    }

    /// Sends the next part once fewer than the bound are under way.
    async fn send(&mut self, part: Vec<Bytes>) -> Result<(), Error> {
        if self.begun >= PARTS_MAX {
            return Err(Error::Denied {
                store: self.shared.address.clone(),
                verb: "write",
                key: self.key.to_string(),
                reason: format!("it would have more than {PARTS_MAX} parts of {PART_LEN} bytes"),
            });
        }
        let id = self.id().await?;
        while self.under_way.len() >= PARTS_UNDER_WAY {
            self.join_one().await?;
        }
        let (shared, key, index) = (Arc::clone(&self.shared), self.key.clone(), self.begun);
        self.begun += 1;
        let payload: PutPayload = part.into_iter().collect();
        self.under_way.spawn(async move {
            let sent = shared.retry.run(|| send_part(&shared, &key, &id, index, &payload)).await;
            (index, sent)
        });
        Ok(())
    }

    async fn join_one(&mut self) -> Result<(), Error> {
        match self.under_way.join_next().await {
            None => Ok(()),
            Some(Ok((index, sent))) => {
                self.done.insert(index, sent?);
                Ok(())
            }
            Some(Err(_)) => {
                Err(self.shared.unavailable("write", &self.key, "the task of a part stopped"))
            }
        }
    }

    async fn write_parts(&mut self) -> Result<(), Error> {
        while self.gathered_len >= PART_LEN {
            let part = self.take(PART_LEN);
            self.send(part).await?;
        }
        Ok(())
    }

    async fn complete(&mut self) -> Result<(), Error> {
        if self.failed {
            return Err(self.shared.unavailable("write", &self.key, "an earlier part failed"));
        }
        let rest = self.take(self.gathered_len);
        if self.id.is_none() {
            return self.put_whole(&rest).await;
        }
        if !rest.is_empty() {
            self.send(rest).await?;
        }
        while !self.under_way.is_empty() {
            self.join_one().await?;
        }
        let id = self.id().await?;
        let parts: Vec<PartId> = self.done.values().cloned().collect();
        let (shared, key, total) = (&self.shared, &self.key, self.total);
        shared.retry.run(|| complete(shared, key, &id, &parts, total)).await
    }

    /// What fits into one part needs no parts. The name is this upload's own, so a repeat that
    /// replaces can only replace the same bytes.
    async fn put_whole(&self, parts: &[Bytes]) -> Result<(), Error> {
        let put = || async {
            let put = self.shared.put(&self.key, parts.to_vec(), PutMode::Overwrite).await;
            put.map_err(|failure| self.shared.error("write", self.key.as_str(), failure))
        };
        self.shared.retry.run(put).await
    }
}

async fn send_part(
    shared: &Shared,
    key: &Key,
    id: &String,
    index: usize,
    payload: &PutPayload,
) -> Result<PartId, Error> {
    let limit = shared.deadlines.transfer(payload.content_length() as u64);
    let path = shared.path(key);
    let put = shared.client.multipart.put_part(&path, id, index, payload.clone());
    let sent = shared.within(limit, put).await;
    sent.map_err(|failure| shared.error("write", key.as_str(), failure))
}

/// Completes, and asks for the object when the answer is not a clear yes: a repeat of a completion
/// whose answer was lost is told that there is no such upload.
async fn complete(
    shared: &Shared,
    key: &Key,
    id: &String,
    parts: &[PartId],
    total: u64,
) -> Result<(), Error> {
    let path = shared.path(key);
    let completion = shared.client.multipart.complete_multipart(&path, id, parts.to_vec());
    // Stores join the parts before they answer, which takes minutes at worst.
    let limit = shared.deadlines.transfer(total);
    let Err(failure) = shared.within(limit, completion).await else { return Ok(()) };
    match shared.head(key).await {
        Ok(meta) if meta.size == total => Ok(()),
        _ => Err(shared.error("write", key.as_str(), failure)),
    }
}

async fn discard(shared: &Shared, key: &Key, id: &String) -> Result<(), Error> {
    let path = shared.path(key);
    let abort = shared.client.multipart.abort_multipart(&path, id);
    match shared.within(shared.deadlines.answer, abort).await {
        Err(Failure::Answered(object_store::Error::NotFound { .. })) | Ok(()) => Ok(()),
        Err(failure) => Err(shared.error("delete", key.as_str(), failure)),
    }
}

#[async_trait]
impl Upload for CloudUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        if self.failed {
            return Err(self.shared.unavailable("write", &self.key, "an earlier part failed"));
        }
        self.total += bytes.len() as u64;
        self.gathered_len += bytes.len();
        if !bytes.is_empty() {
            self.gathered.push(bytes);
        }
        let written = self.write_parts().await;
        self.failed = written.is_err();
        written
    }

    async fn finish(mut self: Box<Self>) -> Result<(), Error> {
        self.complete().await?;
        self.id = None; // nothing is left to discard
        Ok(())
    }

    async fn abort(mut self: Box<Self>) -> Result<(), Error> {
        self.under_way.shutdown().await;
        let Some(id) = self.id.take() else { return Ok(()) };
        self.shared.retry.run(|| discard(&self.shared, &self.key, &id)).await
    }
}

impl Drop for CloudUpload {
    fn drop(&mut self) {
        self.under_way.abort_all();
        let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let (shared, key) = (Arc::clone(&self.shared), self.key.clone());
        runtime.spawn(async move {
            if let Err(error) = discard(&shared, &key, &id).await {
                tracing::debug!(%error, "parts of an abandoned upload stay until the store's own rule removes them");
            }
        });
    }
}
