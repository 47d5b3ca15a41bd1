//! A streamed write to a file: the caller's buffers go to the kernel as they are, one write is
//! always under way, and the disk works while the caller prepares the next bytes.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::Advice;
use std::num::NonZeroU64;
use tokio::task::JoinHandle;

use super::LocalStore;
use super::fault::{Fault, Verb};
use super::temp::{TempFile, write_parts};
use crate::{Created, Error, Key, Upload};

/// Bytes gathered before they are handed to a working thread: large enough that the hand-over (some
/// ten microseconds) does not count, small enough to be under way early.
const WRITE_SIZE: usize = 4 << 20;

/// Buffers gathered at most, so that a caller with tiny writes holds few of them.
const WRITE_PARTS_MAX: usize = 512;

/// Bytes between two background syncs. A dirty page cache of twice this is what `finish` and the
/// database on the same host can have to wait for.
const SYNC_STEP: u64 = 128 << 20;

#[derive(Debug)]
pub(super) struct LocalUpload {
    store: LocalStore,
    key: Key,
    temp: Arc<TempFile>,
    gathered: Vec<Bytes>,
    gathered_len: usize,
    /// Bytes handed to the file so far.
    handed: u64,
    /// Bytes handed when the last background sync began.
    synced: u64,
    writing: Option<JoinHandle<Result<(), Fault>>>,
    syncing: Option<JoinHandle<Result<(), Fault>>>,
    failed: bool,
}

impl LocalUpload {
    pub(super) fn new(store: LocalStore, key: Key, temp: TempFile) -> Self {
        Self {
            store,
            key,
            temp: Arc::new(temp),
            gathered: Vec::new(),
            gathered_len: 0,
            handed: 0,
            synced: 0,
            writing: None,
            syncing: None,
            failed: false,
        }
    }

    /// Waits for the write under way, then starts the next one with what is gathered.
    async fn hand_over(&mut self) -> Result<(), Fault> {
        joined(self.writing.take()).await?;
        if self.handed - self.synced >= SYNC_STEP {
            joined(self.syncing.take()).await?;
            self.synced = self.handed;
            let temp = Arc::clone(&self.temp);
            self.syncing =
                Some(tokio::task::spawn_blocking(move || Ok(temp.file().sync_data()?)));
        }
        let parts = std::mem::take(&mut self.gathered);
        let len = std::mem::take(&mut self.gathered_len) as u64;
        let at = self.handed;
        self.handed += len;
        let temp = Arc::clone(&self.temp);
        self.writing = Some(tokio::task::spawn_blocking(move || {
            write_parts(temp.file(), &parts)?;
            // On dirty pages this advice drops nothing: it starts their write-back and returns.
            let len = NonZeroU64::new(len);
            Ok(rustix::fs::fadvise(temp.file(), at, len, Advice::DontNeed)?)
        }));
        Ok(())
    }

    async fn complete(&mut self) -> Result<(), Fault> {
        if self.failed {
            return Err(Fault::Unavailable("an earlier write of this upload failed".into()));
        }
        self.hand_over().await?;
        self.settle().await
    }

    /// Waits until no thread works on the file.
    async fn settle(&mut self) -> Result<(), Fault> {
        let written = joined(self.writing.take()).await;
        let synced = joined(self.syncing.take()).await;
        written.and(synced)
    }

    fn named(&self, fault: Fault) -> Error {
        fault.at(&self.store.shared.address, Verb::Write, self.key.as_str())
    }
}

/// The result of a working thread, if there is one.
async fn joined(handle: Option<JoinHandle<Result<(), Fault>>>) -> Result<(), Fault> {
    match handle {
        None => Ok(()),
        Some(handle) => handle.await.unwrap_or_else(|_| Err(Fault::stopped())),
    }
}

#[async_trait]
impl Upload for LocalUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        if self.failed {
            return Err(self.named(Fault::Unavailable("an earlier write failed".into())));
        }
        self.gathered_len += bytes.len();
        self.gathered.push(bytes);
        if self.gathered_len < WRITE_SIZE && self.gathered.len() < WRITE_PARTS_MAX {
            return Ok(());
        }
        self.hand_over().await.map_err(|fault| {
            self.failed = true;
            self.named(fault)
        })
    }

    async fn finish(mut self: Box<Self>) -> Result<(), Error> {
        self.complete().await.map_err(|fault| self.named(fault))?;
        let Self { store, key, temp, .. } = *self;
        // All threads have ended, so this is the last hold on the file.
        let Some(temp) = Arc::into_inner(temp) else {
            return Err(Fault::stopped().at(&store.shared.address, Verb::Write, key.as_str()));
        };
        let publish = store.run_on(Verb::Write, &key, move |shared, key| {
            match temp.publish(&shared.root()?, key.as_str())? {
                Created::New => Ok(()),
                Created::Exists => {
                    Err(Fault::Denied("the name of an upload was used before".into()))
                }
            }
        });
        publish.await
    }

    async fn abort(mut self: Box<Self>) -> Result<(), Error> {
        // Whatever failed before, the file goes.
        let _ = self.settle().await;
        let Self { store, key, temp, .. } = *self;
        store
            .run_on(Verb::Delete, &key, move |_, _| {
                drop(temp);
                Ok(())
            })
            .await
    }
}
