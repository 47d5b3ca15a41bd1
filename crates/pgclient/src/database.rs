//! What belongs to one database and is in none of its tables: its rights, settings, roles.

use crate::rows::{Row, identifier, literal, setting_name, setting_value};
use crate::{Client, Error};

/// Objects that came with an extension are made by it again, whoever owned them.
const NOT_OF_EXTENSION: &str = "NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
    WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e')";

/// A table that is worth a stream of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSize {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Bytes of its heap and its TOAST table.
    pub size: u64,
}

/// Roles that a database's objects need, predefined ones left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NeededRoles {
    /// They own something.
    pub owners: Vec<String>,
    /// Something was granted to them.
    pub grantees: Vec<String>,
    /// A policy or a setting is about them.
    pub named: Vec<String>,
}

/// What belongs to a database and is in none of its tables, whatever it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Belongings {
    /// Its owner.
    pub owner: String,
    /// How many sessions it takes; -1: any number.
    pub session_limit: i32,
    /// Its comment.
    pub comment: Option<String>,
    /// Who has a right on it.
    pub grantees: Vec<String>,
    /// The rights, those that go without saying included, as `GRANT`.
    pub rights: Vec<String>,
    /// Roles that have settings in it.
    pub roles: Vec<String>,
    /// Its settings, as `ALTER`.
    pub settings: Vec<String>,
}

impl Belongings {
    /// Statements after which a database that has `there` has these; `name` is its quoted name.
    #[must_use]
    pub fn instead_of(&self, there: &Self, name: &str) -> Vec<String> {
        let comment = self.comment.as_deref().map_or_else(|| "NULL".to_owned(), literal);
        let mut statements = vec![
            format!("ALTER DATABASE {name} OWNER TO {}", identifier(&self.owner)),
            format!("ALTER DATABASE {name} CONNECTION LIMIT {}", self.session_limit),
            format!("COMMENT ON DATABASE {name} IS {comment}"),
        ];
        let owners = [&there.owner, &self.owner].into_iter();
        let mut grantees: Vec<&String> = there.grantees.iter().chain(owners).collect();
        grantees.sort();
        grantees.dedup();
        let revoke = |whose: &str| format!("REVOKE ALL ON DATABASE {name} FROM {whose}");
        statements.push(revoke("PUBLIC"));
        statements.extend(grantees.into_iter().map(|grantee| revoke(&identifier(grantee))));
        statements.extend(self.rights.iter().cloned());
        statements.push(format!("ALTER DATABASE {name} RESET ALL"));
        let reset =
            |role: &String| format!("ALTER ROLE {} IN DATABASE {name} RESET ALL", identifier(role));
        statements.extend(there.roles.iter().map(reset));
        statements.extend(self.settings.iter().cloned());
        statements
    }
}

