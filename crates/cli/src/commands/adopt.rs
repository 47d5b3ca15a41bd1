//! `rollforward adopt CLUSTER --at DIR`: a restored cluster becomes the production of its lineage.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use pg::{MajorVersion, TimelineId};
use pgclient::local::{LocalServer, Postmaster, Programs, Status, StopMode};
use pgclient::{Client, ConnectOptions};
use repository::Repository;
use repository::lineage::{self, Lineage, State};
use serde::Serialize;
use stdx::{Clock, SystemClock};

use super::Context;
use super::wal::ticket::{TICKET_FILE, Ticket};
use crate::config::{ClusterConfig, Config};
use crate::failure::Error;
use crate::wiring::{self, Purpose, block_on, open_set};

/// How long archiving may stand still before adopting is called incomplete.
const ARCHIVING_QUIET_MAX: Duration = Duration::from_secs(60);

/// How long a server may take to say what it listens on.
const ASK_DEADLINE: Duration = Duration::from_secs(10);

/// How long a server may make no progress while it is restarted.
const RESTART_QUIET_MAX: Duration = Duration::from_secs(300);

/// Arguments of `adopt`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cluster; may be left out when there is only one
    cluster: Option<String>,
    /// The data directory that `restore` made; its server runs and is promoted
    #[arg(long, value_name = "DIR")]
    at: PathBuf,
    /// Keep the port and socket it has in quarantine
    #[arg(long)]
    keep_port: bool,
    /// Restart it at once, so that everything of the quarantine is lifted
    #[arg(long)]
    restart: bool,
    /// Where PostgreSQL's programs are, for --restart [default: found by the version]
    #[arg(long, value_name = "DIR")]
    bin_directory: Option<PathBuf>,
    /// The old server's host is gone for good and cannot come back: its fence is not checked
    #[arg(long)]
    old_is_gone: bool,
}

/// One thing that was different in quarantine.
#[derive(Debug, Serialize)]
struct Lifted {
    what: &'static str,
    when: &'static str,
}

#[derive(Debug, Serialize)]
struct Report {
    cluster: String,
    directory: PathBuf,
    timeline: u32,
    lineage_state: u32,
    writer: String,
    connection: String,
    lifted: Vec<Lifted>,
    archived: Option<String>,
    restarted: bool,
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let cluster = config.cluster(arguments.cluster.as_deref())?;
    let directory = std::fs::canonicalize(&arguments.at)
        .with_context(|| format!("look at directory '{}'", arguments.at.display()))?;
    block_on(async {
        let report = adopt(context, arguments, &config, cluster, &directory).await?;
        let text = format!(
            "'{}' is the production of cluster '{}' now: timeline {}, {}",
            report.directory.display(),
            report.cluster,
            report.timeline,
            match &report.archived {
                Some(segment) => format!("archiving works (last: {segment})"),
                None => "archiving has not been seen to work yet".into(),
            }
        );
        context.printer.result(&report, &text);
        for item in &report.lifted {
            context.printer.note(&format!("lifted {}: {}", item.when, item.what));
        }
        context.printer.next(&format!("rollforward backup {}", report.cluster));
        Ok(0)
    })
}

async fn adopt(
    context: &Context<'_>,
    arguments: &Arguments,
    config: &Config,
    cluster: &ClusterConfig,
    directory: &Path,
) -> anyhow::Result<Report> {
    let repository = open_set(config, cluster, None, Purpose::Write, context.printer).await?;
    let lineage = lineage::of_cluster(&repository, &cluster.name).await?;
    let ticket = read_ticket(cluster, &lineage, directory)?;
    let (postmaster, client) = restored_server(cluster, directory).await?;
    let info = client.server().await?;
    if info.in_recovery {
        return Err(refused(
            format!("the server of '{}' is still in recovery", directory.display()),
            "promote it first: `select pg_promote()`, or restore with --action promote",
        ));
    }
    check_timeline(&ticket, info.timeline)?;
    check_reservation(&repository, &lineage, &ticket, info.timeline).await?;
    // What could fail later without need is looked for before anything changes.
    let programs = match arguments.restart {
        true => Some(programs(arguments, cluster, info.major).await?),
        false => None,
    };
    if !arguments.old_is_gone {
        check_fenced(cluster, &lineage, directory).await?;
    }
    let now = SystemClock::new().now();
    let connection = connection_text(cluster, arguments, &postmaster)?;
    let state =
        take_over(config, cluster, &repository, &lineage, directory, info.timeline, now).await?;
    let adopted = rewrite_config(config, cluster, directory, &connection)?;
    super::init::cluster::keep_config(&repository, &adopted).await?;
    let addresses = listens_on(&client).await?;
    let seen = (info.major, addresses.as_str());
    let mut lifted = lift(arguments, config, cluster, directory, &postmaster, seen)?;
    client.reload().await?;
    let restarted = programs.is_some();
    if let Some(programs) = programs {
        restart(programs, directory).await?;
        lifted.iter_mut().for_each(|item| item.when = "now");
    }
    let client = reconnect(cluster, directory, restarted, client).await?;
    let archived = wait_for_archiving(&client).await?;
    forget_restore(directory)?;
    Ok(Report {
        cluster: cluster.name.clone(),
        directory: directory.into(),
        timeline: info.timeline.get(),
        lineage_state: state.number,
        writer: state.writer.to_string(),
        connection,
        lifted,
        archived,
        restarted,
    })
}

