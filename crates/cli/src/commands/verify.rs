//! `rollforward verify CLUSTER`.

use backup::verify::{Verification, verify};
use serde::Serialize;
use stdx::ByteCount;

use super::Context;
use crate::output::count;
use crate::progress::Progress;
use crate::wiring::{Purpose, block_on, open_set};

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cluster; may be left out when there is only one
    cluster: Option<String>,
    /// Read and open every byte, not only the indexes
    #[arg(long)]
    deep: bool,
    /// Look at this repository only
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
}

#[derive(Serialize)]
struct Outcome {
    cluster: String,
    deep: bool,
    backups: u64,
    dumps: u64,
    packs: u64,
    wal_files: u64,
    bytes: u64,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Finding {
    repository: String,
    object: String,
    what: String,
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let cluster = config.cluster(arguments.cluster.as_deref())?;
    block_on(async {
        let only = arguments.repository.as_deref();
        // A member that does not answer cannot be proved: that is a failure, not a detail.
        let repository = open_set(&config, cluster, only, Purpose::Write, context.printer).await?;
        let lineage = repository::lineage::of_cluster(&repository, &cluster.name).await?;
        let progress = Progress::new("verify", context.printer);
        let verified = verify(&repository, &lineage, arguments.deep, &progress).await;
        progress.finish();
        Ok(print(context, &cluster.name, arguments.deep, verified?))
    })
}

fn print(context: &Context<'_>, cluster: &str, deep: bool, verified: Verification) -> u8 {
    let found = verified.findings.len();
    let findings = verified.findings.into_iter().map(|finding| Finding {
        repository: finding.member,
        object: finding.object,
        what: finding.what,
    });
    let outcome = Outcome {
        cluster: cluster.into(),
        deep,
        backups: verified.backups,
        dumps: verified.dumps,
        packs: verified.packs,
        wal_files: verified.wal_files,
        bytes: verified.bytes,
        findings: findings.collect(),
    };
    let mut text = format!(
        "{}{}, {}, {}{}: {}",
        count(outcome.backups, "backup"),
        match outcome.dumps {
            0 => String::new(),
            some => format!(", {}", count(some, "dump")),
        },
        count(outcome.packs, "pack"),
        count(outcome.wal_files, "WAL file"),
        if deep { format!(", {} read", ByteCount::new(outcome.bytes)) } else { String::new() },
        match found {
            0 => "all sound".to_owned(),
            some => count(some, "finding"),
        }
    );
    for finding in &outcome.findings {
        text.push_str(&format!("\n{}: {}: {}", finding.repository, finding.object, finding.what));
    }
    context.printer.result(&outcome, &text);
    if found > 0 {
        context
            .printer
            .next("copy the damaged objects back from another repository, or make a new backup");
        return 3;
    }
    if !deep {
        context.printer.next("rollforward verify --deep reads every byte");
    }
    0
}
