//! Dumps that other tools made: read to their end, restored, and what is wrong with them found.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use testbed::postgres::{Cluster, Install};
use testbed::{S3, as_postgres};

use crate::program::{Ran, text};
use crate::s3::credentials;
use crate::site::Site;

/// A server with a database that was dumped, a folder for the dumps, a configuration that names it.
struct Others {
    site: Site,
    cluster: Cluster,
    folder: PathBuf,
}

const SUM: &str = "SELECT count(*), sum(id), max(what) FROM note";

impl Others {
    fn new(major: u32) -> Self {
        let site = Site::unprotected(major, 1, |builder| builder);
        let cluster = Cluster::builder(&Install::by_major(major)).start();
        cluster.psql("CREATE DATABASE notes");
        cluster.psql_in(
            "notes",
            "CREATE TABLE note (id int PRIMARY KEY, what text NOT NULL);
             INSERT INTO note SELECT i, 'note ' || md5(i::text) FROM generate_series(1, 20000) i",
        );
        let folder = site.folder.folder("dumps", 0o755);
        let bin = Install::by_major(15).bindir;
        let key = site.folder.file("key", "secret words\n");
        let config = format!(
            "version = 1\n[dumps.plain]\nsource = \"{folder}\"\nbin_directory = \"{bin}\"\n\
             [dumps.sealed]\nsource = \"{folder}\"\nbin_directory = \"{bin}\"\n\
             open = [\"openssl\", \"enc\", \"-d\", \"-aes-256-cbc\", \"-pbkdf2\", \"-pass\", \
             \"file:{key}\"]\n",
            folder = folder.display(),
            bin = bin.display(),
            key = key.display(),
        );
        site.folder.file("rollforward.toml", config);
        Self { site, cluster, folder }
    }

