//! Restoring one database of a dump: roles, schema, data, then what stands on the data.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use pgclient::{Client, ConnectOptions, identifier};
use repository::dump::{
    self, DumpRoot, DumpedDatabase, GLOBALS_PATH, NAME_PLACE, StreamInfo, StreamKind,
};
use repository::tree::Entry;
use repository::{Label, LineageId, Repository, walk};
use stdx::Clock;
use tokio::sync::{Mutex, Semaphore};

use super::child::{self, Program};
use super::error::DumpError;
use super::messages::{self, Message};
use super::read;
use super::target::{self, Target};
use super::tools::{self, Tool};
use crate::options::Cancel;
use crate::progress::Progress;

mod choice;
mod list;
mod memory_file;
pub mod roles;

use choice::Choice;
use memory_file::MemoryFile;
use roles::RoleMap;

/// Bytes of a schema that are held in memory, where `pg_restore` can seek in them.
const SCHEMA_LEN_MAX: u64 = 1 << 30;

/// Errors that a failure shows.
const ERRORS_SHOWN_MAX: usize = 5;

/// Rights and settings of a database.
const DEADLINE: Duration = Duration::from_secs(60);

/// Statistics of every table: a part of each is read.
const ANALYZE_DEADLINE: Duration = Duration::from_secs(24 * 3600);

/// What to restore, where and how.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// The cluster's name.
    pub cluster: String,
    /// Its lineage.
    pub lineage: LineageId,
    /// The dump.
    pub label: Label,
    /// The target server; its database is where a new one is made from.
    pub target: ConnectOptions,
    /// The database to restore into; by default of the name it was dumped under.
    pub database: Option<String>,
    /// The database of the dump; may be left out when it has one, or one of that name.
    pub source: Option<String>,
    /// Make the database, which must not be there.
    pub create: bool,
    /// Make the roles that are missing.
    pub globals: bool,
    /// The database may hold something.
    pub into_existing: bool,
    /// How many programs run at once.
    pub jobs: usize,
    /// Everything belongs to whoever restores.
    pub no_owner: bool,
    /// Without rights.
    pub no_privileges: bool,
    /// Everything into the default tablespace.
    pub no_tablespaces: bool,
    /// Only these schemas.
    pub schemas: Vec<String>,
    /// Only tables of these names, without their indexes: as `pg_restore --table`.
    pub tables: Vec<String>,
    /// Tables, `schema.table`, that stay empty.
    pub without_data_of: Vec<String>,
    /// Patterns of tables that are left out, with everything of theirs.
    pub without: Vec<String>,
    /// Roles that get what the dump gives to others.
    pub role_map: Vec<RoleMap>,
    /// What the comment of the database says when it is restored; until then the mark ends in it.
    pub comment: Option<String>,
    /// Make statistics before it counts as restored.
    pub analyze: bool,
    /// Where programs are looked for, before the packages' folders.
    pub folders: Vec<PathBuf>,
    /// Tells the restore to stop.
    pub cancel: Cancel,
}

impl RestoreOptions {
    /// Whether only a part is restored.
    #[must_use]
    pub fn is_selection(&self) -> bool {
        !self.schemas.is_empty() || !self.tables.is_empty()
    }

    /// Whether the data of a table are wanted.
    fn wants(&self, schema: &str, table: &str) -> bool {
        let is_among =
            |list: &[String], name: &str| list.is_empty() || list.iter().any(|it| it == name);
        is_among(&self.schemas, schema)
            && is_among(&self.tables, table)
            && !self.without_data_of.contains(&format!("{schema}.{table}"))
    }
}

/// What was restored.
#[derive(Clone, Debug)]
pub struct RestoreReport {
    /// The database.
    pub database: String,
    /// Its name in the dump.
    pub source: String,
    /// Bytes of the streams that were fed.
    pub bytes: u64,
    /// Roles that were made.
    pub roles: Vec<String>,
    /// Everything that was said and harms nothing.
    pub notes: Vec<String>,
}

