//! Archiving one WAL file: what an archive command does.
//!
//! Success is only told when the file is durable in every repository of the set. The same content
//! again is success; other content under the same name is kept beside and is an error.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use jiff::Timestamp;
use pg::{SegmentName, TimelineHistory, WalFileName};
use repository::Repository;
use repository::codec::Compression;
use repository::keys::Digest;
use repository::lineage::{self, Lineage, State, Writer};
use repository::wal_object::{self, Provenance, WalFile, WalPut};

use crate::content;
use crate::credential::Credential;
use crate::error::{Conflict, Error, is_absent};
use crate::source::SourceFile;

/// The longest WAL file there is: a segment of the largest size, in bytes.
const FILE_SIZE_MAX: u64 = 1 << 30;

/// First bytes read of a file that is not small: more than the header of a segment.
const HEAD_LEN: u64 = 64 << 10;

/// What to archive, and who asks for it.
#[derive(Clone, Copy, Debug)]
pub struct PushRequest<'a> {
    /// The file: `%p` of the archive command, made absolute.
    pub path: &'a Path,
    /// What the token file of this host says.
    pub credential: &'a Credential,
    /// This host's name, as it was registered.
    pub host: &'a str,
    /// Refuse everything: the cluster was restored and not adopted.
    pub hold: bool,
    /// How to compress.
    pub compression: Compression,
    /// Threads that compress and seal.
    pub threads: usize,
    /// The time now, kept with the file.
    pub now: Timestamp,
}

/// What archiving a file came to. Whatever it is, the content is durable in every repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was stored now.
    Stored,
    /// The same content was archived before.
    AlreadyThere,
    /// Another partial segment has that name. Both are kept; neither is replayed unless somebody
    /// finalises the dead timeline, so this is no reason to stop archiving.
    KeptBeside {
        /// The object it was kept in.
        key: String,
    },
}

/// A writer whose right to archive has been proved.
#[derive(Clone, Debug)]
pub struct Authority {
    /// The lineage it writes.
    pub lineage: Lineage,
    /// The writer's record.
    pub writer: Writer,
    /// The lineage's state, in which this writer is in force.
    pub state: State,
}

/// Archives one file.
///
/// Reads the file and computes on the calling thread and on `threads` more; meant for a process
/// that does nothing else.
///
/// # Errors
/// Any: PostgreSQL keeps the file and tries again. See [`Error`] for what each needs.
pub async fn push(repository: &Repository, request: &PushRequest<'_>) -> Result<Pushed, Error> {
    let source = SourceFile::locate(request.path)?;
    if request.hold {
        return Err(Error::Held { name: source.name.to_string() });
    }
    let authority = authorise(repository, request, &source).await?;
    let brought = Brought::open(request.path)?;
    let (file, system_id) = examine(&source, &brought, &authority.lineage)?;
    let state = &authority.state;
    let timeline = source.name.timeline();
    if matches!(file, WalFile::Segment(..))
        && timeline < state.timeline
        && timeline < lineage::entered_at(repository, authority.lineage.id, state).await?
    {
        return left_timeline(repository, &authority, &source, &file, &brought).await;
    }
    let provenance = Provenance {
        lineage: authority.lineage.id,
        system_id,
        writer: authority.writer.id,
        written: request.now,
    };
    let content = (brought.path, brought.len);
    let (how, threads) = (request.compression, request.threads);
    let put = wal_object::put(repository, &file, &content, provenance, how, threads).await?;
    let pushed = outcome(repository, &authority.lineage, &file, &brought, put)?;
    // Behind the history itself, which a path to its timeline is made of. Should this fail,
    // PostgreSQL archives the same history again.
    if let WalFile::History(timeline) = file
        && let Ok(history) = TimelineHistory::parse(timeline, &brought.head)
    {
        follow(repository, &authority, &history, request.now).await?;
    }
    Ok(pushed)
}

