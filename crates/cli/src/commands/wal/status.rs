//! `rollforward wal status CLUSTER`.

use archive::status::{Status, status};
use serde::Serialize;
use stdx::{ByteCount, Clock, SystemClock};

use super::super::Context;
use crate::output::table;
use crate::wiring::{Purpose, block_on, open_set};

/// Arguments of `wal status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cluster; may be left out when there is only one
    cluster: Option<String>,
    /// Look into this repository only
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
}

#[derive(Serialize)]
struct Outcome {
    cluster: String,
    timelines: Vec<Timeline>,
    conflicts: Vec<String>,
    newest: Option<String>,
    age_seconds: Option<i64>,
    bytes: u64,
}

#[derive(Serialize)]
struct Timeline {
    timeline: u32,
    segments: u64,
    first: String,
    last: String,
    tail: Option<String>,
    holes: Vec<String>,
    bytes: u64,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let cluster = config.cluster(arguments.cluster.as_deref())?;
    block_on(async {
        let only = arguments.repository.as_deref();
        let repository = open_set(&config, cluster, only, Purpose::Read, context.printer).await?;
        let lineage = repository::lineage::of_cluster(&repository, &cluster.name).await?;
        let found = status(&repository, &lineage, SystemClock::new().now()).await?;
        Ok(print(context, &outcome(&cluster.name, &found)))
    })
}

fn outcome(cluster: &str, found: &Status) -> Outcome {
    let timelines = found.timelines.iter().map(|line| {
        let size = line.segment_size;
        let hole = |(first, last): &(pg::WalSegment, pg::WalSegment)| match first == last {
            true => first.name(size),
            false => format!("{} to {}", first.name(size), last.name(size)),
        };
        Timeline {
            timeline: line.timeline.get(),
            segments: line.segments,
            first: line.first.name(size),
            last: line.last.name(size),
            tail: line.tail.map(|lsn| lsn.to_string()),
            holes: line.holes.iter().map(hole).collect(),
            bytes: line.bytes.get(),
        }
    });
    Outcome {
        cluster: cluster.into(),
        timelines: timelines.collect(),
        conflicts: found.conflicts.clone(),
        newest: found.newest.map(|time| time.to_string()),
        age_seconds: found.age.map(|age| age.as_secs()),
        bytes: found.bytes.get(),
    }
}

fn print(context: &Context<'_>, outcome: &Outcome) -> u8 {
    let mut list = table(&["timeline", "segments", "first", "last", "stored", "holes"]);
    for line in &outcome.timelines {
        list.add_row([
            line.timeline.to_string(),
            line.segments.to_string(),
            line.first.clone(),
            line.last.clone(),
            ByteCount::new(line.bytes).to_string(),
            line.holes.len().to_string(),
        ]);
    }
    let mut text = match outcome.timelines.is_empty() {
        true => format!("no WAL of cluster '{}' is archived", outcome.cluster),
        false => list.to_string(),
    };
    for line in &outcome.timelines {
        for hole in &line.holes {
            text.push_str(&format!("\nhole on timeline {}: {hole}", line.timeline));
        }
    }
    for conflict in &outcome.conflicts {
        text.push_str(&format!("\nconflict: '{conflict}' came twice with different content"));
    }
    if let (Some(newest), Some(age)) = (&outcome.newest, outcome.age_seconds) {
        text.push_str(&format!("\nnewest stored {newest}, {age} s ago"));
    }
    context.printer.result(outcome, &text);
    context.printer.next(&format!("rollforward window {}", outcome.cluster));
    let holes = outcome.timelines.iter().any(|line| !line.holes.is_empty());
    if holes || !outcome.conflicts.is_empty() { 3 } else { 0 }
}
