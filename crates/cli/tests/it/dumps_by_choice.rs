//! Parts of dumps, roles under other names, and dumps that hold no roles.

use serde_json::json;

use crate::dumps::{dump, filled, know_programs, other, restore, with_reader};
use crate::program::text;
use crate::site::Site;

#[test]
fn a_table_is_left_out_with_everything_that_is_its_own() {
    for major in [14, 18] {
        let site = filled(major);
        site.cluster.psql_in(
            "shop",
            "CREATE TABLE log (id bigserial PRIMARY KEY, seen int GENERATED ALWAYS AS IDENTITY,
                 customer bigint REFERENCES customer, what text CHECK (what <> ''));
             CREATE INDEX log_what ON log (what); CREATE STATISTICS log_both ON customer, what FROM log;
             COMMENT ON COLUMN log.what IS 'said'; COMMENT ON INDEX log_what IS 'by words';
             GRANT SELECT ON log TO reader; ALTER TABLE log ENABLE ROW LEVEL SECURITY;
             CREATE POLICY all_of_it ON log USING (true);
             CREATE TRIGGER stop BEFORE DELETE ON log FOR EACH ROW EXECUTE FUNCTION stop();
             INSERT INTO log (customer, what) SELECT i, 'w' || i FROM generate_series(1, 100) i;
             CREATE VIEW logged AS SELECT count(*) FROM log;
             CREATE TABLE \"log by day\" (day date PRIMARY KEY, log bigint REFERENCES log)",
        );
        let label = text(&dump(&site, "--database shop"), "dump.label");
        let target = with_reader(major);
        let options = "--no-owner --no-privileges --create";
        // A view needs it: refused before anything is made.
        let refused = restore(&site, &label, &target, &format!("{options} --exclude-table log"));
        let said = refused.failed("RF0625", 4);
        assert!(said.contains("1 things that need what is left out: view public logged"), "{said}");
        assert_eq!(target.psql("SELECT count(*) FROM pg_database WHERE datname = 'shop'"), "0");
        let nothing = restore(&site, &label, &target, &format!("{options} --exclude-table lgo"));
        assert!(nothing.failed("RF0625", 4).contains("has no table that fits 'lgo'"));
        let both = format!("{options} --exclude-table public.log --exclude-table logge?");
        let done = restore(&site, &label, &target, &both).done();
        // What refers to it is told; everything else is there.
        let notes = done["notes"].to_string();
        assert!(notes.contains("fk constraint public log by day log by day_log_fkey"), "{notes}");
        let left = "SELECT count(*) FROM pg_class WHERE relname ~ '^(log|logged|log_.*)$'";
        assert_eq!(target.psql_in("shop", left), "0", "{major}");
        assert_eq!(target.psql_in("shop", "SELECT count(*) FROM \"log by day\""), "0");
        site.cluster.psql_in("shop", "DROP TABLE log CASCADE; DROP TABLE \"log by day\"");
        target.psql_in("shop", "DROP TABLE \"log by day\"");
        let facts = crate::dumps::FACTS.split("UNION ALL SELECT 'owners'").next().unwrap();
        assert_eq!(target.psql_in("shop", facts), site.cluster.psql_in("shop", facts), "{major}");
    }
}

#[test]
fn a_large_table_and_partitions_are_left_out_by_patterns() {
    let site = filled(16);
    let label = text(&dump(&site, "--database shop"), "dump.label");
    let target = with_reader(16);
    let options = "--no-owner --no-privileges --create";
    let parts = format!("{options} --exclude-table part* --exclude-table *big.one");
    restore(&site, &label, &target, &parts).done();
    let tables = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
        WHERE relkind IN ('r', 'p') AND oid >= 16384";
    assert_eq!(target.psql_in("shop", tables), "customer");
    assert_eq!(target.psql_in("shop", "SELECT count(*) FROM customer"), "1000");
    // One partition of two; the others and their parent stay.
    let one = format!("{options} --database one --exclude-table part_b");
    restore(&site, &label, &target, &one).done();
    assert_eq!(target.psql_in("one", "SELECT count(*) FROM part"), "100");
}

