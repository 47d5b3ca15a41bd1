//! One or several repositories that hold the same bytes.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::join_all;
use store::{Created, Key, ObjectMeta, Store};

use crate::Error;
use crate::codec::Compression;
use crate::header::HEADER_LEN;
use crate::keys::SetKeys;
use crate::kind::Kind;
use crate::moved::{self, Moved};
use crate::names::{self, PackId};
use crate::object::{FrameAt, ObjectError, OpenObject, open_object, seal_object};
use crate::uploads::Uploads;

/// How many objects one list request asks for.
const LIST_PAGE: usize = 1000;

/// First bytes read of an object whose lead frame is wanted: nearly always enough in one request.
const LEAD_GUESS: u64 = 20 << 10;

/// One repository of a set.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name in the configuration.
    pub name: String,
    /// Its objects.
    pub store: Arc<dyn Store>,
}

/// An open repository set. Writes go to every member; reads take the first member whose bytes
/// prove themselves, in the order given.
#[derive(Debug)]
pub struct Repository {
    members: Vec<Member>,
    keys: Arc<SetKeys>,
    packs: Mutex<HashMap<PackId, Arc<OpenObject>>>,
    moved: Mutex<HashMap<PackId, Arc<Moved>>>,
}

/// What is done with each opened frame: its position among those asked for, and its bytes.
type EachFrame<'a> = &'a mut (dyn FnMut(usize, &[u8]) -> Result<(), Error> + Send);

/// How many compactions in a row are followed: nobody compacts a pack this often.
const MOVES_MAX: usize = 32;

/// What creating an object found in the members that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is there now with our bytes, in every member.
    New,
    /// At least one member had something of that name before.
    Exists,
}

impl Repository {
    /// A set of members that are known to belong together (see [`crate::unlock`]).
    #[must_use]
    pub fn new(members: Vec<Member>, keys: Arc<SetKeys>) -> Self {
        Self { members, keys, packs: Mutex::default(), moved: Mutex::default() }
    }

    /// The set's keys.
    #[must_use]
    pub fn keys(&self) -> &Arc<SetKeys> {
        &self.keys
    }

    /// The members, in the order reads try them.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The same set with only the member of that name: to restore from it alone, or to compare.
    #[must_use]
    pub fn only(&self, name: &str) -> Option<Self> {
        let member = self.members.iter().find(|member| member.name == name)?;
        Some(Self::new(vec![member.clone()], Arc::clone(&self.keys)))
    }

    /// Addresses for messages, without secrets.
    #[must_use]
    pub fn address(&self) -> String {
        let addresses: Vec<&str> =
            self.members.iter().map(|member| member.store.address()).collect();
        addresses.join("', '")
    }

    /// All frames of a small object, from the first member whose copy proves itself.
    ///
    /// # Errors
    /// `NotFound` when no member has it; otherwise the first error that was not.
    pub async fn read(&self, kind: Kind, key: &Key) -> Result<Vec<Vec<u8>>, Error> {
        self.first_good(|member| async move {
            let bytes = member.store.get(key).await?;
            open_object(&self.keys, kind, &bytes).map_err(|error| self.explain(member, key, error))
        })
        .await
    }

