//! A backup's root: summary, pack table, details. Its existence is the backup's.

use std::collections::BTreeMap;

use jiff::Timestamp;
use minicbor::{Decode, Encode};
use pg::{Lsn, Oid, SystemId, TimelineId};
use stdx::Id;

use crate::error::Error;
use crate::kind::Kind;
use crate::names::{self, Label, LineageId, PackId};
use crate::object::{from_cbor, to_cbor};
use crate::set::{Put, Repository};
use crate::tree::{NodeRef, NodeRefWire};

/// The most bytes a summary may have, so that listing reads one small range per backup.
pub const SUMMARY_LEN_MAX: usize = 16 << 10;

/// Entries in one frame of the pack table.
pub(crate) const PACKS_PER_FRAME: usize = 1500;

/// What a listing shows of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its name.
    pub label: Label,
    /// The lineage it belongs to.
    pub lineage: LineageId,
    /// The cluster's name when it was made.
    pub cluster: String,
    /// The backup it was made from, for an incremental; it restores without it.
    pub parent: Option<Label>,
    /// PostgreSQL's system identifier.
    pub system_id: SystemId,
    /// `server_version_num`, for example 150018.
    pub server_version: u32,
    /// The timeline it lies on.
    pub timeline: TimelineId,
    /// Redo position of its first checkpoint: replay begins here.
    pub redo: Lsn,
    /// What `pg_backup_start` returned.
    pub start: Lsn,
    /// What `pg_backup_stop` returned: replay reaches consistency here.
    pub stop: Lsn,
    /// When it began, by the database host's clock.
    pub started: Timestamp,
    /// When it ended.
    pub stopped: Timestamp,
    /// Bytes of the files it restores.
    pub size: u64,
    /// Bytes it added to the repository.
    pub stored: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// Block size in bytes.
    pub block_size: u32,
    /// WAL segment size in bytes.
    pub segment_size: u64,
    /// Whether the cluster has page checksums.
    pub checksums: bool,
    /// Pages whose checksum was wrong and stayed wrong when read again: damage in the source.
    pub damaged_pages: u64,
    /// The top page of the tree.
    pub tree: NodeRef,
}

/// A pack that a backup needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackEntry {
    /// Its name.
    pub id: PackId,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes of its frames that this backup refers to.
    pub live: u64,
    /// The key epoch it is sealed under, so that a frame can be opened without reading the header.
    pub epoch: u32,
    /// Its salt.
    pub salt: [u8; 32],
}

/// What a restore needs beside the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// `backup_label`, byte for byte as `pg_backup_stop` returned it.
    pub backup_label: Vec<u8>,
    /// `tablespace_map`, byte for byte; empty without tablespaces.
    pub tablespace_map: Vec<u8>,
    /// `global/pg_control` as read last.
    pub control: Vec<u8>,
    /// Tablespaces: oid and path.
    pub tablespaces: Vec<(Oid, String)>,
    /// Settings of the source that matter for a restore: the hot-standby limits (`max_connections`,
    /// `max_worker_processes`, `max_wal_senders`, `max_prepared_transactions`,
    /// `max_locks_per_transaction`), `wal_level`, `full_page_writes`, `wal_log_hints`,
    /// `shared_preload_libraries`, by PostgreSQL's names.
    pub settings: BTreeMap<String, String>,
    /// Extensions as `database/name`, and their versions.
    pub extensions: BTreeMap<String, String>,
    /// Collation versions as `provider/name`: another library version corrupts text indexes unseen.
    pub collations: BTreeMap<String, String>,
    /// Databases: oid and name.
    pub databases: Vec<(Oid, String)>,
    /// Which program made it.
    pub made_by: String,
}

/// A backup's root, read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The summary.
    pub summary: Summary,
    /// Every pack needed.
    pub packs: Vec<PackEntry>,
    /// What a restore needs beside the tree.
    pub details: Details,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct SummaryWire {
    #[n(0)]
    label: String,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    lineage: [u8; 16],
    #[n(2)]
    cluster: String,
    #[n(3)]
    parent: Option<String>,
    #[n(4)]
    system_id: u64,
    #[n(5)]
    server_version: u32,
    #[n(6)]
    timeline: u32,
    #[n(7)]
    redo: u64,
    #[n(8)]
    start: u64,
    #[n(9)]
    stop: u64,
    #[n(10)]
    started_us: i64,
    #[n(11)]
    stopped_us: i64,
    #[n(12)]
    size: u64,
    #[n(13)]
    stored: u64,
    #[n(14)]
    entries: u64,
    #[n(15)]
    block_size: u32,
    #[n(16)]
    segment_size: u64,
    #[n(17)]
    checksums: bool,
    #[n(18)]
    damaged_pages: u64,
    #[n(19)]
    tree: NodeRefWire,
    #[n(20)]
    pack_frames: u32,
}