/// Rights, default rights, a policy, settings, and a database that belong to `app`.
const RIGHTS: &str = r#"
    CREATE SCHEMA ours AUTHORIZATION app; GRANT USAGE ON SCHEMA public TO app;
    GRANT SELECT (name), UPDATE (name) ON customer TO app WITH GRANT OPTION;
    GRANT EXECUTE ON FUNCTION stop() TO app; GRANT USAGE ON SEQUENCE lonely TO app;
    GRANT SELECT ON LARGE OBJECT 4711 TO app; CREATE TYPE mood AS ENUM ('ok');
    GRANT USAGE ON TYPE mood TO app; ALTER DATABASE shop OWNER TO app;
    GRANT SELECT ON part TO reader; CREATE FUNCTION ours.f(a int, b text) RETURNS int LANGUAGE sql
        AS 'SELECT 1'; ALTER FUNCTION ours.f(int, text) OWNER TO app;
    ALTER DEFAULT PRIVILEGES FOR ROLE app GRANT SELECT ON TABLES TO reader;
    ALTER DEFAULT PRIVILEGES FOR ROLE app REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
    ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA ours GRANT INSERT ON TABLES TO reader;
    ALTER DEFAULT PRIVILEGES FOR ROLE reader IN SCHEMA public GRANT SELECT ON TABLES TO app;
    CREATE POLICY theirs ON customer TO app, reader USING (true);
    ALTER ROLE app IN DATABASE shop SET work_mem = '9MB';
    ALTER ROLE app IN DATABASE shop SET search_path = ours, public;
    GRANT TEMPORARY ON DATABASE shop TO app WITH GRANT OPTION;
"#;

/// Everything of a database in which a role's name can stand.
const ROLES_OF: &str = "
    SELECT 'database', datdba::regrole || ' ' || datacl::text FROM pg_database
        WHERE datname = current_database()
    UNION ALL SELECT 'relation', relname || relowner::regrole || relacl::text FROM pg_class
        WHERE relnamespace::regnamespace::text IN ('public', 'ours')
    UNION ALL SELECT 'column', attname || attacl::text FROM pg_attribute WHERE attacl IS NOT NULL
        AND attrelid >= 16384
    UNION ALL SELECT 'routine', proname || proowner::regrole || coalesce(proacl::text, '')
        FROM pg_proc WHERE oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend
            WHERE objid = pg_proc.oid AND deptype = 'e')
    UNION ALL SELECT 'schema', nspname || nspowner::regrole || nspacl::text FROM pg_namespace
        WHERE nspname IN ('public', 'ours')
    UNION ALL SELECT 'type', typname || typowner::regrole || typacl::text FROM pg_type
        WHERE typacl IS NOT NULL
    UNION ALL SELECT 'large', oid || lomacl::text FROM pg_largeobject_metadata
    UNION ALL SELECT 'default', defaclrole::regrole || defaclobjtype || defaclnamespace::regnamespace
        || defaclacl::text FROM pg_default_acl
    UNION ALL SELECT 'policy', polname || (SELECT string_agg(r::regrole::text, ',' ORDER BY
        r::regrole::text) FROM unnest(polroles) r) FROM pg_policy
    UNION ALL SELECT 'setting', setrole::regrole || setconfig::text FROM pg_db_role_setting s
        JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database() AND setrole <> 0
    ORDER BY 1, 2";

