//! Roles under other names.
//!
//! No SQL of the dump is changed. The old names are made as roles that stand in; what the restore
//! gave them goes to the new roles by PostgreSQL's own means, from what its catalogs say; then they
//! are dropped, which PostgreSQL refuses as long as anything of them is left.

use std::time::Duration;

use pgclient::{Client, identifier, literal};

use super::super::error::DumpError;
use super::super::target::Target;

/// Changing owners locks everything they own.
const DEADLINE: Duration = Duration::from_secs(300);

/// Begins the comment of a role that stands in.
const MARK: &str = "rollforward: stands in for a role of dump ";

/// A role of the dump, and the one that takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleMap {
    /// As it is called in the dump.
    pub old: String,
    /// As it is called on the target.
    pub new: String,
}

/// Everything that has rights, as GRANT names it.
const RIGHTS: &str = "(SELECT CASE WHEN c.relkind = 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
        pg_catalog.format('%I.%I', n.nspname, c.relname) AS object, NULL::pg_catalog.text AS part, a.*
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
            pg_catalog.aclexplode(c.relacl) a
    UNION ALL SELECT 'TABLE', pg_catalog.format('%I.%I', n.nspname, c.relname), t.attname, a.*
        FROM pg_catalog.pg_attribute t JOIN pg_catalog.pg_class c ON c.oid = t.attrelid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
            pg_catalog.aclexplode(t.attacl) a WHERE NOT t.attisdropped
    UNION ALL SELECT 'SCHEMA', pg_catalog.quote_ident(nspname), NULL, a.*
        FROM pg_catalog.pg_namespace, pg_catalog.aclexplode(nspacl) a
    UNION ALL SELECT 'ROUTINE', oid::pg_catalog.regprocedure::pg_catalog.text, NULL, a.*
        FROM pg_catalog.pg_proc, pg_catalog.aclexplode(proacl) a
    UNION ALL SELECT 'TYPE', oid::pg_catalog.regtype::pg_catalog.text, NULL, a.*
        FROM pg_catalog.pg_type, pg_catalog.aclexplode(typacl) a
    UNION ALL SELECT 'LANGUAGE', pg_catalog.quote_ident(lanname), NULL, a.*
        FROM pg_catalog.pg_language, pg_catalog.aclexplode(lanacl) a
    UNION ALL SELECT 'LARGE OBJECT', oid::pg_catalog.text, NULL, a.*
        FROM pg_catalog.pg_largeobject_metadata, pg_catalog.aclexplode(lomacl) a
    UNION ALL SELECT 'FOREIGN DATA WRAPPER', pg_catalog.quote_ident(fdwname), NULL, a.*
        FROM pg_catalog.pg_foreign_data_wrapper, pg_catalog.aclexplode(fdwacl) a
    UNION ALL SELECT 'FOREIGN SERVER', pg_catalog.quote_ident(srvname), NULL, a.*
        FROM pg_catalog.pg_foreign_server, pg_catalog.aclexplode(srvacl) a
    UNION ALL SELECT 'DATABASE', pg_catalog.quote_ident(datname), NULL, a.*
        FROM pg_catalog.pg_database, pg_catalog.aclexplode(datacl) a
        WHERE datname = pg_catalog.current_database())";

/// Makes the roles that stand in. One of an earlier restore that did not come to its end is taken.
pub(super) async fn stand_in(
    target: &Target,
    label: &str,
    map: &[RoleMap],
) -> Result<(), DumpError> {
    for RoleMap { old, .. } in map {
        if has_role(&target.client, old).await? {
            continue;
        }
        let role = identifier(old);
        let mark = literal(&format!("{MARK}'{label}'"));
        // Who may only make roles must be a member to give things to one.
        let sql = format!(
            "CREATE ROLE {role} NOLOGIN; COMMENT ON ROLE {role} IS {mark}; GRANT {role} TO CURRENT_USER"
        );
        target.client.query_text(&sql, DEADLINE).await?;
    }
    Ok(())
}

