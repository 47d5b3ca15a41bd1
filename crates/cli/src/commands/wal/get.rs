//! `rollforward wal get NAME PATH`, PostgreSQL's `restore_command`.
//!
//! Its exit code is PostgreSQL's contract, not ours: 0 the file is there; 1 it does not exist and
//! recovery may end; anything else leaves by SIGABRT, a wrong argument and a panic included, so
//! that PostgreSQL stops instead of promoting a truncated cluster. See docs/decisions.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use archive::get::{GetRequest, from_own_folder, get};
use archive::prefetch::{self, Expectations, Spool};
use archive::route::Route;
use archive::verdict::{Exit, Verdict, exit_of};
use clap::Parser;
use repository::lineage::{self, Lineage};
use repository::timeline;

use super::super::Context;
use super::ticket::{Facts, Ticket};
use crate::args::Global;
use crate::config::Config;
use crate::failure::Error;
use crate::output::Printer;
use crate::wiring::{Purpose, block_on, open_set};

/// How often a standby's command asks before it says "not yet", and how long it waits between.
/// PostgreSQL itself asks again after five seconds (`wal_retrieve_retry_interval`).
const STANDBY_ATTEMPTS_MAX: u32 = 3;
const STANDBY_DELAY: Duration = Duration::from_millis(500);

/// Arguments of `wal get`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Exit: 0 delivered; 1 proved absent and recovery may end; otherwise the \
    process ends by SIGABRT, so that PostgreSQL stops and promotes nothing.")]
pub(crate) struct Arguments {
    /// The file's name: `%f`
    name: String,
    /// Where to put it: `%p`
    path: PathBuf,
    /// The ticket that `rollforward restore` wrote; fixes lineage, timelines and end
    #[arg(long, value_name = "FILE", conflicts_with = "cluster")]
    ticket: Option<PathBuf>,
    /// Without a ticket: the cluster, along its current timeline
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
}

/// Runs `wal get` when the arguments ask for it, and says how the process ends.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if !asks_for_get(&arguments) {
        return None;
    }
    std::panic::set_hook(Box::new(|panic| {
        eprintln_line(&format!("rollforward wal get: {panic}"));
        std::process::abort();
    }));
    let (global, get) = match parse(&arguments) {
        Ok(parsed) => parsed,
        Err(code) => return Some(code),
    };
    crate::output::start_log(&global);
    let printer = Printer::new(&global);
    let context = Context { global, printer: &printer };
    match run(&context, &get) {
        Ok(code) => Some(ExitCode::from(code)),
        Err(error) => {
            let _ = crate::failure::report(&error, &printer);
            std::process::abort();
        }
    }
}

/// The command line as far as `wal get` goes. PostgreSQL runs this for every segment, and clap
/// builds every command it knows before it reads a word.
#[derive(Debug, Parser)]
#[command(name = "rollforward")]
struct Line {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    wal: Wal,
}

#[derive(Debug, clap::Subcommand)]
enum Wal {
    Wal {
        #[command(subcommand)]
        get: Get,
    },
}

/// Timeline 1 has no parent and no history, whatever an archive says. PostgreSQL asks for it when
/// it promotes, after it has removed `recovery.signal`: a repository that cannot be reached then
/// would end the server where its next start knows no target any more.
const FIRST_HISTORY: &str = "00000001.history";

#[derive(Debug, clap::Subcommand)]
enum Get {
    Get(Arguments),
}

/// The options and arguments; the exit code when help was asked for and given. Does not return
/// from a wrong one.
fn parse(words: &[OsString]) -> Result<(Global, Arguments), ExitCode> {
    if let Ok(Line { global, wal: Wal::Wal { get: Get::Get(get) } }) = Line::try_parse_from(words) {
        return Ok((global, get));
    }
    // What is wrong, or help, in the words of the whole command line.
    match crate::args::Arguments::try_parse_from(words) {
        Err(error) => {
            let _ = error.print();
            // Only somebody who asked for help gets it with success.
            if error.use_stderr() { std::process::abort() } else { Err(ExitCode::SUCCESS) }
        }
        Ok(_) => std::process::abort(),
    }
}

