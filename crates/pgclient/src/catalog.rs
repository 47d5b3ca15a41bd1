//! What is in a cluster: tablespaces, databases, relations, extensions, collations.

use std::path::PathBuf;

use jiff::Timestamp;
use pg::{Oid, Xid};

use crate::{Client, Error};

/// A tablespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tablespace {
    /// Its oid, the name of the link in `pg_tblspc`.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: String,
    /// Where its link points; `None` for `pg_default`, `pg_global` and in-place tablespaces.
    pub location: Option<PathBuf>,
}

/// A database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Its oid, the name of its folder.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: String,
    /// The tablespace its relations with tablespace 0 are in.
    pub tablespace: Oid,
    /// Character set encoding.
    pub encoding: String,
    /// Whether anybody may clone it.
    pub is_template: bool,
    /// Whether it takes sessions.
    pub allows_connections: bool,
    /// Who sorts: `c` libc, `i` ICU, `b` the server itself (17 and later).
    pub locale_provider: char,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// The provider's locale, if it has one of its own.
    pub locale: Option<String>,
    /// The collation version the database was made with; `None` if unversioned, and before 15.
    pub collation_version: Option<String>,
    /// The version the provider has on this machine now. Another one than the recorded means that
    /// text indexes may be out of order. On 14, which records none for databases, libc's version.
    pub collation_version_actual: Option<String>,
}

/// A relation with storage, and its file number at the moment of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Its oid, which rewriting does not change.
    pub oid: Oid,
    /// The number in its files' names, which rewriting changes.
    pub filenode: Oid,
    /// The tablespace its files are in, resolved: never 0.
    pub tablespace: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `r` table, `i` index, `S` sequence, `t` TOAST table, `m` materialised view
    /// (`pg_class.relkind`).
    pub kind: char,
    /// `p` permanent, `u` unlogged, `t` temporary (`pg_class.relpersistence`).
    pub persistence: char,
    /// Whether it belongs to all databases: its files are in `global`.
    pub shared: bool,
    /// The table it belongs to: of an index, or of a TOAST table and its index.
    pub owning_table: Option<Oid>,
    /// Rows, as the planner believes; -1 if it never looked.
    pub estimated_rows: i64,
}

/// An extension installed in a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its schema.
    pub schema: String,
}

/// A collation that has a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collation {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `c` libc, `i` ICU, `b` built in.
    pub provider: char,
    /// The version when it was made.
    pub version: String,
    /// The version on this machine now.
    pub version_actual: Option<String>,
}

/// A transaction prepared for two-phase commit; it holds its locks over restarts and restores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedTransaction {
    /// Its transaction id.
    pub xid: Xid,
    /// The name its coordinator gave it.
    pub gid: String,
    /// When it was prepared.
    pub prepared: Timestamp,
    /// Who prepared it.
    pub owner: String,
    /// In which database.
    pub database: String,
}

impl Client {
    /// All tablespaces, by oid.
    ///
    /// # Errors
    /// As [`Client::query_text`].
    pub async fn tablespaces(&self) -> Result<Vec<Tablespace>, Error> {
        let sql = "SELECT oid, spcname, pg_catalog.pg_get_userbyid(spcowner) AS owner,
                pg_catalog.pg_tablespace_location(oid) AS location
            FROM pg_catalog.pg_tablespace ORDER BY oid";
        self.list("list tablespaces", sql, |row| {
            // An in-place tablespace answers with a path relative to the data directory.
            let location = row.text("location")?;
            Ok(Tablespace {
                oid: row.oid("oid")?,
                name: row.string("spcname")?,
                owner: row.string("owner")?,
                location: location.starts_with('/').then(|| PathBuf::from(location)),
            })
        })
        .await
    }

