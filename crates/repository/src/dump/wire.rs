//! A dump's root as it is stored.

use jiff::Timestamp;
use minicbor::{Decode, Encode};
use pg::SystemId;
use stdx::Id;

use super::{DumpRoot, DumpSummary, DumpedDatabase, GlobalsHeld, StreamInfo, StreamKind};
use crate::names::{Label, LineageId};
use crate::object::{from_cbor, to_cbor};
use crate::root::{PackEntryWire, pack_from_wire};
use crate::tree::NodeRefWire;

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
    system_id: u64,
    #[n(4)]
    server_version: u32,
    #[n(5)]
    tool_major: u32,
    #[n(6)]
    started_us: i64,
    #[n(7)]
    stopped_us: i64,
    #[n(8)]
    size: u64,
    #[n(9)]
    stored: u64,
    #[n(10)]
    databases: Vec<String>,
    #[n(11)]
    database_count: u64,
    #[n(12)]
    is_complete: bool,
    #[n(13)]
    globals: u8,
    #[n(14)]
    note: String,
    #[n(15)]
    tree: NodeRefWire,
    #[n(16)]
    pack_frames: u32,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct DetailsWire {
    #[n(0)]
    databases: Vec<DatabaseWire>,
    #[n(1)]
    made_by: String,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct DatabaseWire {
    #[n(0)]
    name: String,
    #[n(1)]
    owner: String,
    #[n(2)]
    encoding: String,
    #[n(3)]
    locale_provider: String,
    #[n(4)]
    collate: String,
    #[n(5)]
    ctype: String,
    #[n(6)]
    locale: Option<String>,
    #[n(7)]
    comment: Option<String>,
    #[n(8)]
    extensions: Vec<String>,
    #[n(9)]
    owners: Vec<String>,
    #[n(10)]
    grantees: Vec<String>,
    #[n(11)]
    named: Vec<String>,
    #[n(12)]
    tablespaces: Vec<String>,
    #[n(13)]
    statements: Vec<String>,
    #[n(14)]
    streams: Vec<StreamWire>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct StreamWire {
    #[n(0)]
    path: String,
    #[n(1)]
    kind: u8,
    #[n(2)]
    size: u64,
    #[n(3)]
    schema: Option<String>,
    #[n(4)]
    table: Option<String>,
}

/// Decodes the frames of a dump's root.
///
/// # Errors
/// A sentence: which rule of the format they break.
pub fn decode(frames: &[Vec<u8>]) -> Result<DumpRoot, String> {
    let (first, rest) = frames.split_first().ok_or("a root without frames")?;
    let (summary, pack_frames) = summary_from_cbor(first)?;
    let (tables, rest) = rest
        .split_at_checked(pack_frames as usize)
        .ok_or_else(|| format!("expected {pack_frames} frames of packs, seen {}", rest.len()))?;
    let mut packs = Vec::new();
    for table in tables {
        let wires: Vec<PackEntryWire> = from_cbor(table)?;
        packs.extend(wires.iter().map(pack_from_wire));
    }
    let details: DetailsWire = from_cbor(rest.first().ok_or("a root without details")?)?;
    let databases: Result<Vec<_>, String> =
        details.databases.into_iter().map(database_from_wire).collect();
    Ok(DumpRoot { summary, packs, databases: databases?, made_by: details.made_by })
}

pub(super) fn summary_from_cbor(frame: &[u8]) -> Result<(DumpSummary, u32), String> {
    let wire: SummaryWire = from_cbor(frame)?;
    let time = |us| Timestamp::from_microsecond(us).map_err(|error| error.to_string());
    let summary = DumpSummary {
        label: wire.label.parse::<Label>().map_err(|error| error.to_string())?,
        lineage: LineageId(Id::from_bytes(wire.lineage)),
        cluster: wire.cluster,
        system_id: SystemId::new(wire.system_id),
        server_version: wire.server_version,
        tool_major: wire.tool_major,
        started: time(wire.started_us)?,
        stopped: time(wire.stopped_us)?,
        size: wire.size,
        stored: wire.stored,
        databases: wire.databases,
        database_count: wire.database_count,
        is_complete: wire.is_complete,
        globals: match wire.globals {
            0 => GlobalsHeld::No,
            1 => GlobalsHeld::WithoutPasswords,
            2 => GlobalsHeld::Whole,
            other => return Err(format!("expected globals 0, 1 or 2, seen {other}")),
        },
        note: wire.note,
        tree: wire.tree.decode_ref()?,
    };
    Ok((summary, wire.pack_frames))
}

pub(super) fn summary_to_cbor(summary: &DumpSummary, pack_frames: u32) -> Vec<u8> {
    to_cbor(&SummaryWire {
        label: summary.label.to_string(),
        lineage: *summary.lineage.0.as_bytes(),
        cluster: summary.cluster.clone(),
        system_id: summary.system_id.get(),
        server_version: summary.server_version,
        tool_major: summary.tool_major,
        started_us: summary.started.as_microsecond(),
        stopped_us: summary.stopped.as_microsecond(),
        size: summary.size,
        stored: summary.stored,
        databases: summary.databases.clone(),
        database_count: summary.database_count,
        is_complete: summary.is_complete,
        globals: match summary.globals {
            GlobalsHeld::No => 0,
            GlobalsHeld::WithoutPasswords => 1,
            GlobalsHeld::Whole => 2,
        },
        note: summary.note.clone(),
        tree: (&summary.tree).into(),
        pack_frames,
    })
}

pub(super) fn details_to_cbor(root: &DumpRoot) -> Vec<u8> {
    to_cbor(&DetailsWire {
        databases: root.databases.iter().map(database_to_wire).collect(),
        made_by: root.made_by.clone(),
    })
}

fn database_to_wire(database: &DumpedDatabase) -> DatabaseWire {
    DatabaseWire {
        name: database.name.clone(),
        owner: database.owner.clone(),
        encoding: database.encoding.clone(),
        locale_provider: database.locale_provider.clone(),
        collate: database.collate.clone(),
        ctype: database.ctype.clone(),
        locale: database.locale.clone(),
        comment: database.comment.clone(),
        extensions: database.extensions.clone(),
        owners: database.owners.clone(),
        grantees: database.grantees.clone(),
        named: database.named.clone(),
        tablespaces: database.tablespaces.clone(),
        statements: database.statements.clone(),
        streams: database.streams.iter().map(stream_to_wire).collect(),
    }
}

fn database_from_wire(wire: DatabaseWire) -> Result<DumpedDatabase, String> {
    let streams: Result<Vec<_>, String> = wire.streams.into_iter().map(stream_from_wire).collect();
    Ok(DumpedDatabase {
        name: wire.name,
        owner: wire.owner,
        encoding: wire.encoding,
        locale_provider: wire.locale_provider,
        collate: wire.collate,
        ctype: wire.ctype,
        locale: wire.locale,
        comment: wire.comment,
        extensions: wire.extensions,
        owners: wire.owners,
        grantees: wire.grantees,
        named: wire.named,
        tablespaces: wire.tablespaces,
        statements: wire.statements,
        streams: streams?,
    })
}

fn stream_to_wire(stream: &StreamInfo) -> StreamWire {
    let (kind, schema, table) = match &stream.kind {
        StreamKind::Schema => (1, None, None),
        StreamKind::Rest => (2, None, None),
        StreamKind::Table(schema, table) => (3, Some(schema.clone()), Some(table.clone())),
    };
    StreamWire { path: stream.path.clone(), kind, size: stream.size, schema, table }
}

fn stream_from_wire(wire: StreamWire) -> Result<StreamInfo, String> {
    let kind = match (wire.kind, wire.schema, wire.table) {
        (1, ..) => StreamKind::Schema,
        (2, ..) => StreamKind::Rest,
        (3, Some(schema), Some(table)) => StreamKind::Table(schema, table),
        (kind, ..) => return Err(format!("expected a stream of kind 1, 2 or 3, seen {kind}")),
    };
    Ok(StreamInfo { path: wire.path, kind, size: wire.size })
}