/// Moves the lineage to the timeline of `history`, which the writer in force has just archived,
/// when it promoted in place: without that, targets would go on to mean the timeline it left.
///
/// A timeline that does not descend from the current one, or that another restore has reserved, is
/// nobody's promotion in place; it is archived and the lineage stays.
async fn follow(
    repository: &Repository,
    authority: &Authority,
    history: &TimelineHistory,
    now: Timestamp,
) -> Result<(), Error> {
    let (lineage, writer, state) = (&authority.lineage, &authority.writer, &authority.state);
    let timeline = history.timeline();
    if timeline <= state.timeline {
        return Ok(());
    }
    let descends = history.entries().iter().any(|entry| entry.timeline == state.timeline);
    let reserved = lineage::reservation(repository, lineage.id, timeline).await?;
    let place = format!("{}:{}", writer.host, writer.data_directory);
    if !descends || reserved.is_some_and(|reservation| reservation.place != place) {
        tracing::warn!(%timeline, current = %state.timeline, "this timeline is not followed");
        return Ok(());
    }
    let next = State {
        number: state.number.saturating_add(1),
        timeline,
        writer: state.writer,
        reason: lineage::PROMOTED_IN_PLACE.into(),
        since: now,
    };
    Ok(lineage::advance(repository, lineage.id, &next).await?)
}

/// Proves that the token is a registered writer's, used from where it was given to, and that this
/// writer is the production of its lineage.
///
/// # Errors
/// [`Error::TokenFile`], [`Error::UnknownWriter`], [`Error::Elsewhere`], [`Error::Replaced`], or an
/// error of the repository.
pub async fn authorise(
    repository: &Repository,
    request: &PushRequest<'_>,
    source: &SourceFile,
) -> Result<Authority, Error> {
    let credential = request.credential;
    outside(credential, &source.data_directory)?;
    let unknown =
        |reason: String| Error::UnknownWriter { token_file: credential.file.clone(), reason };
    let (lineage, writer, state) = futures::join!(
        lineage::read(repository, credential.lineage),
        lineage::read_writer(repository, credential.lineage, credential.writer),
        lineage::state(repository, credential.lineage),
    );
    let missing = |what: &str| unknown(format!("{what} is not in '{}'", repository.address()));
    let lineage = lineage.map_err(|error| {
        if is_absent(&error) {
            missing(&format!("history {}", credential.lineage))
        } else {
            error.into()
        }
    })?;
    let writer = writer.map_err(|error| {
        if is_absent(&error) {
            missing(&format!("writer {}", credential.writer))
        } else {
            error.into()
        }
    })?;
    if *repository.keys().digest(credential.token.expose()).as_bytes() != writer.token_digest {
        return Err(unknown("expected another token for this writer".into()));
    }
    if writer.host != request.host || Path::new(&writer.data_directory) != source.data_directory {
        return Err(Error::Elsewhere {
            cluster: lineage.cluster,
            expected: format!("{}:{}", writer.host, writer.data_directory),
            seen: format!("{}:{}", request.host, source.data_directory.display()),
        });
    }
    let state =
        state?.ok_or_else(|| unknown("no writer of this history is in force yet".into()))?;
    if state.writer != writer.id {
        return Err(Error::Replaced {
            name: source.name.to_string(),
            cluster: lineage.cluster,
            reason: format!("writer {} is in force since {}", state.writer, state.since),
        });
    }
    Ok(Authority { lineage, writer, state })
}

/// A token inside the data directory would be copied along with it and prove nothing.
fn outside(credential: &Credential, data_directory: &Path) -> Result<(), Error> {
    let real =
        std::fs::canonicalize(&credential.file).map_err(Error::file("read", &credential.file))?;
    if real.starts_with(data_directory) {
        let reason = format!("expected it outside '{}'", data_directory.display());
        return Err(Error::TokenFile { path: credential.file.clone(), reason });
    }
    Ok(())
}

/// The file that was brought: what has to be looked at is in memory, the rest is read while it is
/// sealed.
struct Brought<'a> {
    path: &'a Path,
    len: u64,
    /// The first bytes; all of them of a small file.
    head: Vec<u8>,
}

impl<'a> Brought<'a> {
    fn open(path: &'a Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::file("read", path))?;
        let len = file.metadata().map_err(Error::file("read", path))?.len();
        if len > FILE_SIZE_MAX {
            let reason = format!("expected at most {FILE_SIZE_MAX} bytes, seen {len}");
            return Err(Error::NotWal { name: path.display().to_string(), reason });
        }
        let mut head = Vec::new();
        let small = len <= content::SMALL_FILE_MAX as u64;
        file.take(if small { len } else { HEAD_LEN })
            .read_to_end(&mut head)
            .map_err(Error::file("read", path))?;
        Ok(Self { path, len, head })
    }