    /// Frame 0 of an object, read without the rest of it.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn read_lead(&self, kind: Kind, key: &Key) -> Result<Vec<u8>, Error> {
        self.first_good(|member| async move {
            let size = member.store.head(key).await?.size;
            let head = member.store.get_range(key, 0..size.min(LEAD_GUESS)).await?;
            let open = OpenObject::new(&self.keys, kind, &head)
                .map_err(|error| self.explain(member, key, error))?;
            let need =
                open.header.lead.map_or(0, |lead| u64::from(lead.sealed_len)) + HEADER_LEN as u64;
            let head = if need <= head.len() as u64 {
                head
            } else {
                member.store.get_range(key, 0..need.min(size)).await?
            };
            open.lead(&head).map_err(|error| self.explain(member, key, error))
        })
        .await
    }

    /// Creates a small object in every member.
    ///
    /// # Errors
    /// When a member does not take it; others may have it then, and a repeat finds it there.
    pub async fn create(&self, kind: Kind, key: &Key, frames: &[&[u8]]) -> Result<Put, Error> {
        self.create_sealed(key, seal_object(&self.keys, kind, frames, Compression::default())).await
    }

    /// Creates an object of these bytes in every member. A name that is taken by exactly these
    /// bytes counts as new: they carry a random salt, so they are our own attempt whose response
    /// was lost.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub async fn create_sealed(&self, key: &Key, parts: Vec<Bytes>) -> Result<Put, Error> {
        let puts = self.members.iter().map(|member| create_in(member, key, parts.clone()));
        let mut outcome = Put::New;
        for put in join_all(puts).await {
            if put? == Put::Exists {
                outcome = Put::Exists;
            }
        }
        Ok(outcome)
    }

    /// Starts a streamed write of a pack to every member.
    ///
    /// # Errors
    /// When a member refuses.
    pub async fn upload(&self, key: &Key) -> Result<Uploads, Error> {
        let mut uploads = Vec::with_capacity(self.members.len());
        for member in &self.members {
            uploads.push(member.store.upload(key).await?);
        }
        Ok(Uploads::new(uploads))
    }

    /// Every object below `prefix` that any member has, in ascending order; sizes and times are
    /// those of the first member that has it.
    ///
    /// # Errors
    /// When a member does not answer, unless another one does.
    pub async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, Error> {
        let lists = join_all(self.members.iter().map(|member| list_all(member, prefix))).await;
        let mut found: Vec<ObjectMeta> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut answered = false;
        let mut failed = None;
        for list in lists {
            match list {
                Ok(list) => {
                    answered = true;
                    found.extend(list.into_iter().filter(|meta| seen.insert(meta.key.clone())));
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) if !answered => Err(error),
            _ => {
                found.sort_by(|a, b| a.key.cmp(&b.key));
                Ok(found)
            }
        }
    }

    /// The last object below `prefix`, by name.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub async fn last(&self, prefix: &str) -> Result<Option<Key>, Error> {
        Ok(self.list(prefix).await?.pop().map(|meta| meta.key))
    }

    /// Removes an object from every member.
    ///
    /// # Errors
    /// When a member refuses.
    pub async fn delete(&self, key: &Key) -> Result<(), Error> {
        for deleted in join_all(self.members.iter().map(|member| member.store.delete(key))).await {
            deleted?;
        }
        Ok(())
    }

    /// Reads frames of one pack and hands each opened frame to `each` as `(position in frames,
    /// plain bytes)`, in order. Frames that lie side by side are read in one request. When a
    /// member's bytes do not prove themselves, the run is read again from the next member, so
    /// `each` may see a frame twice with equal bytes. Frames of a pack that was compacted are read
    /// where they are now.
    ///
    /// # Errors
    /// When no member gives the frames whole; or what `each` returned.
    pub async fn read_frames<F>(
        &self,
        kind: Kind,
        pack: PackId,
        frames: &[FrameAt],
        mut each: F,
    ) -> Result<(), Error>
    where
        F: FnMut(usize, &[u8]) -> Result<(), Error> + Send,
    {
        self.read_frames_from(kind, pack, frames, &mut each, 0).await
    }

    async fn read_frames_from(
        &self,
        kind: Kind,
        pack: PackId,
        frames: &[FrameAt],
        each: EachFrame<'_>,
        moves: usize,
    ) -> Result<(), Error> {
        let mut done = 0;
        while let Some(rest) = frames.get(done..).filter(|rest| !rest.is_empty()) {
            let run = side_by_side(rest);
            match self.read_run(kind, pack, run, done, each).await {
                Ok(()) => {}
                Err(Error::Store(absent @ store::Error::NotFound { .. })) => {
                    let moved = self.moved(pack, moves, absent).await?;
                    Box::pin(self.read_moved(kind, &moved, run, done, each, moves + 1)).await?;
                }
                Err(error) => return Err(error),
            }
            done += run.len();
        }
        Ok(())
    }

    /// Reads frames that lie side by side, from the first member whose bytes prove themselves.
    /// `NotFound` when the pack is gone from every member that answers.
    async fn read_run(
        &self,
        kind: Kind,
        pack: PackId,
        run: &[FrameAt],
        first: usize,
        each: EachFrame<'_>,
    ) -> Result<(), Error> {
        let key = names::pack(pack);
        let (mut scratch, mut raw) = (Vec::new(), Vec::new());
        let mut failed = None;
        for member in &self.members {
            let opened = async {
                let open = self.open_pack(member, kind, pack, &key).await?;
                let bytes = member.store.get_range(&key, run_range(run)).await?;
                let mut at = 0;
                for (number, frame) in run.iter().enumerate() {
                    let end = at + frame.sealed_len as usize;
                    let sealed = bytes.get(at..end).unwrap_or_default();
                    open.sealer()
                        .open(frame.shape, sealed, &mut scratch, &mut raw)
                        .map_err(|why| self.explain(member, &key, ObjectError::Damaged(why)))?;
                    each(first + number, &raw)?;
                    at = end;
                }
                Ok::<(), Error>(())
            }
            .await;
            match opened {
                Ok(()) => return Ok(()),
                Err(error) => failed = Some(worse(failed.take(), error)),
            }
        }
        Err(failed.unwrap_or_else(|| Error::NoRepository { store: String::new() }))
    }

    /// Reads the frames of a compacted pack from where they are now.
    async fn read_moved(
        &self,
        kind: Kind,
        moved: &Moved,
        run: &[FrameAt],
        first: usize,
        each: EachFrame<'_>,
        moves: usize,
    ) -> Result<(), Error> {
        for (number, frame) in run.iter().enumerate() {
            let damaged = |reason: String| Error::Damaged {
                store: self.address(),
                key: names::moved(moved.pack).to_string(),
                reason,
            };
            let wanted = frame.shape.number;
            let (pack, at) = moved
                .frames
                .get(&wanted)
                .ok_or_else(|| damaged(format!("frame {wanted} is needed and was not moved")))?;
            if at.shape.raw_len != frame.shape.raw_len {
                let (expected, seen) = (frame.shape.raw_len, at.shape.raw_len);
                let reason = format!("frame {wanted}: expected {expected} bytes, seen {seen}");
                return Err(damaged(reason));
            }
            let mut forward = |_: usize, raw: &[u8]| each(first + number, raw);
            self.read_frames_from(kind, *pack, &[*at], &mut forward, moves).await?;
        }
        Ok(())
    }

    /// The record of a pack's compaction. Without one, `absent` stands: the pack is lost.
    async fn moved(
        &self,
        pack: PackId,
        moves: usize,
        absent: store::Error,
    ) -> Result<Arc<Moved>, Error> {
        if moves >= MOVES_MAX {
            return Err(absent.into());
        }
        let known = self.moved.lock().unwrap_or_else(PoisonError::into_inner).get(&pack).cloned();
        if let Some(moved) = known {
            return Ok(moved);
        }
        let moved = match moved::read(self, pack).await {
            Err(Error::Store(store::Error::NotFound { .. })) => return Err(absent.into()),
            read => Arc::new(read?),
        };
        self.moved.lock().unwrap_or_else(PoisonError::into_inner).insert(pack, Arc::clone(&moved));
        Ok(moved)
    }

    async fn open_pack(
        &self,
        member: &Member,
        kind: Kind,
        pack: PackId,
        key: &Key,
    ) -> Result<Arc<OpenObject>, Error> {
        let known = self.packs.lock().unwrap_or_else(PoisonError::into_inner).get(&pack).cloned();
        if let Some(open) = known {
            return Ok(open);
        }
        let head = member.store.get_range(key, 0..HEADER_LEN as u64).await?;
        let open = OpenObject::new(&self.keys, kind, &head)
            .map_err(|error| self.explain(member, key, error))?;
        let open = Arc::new(open);
        self.packs.lock().unwrap_or_else(PoisonError::into_inner).insert(pack, Arc::clone(&open));
        Ok(open)
    }

    async fn first_good<'a, T, F, Fut>(&'a self, attempt: F) -> Result<T, Error>
    where
        F: Fn(&'a Member) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let mut failed = None;
        for member in &self.members {
            match attempt(member).await {
                Ok(value) => return Ok(value),
                Err(error) => failed = Some(worse(failed.take(), error)),
            }
        }
        Err(failed.unwrap_or_else(|| Error::NoRepository { store: String::new() }))
    }

    /// Names the object in an error about its bytes.
    pub(crate) fn explain(&self, member: &Member, key: &Key, error: ObjectError) -> Error {
        explain(member.store.address(), self.keys.set(), key, error)
    }
}