    /// All databases, by oid; also those that take no sessions.
    ///
    /// # Errors
    /// As [`Client::query_text`].
    pub async fn databases(&self) -> Result<Vec<Database>, Error> {
        let (locale, recorded, actual) = match self.major().await?.get() {
            ..=14 => ("NULL", "NULL", LIBC_VERSION_14),
            15 | 16 => ("daticulocale", "datcollversion", DATABASE_VERSION),
            _ => ("datlocale", "datcollversion", DATABASE_VERSION),
        };
        let provider = if locale == "NULL" { "'c'" } else { "datlocprovider" };
        let sql = format!(
            "SELECT oid, datname, pg_catalog.pg_get_userbyid(datdba) AS owner, dattablespace,
                pg_catalog.pg_encoding_to_char(encoding) AS encoding, datistemplate, datallowconn,
                datcollate, datctype, {provider} AS provider, {locale} AS locale,
                {recorded} AS recorded, {actual} AS actual
            FROM pg_catalog.pg_database ORDER BY oid"
        );
        self.list("list databases", &sql, |row| {
            Ok(Database {
                oid: row.oid("oid")?,
                name: row.string("datname")?,
                owner: row.string("owner")?,
                tablespace: row.oid("dattablespace")?,
                encoding: row.string("encoding")?,
                is_template: row.bool("datistemplate")?,
                allows_connections: row.bool("datallowconn")?,
                locale_provider: row.parse("provider")?,
                collate: row.string("datcollate")?,
                ctype: row.string("datctype")?,
                locale: row.opt_string("locale")?,
                collation_version: row.opt_string("recorded")?,
                collation_version_actual: row.opt_string("actual")?,
            })
        })
        .await
    }

    /// Every relation with files of `database`, shared ones included, with the file number it has
    /// now; mapped catalogs too. Opens a session of its own to that database.
    ///
    /// # Errors
    /// As [`Client::connect`] ([`Error::Refused`] for a database that takes no sessions) and
    /// [`Client::query_text`].
    ///
    /// PostgreSQL: `pg_relation_filenode`, src/backend/utils/adt/dbsize.c.
    pub async fn relation_names(&self, database: &str) -> Result<Vec<Relation>, Error> {
        let sql = "SELECT c.oid, f.filenode, c.relkind, c.relpersistence, c.relisshared,
                CASE WHEN c.reltablespace <> 0 THEN c.reltablespace ELSE d.dattablespace
                END AS tablespace,
                n.nspname, c.relname, c.reltuples::pg_catalog.int8 AS rows,
                COALESCE(t.oid, CASE WHEN i.indrelid IS NOT NULL THEN i.indrelid END) AS owning
            FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
            CROSS JOIN LATERAL pg_catalog.pg_relation_filenode(c.oid) AS f(filenode)
            LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
            LEFT JOIN pg_catalog.pg_class t
                ON t.reltoastrelid = COALESCE(i.indrelid, c.oid) AND t.reltoastrelid <> 0
            WHERE f.filenode IS NOT NULL ORDER BY c.oid";
        let client = self.to_database(database).await?;
        client
            .list("list relations", sql, |row| {
                Ok(Relation {
                    oid: row.oid("oid")?,
                    filenode: row.oid("filenode")?,
                    tablespace: row.oid("tablespace")?,
                    schema: row.string("nspname")?,
                    name: row.string("relname")?,
                    kind: row.parse("relkind")?,
                    persistence: row.parse("relpersistence")?,
                    shared: row.bool("relisshared")?,
                    owning_table: row.opt_parse("owning")?.map(Oid::new),
                    estimated_rows: row.parse("rows")?,
                })
            })
            .await
    }

    /// The extensions of `database`. Opens a session of its own.
    ///
    /// # Errors
    /// As [`Client::relation_names`].
    pub async fn extensions(&self, database: &str) -> Result<Vec<Extension>, Error> {
        let sql = "SELECT e.extname, e.extversion, n.nspname
            FROM pg_catalog.pg_extension e
            JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY e.extname";
        let client = self.to_database(database).await?;
        client
            .list("list extensions", sql, |row| {
                Ok(Extension {
                    name: row.string("extname")?,
                    version: row.string("extversion")?,
                    schema: row.string("nspname")?,
                })
            })
            .await
    }

