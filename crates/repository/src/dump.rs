//! A logical dump's root: summary, pack table, details. Its existence is the dump's.
//!
//! A dump is a tree like a backup's, whose entries are the streams that PostgreSQL's own programs
//! wrote: `globals.sql`, and for each database a folder with its schema and data.

mod wire;

use futures::StreamExt;
use jiff::Timestamp;
use pg::SystemId;

use crate::catalog::Problem;
use crate::error::Error;
use crate::kind::Kind;
use crate::names::{self, Label, LineageId};
use crate::object::to_cbor;
use crate::root::{PACKS_PER_FRAME, PackEntry, SUMMARY_LEN_MAX, pack_to_wire};
use crate::set::{Put, Repository};
use crate::tree::NodeRef;

pub use wire::decode;

/// How many summaries are read at once.
const READS_MAX: usize = 8;

/// Databases that a summary names; the details name all.
pub const NAMES_IN_SUMMARY_MAX: usize = 50;

/// What a dump holds of the cluster's roles and tablespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlobalsHeld {
    /// Nothing.
    No,
    /// All but the password hashes, which only superusers may read.
    WithoutPasswords,
    /// All.
    Whole,
}

/// What a listing shows of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpSummary {
    /// Its name.
    pub label: Label,
    /// The lineage it belongs to.
    pub lineage: LineageId,
    /// The cluster's name when it was made.
    pub cluster: String,
    /// PostgreSQL's system identifier.
    pub system_id: SystemId,
    /// `server_version_num` of the server.
    pub server_version: u32,
    /// The major version of `pg_dump`: an older `pg_restore` may not read it.
    pub tool_major: u32,
    /// Before its first snapshot.
    pub started: Timestamp,
    /// When it ended.
    pub stopped: Timestamp,
    /// Bytes of all its streams.
    pub size: u64,
    /// Bytes it added to the repository.
    pub stored: u64,
    /// Names of its databases: the first [`NAMES_IN_SUMMARY_MAX`].
    pub databases: Vec<String>,
    /// How many there are.
    pub database_count: u64,
    /// Whether they are all that the cluster had and took sessions.
    pub is_complete: bool,
    /// Roles and tablespaces.
    pub globals: GlobalsHeld,
    /// What its maker said of it.
    pub note: String,
    /// The top page of the tree.
    pub tree: NodeRef,
}

/// What a stream of a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Everything but data, in custom format.
    Schema,
    /// All data that no other stream holds, in custom format.
    Rest,
    /// One table's data, in custom format: its schema and name.
    Table(String, String),
}

/// One stream of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// Its path in the tree.
    pub path: String,
    /// What it is.
    pub kind: StreamKind,
    /// Its bytes.
    pub size: u64,
}

/// What a restore has to know of one database before it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DumpedDatabase {
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: String,
    /// Its encoding.
    pub encoding: String,
    /// `c` libc, `i` ICU, `b` built in.
    pub locale_provider: String,
    /// LC_COLLATE.
    pub collate: String,
    /// LC_CTYPE.
    pub ctype: String,
    /// The locale of ICU or of the builtin provider.
    pub locale: Option<String>,
    /// Its comment.
    pub comment: Option<String>,
    /// Extensions it has.
    pub extensions: Vec<String>,
    /// Roles that own something in it.
    pub owners: Vec<String>,
    /// Roles that something was granted to.
    pub grantees: Vec<String>,
    /// Roles that a policy or a setting is about.
    pub named: Vec<String>,
    /// Tablespaces that something in it lies in, other than the default.
    pub tablespaces: Vec<String>,
    /// Rights on it and settings of it, as SQL in which [`NAME_PLACE`] stands for its name.
    pub statements: Vec<String>,
    /// Its streams, in the order of [`StreamInfo::path`].
    pub streams: Vec<StreamInfo>,
}

/// Stands for the quoted name of the database in [`DumpedDatabase::statements`]: a byte that no
/// identifier of PostgreSQL can hold.
pub const NAME_PLACE: char = '\u{0}';

/// A dump's root, read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpRoot {
    /// The summary.
    pub summary: DumpSummary,
    /// Every pack needed.
    pub packs: Vec<PackEntry>,
    /// The databases.
    pub databases: Vec<DumpedDatabase>,
    /// Which programs made it.
    pub made_by: String,
}

/// The path of the stream with roles and tablespaces.
pub const GLOBALS_PATH: &str = "globals.sql";