/// Whether the words, options aside, begin with `wal get`.
fn asks_for_get(arguments: &[OsString]) -> bool {
    let mut words = Vec::new();
    let mut rest = arguments.iter().skip(1);
    while let (Some(word), true) = (rest.next(), words.len() < 2) {
        if word == "--config" {
            rest.next();
        } else if !word.to_string_lossy().starts_with('-') {
            words.push(word.to_string_lossy().into_owned());
        }
    }
    words == ["wal", "get"]
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let destination = std::path::absolute(&arguments.path)?;
    if arguments.name == FIRST_HISTORY {
        return finish(Verdict::Absent);
    }
    let Some(ticket_path) = &arguments.ticket else {
        return without_ticket(context, arguments, &destination);
    };
    let ticket_path = std::path::absolute(ticket_path)?;
    let ticket = Ticket::read(&ticket_path)?;
    let facts = ticket.facts()?;
    if let Some(data) = ticket_path.parent() {
        let folder = data.join("pg_wal");
        if from_own_folder(&arguments.name, &folder, &facts.route, &destination)? {
            return Ok(0);
        }
    }
    let expected = Expectations {
        restore: &ticket.restore,
        system_id: facts.system_id,
        segment_size: facts.route.segment_size(),
    };
    if prefetch::take(&arguments.name, &destination, &expected).is_some() {
        keep_filling(&ticket_path, &facts, &arguments.name, &destination, false);
        return Ok(0);
    }
    let standby = is_standby(&destination);
    let verdict = block_on(async {
        let fetch = async || {
            let config = Config::load(Some(&ticket.config))?;
            let cluster = config.cluster(Some(&ticket.cluster))?;
            let only = ticket.repository.as_deref();
            let repository =
                open_set(&config, cluster, only, Purpose::Restore, context.printer).await?;
            let id = ticket.lineage.parse().context("the lineage of the restore ticket")?;
            let lineage = lineage::read(&repository, id).await?;
            let request = request(arguments, &destination, &lineage, &ticket, &facts, standby);
            let verdict = get(&repository, &request).await;
            proved(verdict, &repository, only.map_or(cluster.repositories.len(), |_| 1))
        };
        patiently(standby, fetch).await
    })?;
    if matches!(verdict, Verdict::Delivered) {
        keep_filling(&ticket_path, &facts, &arguments.name, &destination, true);
    }
    finish(verdict)
}

fn request<'a>(
    arguments: &'a Arguments,
    destination: &'a Path,
    lineage: &'a Lineage,
    ticket: &Ticket,
    facts: &'a Facts,
    standby: bool,
) -> GetRequest<'a> {
    GetRequest {
        name: &arguments.name,
        destination,
        lineage,
        route: &facts.route,
        end: facts.end,
        reserved: facts.reserved,
        standby,
        allow_partial: ticket.allow_partial,
    }
}

/// For a standby, or by hand: along the cluster's current timeline, as far as the archive goes
/// without a hole. PostgreSQL's own search for it would stop at an id that a restore gave up, or
/// follow a branch that was abandoned.
fn without_ticket(
    context: &Context<'_>,
    arguments: &Arguments,
    destination: &Path,
) -> anyhow::Result<u8> {
    let config = context.config()?;
    let cluster = config.cluster(arguments.cluster.as_deref())?;
    let standby = is_standby(destination);
    let verdict = block_on(async {
        let fetch = async || {
            let repository =
                open_set(&config, cluster, None, Purpose::Restore, context.printer).await?;
            let lineage = lineage::of_cluster(&repository, &cluster.name).await?;
            let size = segment_size(&repository, &lineage).await?;
            let current = timeline::latest(&repository, lineage.id).await?;
            let path = timeline::path_to(&repository, lineage.id, current).await?;
            let request = GetRequest {
                name: &arguments.name,
                destination,
                lineage: &lineage,
                route: &Route::along(&path, size).searched(),
                end: None,
                reserved: None,
                standby,
                allow_partial: false,
            };
            let verdict = get(&repository, &request).await;
            proved(verdict, &repository, cluster.repositories.len())
        };
        patiently(standby, fetch).await
    })?;
    finish(verdict)
}

