//! `rollforward dump list NAME`.

use backup::dump::plain::PlainListing;
use repository::dump::{DumpSummary, GlobalsHeld};
use serde::Serialize;
use stdx::ByteCount;

use super::source::{self, Listed};
use crate::commands::Context;
use crate::config::Config;
use crate::output::table;
use crate::wiring::{Purpose, block_on, open_set};

/// Arguments of `dump list`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A cluster, or the name of a `[dumps]` or a `[source]`; may be left out when there is only
    /// one cluster
    name: Option<String>,
    /// Look into this repository only
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
}

/// One dump as it is listed.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    label: String,
    started: String,
    stopped: String,
    databases: Vec<String>,
    database_count: u64,
    /// Whether these are all databases that the cluster had.
    complete: bool,
    /// `whole`, `without passwords` or `none`.
    globals: &'static str,
    size: u64,
    stored: u64,
    server_version: u32,
    note: String,
}

impl From<&DumpSummary> for Row {
    fn from(summary: &DumpSummary) -> Self {
        Self {
            label: summary.label.to_string(),
            started: summary.started.to_string(),
            stopped: summary.stopped.to_string(),
            databases: summary.databases.clone(),
            database_count: summary.database_count,
            complete: summary.is_complete,
            globals: match summary.globals {
                GlobalsHeld::No => "none",
                GlobalsHeld::WithoutPasswords => "without passwords",
                GlobalsHeld::Whole => "whole",
            },
            size: summary.size,
            stored: summary.stored,
            server_version: summary.server_version,
            note: summary.note.clone(),
        }
    }
}

/// What others keep under one name.
#[derive(Debug, Serialize)]
struct Others {
    name: String,
    dumps: Vec<OtherRow>,
    /// Dumps that are older than those listed.
    older: u64,
    /// Objects whose names are not those of dumps.
    others: u64,
}

/// One of them.
#[derive(Debug, Serialize)]
struct OtherRow {
    label: String,
    time: Option<String>,
    age_seconds: Option<i64>,
    size: Option<u64>,
}

#[derive(Default, Serialize)]
struct Listing {
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    dumps: Vec<Row>,
    others: Vec<Others>,
    problems: Vec<String>,
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let name = arguments.name.as_deref();
    let is_other = name.is_some_and(|name| {
        config.others.dumps.contains_key(name) || config.others.sources.contains_key(name)
    });
    block_on(async {
        let mut listing = Listing::default();
        if !is_other {
            let cluster = config.cluster(name)?;
            let only = arguments.repository.as_deref();
            let repository =
                open_set(&config, cluster, only, Purpose::Read, context.printer).await?;
            let lineage = repository::lineage::of_cluster(&repository, &cluster.name).await?;
            let (dumps, problems) = repository::dump::list(&repository, lineage.id).await?;
            listing.cluster = Some(cluster.name.clone());
            listing.dumps = dumps.iter().map(Row::from).collect();
            let text = |problem: &repository::catalog::Problem| {
                format!("{}: {}", problem.key, problem.error)
            };
            listing.problems = problems.iter().map(text).collect();
        }
        let cluster = listing.cluster.clone();
        let is_wanted = |other: &str, of: Option<&str>| match &cluster {
            Some(cluster) => of == Some(cluster),
            None => name == Some(other),
        };
        others(&config, is_wanted, &mut listing).await;
        print(context, &listing, name.unwrap_or_default());
        Ok(if listing.problems.is_empty() { 0 } else { 3 })
    })
}

/// What others keep. One that does not answer hides no other one.
async fn others(
    config: &Config,
    is_wanted: impl Fn(&str, Option<&str>) -> bool,
    listing: &mut Listing,
) {
    for (name, dumps) in &config.others.dumps {
        if !is_wanted(name, dumps.cluster.as_deref()) {
            continue;
        }
        let listed = async { Ok::<_, anyhow::Error>(super::plain(dumps, None)?.list().await?) };
        match listed.await {
            Ok(found) => listing.others.push(of_plain(name, &found)),
            Err(error) => listing.problems.push(format!("dumps '{name}': {error:#}")),
        }
    }
    for (name, other) in &config.others.sources {
        if !is_wanted(name, other.cluster.as_deref()) {
            continue;
        }
        match source::list(other).await {
            Ok(found) => listing.others.push(of_source(name, &found)),
            Err(error) => listing.problems.push(format!("{error:#}")),
        }
    }
}

fn age(time: jiff::Timestamp) -> i64 {
    stdx::Clock::now(&stdx::SystemClock::new()).duration_since(time).as_secs()
}

fn of_plain(name: &str, found: &PlainListing) -> Others {
    let rows = found.dumps.iter().map(|dump| OtherRow {
        label: dump.key.to_string(),
        time: Some(dump.modified.to_string()),
        age_seconds: Some(age(dump.modified)),
        size: Some(dump.size),
    });
    Others { name: name.into(), dumps: rows.collect(), older: found.older, others: found.others }
}

fn of_source(name: &str, found: &[Listed]) -> Others {
    let rows = found.iter().map(|listed| OtherRow {
        label: listed.id.clone(),
        time: listed.time.map(|time| time.to_string()),
        age_seconds: listed.time.map(age),
        size: listed.size,
    });
    Others { name: name.into(), dumps: rows.collect(), older: 0, others: 0 }
}

fn print(context: &Context<'_>, listing: &Listing, name: &str) {
    let mut parts: Vec<String> = Vec::new();
    if let Some(cluster) = &listing.cluster {
        parts.push(match listing.dumps.is_empty() {
            true => format!("no dumps of cluster '{cluster}'"),
            false => ours(&listing.dumps),
        });
    }
    parts.extend(listing.others.iter().map(theirs));
    parts.extend(listing.problems.iter().map(|problem| format!("problem: {problem}")));
    context.printer.result(listing, &parts.join("\n"));
    let cluster = listing.cluster.as_deref().unwrap_or(name);
    context.printer.next(&match (&listing.cluster, listing.dumps.is_empty()) {
        (Some(cluster), true) => format!("rollforward dump create {cluster}"),
        _ => format!(
            "rollforward dump restore {cluster} LABEL --target CONNINFO --database NAME --create"
        ),
    });
}

fn ours(rows: &[Row]) -> String {
    let header =
        ["label", "started", "PostgreSQL", "databases", "globals", "size", "stored", "note"];
    let mut list = table(&header);
    for row in rows {
        let databases = match row.database_count {
            1..=3 => row.databases.join(", "),
            count => format!("{count}"),
        };
        list.add_row([
            row.label.clone(),
            row.started.clone(),
            format!("{}.{}", row.server_version / 10_000, row.server_version % 10_000),
            if row.complete { format!("all: {databases}") } else { databases },
            row.globals.to_owned(),
            ByteCount::new(row.size).to_string(),
            ByteCount::new(row.stored).to_string(),
            row.note.clone(),
        ]);
    }
    list.to_string()
}

fn theirs(others: &Others) -> String {
    let mut list = table(&[others.name.as_str(), "written", "age", "size"]);
    for row in &others.dumps {
        list.add_row([
            row.label.clone(),
            row.time.clone().unwrap_or_default(),
            row.age_seconds.map(|age| format!("{} h", age / 3600)).unwrap_or_default(),
            row.size.map(|size| ByteCount::new(size).to_string()).unwrap_or_default(),
        ]);
    }
    let mut text = list.to_string();
    if others.older > 0 {
        text.push_str(&format!("\n… and {} older ones", others.older));
    }
    if others.others > 0 {
        text.push_str(&format!("\n{} other objects, by their names no dumps", others.others));
    }
    text
}
