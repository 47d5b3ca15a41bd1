//! `rollforward dump restore CLUSTER LABEL`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use backup::dump::plain::{self, PlainRestore};
use backup::dump::{RestoreOptions, RestoreReport, RoleMap};
use pgclient::{ConnectOptions, identifier};
use repository::{Label, LineageId};
use serde::Serialize;
use stdx::{ByteCount, SystemClock};

use crate::commands::Context;
use crate::commands::backup::stop_signal;
use crate::config::ClusterConfig;
use crate::config::dumps::{DumpsConfig, SourceConfig};
use crate::failure::Error;
use crate::progress::Progress;
use crate::wiring::{Purpose, block_on, open_set};

/// Arguments of `dump restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A cluster, or the name of a `[dumps]` or a `[source]`
    cluster: String,
    /// The dump's label
    label: String,
    /// The server to restore into, in libpq's form; a new database is made from a session there
    #[arg(
        long,
        alias = "to-connection",
        value_name = "CONNINFO",
        required_unless_present = "directory"
    )]
    target: Option<String>,
    /// What a `[source]` restores goes into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "target")]
    directory: Option<PathBuf>,
    /// Do not read a dump of others to its end before it is restored
    #[arg(long)]
    unverified: bool,
    /// The database to restore into [default: of the name it was dumped under]
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// The database of the dump, when it holds several
    #[arg(long, value_name = "NAME")]
    source_database: Option<String>,
    /// Make the database; it must not be there
    #[arg(long, conflicts_with = "into_existing")]
    create: bool,
    /// Make the roles that are missing; those that are there stay as they are
    #[arg(long)]
    globals: bool,
    /// Restore into a database that holds something: nothing of it is dropped, and names that are
    /// taken are errors
    #[arg(long)]
    into_existing: bool,
    /// The comment of the restored database [default: the dump's, or the one it has]
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// Make the statistics that queries need, too
    #[arg(long)]
    analyze: bool,
    /// How many pg_restore run at once [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: Option<u16>,
    /// Everything belongs to the user who restores
    #[arg(long)]
    no_owner: bool,
    /// Leave rights out
    #[arg(long)]
    no_privileges: bool,
    /// Everything into the default tablespace
    #[arg(long)]
    no_tablespaces: bool,
    /// Only this schema; may be given several times
    #[arg(long = "schema", value_name = "NAME")]
    schemas: Vec<String>,
    /// Only tables of this name, without their indexes; may be given several times
    #[arg(long = "table", value_name = "NAME")]
    tables: Vec<String>,
    /// Make this table and leave it empty; may be given several times
    #[arg(long = "exclude-table-data", value_name = "SCHEMA.TABLE")]
    without_data_of: Vec<String>,
    /// Leave out tables of this name, with everything of theirs: NAME or SCHEMA.NAME, * and ? are
    /// wildcards; may be given several times
    #[arg(long = "exclude-table", value_name = "PATTERN")]
    without: Vec<String>,
    /// What the dump gives to role OLD belongs and is allowed to role NEW of the target; OLD must
    /// not be there; may be given several times
    #[arg(long = "role-map", value_name = "OLD=NEW", value_parser = role_map)]
    role_map: Vec<RoleMap>,
    /// Where PostgreSQL's programs are
    #[arg(long, value_name = "DIR")]
    bin_directory: Option<PathBuf>,
    /// Read from this repository only
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
}

/// Two names of roles. One with an equals sign in it cannot be given.
fn role_map(text: &str) -> Result<RoleMap, String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() && old != new => {
            Ok(RoleMap { old: old.into(), new: new.into() })
        }
        _ => Err(format!("expected two different names, OLD=NEW, seen '{text}'")),
    }
}

#[derive(Serialize)]
struct Outcome {
    cluster: String,
    label: String,
    source_database: String,
    database: String,
    bytes: u64,
    seconds: f64,
    roles_made: Vec<String>,
    notes: Vec<String>,
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    if let Some(source) = config.others.sources.get(&arguments.cluster) {
        return block_on(from_source(context, source, arguments));
    }
    let target = target(arguments)?;
    if let Some(others) = config.others.dumps.get(&arguments.cluster) {
        return block_on(from_others(context, others, arguments, target));
    }
    let cluster = config.cluster(Some(&arguments.cluster))?;
    let mut options = options(cluster, arguments, target)?;
    block_on(async {
        let only = arguments.repository.as_deref();
        let repository = open_set(&config, cluster, only, Purpose::Read, context.printer).await?;
        options.lineage = repository::lineage::of_cluster(&repository, &cluster.name).await?.id;
        let cancel = options.cancel.clone();
        tokio::spawn(async move {
            if stop_signal().await.is_ok() {
                cancel.cancel();
            }
        });
        let progress = Progress::new("restore", context.printer);
        let clock = SystemClock::new();
        let begun = std::time::Instant::now();
        let report = backup::dump::restore(&repository, &options, &progress, &clock).await;
        progress.finish();
        print(context, arguments, &report?, begun.elapsed().as_secs_f64());
        Ok(0)
    })
}

fn target(arguments: &Arguments) -> anyhow::Result<ConnectOptions> {
    let Some(text) = &arguments.target else {
        return Err(Error::Usage("--directory is for a [source]; name a --target".into()).into());
    };
    let target = ConnectOptions::parse(text).context("read --target")?;
    Ok(target.with_application_name("rollforward"))
}

fn twice(map: &[RoleMap]) -> Option<&str> {
    let is_again = |at: usize, old: &str| map.iter().take(at).any(|pair| pair.old == old);
    let mut pairs = map.iter().enumerate();
    pairs.find(|(at, pair)| is_again(*at, &pair.old)).map(|(_, pair)| pair.old.as_str())
}

