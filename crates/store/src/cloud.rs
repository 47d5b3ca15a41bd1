//! S3-compatible stores, Google Cloud Storage and Azure Blob Storage.
//!
//! Every request has a deadline and is made once here; repeating is done outside (see
//! [`Retry`](crate::retry::Retry)), except for the parts of an upload, which are repeated one by
//! one. Each attempt is signed anew. What a store says is not taken at its word where a wrong word
//! costs data: *already exists* is checked to have an object behind it, and *not found* is believed
//! only from a store that names the missing key, or lists its bucket without it, because a wrong
//! address answers 404 too.

mod azure;
mod bucket;
mod gcs;
mod list;
mod reason;
mod s3;
mod upload;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream::BoxStream};
use object_store::list::PaginatedListStore;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{
    ClientOptions, GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt, PutMode,
    PutPayload, RetryConfig,
};

use crate::retry::RetryPolicy;
use crate::url::Address;
use crate::{Created, Deadlines, Error, Key, ObjectMeta, OpenOptions, Secret, Store, Upload};

/// Idle connections are dropped before servers drop them: one that closes under a request looks
/// like a lost answer. S3 closes after about 20 s.
const IDLE_MAX: Duration = Duration::from_secs(15);

/// A remote store: one request per call, no repeats.
#[derive(Clone)]
pub(crate) struct CloudStore {
    shared: Arc<Shared>,
}

struct Shared {
    address: String,
    /// Ends in `/` unless empty.
    prefix: String,
    client: Client,
    deadlines: Deadlines,
    retry: RetryPolicy,
    /// Never printed: removed from whatever a store answers.
    secrets: Vec<Secret>,
}

/// One vendor's client, by what is asked of it.
struct Client {
    objects: Arc<dyn ObjectStore>,
    multipart: Arc<dyn MultipartStore>,
    /// Listing by plain string prefix and page; Azure's client has none.
    pages: Option<Arc<dyn PaginatedListStore>>,
}

impl std::fmt::Debug for CloudStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CloudStore({})", self.shared.address)
    }
}

/// Opens the store without contacting it.
pub(crate) fn open(address: &Address, options: &OpenOptions) -> Result<CloudStore, Error> {
    let client = match address.scheme.as_str() {
        "gs" => gcs::client(address, options)?,
        "az" => azure::client(address, options)?,
        _ => s3::client(address, options)?,
    };
    let slash = if address.prefix.is_empty() { "" } else { "/" };
    let shared = Shared {
        address: address.display(),
        prefix: format!("{}{slash}", address.prefix),
        client,
        deadlines: options.deadlines,
        retry: options.retry,
        secrets: options.secrets.values().chain(options.environment.values()).cloned().collect(),
    };
    Ok(CloudStore { shared: Arc::new(shared) })
}

/// How connections behave. The client's own timeout is off: it covers the body as well and would
/// cut large ones; each call has its deadline here instead.
fn client_options(address: &Address, options: &OpenOptions) -> Result<ClientOptions, Error> {
    let mut client = ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(options.deadlines.connect)
        .with_pool_idle_timeout(IDLE_MAX)
        .with_allow_http(address.flag("allow_http")?);
    if let Some(pem) = &options.ca_pem {
        let certificates = object_store::Certificate::from_pem_bundle(pem)
            .map_err(|_| address.refused("the given certificates are not PEM"))?;
        for certificate in certificates {
            client = client.with_root_certificate(certificate);
        }
    }
    Ok(client)
}

/// One attempt per request: repeats inside the client would reuse a stale signature and hide from
/// our bounds.
fn one_attempt() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// Credentials and settings by name, secrets first.
struct Settings<'a> {
    address: &'a Address,
    options: &'a OpenOptions,
}

impl<'a> Settings<'a> {
    /// Checks the names of the given secrets.
    fn new(address: &'a Address, options: &'a OpenOptions, known: &[&str]) -> Result<Self, Error> {
        for name in options.secrets.keys() {
            if !known.contains(&name.as_str()) {
                return Err(address.unknown("credential", name, known));
            }
        }
        Ok(Self { address, options })
    }

