//! What is recorded beside the files: everything a restore, a drill or a search in the WAL needs to
//! know and cannot ask once the server is gone.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use pgclient::{Client, ServerInfo};
use repository::relation_map::{self, Relation, RelationMap};
use repository::root::Details;
use repository::tree::ATTACHMENT_PREFIX;

use crate::error::Error;

/// Configuration files above this size are something else under that name.
const CONFIG_LEN_MAX: u64 = 4 << 20;

/// Something recorded beside the data directory.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) path: Vec<u8>,
    pub(crate) content: Vec<u8>,
    /// The file it was read from; `None` for what was asked of the server.
    pub(crate) source: Option<Metadata>,
}

/// The facts.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) details: Details,
    /// In ascending order of path.
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) warnings: Vec<String>,
}

/// Asks the server. What it does not let us see becomes a warning: the data is safe without it.
///
/// # Errors
/// When the main session is lost.
pub(crate) async fn gather(
    client: &Client,
    server: &ServerInfo,
    root: &Path,
) -> Result<Facts, Error> {
    let mut facts = Facts::default();
    facts.details.settings = settings(server, root);
    facts.databases(client).await?;
    facts.globals(client).await?;
    facts.config_files(client).await?;
    facts.attachments.sort_by(|a, b| a.path.cmp(&b.path));
    facts.attachments.dedup_by(|a, b| a.path == b.path);
    Ok(facts)
}

/// Settings that matter for a restore, by PostgreSQL's names.
fn settings(server: &ServerInfo, root: &Path) -> BTreeMap<String, String> {
    let on = |value: bool| if value { "on" } else { "off" }.to_owned();
    let limits = &server.limits;
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let mode = fs::metadata(root).map_or(0o700, |meta| meta.mode() & 0o7777);
    let own = [
        ("max_connections", limits.max_connections.to_string()),
        ("max_worker_processes", limits.max_worker_processes.to_string()),
        ("max_wal_senders", limits.max_wal_senders.to_string()),
        ("max_prepared_transactions", limits.max_prepared_transactions.to_string()),
        ("max_locks_per_transaction", limits.max_locks_per_transaction.to_string()),
        ("wal_level", server.wal_level.clone()),
        ("full_page_writes", on(server.full_page_writes)),
        ("wal_log_hints", on(server.wal_log_hints)),
        ("data_checksums", on(server.data_checksums)),
        ("segment_size", server.segment_pages.to_string()),
        ("wal_block_size", server.wal_block_size.to_string()),
        ("shared_preload_libraries", server.shared_preload_libraries.clone()),
        ("archive_mode", server.archive_mode.clone()),
        ("archive_command", server.archive_command.clone()),
        ("archive_library", server.archive_library.clone()),
        ("data_directory", path(&server.data_directory)),
        ("data_directory_mode", format!("{mode:04o}")),
        ("config_file", path(&server.config_file)),
        ("hba_file", path(&server.hba_file)),
        ("ident_file", path(&server.ident_file)),
    ];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    own.chain(server.locale.iter().cloned()).collect()
}

impl Facts {
    /// Extensions, collations and relation names of every database that takes sessions.
    async fn databases(&mut self, client: &Client) -> Result<(), Error> {
        for database in client.databases().await? {
            let (oid, name) = (database.oid, database.name.clone());
            self.details.databases.push((oid, name.clone()));
            let version = database.collation_version_actual.or(database.collation_version);
            if let Some(version) = version {
                let key = format!("{}/database {name}", provider(database.locale_provider));
                self.details.collations.insert(key, version);
            }
            // template0 takes none, and nothing of ours can be in it.
            if database.allows_connections
                && let Err(error) = self.database(client, oid, &name).await
            {
                // A session of its own, which may fail in ways that say nothing about the others.
                self.leave_out(&error, &format!("the names of the relations in database '{name}'"));
            }
        }
        Ok(())
    }