/// Names the object in an error about its bytes.
pub(crate) fn explain(store: &str, set: stdx::Id, key: &Key, error: ObjectError) -> Error {
    let key = key.to_string();
    match error {
        ObjectError::Damaged(reason) => Error::Damaged { store: store.into(), key, reason },
        ObjectError::Newer(reason) => Error::Newer { key, reason },
        ObjectError::ForeignSet(seen) => {
            Error::ForeignSet { key, expected: set.to_string(), seen: seen.to_string() }
        }
        ObjectError::WrongKey(epoch) => Error::WrongKey { key, epoch },
    }
}

async fn create_in(member: &Member, key: &Key, parts: Vec<Bytes>) -> Result<Put, Error> {
    let put = member.store.put_if_absent(key, parts.clone()).await;
    match put {
        Ok(Created::New) => return Ok(Put::New),
        Ok(Created::Exists) | Err(store::Error::Unavailable { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    // "Exists", or no answer: only the bytes that are there now say whose they are.
    match member.store.get(key).await {
        Ok(there) if same_bytes(&there, &parts) => Ok(Put::New),
        Ok(_) => Ok(Put::Exists),
        Err(store::Error::NotFound { .. }) => Err(store::Error::Unavailable {
            store: member.store.address().into(),
            verb: "write",
            key: key.to_string(),
            reason: "it was refused as existing, but nothing is there: try again".into(),
        }
        .into()),
        Err(error) => Err(error.into()),
    }
}

fn same_bytes(there: &[u8], parts: &[Bytes]) -> bool {
    let mut rest = there;
    for part in parts {
        match rest.strip_prefix(part.as_ref()) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}

async fn list_all(member: &Member, prefix: &str) -> Result<Vec<ObjectMeta>, Error> {
    let mut found: Vec<ObjectMeta> = Vec::new();
    loop {
        let after = found.last().map(|meta| meta.key.clone());
        let page = member.store.list(prefix, after.as_ref(), LIST_PAGE).await?;
        let complete = page.len() < LIST_PAGE;
        found.extend(page);
        if complete {
            return Ok(found);
        }
    }
}

/// Damage and denial tell the operator more than absence: keep the error that says most.
pub(crate) fn worse(known: Option<Error>, seen: Error) -> Error {
    match known {
        Some(known) if !matches!(known, Error::Store(store::Error::NotFound { .. })) => known,
        _ => seen,
    }
}

/// The longest beginning of `frames` (not empty) that lies in one piece and is worth one request.
fn side_by_side(frames: &[FrameAt]) -> &[FrameAt] {
    /// Bytes of one range request: large enough to amortise a round trip, small enough for memory.
    const RUN_BYTES_MAX: u64 = 4 << 20;
    let mut len = 0;
    let mut bytes = 0;
    let mut next_offset = None;
    for frame in frames {
        let adjacent = next_offset.is_none_or(|next| next == frame.offset);
        bytes += u64::from(frame.sealed_len);
        if len > 0 && (!adjacent || bytes > RUN_BYTES_MAX) {
            break;
        }
        len += 1;
        next_offset = Some(frame.offset + u64::from(frame.sealed_len));
    }
    frames.get(..len).unwrap_or(frames)
}

fn run_range(run: &[FrameAt]) -> Range<u64> {
    let begin = run.first().map_or(0, |frame| frame.offset);
    let end = run.last().map_or(0, |frame| frame.offset + u64::from(frame.sealed_len));
    begin..end
}