async fn has_role(client: &Client, name: &str) -> Result<bool, DumpError> {
    let sql = format!("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = {}", literal(name));
    Ok(!client.query_text(&sql, DEADLINE).await?.is_empty())
}

/// Refuses what cannot be done right, before anything is touched. `needed`: the roles that the dump
/// names.
pub(in super::super) async fn check(
    client: &Client,
    label: &str,
    map: &[RoleMap],
    needed: &[String],
) -> Result<(), DumpError> {
    let lacks = |lacks: String, hint: &str| {
        Err(DumpError::Lacks { label: label.to_owned(), lacks, hint: hint.to_owned() })
    };
    for RoleMap { old, new } in map {
        if !needed.contains(old) {
            let known: Vec<String> = needed.iter().map(|it| format!("'{it}'")).collect();
            let what = format!("names no role '{old}', it names {}", known.join(", "));
            return lacks(what, "--role-map OLD=NEW, where OLD is one of those");
        }
        if !has_role(client, new).await? {
            return Err(DumpError::Missing {
                label: label.to_owned(),
                what: "roles",
                names: format!("'{new}'"),
                hint: format!("CREATE ROLE {} there", identifier(new)),
            });
        }
        let comment = format!(
            "SELECT coalesce(pg_catalog.shobj_description(oid, 'pg_authid'), '')
            FROM pg_catalog.pg_roles WHERE rolname = {}",
            literal(old)
        );
        let found = client.query_text(&comment, DEADLINE).await?.into_iter().flatten().flatten();
        if found.into_iter().any(|comment| !comment.starts_with(MARK)) {
            let what = format!(
                "cannot have role '{old}' replaced: the target has a role of that name, and what is \
                 its own could not be told from what is restored"
            );
            let hint = "restore into a server without that role; or as the new role, without owners \
                        and rights: --no-owner --no-privileges";
            return lacks(what, hint);
        }
    }
    Ok(())
}

/// Gives everything in the session's database that belongs to the roles that stand in, or is
/// allowed to them, to the new ones, and drops them. What cannot be given is an error, and they
/// stay.
pub(super) async fn replace(client: &Client, map: &[RoleMap]) -> Result<(), String> {
    let run = async |sql: &str| {
        let ran = client.query_text(&format!("SET LOCAL search_path = ''; {sql}"), DEADLINE).await;
        let rows = ran.map_err(|error| format!("{sql}: {error}"))?;
        Ok::<Vec<String>, String>(rows.into_iter().flatten().flatten().collect())
    };
    for pair in map {
        let (old, new) = (identifier(&pair.old), identifier(&pair.new));
        // Rights of an owner change with the owner.
        run(&format!("REASSIGN OWNED BY {old} TO {new}")).await?;
        for list in [rights(pair), default_rights(pair), policies(pair), settings(pair)] {
            for statement in run(&list).await? {
                run(&statement).await?;
            }
        }
        let left = run(&left_over(pair)).await?;
        if !left.is_empty() {
            let what = left.join("; ");
            return Err(format!("role '{}' cannot be replaced everywhere: {what}", pair.old));
        }
    }
    for RoleMap { old, .. } in map {
        let old = identifier(old);
        run(&format!("DROP OWNED BY {old}")).await?;
        run(&format!("DROP ROLE {old}")).await?;
    }
    Ok(())
}

fn oid(role: &str) -> String {
    format!("(SELECT oid FROM pg_catalog.pg_roles WHERE rolname = {})", literal(role))
}

fn rights(RoleMap { old, new }: &RoleMap) -> String {
    format!(
        "SELECT pg_catalog.format('GRANT %s%s ON %s %s TO %I%s', r.privilege_type,
            CASE WHEN r.part IS NULL THEN '' ELSE pg_catalog.format(' (%I)', r.part) END, r.kind,
            r.object, {}, CASE WHEN r.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
        FROM {RIGHTS} r WHERE r.grantee = {}",
        literal(new),
        oid(old)
    )
}

