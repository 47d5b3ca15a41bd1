//! The trait every store implements and every caller uses.

use std::fmt::Debug;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use crate::{Error, Key};

/// What a store says of an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its name.
    pub key: Key,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last written, by the *store's* clock.
    pub modified: Timestamp,
}

/// What put-if-absent found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The object did not exist; it does now, durably, with our bytes.
    New,
    /// Something is there already. It may be our own earlier attempt whose response was lost: read
    /// it back and compare the writer before calling it somebody else's.
    Exists,
}

/// Bytes by key. Every implementation passes the same conformance suite.
///
/// Futures may be polled on any runtime thread; implementations never block it for long.
#[async_trait]
pub trait Store: Send + Sync + Debug {
    /// The address for messages: never a secret in it.
    fn address(&self) -> &str;

    /// The whole object.
    ///
    /// # Errors
    /// [`Error::NotFound`], or any other way of not answering.
    async fn get(&self, key: &Key) -> Result<Bytes, Error>;

    /// The bytes `range` of the object; exactly that many.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Range`] when the object ends before `range.end`.
    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, Error>;

    /// Size and time of the object.
    ///
    /// # Errors
    /// [`Error::NotFound`], or any other way of not answering.
    async fn head(&self, key: &Key) -> Result<ObjectMeta, Error>;

    /// Creates the object with the concatenation of `parts` if nothing has that name, durably:
    /// when this returns [`Created::New`] the bytes survive a power cut. Never replaces anything.
    /// Of racing callers at most one sees `New`.
    ///
    /// # Errors
    /// On [`Error::Unavailable`] the object may or may not be there.
    async fn put_if_absent(&self, key: &Key, parts: Vec<Bytes>) -> Result<Created, Error>;

    /// Starts a streamed write of a large object under a name that is never reused (a random pack
    /// name): multipart uploads have no conditional create everywhere, so the name must be unique.
    ///
    /// # Errors
    /// Any way of not being able to write.
    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>, Error>;

    /// Up to `limit` objects whose key starts with `prefix` (a plain string prefix, for example
    /// `wal/x/`) and is greater than `after`, in ascending byte order. Fewer than `limit` means
    /// that there are no more.
    ///
    /// # Errors
    /// Any way of not answering. A prefix without objects is an empty list, not an error.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Error>;

    /// Removes the object; one that is not there is success.
    ///
    /// # Errors
    /// Any way of not being able to delete.
    async fn delete(&self, key: &Key) -> Result<(), Error>;
}

/// One streamed write. Dropped without [`finish`](Upload::finish), nothing appears under the key.
#[async_trait]
pub trait Upload: Send + Debug {
    /// Appends bytes (any length). May return before they are stored; waits while too many are
    /// under way, so memory stays bounded.
    ///
    /// # Errors
    /// An error of this or an earlier part; the upload is then lost and should be aborted.
    async fn write(&mut self, bytes: Bytes) -> Result<(), Error>;

    /// Waits for all parts and makes the object appear, complete and durable.
    ///
    /// # Errors
    /// An error of any part or of the completion; the object must then be taken as absent.
    async fn finish(self: Box<Self>) -> Result<(), Error>;

    /// Gives up and removes what was stored, as far as the store allows.
    ///
    /// # Errors
    /// Left-overs could not be removed; they are invisible under the key and only cost space.
    async fn abort(self: Box<Self>) -> Result<(), Error>;
}