/// A file may come from any repository that has it; that it is absent must be proved in every one.
fn proved(
    verdict: Verdict,
    repository: &repository::Repository,
    members: usize,
) -> anyhow::Result<Verdict> {
    if matches!(verdict, Verdict::Absent) && repository.members().len() < members {
        return Err(Error::Failed {
            what: format!(
                "absence is not proved: {} of {members} repositories answered",
                repository.members().len()
            ),
            hint: "bring the silent repository back, or restore with --repository NAME".into(),
        }
        .into());
    }
    Ok(verdict)
}

/// A standby outlives an outage: it is told "not yet" after a few tries and asks again by itself.
/// In a recovery that ends, every failure must stop it.
async fn patiently(
    standby: bool,
    fetch: impl AsyncFn() -> anyhow::Result<Verdict>,
) -> anyhow::Result<Verdict> {
    let mut attempt = 1;
    loop {
        match fetch().await {
            Err(error) if standby && attempt >= STANDBY_ATTEMPTS_MAX => {
                tracing::error!("the standby has to wait: {error:#}");
                return Ok(Verdict::Absent);
            }
            Err(_) if standby => attempt += 1,
            other => return other,
        }
        tokio::time::sleep(STANDBY_DELAY).await;
    }
}

/// The cluster's segment size, from its newest backup.
async fn segment_size(
    repository: &repository::Repository,
    lineage: &Lineage,
) -> anyhow::Result<pg::SegmentSize> {
    let catalog = repository::catalog::backups(repository, lineage.id).await?;
    let size = catalog.backups.last().map(|summary| summary.segment_size);
    match size.and_then(|bytes| u32::try_from(bytes).ok()) {
        Some(bytes) => Ok(pg::SegmentSize::new(bytes)?),
        None => Ok(pg::SegmentSize::DEFAULT),
    }
}

fn finish(verdict: Verdict) -> anyhow::Result<u8> {
    match exit_of(&verdict) {
        Exit::Zero => Ok(0),
        Exit::One => Ok(1),
        Exit::Abort => match verdict {
            Verdict::Failed(error) => Err(error.into()),
            Verdict::Delivered | Verdict::Absent => std::process::abort(),
        },
    }
}

/// `standby.signal` lies in the data directory, two levels above `pg_wal/RECOVERYXLOG`.
fn is_standby(destination: &Path) -> bool {
    let data = destination.parent().and_then(Path::parent);
    data.is_some_and(|data| data.join(pg::recovery::STANDBY_SIGNAL_FILE).exists())
}

/// Starts the filler when none runs; tells a running one where the reader is when it had to fetch
/// by itself. Best effort: without a filler recovery is only slower.
fn keep_filling(ticket: &Path, facts: &Facts, name: &str, destination: &Path, missed: bool) {
    let Ok(segment) = pg::WalSegment::parse(name, facts.route.segment_size()) else { return };
    let Some(spool) = Spool::beside(destination) else { return };
    if spool.is_filling() {
        let next = facts.route.file(segment.number + 1);
        if let (true, Some(next)) = (missed, next) {
            let _ = spool.redirect(&next.name(facts.route.segment_size()));
        }
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let started = Command::new(program)
        .args(["wal", "prefetch", "--ticket"])
        .arg(ticket)
        .arg(format!("--next={}", segment.number + 1))
        .arg(spool.folder())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    drop(started);
}

#[allow(clippy::print_stderr)] // the panic hook has no printer
fn eprintln_line(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::asks_for_get;

    #[test]
    fn sees_the_command_wherever_options_stand() {
        let check = |line: &str, expect: bool| {
            let words: Vec<_> = line.split(' ').map(Into::into).collect();
            assert_eq!(asks_for_get(&words), expect, "{line}");
        };
        check("rollforward wal get a b", true);
        check("rollforward --config wal wal get a b", true);
        check("rollforward wal --json get a b", true);
        check("rollforward wal get", true);
        check("rollforward wal push get", false);
        check("rollforward explain wal get", false);
        check("rollforward", false);
    }
}
