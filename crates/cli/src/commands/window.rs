//! `rollforward window CLUSTER`: what can be reached, and whether one target can.

use repository::target::{Commit, Resolved, Stop, Target};
use repository::window::{Detail, Window};
use serde::Serialize;

use super::Context;
use super::target_arguments::TargetArguments;
use crate::output::table;
use crate::wiring::{Purpose, block_on, open_set};

/// Arguments of `window`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cluster; may be left out when there is only one
    cluster: Option<String>,
    /// Look into this repository only
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    #[command(flatten)]
    target: TargetArguments,
}

#[derive(Serialize)]
struct Spans {
    cluster: String,
    timeline: u32,
    spans: Vec<Span>,
    holes: Vec<String>,
    unusable_backups: Vec<String>,
    problems: Vec<String>,
}

#[derive(Serialize)]
struct Span {
    from_lsn: String,
    until_lsn: String,
    first_commit: Option<String>,
    last_commit: Option<String>,
    backups: Vec<String>,
}

#[derive(Serialize)]
struct Reach {
    cluster: String,
    target: String,
    reachable: bool,
    backup: String,
    other_backups: Vec<String>,
    timeline: u32,
    stop: String,
    wal_until: String,
    last_segment: String,
    newest_commit: Option<String>,
    prepared_transactions: usize,
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let cluster = config.cluster(arguments.cluster.as_deref())?;
    block_on(async {
        let only = arguments.repository.as_deref();
        let repository = open_set(&config, cluster, only, Purpose::Read, context.printer).await?;
        let lineage = repository::lineage::of_cluster(&repository, &cluster.name).await?;
        if arguments.target.is_named() {
            let request = arguments.target.request();
            let resolved = repository::target::resolve(&repository, &lineage, &request).await?;
            print_reach(context, &cluster.name, &request.target, &resolved)?;
            return Ok(0);
        }
        let timeline = arguments.target.timeline.map(pg::TimelineId::new);
        let window =
            repository::window::window(&repository, &lineage, timeline, Detail::Times).await?;
        Ok(print_window(context, &cluster.name, &window))
    })
}

fn time(commit: Option<&Commit>) -> Option<String> {
    commit.map(|commit| commit.time.to_string())
}

fn print_window(context: &Context<'_>, cluster: &str, window: &Window) -> u8 {
    let spans = Spans {
        cluster: cluster.into(),
        timeline: window.path.timelines().last().map_or(1, |timeline| timeline.get()),
        spans: window
            .spans
            .iter()
            .map(|span| Span {
                from_lsn: span.from.to_string(),
                until_lsn: span.until.to_string(),
                first_commit: time(span.first_commit.as_ref()),
                last_commit: time(span.last_commit.as_ref()),
                backups: span.backups.iter().map(|backup| backup.label.to_string()).collect(),
            })
            .collect(),
        holes: window.holes.iter().map(ToString::to_string).collect(),
        unusable_backups: window.unusable.iter().map(|backup| backup.label.to_string()).collect(),
        problems: window
            .problems
            .iter()
            .map(|problem| format!("{}: {}", problem.key, problem.error))
            .collect(),
    };
    let mut list = table(&["from", "until", "first commit", "last commit", "backups"]);
    for span in &spans.spans {
        let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "–".into());
        list.add_row([
            span.from_lsn.clone(),
            span.until_lsn.clone(),
            shown(&span.first_commit),
            shown(&span.last_commit),
            span.backups.len().to_string(),
        ]);
    }
    let mut text = match spans.spans.is_empty() {
        true => format!("nothing of cluster '{cluster}' can be reached"),
        false => list.to_string(),
    };
    for hole in &spans.holes {
        text.push_str(&format!("\nhole: {hole}"));
    }
    for label in &spans.unusable_backups {
        text.push_str(&format!("\nunusable: backup {label} misses WAL that it needs"));
    }
    for problem in &spans.problems {
        text.push_str(&format!("\nproblem: {problem}"));
    }
    context.printer.result(&spans, &text);
    context.printer.next(&format!("rollforward restore {cluster} --to DIR [--target-time TIME]"));
    let sound =
        spans.holes.is_empty() && spans.unusable_backups.is_empty() && spans.problems.is_empty();
    if sound && !spans.spans.is_empty() { 0 } else { 3 }
}

fn print_reach(
    context: &Context<'_>,
    cluster: &str,
    target: &Target,
    resolved: &Resolved,
) -> anyhow::Result<()> {
    let size = pg::SegmentSize::new(u32::try_from(resolved.backup.segment_size)?)?;
    let stop = match resolved.stop {
        Stop::AtRecord { lsn, inclusive: true } => format!("after the record at {lsn}"),
        Stop::AtRecord { lsn, inclusive: false } => format!("before the record at {lsn}"),
        Stop::Consistency => format!("at consistency, {}", resolved.backup.stop),
        Stop::EndOfWal => format!("at the end of the WAL, {}", resolved.end),
    };
    let reach = Reach {
        cluster: cluster.into(),
        target: target.to_string(),
        reachable: true,
        backup: resolved.backup.label.to_string(),
        other_backups: resolved.candidates.iter().map(|backup| backup.label.to_string()).collect(),
        timeline: resolved.timeline.get(),
        stop,
        wal_until: resolved.end.to_string(),
        last_segment: resolved.last_segment.name(size),
        newest_commit: time(resolved.newest_commit.as_ref()),
        prepared_transactions: resolved.prepared.as_ref().map_or(0, Vec::len),
    };
    let text = format!(
        "{target} is reachable: backup {}, timeline {}, recovery stops {}\nnewest commit there: {}",
        reach.backup,
        reach.timeline,
        reach.stop,
        reach.newest_commit.as_deref().unwrap_or("none since the backup"),
    );
    context.printer.result(&reach, &text);
    let option = match target {
        Target::BeforeRecord(lsn) => format!("--before {lsn}"),
        other => other.to_string(),
    };
    context.printer.next(&format!("rollforward restore {cluster} --to DIR {option} --start"));
    Ok(())
}
