//! A store that takes WAL and never has it.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use store::{Created, Error, Key, ObjectMeta, Store, Upload};

/// Another store, whose objects below `wal/` cannot be found again.
#[derive(Debug)]
pub(crate) struct Forgetful(pub(crate) Arc<dyn Store>);

impl Forgetful {
    fn remembers(&self, key: &Key) -> Result<(), Error> {
        match key.as_str().starts_with("wal/") {
            true => Err(Error::NotFound { store: self.address().into(), key: key.clone() }),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Store for Forgetful {
    fn address(&self) -> &str {
        self.0.address()
    }

    async fn get(&self, key: &Key) -> Result<Bytes, Error> {
        self.remembers(key)?;
        self.0.get(key).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, Error> {
        self.remembers(key)?;
        self.0.get_range(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, Error> {
        self.remembers(key)?;
        self.0.head(key).await
    }

    async fn put_if_absent(&self, key: &Key, parts: Vec<Bytes>) -> Result<Created, Error> {
        match self.remembers(key) {
            Ok(()) => self.0.put_if_absent(key, parts).await,
            Err(_) => Ok(Created::New),
        }
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>, Error> {
        self.0.upload(key).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Error> {
        let mut found = self.0.list(prefix, after, limit).await?;
        found.retain(|meta| !meta.key.as_str().starts_with("wal/"));
        Ok(found)
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        self.0.delete(key).await
    }
}
