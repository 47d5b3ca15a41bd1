//! Small objects that never change, kept on local disk: an archive command runs once per segment,
//! and most of what it reads is the same every time.
//!
//! Kept are objects as they are stored, sealed; what is read from the cache is opened and checked
//! like what is read from the store. The descriptor is always read anew: it says which set lies at
//! the address, and the cache of one set is never used for another. Listings are never kept, so a
//! removed key slot or a newer state is seen at once. Deleting the cache costs time and nothing
//! else.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use repository::header::Header;
use repository::names;
use stdx::Id;
use store::{Created, Error, Key, ObjectMeta, Store, Upload};
use xxhash_rust::xxh3::xxh3_64;

/// The largest object kept, in bytes: records have a few hundred.
const OBJECT_SIZE_MAX: usize = 64 << 10;

/// Bytes of the check behind a cached object.
const CHECK_LEN: usize = 8;

/// What is kept: nothing under these names is ever replaced.
const PREFIXES: [&str; 3] = [names::SLOTS, names::EPOCHS, "lineage/"];

/// A store with such a cache. One per repository: put it around the member's store before the
/// repository is opened.
#[derive(Clone, Debug)]
pub struct Cached {
    inner: Arc<dyn Store>,
    folder: PathBuf,
    /// The set at the address, once the descriptor was read.
    set: Arc<Mutex<Option<Id>>>,
}

impl Cached {
    /// `inner` with its cache in `folder`, which belongs to this user alone and is made if missing.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, folder: &Path) -> Self {
        Self { inner, folder: folder.to_owned(), set: Arc::default() }
    }

    fn remember(&self, descriptor: &[u8]) {
        let set = Header::decode(descriptor).ok().map(|header| header.set);
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = set;
    }

    /// Where an object is kept, if it may be.
    fn place(&self, key: &Key) -> Option<PathBuf> {
        let set = (*self.set.lock().unwrap_or_else(PoisonError::into_inner))?;
        let kept = PREFIXES.iter().any(|prefix| key.as_str().starts_with(prefix));
        // One folder for all: the objects are few.
        kept.then(|| self.folder.join(set.to_string()).join(key.as_str().replace('/', "=")))
    }
}

/// A cached object whose check holds. Anything else counts as not cached.
fn load(place: &Path) -> Option<Bytes> {
    let mut bytes = fs::read(place).ok()?;
    let check: [u8; CHECK_LEN] = *bytes.last_chunk()?;
    bytes.truncate(bytes.len() - CHECK_LEN);
    (xxh3_64(&bytes).to_le_bytes() == check).then(|| bytes.into())
}

/// Keeps an object. Failing to only costs the next reader time.
fn keep(place: &Path, bytes: &Bytes) {
    if bytes.len() > OBJECT_SIZE_MAX {
        return;
    }
    let mut content = bytes.to_vec();
    content.extend_from_slice(&xxh3_64(bytes).to_le_bytes());
    let folder = place.parent().unwrap_or(place);
    let kept = stdx::durable::create_dir_all(folder)
        .and_then(|()| stdx::durable::write_atomic(place, &content, 0o600));
    if let Err(error) = kept {
        tracing::debug!(%error, place = %place.display(), "object is not cached");
    }
}

#[async_trait]
impl Store for Cached {
    fn address(&self) -> &str {
        self.inner.address()
    }

    async fn get(&self, key: &Key) -> Result<Bytes, Error> {
        let place = self.place(key);
        if let Some(bytes) = place.as_deref().and_then(load) {
            return Ok(bytes);
        }
        let bytes = self.inner.get(key).await?;
        if *key == names::descriptor() {
            self.remember(&bytes);
        }
        if let Some(place) = place {
            keep(&place, &bytes);
        }
        Ok(bytes)
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, Error> {
        self.inner.get_range(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, Error> {
        self.inner.head(key).await
    }

    async fn put_if_absent(&self, key: &Key, parts: Vec<Bytes>) -> Result<Created, Error> {
        self.inner.put_if_absent(key, parts).await
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>, Error> {
        self.inner.upload(key).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Error> {
        self.inner.list(prefix, after, limit).await
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        if let Some(place) = self.place(key) {
            let _ = fs::remove_file(place);
        }
        self.inner.delete(key).await
    }
}
