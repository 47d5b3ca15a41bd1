//! Roles, tablespaces and the rights on settings as SQL: what belongs to no database.
//!
//! PostgreSQL: src/bin/pg_dump/pg_dumpall.c (`-g`).

use std::fmt::Write;

use crate::rows::{Row, identifier, literal, setting_name, setting_value};
use crate::{Client, Error, Secret};

/// The globals of a cluster as SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Globals {
    /// One statement per line or more; holds password hashes.
    pub sql: Secret,
    /// Whether it has the password hashes, which only superusers can read.
    pub with_passwords: bool,
}

/// The oid of the superuser that `initdb` makes. PostgreSQL: `BOOTSTRAP_SUPERUSERID`.
const BOOTSTRAP: u32 = 10;

impl Client {
    /// Roles with their attributes, password hashes, comments, security labels, settings and
    /// memberships; tablespaces with owner, options and rights; rights on settings. To be run by
    /// `psql` as superuser in a cluster of the same or a later major. Roles that exist are altered
    /// to fit; a tablespace that exists is an error. Settings of a role in one database are not in
    /// it: they belong to the database.
    ///
    /// # Errors
    /// As [`Client::query_text`].
    pub async fn globals_sql(&self) -> Result<Globals, Error> {
        let major = self.major().await?.get();
        let with_passwords = self.may_read_passwords().await?;
        let mut sql = String::from("SET client_encoding = 'UTF8';\n");
        sql += "SET standard_conforming_strings = on;\n";
        for part in [
            self.roles(with_passwords).await?,
            self.role_settings().await?,
            self.memberships(major >= 16).await?,
            self.tablespace_statements().await?,
            self.parameter_rights(major >= 15).await?,
            self.labels().await?,
        ] {
            for statement in part {
                sql.push_str(&statement);
                sql.push_str(";\n");
            }
        }
        Ok(Globals { sql: Secret::new(sql), with_passwords })
    }

    async fn may_read_passwords(&self) -> Result<bool, Error> {
        let sql = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT') AS may";
        self.fact("ask for rights", sql, |row| row.bool("may")).await
    }

    async fn roles(&self, with_passwords: bool) -> Result<Vec<String>, Error> {
        let (catalog, password) = if with_passwords {
            ("pg_catalog.pg_authid", "rolpassword")
        } else {
            ("pg_catalog.pg_roles", "NULL")
        };
        let sql = format!(
            "SET LOCAL datestyle = 'ISO'; SELECT rolname, rolsuper, rolinherit, rolcreaterole,
                rolcreatedb, rolcanlogin, rolreplication, rolbypassrls, rolconnlimit,
                {password} AS password, rolvaliduntil::pg_catalog.text AS until,
                pg_catalog.shobj_description(oid, 'pg_authid') AS comment
            FROM {catalog} WHERE rolname !~ '^pg_' ORDER BY rolname"
        );
        let roles = self.list("read roles", &sql, role_statements).await?;
        // All roles first: nothing after this can then name one that is missing.
        let (mut first, mut then) = (Vec::new(), Vec::new());
        for mut statements in roles {
            then.extend(statements.split_off(1));
            first.append(&mut statements);
        }
        first.append(&mut then);
        Ok(first)
    }

    async fn role_settings(&self) -> Result<Vec<String>, Error> {
        let sql = "SELECT CASE WHEN s.setrole <> 0 THEN pg_catalog.pg_get_userbyid(s.setrole) END
                AS role, pg_catalog.unnest(s.setconfig) AS config
            FROM pg_catalog.pg_db_role_setting s WHERE s.setdatabase = 0 ORDER BY 1, 2";
        self.list("read the settings of roles", sql, |row| {
            let config = row.text("config")?;
            let (name, value) = config
                .split_once('=')
                .ok_or_else(|| row.unexpected("config", "name=value", config))?;
            let role = row.opt_text("role")?.map_or_else(|| "ALL".to_owned(), identifier);
            let value = setting_value(name, value);
            Ok(format!("ALTER ROLE {role} SET {} TO {value}", setting_name(name)))
        })
        .await
    }

