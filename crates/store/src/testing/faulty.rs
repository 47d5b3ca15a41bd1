//! A store that fails on purpose, the same way for the same seed.

use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Created, Error, Key, ObjectMeta, Store, Upload};

/// What a caller asks of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// [`Store::get`].
    Get,
    /// [`Store::get_range`].
    GetRange,
    /// [`Store::head`].
    Head,
    /// [`Store::put_if_absent`].
    Put,
    /// [`Store::upload`].
    Upload,
    /// [`Upload::write`].
    Write,
    /// [`Upload::finish`].
    Finish,
    /// [`Store::list`].
    List,
    /// [`Store::delete`].
    Delete,
}

impl Operation {
    const fn verb(self) -> &'static str {
        match self {
            Self::Get | Self::GetRange | Self::Head => "read",
            Self::Put | Self::Upload | Self::Write | Self::Finish => "write",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// The operations that random faults strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationSet {
    /// All that a caller can repeat by itself: everything but an upload's write and finish.
    Repeatable,
    /// Everything.
    All,
}

/// One way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Fails, and nothing happened.
    Before,
    /// Happened, and the answer is lost.
    After,
    /// Works, this much later.
    Late(Duration),
    /// Never answers.
    Silent,
    /// A put-if-absent replaces what is there and says `New`.
    Replace,
    /// A put-if-absent does nothing and says `Exists`, though no object is there.
    PhantomConflict,
    /// A read ends early without an error: half of the bytes.
    Truncate,
}

/// Which calls fail and how. The same plan over the same calls fails the same calls: what happens
/// to a call depends on the seed, the operation, the key and how often that pair was seen, never on
/// the order in which concurrent calls arrive.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    seed: u64,
    operations: OperationSet,
    /// Share of the calls that fail, in thousandths, by fault.
    random: Vec<(u32, Fault)>,
    scripted: BTreeMap<(Operation, u64), Fault>,
}

impl FaultPlan {
    /// A plan in which nothing fails.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            operations: OperationSet::Repeatable,
            random: Vec::new(),
            scripted: BTreeMap::new(),
        }
    }

    /// Lets `per_mille` of 1000 calls fail by `fault`. Several of these add up.
    #[must_use]
    pub fn random(mut self, per_mille: u32, fault: Fault) -> Self {
        self.random.push((per_mille, fault));
        self
    }

    /// Chooses what random faults strike; [`OperationSet::Repeatable`] by default.
    #[must_use]
    pub fn striking(mut self, operations: OperationSet) -> Self {
        self.operations = operations;
        self
    }

    /// Lets the `nth` call (from 0) of `operation`, over all keys, fail by `fault`.
    #[must_use]
    pub fn at(mut self, operation: Operation, nth: u64, fault: Fault) -> Self {
        self.scripted.insert((operation, nth), fault);
        self
    }

    fn draw(&self, operation: Operation, object: &str, nth_of_object: u64) -> Option<Fault> {
        let stream = matches!(operation, Operation::Write | Operation::Finish);
        if stream && self.operations == OperationSet::Repeatable {
            return None;
        }
        // Fixed keys, so the same in every process.
        let mut hasher = DefaultHasher::new();
        (self.seed, operation, object, nth_of_object).hash(&mut hasher);
        let mut left = hasher.finish() % 1000;
        for (per_mille, fault) in &self.random {
            match left.checked_sub(u64::from(*per_mille)) {
                None => return Some(*fault),
                Some(rest) => left = rest,
            }
        }
        None
    }
}

/// A store around another one that fails by plan. Clones share the plan's progress.
#[derive(Clone, Debug)]
pub struct Faulty {
    inner: Arc<dyn Store>,
    script: Arc<Script>,
}

#[derive(Debug)]
struct Script {
    plan: FaultPlan,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    by_operation: HashMap<Operation, u64>,
    by_object: HashMap<(Operation, String), u64>,
    struck: u64,
}

impl Faulty {
    /// `inner`, failing by `plan`.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, plan: FaultPlan) -> Self {
        let script = Script { plan, seen: Mutex::default() };
        Self { inner, script: Arc::new(script) }
    }

    /// How many calls were struck so far. A test that wants faults asserts that there were some.
    #[must_use]
    pub fn struck(&self) -> u64 {
        self.script.seen.lock().unwrap_or_else(PoisonError::into_inner).struck
    }

    /// How often `operation` was called so far.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> u64 {
        let seen = self.script.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.by_operation.get(&operation).copied().unwrap_or(0)
    }
}

impl Script {
    fn next(&self, operation: Operation, object: &str) -> Option<Fault> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let nth = count(seen.by_operation.entry(operation).or_default());
        let nth_of_object =
            count(seen.by_object.entry((operation, object.to_owned())).or_default());
        let scripted = self.plan.scripted.get(&(operation, nth)).copied();
        let fault = scripted.or_else(|| self.plan.draw(operation, object, nth_of_object));
        seen.struck += u64::from(fault.is_some());
        fault
    }

    /// Runs `effect` under the fault that is due, if any.
    async fn run<T: Send>(
        &self,
        store: &str,
        operation: Operation,
        object: &str,
        effect: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        let fault = self.next(operation, object);
        strike(fault, store, operation, object, effect).await
    }
}