    /// The collations of `database` that have a version. Opens a session of its own.
    ///
    /// # Errors
    /// As [`Client::relation_names`].
    pub async fn collations(&self, database: &str) -> Result<Vec<Collation>, Error> {
        let sql = "SELECT n.nspname, c.collname, c.collprovider, c.collversion,
                pg_catalog.pg_collation_actual_version(c.oid) AS actual
            FROM pg_catalog.pg_collation c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
            WHERE c.collversion IS NOT NULL ORDER BY 1, 2";
        let client = self.to_database(database).await?;
        client
            .list("list collations", sql, |row| {
                Ok(Collation {
                    schema: row.string("nspname")?,
                    name: row.string("collname")?,
                    provider: row.parse("collprovider")?,
                    version: row.string("collversion")?,
                    version_actual: row.opt_string("actual")?,
                })
            })
            .await
    }

    /// Transactions prepared and not finished, oldest first.
    ///
    /// # Errors
    /// As [`Client::query_text`].
    pub async fn prepared_transactions(&self) -> Result<Vec<PreparedTransaction>, Error> {
        let sql =
            "SELECT transaction, gid, extract(epoch FROM prepared) AS prepared, owner, database
            FROM pg_catalog.pg_prepared_xacts x ORDER BY x.prepared, pg_catalog.age(x.transaction) DESC";
        self.list("list prepared transactions", sql, |row| {
            let prepared = row.opt_time("prepared")?;
            Ok(PreparedTransaction {
                xid: Xid::new(row.parse("transaction")?),
                gid: row.string("gid")?,
                prepared: prepared.ok_or_else(|| row.unexpected("prepared", "a time", "NULL"))?,
                owner: row.string("owner")?,
                database: row.string("database")?,
            })
        })
        .await
    }

    /// Configuration files that lie outside the data directory and so are in no copy of it: the
    /// three main files and everything they include, sorted. Needs a superuser.
    ///
    /// # Errors
    /// As [`Client::query_text`].
    pub async fn config_files_outside(&self) -> Result<Vec<PathBuf>, Error> {
        let hba_includes = if self.major().await?.get() >= 16 {
            "UNION SELECT file_name FROM pg_catalog.pg_hba_file_rules
             UNION SELECT file_name FROM pg_catalog.pg_ident_file_mappings"
        } else {
            "" // before 16 neither file can include another
        };
        let sql = format!(
            "SELECT DISTINCT path FROM (
                SELECT setting FROM pg_catalog.pg_settings
                    WHERE name IN ('config_file', 'hba_file', 'ident_file')
                UNION SELECT sourcefile FROM pg_catalog.pg_file_settings {hba_includes}
            ) AS files(path)
            WHERE path IS NOT NULL AND NOT pg_catalog.starts_with(
                path, pg_catalog.current_setting('data_directory') || '/')
            ORDER BY path"
        );
        let verb = "list configuration files";
        self.list(verb, &sql, |row| row.string("path").map(PathBuf::from)).await
    }

    /// A session like this one to another database of the same server.
    pub(crate) async fn to_database(&self, database: &str) -> Result<Client, Error> {
        Client::connect(&self.options().with_database(database)).await
    }
}

const DATABASE_VERSION: &str = "pg_catalog.pg_database_collation_actual_version(oid)";

/// 14 has no version per database, but libc's can be seen at any collation of libc's.
const LIBC_VERSION_14: &str = "(SELECT max(pg_catalog.pg_collation_actual_version(c.oid))
    FROM pg_catalog.pg_collation c
    WHERE c.collprovider = 'c' AND c.collcollate NOT IN ('C', 'POSIX'))";