/// Publishes a dump: from here on it exists. All its packs are in every member.
///
/// # Errors
/// [`Error::Conflict`] when the label is taken; [`Error::Limit`]; or an error of the store.
pub async fn publish(repository: &Repository, root: &DumpRoot) -> Result<(), Error> {
    let tables: Vec<Vec<u8>> = root
        .packs
        .chunks(PACKS_PER_FRAME)
        .map(|chunk| to_cbor(&chunk.iter().map(pack_to_wire).collect::<Vec<_>>()))
        .collect();
    let count = crate::seal::len_u32(tables.len());
    let summary = wire::summary_to_cbor(&root.summary, count);
    if summary.len() > SUMMARY_LEN_MAX {
        let reason = format!("expected at most {SUMMARY_LEN_MAX} bytes, seen {}", summary.len());
        return Err(Error::Limit { what: "a dump's summary", reason });
    }
    let details = wire::details_to_cbor(root);
    if details.len() > crate::seal::FRAME_RAW_LEN_MAX {
        let max = crate::seal::FRAME_RAW_LEN_MAX;
        let reason = format!("expected at most {max} bytes, seen {}", details.len());
        return Err(Error::Limit { what: "a dump's list of streams", reason });
    }
    let mut frames: Vec<&[u8]> = vec![&summary];
    frames.extend(tables.iter().map(Vec::as_slice));
    frames.push(&details);
    let key = names::dump(root.summary.lineage, &root.summary.label);
    match repository.create(Kind::DumpRoot, &key, &frames).await? {
        Put::New => Ok(()),
        Put::Exists => Err(Error::Conflict {
            key: key.to_string(),
            expected: "no dump of that label".into(),
            seen: "one".into(),
        }),
    }
}

/// Reads the summary of one dump: one small range.
///
/// # Errors
/// `NotFound` when there is none of that label; damage; an error of the store.
pub async fn read_summary(
    repository: &Repository,
    lineage: LineageId,
    label: &Label,
) -> Result<DumpSummary, Error> {
    let key = names::dump(lineage, label);
    let frame = repository.read_lead(Kind::DumpRoot, &key).await?;
    let read = wire::summary_from_cbor(&frame).and_then(|(summary, _)| {
        in_place(&summary, lineage, label)?;
        Ok(summary)
    });
    read.map_err(|reason| damaged(repository, &key, reason))
}

/// Reads a dump's root whole.
///
/// # Errors
/// As [`read_summary`].
pub async fn read(
    repository: &Repository,
    lineage: LineageId,
    label: &Label,
) -> Result<DumpRoot, Error> {
    let key = names::dump(lineage, label);
    let frames = repository.read(Kind::DumpRoot, &key).await?;
    let read = decode(&frames).and_then(|root| {
        in_place(&root.summary, lineage, label)?;
        Ok(root)
    });
    read.map_err(|reason| damaged(repository, &key, reason))
}

/// The dumps of a lineage, in the order of their beginnings, and those that cannot be read.
///
/// # Errors
/// When no member of the set answers.
pub async fn list(
    repository: &Repository,
    lineage: LineageId,
) -> Result<(Vec<DumpSummary>, Vec<Problem>), Error> {
    let prefix = names::dumps(lineage);
    let reads = repository.list(&prefix).await?.into_iter().map(|meta| {
        let label = meta.key.as_str().strip_prefix(&prefix).unwrap_or_default().parse::<Label>();
        async move {
            let read = match label {
                Ok(label) => read_summary(repository, lineage, &label).await,
                Err(error) => Err(damaged(repository, &meta.key, error.to_string())),
            };
            (meta.key, read)
        }
    });
    let read: Vec<_> = futures::stream::iter(reads).buffered(READS_MAX).collect().await;
    let (mut dumps, mut problems) = (Vec::new(), Vec::new());
    for (key, read) in read {
        match read {
            Ok(summary) => dumps.push(summary),
            // Expired between the two requests.
            Err(Error::Store(store::Error::NotFound { .. })) => {}
            Err(error @ Error::Store(store::Error::Range { .. })) => {
                problems.push(Problem { key, error });
            }
            Err(error @ Error::Store(_)) => return Err(error),
            Err(error) => problems.push(Problem { key, error }),
        }
    }
    dumps.sort_by(|a, b| (a.started, &a.label).cmp(&(b.started, &b.label)));
    Ok((dumps, problems))
}

fn in_place(summary: &DumpSummary, lineage: LineageId, label: &Label) -> Result<(), String> {
    if summary.lineage == lineage && summary.label == *label {
        return Ok(());
    }
    Err(format!("it is dump '{}' of lineage {}", summary.label, summary.lineage))
}

fn damaged(repository: &Repository, key: &store::Key, reason: String) -> Error {
    Error::Damaged { store: repository.address(), key: key.to_string(), reason }
}