async fn strike<T: Send>(
    fault: Option<Fault>,
    store: &str,
    operation: Operation,
    object: &str,
    effect: impl Future<Output = Result<T, Error>> + Send,
) -> Result<T, Error> {
    let failed = |reason: &str| Error::Unavailable {
        store: store.to_owned(),
        verb: operation.verb(),
        key: object.to_owned(),
        reason: reason.to_owned(),
    };
    match fault {
        Some(Fault::Before) => Err(failed("injected before the effect")),
        Some(Fault::After) => effect.await.and_then(|_| Err(failed("injected after the effect"))),
        Some(Fault::Silent) => pending().await,
        Some(Fault::Late(delay)) => {
            tokio::time::sleep(delay).await;
            effect.await
        }
        None | Some(Fault::Replace | Fault::PhantomConflict | Fault::Truncate) => effect.await,
    }
}

fn count(counter: &mut u64) -> u64 {
    let nth = *counter;
    *counter += 1;
    nth
}

fn shorten(bytes: &Bytes, fault: Option<Fault>) -> Bytes {
    match fault {
        Some(Fault::Truncate) => bytes.slice(..bytes.len() / 2),
        _ => bytes.clone(),
    }
}

#[async_trait]
impl Store for Faulty {
    fn address(&self) -> &str {
        self.inner.address()
    }

    async fn get(&self, key: &Key) -> Result<Bytes, Error> {
        let fault = self.script.next(Operation::Get, key.as_str());
        let effect = self.inner.get(key);
        let bytes = strike(fault, self.address(), Operation::Get, key.as_str(), effect).await?;
        Ok(shorten(&bytes, fault))
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, Error> {
        let fault = self.script.next(Operation::GetRange, key.as_str());
        let effect = self.inner.get_range(key, range);
        let bytes =
            strike(fault, self.address(), Operation::GetRange, key.as_str(), effect).await?;
        Ok(shorten(&bytes, fault))
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, Error> {
        let effect = self.inner.head(key);
        self.script.run(self.address(), Operation::Head, key.as_str(), effect).await
    }

    async fn put_if_absent(&self, key: &Key, parts: Vec<Bytes>) -> Result<Created, Error> {
        let fault = self.script.next(Operation::Put, key.as_str());
        let effect = async {
            match fault {
                Some(Fault::PhantomConflict) => Ok(Created::Exists),
                Some(Fault::Replace) => {
                    self.inner.delete(key).await?;
                    self.inner.put_if_absent(key, parts).await?;
                    Ok(Created::New)
                }
                _ => self.inner.put_if_absent(key, parts).await,
            }
        };
        strike(fault, self.address(), Operation::Put, key.as_str(), effect).await
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>, Error> {
        let effect = self.inner.upload(key);
        let inner =
            self.script.run(self.address(), Operation::Upload, key.as_str(), effect).await?;
        let script = Arc::clone(&self.script);
        let store = self.address().to_owned();
        Ok(Box::new(FaultyUpload { inner, script, store, key: key.clone() }))
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Error> {
        let effect = self.inner.list(prefix, after, limit);
        self.script.run(self.address(), Operation::List, prefix, effect).await
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        let effect = self.inner.delete(key);
        self.script.run(self.address(), Operation::Delete, key.as_str(), effect).await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn Upload>,
    script: Arc<Script>,
    store: String,
    key: Key,
}

#[async_trait]
impl Upload for FaultyUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        let effect = self.inner.write(bytes);
        self.script.run(&self.store, Operation::Write, self.key.as_str(), effect).await
    }

    async fn finish(self: Box<Self>) -> Result<(), Error> {
        let Self { inner, script, store, key } = *self;
        script.run(&store, Operation::Finish, key.as_str(), inner.finish()).await
    }

    async fn abort(self: Box<Self>) -> Result<(), Error> {
        self.inner.abort().await
    }
}

/// A store that says it honours put-if-absent and replaces instead, like some S3 look-alikes that
/// ignore `If-None-Match`.
#[derive(Clone, Debug)]
pub struct LyingStore(Faulty);

impl LyingStore {
    /// Makes `inner` lie.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self(Faulty::new(inner, FaultPlan::new(0).random(1000, Fault::Replace)))
    }
}

#[async_trait]
impl Store for LyingStore {
    fn address(&self) -> &str {
        self.0.address()
    }

    async fn get(&self, key: &Key) -> Result<Bytes, Error> {
        self.0.get(key).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, Error> {
        self.0.get_range(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, Error> {
        self.0.head(key).await
    }

    async fn put_if_absent(&self, key: &Key, parts: Vec<Bytes>) -> Result<Created, Error> {
        self.0.put_if_absent(key, parts).await
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
        self.0.list(prefix, after, limit).await
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        self.0.delete(key).await
    }
}
