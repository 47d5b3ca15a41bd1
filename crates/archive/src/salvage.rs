//! Saving the WAL of a server that failed: what its `pg_wal` has and the repository has not.
//!
//! Complete segments are archived like any other. Of the segment that was being written, the bytes
//! up to the end of the last valid record are stored as a piece: recovery can then reach the last
//! commit that was on disk, and nobody takes the segment for complete. Doing it again, also after
//! more was written, adds what is new.

mod folder;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use jiff::Timestamp;
use pg::wal::RecordReader;
use pg::{Lsn, SystemId, TimelineId, WalSegment};
use repository::codec::Compression;
use repository::lineage::{self, Lineage};
use repository::wal_object::{self, Provenance, WalFile, WalPut};
use repository::{Repository, names, piece};
use stdx::Id;

use crate::content;
use crate::credential::Credential;
use crate::error::Error;
use folder::Folder;

/// Bytes of WAL given to the decoder at a time.
const FEED_LEN: usize = 1 << 20;

/// Why a folder is taken for that of the cluster's production.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// Its writer in force was registered with this token for this host, and with the data
    /// directory that the folder belongs to. Only this keeps out the WAL of a copy, which has the
    /// same system identifier and would take names that the production has not used yet.
    Registered {
        /// What the token file of this host says.
        credential: &'a Credential,
        /// This host's name, as it was registered.
        host: &'a str,
    },
    /// Somebody says so: the failed server's disk is mounted elsewhere.
    Elsewhere {
        /// Who stores it.
        writer: Id,
    },
}

impl Place<'_> {
    const fn writer(&self) -> Id {
        match self {
            Self::Registered { credential, .. } => credential.writer,
            Self::Elsewhere { writer } => *writer,
        }
    }
}

/// What to salvage, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct SalvageRequest<'a> {
    /// The failed server's `pg_wal`. Only read. The server may still run.
    pub pg_wal: &'a Path,
    /// The lineage it belongs to.
    pub lineage: &'a Lineage,
    /// Why this folder.
    pub place: Place<'a>,
    /// How to compress.
    pub compression: Compression,
    /// Threads that compress and seal.
    pub threads: usize,
    /// The time now, kept with the files.
    pub now: Timestamp,
}

/// What was salvaged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Complete segments and histories stored now, ascending.
    pub stored: Vec<String>,
    /// How many the repository had already.
    pub already_there: usize,
    /// Files that the repository has with another content; this server's were kept beside.
    pub conflicts: Vec<String>,
    /// The segment that was being written, if some of it was stored (now or before).
    pub tail: Option<Tail>,
    /// The newest timeline found.
    pub timeline: TimelineId,
    /// The end of the last valid record on it: what recovery can reach.
    pub end: Lsn,
}

/// The beginning of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The segment's name.
    pub name: String,
    /// The end of its last valid record.
    pub end: Lsn,
}

/// Stores what the repository lacks.
///
/// # Errors
/// [`Error::NoSalvage`] when the folder has no WAL, [`Error::Foreign`] when it is another
/// cluster's, [`Error::NotProduction`] and [`Error::UnknownWriter`] when it is not the
/// production's, [`Error::File`], or an error of the repository. What was stored until then stays.
pub async fn salvage(
    repository: &Repository,
    request: &SalvageRequest<'_>,
) -> Result<Salvaged, Error> {
    authorise(repository, request).await?;
    let folder = Folder::read(request.pg_wal, request.lineage)?;
    let mut salvaged = Salvaged { timeline: folder.newest(), ..Salvaged::default() };
    for timeline in &folder.histories {
        let file = WalFile::History(*timeline);
        let bytes = read(request.pg_wal, &file.name())?;
        if content::check_small_file(pg::WalFileName::History(*timeline), &bytes).is_ok() {
            store(repository, request, &file, &bytes, SystemId::new(0), &mut salvaged).await?;
        }
    }
    for timeline in folder.timelines() {
        let archived = archived(repository, request, timeline).await?;
        let end = store_timeline(repository, request, &folder, timeline, &archived, &mut salvaged)
            .await?;
        if timeline == folder.newest() {
            salvaged.end = end;
            store_tail(repository, request, &folder, end, &archived, &mut salvaged).await?;
        }
    }
    Ok(salvaged)
}

/// Proves that the folder belongs to the writer in force.
async fn authorise(repository: &Repository, request: &SalvageRequest<'_>) -> Result<(), Error> {
    let Place::Registered { credential, host } = request.place else { return Ok(()) };
    let real = fs::canonicalize(request.pg_wal).map_err(Error::file("read", request.pg_wal))?;
    let unknown = |reason: &str| Error::UnknownWriter {
        token_file: credential.file.clone(),
        reason: reason.into(),
    };
    let lineage = request.lineage;
    let state = lineage::state(repository, lineage.id).await?;
    let state = state.ok_or_else(|| unknown("no writer of this history is in force yet"))?;
    let writer = lineage::read_writer(repository, lineage.id, state.writer).await?;
    // `pg_wal` may be a link to another disk, and the folder may be named either way.
    let its_own = fs::canonicalize(Path::new(&writer.data_directory).join("pg_wal"));
    if writer.host != host || its_own.ok().as_ref() != Some(&real) {
        return Err(Error::NotProduction {
            folder: request.pg_wal.to_owned(),
            cluster: lineage.cluster.clone(),
            expected: format!("{}:{}", writer.host, writer.data_directory),
            host: host.to_owned(),
        });
    }
    let digest = repository.keys().digest(credential.token.expose());
    if credential.writer != writer.id || *digest.as_bytes() != writer.token_digest {
        return Err(unknown("expected the token of the writer in force"));
    }
    Ok(())
}