/// Restores one database of a dump into a new or an empty one.
///
/// # Errors
/// See [`DumpError`]. After [`DumpError::Statements`], a cut connection or a kill the database is
/// marked, and the next restore into it is refused with that mark.
pub async fn restore(
    repository: &Repository,
    options: &RestoreOptions,
    progress: &dyn Progress,
    clock: &dyn Clock,
) -> Result<RestoreReport, DumpError> {
    let root = read_root(repository, options).await?;
    let database = choose(&root, options)?;
    let name = options.database.clone().unwrap_or_else(|| database.name.clone());
    let target = Target::connect(&options.target).await?;
    let found = tools::find("pg_restore", &options.folders).await;
    let tool = tools::choose("pg_restore", &found, root.summary.tool_major, target.major)?;
    let roles = target.check(&root, database, options).await?;
    check_presence(&target, &name, options).await?;
    let streams = read::streams(repository, root.summary.tree).await?;
    let run = Run {
        repository,
        options,
        progress,
        root: &root,
        database,
        connection: options.target.with_database(&name),
        name,
        tool,
        streams,
        notes: Mutex::default(),
        errors: Mutex::default(),
    };
    tokio::select! {
        restored = Box::pin(run.restore(&target, roles, clock)) => restored,
        () = options.cancel.cancelled() => {
            Err(crate::Error::Cancelled { cluster: options.cluster.clone() }.into())
        }
    }
}

async fn read_root(
    repository: &Repository,
    options: &RestoreOptions,
) -> Result<DumpRoot, DumpError> {
    match dump::read(repository, options.lineage, &options.label).await {
        Err(repository::Error::Store(store::Error::NotFound { .. })) => Err(DumpError::NoDump {
            cluster: options.cluster.clone(),
            label: options.label.to_string(),
        }),
        read => Ok(read?),
    }
}

fn choose<'r>(
    root: &'r DumpRoot,
    options: &RestoreOptions,
) -> Result<&'r DumpedDatabase, DumpError> {
    let wanted = options.source.as_ref().or(options.database.as_ref());
    let named = root.databases.iter().find(|it| Some(&it.name) == wanted);
    match (named, root.databases.as_slice(), &options.source) {
        (Some(named), ..) => Ok(named),
        (None, [only], None) => Ok(only),
        _ => {
            let names: Vec<String> =
                root.databases.iter().map(|it| format!("'{}'", it.name)).collect();
            let lacks = match wanted {
                Some(name) => format!("has no database '{name}', it has {}", names.join(", ")),
                None => format!("has several databases: {}", names.join(", ")),
            };
            let hint = "say which one: --source-database NAME".to_owned();
            Err(DumpError::Lacks { label: root.summary.label.to_string(), lacks, hint })
        }
    }
}

async fn check_presence(
    target: &Target,
    name: &str,
    options: &RestoreOptions,
) -> Result<(), DumpError> {
    let refuse = |why: &str, hint: String| {
        Err(DumpError::Database { database: name.to_owned(), why: why.into(), hint })
    };
    match (target.has_database(name).await?, options.create) {
        (false, false) => refuse("is not there", "make it: --create".into()),
        (true, true) => {
            // What is there may be what an earlier restore left: that says more.
            let client = Client::connect(&options.target.with_database(name)).await?;
            target::check_empty(&client, name, true).await?;
            refuse(
                "is there already, and --create makes a new one",
                "restore under another name: --database NAME; or into it, when it is empty: leave \
                 --create out"
                    .into(),
            )
        }
        _ => Ok(()),
    }
}

struct Run<'a> {
    repository: &'a Repository,
    options: &'a RestoreOptions,
    progress: &'a dyn Progress,
    root: &'a DumpRoot,
    database: &'a DumpedDatabase,
    connection: ConnectOptions,
    name: String,
    tool: &'a Tool,
    streams: BTreeMap<String, Entry>,
    notes: Mutex<Vec<String>>,
    errors: Mutex<Vec<String>>,
}