/// The ticket of the restore, which must be one of this cluster's lineage.
fn read_ticket(
    cluster: &ClusterConfig,
    lineage: &Lineage,
    directory: &Path,
) -> anyhow::Result<Ticket> {
    let ticket =
        Ticket::read(&directory.join(TICKET_FILE)).map_err(|_| restore::Error::NotQuarantined {
            path: directory.into(),
            reason: format!("expected '{TICKET_FILE}' in it"),
        })?;
    if ticket.lineage != lineage.id.to_string() {
        return Err(refused(
            format!(
                "'{}' was restored from lineage {}, cluster '{}' is {}",
                directory.display(),
                ticket.lineage,
                cluster.name,
                lineage.id
            ),
            "name the cluster it was restored from",
        ));
    }
    Ok(ticket)
}

fn refused(what: String, hint: &str) -> anyhow::Error {
    Error::Refused { what, hint: hint.into() }.into()
}

/// The running server of the restored directory, and a session of it.
async fn restored_server(
    cluster: &ClusterConfig,
    directory: &Path,
) -> anyhow::Result<(Postmaster, Client)> {
    let Status::Running(postmaster) = pgclient::local::status(directory)? else {
        return Err(refused(
            format!("no server runs in '{}'", directory.display()),
            "start it, let it reach its target and promote; then adopt it",
        ));
    };
    let user = ConnectOptions::parse(&cluster.connection)?.user().to_owned();
    let options = postmaster
        .connect_options(&user)
        .with_context(|| format!("the server of '{}' says no address", directory.display()))?;
    let client = Client::connect(&options).await?;
    Ok((postmaster, client))
}

/// The timeline must be the one that was taken for this restore: another one may be taken by a
/// second restore of the same cluster, and their WAL would collide.
fn check_timeline(ticket: &Ticket, timeline: TimelineId) -> anyhow::Result<()> {
    match ticket.reserved {
        Some(reserved) if reserved == timeline.get() => Ok(()),
        Some(reserved) => Err(refused(
            format!(
                "the restored cluster is on timeline {timeline}, expected {reserved}, which was reserved for it"
            ),
            "restore again: the timeline was chosen without `rollforward wal get`",
        )),
        None => Err(refused(
            "the cluster was restored to look at: no timeline was reserved for it".into(),
            "restore without --copy, and with --action promote",
        )),
    }
}

/// The reservation must be this restore's in every repository: with a member left out, a second
/// restore may have taken the same id in the other one.
async fn check_reservation(
    repository: &Repository,
    lineage: &Lineage,
    ticket: &Ticket,
    timeline: TimelineId,
) -> anyhow::Result<()> {
    for member in repository.members() {
        let Some(alone) = repository.only(&member.name) else { continue };
        let taken = lineage::reservation(&alone, lineage.id, timeline).await?;
        if let Some(other) = taken.filter(|taken| taken.owner.to_string() != ticket.restore) {
            return Err(refused(
                format!(
                    "timeline {timeline} is reserved for another restore, '{}', in repository '{}'",
                    other.place, member.name
                ),
                "restore again with every repository reachable, and adopt that one",
            ));
        }
    }
    Ok(())
}