    /// Runs a shell command as the operator's scripts do, in the folder.
    fn shell(&self, script: &str) {
        let mut command = Command::new("bash");
        as_postgres(&mut command);
        let bin = Install::by_major(15).bindir;
        command
            .args(["-e", "-o", "pipefail", "-c", script])
            .current_dir(&self.folder)
            .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
            .env("PGHOST", self.cluster.socket_dir())
            .env("PGPORT", self.cluster.port().to_string())
            .env("PGUSER", "postgres");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn run(&self, words: &str) -> Ran {
        self.site.run(words)
    }

    fn restore(&self, name: &str, options: &str) -> Ran {
        let mut command = self.site.command(&format!("dump restore {name} {options}"));
        Ran::of(command.arg("--target").arg(self.cluster.conninfo()))
    }

    fn has_database(&self, name: &str) -> bool {
        let sql = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
        self.cluster.psql(&sql) == "1"
    }
}

const MAKE: &str = "
    pg_dump notes > a.sql
    pg_dump notes | gzip > b.sql.gz
    pg_dump notes | zstd -q > c.sql.zst
    pg_dump -Fc notes > d.dump
    pg_dump -Ft notes > e.tar
    pg_dump -Fc notes | gzip > f.dump.gz
    pg_dump -Fd -f folder notes && tar cf g.tar folder && rm -r folder
    pg_dump notes | gzip | openssl enc -aes-256-cbc -pbkdf2 -pass file:../key > h.sql.gz.enc
";

#[test]
fn every_form_is_read_to_its_end_and_restored() {
    let others = Others::new(15);
    others.shell(MAKE);
    let expect = others.cluster.psql_in("notes", SUM);
    for (number, (name, format)) in [
        ("plain a.sql", "SQL"),
        ("plain b.sql.gz", "SQL"),
        ("plain c.sql.zst", "SQL"),
        ("plain d.dump", "custom"),
        ("plain e.tar", "tar"),
        ("plain f.dump.gz", "custom"),
        ("sealed h.sql.gz.enc", "SQL"),
    ]
    .into_iter()
    .enumerate()
    {
        let verified = others.run(&format!("dump verify {name}")).done();
        assert_eq!(text(&verified, "format"), format, "{name}");
        assert!(verified["bytes"].as_u64().unwrap() > 400_000, "{name}: {verified}");
        let into = format!("--create --database copy{number}");
        others.restore(name, &into).done();
        assert_eq!(others.cluster.psql_in(&format!("copy{number}"), SUM), expect, "{name}");
        others.restore(name, &into).failed("RF0628", 4);
    }
    let folder = others.run("dump verify plain g.tar").done();
    assert_eq!(text(&folder, "format"), "directory in tar");
    others.restore("plain g.tar", "--create --database folder").failed("RF0631", 1);
    assert!(!others.has_database("folder"));
    let listed = others.run("dump list plain").done();
    let labels: Vec<String> = listed["others"][0]["dumps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| text(row, "label"))
        .collect();
    assert_eq!(labels.len(), 8, "{labels:?}");
    // What is in a database is never overwritten.
    let said = others.restore("plain a.sql", "--database copy0").failed("RF0628", 4);
    assert!(said.contains("public.note"), "{said}");
}

#[test]
fn what_is_cut_off_is_found_before_anything_is_restored() {
    let others = Others::new(15);
    others.shell(MAKE);
    others.shell(
        "head -c 300000 a.sql > a1.sql
         head -c 300000 b.sql.gz > b1.sql.gz
         head -c 300000 a.sql | gzip > b2.sql.gz
         head -c 300000 c.sql.zst > c1.sql.zst
         head -c 300000 d.dump > d1.dump
         head -c 300000 e.tar > e1.tar
         head -c 300000 h.sql.gz.enc > h1.sql.gz.enc
         head -c 3000 /dev/urandom > noise.dump
         : > empty.sql",
    );
    for (name, expect) in [
        ("plain a1.sql", "is cut off: expected 'PostgreSQL database dump complete'"),
        ("plain b1.sql.gz", "gzip"),
        ("plain b2.sql.gz", "is cut off"),
        ("plain c1.sql.zst", "zstd"),
        ("plain d1.dump", "is not whole"),
        ("plain e1.tar", "is not whole"),
        ("sealed h1.sql.gz.enc", "openssl"),
        ("plain noise.dump", "is neither SQL nor a dump"),
        ("plain empty.sql", "is empty"),
        // Sealed with a command, and no command was given.
        ("plain h.sql.gz.enc", "is neither SQL nor a dump"),
        // Not sealed, and a command was given.
        ("sealed a.sql", "openssl"),
    ] {
        let said = others.run(&format!("dump verify {name}")).failed("RF0631", 1);
        assert!(said.contains(expect), "{name}: {said}");
        let said = others.restore(name, "--create --database bad").failed("RF0631", 1);
        assert!(said.contains(expect), "{name}: {said}");
        assert!(!others.has_database("bad"), "{name}");
    }
}

#[test]
fn the_wrong_key_and_the_wrong_program_are_named() {
    let others = Others::new(15);
    others.shell(MAKE);
    fs::write(others.site.folder.join("key"), "other words\n").unwrap();
    let said = others.run("dump verify sealed h.sql.gz.enc").failed("RF0631", 1);
    assert!(said.contains("'openssl'") && said.contains("bad decrypt"), "{said}");
    others.site.edit_config("open = [\"openssl\"", "open = [\"/nowhere/unseal\"");
    let said = others.run("dump verify sealed h.sql.gz.enc").failed("RF0631", 1);
    assert!(said.contains("'/nowhere/unseal' does not start"), "{said}");
    others.run("dump verify plain nothere.sql").failed("RF0624", 4);
}

#[test]
fn statements_that_fail_end_the_restore_and_mark_the_database() {
    let others = Others::new(15);
    // The role of the dump is not there.
    others.cluster.psql("CREATE ROLE gone");
    others.cluster.psql_in("notes", "ALTER TABLE note OWNER TO gone");
    others.shell("pg_dump notes > a.sql; pg_dump -Fc notes > d.dump");
    others.cluster.psql_in("notes", "ALTER TABLE note OWNER TO postgres");
    others.cluster.psql("DROP ROLE gone");
    for (name, database) in [("plain a.sql", "sql"), ("plain d.dump", "custom")] {
        let into = format!("--create --database {database}");
        let said = others.restore(name, &into).failed("RF0630", 1);
        assert!(said.contains("role \"gone\" does not exist"), "{said}");
        let said = others.restore(name, &into).failed("RF0629", 4);
        assert!(said.contains(name.split(' ').nth(1).unwrap()), "{said}");
    }
    let done = others.restore("plain d.dump", "--create --database mine --no-owner").done();
    let sum = others.cluster.psql_in("notes", SUM);
    assert_eq!(others.cluster.psql_in("mine", SUM), sum, "{done}");
}

#[test]
fn a_setting_that_the_server_does_not_know_is_told_and_harms_nothing() {
    let others = Others::new(16);
    let newest = Install::by_major(18).bindir;
    others.shell(&format!(
        "{bin}/pg_dump notes > a.sql; {bin}/pg_dump -Fc notes > d.dump",
        bin = newest.display()
    ));
    let bin = format!("--bin-directory {}", newest.display());
    for (name, database) in [("plain a.sql", "sql"), ("plain d.dump", "custom")] {
        let done = others.restore(name, &format!("--create --database {database} {bin}")).done();
        assert!(done["notes"].to_string().contains("transaction_timeout"), "{done}");
        let sum = others.cluster.psql_in("notes", SUM);
        assert_eq!(others.cluster.psql_in(database, SUM), sum);
    }
}

#[test]
fn sql_that_leads_into_other_databases_is_refused_before_psql_sees_it() {
    let others = Others::new(15);
    others.shell(
        "pg_dump -C notes > create.sql
         pg_dump -Cc --if-exists notes | gzip > clean.sql.gz
         pg_dumpall > all.sql
         pg_dumpall -c > all_clean.sql",
    );
    let sum = others.cluster.psql_in("notes", SUM);
    others.cluster.psql("CREATE DATABASE target");
    for (name, expect) in [
        ("create.sql", "seen 'CREATE DATABASE notes"),
        ("clean.sql.gz", "seen 'DROP DATABASE IF EXISTS notes"),
        ("all.sql", r"seen '\connect template1'"),
        ("all_clean.sql", "seen 'DROP DATABASE "),
    ] {
        let name = format!("plain {name}");
        let said = others.run(&format!("dump verify {name}")).failed("RF0631", 1);
        assert!(said.contains(expect), "{name}: {said}");
        for options in ["--database target", "--database target --unverified"] {
            let said = others.restore(&name, options).failed("RF0631", 1);
            assert!(said.contains(expect), "{name}: {said}");
            assert_eq!(others.cluster.psql_in("notes", SUM), sum, "{name} {options}");
            others.cluster.psql_in("target", "COMMENT ON DATABASE target IS NULL");
        }
    }
    // The same words in rows and in functions harm nothing.
    others.cluster.psql_in(
        "notes",
        "CREATE TABLE said (what text);
         INSERT INTO said VALUES (E'DROP DATABASE notes;'), (E'\\\\connect notes')",
    );
    others.shell("pg_dump notes > words.sql");
    others.restore("plain words.sql", "--create --database words").done();
    assert_eq!(others.cluster.psql_in("words", SUM), sum);
}

#[test]
fn a_restore_that_leaves_nothing_is_no_success() {
    let others = Others::new(15);
    others.shell("pg_dump template1 > a.sql; pg_dump -Fc template1 > d.dump");
    for (name, database) in [("plain a.sql", "sql"), ("plain d.dump", "custom")] {
        let into = format!("--create --database {database}");
        let said = others.restore(name, &into).failed("RF0631", 1);
        assert!(said.contains(&format!("left database '{database}' empty")), "{said}");
    }
}

#[test]
fn very_many_objects_are_listed_page_by_page() {
    let others = Others::new(15);
    others.shell(
        "mkdir old logs
         for i in $(seq 2300); do : > old/shop-$i.sql.gz; done
         for i in $(seq 30); do : > logs/$i.log; done
         touch -d '2 years ago' old/*
         pg_dump notes > newest.sql",
    );
    let listed = others.run("dump list plain").done();
    let found = &listed["others"][0];
    assert_eq!((&found["older"], &found["others"]), (&1801.into(), &30.into()));
    let rows = found["dumps"].as_array().unwrap();
    assert_eq!((rows.len(), text(&rows[499], "label")), (500, "newest.sql".into()));
    assert!(rows[0]["age_seconds"].as_i64().unwrap() > 300 * 24 * 3600);
    // Without a name the newest one is meant.
    assert_eq!(text(&others.run("dump verify plain").done(), "label"), "newest.sql");
}

#[test]
fn dumps_in_a_bucket_are_restored_from_there() {
    let mut others = Others::new(15);
    others.shell("pg_dump notes | gzip > b.sql.gz");
    let s3 = S3::start();
    let url =
        format!("s3://{}/dumps/of/shop?endpoint={}&allow_http=true", s3.bucket(), s3.endpoint());
    let environment = credentials(&s3).into_iter();
    let options = store::OpenOptions {
        environment: environment.map(|(name, value)| (name, store::Secret::new(value))).collect(),
        ..store::OpenOptions::default()
    };
    let bucket = store::open(&url, &options).unwrap();
    let bytes = fs::read(others.folder.join("b.sql.gz")).unwrap();
    let key = store::Key::new("2026/b.sql.gz").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(bucket.put_if_absent(&key, vec![bytes.into()])).unwrap();
    let config = fs::read_to_string(others.site.config()).unwrap();
    let more = format!("{config}[dumps.bucket]\nsource = \"{url}\"\n");
    others.site.write_config(&more);
    others.site.variables = credentials(&s3);
    let listed = others.run("dump list bucket").done();
    assert_eq!(text(&listed, "others.0.dumps.0.label"), "2026/b.sql.gz");
    others.restore("bucket 2026/b.sql.gz", "--create --database copy").done();
    let sum = others.cluster.psql_in("notes", SUM);
    assert_eq!(others.cluster.psql_in("copy", SUM), sum);
    assert!(!others.run("dump list bucket").stdout.contains(s3.secret_key()));
}

#[test]
fn a_tool_of_others_lists_and_restores_by_command() {
    let others = Others::new(15);
    let list = others.site.folder.file(
        "list.sh",
        "echo '{\"id\": \"20261120T030000\", \"time\": \"2026-11-20T03:00:00Z\", \"size\": 77}'\n\
         echo\necho '{\"id\": \"20261121T030000\"}'\n",
    );
    let restore = others.site.folder.file(
        "restore.sh",
        "set -e; [ \"$1\" != 20261121T030000 ] || { echo 'no such tape' >&2; exit 7; }\n\
         mkdir -p \"$2\"; echo \"$1\" > \"$2/PG_VERSION\"\n",
    );
    let config = fs::read_to_string(others.site.config()).unwrap();
    let more = format!(
        "{config}[source.barman]\nlist = [\"bash\", \"{}\"]\n\
         restore = [\"bash\", \"{}\", \"{{id}}\", \"{{directory}}\"]\n",
        list.display(),
        restore.display()
    );
    others.site.write_config(&more);
    let listed: Value = others.run("dump list barman").done();
    assert_eq!(text(&listed, "others.0.dumps.0.label"), "20261120T030000");
    assert_eq!(listed["others"][0]["dumps"][0]["size"], 77);
    let into = others.site.folder.folder("restored", 0o700).join("data");
    testbed::give_to_postgres(into.parent().unwrap());
    let words = |id: &str| format!("dump restore barman {id} --directory {}", into.display());
    others.run(&words("20261120T030000")).done();
    assert_eq!(fs::read_to_string(into.join("PG_VERSION")).unwrap(), "20261120T030000\n");
    let said = others.run(&words("20261120T030000")).failed("RF0912", 4);
    assert!(said.contains("is not an empty directory"), "{said}");
    others.run(&words("none")).failed("RF0912", 4);
    fs::remove_dir_all(&into).unwrap();
    let said = others.run(&words("20261121T030000")).failed("RF0913", 1);
    assert!(said.contains("no such tape"), "{said}");
}