impl Run<'_> {
    async fn restore(
        &self,
        target: &Target,
        roles: Vec<String>,
        clock: &dyn Clock,
    ) -> Result<RestoreReport, DumpError> {
        let schema = self.schema().await?;
        let choice = self.choice(&schema).await?;
        if !self.options.create {
            // Looked at before roles are made: a refusal leaves nothing behind.
            let client = Client::connect(&self.connection).await?;
            target::check_empty(&client, &self.name, self.options.into_existing).await?;
        }
        if !roles.is_empty() {
            self.make_roles(target, &roles).await?;
        }
        let label = self.root.summary.label.to_string();
        roles::stand_in(target, &label, &self.options.role_map).await?;
        if self.options.create {
            let with_owner = !self.options.no_owner;
            target.create_database(&self.name, self.database, with_owner).await?;
        }
        let client = Client::connect(&self.connection).await?;
        let before = client.database_comment().await?;
        let then = self.options.comment.as_deref();
        target::mark(&client, &self.name, &label, clock.now(), then).await?;
        let chosen: Vec<&StreamInfo> =
            self.database.streams.iter().filter(|it| self.is_wanted(it, &choice)).collect();
        let bytes = chosen.iter().map(|stream| stream.size).sum();
        self.progress.total(bytes, chosen.len() as u64);
        self.note("the schema");
        let before_data = self.pg_restore("its schema").arg("--section=pre-data");
        let before_data = choice.of_schema(self.selected(before_data));
        self.run(&before_data.arg(schema.path()), None).await?;
        self.stop_at_errors().await?;
        self.note("data");
        self.data(&chosen, &choice).await?;
        self.stop_at_errors().await?;
        self.note("indexes and constraints");
        let jobs = format!("--jobs={}", self.options.jobs.max(1));
        let after = self.pg_restore("its indexes and constraints").arg("--section=post-data");
        let after = choice.of_schema(self.selected(after));
        self.run(&after.arg(jobs).arg(schema.path()), None).await?;
        self.stop_at_errors().await?;
        let comment = if self.options.create { self.database.comment.clone() } else { before };
        let comment = self.options.comment.clone().or(comment);
        if self.options.create && !self.options.is_selection() {
            self.rights_and_settings(&client).await?;
        }
        if let Err(why) = roles::replace(&client, &self.options.role_map).await {
            self.errors.lock().await.push(why);
        }
        self.stop_at_errors().await?;
        self.notes.lock().await.extend(choice.notes());
        if self.options.analyze {
            self.note("statistics");
            let unlimited = Client::connect(&self.connection).await?.unlimited().await?;
            unlimited.query_text("ANALYZE", ANALYZE_DEADLINE).await?;
        }
        client.comment_database(&self.name, comment.as_deref()).await?;
        Ok(RestoreReport {
            database: self.name.clone(),
            source: self.database.name.clone(),
            bytes,
            roles,
            notes: std::mem::take(&mut *self.notes.lock().await),
        })
    }

    async fn make_roles(&self, target: &Target, roles: &[String]) -> Result<(), DumpError> {
        let globals = walk::read_small(self.repository, self.stream(GLOBALS_PATH)?).await?;
        let (label, sql) = (&self.options.label, String::from_utf8_lossy(&globals));
        let left_out = target.make_roles(label.as_str(), &sql, roles).await?;
        self.notes.lock().await.extend(left_out);
        Ok(())
    }

    fn note(&self, what: &str) {
        self.progress.note(&format!("restoring {what} of database '{}'", self.name));
    }

    fn stream(&self, path: &str) -> Result<&Entry, DumpError> {
        self.streams.get(path).ok_or_else(|| DumpError::Lacks {
            label: self.root.summary.label.to_string(),
            lacks: format!("has no stream '{path}'"),
            hint: "rollforward verify --deep; then restore an earlier dump".into(),
        })
    }

    /// The schema, in memory: `pg_restore` seeks in it, and runs several sessions only then.
    async fn schema(&self) -> Result<MemoryFile, DumpError> {
        let mut streams = self.database.streams.iter();
        let path = streams.find(|it| it.kind == StreamKind::Schema).map(|it| it.path.as_str());
        let entry = self.stream(path.unwrap_or("schema.dump"))?;
        if entry.size > SCHEMA_LEN_MAX {
            return Err(DumpError::Lacks {
                label: self.root.summary.label.to_string(),
                lacks: format!(
                    "has a schema of {} bytes, the limit is {SCHEMA_LEN_MAX}",
                    entry.size
                ),
                hint: "please report it".into(),
            });
        }
        let mut bytes = Vec::new();
        read::feed(self.repository, entry, &mut bytes, self.progress).await?;
        MemoryFile::of(&bytes)
            .map_err(|error| self.pg_restore("its schema").failed(error.to_string()))
    }

    fn is_wanted(&self, stream: &StreamInfo, choice: &Choice) -> bool {
        match &stream.kind {
            StreamKind::Table(schema, table) => {
                self.options.wants(schema, table) && !choice.leaves_out(schema, table)
            }
            StreamKind::Schema | StreamKind::Rest => true,
        }
    }

    /// Every stream of data, several beside each other, the largest first.
    async fn data(&self, chosen: &[&StreamInfo], choice: &Choice) -> Result<(), DumpError> {
        let mut data: Vec<&&StreamInfo> =
            chosen.iter().filter(|it| it.kind != StreamKind::Schema).collect();
        data.sort_by_key(|stream| std::cmp::Reverse(stream.size));
        let slots = Semaphore::new(self.options.jobs.max(1));
        let runs = data.into_iter().map(|stream| {
            let slots = &slots;
            async move {
                // The semaphore is never closed.
                let _slot = slots.acquire().await;
                self.data_of(stream, choice).await
            }
        });
        futures::future::try_join_all(runs).await.map(drop)
    }

    async fn data_of(&self, stream: &StreamInfo, choice: &Choice) -> Result<(), DumpError> {
        let entry = self.stream(&stream.path)?;
        let what = match &stream.kind {
            StreamKind::Table(schema, table) => format!("table '{schema}.{table}'"),
            StreamKind::Schema | StreamKind::Rest => "its data".to_owned(),
        };
        let mut program = self.pg_restore(&what);
        let list;
        match &stream.kind {
            StreamKind::Rest if choice.is_one() || !self.options.without_data_of.is_empty() => {
                list = self.list_without(entry, choice).await?;
                program = self.selected(program).arg("--use-list").arg(list.path());
            }
            StreamKind::Rest => program = self.selected(program),
            _ => {}
        }
        self.run(&program, Some(entry)).await
    }

    fn pg_restore(&self, what: &str) -> Program {
        let value = self.name.replace('\\', r"\\").replace('\'', r"\'");
        let what = format!("{what}, into database '{}'", self.name);
        let mut program = Program::new(self.tool.path.clone(), &self.connection, what)
            .arg("--no-password")
            .arg(format!("--dbname=dbname='{value}'"));
        for (is_asked, option) in [
            (self.options.no_owner, "--no-owner"),
            (self.options.no_privileges, "--no-privileges"),
            (self.options.no_tablespaces, "--no-tablespaces"),
        ] {
            if is_asked {
                program = program.arg(option);
            }
        }
        program
    }

    fn selected(&self, mut program: Program) -> Program {
        for schema in &self.options.schemas {
            program = program.arg(format!("--schema={schema}"));
        }
        for table in &self.options.tables {
            program = program.arg(format!("--table={table}"));
        }
        program
    }

    /// Runs `pg_restore`, feeds it, and sorts what it says.
    async fn run(&self, program: &Program, entry: Option<&Entry>) -> Result<(), DumpError> {
        let stdin = if entry.is_some() { Stdio::piped() } else { Stdio::null() };
        let mut child = program.spawn(stdin, Stdio::null())?;
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let feed = async {
            match (entry, stdin) {
                (Some(entry), Some(stdin)) => {
                    read::feed(self.repository, entry, stdin, self.progress).await
                }
                _ => Ok(()),
            }
        };
        let (fed, said) = tokio::join!(feed, child::messages(stderr));
        fed?;
        let status = child.wait().await.map_err(|error| program.failed(error.to_string()))?;
        let has_jobs = entry.is_none();
        let mut sorted = messages::sort(&program.name(), &said.text, has_jobs);
        if said.is_cut {
            let text = "there were more messages than are kept".to_owned();
            sorted.push(Message { text, is_harmless: false });
        }
        let has_errors = sorted.iter().any(|message| message.text.starts_with("error: "));
        match status.code() {
            Some(0) => {}
            // 1 is "errors were ignored": each of them is in the messages.
            Some(1) if has_errors => {}
            _ => return Err(program.failed(format!("{status}: {}", child::last_lines(&said)))),
        }
        for message in sorted {
            let into = if message.is_harmless { &self.notes } else { &self.errors };
            into.lock().await.push(message.text);
        }
        Ok(())
    }

    async fn stop_at_errors(&self) -> Result<(), DumpError> {
        let errors = self.errors.lock().await;
        if errors.is_empty() {
            return Ok(());
        }
        Err(DumpError::Statements {
            label: self.root.summary.label.to_string(),
            database: self.name.clone(),
            count: errors.len(),
            first: errors.get(..ERRORS_SHOWN_MAX).unwrap_or(&errors).join("; "),
        })
    }

    async fn rights_and_settings(&self, client: &Client) -> Result<(), DumpError> {
        let name = identifier(&self.name);
        for statement in &self.database.statements {
            let is_right = statement.starts_with("GRANT ") || statement.starts_with("REVOKE ");
            if is_right && self.options.no_privileges {
                continue;
            }
            let sql = statement.replace(NAME_PLACE, &name);
            if let Err(error) = client.query_text(&sql, DEADLINE).await {
                self.errors.lock().await.push(format!("{sql}: {error}"));
            }
        }
        self.stop_at_errors().await
    }
}