#[derive(Encode, Decode)]
#[cbor(array)]
pub(crate) struct PackEntryWire {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    id: [u8; 16],
    #[n(1)]
    size: u64,
    #[n(2)]
    live: u64,
    #[n(3)]
    epoch: u32,
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    salt: [u8; 32],
}

/// A struct, not a tuple: a tuple refuses the further positions that a later version may add.
#[derive(Encode, Decode)]
#[cbor(array)]
struct OidAndText {
    #[n(0)]
    oid: u32,
    #[n(1)]
    text: String,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct DetailsWire {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    backup_label: Vec<u8>,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    tablespace_map: Vec<u8>,
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    control: Vec<u8>,
    #[n(3)]
    tablespaces: Vec<OidAndText>,
    #[n(4)]
    settings: BTreeMap<String, String>,
    #[n(5)]
    extensions: BTreeMap<String, String>,
    #[n(6)]
    collations: BTreeMap<String, String>,
    #[n(7)]
    databases: Vec<OidAndText>,
    #[n(8)]
    made_by: String,
}

/// Publishes a backup: from here on it exists. The caller has made sure that every pack and the
/// WAL from `redo` to `stop` are in every member.
///
/// # Errors
/// [`Error::Conflict`] when the label is taken; [`Error::Limit`]; or an error of the store.
pub async fn publish(repository: &Repository, root: &Root) -> Result<(), Error> {
    let tables: Vec<Vec<u8>> = root
        .packs
        .chunks(PACKS_PER_FRAME)
        .map(|chunk| to_cbor(&chunk.iter().map(pack_to_wire).collect::<Vec<_>>()))
        .collect();
    let summary = to_cbor(&summary_to_wire(&root.summary, crate::seal::len_u32(tables.len())));
    if summary.len() > SUMMARY_LEN_MAX {
        let reason = format!("expected at most {SUMMARY_LEN_MAX} bytes, seen {}", summary.len());
        return Err(Error::Limit { what: "a backup's summary", reason });
    }
    let details = to_cbor(&details_to_wire(&root.details));
    let mut frames: Vec<&[u8]> = vec![&summary];
    frames.extend(tables.iter().map(Vec::as_slice));
    frames.push(&details);
    let key = names::backup(root.summary.lineage, &root.summary.label);
    match repository.create(Kind::BackupRoot, &key, &frames).await? {
        Put::New => Ok(()),
        Put::Exists => Err(Error::Conflict {
            key: key.to_string(),
            expected: "no backup of that label".into(),
            seen: "one".into(),
        }),
    }
}

/// Reads the summary of one backup: one small range.
///
/// # Errors
/// `NotFound` when there is none of that label; damage; an error of the store.
pub async fn read_summary(
    repository: &Repository,
    lineage: LineageId,
    label: &Label,
) -> Result<Summary, Error> {
    let key = names::backup(lineage, label);
    let frame = repository.read_lead(Kind::BackupRoot, &key).await?;
    let (summary, _) = decode_summary(&frame).map_err(|why| damaged(repository, &key, why))?;
    check_place(&summary, lineage, label).map_err(|why| damaged(repository, &key, why))?;
    Ok(summary)
}

/// Reads a backup's root whole.
///
/// # Errors
/// As [`read_summary`].
pub async fn read(
    repository: &Repository,
    lineage: LineageId,
    label: &Label,
) -> Result<Root, Error> {
    let key = names::backup(lineage, label);
    let frames = repository.read(Kind::BackupRoot, &key).await?;
    let root = decode(&frames).map_err(|why| damaged(repository, &key, why))?;
    check_place(&root.summary, lineage, label).map_err(|why| damaged(repository, &key, why))?;
    Ok(root)
}

/// Decodes the frames of a root.
///
/// # Errors
/// A sentence: which rule of the format they break.
pub fn decode(frames: &[Vec<u8>]) -> Result<Root, String> {
    let (first, rest) = frames.split_first().ok_or("a root without frames")?;
    let (summary, pack_frames) = decode_summary(first)?;
    let (tables, rest) = rest
        .split_at_checked(pack_frames as usize)
        .ok_or_else(|| format!("expected {pack_frames} frames of packs, seen {}", rest.len()))?;
    let mut packs = Vec::new();
    for table in tables {
        let wires: Vec<PackEntryWire> = from_cbor(table)?;
        packs.extend(wires.iter().map(pack_from_wire));
    }
    let details = rest.first().ok_or("a root without details")?;
    Ok(Root { summary, packs, details: details_from_wire(from_cbor(details)?) })
}

fn check_place(summary: &Summary, lineage: LineageId, label: &Label) -> Result<(), String> {
    if summary.lineage == lineage && summary.label == *label {
        return Ok(());
    }
    Err(format!("it is backup '{}' of lineage {}", summary.label, summary.lineage))
}

fn damaged(repository: &Repository, key: &store::Key, reason: String) -> Error {
    Error::Damaged { store: repository.address(), key: key.to_string(), reason }
}

fn decode_summary(frame: &[u8]) -> Result<(Summary, u32), String> {
    let wire: SummaryWire = from_cbor(frame)?;
    let label = |text: &str| text.parse::<Label>().map_err(|error| error.to_string());
    let time = |us| Timestamp::from_microsecond(us).map_err(|error| error.to_string());
    let summary = Summary {
        label: label(&wire.label)?,
        lineage: LineageId(Id::from_bytes(wire.lineage)),
        cluster: wire.cluster,
        parent: wire.parent.as_deref().map(label).transpose()?,
        system_id: SystemId::new(wire.system_id),
        server_version: wire.server_version,
        timeline: TimelineId::new(wire.timeline),
        redo: Lsn::new(wire.redo),
        start: Lsn::new(wire.start),
        stop: Lsn::new(wire.stop),
        started: time(wire.started_us)?,
        stopped: time(wire.stopped_us)?,
        size: wire.size,
        stored: wire.stored,
        entries: wire.entries,
        block_size: wire.block_size,
        segment_size: wire.segment_size,
        checksums: wire.checksums,
        damaged_pages: wire.damaged_pages,
        tree: wire.tree.decode_ref()?,
    };
    Ok((summary, wire.pack_frames))
}

fn summary_to_wire(summary: &Summary, pack_frames: u32) -> SummaryWire {
    SummaryWire {
        label: summary.label.to_string(),
        lineage: *summary.lineage.0.as_bytes(),
        cluster: summary.cluster.clone(),
        parent: summary.parent.as_ref().map(ToString::to_string),
        system_id: summary.system_id.get(),
        server_version: summary.server_version,
        timeline: summary.timeline.get(),
        redo: summary.redo.get(),
        start: summary.start.get(),
        stop: summary.stop.get(),
        started_us: summary.started.as_microsecond(),
        stopped_us: summary.stopped.as_microsecond(),
        size: summary.size,
        stored: summary.stored,
        entries: summary.entries,
        block_size: summary.block_size,
        segment_size: summary.segment_size,
        checksums: summary.checksums,
        damaged_pages: summary.damaged_pages,
        tree: (&summary.tree).into(),
        pack_frames,
    }
}

pub(crate) fn pack_to_wire(pack: &PackEntry) -> PackEntryWire {
    PackEntryWire {
        id: *pack.id.0.as_bytes(),
        size: pack.size,
        live: pack.live,
        epoch: pack.epoch,
        salt: pack.salt,
    }
}

pub(crate) fn pack_from_wire(wire: &PackEntryWire) -> PackEntry {
    PackEntry {
        id: PackId(Id::from_bytes(wire.id)),
        size: wire.size,
        live: wire.live,
        epoch: wire.epoch,
        salt: wire.salt,
    }
}

fn details_to_wire(details: &Details) -> DetailsWire {
    let oids = |pairs: &[(Oid, String)]| {
        let wire = |(oid, text): &(Oid, String)| OidAndText { oid: oid.get(), text: text.clone() };
        pairs.iter().map(wire).collect()
    };
    DetailsWire {
        backup_label: details.backup_label.clone(),
        tablespace_map: details.tablespace_map.clone(),
        control: details.control.clone(),
        tablespaces: oids(&details.tablespaces),
        settings: details.settings.clone(),
        extensions: details.extensions.clone(),
        collations: details.collations.clone(),
        databases: oids(&details.databases),
        made_by: details.made_by.clone(),
    }
}

fn details_from_wire(wire: DetailsWire) -> Details {
    let oids = |pairs: Vec<OidAndText>| {
        pairs.into_iter().map(|pair| (Oid::new(pair.oid), pair.text)).collect()
    };
    Details {
        backup_label: wire.backup_label,
        tablespace_map: wire.tablespace_map,
        control: wire.control,
        tablespaces: oids(wire.tablespaces),
        settings: wire.settings,
        extensions: wire.extensions,
        collations: wire.collations,
        databases: oids(wire.databases),
        made_by: wire.made_by,
    }
}
