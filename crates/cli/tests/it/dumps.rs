//! Logical dumps: what comes back, what is refused, and what an interruption leaves.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use testbed::poll;
use testbed::postgres::{Cluster, Install};

use crate::program::{Ran, text};
use crate::site::{DEADLINE, Site};

/// Everything that a dump by parts could lose: sequences, large objects, views with data,
/// partitions, references, names that need quotes, rights, settings, row security, triggers.
const SCHEMA: &str = r#"
    CREATE ROLE app LOGIN PASSWORD 'it''s secret'; CREATE ROLE reader; GRANT reader TO app;
    CREATE DATABASE "we=ird ""db" OWNER app;
    ALTER DATABASE shop SET work_mem = '7MB'; COMMENT ON DATABASE shop IS 'the shop';
    GRANT CONNECT ON DATABASE shop TO reader;
"#;

const CONTENT: &str = r#"
    CREATE SCHEMA "Odd ""schema"; CREATE EXTENSION pg_trgm;
    CREATE TABLE customer (id bigserial PRIMARY KEY, name text NOT NULL);
    INSERT INTO customer (name) SELECT 'customer ' || i FROM generate_series(1, 1000) i;
    CREATE TABLE "Odd ""schema"."big.one" (id int PRIMARY KEY, customer bigint
        REFERENCES customer, body text);
    INSERT INTO "Odd ""schema"."big.one" SELECT i, 1 + i % 1000, repeat(md5(i::text), 60)
        FROM generate_series(1, 15000) i;
    ALTER TABLE "Odd ""schema"."big.one" ALTER body SET STORAGE EXTERNAL;
    UPDATE "Odd ""schema"."big.one" SET body = body || 'x';
    CREATE INDEX big_body ON "Odd ""schema"."big.one" (left(body, 20));
    CREATE TABLE part (at int, what text) PARTITION BY RANGE (at);
    CREATE TABLE part_a PARTITION OF part FOR VALUES FROM (0) TO (100);
    CREATE TABLE part_b PARTITION OF part FOR VALUES FROM (100) TO (200);
    INSERT INTO part SELECT i, 'p' || i FROM generate_series(0, 199) i;
    CREATE MATERIALIZED VIEW names AS SELECT count(*) AS many, max(name) AS last FROM customer;
    CREATE SEQUENCE lonely START 700; SELECT nextval('lonely'), nextval('lonely');
    SELECT lo_from_bytea(4711, 'a large object'); COMMENT ON LARGE OBJECT 4711 IS 'kept';
    ALTER TABLE customer ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON customer TO reader USING (name = current_user);
    CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no row may come in by itself'; END $$;
    CREATE TRIGGER stop BEFORE INSERT ON part_a FOR EACH ROW EXECUTE FUNCTION stop();
    ALTER TABLE part OWNER TO app; GRANT SELECT ON customer TO reader;
"#;

/// Facts that must be equal in the source and in what was restored.
pub(crate) const FACTS: &str = r#"
    SELECT 'customer', count(*), sum(hashtext(name)) FROM customer
    UNION ALL SELECT 'big', count(*), sum(hashtext(body)) FROM "Odd ""schema"."big.one"
    UNION ALL SELECT 'part', count(*), sum(at) FROM part
    UNION ALL SELECT 'names', many, hashtext(last) FROM names
    UNION ALL SELECT 'lonely', last_value, 0 FROM lonely
    UNION ALL SELECT 'customer_id_seq', last_value, 0 FROM customer_id_seq
    UNION ALL SELECT 'large', oid, hashtext(convert_from(lo_get(oid), 'UTF8'))
        FROM pg_largeobject_metadata
    UNION ALL SELECT 'indexes', count(*), sum(hashtext(indexdef)) FROM pg_indexes
        WHERE schemaname IN ('public', 'Odd "schema')
    UNION ALL SELECT 'constraints', count(*), sum(hashtext(pg_get_constraintdef(oid)))
        FROM pg_constraint WHERE connamespace IN
            (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'Odd "schema'))
    UNION ALL SELECT 'owners', count(*), sum(hashtext(relname || relowner::regrole
        || has_table_privilege('reader', oid, 'select'))) FROM pg_class
        WHERE relname ~ '^(part|customer)' AND relkind IN ('r', 'p')
    UNION ALL SELECT 'policies', count(*), sum(hashtext(policyname || qual)) FROM pg_policies
    UNION ALL SELECT 'triggers', count(*), sum(hashtext(tgname)) FROM pg_trigger
        WHERE NOT tgisinternal
    UNION ALL SELECT 'extensions', count(*), sum(hashtext(extname)) FROM pg_extension
    ORDER BY 1
