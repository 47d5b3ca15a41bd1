//! One dump, from the first question to the published root.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use pg::SystemId;
use pgclient::{Client, ConnectOptions, Globals, identifier};
use repository::dump::{
    self, DumpRoot, DumpSummary, DumpedDatabase, GLOBALS_PATH, GlobalsHeld, NAME_PLACE,
    NAMES_IN_SUMMARY_MAX, StreamInfo, StreamKind,
};
use repository::{Compression, Label, LineageId, Repository};
use stdx::Clock;
use tokio::sync::Semaphore;

use super::child::{self, Program};
use super::error::DumpError;
use super::stream::{PACK_RAW_TARGET, Packs, TakeError, remove};
use super::tools::{self, Tool};
use crate::content::Stored;
use crate::hold::Hold;
use crate::options::Cancel;
use crate::progress::Progress;

/// Tables from this size on are dumped beside the others: below it, starting a program costs more
/// than it saves.
const OWN_STREAM_LEN_MIN: u64 = 16 << 20;

/// The most streams of tables in one database: each costs a session and a lock that is held.
const OWN_STREAMS_MAX: u32 = 64;

/// How long the locks on large tables may be waited for.
const LOCK_DEADLINE: Duration = Duration::from_secs(300);

/// Bytes of a note, so that a summary stays small.
const NOTE_LEN_MAX: usize = 1000;

/// What to dump and how.
#[derive(Clone, Debug)]
pub struct DumpOptions {
    /// The cluster's name.
    pub cluster: String,
    /// The lineage the dump belongs to.
    pub lineage: LineageId,
    /// Its system identifier.
    pub system_id: SystemId,
    /// How to reach the server, which may be a standby.
    pub connection: ConnectOptions,
    /// The databases; none named means all that take sessions.
    pub databases: Vec<String>,
    /// How many programs run at once.
    pub jobs: usize,
    /// A remark.
    pub note: String,
    /// How frames are compressed.
    pub compression: Compression,
    /// Where programs are looked for, before the packages' folders.
    pub folders: Vec<PathBuf>,
    /// Tells the dump to stop.
    pub cancel: Cancel,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct DumpReport {
    /// The dump.
    pub summary: DumpSummary,
    /// How many streams it has.
    pub streams: usize,
    /// What `pg_dump` remarked.
    pub notes: Vec<String>,
}

/// Dumps databases of a running server into every member of the repository: all of one database as
/// of one moment. When it returns, the dump exists.
///
/// # Errors
/// See [`DumpError`]. No dump exists then, except when an error while the root itself is created
/// leaves that open.
pub async fn create(
    repository: &Repository,
    options: &DumpOptions,
    progress: &dyn Progress,
    clock: &dyn Clock,
) -> Result<DumpReport, DumpError> {
    let client = Client::connect(&options.connection).await?;
    let server = client.server().await?;
    if server.system_id != options.system_id {
        return Err(DumpError::Backup(crate::Error::OtherCluster {
            cluster: options.cluster.clone(),
            expected: options.system_id,
            seen: server.system_id,
        }));
    }
    let major = server.version_num / 10_000;
    let found = tools::find("pg_dump", &options.folders).await;
    let tool = tools::choose("pg_dump", &found, major, major)?;
    let (databases, is_complete) = databases(&client, options).await?;
    let label = Label::new(clock.now());
    let hold = Hold::begin(repository, &label, clock).await?;
    let packs = Packs::begin(repository, options.compression, PACK_RAW_TARGET).await;
    let made = match packs {
        Ok(packs) => {
            let run =
                Run { repository, options, progress, clock, client, tool, label, is_complete };
            Box::pin(run.make(&hold, packs, databases, server.version_num)).await
        }
        Err(error) => Err(error.into()),
    };
    hold.end().await;
    made
}

struct Run<'a> {
    repository: &'a Repository,
    options: &'a DumpOptions,
    progress: &'a dyn Progress,
    clock: &'a dyn Clock,
    client: Client,
    tool: &'a Tool,
    label: Label,
    is_complete: bool,
}