#[test]
fn roles_under_other_names_get_what_the_dump_gave_to_theirs() {
    for major in [14, 17] {
        let site = filled(major);
        site.cluster.psql_in("shop", RIGHTS);
        let label = text(&dump(&site, "--database shop"), "dump.label");
        let options = "--create --role-map app=staging --role-map reader=staging_reader";
        let target = other(major);
        target.psql("CREATE ROLE staging LOGIN; CREATE ROLE staging_reader");
        let done = restore(&site, &label, &target, options).done();
        // What there is, with the names as they should be; who is allowed most stands first in no
        // particular order, so both sides are compared by their sorted characters.
        let sorted = |text: String| {
            let mut lines: Vec<String> = text
                .lines()
                .map(|line| {
                    let mut parts: Vec<&str> = line.split(['{', '}', ',', '|', '"']).collect();
                    parts.sort_unstable();
                    parts.join(" ")
                })
                .collect();
            lines.sort();
            lines
        };
        let expected = site.cluster.psql_in("shop", ROLES_OF);
        let expected = expected.replace("reader", "staging_reader").replace("app=", "staging=");
        let expected = expected.replace("/app", "/staging").replace("app", "staging");
        let seen = target.psql_in("shop", ROLES_OF);
        assert_eq!(sorted(seen), sorted(expected), "{major}: {done}");
        let old = "SELECT count(*) FROM pg_roles WHERE rolname IN ('app', 'reader')";
        assert_eq!(target.psql(old), "0", "those that stood in are gone");
        // As the new role: what it owns, what it is allowed, what it gives by itself.
        let who = "SET ROLE staging; SELECT count(*) FROM part; SELECT ours.f(1, 'x');
            CREATE TABLE ours.later (id int); RESET ROLE;
            SELECT has_table_privilege('staging_reader', 'ours.later', 'insert, select')";
        assert!(target.psql_in("shop", who).ends_with('t'), "{major}");
    }
}

#[test]
fn roles_that_cannot_be_replaced_are_named_before_anything_is_touched() {
    let site = filled(15);
    let label = text(&dump(&site, "--database shop"), "dump.label");
    let target = with_reader(15);
    let with = |map: &str| restore(&site, &label, &target, &format!("--create {map}"));
    let said = with("--role-map nobody=x --role-map app=x").failed("RF0625", 4);
    assert!(said.contains("names no role 'nobody'") && said.contains("'app'"), "{said}");
    let said = with("--role-map app=staging").failed("RF0627", 4);
    assert!(said.contains("roles") && said.contains("'staging'"), "{said}");
    target.psql("CREATE ROLE app; CREATE ROLE staging");
    let said = with("--role-map app=staging").failed("RF0625", 4);
    assert!(said.contains("the target has a role of that name"), "{said}");
    for wrong in ["app", "app=", "=app", "app=app"] {
        assert_eq!(with(&format!("--role-map {wrong}")).status.code(), Some(2), "{wrong}");
    }
    with("--role-map app=staging --role-map app=reader").failed("RF0911", 2);
    assert_eq!(target.psql("SELECT count(*) FROM pg_database WHERE datname = 'shop'"), "0");

    // A right that was passed on by somebody who only had it lent: found at the end, and kept.
    target.psql("DROP ROLE app");
    site.cluster.psql_in(
        "shop",
        "GRANT SELECT ON lonely TO app WITH GRANT OPTION; SET ROLE app;
         GRANT SELECT ON lonely TO reader",
    );
    let label = text(&dump(&site, "--database shop"), "dump.label");
    let with = |map: &str| restore(&site, &label, &target, &format!("--create {map}"));
    let said = with("--role-map app=staging").failed("RF0630", 1);
    assert!(said.contains("role 'app' cannot be replaced everywhere"), "{said}");
    assert!(
        said.contains("a right on sequence public.lonely that it has passed on to reader"),
        "{said}"
    );
    with("--role-map app=staging").failed("RF0629", 4);
    // It is there, whole, with the role that stands in: the next restore takes that.
    target.psql("DROP DATABASE shop");
    site.cluster.psql_in("shop", "SET ROLE app; REVOKE SELECT ON lonely FROM reader");
    let label = text(&dump(&site, "--database shop"), "dump.label");
    restore(&site, &label, &target, "--create --role-map app=staging").done();
    let owner = "SELECT relowner::regrole FROM pg_class WHERE relname = 'part'";
    assert_eq!(target.psql_in("shop", owner), "staging");
    assert_eq!(target.psql("SELECT count(*) FROM pg_roles WHERE rolname = 'app'"), "0");
}

