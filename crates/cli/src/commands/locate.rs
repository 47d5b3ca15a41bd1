//! `rollforward locate CLUSTER`: the transactions that destroyed something, and where to stop.

use archive::locate::{Damage, LocateRequest, Located, Names, Suspect, What, locate};
use jiff::Timestamp;
use pg::SegmentSize;
use repository::coverage::Coverage;
use repository::lineage::Lineage;
use repository::relation_map::{self, RelationMap};
use repository::root::Summary;
use repository::walk::{self, Walk};
use repository::{Repository, catalog, timeline};
use serde::Serialize;
use stdx::{ByteCount, SystemClock};

use super::Context;
use super::target_arguments::parse_time;
use crate::failure::Error;
use crate::wiring::{Purpose, block_on, open_set};

/// Arguments of `locate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cluster; may be left out when there is only one
    cluster: Option<String>,
    /// Only transactions that ended at or after this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Timestamp>,
    /// Only transactions that ended at or before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Timestamp>,
    /// Only transactions that changed this table: orders, or public.orders
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// Deletions of fewer rows are not shown
    #[arg(long, value_name = "ROWS", default_value_t = 100)]
    min_rows: u64,
    /// How many are shown
    #[arg(long, value_name = "N", default_value_t = 10)]
    most: usize,
    /// Look into this repository only
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
}

/// The search's result.
#[derive(Debug, Serialize)]
struct Outcome {
    cluster: String,
    suspects: Vec<Row>,
    more: usize,
    prepared: usize,
    complete: bool,
    from: String,
    until: Option<String>,
    holes: Vec<String>,
    bytes: u64,
    seconds: f64,
    bytes_per_second: u64,
}

/// One transaction.
#[derive(Debug, Serialize)]
struct Row {
    xid: u32,
    committed: String,
    database: Option<String>,
    rows_lost: u64,
    damage: Vec<String>,
    recover_before: String,
    last_good_commit: Option<String>,
    transactions_lost: u64,
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let cluster = config.cluster(arguments.cluster.as_deref())?;
    block_on(async {
        let only = arguments.repository.as_deref();
        let repository = open_set(&config, cluster, only, Purpose::Read, context.printer).await?;
        let lineage = repository::lineage::of_cluster(&repository, &cluster.name).await?;
        let found = search(&repository, &lineage, arguments).await?;
        let outcome = outcome(&cluster.name, &found, arguments.most);
        print(context, &outcome);
        Ok(0)
    })
}

async fn search(
    repository: &Repository,
    lineage: &Lineage,
    arguments: &Arguments,
) -> anyhow::Result<Located> {
    let catalog = catalog::backups(repository, lineage.id).await?;
    let size = segment_size(&catalog.backups)?;
    let current = timeline::latest(repository, lineage.id).await?;
    let path = timeline::path_to(repository, lineage.id, current).await?;
    let coverage = Coverage::load(repository, lineage.id, &path, size).await?;
    let names = names(repository, lineage, &catalog.backups).await?;
    // A transaction that began earlier counts from its beginning: the newest backup that ended
    // before the time of interest is early enough, and nothing before it has to be read.
    let from = arguments.since.and_then(|since| {
        let earlier = catalog.backups.iter().filter(|backup| backup.stopped < since);
        earlier.map(|backup| backup.redo).max()
    });
    let request = LocateRequest {
        lineage,
        coverage: &coverage,
        from,
        to: None,
        since: arguments.since,
        until: arguments.until,
        table: arguments.table.as_deref(),
        limits: pg::wal::activity::Limits {
            rows_deleted_min: arguments.min_rows,
            ..pg::wal::activity::Limits::default()
        },
        names: &names,
    };
    Ok(locate(repository, &request, &SystemClock::new()).await?)
}

fn segment_size(backups: &[Summary]) -> anyhow::Result<SegmentSize> {
    let newest = backups.last().ok_or_else(|| Error::Failed {
        what: "there is no backup: nothing could be restored, whatever is found".into(),
        hint: "rollforward backup".into(),
    })?;
    Ok(SegmentSize::new(u32::try_from(newest.segment_size)?)?)
}