"#;

/// A protected cluster of `major` with the database `shop` in it; its programs are known.
pub(crate) fn filled(major: u32) -> Site {
    let site = Site::new(major);
    site.cluster.psql("CREATE DATABASE shop");
    site.cluster.psql(SCHEMA);
    site.cluster.psql_in("shop", CONTENT);
    know_programs(&site);
    site
}

/// Tells the configuration where clients of every version are that has them.
pub(crate) fn know_programs(site: &Site) {
    let newest = Install::by_major(18);
    let install =
        if site.cluster.install().has("pg_dump") { site.cluster.install() } else { &newest };
    let line = format!("[cluster.shop]\nbin_directory = \"{}\"\n", install.bindir.display());
    let text = fs::read_to_string(site.config()).unwrap();
    if !text.contains("bin_directory") {
        site.edit_config("[cluster.shop]\n", &line);
    }
}

/// A server beside the site's, without archiving.
pub(crate) fn other(major: u32) -> Cluster {
    Cluster::builder(&Install::by_major(major)).start()
}

/// A server beside the site's with the roles that policies of the shop name.
pub(crate) fn with_reader(major: u32) -> Cluster {
    let target = other(major);
    target.psql("CREATE ROLE reader");
    target
}

pub(crate) fn restore_command(
    site: &Site,
    label: &str,
    target: &Cluster,
    options: &str,
) -> Command {
    let mut command = site.command(&format!("dump restore shop {label} {options}"));
    command.arg("--target").arg(target.conninfo());
    command
}

pub(crate) fn restore(site: &Site, label: &str, target: &Cluster, options: &str) -> Ran {
    Ran::of(&mut restore_command(site, label, target, options))
}

pub(crate) fn dump(site: &Site, options: &str) -> Value {
    site.run(&format!("dump create shop {options}")).done()
}

/// No file below `folder` has these bytes.
fn nowhere(folder: &Path, needle: &[u8]) {
    for path in crate::site::files(folder) {
        let content = fs::read(&path).unwrap_or_default();
        let found = content.windows(needle.len()).any(|window| window == needle);
        assert!(!found, "'{}' holds plain data", path.display());
    }
}

#[test]
fn everything_comes_back_on_another_server() {
    let site = filled(15);
    let made = dump(&site, "--note nightly --jobs 3");
    let label = text(&made, "dump.label");
    assert_eq!(text(&made, "dump.globals"), "whole");
    assert_eq!(made["dump"]["complete"], true);
    // Globals; schema and data of three databases; the large table.
    assert_eq!(made["streams"], 8, "{made}");
    nowhere(&site.repository("main"), b"customer 77");

    let listed = site.run("dump list shop").done();
    assert_eq!(text(&listed, "dumps.0.label"), label);
    assert_eq!(text(&listed, "dumps.0.note"), "nightly");
    let verified = site.run("verify shop --deep").done();
    assert_eq!((&verified["dumps"], &verified["findings"]), (&2.into(), &serde_json::json!([])));

    for major in [15, 17] {
        let target = other(major);
        let all = "--source-database shop --database again --create --globals --jobs 3";
        let done = restore(&site, &label, &target, all).done();
        assert_eq!(done["roles_made"], serde_json::json!(["app", "reader"]), "{done}");
        assert_eq!(target.psql_in("again", FACTS), site.cluster.psql_in("shop", FACTS), "{major}");
        let facts = "SELECT shobj_description(oid, 'pg_database'), has_database_privilege('reader',
            oid, 'connect') FROM pg_database WHERE datname = 'again'";
        assert_eq!(target.psql(facts), "the shop|t");
        assert_eq!(target.psql_in("again", "SHOW work_mem"), "7MB");
        let login = "SELECT rolcanlogin, rolpassword IS NOT NULL, pg_has_role('app', 'reader',
            'member') FROM pg_authid WHERE rolname = 'app'";
        assert_eq!(target.psql(login), "t|t|t");
        let mut odd = restore_command(&site, &label, &target, "--create");
        Ran::of(odd.args(["--source-database", "we=ird \"db"])).done();
        let owner = "SELECT datdba::regrole FROM pg_database WHERE datname = 'we=ird \"db'";
        assert_eq!(target.psql(owner), "app");
    }
}