    async fn memberships(&self, with_grantors: bool) -> Result<Vec<String>, Error> {
        let options = if with_grantors {
            "inherit_option, set_option, grantor"
        } else {
            "NULL AS inherit_option, NULL AS set_option, 10 AS grantor"
        };
        let sql = format!(
            "SELECT roleid, member, pg_catalog.pg_get_userbyid(roleid) AS role,
                pg_catalog.pg_get_userbyid(member) AS to_role,
                pg_catalog.pg_get_userbyid(grantor) AS by_role, admin_option, {options}
            FROM pg_catalog.pg_auth_members
            WHERE roleid IN (SELECT oid FROM pg_catalog.pg_roles)
                AND member IN (SELECT oid FROM pg_catalog.pg_roles WHERE rolname !~ '^pg_')
            ORDER BY 3, 4, 5"
        );
        let grants = self.list("read memberships", &sql, Membership::read).await?;
        Ok(in_order(grants).iter().map(Membership::statement).collect())
    }

    async fn tablespace_statements(&self) -> Result<Vec<String>, Error> {
        let sql = "SELECT spcname, pg_catalog.pg_get_userbyid(spcowner) AS owner,
                pg_catalog.pg_tablespace_location(oid) AS location,
                pg_catalog.array_to_string(spcoptions, ', ') AS options,
                pg_catalog.shobj_description(oid, 'pg_tablespace') AS comment
            FROM pg_catalog.pg_tablespace WHERE spcname !~ '^pg_' ORDER BY oid";
        let mut statements =
            self.list("read tablespaces", sql, tablespace_statements).await?.concat();
        let sql = "SELECT t.spcname AS object, a.privilege_type, a.is_grantable,
                CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END AS grantee
            FROM pg_catalog.pg_tablespace t, pg_catalog.aclexplode(t.spcacl) a
            WHERE t.spcname !~ '^pg_' AND a.grantee <> t.spcowner ORDER BY 1, 4, 2";
        let read = |row: Row<'_>| grant(row, "TABLESPACE", &identifier(row.text("object")?));
        statements.extend(self.list("read rights on tablespaces", sql, read).await?);
        Ok(statements)
    }

    async fn parameter_rights(&self, has_them: bool) -> Result<Vec<String>, Error> {
        if !has_them {
            return Ok(Vec::new());
        }
        let sql = "SELECT p.parname AS object, a.privilege_type, a.is_grantable,
                CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END AS grantee
            FROM pg_catalog.pg_parameter_acl p, pg_catalog.aclexplode(p.paracl) a
            WHERE a.grantee <> 10 ORDER BY 1, 4, 2";
        let read = |row: Row<'_>| grant(row, "PARAMETER", &setting_name(row.text("object")?));
        self.list("read rights on settings", sql, read).await
    }

    async fn labels(&self) -> Result<Vec<String>, Error> {
        let sql = "SELECT provider, label, CASE
                WHEN classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass THEN 'ROLE'
                ELSE 'TABLESPACE' END AS kind, CASE
                WHEN classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass
                THEN pg_catalog.pg_get_userbyid(objoid)
                ELSE (SELECT spcname FROM pg_catalog.pg_tablespace t WHERE t.oid = objoid)
                END AS object
            FROM pg_catalog.pg_shseclabel
            WHERE classoid IN ('pg_catalog.pg_authid'::pg_catalog.regclass,
                'pg_catalog.pg_tablespace'::pg_catalog.regclass) ORDER BY 3, 4, 1";
        self.list("read security labels", sql, |row| {
            Ok(format!(
                "SECURITY LABEL FOR {} ON {} {} IS {}",
                identifier(row.text("provider")?),
                row.text("kind")?,
                identifier(row.text("object")?),
                literal(row.text("label")?)
            ))
        })
        .await
    }
}