    /// The first of: the secret `name`, the captured variables.
    fn secret(&self, name: &str, variables: &[&str]) -> Option<&'a str> {
        self.options.secrets.get(name).map(Secret::reveal).or_else(|| self.variable(variables))
    }

    fn variable(&self, names: &[&str]) -> Option<&'a str> {
        let found = names.iter().find_map(|name| self.options.environment.get(*name));
        found.map(Secret::reveal).filter(|value| !value.is_empty())
    }

    fn missing(&self, name: &str) -> Error {
        self.address.refused(format!("the credential '{name}' is missing"))
    }

    /// A vendor's builder did not like what it was given. Its message may quote a secret.
    fn not_built(&self, what: &str) -> Error {
        self.address.refused(format!("{what} was not accepted"))
    }
}

impl Shared {
    fn path(&self, key: &Key) -> Path {
        // The letters of keys and prefixes need no encoding.
        Path::from(format!("{}{key}", self.prefix))
    }

    /// Waits for an answer at most `limit`.
    async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(limit, work).await {
            Ok(done) => done.map_err(Failure::Answered),
            Err(_) => Err(Failure::Silent(limit)),
        }
    }

    fn error(&self, verb: &'static str, object: &str, failure: Failure) -> Error {
        reason::error(&self.address, &self.secrets, verb, object, failure)
    }

    fn unavailable(&self, verb: &'static str, key: &Key, reason: &str) -> Error {
        let (store, key) = (self.address.clone(), key.to_string());
        Error::Unavailable { store, verb, key, reason: reason.to_owned() }
    }

    /// What a failed read or delete of `key` means: *not found* only when it is certain.
    async fn failed(&self, verb: &'static str, key: &Key, failure: Failure) -> Error {
        let missing = Error::NotFound { store: self.address.clone(), key: key.clone() };
        match failure.not_found() {
            None => self.error(verb, key.as_str(), failure),
            Some(reason::NotFound::Key) => missing,
            // No body (a HEAD), or one that does not say what is missing: the bucket may be.
            Some(reason::NotFound::Something) => match self.list(key.as_str(), None, 1).await {
                Ok(found) if found.first().is_some_and(|meta| meta.key == *key) => {
                    self.unavailable(verb, key, "it is listed, but said not to exist")
                }
                Ok(_) => missing,
                Err(error) => error,
            },
        }
    }

    async fn read(&self, key: &Key, options: GetOptions) -> Result<GetResult, Failure> {
        let path = self.path(key);
        let work = self.client.objects.get_opts(&path, options);
        self.within(self.deadlines.answer, work).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, Error> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.read(key, options).await {
            Ok(result) => Ok(list::meta(key.clone(), &result.meta)),
            Err(failure) => Err(self.failed("read", key, failure).await),
        }
    }

    /// The body, under a stall limit and a limit of its own.
    async fn body(&self, key: &Key, result: GetResult) -> Result<Bytes, Error> {
        let expected = result.range.end.saturating_sub(result.range.start);
        let limit = self.deadlines.transfer(expected);
        let collected = tokio::time::timeout(limit, self.collect(result.into_stream(), expected));
        let bytes = match collected.await {
            Ok(done) => done.map_err(|failure| self.error("read", key.as_str(), failure))?,
            Err(_) => return Err(self.error("read", key.as_str(), Failure::Silent(limit))),
        };
        if bytes.len() as u64 != expected {
            let seen = bytes.len();
            let reason = format!("the answer has {seen} bytes instead of {expected}");
            return Err(self.unavailable("read", key, &reason));
        }
        Ok(bytes)
    }

    async fn collect(
        &self,
        mut stream: BoxStream<'static, object_store::Result<Bytes>>,
        expected: u64,
    ) -> Result<Bytes, Failure> {
        let mut whole = BytesMut::new();
        loop {
            let next = tokio::time::timeout(self.deadlines.stall, stream.next()).await;
            let Ok(next) = next else { return Err(Failure::Silent(self.deadlines.stall)) };
            let Some(piece) = next else { return Ok(whole.freeze()) };
            let piece = piece.map_err(Failure::Answered)?;
            if whole.is_empty() {
                if piece.len() as u64 == expected {
                    return Ok(piece);
                }
                // The length comes from the server: reserve it only as it arrives beyond 64 MiB.
                whole.reserve(usize::try_from(expected.min(64 << 20)).unwrap_or(0));
            }
            whole.extend_from_slice(&piece);
        }
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Error> {
        list::list(self, prefix, after, limit)
            .await
            .map_err(|failure| self.error("list", prefix, failure))
    }

    /// Puts the whole object; the parts go to the socket as they are.
    async fn put(&self, key: &Key, parts: Vec<Bytes>, mode: PutMode) -> Result<(), Failure> {
        let payload: PutPayload = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let limit = self.deadlines.transfer(payload.content_length() as u64);
        let path = self.path(key);
        let put = self.client.objects.put_opts(&path, payload, mode.into());
        self.within(limit, put).await.map(|_| ())
    }
}

