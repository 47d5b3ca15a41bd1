//! Restoring a dump of others into a new or an empty database.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use pgclient::{Client, ConnectOptions, identifier};
use stdx::Clock;

use super::open::{Opened, open};
use super::{Format, PlainDump, PlainSource};
use crate::Progress;
use crate::dump::child::{self, Program};
use crate::dump::error::DumpError;
use crate::dump::messages;
use crate::dump::target::{self, Target};
use crate::dump::tools;

/// Making a database copies a template.
const DEADLINE: Duration = Duration::from_secs(300);

/// What `pg_dump` sets since 17, for its own session.
const TIMEOUT: &str = "SET transaction_timeout = 0;";

/// Errors that a failure shows.
const ERRORS_SHOWN_MAX: usize = 5;

/// Where and how to restore.
#[derive(Clone, Debug)]
pub struct PlainRestore {
    /// The target server; its database is where a new one is made from.
    pub target: ConnectOptions,
    /// The database to restore into.
    pub database: String,
    /// Make it; it must not be there.
    pub create: bool,
    /// It may hold something.
    pub into_existing: bool,
    /// Everything belongs to whoever restores; not for SQL.
    pub no_owner: bool,
    /// Without rights; not for SQL.
    pub no_privileges: bool,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainRestored {
    /// What it was.
    pub format: Format,
    /// Its bytes, opened and unpacked.
    pub bytes: u64,
    /// Everything that was said and harms nothing.
    pub notes: Vec<String>,
}

/// Restores a dump that was verified before: SQL that is cut off would leave a part behind, and
/// only its end shows it.
///
/// # Errors
/// See [`DumpError`]; the database is marked then, unless nothing was done to it.
pub async fn restore(
    source: &PlainSource,
    dump: &PlainDump,
    options: &PlainRestore,
    progress: Arc<dyn Progress>,
    clock: &dyn Clock,
) -> Result<PlainRestored, DumpError> {
    let target = Target::connect(&options.target).await?;
    let mut opened = open(source, dump, progress).await?;
    let label = format!("{}:{}", source.name, dump.key);
    let name = options.database.as_str();
    let program = program(source, &opened, options, target.major).await?;
    let connection = options.target.with_database(name);
    let is_there = target.has_database(name).await?;
    let refuse = |why: &str, hint: &str| DumpError::Database {
        database: name.to_owned(),
        why: why.to_owned(),
        hint: hint.to_owned(),
    };
    if is_there {
        let client = Client::connect(&connection).await?;
        let may_hold = options.into_existing || options.create;
        target::check_empty(&client, name, may_hold).await?;
        if options.create {
            return Err(refuse("is there already", "restore under another name: --database NAME"));
        }
    } else if options.create {
        let sql = format!("CREATE DATABASE {} TEMPLATE template0", identifier(name));
        target.client.query_text(&sql, DEADLINE).await?;
    } else {
        return Err(refuse("is not there", "make it: --create"));
    }
    let client = Client::connect(&connection).await?;
    let before = client.database_comment().await?;
    target::mark(&client, name, &label, clock.now(), None).await?;
    let mut notes = Vec::new();
    if opened.format == Format::Sql && target.major < 17 && opened.without(TIMEOUT).await {
        let major = target.major;
        notes.push(format!("'{TIMEOUT}' is left out: PostgreSQL {major} does not know it"));
    }
    let mut restored = run(&mut opened, &program, &label, name).await?;
    notes.append(&mut restored.notes);
    restored.notes = notes;
    // Whatever the dump did, it did it somewhere else.
    if target::contents(&client).await?.is_empty() {
        return Err(opened.failed(&format!("left database '{name}' empty")));
    }
    client.comment_database(name, before.as_deref()).await?;
    Ok(restored)
}

/// `psql` for SQL, `pg_restore` for everything else.
async fn program(
    source: &PlainSource,
    opened: &Opened<'_>,
    options: &PlainRestore,
    major: u32,
) -> Result<Program, DumpError> {
    let connection = options.target.with_database(&options.database);
    let what = format!("restoring into database '{}'", options.database);
    let value = options.database.replace('\\', r"\\").replace('\'', r"\'");
    let tool = match opened.format {
        Format::Sql => "psql",
        Format::Custom | Format::Tar => "pg_restore",
        Format::Directory => {
            return Err(DumpError::Plain {
                name: source.name.clone(),
                what: "is a folder of pg_dump -Fd in a tar file: it would have to lie on a disk"
                    .into(),
                hint: "unpack it where plain data may lie, then pg_restore --format=directory"
                    .into(),
            });
        }
    };
    let found = tools::find(tool, &source.folders).await;
    let newest = found.iter().map(|tool| tool.major).max().unwrap_or_default();
    // psql: the server's own; pg_restore: the newest reads every format.
    let best = if opened.format == Format::Sql { major } else { newest };
    let path = tools::choose(tool, &found, 1, best)?.path.clone();
    let program = Program::new(path, &connection, what).arg("--no-password");
    if opened.format == Format::Sql {
        // An error in the middle makes psql take the rows of a COPY for statements: it stops.
        return Ok(program.arg("--no-psqlrc").arg("--quiet").arg("--set=ON_ERROR_STOP=1"));
    }
    let format = if opened.format == Format::Tar { "tar" } else { "custom" };
    let mut program =
        program.arg(format!("--format={format}")).arg(format!("--dbname=dbname='{value}'"));
    if options.no_owner {
        program = program.arg("--no-owner");
    }
    if options.no_privileges {
        program = program.arg("--no-privileges");
    }
    Ok(program)
}

async fn run(
    opened: &mut Opened<'_>,
    program: &Program,
    label: &str,
    database: &str,
) -> Result<PlainRestored, DumpError> {
    let mut child = program.spawn(Stdio::piped(), Stdio::null())?;
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let Some(stdin) = stdin else { return Err(program.failed("no input".into())) };
    let (finished, said) = tokio::join!(opened.finish(stdin), child::messages(stderr));
    let (bytes, is_taken) = finished?;
    let status = child.wait().await.map_err(|error| program.failed(error.to_string()))?;
    let (notes, mut errors): (Vec<_>, Vec<_>) = messages::sort(&program.name(), &said.text, false)
        .into_iter()
        .partition(|message| message.is_harmless);
    let is_sql = opened.format == Format::Sql;
    if said.is_cut {
        let text = "there were more messages than are kept".to_owned();
        errors.push(messages::Message { text, is_harmless: false });
    }
    if !errors.is_empty() {
        let first: Vec<&str> =
            errors.iter().take(ERRORS_SHOWN_MAX).map(|message| message.text.as_str()).collect();
        return Err(DumpError::Statements {
            label: label.to_owned(),
            database: database.to_owned(),
            count: errors.len(),
            first: first.join("; "),
        });
    }
    let is_done = match status.code() {
        Some(0) => !is_sql || is_taken,
        Some(1) => !is_sql && !notes.is_empty(),
        _ => false,
    };
    if !is_done {
        return Err(program.failed(format!("{status}: {}", child::last_lines(&said))));
    }
    let notes = notes.into_iter().map(|message| message.text).collect();
    Ok(PlainRestored { format: opened.format, bytes, notes })
}