fn options(
    cluster: &ClusterConfig,
    arguments: &Arguments,
    target: ConnectOptions,
) -> anyhow::Result<RestoreOptions> {
    if let Some(name) = arguments.without_data_of.iter().find(|name| !name.contains('.')) {
        let what = format!("--exclude-table-data: expected SCHEMA.TABLE, seen '{name}'");
        return Err(Error::Usage(what).into());
    }
    if let Some(twice) = twice(&arguments.role_map) {
        return Err(Error::Usage(format!("--role-map: '{twice}' is replaced twice")).into());
    }
    let label: Label = arguments.label.parse().map_err(|error| Error::Usage(format!("{error}")))?;
    let folders = arguments.bin_directory.iter().chain(&cluster.bin_directory);
    Ok(RestoreOptions {
        cluster: cluster.name.clone(),
        lineage: LineageId(stdx::Id::from_bytes([0; 16])),
        label,
        target,
        database: arguments.database.clone(),
        source: arguments.source_database.clone(),
        create: arguments.create,
        globals: arguments.globals,
        into_existing: arguments.into_existing,
        jobs: super::jobs(arguments.jobs.map(usize::from)),
        no_owner: arguments.no_owner,
        no_privileges: arguments.no_privileges,
        no_tablespaces: arguments.no_tablespaces,
        schemas: arguments.schemas.clone(),
        tables: arguments.tables.clone(),
        without_data_of: arguments.without_data_of.clone(),
        without: arguments.without.clone(),
        role_map: arguments.role_map.clone(),
        comment: arguments.comment.clone(),
        analyze: arguments.analyze,
        folders: folders.cloned().collect(),
        cancel: backup::Cancel::default(),
    })
}

/// A dump that others made: read to its end first, then restored.
async fn from_others(
    context: &Context<'_>,
    others: &DumpsConfig,
    arguments: &Arguments,
    target: ConnectOptions,
) -> anyhow::Result<u8> {
    let Some(database) = arguments.database.clone() else {
        let what = "a dump of others does not say where it goes: --database NAME".to_owned();
        return Err(Error::Usage(what).into());
    };
    let choices =
        [&arguments.schemas, &arguments.tables, &arguments.without_data_of, &arguments.without];
    let is_plain = choices.iter().all(|list| list.is_empty()) && arguments.role_map.is_empty();
    let is_marked = arguments.analyze || arguments.comment.is_some();
    if arguments.globals || arguments.source_database.is_some() || is_marked || !is_plain {
        let what = "--globals, --source-database, --role-map, --analyze, --comment and choices of \
            tables are for dumps of ours";
        return Err(Error::Usage(what.into()).into());
    }
    let source = super::plain(others, arguments.bin_directory.as_ref())?;
    let dump = source.find(&arguments.label).await?;
    if !arguments.unverified {
        let progress = Arc::new(Progress::new("verify", context.printer));
        let verified = plain::verify(&source, &dump, progress.clone()).await;
        progress.finish();
        verified?;
    }
    let options = PlainRestore {
        target,
        database: database.clone(),
        create: arguments.create,
        into_existing: arguments.into_existing,
        no_owner: arguments.no_owner,
        no_privileges: arguments.no_privileges,
    };
    let progress = Arc::new(Progress::new("restore", context.printer));
    let begun = std::time::Instant::now();
    let clock = SystemClock::new();
    let restored = plain::restore(&source, &dump, &options, progress.clone(), &clock).await;
    progress.finish();
    let restored = restored?;
    let report = RestoreReport {
        database,
        source: arguments.label.clone(),
        bytes: restored.bytes,
        roles: Vec::new(),
        notes: restored.notes,
    };
    print(context, arguments, &report, begun.elapsed().as_secs_f64());
    Ok(0)
}

/// What a tool of others keeps, into a directory.
async fn from_source(
    context: &Context<'_>,
    source: &SourceConfig,
    arguments: &Arguments,
) -> anyhow::Result<u8> {
    let Some(directory) = &arguments.directory else {
        let what = format!("[source.{}] restores into a directory: --directory DIR", source.name);
        return Err(Error::Usage(what).into());
    };
    let directory = std::path::absolute(directory).context("read --directory")?;
    super::source::restore(source, &arguments.label, &directory).await?;
    let outcome = serde_json::json!({
        "source": source.name, "id": arguments.label, "directory": directory,
    });
    let text = format!(
        "'{}' of source '{}' is restored into '{}'",
        arguments.label,
        source.name,
        directory.display()
    );
    context.printer.result(&outcome, &text);
    context.printer.next("look at it; start its server in quarantine, on a port of its own");
    Ok(0)
}

fn print(context: &Context<'_>, arguments: &Arguments, report: &RestoreReport, seconds: f64) {
    let outcome = Outcome {
        cluster: arguments.cluster.clone(),
        label: arguments.label.clone(),
        source_database: report.source.clone(),
        database: report.database.clone(),
        bytes: report.bytes,
        seconds,
        roles_made: report.roles.clone(),
        notes: report.notes.clone(),
    };
    let mut text = format!(
        "database '{}' of dump {} is restored into '{}': {}, {seconds:.1} s",
        report.source,
        arguments.label,
        report.database,
        ByteCount::new(report.bytes)
    );
    if !report.roles.is_empty() {
        text.push_str(&format!("\nroles made: {}", report.roles.join(", ")));
    }
    for note in &report.notes {
        text.push_str(&format!("\nnote: {note}"));
    }
    context.printer.result(&outcome, &text);
    if arguments.analyze {
        context.printer.next(&format!("look into database {}", identifier(&report.database)));
        return;
    }
    context.printer.next(&format!(
        "ANALYZE in database {}: it has no statistics yet, and queries are slow without",
        identifier(&report.database)
    ));
}