/// What makes some of the roles of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleStatements {
    /// To be run in this order, in one transaction.
    pub sql: Vec<Secret>,
    /// Memberships that cannot be made, and of which role that is: whole sentences.
    pub left_out: Vec<String>,
}

/// The statements of `sql` (as [`Client::globals_sql`] writes it) that make the roles `names` and
/// what they are members of; roles that are not named are left alone. A membership of somebody, or
/// granted by somebody, who is neither named nor among those who are `there` is left out.
#[must_use]
pub fn statements_of_roles(sql: &str, names: &[String], there: &[String]) -> RoleStatements {
    let mut found = RoleStatements::default();
    for statement in statements(sql).into_iter().filter(|one| is_of(one, names)) {
        let is_known = |role: &String| names.contains(role) || there.contains(role);
        let missing = is_membership(statement)
            .then(|| quoted_names(statement).into_iter().find(|role| !is_known(role)))
            .flatten();
        match missing {
            None => found.sql.push(Secret::new(statement.into())),
            Some(role) => {
                found
                    .left_out
                    .push(format!("'{statement}' is left out: there is no role '{role}'"));
            }
        }
    }
    found
}

/// Whether a statement makes one of these roles or what it is.
fn is_of(statement: &str, names: &[String]) -> bool {
    names.iter().any(|name| {
        let role = identifier(name);
        statement == create_statement(&role)
            || statement.starts_with(&format!("ALTER ROLE {role} "))
            || statement.starts_with(&format!("COMMENT ON ROLE {role} "))
            || (is_membership(statement)
                && (statement.starts_with(&format!("GRANT {role} TO "))
                    || statement.ends_with(&format!(" TO {role}"))
                    || statement.contains(&format!(" TO {role} "))))
    })
}

fn is_membership(statement: &str) -> bool {
    let is_right = statement.contains(" ON TABLESPACE ") || statement.contains(" ON PARAMETER ");
    statement.starts_with("GRANT ") && !is_right
}

/// The names in double quotes: of a membership the role, its member, and who granted it.
fn quoted_names(statement: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = statement;
    while let Some((_, after)) = rest.split_once('"') {
        let mut name = String::new();
        let mut chars = after.char_indices().peekable();
        let mut end = after.len();
        while let Some((at, c)) = chars.next() {
            if c == '"' && chars.next_if(|(_, next)| *next == '"').is_none() {
                end = at + 1;
                break;
            }
            name.push(c);
        }
        names.push(name);
        rest = after.get(end..).unwrap_or_default();
    }
    names
}

/// Cuts SQL at the semicolons outside of quotes.
fn statements(sql: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut begin, mut quote, mut has_escapes) = (0, None, false);
    let mut before = None;
    let mut chars = sql.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (None, '\'' | '"') => {
                has_escapes = c == '\'' && before == Some('E');
                quote = Some(c);
            }
            (Some(_), '\\') if has_escapes => {
                chars.next();
            }
            // A doubled quote ends one text and begins the next: the same to a search for ';',
            // but for escapes, which go on.
            (Some(open), c) if c == open => quote = None,
            (None, ';') => {
                found.push(sql.get(begin..at).unwrap_or_default().trim());
                begin = at + 1;
            }
            _ => {}
        }
        // Inside an escaped text, what follows its doubled quote has escapes, too.
        before = if quote.is_none() && c == '\'' && has_escapes { Some('E') } else { Some(c) };
    }
    found
}

/// Makes a role that may be there already.
fn create_statement(role: &str) -> String {
    let block = format!("BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object THEN NULL; END");
    format!("DO {}", literal(&block))
}

