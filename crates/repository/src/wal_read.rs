//! Reading a stored WAL segment frame by frame, so that neither the segment nor its object has to
//! fit into memory.
//!
//! Nothing is proved before the last frame: whoever takes the bytes keeps them out of sight until
//! [`read_into`] has returned.

use std::io;

use crate::error::Error;
use crate::keys::Digester;
use crate::kind::Kind;
use crate::names::LineageId;
use crate::object::{FramePlace, ObjectError, OpenObject, TailError};
use crate::pack_index;
use crate::set::{Member, Repository};
use crate::wal_object::{WalFile, WalInfo, decode_info};

/// Objects that cannot be larger than this are fetched by one request: a round trip costs more than
/// the memory. A sealed segment is at most as long as the segment and a few kilobytes.
const WHOLE_MAX: u64 = 16 << 20;

/// Bytes of one request of a larger object.
const RUN_BYTES_MAX: u64 = 4 << 20;

/// Takes the bytes of a file in order.
pub trait Sink: Send {
    /// Everything written so far is void: the next bytes are the first ones.
    ///
    /// # Errors
    /// Of the file system, say.
    fn restart(&mut self) -> io::Result<()>;

    /// The next bytes.
    ///
    /// # Errors
    /// Of the file system, say.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// What went wrong with one member's object, or with the sink.
enum Failed {
    Read(Error),
    Sink(io::Error),
}

/// Reads a segment as it was archived into `sink`, from the first member whose bytes prove
/// themselves. Pieces do not stand in for it.
///
/// # Errors
/// `NotFound` when no member has it; damage; an error of a store; [`Error::Content`] when the sink
/// takes no more.
pub async fn read_into(
    repository: &Repository,
    lineage: LineageId,
    file: &WalFile,
    sink: &mut dyn Sink,
) -> Result<WalInfo, Error> {
    let mut worst: Option<Error> = None;
    for member in repository.members() {
        match read_member(repository, member, lineage, file, sink).await {
            Ok(info) => return Ok(info),
            Err(Failed::Sink(source)) => return Err(Error::Content { name: file.name(), source }),
            Err(Failed::Read(error)) => {
                worst = Some(crate::set::worse(worst.take(), error));
            }
        }
    }
    Err(worst.unwrap_or_else(|| Error::NoRepository { store: String::new() }))
}

async fn read_member(
    repository: &Repository,
    member: &Member,
    lineage: LineageId,
    file: &WalFile,
    sink: &mut dyn Sink,
) -> Result<WalInfo, Failed> {
    let name = file.name();
    let key = file.key(lineage).ok_or_else(|| {
        Failed::Read(Error::Limit { what: "a WAL file's name", reason: format!("'{name}'") })
    })?;
    let explain = |error| Failed::Read(repository.explain(member, &key, error));
    let damaged = |reason: String| explain(ObjectError::Damaged(reason));
    let is_small = !matches!(file, WalFile::Segment(_, size) if size.get() > WHOLE_MAX);
    let mut reading = Reading::begin(repository, sink).map_err(Failed::Sink)?;
    if is_small {
        let bytes = member.store.get(&key).await.map_err(|error| Failed::Read(error.into()))?;
        let (open, places) = parse(repository, file.kind(), &bytes).map_err(explain)?;
        for place in &places {
            let sealed = sealed_at(&bytes, 0, place).map_err(damaged)?;
            reading.frame(&open, place, sealed, &damaged)?;
        }
    } else {
        let (open, places, _) =
            pack_index::open(repository, member, file.kind(), &key).await.map_err(Failed::Read)?;
        for run in runs(&places) {
            let begin = run.first().map_or(0, |place| place.at.offset);
            let end = run
                .last()
                .map_or(0, |place| place.at.offset.saturating_add(u64::from(place.at.sealed_len)));
            let bytes = member.store.get_range(&key, begin..end).await;
            let bytes = bytes.map_err(|error| Failed::Read(error.into()))?;
            for place in run {
                let sealed = sealed_at(&bytes, begin, place).map_err(damaged)?;
                reading.frame(&open, place, sealed, &damaged)?;
            }
        }
    }
    let info = reading.end().map_err(damaged)?;
    if info.lineage != lineage || info.name != name {
        return Err(damaged(format!("it holds '{}' of lineage {}", info.name, info.lineage)));
    }
    Ok(info)
}

fn parse(
    repository: &Repository,
    kind: Kind,
    bytes: &[u8],
) -> Result<(OpenObject, Vec<FramePlace>), ObjectError> {
    let open = OpenObject::new(repository.keys(), kind, bytes)?;
    let places = open.frames(bytes, bytes.len() as u64).map_err(|error| match error {
        TailError::Short(_) => ObjectError::Damaged("it is truncated".into()),
        TailError::Object(error) => error,
    })?;
    Ok((open, places))
}

/// The sealed bytes of a frame; `bytes` begin at `begin` of the object.
fn sealed_at<'b>(bytes: &'b [u8], begin: u64, place: &FramePlace) -> Result<&'b [u8], String> {
    let start = place.at.offset.checked_sub(begin).and_then(|at| usize::try_from(at).ok());
    let end = start.and_then(|at| at.checked_add(place.at.sealed_len as usize));
    let range = start.zip(end).and_then(|(start, end)| bytes.get(start..end));
    range.ok_or_else(|| "it is truncated".into())
}

/// Frames in order, as many side by side as one request may bring.
fn runs(places: &[FramePlace]) -> Vec<&[FramePlace]> {
    let mut bytes = 0;
    let fits = |_: &FramePlace, next: &FramePlace| {
        bytes += u64::from(next.at.sealed_len);
        let more = bytes <= RUN_BYTES_MAX;
        if !more {
            bytes = 0;
        }
        more
    };
    places.chunk_by(fits).collect()
}

/// One attempt to read a file.
struct Reading<'s> {
    sink: &'s mut dyn Sink,
    info: Option<WalInfo>,
    digester: Digester,
    len: u64,
    scratch: Vec<u8>,
    raw: Vec<u8>,
}

impl<'s> Reading<'s> {
    fn begin(repository: &Repository, sink: &'s mut dyn Sink) -> io::Result<Self> {
        sink.restart()?;
        let digester = repository.keys().digester();
        Ok(Self { sink, info: None, digester, len: 0, scratch: Vec::new(), raw: Vec::new() })
    }

    /// The first frame says what it is, every other one is content.
    fn frame(
        &mut self,
        open: &OpenObject,
        place: &FramePlace,
        sealed: &[u8],
        damaged: &dyn Fn(String) -> Failed,
    ) -> Result<(), Failed> {
        let opened = open.sealer().open(place.at.shape, sealed, &mut self.scratch, &mut self.raw);
        opened.map_err(damaged)?;
        let Some(info) = &self.info else {
            self.info = Some(decode_info(&self.raw).map_err(damaged)?.0);
            return Ok(());
        };
        self.len += self.raw.len() as u64;
        if self.len > info.len {
            let reason = format!("expected {} bytes of '{}', seen more", info.len, info.name);
            return Err(damaged(reason));
        }
        self.digester.update(&self.raw);
        self.sink.write(&self.raw).map_err(Failed::Sink)
    }

    fn end(self) -> Result<WalInfo, String> {
        let info = self.info.ok_or("a WAL object without frames")?;
        if self.len != info.len {
            let (expected, seen, name) = (info.len, self.len, &info.name);
            return Err(format!("expected {expected} bytes of '{name}', seen {seen}"));
        }
        if self.digester.finish() != info.digest {
            return Err(format!("the content of '{}' is not what its digest says", info.name));
        }
        Ok(info)
    }
}