    async fn database(
        &mut self,
        client: &Client,
        oid: pg::Oid,
        name: &str,
    ) -> Result<(), pgclient::Error> {
        let relations = client.relation_names(name).await?.into_iter().map(relation).collect();
        let map = RelationMap { database: oid, name: name.to_owned(), relations };
        self.attach(relation_map::path(oid).into_bytes(), map.encode(), None);
        for extension in client.extensions(name).await? {
            self.details.extensions.insert(format!("{name}/{}", extension.name), extension.version);
        }
        for collation in client.collations(name).await? {
            let full_name = format!("{}.{}", collation.schema, collation.name);
            let key = format!("{}/{full_name}", provider(collation.provider));
            let version = collation.version_actual.unwrap_or(collation.version);
            // The predefined ones are the same in every database.
            if self.details.collations.get(&key).is_some_and(|known| *known != version) {
                let key = format!("{}/{name}.{full_name}", provider(collation.provider));
                self.details.collations.insert(key, version);
            } else {
                self.details.collations.insert(key, version);
            }
        }
        Ok(())
    }

    async fn globals(&mut self, client: &Client) -> Result<(), Error> {
        match client.globals_sql().await {
            Ok(globals) => {
                if !globals.with_passwords {
                    self.warnings.push(
                        "the roles are backed up without their passwords: the backup's user is no superuser"
                            .into(),
                    );
                }
                let path = format!("{ATTACHMENT_PREFIX}globals.sql").into_bytes();
                self.attach(path, globals.sql.expose().as_bytes().to_vec(), None);
                Ok(())
            }
            Err(error) => self.excuse(error, "the roles and other globals as SQL"),
        }
    }

    /// Configuration that lies outside the data directory, as Debian has it.
    async fn config_files(&mut self, client: &Client) -> Result<(), Error> {
        let files = match client.config_files_outside().await {
            Ok(files) => files,
            Err(error) => {
                return self.excuse(error, "configuration files outside the data directory");
            }
        };
        for file in files {
            match read_config(&file) {
                Ok((content, meta)) => {
                    let mut path = format!("{ATTACHMENT_PREFIX}config").into_bytes();
                    for part in file.components() {
                        if let Component::Normal(part) = part {
                            path.push(b'/');
                            path.extend_from_slice(part.as_bytes());
                        }
                    }
                    self.attach(path, content, Some(meta));
                }
                Err(reason) => self.warnings.push(format!(
                    "configuration file '{}' is not in the backup: {reason}",
                    file.display()
                )),
            }
        }
        Ok(())
    }

    fn attach(&mut self, path: Vec<u8>, content: Vec<u8>, source: Option<Metadata>) {
        self.attachments.push(Attachment { path, content, source });
    }

    fn leave_out(&mut self, error: &pgclient::Error, what: &str) {
        self.warnings.push(format!("not in the backup: {what}: {error}"));
    }

    /// For the main session: that it is lost ends the backup; a refusal is a warning.
    fn excuse(&mut self, error: pgclient::Error, what: &str) -> Result<(), Error> {
        match error {
            pgclient::Error::Sql { .. } | pgclient::Error::Refused { .. } => {
                self.leave_out(&error, what);
                Ok(())
            }
            other => Err(other.into()),
        }
    }
}

fn read_config(path: &Path) -> Result<(Vec<u8>, Metadata), String> {
    if path.components().any(|part| matches!(part, Component::ParentDir)) {
        return Err("its path has '..' in it".into());
    }
    let meta = fs::metadata(path).map_err(|error| error.to_string())?;
    if !meta.is_file() || meta.len() > CONFIG_LEN_MAX {
        return Err(format!(
            "expected a file of at most {CONFIG_LEN_MAX} bytes, seen {}",
            meta.len()
        ));
    }
    let content = fs::read(path).map_err(|error| error.to_string())?;
    Ok((content, meta))
}

fn provider(letter: char) -> String {
    match letter {
        'c' => "libc".into(),
        'i' => "icu".into(),
        'b' => "builtin".into(),
        other => other.to_string(),
    }
}

fn relation(relation: pgclient::Relation) -> Relation {
    Relation {
        oid: relation.oid,
        filenode: relation.filenode,
        tablespace: relation.tablespace,
        schema: relation.schema,
        name: relation.name,
        kind: relation.kind,
        persistence: relation.persistence,
        shared: relation.shared,
        owning_table: relation.owning_table,
        estimated_rows: relation.estimated_rows,
    }
}