/// The old primary must not take sessions any more: two primaries would write one history.
async fn check_fenced(
    cluster: &ClusterConfig,
    lineage: &Lineage,
    directory: &Path,
) -> anyhow::Result<()> {
    let old = &cluster.data_directory;
    let same = std::fs::canonicalize(old).is_ok_and(|old| old == directory);
    if !same
        && old.exists()
        && let Status::Running(server) = pgclient::local::status(old)?
    {
        return Err(refused(
            format!("the old primary still runs in '{}' (process {})", old.display(), server.pid),
            "stop it and keep it from starting again; then repeat",
        ));
    }
    let here = wiring::host_name();
    let local = ConnectOptions::parse(&cluster.connection)
        .is_ok_and(|options| is_local(options.host_and_port().0));
    if let Some(host) = cluster.host.as_ref().filter(|host| **host != here && local) {
        return Err(refused(
            format!(
                "the old primary ran on host '{host}': from '{here}' it cannot be seen whether it still does"
            ),
            "make sure that it is stopped and stays so, then repeat with --old-is-gone",
        ));
    }
    let client = match wiring::connect(cluster).await {
        Ok(client) => client,
        // Nobody listens, or nobody is let in: the fence holds.
        Err(error) if is_fenced(&error) => return Ok(()),
        Err(error) => {
            return Err(refused(
                format!("it is not known whether the old primary still takes sessions: {error:#}"),
                "stop it and repeat; if its host is gone for good, repeat with --old-is-gone",
            ));
        }
    };
    let info = client.server().await?;
    let itself = std::fs::canonicalize(&info.data_directory).is_ok_and(|seen| seen == directory);
    if info.system_id == lineage.system_id && !info.in_recovery && !itself {
        return Err(refused(
            format!("the old primary still takes sessions at '{}'", client.address()),
            "fence it: stop it, or let it refuse every session; then repeat",
        ));
    }
    Ok(())
}

/// A folder of a socket, or the loopback address.
fn is_local(host: &str) -> bool {
    host.starts_with('/') || matches!(host, "" | "localhost" | "127.0.0.1" | "::1")
}

/// Whether the error proves that the server takes no sessions: there is none, or it refuses logins.
fn is_fenced(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<pgclient::Error>()).any(|error| {
        matches!(error, pgclient::Error::Connect { .. } | pgclient::Error::Refused { .. })
    })
}

/// What the restored server listens on.
async fn listens_on(client: &Client) -> anyhow::Result<String> {
    let rows = client.query_text("SHOW listen_addresses", ASK_DEADLINE).await?;
    Ok(rows.into_iter().flatten().flatten().next().unwrap_or_else(|| "127.0.0.1".into()))
}

/// Registers this directory as the lineage's writer and puts it in force. From here on WAL and
/// backups of the replaced cluster are refused.
async fn take_over(
    config: &Config,
    cluster: &ClusterConfig,
    repository: &Repository,
    lineage: &Lineage,
    directory: &Path,
    timeline: TimelineId,
    now: Timestamp,
) -> anyhow::Result<State> {
    let current = lineage::state(repository, lineage.id).await?;
    let writer =
        super::init::cluster::enroll(config, cluster, repository, lineage.id, directory, now)
            .await?;
    let state = State {
        number: current.map_or(1, |state| state.number + 1),
        timeline,
        writer,
        reason: "adopted".into(),
        since: now,
    };
    lineage::advance(repository, lineage.id, &state).await?;
    Ok(state)
}

/// How to connect from now on: the old setting when the port goes back to production's, else the
/// place the server says.
fn connection_text(
    cluster: &ClusterConfig,
    arguments: &Arguments,
    postmaster: &Postmaster,
) -> anyhow::Result<String> {
    if !arguments.keep_port {
        return Ok(cluster.connection.clone());
    }
    let options = ConnectOptions::parse(&cluster.connection)?;
    let folder = postmaster.socket_dir.as_ref().context("the server has no socket")?;
    let port = postmaster.port.context("the server has no port")?;
    Ok(format!(
        "host={} port={port} user={} dbname={}",
        folder.display(),
        options.user(),
        options.database()
    ))
}

/// The configuration with the cluster's new place; everything else stays as it was written.
fn rewrite_config(
    config: &Config,
    cluster: &ClusterConfig,
    directory: &Path,
    connection: &str,
) -> anyhow::Result<Config> {
    let mut document: toml_edit::DocumentMut =
        config.text.parse().context("read the configuration")?;
    let table = &mut document["cluster"][cluster.name.as_str()];
    table["data_directory"] = toml_edit::value(directory.display().to_string());
    table["connection"] = toml_edit::value(connection);
    table["host"] = toml_edit::value(wiring::host_name());
    let adopted = Config::parse(&config.path, document.to_string())?;
    stdx::durable::write_atomic(&config.path, adopted.text.as_bytes(), 0o640)
        .with_context(|| format!("write configuration '{}'", config.path.display()))?;
    wiring::hand_to_owner_of(directory, &config.path)?;
    Ok(adopted)
}