/// The databases asked for as far as they are known before, and whether these are all.
async fn databases(
    client: &Client,
    options: &DumpOptions,
) -> Result<(Vec<DumpedDatabase>, bool), DumpError> {
    let all = client.databases().await?;
    let able: Vec<_> =
        all.into_iter().filter(|it| it.allows_connections && !it.is_template).collect();
    let missing = options.databases.iter().find(|name| able.iter().all(|it| it.name != **name));
    if missing.is_some() || able.is_empty() {
        let known: Vec<String> = able.iter().map(|it| format!("'{}'", it.name)).collect();
        return Err(DumpError::NoDatabase {
            cluster: options.cluster.clone(),
            name: missing.cloned().unwrap_or_default(),
            known: known.join(", "),
        });
    }
    let count = able.len();
    let wanted = |name: &String| options.databases.is_empty() || options.databases.contains(name);
    let chosen: Vec<DumpedDatabase> = able
        .into_iter()
        .filter(|it| wanted(&it.name))
        .map(|it| DumpedDatabase {
            name: it.name,
            owner: it.owner,
            encoding: it.encoding,
            locale_provider: it.locale_provider.to_string(),
            collate: it.collate,
            ctype: it.ctype,
            locale: it.locale,
            ..DumpedDatabase::default()
        })
        .collect();
    let is_complete = chosen.len() == count;
    Ok((chosen, is_complete))
}