#[test]
fn every_version_is_dumped_by_a_program_that_is_not_older() {
    for major in [14, 16, 18] {
        let site = Site::new(major);
        site.cluster.psql("CREATE TABLE note (id int PRIMARY KEY, what text)");
        site.cluster.psql("INSERT INTO note SELECT i, 'note ' || i FROM generate_series(1, 500) i");
        know_programs(&site);
        let label = text(&dump(&site, "--database postgres"), "dump.label");
        let into = "--database copy --create";
        let done = restore(&site, &label, &site.cluster, into).done();
        let sum = "SELECT count(*), sum(id), max(what) FROM note";
        assert_eq!(site.cluster.psql_in("copy", sum), site.cluster.psql(sum), "{done}");
    }
}

#[test]
fn a_later_pg_restore_than_the_server_is_told_of_and_harms_nothing() {
    let site = Site::new(17);
    site.cluster.psql("CREATE TABLE note AS SELECT generate_series(1, 10) AS id");
    know_programs(&site);
    let bin = Install::by_major(18).bindir;
    let label = text(&dump(&site, "--database postgres"), "dump.label");
    let into = format!("--database copy --create --bin-directory {}", bin.display());
    restore(&site, &label, &site.cluster, &into).done();

    // 14 does not know transaction_timeout, which the program of 18 sets.
    let site = Site::new(14);
    site.cluster.psql("CREATE TABLE note AS SELECT generate_series(1, 10) AS id");
    know_programs(&site);
    let label = text(&dump(&site, "--database postgres"), "dump.label");
    let into = format!("--database copy --create --bin-directory {}", bin.display());
    let done = restore(&site, &label, &site.cluster, &into).done();
    let notes = done["notes"].to_string();
    assert!(notes.contains("transaction_timeout"), "{done}");
    assert_eq!(site.cluster.psql_in("copy", "SELECT count(*) FROM note"), "10");
}

#[test]
fn what_the_target_lacks_is_named_before_anything_is_touched() {
    let site = filled(16);
    let label = text(&dump(&site, ""), "dump.label");
    let older = other(15);
    let said = restore(&site, &label, &older, "--source-database shop --create");
    let said = said.failed("RF0626", 4);
    assert!(said.contains("expected a server of 16 or later, seen 15"), "{said}");

    let target = other(16);
    let shop = "--source-database shop --database copy --create";
    let said = restore(&site, &label, &target, shop).failed("RF0627", 4);
    assert!(said.contains("roles") && said.contains("'app', 'reader'"), "{said}");
    assert!(said.contains("--globals"), "{said}");
    let plain = format!("{shop} --no-owner --no-privileges");
    let said = restore(&site, &label, &target, &plain).failed("RF0627", 4);
    assert!(said.contains("'reader'") && !said.contains("'app'"), "{said}");
    target.psql("CREATE ROLE reader");

    let several = restore(&site, &label, &target, "--create").failed("RF0625", 4);
    assert!(several.contains("'shop'") && several.contains("--source-database"), "{several}");
    restore(&site, "20200101T000000Z-none", &target, &plain).failed("RF0624", 4);

    let absent = format!("{} --no-owner --no-privileges", shop.replace(" --create", ""));
    let said = restore(&site, &label, &target, &absent).failed("RF0628", 4);
    assert!(said.contains("is not there"), "{said}");
    assert_eq!(target.psql("SELECT count(*) FROM pg_database WHERE datname = 'copy'"), "0");

    // A database that holds something is refused, one that is empty is filled.
    target.psql("CREATE DATABASE copy");
    target.psql_in("copy", "CREATE TABLE mine (id int)");
    let said = restore(&site, &label, &target, &absent).failed("RF0628", 4);
    assert!(said.contains("public.mine"), "{said}");
    target.psql_in("copy", "DROP TABLE mine");
    let done = restore(&site, &label, &target, &absent).done();
    assert_eq!(target.psql_in("copy", "SELECT count(*) FROM part"), "200", "{done}");
    restore(&site, &label, &target, &plain).failed("RF0628", 4);

    // Names that are taken are errors, each with its statement, and the database says so.
    let said = restore(&site, &label, &target, &format!("{absent} --into-existing"));
    let said = said.failed("RF0630", 1);
    assert!(said.contains("already exists") && said.contains("CREATE TABLE"), "{said}");
    let said = restore(&site, &label, &target, &absent).failed("RF0629", 4);
    assert!(said.contains(&label) && said.contains("DROP DATABASE \"copy\""), "{said}");
}

#[test]
fn a_missing_extension_is_named() {
    // 17 does not have adminpack any more.
    let site = Site::new(16);
    know_programs(&site);
    site.cluster.psql("CREATE EXTENSION adminpack");
    let label = text(&dump(&site, "--database postgres"), "dump.label");
    let target = other(17);
    let bin = Install::by_major(18).bindir;
    let options = format!("--create --database x --bin-directory {}", bin.display());
    let said = restore(&site, &label, &target, &options).failed("RF0627", 4);
    assert!(said.contains("extensions") && said.contains("'adminpack'"), "{said}");
    assert_eq!(target.psql("SELECT count(*) FROM pg_database WHERE datname = 'x'"), "0");
}