    /// The digest of all of it.
    fn digest(&self, repository: &Repository) -> Result<Digest, Error> {
        let mut file = File::open(self.path).map_err(Error::file("read", self.path))?;
        let mut digester = repository.keys().digester();
        let mut buffer = vec![0; 256 << 10];
        loop {
            match file.read(&mut buffer).map_err(Error::file("read", self.path))? {
                0 => return Ok(digester.finish()),
                len => digester.update(buffer.get(..len).unwrap_or_default()),
            }
        }
    }
}

/// Checks the content against name, lineage and data directory.
fn examine(
    source: &SourceFile,
    brought: &Brought<'_>,
    lineage: &Lineage,
) -> Result<(WalFile, pg::SystemId), Error> {
    match source.name {
        WalFileName::Segment(name) => {
            let (segment, size) = examine_segment(source, name, brought, lineage)?;
            Ok((WalFile::Segment(segment, size), lineage.system_id))
        }
        WalFileName::Partial(name) => {
            examine_segment(source, name, brought, lineage)?;
            Ok((WalFile::Partial(source.name.to_string()), lineage.system_id))
        }
        WalFileName::History(timeline) => {
            content::check_small_file(source.name, &brought.head)?;
            Ok((WalFile::History(timeline), pg::SystemId::new(0)))
        }
        WalFileName::BackupHistory { .. } => {
            content::check_small_file(source.name, &brought.head)?;
            Ok((WalFile::BackupHistory(source.name.to_string()), pg::SystemId::new(0)))
        }
    }
}

fn examine_segment(
    source: &SourceFile,
    name: SegmentName,
    brought: &Brought<'_>,
    lineage: &Lineage,
) -> Result<(pg::WalSegment, pg::SegmentSize), Error> {
    let (segment, header) = content::check_segment_head(name, &brought.head, brought.len, lineage)?;
    let expected = source.major_version()?;
    if header.page.version != expected {
        return Err(Error::Version {
            name: name.to_string(),
            data_directory: source.data_directory.clone(),
            expected,
            seen: header.page.version,
        });
    }
    if header.page.timeline != segment.timeline
        && let Some(history) = source.history(segment.timeline)
        && !history.entries().iter().any(|entry| entry.timeline == header.page.timeline)
    {
        let reason = format!(
            "expected WAL of timeline {} or its ancestors, seen {}",
            segment.timeline, header.page.timeline
        );
        return Err(Error::Misnamed { name: name.to_string(), reason });
    }
    Ok((segment, header.segment_size))
}

/// A segment of a timeline that was left when a restored cluster was adopted adds nothing; but the
/// server may archive again what it archived before.
async fn left_timeline(
    repository: &Repository,
    authority: &Authority,
    source: &SourceFile,
    file: &WalFile,
    brought: &Brought<'_>,
) -> Result<Pushed, Error> {
    let lineage = &authority.lineage;
    let refuse = || Error::Replaced {
        name: source.name.to_string(),
        cluster: lineage.cluster.clone(),
        reason: format!(
            "timeline {} was left for timeline {} at {}",
            source.name.timeline(),
            authority.state.timeline,
            authority.state.since
        ),
    };
    let key = file.key(lineage.id).ok_or_else(refuse)?;
    match wal_object::read_info(repository, file.kind(), &key).await {
        Ok(there) if there.digest == brought.digest(repository)? => Ok(Pushed::AlreadyThere),
        Ok(_) => Err(refuse()),
        Err(error) if is_absent(&error) => Err(refuse()),
        Err(error) => Err(error.into()),
    }
}

fn outcome(
    repository: &Repository,
    lineage: &Lineage,
    file: &WalFile,
    brought: &Brought<'_>,
    put: WalPut,
) -> Result<Pushed, Error> {
    match (put, file) {
        (WalPut::Stored, _) => Ok(Pushed::Stored),
        (WalPut::AlreadyThere, _) => Ok(Pushed::AlreadyThere),
        (WalPut::Conflict { kept, .. }, WalFile::Partial(_)) => {
            tracing::warn!(name = file.name(), %kept, "another partial segment has this name");
            Ok(Pushed::KeptBeside { key: kept.to_string() })
        }
        (WalPut::Conflict { there, kept }, _) => Err(Error::Conflict(Box::new(Conflict {
            name: file.name(),
            expected: brought.digest(repository)?,
            seen: there.digest,
            store: repository.address(),
            system_id: lineage.system_id,
            kept,
        }))),
    }
}