/// Default rights of the role, and those of others that name it. Where they are for no schema they
/// say everything, also what is taken away from everybody.
fn default_rights(RoleMap { old, new }: &RoleMap) -> String {
    let (new, old) = (literal(new), oid(old));
    let for_whom = format!(
        "pg_catalog.format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s ',
            CASE WHEN d.defaclrole = {old} THEN {new}
                ELSE pg_catalog.pg_get_userbyid(d.defaclrole) END,
            CASE WHEN d.defaclnamespace = 0 THEN ''
                ELSE pg_catalog.format(' IN SCHEMA %I', n.nspname) END)"
    );
    let of_kind = "CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES'
        WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS'
        WHEN 'L' THEN 'LARGE OBJECTS' END";
    format!(
        "SELECT sql FROM (
            SELECT 1 AS step, {for_whom} || pg_catalog.format('REVOKE ALL ON %s FROM PUBLIC, %I',
                {of_kind}, {new}) AS sql
            FROM pg_catalog.pg_default_acl d
                LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace
            WHERE d.defaclrole = {old} AND d.defaclnamespace = 0
            UNION ALL SELECT 2, {for_whom} || pg_catalog.format('GRANT %s ON %s TO %s%s',
                a.privilege_type, {of_kind},
                CASE a.grantee WHEN 0 THEN 'PUBLIC' WHEN {old} THEN pg_catalog.quote_ident({new})
                    ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END,
                CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
            FROM pg_catalog.pg_default_acl d
                LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace,
                pg_catalog.aclexplode(d.defaclacl) a
            WHERE d.defaclrole = {old} OR a.grantee = {old}) s ORDER BY step"
    )
}

fn policies(RoleMap { old, new }: &RoleMap) -> String {
    let (new, old) = (literal(new), oid(old));
    format!(
        "SELECT pg_catalog.format('ALTER POLICY %I ON %s TO %s', p.polname,
            p.polrelid::pg_catalog.regclass, (SELECT pg_catalog.string_agg(CASE r
                WHEN 0 THEN 'PUBLIC' WHEN {old} THEN pg_catalog.quote_ident({new})
                ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(r)) END, ', ')
                FROM pg_catalog.unnest(p.polroles) r))
        FROM pg_catalog.pg_policy p WHERE {old} = ANY (p.polroles)"
    )
}

fn settings(RoleMap { old, new }: &RoleMap) -> String {
    // A list is stored as it was written: in quotes it would be one name.
    format!(
        "SELECT pg_catalog.format('ALTER ROLE %I IN DATABASE %I SET %s TO %s', {},
            pg_catalog.current_database(), pg_catalog.split_part(c, '=', 1),
            CASE WHEN pg_catalog.split_part(c, '=', 1) = ANY ('{{search_path,DateStyle,
                temp_tablespaces,session_preload_libraries,local_preload_libraries}}')
                THEN pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1)
                ELSE pg_catalog.quote_literal(
                    pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1)) END)
        FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase,
            pg_catalog.unnest(s.setconfig) c
        WHERE s.setrole = {} AND d.datname = pg_catalog.current_database()",
        literal(new),
        oid(old)
    )
}

/// What DROP OWNED would take away for good: things that have no other owner, rights that the role
/// has passed on.
fn left_over(RoleMap { old, .. }: &RoleMap) -> String {
    let old = oid(old);
    format!(
        "SELECT pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid)
        FROM pg_catalog.pg_shdepend d
        WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.refobjid = {old}
            AND d.deptype = 'o' AND d.classid <> 'pg_catalog.pg_default_acl'::pg_catalog.regclass
            AND d.dbid = (SELECT oid FROM pg_catalog.pg_database
                WHERE datname = pg_catalog.current_database())
        UNION ALL SELECT DISTINCT pg_catalog.format('a right on %s %s that it has passed on to %s',
            pg_catalog.lower(r.kind), r.object, CASE r.grantee WHEN 0 THEN 'PUBLIC'
            ELSE pg_catalog.pg_get_userbyid(r.grantee)::pg_catalog.text END)
        FROM {RIGHTS} r WHERE r.grantor = {old} AND r.grantee <> {old}"
    )
}
