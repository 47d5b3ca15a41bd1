//! The server and the database that a dump is restored into.

use std::collections::BTreeSet;
use std::time::Duration;

use pgclient::globals::{RoleStatements, statements_of_roles};
use pgclient::{Client, ConnectOptions, identifier, literal};
use repository::dump::{DumpRoot, DumpedDatabase, GlobalsHeld};

use super::error::DumpError;
use super::restore::{RestoreOptions, roles};

/// Making a database copies a template; everything else answers at once.
const DEADLINE: Duration = Duration::from_secs(300);

/// Begins the comment of a database whose restore is under way.
const MARK: &str = "rollforward: an unfinished restore of dump ";

/// Names of what a database holds that an error shows.
const NAMES_SHOWN_MAX: usize = 3;

/// What a database holds that `CREATE DATABASE` does not make and no extension brought.
const CONTENT_SQL: &str = "SET LOCAL search_path = '';
    SELECT 'table or view ' || n.nspname || '.' || c.relname FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
            AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_depend e WHERE e.objid = c.oid AND e.deptype = 'e'
                    AND e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass)
    UNION ALL SELECT 'function ' || n.nspname || '.' || p.proname FROM pg_catalog.pg_proc p
        JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_depend e WHERE e.objid = p.oid AND e.deptype = 'e'
                AND e.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass)
    UNION ALL SELECT 'schema ' || n.nspname FROM pg_catalog.pg_namespace n
        WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'public')
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.objid = n.oid
                AND e.deptype = 'e'
                AND e.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass)
    UNION ALL SELECT 'large object ' || oid::pg_catalog.text
        FROM pg_catalog.pg_largeobject_metadata
    ORDER BY 1";

/// Roles of a server, also those that PostgreSQL brings.
const ROLES_SQL: &str = "SELECT rolname FROM pg_catalog.pg_roles";

/// A server that was looked at.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) client: Client,
    pub(super) major: u32,
}

impl Target {
    pub(super) async fn connect(options: &ConnectOptions) -> Result<Self, DumpError> {
        let client = Client::connect(options).await?;
        let major = client.major().await?.get();
        Ok(Self { client, major })
    }

    /// Refuses a server that cannot hold the dump, before anything is touched. Returns the roles
    /// that `--globals` is to make.
    pub(super) async fn check(
        &self,
        root: &DumpRoot,
        database: &DumpedDatabase,
        options: &RestoreOptions,
    ) -> Result<Vec<String>, DumpError> {
        let label = root.summary.label.to_string();
        let dump = root.summary.server_version / 10_000;
        if self.major < dump {
            return Err(DumpError::OlderTarget { label, dump, seen: self.major });
        }
        if options.globals && root.summary.globals == GlobalsHeld::No {
            let lacks = "holds no roles, and --globals asks for them".to_owned();
            let hint = "make the roles by hand and leave --globals out".to_owned();
            return Err(DumpError::Lacks { label, lacks, hint });
        }
        let missing = |what, names: Vec<String>, hint: String| DumpError::Missing {
            label: label.clone(),
            what,
            names: quoted(&names),
            hint,
        };
        if !options.is_selection() {
            let sql = "SELECT name FROM pg_catalog.pg_available_extensions";
            let lacking = self.lacking(sql, &database.extensions).await?;
            if !lacking.is_empty() {
                let hint = "install their packages on the target's host, or choose another target";
                return Err(missing("extensions", lacking, hint.into()));
            }
        }
        if !options.no_tablespaces {
            let sql = "SELECT spcname FROM pg_catalog.pg_tablespace";
            let lacking = self.lacking(sql, &database.tablespaces).await?;
            if !lacking.is_empty() {
                let hint = "CREATE TABLESPACE them there, or put everything into the default: \
                    --no-tablespaces";
                return Err(missing("tablespaces", lacking, hint.into()));
            }
        }
        let mut needed = if options.is_selection() { Vec::new() } else { database.named.clone() };
        if !options.no_owner {
            needed.extend(database.owners.iter().cloned());
        }
        if !options.no_privileges {
            needed.extend(database.grantees.iter().cloned());
        }
        // Those that stand in are made, and those that take their place must be there.
        let map = &options.role_map;
        roles::check(&self.client, &label, map, &needed).await?;
        needed.retain(|role| map.iter().all(|pair| pair.old != *role));
        let lacking = self.lacking(ROLES_SQL, &needed).await?;
        if !lacking.is_empty() && !options.globals {
            let first = match root.summary.globals {
                GlobalsHeld::No => "CREATE ROLE them there",
                _ => "--globals makes them from the dump",
            };
            let is_policy = lacking.iter().any(|role| database.named.contains(role));
            let hint = match is_policy {
                true => format!("{first}; policies or settings name some of them"),
                false => format!("{first}; or without owners, rights: --no-owner --no-privileges"),
            };
            return Err(missing("roles", lacking, hint));
        }
        Ok(lacking)
    }