/// Lifts the quarantine item by item. What needs a restart takes effect with the next one.
fn lift(
    arguments: &Arguments,
    config: &Config,
    cluster: &ClusterConfig,
    directory: &Path,
    postmaster: &Postmaster,
    (major, addresses): (MajorVersion, &str),
) -> anyhow::Result<Vec<Lifted>> {
    let mut kept = vec![
        ("archive_mode", "on".to_owned()),
        ("archive_command", wiring::archive_command(config, &cluster.name, false)?),
        // Its standbys followed the old timeline: commits would wait for them for ever.
        ("synchronous_standby_names", String::new()),
    ];
    if arguments.keep_port {
        let folder = postmaster.socket_dir.as_deref().unwrap_or(directory);
        kept.push(("port", postmaster.port.unwrap_or_default().to_string()));
        kept.push(("unix_socket_directories", folder.display().to_string()));
        if postmaster.listen_address.is_some() {
            // Its applications reach it where they were told to.
            kept.push(("listen_addresses", addresses.to_owned()));
        }
        // The socket's folder may be the data directory: who may enter is then the quarantine's
        // rule.
        kept.push((
            "hba_file",
            directory.join(restore::quarantine::HBA_FILE).display().to_string(),
        ));
    }
    restore::quarantine::lift(directory, &kept, major)?;
    let now = |what| Lifted { what, when: "now" };
    let restart = |what| Lifted { what, when: "at the next restart" };
    let mut lifted = vec![
        now("WAL is archived instead of held"),
        now("upstream is the configuration's"),
        Lifted {
            what: "synchronous_standby_names stays empty: set it with ALTER SYSTEM",
            when: "when its standbys follow the new timeline",
        },
        restart("logical replication workers, preload libraries and TLS are the configuration's"),
    ];
    if !arguments.keep_port {
        lifted.push(restart("port, addresses and client authentication are the configuration's"));
    }
    Ok(lifted)
}

/// The programs that the adopted cluster is restarted with.
async fn programs(
    arguments: &Arguments,
    cluster: &ClusterConfig,
    major: MajorVersion,
) -> anyhow::Result<Programs> {
    match arguments.bin_directory.as_ref().or(cluster.bin_directory.as_ref()) {
        Some(bin) => Ok(Programs::at(bin).await?),
        None => Ok(Programs::find(major, &[]).await?),
    }
}

async fn restart(programs: Programs, directory: &Path) -> anyhow::Result<()> {
    let server = LocalServer::new(programs, directory, &directory.with_extension("log"))?;
    server.stop(StopMode::Fast, RESTART_QUIET_MAX).await?;
    server.start(&[], RESTART_QUIET_MAX).await?;
    Ok(())
}

async fn reconnect(
    cluster: &ClusterConfig,
    directory: &Path,
    restarted: bool,
    client: Client,
) -> anyhow::Result<Client> {
    if restarted { Ok(restored_server(cluster, directory).await?.1) } else { Ok(client) }
}

/// Switches the segment and waits until the archiver has stored one: only then is it protected.
async fn wait_for_archiving(client: &Client) -> anyhow::Result<Option<String>> {
    let before = client.archiver_status().await?;
    client.switch_wal().await?;
    let clock = SystemClock::new();
    let mut seen = before.clone();
    let mut moved = clock.monotonic();
    loop {
        let status = client.archiver_status().await?;
        if status.archived_count > before.archived_count {
            return Ok(status.last_archived);
        }
        if status != seen {
            seen = status;
            moved = clock.monotonic();
        }
        if clock.monotonic().saturating_sub(moved) > ARCHIVING_QUIET_MAX {
            return Ok(None);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The restore is over: what only its recovery needed goes.
fn forget_restore(directory: &Path) -> anyhow::Result<()> {
    let ticket = directory.join(TICKET_FILE);
    stdx::durable::remove(&ticket).with_context(|| format!("remove '{}'", ticket.display()))?;
    if let Some(spool) =
        archive::prefetch::Spool::beside(&directory.join("pg_wal").join("RECOVERYXLOG"))
    {
        spool.remove()?;
    }
    Ok(())
}