/// The statement that makes the role, then those that make it what it is.
fn role_statements(row: Row<'_>) -> Result<Vec<String>, Error> {
    let role = identifier(row.text("rolname")?);
    let mut alter = format!("ALTER ROLE {role} WITH");
    for (column, attribute) in [
        ("rolsuper", "SUPERUSER"),
        ("rolinherit", "INHERIT"),
        ("rolcreaterole", "CREATEROLE"),
        ("rolcreatedb", "CREATEDB"),
        ("rolcanlogin", "LOGIN"),
        ("rolreplication", "REPLICATION"),
        ("rolbypassrls", "BYPASSRLS"),
    ] {
        alter += if row.bool(column)? { " " } else { " NO" };
        alter += attribute;
    }
    let limit: i32 = row.parse("rolconnlimit")?;
    let _ = write!(alter, " CONNECTION LIMIT {limit}"); // writing to a String cannot fail
    if let Some(password) = row.opt_text("password")? {
        let _ = write!(alter, " PASSWORD {}", literal(password));
    }
    if let Some(until) = row.opt_text("until")? {
        let _ = write!(alter, " VALID UNTIL {}", literal(until));
    }
    let mut statements = vec![create_statement(&role), alter];
    if let Some(comment) = row.opt_text("comment")? {
        statements.push(format!("COMMENT ON ROLE {role} IS {}", literal(comment)));
    }
    Ok(statements)
}

fn tablespace_statements(row: Row<'_>) -> Result<Vec<String>, Error> {
    let name = identifier(row.text("spcname")?);
    let owner = identifier(row.text("owner")?);
    // An in-place tablespace is made by naming no location.
    let location = row.text("location")?;
    let location = if location.starts_with('/') { literal(location) } else { "''".to_owned() };
    let mut statements =
        vec![format!("CREATE TABLESPACE {name} OWNER {owner} LOCATION {location}")];
    if let Some(options) = row.opt_text("options")?.filter(|options| !options.is_empty()) {
        statements.push(format!("ALTER TABLESPACE {name} SET ({options})"));
    }
    if let Some(comment) = row.opt_text("comment")? {
        statements.push(format!("COMMENT ON TABLESPACE {name} IS {}", literal(comment)));
    }
    Ok(statements)
}

pub(crate) fn grant(row: Row<'_>, kind: &str, object: &str) -> Result<String, Error> {
    let grantee = row.opt_text("grantee")?.map_or_else(|| "PUBLIC".to_owned(), identifier);
    let option = if row.bool("is_grantable")? { " WITH GRANT OPTION" } else { "" };
    let right = row.text("privilege_type")?;
    Ok(format!("GRANT {right} ON {kind} {object} TO {grantee}{option}"))
}

/// One row of `pg_auth_members`.
struct Membership {
    role_oid: u32,
    member_oid: u32,
    grantor_oid: u32,
    role: String,
    member: String,
    grantor: String,
    admin: bool,
    /// INHERIT and SET, which 16 brought.
    options: Option<(bool, bool)>,
}

impl Membership {
    fn read(row: Row<'_>) -> Result<Self, Error> {
        let options = match row.opt_text("inherit_option")? {
            Some(_) => Some((row.bool("inherit_option")?, row.bool("set_option")?)),
            None => None,
        };
        Ok(Self {
            role_oid: row.parse("roleid")?,
            member_oid: row.parse("member")?,
            grantor_oid: row.parse("grantor")?,
            role: row.string("role")?,
            member: row.string("to_role")?,
            grantor: row.string("by_role")?,
            admin: row.bool("admin_option")?,
            options,
        })
    }

