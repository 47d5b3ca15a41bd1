//! A store in memory: for tests and simulation, and the yardstick for what the trait means.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use stdx::{Clock, SystemClock};

use crate::{Created, Error, Key, ObjectMeta, Store, Upload};

/// Objects in a map. Clones share the objects; nothing survives the process.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    objects: Mutex<BTreeMap<Key, Object>>,
}

#[derive(Clone, Debug)]
struct Object {
    bytes: Bytes,
    modified: Timestamp,
}

const ADDRESS: &str = "memory:";

impl MemoryStore {
    /// An empty store that stamps objects with the machine's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock::new()))
    }

    /// An empty store whose objects are stamped by `clock`.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { shared: Arc::new(Shared { clock, objects: Mutex::default() }) }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    /// The map. A panic of another holder cannot leave it half-changed: each change is one insert
    /// or one remove.
    fn objects(&self) -> MutexGuard<'_, BTreeMap<Key, Object>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, key: &Key) -> Result<Object, Error> {
        let found = self.objects().get(key).cloned();
        found.ok_or_else(|| Error::NotFound { store: ADDRESS.into(), key: key.clone() })
    }
}

fn meta(key: &Key, object: &Object) -> ObjectMeta {
    ObjectMeta { key: key.clone(), size: object.bytes.len() as u64, modified: object.modified }
}

fn concat(parts: &[Bytes]) -> Bytes {
    if let [only] = parts {
        return only.clone();
    }
    let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    for part in parts {
        whole.extend_from_slice(part);
    }
    whole.freeze()
}

#[async_trait]
impl Store for MemoryStore {
    fn address(&self) -> &str {
        ADDRESS
    }

    async fn get(&self, key: &Key) -> Result<Bytes, Error> {
        Ok(self.shared.object(key)?.bytes)
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, Error> {
        let bytes = self.shared.object(key)?.bytes;
        let size = bytes.len() as u64;
        let inside = range.start <= range.end && range.end <= size;
        match (usize::try_from(range.start), usize::try_from(range.end)) {
            (Ok(start), Ok(end)) if inside => Ok(bytes.slice(start..end)),
            _ => Err(Error::Range {
                store: ADDRESS.into(),
                key: key.clone(),
                size,
                start: range.start,
                end: range.end,
            }),
        }
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, Error> {
        Ok(meta(key, &self.shared.object(key)?))
    }

    async fn put_if_absent(&self, key: &Key, parts: Vec<Bytes>) -> Result<Created, Error> {
        let object = Object { bytes: concat(&parts), modified: self.shared.clock.now() };
        let mut objects = self.shared.objects();
        if objects.contains_key(key) {
            return Ok(Created::Exists);
        }
        objects.insert(key.clone(), object);
        Ok(Created::New)
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>, Error> {
        Ok(Box::new(MemoryUpload {
            shared: Arc::clone(&self.shared),
            key: key.clone(),
            parts: Vec::new(),
        }))
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Error> {
        let objects = self.shared.objects();
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(objects
            .range::<Key, _>((begin, Bound::Unbounded))
            .skip_while(|(key, _)| key.as_str() < prefix)
            .take_while(|(key, _)| key.as_str().starts_with(prefix))
            .take(limit)
            .map(|(key, object)| meta(key, object))
            .collect())
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        self.shared.objects().remove(key);
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryUpload {
    shared: Arc<Shared>,
    key: Key,
    parts: Vec<Bytes>,
}

#[async_trait]
impl Upload for MemoryUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.parts.push(bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<(), Error> {
        let object = Object { bytes: concat(&self.parts), modified: self.shared.clock.now() };
        self.shared.objects().insert(self.key.clone(), object);
        Ok(())
    }

    async fn abort(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}