#[test]
fn a_dump_without_roles_is_made_and_says_before_a_restore_what_is_missing() {
    let site = Site::new(15);
    know_programs(&site);
    // Somebody has taken away what everybody may read: the database can be dumped, roles cannot.
    site.cluster.psql(
        "CREATE ROLE reads LOGIN BYPASSRLS; GRANT pg_monitor TO reads;
         CREATE ROLE app LOGIN PASSWORD 'x'; CREATE TABLE mine AS SELECT 1 AS id;
         ALTER TABLE mine OWNER TO app; GRANT SELECT ON mine TO reads;
         REVOKE SELECT ON pg_auth_members FROM PUBLIC",
    );
    site.edit_config("user=postgres", "user=reads");
    let made = dump(&site, "--database postgres");
    assert_eq!(text(&made, "dump.globals"), "none");
    let notes = made["notes"].to_string();
    assert!(notes.contains("without roles and tablespaces"), "{made}");
    assert_eq!(text(&site.run("dump list shop").done(), "dumps.0.globals"), "none");
    site.verify_clean();
    let (label, target) = (text(&made, "dump.label"), other(15));
    let said = restore(&site, &label, &target, "--create --database copy --globals");
    let said = said.failed("RF0625", 4);
    assert!(said.contains("holds no roles") && said.contains("leave --globals out"), "{said}");
    let said = restore(&site, &label, &target, "--create --database copy").failed("RF0627", 4);
    assert!(said.contains("'app', 'reads'") && said.contains("CREATE ROLE them there"), "{said}");
    assert!(!said.contains("--globals makes them"), "{said}");
    assert_eq!(target.psql("SELECT count(*) FROM pg_database WHERE datname = 'copy'"), "0");
    target.psql("CREATE ROLE app; CREATE ROLE reads");
    let done = restore(&site, &label, &target, "--create --database copy").done();
    assert_eq!(done["roles_made"], json!([]));
    assert_eq!(target.psql_in("copy", "SELECT id FROM mine"), "1");
}

#[test]
fn roles_are_made_without_memberships_of_those_who_are_not_there_and_all_or_none() {
    for major in [15, 16] {
        let site = Site::new(major);
        know_programs(&site);
        site.cluster.psql(
            "CREATE ROLE app LOGIN; CREATE ROLE deploy LOGIN; CREATE ROLE team; CREATE ROLE here;
             GRANT app TO deploy; GRANT team TO app; GRANT here TO app;
             CREATE TABLE mine AS SELECT 1 AS id; ALTER TABLE mine OWNER TO app",
        );
        if major >= 16 {
            site.cluster.psql(
                "CREATE ROLE boss; GRANT here TO boss WITH ADMIN OPTION;
                 REVOKE here FROM app; SET ROLE boss; GRANT here TO app",
            );
        }
        let made = dump(&site, "--database postgres");
        let (label, target) = (text(&made, "dump.label"), other(major));
        // Roles cannot be made: nothing of them stays, so that the repeat makes them whole.
        target.psql("CREATE ROLE here");
        if major >= 16 {
            target.psql("CREATE ROLE boss");
            restore(&site, &label, &target, "--create --database copy --globals").ended(1);
            assert_eq!(target.psql("SELECT count(*) FROM pg_roles WHERE rolname = 'app'"), "0");
            target.psql("GRANT here TO boss WITH ADMIN OPTION");
        }
        let done = restore(&site, &label, &target, "--create --database copy --globals").done();
        let notes = done["notes"].to_string();
        for role in ["deploy", "team"] {
            assert!(notes.contains(&format!("there is no role '{role}'")), "{notes}");
        }
        let memberships = "SELECT string_agg(roleid::regrole::text, ' ')
            FROM pg_auth_members WHERE member = 'app'::regrole";
        assert_eq!(target.psql(memberships), "here", "{major}");
        assert_eq!(target.psql_in("copy", "SELECT id FROM mine"), "1");
    }
}