impl Run<'_> {
    async fn make(
        &self,
        hold: &Hold<'_>,
        packs: Packs<'_>,
        databases: Vec<DumpedDatabase>,
        server_version: u32,
    ) -> Result<DumpReport, DumpError> {
        let started = self.clock.now();
        let dumped = tokio::select! {
            dumped = self.dump_all(&packs, databases) => dumped,
            () = self.options.cancel.cancelled() => {
                Err(crate::Error::Cancelled { cluster: self.options.cluster.clone() }.into())
            }
            error = hold.lost(self.clock) => Err(error.into()),
        };
        let Dumped { databases, streams, notes, globals } = match dumped {
            Ok(dumped) => dumped,
            Err(error) => {
                remove(self.repository, &packs.into_finished()).await;
                return Err(error);
            }
        };
        let stopped = self.clock.now();
        let size = streams.iter().map(|(_, stored)| stored.size).sum();
        let count = streams.len();
        let (tree, packs) = match packs.finish(streams, stopped.as_microsecond()).await {
            Ok(finished) => finished,
            Err((error, packs)) => {
                remove(self.repository, &packs).await;
                return Err(error.into());
            }
        };
        let names = databases.iter().map(|database| database.name.clone());
        let summary = DumpSummary {
            label: self.label.clone(),
            lineage: self.options.lineage,
            cluster: self.options.cluster.clone(),
            system_id: self.options.system_id,
            server_version,
            tool_major: self.tool.major,
            started,
            stopped,
            size,
            stored: packs.iter().map(|pack| pack.size).sum(),
            databases: names.take(NAMES_IN_SUMMARY_MAX).collect(),
            database_count: databases.len() as u64,
            is_complete: self.is_complete,
            globals,
            note: shortened(&self.options.note),
            tree,
        };
        let made_by =
            format!("rollforward {}, pg_dump {}", env!("CARGO_PKG_VERSION"), self.tool.version);
        let root = DumpRoot { summary, packs, databases, made_by };
        // From here on an error leaves open whether the dump exists: its packs must stay.
        dump::publish(self.repository, &root).await?;
        Ok(DumpReport { summary: root.summary, streams: count, notes })
    }

    async fn dump_all(
        &self,
        packs: &Packs<'_>,
        databases: Vec<DumpedDatabase>,
    ) -> Result<Dumped, DumpError> {
        let mut all = Dumped { globals: GlobalsHeld::No, ..Dumped::default() };
        match self.client.globals_sql().await {
            Ok(Globals { sql, with_passwords }) => {
                all.globals = match with_passwords {
                    true => GlobalsHeld::Whole,
                    false => GlobalsHeld::WithoutPasswords,
                };
                let stored = self.take(packs, sql.expose().as_bytes()).await?;
                all.streams.push((GLOBALS_PATH.to_owned(), stored));
            }
            // A role without the right to read them still gets its databases.
            Err(error) => all.notes.push(format!("without roles and tablespaces: {error}")),
        }
        let total = self.client.query_text(TOTAL_SQL, LOCK_DEADLINE).await?;
        self.progress.total(number(&total), databases.len() as u64);
        for (position, database) in databases.into_iter().enumerate() {
            self.progress.note(&format!("dumping database '{}'", database.name));
            Box::pin(self.database(packs, position, database, &mut all)).await?;
        }
        Ok(all)
    }

    async fn take(&self, packs: &Packs<'_>, bytes: &[u8]) -> Result<Stored, DumpError> {
        packs.take(bytes, self.progress).await.map_err(|error| match error {
            TakeError::Write(error) => error.into(),
            TakeError::Read(_) => unreachable!("bytes in memory are read without an error"),
        })
    }

    /// All of one database as of one moment, which one session holds until the last stream is read.
    async fn database(
        &self,
        packs: &Packs<'_>,
        position: usize,
        mut database: DumpedDatabase,
        all: &mut Dumped,
    ) -> Result<(), DumpError> {
        let connection = self.options.connection.with_database(&database.name);
        let name = format!("rollforward dump {}", self.label);
        let session = Client::connect(&connection.with_application_name(&name)).await?;
        // Measuring a table waits for whoever has locked it.
        let session = session.with_deadline(LOCK_DEADLINE);
        let tables = session.large_tables(OWN_STREAM_LEN_MIN, OWN_STREAMS_MAX).await?;
        // Locks before the snapshot: a TRUNCATE between the two would leave an empty table in it.
        session.query_text(BEGIN_SQL, LOCK_DEADLINE).await?;
        for table in &tables {
            let (schema, name) = (identifier(&table.schema), identifier(&table.name));
            let lock = format!("LOCK TABLE ONLY {schema}.{name} IN ACCESS SHARE MODE");
            session.query_text(&lock, LOCK_DEADLINE).await?;
        }
        let snapshot = text(&session.query_text(SNAPSHOT_SQL, LOCK_DEADLINE).await?);
        describe(&session, &mut database).await?;
        let tables = tables.into_iter().map(|table| (table.schema, table.name));
        let kinds: Vec<StreamKind> = [StreamKind::Schema, StreamKind::Rest]
            .into_iter()
            .chain(tables.map(|(schema, name)| StreamKind::Table(schema, name)))
            .collect();
        let slots = Semaphore::new(self.options.jobs.max(1));
        let streams = kinds.iter().enumerate().map(|(number, kind)| {
            let program = self.program(&connection, &database.name, &snapshot, kind, &kinds);
            let (path, slots) = (path(position, kind, number), &slots);
            async move {
                // The semaphore is never closed.
                let _slot = slots.acquire().await;
                let (stored, notes) = self.record(packs, &program).await?;
                Ok::<_, DumpError>((path, kind.clone(), stored, notes))
            }
        });
        for (path, kind, stored, notes) in futures::future::try_join_all(streams).await? {
            database.streams.push(StreamInfo { path: path.clone(), kind, size: stored.size });
            all.streams.push((path, stored));
            all.notes.extend(notes.into_iter().map(|note| format!("'{}': {note}", database.name)));
        }
        database.streams.sort_by(|a, b| a.path.cmp(&b.path));
        session.query_text("COMMIT", LOCK_DEADLINE).await?;
        all.databases.push(database);
        Ok(())
    }

    fn program(
        &self,
        connection: &ConnectOptions,
        database: &str,
        snapshot: &str,
        kind: &StreamKind,
        kinds: &[StreamKind],
    ) -> Program {
        let what = match kind {
            StreamKind::Schema => format!("the schema of database '{database}'"),
            StreamKind::Rest => format!("the data of database '{database}'"),
            StreamKind::Table(schema, name) => format!("table '{schema}.{name}' of '{database}'"),
        };
        let mut program = Program::new(self.tool.path.clone(), connection, what)
            .arg("--format=custom")
            // Frames are compressed here.
            .arg("--compress=0")
            .arg("--no-password")
            .arg(format!("--snapshot={snapshot}"));
        match kind {
            StreamKind::Schema => {
                program = program.arg("--section=pre-data").arg("--section=post-data");
            }
            StreamKind::Rest => {
                program = program.arg("--section=data");
                for other in kinds {
                    if let StreamKind::Table(schema, name) = other {
                        let pattern = format!("{}.{}", identifier(schema), identifier(name));
                        program = program.arg(format!("--exclude-table-data={pattern}"));
                    }
                }
            }
            StreamKind::Table(schema, name) => {
                let pattern = format!("{}.{}", identifier(schema), identifier(name));
                program = program
                    .arg("--data-only")
                    .arg("--strict-names")
                    .arg(format!("--table={pattern}"));
            }
        }
        program
    }

    /// Runs `pg_dump` and stores what it writes; returns its remarks, too.
    async fn record(
        &self,
        packs: &Packs<'_>,
        program: &Program,
    ) -> Result<(Stored, Vec<String>), DumpError> {
        let mut child = program.spawn(Stdio::null(), Stdio::piped())?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let taking = async {
            match stdout {
                // Dropped with the stream: a program whose reader is gone ends.
                Some(stdout) => packs.take(stdout, self.progress).await,
                None => Err(TakeError::Read(std::io::Error::other("no output"))),
            }
        };
        let (taken, said) = tokio::join!(taking, child::messages(stderr));
        let status = child.wait().await.map_err(|error| program.failed(error.to_string()))?;
        match taken {
            Ok(stored) if status.success() => {
                let notes = said.text.lines().filter(|line| !line.trim().is_empty());
                Ok((stored, notes.map(str::to_owned).collect()))
            }
            Err(TakeError::Write(error)) => Err(error.into()),
            Err(TakeError::Read(error)) => Err(program.failed(error.to_string())),
            Ok(_) => Err(program.failed(format!("{status}: {}", child::last_lines(&said)))),
        }
    }
}

