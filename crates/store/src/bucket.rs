//! Buckets of others: objects that an application wrote, by any name.
//!
//! Unlike a [`Store`](crate::Store), whose names are ours, nothing is known of how the names look;
//! and nothing is ever replaced or removed here.

use std::fmt::Debug;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use crate::local::{Access, LocalBucket};
use crate::url::{Address, local_path};
use crate::{Created, Error, OpenOptions, cloud};

/// Objects of a page when a bucket does not say otherwise: the most that S3 and GCS give.
const PAGE_LEN: usize = 1000;

/// An object of somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name below the address.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last written, by the bucket's clock.
    pub modified: Timestamp,
    /// What the bucket says of its content; equal ones of two buckets mean equal contents only
    /// when both are digests of the whole.
    pub etag: Option<String>,
}

/// A bucket of an application.
#[async_trait]
pub trait Bucket: Send + Sync + Debug {
    /// The address for messages: never a secret in it.
    fn address(&self) -> &str;

    /// Whether asking for each name is cheaper than listing.
    fn prefers_asking(&self) -> bool {
        false
    }

    /// How many objects one listing should ask for.
    fn page_len(&self) -> usize {
        PAGE_LEN
    }

    /// Up to `limit` objects whose name is greater than `after`, in ascending byte order. Fewer
    /// than `limit` means that there are no more.
    ///
    /// # Errors
    /// Any way of not answering; [`Error::Unavailable`] when the bucket does not list in order.
    async fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<Item>, Error>;

    /// The object of that name; `None` only from a bucket that was reached.
    ///
    /// # Errors
    /// Any way of not answering; [`Error::Denied`] for a text that is no name.
    async fn head(&self, name: &str) -> Result<Option<Item>, Error>;

    /// The bytes `range` of an object, exactly that many.
    ///
    /// # Errors
    /// Any way of not answering, a missing or shorter object included.
    async fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes, Error>;

    /// Copies an object of another bucket to the same name, unless something has it already. Holds
    /// at most [`PIECE_LEN`] times two of it in memory.
    ///
    /// # Errors
    /// Any way of not reading or writing; on [`Error::Unavailable`] it may be there.
    async fn copy_from(&self, from: &dyn Bucket, item: &Item) -> Result<Created, Error>;
}

/// Bytes that a copy moves at a time, and the largest object that is put in one request: then the
/// store itself refuses to replace.
pub const PIECE_LEN: u64 = 16 << 20;

/// The piece of `item` that begins at `at`.
pub(crate) fn piece(item: &Item, at: u64, len: u64) -> Range<u64> {
    at..item.size.min(at.saturating_add(len))
}

/// Opens a bucket without contacting it: a directory, or what [`open`](crate::open) knows.
///
/// # Errors
/// [`Error::Address`] when the address or an option is not understood.
pub fn open(url: &str, options: &OpenOptions) -> Result<Arc<dyn Bucket>, Error> {
    match url.split_once("://") {
        Some((scheme @ ("s3" | "gs" | "az"), rest)) => {
            let address = Address::parse(url, scheme, rest)?;
            Ok(Arc::new(cloud::open(&address, options)?))
        }
        _ => {
            let path = local_path(url, options)?;
            Ok(Arc::new(LocalBucket::open(Path::new(&path), Access::GroupRead)))
        }
    }
}

/// A bucket without its options, for people and names of steps.
#[must_use]
pub fn shown(url: &str) -> &str {
    url.split_once('?').map_or(url, |(place, _)| place).trim_end_matches('/')
}