/// The names of relations in all backups, those of newer ones winning.
async fn names(
    repository: &Repository,
    lineage: &Lineage,
    backups: &[Summary],
) -> anyhow::Result<Names> {
    let mut maps = Vec::new();
    for backup in backups {
        debug_assert_eq!(backup.lineage, lineage.id);
        let mut entries = Walk::new(repository, backup.tree);
        while let Some(entry) = entries.next().await? {
            // Attachments come first: '@' sorts before every name PostgreSQL gives.
            if !entry.path.starts_with(repository::tree::ATTACHMENT_PREFIX.as_bytes()) {
                break;
            }
            if relation_map::database_of(&entry.path).is_none() {
                continue;
            }
            let bytes = walk::read_small(repository, &entry).await?;
            let map = RelationMap::decode(&bytes).map_err(|reason| Error::Failed {
                what: format!("relation names of backup {}: {reason}", backup.label),
                hint: "rollforward verify --deep".into(),
            })?;
            maps.push(map);
        }
    }
    Ok(Names::new(maps))
}

fn describe(damage: &Damage) -> String {
    let name = match (&damage.name, &damage.relation) {
        (Some(name), _) => name.clone(),
        (None, Some(file)) => format!("relation file {}/{}", file.database, file.relation),
        (None, None) => "unnamed".into(),
    };
    let before = damage.rows_before.map_or(String::new(), |rows| format!(" (about {rows} rows)"));
    match damage.what {
        What::Updated(rows) => format!("UPDATE {name}, {rows} rows"),
        What::Deleted(rows) => format!("DELETE {name}, {rows} rows"),
        What::Rewritten => format!("rewritten {name}"),
        What::Emptied => format!("TRUNCATE {name}{before}"),
        What::Dropped => format!("DROP {name}{before}"),
        What::TablespaceDropped => "DROP TABLESPACE".into(),
        What::DatabaseDropped => format!("DROP DATABASE {name}"),
    }
}

fn row(suspect: &Suspect) -> Row {
    let transaction = &suspect.transaction;
    let time = |micros: pg::wal::TimestampTz| {
        micros.to_timestamp().map_or_else(|| "unknown".to_owned(), |time| time.to_string())
    };
    Row {
        xid: transaction.xid.get(),
        committed: time(transaction.time),
        database: suspect.database.clone(),
        rows_lost: suspect.rows_lost,
        damage: suspect.damage.iter().map(describe).collect(),
        recover_before: transaction.recover_before().to_string(),
        last_good_commit: suspect.proposal.last_commit.map(|point| time(point.time)),
        transactions_lost: suspect.proposal.transactions_lost,
    }
}

fn outcome(cluster: &str, found: &Located, most: usize) -> Outcome {
    Outcome {
        cluster: cluster.into(),
        suspects: found.suspects.iter().take(most).map(row).collect(),
        more: found.suspects.len().saturating_sub(most),
        prepared: found.prepared.len(),
        complete: found.is_complete,
        from: found.read.from.to_string(),
        until: found.read.end.as_ref().map(|end| end.at.to_string()),
        holes: found.read.holes.iter().map(ToString::to_string).collect(),
        bytes: found.read.bytes.get(),
        seconds: found.read.elapsed.as_secs_f64(),
        bytes_per_second: found.read.rate().get(),
    }
}

fn print(context: &Context<'_>, outcome: &Outcome) {
    let mut text = format!(
        "read {} of WAL, {} to {}, {}/s",
        ByteCount::new(outcome.bytes),
        outcome.from,
        outcome.until.as_deref().unwrap_or("nothing"),
        ByteCount::new(outcome.bytes_per_second)
    );
    if outcome.suspects.is_empty() {
        text.push_str("\nno destructive transaction found");
    }
    for (number, suspect) in outcome.suspects.iter().enumerate() {
        text.push_str(&format!(
            "\n\n{}. {} · transaction {}{} · {} rows lost",
            number + 1,
            suspect.committed,
            suspect.xid,
            suspect
                .database
                .as_ref()
                .map_or(String::new(), |name| format!(" in database '{name}'")),
            suspect.rows_lost
        ));
        for damage in suspect.damage.iter().take(8) {
            text.push_str(&format!("\n   {damage}"));
        }
        if suspect.damage.len() > 8 {
            text.push_str(&format!("\n   and {} more relations", suspect.damage.len() - 8));
        }
        text.push_str(&format!(
            "\n   recover with --before {}; the last good commit is of {}; {} lost",
            suspect.recover_before,
            suspect.last_good_commit.as_deref().unwrap_or("before this WAL"),
            crate::output::count(suspect.transactions_lost, "later transaction")
        ));
    }
    for hole in &outcome.holes {
        text.push_str(&format!("\nnot read: {hole}"));
    }
    if !outcome.complete {
        text.push_str(
            "\nnot everything fitted into memory: narrow the search with --since and --until",
        );
    }
    context.printer.result(outcome, &text);
    if let Some(first) = outcome.suspects.first() {
        context.printer.next(&format!(
            "rollforward restore {} --to DIR --before {} --start",
            outcome.cluster, first.recover_before
        ));
    }
}