    /// Up to 15 the grantor means nothing; what the bootstrap superuser granted, whoever runs this
    /// as superuser grants in its name again.
    fn statement(&self) -> String {
        let mut options = Vec::new();
        if self.admin {
            options.push("ADMIN OPTION".to_owned());
        }
        if let Some((inherit, set)) = self.options {
            options[..].iter_mut().for_each(|admin| *admin = "ADMIN TRUE".into());
            options.push(format!("INHERIT {}", if inherit { "TRUE" } else { "FALSE" }));
            options.push(format!("SET {}", if set { "TRUE" } else { "FALSE" }));
        }
        let mut sql = format!("GRANT {} TO {}", identifier(&self.role), identifier(&self.member));
        if !options.is_empty() {
            let _ = write!(sql, " WITH {}", options.join(", ")); // cannot fail
        }
        if self.grantor_oid != BOOTSTRAP {
            let _ = write!(sql, " GRANTED BY {}", identifier(&self.grantor));
        }
        sql
    }
}

/// A grantor must hold the role with ADMIN before it can grant it on: such grants come later.
fn in_order(mut waiting: Vec<Membership>) -> Vec<Membership> {
    let mut done: Vec<Membership> = Vec::new();
    loop {
        let may = |grant: &Membership| {
            grant.grantor_oid == BOOTSTRAP
                || done.iter().any(|earlier| {
                    earlier.admin
                        && earlier.role_oid == grant.role_oid
                        && earlier.member_oid == grant.grantor_oid
                })
        };
        let (mut ready, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(may);
        if ready.is_empty() {
            // The rest depends on what is not there any more; psql will name it.
            done.extend(later);
            return done;
        }
        done.append(&mut ready);
        waiting = later;
    }
}

#[cfg(test)]
mod tests {
    use super::{create_statement, statements_of_roles};
    use crate::rows::{identifier, literal};

    #[test]
    fn only_the_roles_that_are_named_are_made() {
        let tricky = r#"it's; "b\""#;
        let (role, comment) =
            (identifier(tricky), literal("x;\nALTER ROLE \"app\" SUPERUSER;\n\\'"));
        let made = create_statement(&role);
        let sql = format!(
            "SET client_encoding = 'UTF8';\n{made};\n{};\nALTER ROLE {role} WITH LOGIN;\n\
             COMMENT ON ROLE {role} IS {comment};\nALTER ROLE \"app\" WITH LOGIN PASSWORD 'p;';\n\
             GRANT \"app\" TO {role} WITH ADMIN OPTION;\nGRANT \"app\" TO \"other\";\n",
            create_statement("\"app\"")
        );
        let found = statements_of_roles(&sql, &[tricky.into()], &["app".into()]);
        assert_eq!(found.left_out, [""; 0]);
        let seen: Vec<String> = found.sql.iter().map(|one| one.expose().to_owned()).collect();
        let expect = [
            made,
            format!("ALTER ROLE {role} WITH LOGIN"),
            format!("COMMENT ON ROLE {role} IS {comment}"),
            format!("GRANT \"app\" TO {role} WITH ADMIN OPTION"),
        ];
        assert_eq!(seen, expect);
    }
    #[test]
    fn memberships_of_those_who_are_not_there_are_left_out_and_told() {
        let sql = "GRANT \"app\" TO \"a\"\"b\";\nGRANT \"app\" TO \"gone\" WITH ADMIN TRUE;\n\
            GRANT \"group\" TO \"app\" WITH SET TRUE GRANTED BY \"boss\";\n";
        let check = |there: &[&str], expect: [bool; 3]| {
            let there: Vec<String> = there.iter().map(|name| (*name).to_owned()).collect();
            let found = statements_of_roles(sql, &["app".into()], &there);
            let kept = expect.iter().filter(|is_kept| **is_kept).count();
            assert_eq!((found.sql.len(), found.left_out.len()), (kept, 3 - kept), "{there:?}");
            found.left_out
        };
        check(&["a\"b", "gone", "group", "boss"], [true; 3]);
        let said = check(&["a\"b", "group"], [true, false, false]);
        assert!(said[0].ends_with("there is no role 'gone'"), "{said:?}");
        assert!(said[1].ends_with("there is no role 'boss'"), "{said:?}");
        check(&["boss"], [false; 3]);
    }
}
