//! The home of a run's journal: the store whose put is the moment something counts.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use repository::SetKeys;
use repository::journal::{self as objects, Link};
use stdx::Clock;
use store::{Created, Key, ObjectMeta, Store};

use super::entry::Entry;
use super::record::{Record, RecordError, Writer};
use crate::canonical::{hex, sha256};

/// Objects asked for in one list request.
const LIST_PAGE: usize = 1000;

/// How often an append is tried, and how long it waits first; doubled each time.
const APPEND_ATTEMPTS_MAX: u32 = 6;
const APPEND_PAUSE: Duration = Duration::from_millis(250);

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another driver wrote the number: this one has no right to act any more.
    #[error("another driver has run '{run}': record {sequence} is not ours")]
    Lost {
        /// The run.
        run: String,
        /// The number.
        sequence: u32,
    },
    /// The home does not answer.
    #[error("the journal of run '{run}' in '{home}' cannot be reached")]
    Unreachable {
        /// The run.
        run: String,
        /// The store's address.
        home: String,
        /// What it said.
        source: Box<store::Error>,
    },
    /// A record cannot be read.
    #[error("record {sequence} of run '{run}' cannot be read: {reason}")]
    Damaged {
        /// The run.
        run: String,
        /// Its number.
        sequence: u32,
        /// Why.
        reason: String,
    },
    /// The run was driven by a newer binary.
    #[error("run '{run}' needs a newer version: {reason}")]
    Newer {
        /// The run.
        run: String,
        /// What is not known here.
        reason: String,
    },
    /// There is no such run.
    #[error("there is no run and no incident '{run}' in '{home}'")]
    NoRun {
        /// The run.
        run: String,
        /// The store's address.
        home: String,
    },
}

impl HomeError {
    /// Whether only this one cannot be read: nothing is said of the others.
    pub(super) const fn is_of_one_incident(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::NoRun { .. })
    }
}

/// A journal's stores: the home, and where copies go.
#[derive(Clone, Debug)]
pub struct Home {
    /// Where records count.
    pub store: Arc<dyn Store>,
    /// The keys of its set.
    pub keys: Arc<SetKeys>,
    /// Where copies of the same bytes go, with a name for messages.
    pub copies: Vec<(String, Arc<dyn Store>)>,
}

/// A copy that failed; the record counts all the same.
#[derive(Debug)]
pub struct CopyFailed {
    /// The copy's name.
    pub name: String,
    /// What it said.
    pub error: store::Error,
}

/// The open end of a run's journal.
#[derive(Clone, Debug)]
pub struct Appended {
    run: String,
    next: u32,
    link: Link,
    previous: String,
}

/// A run's journal as it was read.
#[derive(Debug)]
pub struct Loaded {
    /// Its records, in order; those of unknown types that need not be understood are left out.
    pub records: Vec<Record>,
    /// Its stored bytes, in order.
    pub stored: Vec<Bytes>,
    /// Its open end.
    pub end: Appended,
    /// When its last record was written, by the store's clock.
    pub last_written: jiff::Timestamp,
}

/// The newest record of a run, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newest {
    /// The run.
    pub run: String,
    /// The record.
    pub key: Key,
    /// When it was written, by the store's clock.
    pub written: jiff::Timestamp,
}

impl Appended {
    /// The end of a journal that does not exist yet.
    #[must_use]
    pub fn nothing(run: &str) -> Self {
        Self { run: run.into(), next: 0, link: Link::NONE, previous: String::new() }
    }

    /// The number of the next record.
    #[must_use]
    pub const fn next(&self) -> u32 {
        self.next
    }

    /// SHA-256 of the last record's stored bytes, in hexadecimal.
    #[must_use]
    pub fn head(&self) -> &str {
        &self.previous
    }

    /// The end behind one more record.
    #[must_use]
    pub fn followed_by(&self, stored: &[u8]) -> Self {
        let mut end = self.clone();
        end.advance(stored);
        end
    }

    fn advance(&mut self, stored: &[u8]) {
        self.next += 1;
        self.link = Link::to(stored);
        self.previous = hex(&sha256(stored));
    }
}

impl Home {
    /// Appends an entry: when this returns, it counts, and only then may its effect begin. Copies
    /// that failed are told.
    ///
    /// # Errors
    /// [`HomeError::Lost`]: stop at once. [`HomeError::Unreachable`]: nothing is known; a new
    /// effect must not begin.
    pub async fn append(
        &self,
        end: &mut Appended,
        writer: &Writer,
        clock: &dyn Clock,
        entry: Entry,
    ) -> Result<(Record, Vec<CopyFailed>), HomeError> {
        let record = Record {
            run: end.run.clone(),
            sequence: end.next,
            writer: writer.clone(),
            wall: clock.now(),
            boottime_ms: u64::try_from(clock.boottime().as_millis()).unwrap_or(u64::MAX),
            previous: end.previous.clone(),
            entry,
        };
        let content = record.to_bytes().map_err(|error| damaged(&record, error.to_string()))?;
        let key = objects::record(&end.run, end.next)
            .ok_or_else(|| damaged(&record, "its name does not fit".into()))?;
        let stored = self.put(&record, &key, end.link, &content).await?;
        end.advance(&stored);
        let mut failed = Vec::new();
        for (name, copy) in &self.copies {
            if let Err(error) = copy.put_if_absent(&key, vec![stored.clone()]).await {
                failed.push(CopyFailed { name: name.clone(), error });
            }
        }
        Ok((record, failed))
    }