#[derive(Debug)]
struct Dumped {
    databases: Vec<DumpedDatabase>,
    streams: Vec<(String, Stored)>,
    notes: Vec<String>,
    globals: GlobalsHeld,
}

impl Default for Dumped {
    fn default() -> Self {
        Self {
            databases: Vec::new(),
            streams: Vec::new(),
            notes: Vec::new(),
            globals: GlobalsHeld::No,
        }
    }
}

/// The session only waits while others read: no timeout of the server may end it.
const BEGIN_SQL: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SET LOCAL search_path = ''; SET LOCAL idle_in_transaction_session_timeout = 0;
    SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0";

const SNAPSHOT_SQL: &str = "SELECT pg_catalog.pg_export_snapshot()";

/// A guess for the progress: indexes are not dumped, and text is longer than what it says.
const TOTAL_SQL: &str = "SELECT pg_catalog.sum(pg_catalog.pg_database_size(oid))::bigint
    FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate";

type Answer = [Vec<Option<String>>];

fn text(answer: &Answer) -> String {
    answer.last().and_then(|row| row.first()).cloned().flatten().unwrap_or_default()
}

fn number(answer: &Answer) -> u64 {
    text(answer).parse().unwrap_or(0)
}

/// What a restore checks before it begins.
async fn describe(session: &Client, database: &mut DumpedDatabase) -> Result<(), DumpError> {
    let extensions = session.extensions(&database.name).await?;
    database.extensions = extensions.into_iter().map(|extension| extension.name).collect();
    let roles = session.needed_roles().await?;
    (database.owners, database.grantees) = (roles.owners, roles.grantees);
    database.named = roles.named;
    if !database.owners.contains(&database.owner) && !database.owner.starts_with("pg_") {
        database.owners.push(database.owner.clone());
    }
    database.tablespaces = session.used_tablespaces().await?;
    database.comment = session.database_comment().await?;
    database.statements = session.database_statements(&NAME_PLACE.to_string()).await?;
    Ok(())
}

/// Names of databases and tables are no paths; what a stream is stands in the root.
fn path(position: usize, kind: &StreamKind, number: usize) -> String {
    match kind {
        StreamKind::Schema => format!("database/{position:04}/schema.dump"),
        StreamKind::Rest => format!("database/{position:04}/data.dump"),
        StreamKind::Table(..) => format!("database/{position:04}/table/{number:04}.dump"),
    }
}

fn shortened(note: &str) -> String {
    let mut text: String = note.replace(['\r', '\n'], " ");
    while text.len() > NOTE_LEN_MAX {
        text.pop();
    }
    text
}