    async fn lacking(&self, sql: &str, needed: &[String]) -> Result<Vec<String>, DumpError> {
        let there: BTreeSet<String> =
            self.client.query_text(sql, DEADLINE).await?.into_iter().flatten().flatten().collect();
        let needed: BTreeSet<&String> = needed.iter().collect();
        Ok(needed.into_iter().filter(|name| !there.contains(*name)).cloned().collect())
    }

    pub(super) async fn has_database(&self, name: &str) -> Result<bool, DumpError> {
        let sql = format!("SELECT 1 FROM pg_catalog.pg_database WHERE datname = {}", literal(name));
        Ok(!self.client.query_text(&sql, DEADLINE).await?.is_empty())
    }

    /// Makes the roles that are missing, all or none, and no other: one that is there keeps its
    /// password. Returns what was left out.
    pub(super) async fn make_roles(
        &self,
        label: &str,
        sql: &str,
        roles: &[String],
    ) -> Result<Vec<String>, DumpError> {
        let there = self.client.query_text(ROLES_SQL, DEADLINE).await?;
        let there: Vec<String> = there.into_iter().flatten().flatten().collect();
        let RoleStatements { sql, left_out } = statements_of_roles(sql, roles, &there);
        self.client.query_text("BEGIN", DEADLINE).await?;
        let mut made = Ok(());
        for statement in &sql {
            if made.is_ok() {
                made = self.client.query_text(statement.expose(), DEADLINE).await.map(drop);
            }
        }
        // A role without its memberships would be taken for whole by the next try.
        let end = if made.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = self.client.query_text(end, DEADLINE).await;
        made?;
        ended?;
        // What the dump needs and its globals do not know would be missed only at the end.
        let lacking = self.lacking(ROLES_SQL, roles).await?;
        match lacking.first() {
            None => Ok(left_out),
            Some(role) => Err(DumpError::Lacks {
                label: label.to_owned(),
                lacks: format!("has no role '{role}' among its globals"),
                hint: format!("CREATE ROLE {} there, and repeat", identifier(role)),
            }),
        }
    }

    /// Makes the database as it was, from the empty template.
    pub(super) async fn create_database(
        &self,
        name: &str,
        database: &DumpedDatabase,
        with_owner: bool,
    ) -> Result<(), DumpError> {
        let mut sql = format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING {}",
            identifier(name),
            literal(&database.encoding)
        );
        if self.major >= 15 {
            sql += match database.locale_provider.as_str() {
                "i" => " LOCALE_PROVIDER icu",
                "b" => " LOCALE_PROVIDER builtin",
                _ => " LOCALE_PROVIDER libc",
            };
        }
        let option = match database.locale_provider.as_str() {
            "i" => Some("ICU_LOCALE"),
            "b" => Some("BUILTIN_LOCALE"),
            _ => None,
        };
        if let (Some(option), Some(locale)) = (option, &database.locale) {
            sql += &format!(" {option} {}", literal(locale));
        }
        sql += &format!(
            " LC_COLLATE {} LC_CTYPE {}",
            literal(&database.collate),
            literal(&database.ctype)
        );
        if with_owner {
            sql += &format!(" OWNER {}", identifier(&database.owner));
        }
        self.client.query_text(&sql, DEADLINE).await?;
        Ok(())
    }
}

/// Refuses a database that holds something, or that an earlier restore left.
pub(super) async fn check_empty(
    client: &Client,
    name: &str,
    may_hold_something: bool,
) -> Result<Option<String>, DumpError> {
    let comment = client.database_comment().await?;
    if let Some(mark) = comment.as_deref().and_then(|comment| comment.strip_prefix(MARK)) {
        let mark = format!("an unfinished restore of dump {mark}");
        return Err(DumpError::Unfinished { database: name.to_owned(), mark });
    }
    if !may_hold_something {
        let names = contents(client).await?;
        if !names.is_empty() {
            let shown = names.get(..NAMES_SHOWN_MAX).unwrap_or(&names).join("', '");
            return Err(DumpError::Database {
                database: name.to_owned(),
                why: format!("is not empty: it holds {} objects, '{shown}'", names.len()),
                hint: "restore into a new one: --create --database NAME; beside what is there: \
                    --into-existing"
                    .into(),
            });
        }
    }
    Ok(comment)
}

/// What a database holds, by kind and name.
pub(super) async fn contents(client: &Client) -> Result<Vec<String>, DumpError> {
    let found = client.query_text(CONTENT_SQL, DEADLINE).await?;
    Ok(found.into_iter().flatten().flatten().collect())
}

/// Marks a database until its restore has come to its end.
pub(super) async fn mark(
    client: &Client,
    name: &str,
    label: &str,
    begun: jiff::Timestamp,
    then: Option<&str>,
) -> Result<(), DumpError> {
    let begun = begun.strftime("%Y-%m-%dT%H:%M:%SZ");
    let then = then.map_or_else(String::new, |then| format!("; then: {then}"));
    let text = format!("{MARK}'{label}' that began at {begun}{then}");
    Ok(client.comment_database(name, Some(&text)).await?)
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}
