//! Structural check of a database with the extension `amcheck`.

use std::time::Duration;

use pg::Oid;

use crate::rows::{Row, identifier};
use crate::{Client, Error};

/// What a check of one database saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AmcheckReport {
    /// Heap and TOAST tables checked, materialised views included.
    pub tables: usize,
    /// B-tree indexes checked.
    pub indexes: usize,
    /// What is wrong; empty if all is well.
    pub findings: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The relation, with its schema.
    pub relation: String,
    /// PostgreSQL's words.
    pub message: String,
}

/// The schema our copy of the extension lives in while the check runs; nobody else sees it.
const SCHEMA: &str = "rollforward_amcheck";

/// More findings than this about one table say nothing new.
const FINDINGS_PER_TABLE_MAX: usize = 100;

const VERB: &str = "check relations";

impl Client {
    /// Checks every table (`verify_heapam`) and every valid B-tree index (`bt_index_check`, with
    /// each heap tuple looked up) of `database`. Opens a session of its own. If the extension is
    /// not installed there, it is created in a transaction that is rolled back at the end: nothing
    /// stays, but for the length of the check vacuum cannot clean up behind that transaction, and
    /// a server in recovery cannot do it at all. Each relation gets `deadline`.
    ///
    /// # Errors
    /// [`Error::Extension`] if the server has no amcheck; otherwise as [`Client::connect`] and
    /// [`Client::query_text`]. Damage is no error but a finding.
    ///
    /// PostgreSQL: contrib/amcheck, src/bin/pg_amcheck/pg_amcheck.c.
    pub async fn amcheck(
        &self,
        database: &str,
        deadline: Duration,
    ) -> Result<AmcheckReport, Error> {
        let session = self.to_database(database).await?;
        // Dropping the session rolls back, should anything below fail.
        session.begin().await?;
        let schema = session.amcheck_schema(database).await?;
        let relations = session.list(VERB, RELATIONS, Target::read).await?;
        let mut report = AmcheckReport::default();
        for target in &relations {
            let found = match target.index {
                true => session.check_index(&schema, target, deadline).await?,
                false => session.check_table(&schema, target, deadline).await?,
            };
            match target.index {
                true => report.indexes += 1,
                false => report.tables += 1,
            }
            report.findings.extend(
                found.into_iter().map(|message| Finding { relation: target.name.clone(), message }),
            );
        }
        session.plain("ROLLBACK").await?;
        Ok(report)
    }

    async fn begin(&self) -> Result<(), Error> {
        self.plain("BEGIN; SET LOCAL search_path = ''; SET LOCAL statement_timeout = 0").await
    }

    async fn plain(&self, sql: &str) -> Result<(), Error> {
        self.simple(VERB, sql, crate::client::CALL_DEADLINE).await.map(drop)
    }

    /// The schema of the extension's functions, which are created if they are not there.
    async fn amcheck_schema(&self, database: &str) -> Result<String, Error> {
        let sql = "SELECT (SELECT n.nspname FROM pg_catalog.pg_extension e
                JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
                WHERE e.extname = 'amcheck') AS schema,
            EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'amcheck')
                AS available";
        let (installed, available) = self
            .fact(VERB, sql, |row| Ok((row.opt_string("schema")?, row.bool("available")?)))
            .await?;
        match installed {
            Some(schema) => Ok(schema),
            None if available => {
                let create =
                    format!("CREATE SCHEMA {SCHEMA}; CREATE EXTENSION amcheck SCHEMA {SCHEMA}");
                self.plain(&create).await?;
                Ok(SCHEMA.to_owned())
            }
            None => Err(Error::Extension { extension: "amcheck", database: database.to_owned() }),
        }
    }

    async fn check_index(
        &self,
        schema: &str,
        target: &Target,
        deadline: Duration,
    ) -> Result<Vec<String>, Error> {
        let sql = format!("SELECT {}.bt_index_check({}, true)", identifier(schema), target.oid);
        Ok(match self.guarded(target.oid, &sql, deadline).await? {
            Ok(_) => Vec::new(),
            Err(message) => vec![message],
        })
    }

    async fn check_table(
        &self,
        schema: &str,
        target: &Target,
        deadline: Duration,
    ) -> Result<Vec<String>, Error> {
        let sql = format!(
            "SELECT blkno, offnum, attnum, msg FROM {}.verify_heapam({}, check_toast => {})
            LIMIT {FINDINGS_PER_TABLE_MAX}",
            identifier(schema),
            target.oid,
            !target.toast
        );
        Ok(match self.guarded(target.oid, &sql, deadline).await? {
            Ok(messages) => messages,
            Err(message) => vec![message],
        })
    }

    /// Runs one check under a savepoint: amcheck reports a damaged index as an error. The outer
    /// error is that of the session.
    async fn guarded(
        &self,
        oid: Oid,
        sql: &str,
        deadline: Duration,
    ) -> Result<Result<Vec<String>, String>, Error> {
        self.plain("SAVEPOINT one").await?;
        let found = match self.simple(VERB, sql, deadline).await {
            Ok(rows) => {
                Ok(rows.iter().map(|row| message(Row::new(row, VERB))).collect::<Result<_, _>>()?)
            }
            Err(Error::Sql { message, sqlstate, .. }) if is_finding(&sqlstate) => Err(message),
            Err(other) => return Err(other),
        };
        self.plain("ROLLBACK TO SAVEPOINT one; RELEASE SAVEPOINT one").await?;
        if found.is_err() && !self.exists(oid).await? {
            return Ok(Ok(Vec::new())); // dropped meanwhile
        }
        Ok(found)
    }

    async fn exists(&self, oid: Oid) -> Result<bool, Error> {
        let sql =
            format!("SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = {oid}) AS there");
        self.fact(VERB, &sql, |row| row.bool("there")).await
    }
}

/// Whether an error says something about the relation: damage (class XX and what reading damaged
/// files ends in), or an index expression that fails. Not if the server had no means (class 53),
/// was told to stop (57), or denied the right (42501).
fn is_finding(sqlstate: &str) -> bool {
    !(sqlstate.starts_with("53") || sqlstate.starts_with("57") || sqlstate == "42501")
}

fn message(row: Row<'_>) -> Result<String, Error> {
    let Ok(message) = row.text("msg") else { return Ok(String::new()) };
    let place = [("block", "blkno"), ("item", "offnum"), ("attribute", "attnum")];
    let mut text = String::new();
    for (word, column) in place {
        if let Some(number) = row.opt_text(column)? {
            text += &format!("{word} {number}, ");
        }
    }
    Ok(text.trim_end_matches(", ").to_owned() + ": " + message)
}

/// A relation to check.
struct Target {
    oid: Oid,
    name: String,
    index: bool,
    toast: bool,
}

impl Target {
    fn read(row: Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            oid: row.oid("oid")?,
            name: row.string("name")?,
            index: row.text("relkind")? == "i",
            toast: row.text("relkind")? == "t",
        })
    }
}

/// Tables before their indexes; temporary relations of other sessions cannot be read.
const RELATIONS: &str = "SELECT c.oid, c.relkind,
        pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_am a ON a.oid = c.relam
    LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
    WHERE c.relpersistence <> 't' AND (
        c.relkind IN ('r', 'm', 't') AND a.amname = 'heap'
        OR c.relkind = 'i' AND a.amname = 'btree' AND i.indisvalid AND i.indisready)
    ORDER BY c.relkind = 'i', c.oid";