    /// Writes the record, whatever the store answers; the bytes that are there in the end.
    async fn put(
        &self,
        record: &Record,
        key: &Key,
        link: Link,
        content: &[u8],
    ) -> Result<Bytes, HomeError> {
        let mut pause = APPEND_PAUSE;
        let mut attempt = 1;
        loop {
            // A fresh salt for every attempt.
            let sealed = objects::seal(&self.keys, link, content);
            let failed = match self.store.put_if_absent(key, vec![sealed.clone()]).await {
                Ok(Created::New) => return Ok(sealed),
                // "Exists", or no answer: an earlier attempt of ours may be what is there.
                Ok(Created::Exists) | Err(_) => match self.store.get(key).await {
                    Ok(there) => return self.ours(record, &there, content),
                    Err(error) => error,
                },
            };
            if attempt >= APPEND_ATTEMPTS_MAX {
                return Err(self.unreachable(&record.run, failed));
            }
            attempt += 1;
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// What is there, if it is what we meant: our id is in it.
    fn ours(&self, record: &Record, there: &Bytes, content: &[u8]) -> Result<Bytes, HomeError> {
        match objects::open(&self.keys, there) {
            Ok(seen) if seen == content => Ok(there.clone()),
            Ok(_) => Err(HomeError::Lost { run: record.run.clone(), sequence: record.sequence }),
            Err(error) => Err(damaged(record, format!("{error:?}"))),
        }
    }

    fn unreachable(&self, run: &str, source: store::Error) -> HomeError {
        let home = self.store.address().into();
        HomeError::Unreachable { run: run.into(), home, source: Box::new(source) }
    }

    /// Reads a run's whole journal and checks its chain.
    ///
    /// # Errors
    /// [`HomeError`].
    pub async fn load(&self, run: &str) -> Result<Loaded, HomeError> {
        let mut loaded = Loaded {
            records: Vec::new(),
            stored: Vec::new(),
            end: Appended::nothing(run),
            last_written: jiff::Timestamp::UNIX_EPOCH,
        };
        self.follow(&mut loaded).await?;
        if loaded.stored.is_empty() {
            return Err(HomeError::NoRun { run: run.into(), home: self.store.address().into() });
        }
        Ok(loaded)
    }

    /// Puts a run's runbook beside its journal, in the clear. It is a copy for bad times: where it
    /// cannot be put, the run goes on, and is told why.
    ///
    /// # Errors
    /// The home does not take it.
    pub async fn put_runbook(&self, run: &str, text: &str) -> Result<(), store::Error> {
        let Some(key) = objects::runbook(run) else { return Ok(()) };
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        for (_, copy) in &self.copies {
            let _ = copy.put_if_absent(&key, vec![bytes.clone()]).await;
        }
        self.store.put_if_absent(&key, vec![bytes]).await.map(drop)
    }

    /// The contents of a run's records as JSON, whatever version wrote them: for showing only. The
    /// chain is not checked.
    ///
    /// # Errors
    /// [`HomeError`].
    pub async fn contents(&self, run: &str) -> Result<Vec<serde_json::Value>, HomeError> {
        let mut contents = Vec::new();
        for sequence in 0.. {
            let bad = |reason: String| HomeError::Damaged { run: run.into(), sequence, reason };
            let Some(key) = objects::record(run, sequence) else { break };
            let stored = match self.store.get(&key).await {
                Ok(stored) => stored,
                Err(store::Error::NotFound { .. }) => break,
                Err(error) => return Err(self.unreachable(run, error)),
            };
            let content = objects::open(&self.keys, &stored);
            let content = content.map_err(|error| bad(format!("{error:?}")))?;
            contents
                .push(serde_json::from_slice(&content).map_err(|error| bad(error.to_string()))?);
        }
        Ok(contents)
    }

    /// Reads what was appended since; whether there was anything.
    ///
    /// # Errors
    /// [`HomeError`].
    pub async fn follow(&self, loaded: &mut Loaded) -> Result<bool, HomeError> {
        let run = loaded.end.run.clone();
        let prefix = objects::records(&run);
        let before = loaded.stored.len();
        loop {
            let last = loaded.end.next.checked_sub(1).and_then(|last| objects::record(&run, last));
            let page = self.store.list(&prefix, last.as_ref(), LIST_PAGE).await;
            let page = page.map_err(|error| self.unreachable(&run, error))?;
            let complete = page.len() < LIST_PAGE;
            for meta in page {
                let bytes = self.store.get(&meta.key).await;
                let bytes = bytes.map_err(|error| self.unreachable(&run, error))?;
                self.take(loaded, &meta.key, bytes)?;
                loaded.last_written = meta.modified;
            }
            if complete {
                return Ok(loaded.stored.len() > before);
            }
        }
    }

    fn take(&self, loaded: &mut Loaded, key: &Key, stored: Bytes) -> Result<(), HomeError> {
        let run = loaded.end.run.clone();
        let sequence = loaded.end.next;
        let bad = |reason: String| HomeError::Damaged { run: run.clone(), sequence, reason };
        match objects::sequence_of(&run, key) {
            Some(number) if number == sequence => {}
            _ => return Err(bad(format!("it is missing; the next one is '{key}'"))),
        }
        let link = Link::of(&stored).map_err(|error| bad(format!("{error:?}")))?;
        if link != loaded.end.link {
            return Err(bad("it does not follow the one before it".into()));
        }
        let content =
            objects::open(&self.keys, &stored).map_err(|error| bad(format!("{error:?}")))?;
        match Record::from_bytes(&content) {
            Ok(Some(record)) => {
                let fits = record.run == run
                    && record.sequence == sequence
                    && record.previous == loaded.end.previous;
                if !fits {
                    return Err(bad("it is a record of another place".into()));
                }
                loaded.records.push(record);
            }
            Ok(None) => {}
            Err(error @ RecordError::Newer { .. }) => {
                return Err(HomeError::Newer { run, reason: error.to_string() });
            }
            Err(RecordError::Field(error @ crate::plan::WireError::UnknownKind { .. })) => {
                return Err(HomeError::Newer { run, reason: error.to_string() });
            }
            Err(error) => return Err(bad(error.to_string())),
        }
        loaded.end.advance(&stored);
        loaded.stored.push(stored);
        Ok(())
    }

    /// The newest record of every run.
    ///
    /// # Errors
    /// [`HomeError::Unreachable`].
    pub async fn newest_records(&self) -> Result<Vec<Newest>, HomeError> {
        let mut found: Vec<Newest> = Vec::new();
        let mut after: Option<Key> = None;
        loop {
            let page = self.store.list(objects::RUNS, after.as_ref(), LIST_PAGE).await;
            let page = page.map_err(|error| self.unreachable("*", error))?;
            let complete = page.len() < LIST_PAGE;
            after = page.last().map(|meta| meta.key.clone());
            for ObjectMeta { key, modified, .. } in page {
                let rest = key.as_str().strip_prefix(objects::RUNS).unwrap_or_default();
                let Some((run, _)) = rest.split_once('/') else { continue };
                let run = run.to_owned();
                // In order: the last of a run is the newest.
                found.pop_if(|last| last.run == run);
                found.push(Newest { run, key, written: modified });
            }
            if complete {
                return Ok(found);
            }
        }
    }

    /// Whether a run ended with its newest record. What is told late may follow the end: `false`
    /// says that the whole journal must be read.
    ///
    /// # Errors
    /// [`HomeError`].
    pub async fn ended_with(&self, newest: &Newest) -> Result<bool, HomeError> {
        let stored = self.store.get(&newest.key).await;
        let stored = stored.map_err(|error| self.unreachable(&newest.run, error))?;
        let content = objects::open(&self.keys, &stored).unwrap_or_default();
        let record = Record::from_bytes(&content).ok().flatten();
        Ok(record.is_some_and(|record| matches!(record.entry, Entry::Closed { .. })))
    }

    /// The names of all runs, in no order.
    ///
    /// # Errors
    /// [`HomeError::Unreachable`].
    pub async fn runs(&self) -> Result<Vec<String>, HomeError> {
        let mut names: Vec<String> = Vec::new();
        let mut after: Option<Key> = None;
        loop {
            let page = self.store.list(objects::RUNS, after.as_ref(), LIST_PAGE).await;
            let page = page.map_err(|error| self.unreachable("*", error))?;
            let complete = page.len() < LIST_PAGE;
            for meta in &page {
                let rest = meta.key.as_str().strip_prefix(objects::RUNS).unwrap_or_default();
                let name = rest.split('/').next().unwrap_or_default();
                if names.last().is_none_or(|last| last != name) {
                    names.push(name.to_owned());
                }
            }
            after = page.into_iter().next_back().map(|meta| meta.key);
            if complete {
                return Ok(names);
            }
        }
    }
}

fn damaged(record: &Record, reason: String) -> HomeError {
    HomeError::Damaged { run: record.run.clone(), sequence: record.sequence, reason }
}