/// Why a request brought nothing.
#[derive(Debug)]
enum Failure {
    /// The store or the connection failed it.
    Answered(object_store::Error),
    /// Nothing came in time.
    Silent(Duration),
}

#[async_trait]
impl Store for CloudStore {
    fn address(&self) -> &str {
        &self.shared.address
    }

    async fn get(&self, key: &Key) -> Result<Bytes, Error> {
        match self.shared.read(key, GetOptions::default()).await {
            Ok(result) => self.shared.body(key, result).await,
            Err(failure) => Err(self.shared.failed("read", key, failure).await),
        }
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, Error> {
        let beyond = |size| Error::Range {
            store: self.shared.address.clone(),
            key: key.clone(),
            size,
            start: range.start,
            end: range.end,
        };
        if range.start >= range.end {
            // Nothing to read, and no store has a request for that.
            let size = self.shared.head(key).await?.size;
            let inside = range.start == range.end && range.end <= size;
            return if inside { Ok(Bytes::new()) } else { Err(beyond(size)) };
        }
        let bounded = Some(GetRange::Bounded(range.clone()));
        let options = GetOptions { range: bounded, ..GetOptions::default() };
        match self.shared.read(key, options).await {
            Ok(result) if result.range == range => self.shared.body(key, result).await,
            Ok(result) => Err(beyond(result.meta.size)),
            Err(failure) if failure.not_found().is_some() => {
                Err(self.shared.failed("read", key, failure).await)
            }
            Err(failure) => match self.shared.error("read", key.as_str(), failure) {
                // A range that begins beyond the end is refused, in words that differ.
                refused @ Error::Denied { .. } => match self.shared.head(key).await {
                    Ok(meta) if meta.size < range.end => Err(beyond(meta.size)),
                    Err(unavailable @ Error::Unavailable { .. }) => Err(unavailable),
                    _ => Err(refused),
                },
                error => Err(error),
            },
        }
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, Error> {
        self.shared.head(key).await
    }

    async fn put_if_absent(&self, key: &Key, parts: Vec<Bytes>) -> Result<Created, Error> {
        match self.shared.put(key, parts, PutMode::Create).await {
            Ok(()) => Ok(Created::New),
            Err(failure) if failure.already_exists() => match self.shared.head(key).await {
                Ok(_) => Ok(Created::Exists),
                // A conflict with a write under way is told in the same way as a taken name.
                Err(Error::NotFound { .. }) => Err(self.shared.unavailable(
                    "write",
                    key,
                    "it was said to exist already, but does not",
                )),
                Err(error) => Err(error),
            },
            Err(failure) => Err(self.shared.error("write", key.as_str(), failure)),
        }
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>, Error> {
        Ok(Box::new(upload::CloudUpload::new(Arc::clone(&self.shared), key.clone())))
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Error> {
        self.shared.list(prefix, after, limit).await
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        let path = self.shared.path(key);
        let work = self.shared.client.objects.delete(&path);
        match self.shared.within(self.shared.deadlines.answer, work).await {
            Ok(()) => Ok(()),
            Err(failure) => match self.shared.failed("delete", key, failure).await {
                Error::NotFound { .. } => Ok(()),
                error => Err(error),
            },
        }
    }
}