#[test]
fn parts_are_restored_and_tables_left_empty() {
    let site = filled(15);
    let label = text(&dump(&site, "--database shop"), "dump.label");
    let target = with_reader(15);
    let options = "--no-owner --no-privileges --create";
    let empty = format!(
        "{options} --database without --exclude-table-data public.part_a \
         --exclude-table-data public.customer"
    );
    // The large table refers to a customer.
    let said = restore(&site, &label, &target, &empty).failed("RF0630", 1);
    assert!(said.contains("big.one_customer_fkey"), "{said}");
    let empty = format!("{options} --database less --exclude-table-data public.part_a");
    restore(&site, &label, &target, &empty).done();
    assert_eq!(target.psql_in("less", "SELECT count(*) FROM part"), "100");
    assert_eq!(target.psql_in("less", "SELECT count(*) FROM customer"), "1000");
    let one = format!("{options} --database one --schema public --table customer");
    restore(&site, &label, &target, &one).done();
    assert_eq!(target.psql_in("one", "SELECT count(*) FROM customer"), "1000");
    let tables = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND oid >= 16384";
    assert_eq!(target.psql_in("one", tables), "1");
}

#[test]
fn a_dump_of_one_moment_while_rows_come_in() {
    let site = filled(15);
    let mut load = site.cluster.spawn_psql();
    load.send("\\c shop");
    load.send(
        "DO $$ BEGIN FOR i IN 1..4000 LOOP
            INSERT INTO customer (id, name) VALUES (100000 + i, 'late');
            INSERT INTO \"Odd \"\"schema\".\"big.one\" VALUES (100000 + i, 100000 + i, 'late');
            COMMIT; END LOOP; END $$;",
    );
    let seen = "SELECT count(*) > 20 FROM customer WHERE name = 'late'";
    poll(DEADLINE, "rows to come in", || site.cluster.psql_in("shop", seen) == "t");
    let label = text(&dump(&site, "--database shop --jobs 4"), "dump.label");
    let target = with_reader(15);
    restore(&site, &label, &target, "--create --no-owner --no-privileges").done();
    // Each row of the one has its row of the other, as in every moment of the source.
    let pairs = "SELECT (SELECT count(*) FROM customer WHERE name = 'late')
        = (SELECT count(*) FROM \"Odd \"\"schema\".\"big.one\" WHERE body = 'late')";
    assert_eq!(target.psql_in("shop", pairs), "t");
}

#[test]
fn a_dump_that_is_killed_leaves_nothing_listed() {
    let site = filled(15);
    // The lock keeps pg_dump waiting as long as it takes.
    let mut lock = site.cluster.spawn_psql();
    lock.send("\\c shop");
    lock.send("BEGIN; LOCK TABLE customer;");
    let locked = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted
        AND relation = 'customer'::regclass";
    poll(DEADLINE, "the lock", || site.cluster.psql_in("shop", locked) == "1");
    let mut command = site.command("dump create shop --database shop");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let waiting = "SELECT count(*) > 0 FROM pg_stat_activity
        WHERE application_name LIKE 'rollforward%' AND wait_event_type = 'Lock'";
    let waits = || site.cluster.psql_in("shop", waiting) == "t";
    poll(DEADLINE, "pg_dump to wait", waits);
    child.kill().unwrap();
    child.wait().unwrap();
    lock.send("ROLLBACK;");
    assert_eq!(site.run("dump list shop").done()["dumps"], serde_json::json!([]));
    assert!(site.objects("main", "dump/").is_empty());
    // The programs of the killed one end with their pipes; a new dump is not in their way.
    dump(&site, "--database shop");
    assert_eq!(site.run("dump list shop").done()["dumps"].as_array().unwrap().len(), 1);
}

#[test]
fn a_restore_that_is_killed_is_found_by_the_next() {
    let site = filled(15);
    let label = text(&dump(&site, "--database shop"), "dump.label");
    let target = with_reader(15);
    let options = "--create --database copy --no-owner --no-privileges --jobs 1";
    let mut command = restore_command(&site, &label, &target, options);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let under_way = "SELECT count(*) FROM pg_database WHERE datname = 'copy' AND
        shobj_description(oid, 'pg_database') LIKE '%unfinished%'";
    poll(DEADLINE, "the mark", || target.psql(under_way) == "1");
    child.kill().unwrap();
    child.wait().unwrap();
    let said = restore(&site, &label, &target, options).failed("RF0629", 4);
    assert!(said.contains(&label) && said.contains("DROP DATABASE \"copy\""), "{said}");
    let gone = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'copy'";
    poll(DEADLINE, "the sessions of the killed one to end", || target.psql(gone) == "0");
    target.psql("DROP DATABASE copy");
    restore(&site, &label, &target, options).done();
    assert_eq!(target.psql_in("copy", FACTS.split("UNION ALL SELECT 'owners'").next().unwrap()), {
        let facts = FACTS.split("UNION ALL SELECT 'owners'").next().unwrap();
        site.cluster.psql_in("shop", facts)
    });
}

#[test]
fn a_damaged_stream_is_found_and_never_restored_as_if_it_were_whole() {
    let site = filled(15);
    let label = text(&dump(&site, "--database shop"), "dump.label");
    let mut packs = site.objects("main", "pack/");
    packs.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    let largest = packs.first().unwrap();
    let mut bytes = fs::read(largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(largest, bytes).unwrap();
    let found = site.run("verify shop --deep --repository main").ended(3);
    assert!(found["findings"].to_string().contains("pack/"), "{found}");
    let target = with_reader(15);
    let options = "--create --no-owner --no-privileges --repository main";
    let ran = restore(&site, &label, &target, options);
    assert_ne!(ran.status.code(), Some(0));
    // The other member has it whole.
    target.psql("DROP DATABASE shop");
    let options = "--create --no-owner --no-privileges";
    restore(&site, &label, &target, options).done();
    assert_eq!(target.psql_in("shop", "SELECT count(*) FROM customer"), "1000");
}

#[test]
fn what_cannot_be_dumped_is_refused_with_its_reason() {
    let site = filled(15);
    let said = site.run("dump create shop --database nothere").failed("RF0623", 4);
    assert!(said.contains("'shop'") && said.contains("'we=ird \"db'"), "{said}");
    // A user who may not read a table: nothing is made of the rest.
    site.cluster.psql("CREATE ROLE poor LOGIN; GRANT pg_monitor TO poor; CREATE TABLE mine ()");
    site.edit_config("user=postgres", "user=poor");
    let said = site.run("dump create shop --database postgres").failed("RF0622", 1);
    assert!(said.contains("permission denied"), "{said}");
    assert!(site.objects("main", "dump/").is_empty());
}

#[test]
fn who_may_not_read_passwords_dumps_everything_else() {
    let site = Site::new(15);
    know_programs(&site);
    site.cluster.psql(
        "CREATE ROLE reads LOGIN BYPASSRLS; GRANT pg_monitor TO reads;
         CREATE ROLE app LOGIN PASSWORD 'x'; CREATE TABLE mine AS SELECT 1 AS id;
         ALTER TABLE mine OWNER TO app; GRANT SELECT ON mine TO reads",
    );
    let others = site.folder.folder("others", 0o755);
    fs::write(others.join("old.sql.gz"), "").unwrap();
    let dumps = format!("[dumps.nightly]\nsource = {others:?}\ncluster = \"shop\"\n");
    site.edit_config("[cluster.shop]\n", &format!("{dumps}[cluster.shop]\n"));
    site.edit_config("user=postgres", "user=reads");
    let made = dump(&site, "--database postgres --note reader");
    assert_eq!(text(&made, "dump.globals"), "without passwords");
    assert_eq!(made["dump"]["complete"], true);
    let listed = site.run("dump list shop").done();
    assert_eq!(text(&listed, "others.0.name"), "nightly");
    assert_eq!(text(&listed, "others.0.dumps.0.label"), "old.sql.gz");
    let target = other(15);
    let label = text(&made, "dump.label");
    restore(&site, &label, &target, "--create --database copy --globals").done();
    let role = "SELECT rolcanlogin, rolpassword IS NULL FROM pg_authid WHERE rolname = 'app'";
    assert_eq!(target.psql(role), "t|t");
    assert_eq!(
        target.psql_in("copy", "SELECT tableowner FROM pg_tables WHERE tablename = 'mine'"),
        "app"
    );
}

#[test]
fn a_program_older_than_the_server_is_refused() {
    let site = Site::new(18);
    let line = "[cluster.shop]\nbin_directory = \"/usr/lib/postgresql/15/bin\"\n";
    site.edit_config("[cluster.shop]\n", line);
    let said = site.run("dump create shop").failed("RF0621", 4);
    assert!(said.contains("pg_dump of PostgreSQL 18") && said.contains("15."), "{said}");
}