impl Client {
    /// Plain tables of the session's database with at least `size_min` bytes, the largest first and
    /// at most `limit`. Those of extensions are left out: `pg_dump` decides what of them it takes.
    ///
    /// # Errors
    /// As [`Client::query_text`].
    pub async fn large_tables(&self, size_min: u64, limit: u32) -> Result<Vec<TableSize>, Error> {
        let sql = format!(
            "SELECT * FROM (SELECT n.nspname, c.relname, pg_catalog.pg_table_size(c.oid) AS size
                FROM pg_catalog.pg_class c
                    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
                    LATERAL (SELECT 'pg_catalog.pg_class'::pg_catalog.regclass AS classid,
                        c.oid AS objid) d
                WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
                    AND n.nspname <> 'information_schema' AND {NOT_OF_EXTENSION}) t
            WHERE size >= {size_min} ORDER BY size DESC, nspname, relname LIMIT {limit}"
        );
        self.list("measure tables", &sql, |row| {
            Ok(TableSize {
                schema: row.string("nspname")?,
                name: row.string("relname")?,
                size: row.parse("size")?,
            })
        })
        .await
    }

    /// Roles that the session's database needs to be restored as it is.
    ///
    /// # Errors
    /// As [`Client::query_text`].
    ///
    /// PostgreSQL: `pg_shdepend`, which leaves out the bootstrap superuser (oid 10): it is pinned.
    pub async fn needed_roles(&self) -> Result<NeededRoles, Error> {
        let here = "(SELECT oid FROM pg_catalog.pg_database
            WHERE datname = pg_catalog.current_database())";
        let sql = format!(
            "SELECT DISTINCT r.rolname, d.deptype::pg_catalog.text AS how FROM pg_catalog.pg_shdepend d
                JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid
            WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
                AND (d.dbid = {here} OR (d.dbid = 0 AND d.objid = {here}
                    AND d.classid = 'pg_catalog.pg_database'::pg_catalog.regclass))
                AND d.deptype IN ('o', 'a', 'r') AND r.rolname !~ '^pg_' AND {NOT_OF_EXTENSION}
            UNION SELECT r.rolname, 'r' FROM pg_catalog.pg_db_role_setting s
                JOIN pg_catalog.pg_roles r ON r.oid = s.setrole WHERE s.setdatabase = {here}
            UNION SELECT r.rolname, 'o' FROM pg_catalog.pg_roles r WHERE r.oid = 10 AND EXISTS (
                SELECT FROM (SELECT 'pg_catalog.pg_class'::pg_catalog.regclass AS classid,
                        oid AS objid FROM pg_catalog.pg_class
                    WHERE relowner = 10 AND oid >= 16384
                        AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
                    UNION ALL SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, oid
                        FROM pg_catalog.pg_proc WHERE proowner = 10 AND oid >= 16384
                    UNION ALL SELECT 'pg_catalog.pg_namespace'::pg_catalog.regclass, oid
                        FROM pg_catalog.pg_namespace WHERE nspowner = 10 AND oid >= 16384
                            AND nspname !~ '^pg_') d
                WHERE {NOT_OF_EXTENSION})
            ORDER BY 1, 2"
        );
        let read = |row: Row<'_>| Ok((row.string("rolname")?, row.string("how")?));
        let mut needed = NeededRoles::default();
        for (role, how) in self.list("list the roles of a database", &sql, read).await? {
            match how.as_str() {
                "o" => needed.owners.push(role),
                "a" => needed.grantees.push(role),
                _ => needed.named.push(role),
            }
        }
        Ok(needed)
    }

    /// Tablespaces other than the default that objects of the session's database lie in.
    ///
    /// # Errors
    /// As [`Client::query_text`].
    pub async fn used_tablespaces(&self) -> Result<Vec<String>, Error> {
        let sql = "SELECT DISTINCT t.spcname FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace
            WHERE t.spcname !~ '^pg_' ORDER BY 1";
        self.list("list the tablespaces of a database", sql, |row| row.string("spcname")).await
    }

    /// The comment of the session's database.
    ///
    /// # Errors
    /// As [`Client::query_text`].
    pub async fn database_comment(&self) -> Result<Option<String>, Error> {
        let sql = "SELECT pg_catalog.shobj_description(oid, 'pg_database') AS comment
            FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()";
        self.fact("read a database's comment", sql, |row| row.opt_string("comment")).await
    }

    /// Rights on the session's database and its settings as SQL; `name` stands in place of its
    /// quoted name.
    ///
    /// # Errors
    /// As [`Client::query_text`].
    ///
    /// PostgreSQL: `dumpDatabase`, src/bin/pg_dump/pg_dump.c.
    pub async fn database_statements(&self, name: &str) -> Result<Vec<String>, Error> {
        let sql = "SELECT a.privilege_type, a.is_grantable,
                CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END AS grantee
            FROM pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) a
            WHERE d.datname = pg_catalog.current_database() ORDER BY 3, 1";
        let grants = self
            .list("read rights on a database", sql, |row| {
                crate::globals::grant(row, "DATABASE", name)
            })
            .await?;
        let mut statements = Vec::new();
        if !grants.is_empty() {
            statements.push(format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"));
        }
        statements.extend(grants);
        let here = "(SELECT oid FROM pg_catalog.pg_database
            WHERE datname = pg_catalog.current_database())";
        let settings = self.settings_of(here, name).await?;
        statements.extend(settings.into_iter().map(|(_, setting)| setting));
        Ok(statements)
    }

    /// What belongs to a database of the session's server, which need not take sessions; `name`
    /// stands in place of its quoted name. `None`: there is no such database.
    ///
    /// # Errors
    /// As [`Client::query_text`].
    pub async fn belongings(&self, oid: u32, name: &str) -> Result<Option<Belongings>, Error> {
        let sql = format!(
            "SELECT pg_catalog.pg_get_userbyid(datdba) AS owner, datconnlimit,
                pg_catalog.shobj_description(oid, 'pg_database') AS comment
            FROM pg_catalog.pg_database WHERE oid = {oid}"
        );
        let read = |row: Row<'_>| {
            Ok((row.string("owner")?, row.parse("datconnlimit")?, row.opt_string("comment")?))
        };
        let found = self.list("read what belongs to a database", &sql, read).await?;
        let Some((owner, session_limit, comment)) = found.into_iter().next() else {
            return Ok(None);
        };
        let sql = format!(
            "SELECT a.privilege_type, a.is_grantable,
                CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END AS grantee
            FROM pg_catalog.pg_database d, pg_catalog.aclexplode(
                COALESCE(d.datacl, pg_catalog.acldefault('d', d.datdba))) a
            WHERE d.oid = {oid} ORDER BY 3, 1"
        );
        let read = |row: Row<'_>| {
            let right = crate::globals::grant(row, "DATABASE", name)?;
            Ok((row.opt_string("grantee")?, right))
        };
        let rights = self.list("read rights on a database", &sql, read).await?;
        let mut grantees: Vec<String> = rights.iter().filter_map(|(who, _)| who.clone()).collect();
        grantees.dedup();
        let settings = self.settings_of(&oid.to_string(), name).await?;
        let mut roles: Vec<String> = settings.iter().filter_map(|(role, _)| role.clone()).collect();
        roles.dedup();
        Ok(Some(Belongings {
            owner,
            session_limit,
            comment,
            grantees,
            rights: rights.into_iter().map(|(_, right)| right).collect(),
            roles,
            settings: settings.into_iter().map(|(_, setting)| setting).collect(),
        }))
    }

    /// Settings of a database, given as an expression for its oid: whose, and as SQL.
    async fn settings_of(
        &self,
        oid: &str,
        name: &str,
    ) -> Result<Vec<(Option<String>, String)>, Error> {
        let sql = format!(
            "SELECT CASE WHEN s.setrole <> 0 THEN pg_catalog.pg_get_userbyid(s.setrole) END
                AS role, pg_catalog.unnest(s.setconfig) AS config
            FROM pg_catalog.pg_db_role_setting s WHERE s.setdatabase = {oid} ORDER BY 1, 2"
        );
        self.list("read the settings of a database", &sql, |row| {
            let config = row.text("config")?;
            let (setting, value) = config
                .split_once('=')
                .ok_or_else(|| row.unexpected("config", "name=value", config))?;
            let role = row.opt_string("role")?;
            let whose = match &role {
                Some(role) => format!("ROLE {} IN DATABASE {name}", identifier(role)),
                None => format!("DATABASE {name}"),
            };
            let value = setting_value(setting, value);
            Ok((role, format!("ALTER {whose} SET {} TO {value}", setting_name(setting))))
        })
        .await
    }

    /// Sets or removes the comment of a database.
    ///
    /// # Errors
    /// As [`Client::query_text`].
    pub async fn comment_database(&self, name: &str, text: Option<&str>) -> Result<(), Error> {
        let text = text.map_or_else(|| "NULL".to_owned(), literal);
        let sql = format!("COMMENT ON DATABASE {} IS {text}", identifier(name));
        self.facts("mark a database", &sql).await.map(drop)
    }
}