/// The names of the complete segments that the repository has of a timeline.
async fn archived(
    repository: &Repository,
    request: &SalvageRequest<'_>,
    timeline: TimelineId,
) -> Result<BTreeSet<String>, Error> {
    let prefix = names::wal_prefix(request.lineage.id, timeline);
    let listed = repository.list(&prefix).await?;
    let name =
        |meta: &store::ObjectMeta| meta.key.as_str().strip_prefix(&prefix).map(str::to_owned);
    Ok(listed.iter().filter_map(name).collect())
}

/// Stores the complete segments of a timeline; returns the end of its valid WAL.
async fn store_timeline(
    repository: &Repository,
    request: &SalvageRequest<'_>,
    folder: &Folder,
    timeline: TimelineId,
    archived: &BTreeSet<String>,
    salvaged: &mut Salvaged,
) -> Result<Lsn, Error> {
    let mut end = Lsn::INVALID;
    for run in folder.runs(timeline) {
        let is_safe = |segment: &WalSegment| {
            let name = segment.name(folder.segment_size);
            archived.contains(&name) && folder.done.contains(&name)
        };
        let first = run.iter().position(|segment| !is_safe(segment));
        // The segment before has the beginning of a record that goes on in the first one.
        let from = first.unwrap_or(run.len()).saturating_sub(1);
        let Some(scanned) = run.get(from..) else { continue };
        end = valid_end(request, folder, scanned)?;
        for segment in run.iter().filter(|segment| segment.end(folder.segment_size) <= end) {
            if is_safe(segment) {
                salvaged.already_there += 1;
                continue;
            }
            let file = WalFile::Segment(*segment, folder.segment_size);
            let bytes = read(request.pg_wal, &file.name())?;
            let system_id = request.lineage.system_id;
            store(repository, request, &file, &bytes, system_id, salvaged).await?;
        }
    }
    Ok(end)
}

/// The end of the last valid record in consecutive segments; their begin if there is none.
fn valid_end(
    request: &SalvageRequest<'_>,
    folder: &Folder,
    segments: &[WalSegment],
) -> Result<Lsn, Error> {
    let size = folder.segment_size;
    let Some(first) = segments.first() else { return Ok(Lsn::INVALID) };
    let mut reader = RecordReader::new(first.begin(size), size, folder.block_size)
        .expect_system(request.lineage.system_id);
    for segment in segments {
        let bytes = read(request.pg_wal, &segment.name(size))?;
        for chunk in bytes.chunks(FEED_LEN) {
            reader.feed(chunk);
            loop {
                match reader.next_record() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(end) => {
                        tracing::debug!(%end, "end of the WAL that is salvaged");
                        return Ok(reader.end());
                    }
                }
            }
        }
    }
    Ok(reader.end())
}

/// Stores the beginning of the segment in which valid WAL ends.
async fn store_tail(
    repository: &Repository,
    request: &SalvageRequest<'_>,
    folder: &Folder,
    end: Lsn,
    archived: &BTreeSet<String>,
    salvaged: &mut Salvaged,
) -> Result<(), Error> {
    let size = folder.segment_size;
    let segment = WalSegment::containing(end, folder.newest(), size);
    let name = segment.name(size);
    let len = size.offset(end);
    if len == 0 || archived.contains(&name) || !folder.has(segment) {
        return Ok(());
    }
    let bytes = read(request.pg_wal, &name)?;
    let valid = bytes.slice(..bytes.len().min(usize::try_from(len).unwrap_or(usize::MAX)));
    let provenance = provenance(request, request.lineage.system_id);
    piece::put(repository, segment, size, 0, &valid, provenance).await?;
    salvaged.tail = Some(Tail { name, end });
    Ok(())
}

async fn store(
    repository: &Repository,
    request: &SalvageRequest<'_>,
    file: &WalFile,
    bytes: &Bytes,
    system_id: SystemId,
    salvaged: &mut Salvaged,
) -> Result<(), Error> {
    let (how, threads) = (request.compression, request.threads);
    let provenance = provenance(request, system_id);
    match wal_object::put(repository, file, bytes, provenance, how, threads).await? {
        WalPut::Stored => salvaged.stored.push(file.name()),
        WalPut::AlreadyThere => salvaged.already_there += 1,
        WalPut::Conflict { .. } => salvaged.conflicts.push(file.name()),
    }
    Ok(())
}

fn provenance(request: &SalvageRequest<'_>, system_id: SystemId) -> Provenance {
    Provenance {
        lineage: request.lineage.id,
        system_id,
        writer: request.place.writer(),
        written: request.now,
    }
}

fn read(folder: &Path, name: &str) -> Result<Bytes, Error> {
    let path = folder.join(name);
    fs::read(&path).map(Bytes::from).map_err(Error::file("read", &path))
}
