//! Roles and tablespaces as SQL, restored into a fresh cluster.

use testbed::Workdir;
use testbed::postgres::{Cluster, installed};

use crate::bench::connect;

const ROLES: &str = r#"
    CREATE ROLE "o'brien ""x""\" LOGIN PASSWORD 'pa''ss\word' CONNECTION LIMIT 3
        VALID UNTIL '2031-02-03 04:05:06+00';
    COMMENT ON ROLE "o'brien ""x""\" IS 'it''s \ him';
    CREATE ROLE staff NOINHERIT CREATEDB; CREATE ROLE boss SUPERUSER REPLICATION BYPASSRLS LOGIN;
    CREATE ROLE gone; GRANT staff TO boss WITH ADMIN OPTION;
    SET ROLE boss; GRANT staff TO "o'brien ""x""\"; RESET ROLE;
    GRANT pg_monitor TO staff;
    ALTER ROLE staff SET search_path = '$user', "Odd, name", public;
    ALTER ROLE staff SET work_mem = '7MB'; ALTER ROLE ALL SET statement_timeout = '1h';
    DROP ROLE gone;"#;

#[tokio::test]
async fn globals_restore_into_a_fresh_cluster_as_they_were() {
    for install in installed() {
        let old =
            Cluster::builder(&install).setting("password_encryption", "scram-sha-256").start();
        let elsewhere = Workdir::new();
        let (here, there) =
            (elsewhere.folder("it is here", 0o700), elsewhere.folder("there", 0o700));
        let location = here.to_str().unwrap().to_owned();
        old.psql(ROLES);
        old.psql(&format!("CREATE TABLESPACE far OWNER staff LOCATION '{location}'"));
        old.psql(
            "ALTER TABLESPACE far SET (random_page_cost = 1.5, seq_page_cost = 2);
             GRANT CREATE ON TABLESPACE far TO \"o'brien \"\"x\"\"\\\";
             COMMENT ON TABLESPACE far IS 'far away'",
        );
        if install.major >= 15 {
            old.psql("GRANT SET ON PARAMETER log_statement TO staff WITH GRANT OPTION");
        }
        let globals = connect(&old).await.globals_sql().await.unwrap();
        assert!(globals.with_passwords);
        assert!(globals.sql.expose().contains("SCRAM-SHA-256$"));
        assert!(!format!("{globals:?}").contains("SCRAM-SHA-256$"));

        let new = Cluster::builder(&install).start();
        // The old cluster still owns its folder.
        let moved = globals.sql.expose().replace(&location, there.to_str().unwrap());
        new.psql(&moved);
        let again = connect(&new).await.globals_sql().await.unwrap();
        assert_eq!(again.sql.expose(), moved, "PostgreSQL {}", install.major);
        assert_eq!(memberships(&new), memberships(&old), "PostgreSQL {}", install.major);
    }
}

#[tokio::test]
async fn without_the_right_to_read_hashes_there_are_none() {
    let install = &installed()[2];
    let cluster = Cluster::builder(install).start();
    cluster.psql("CREATE ROLE guest LOGIN PASSWORD 'hunter2'");
    let options = cluster.conninfo().replace("user=postgres", "user=guest");
    let options = pgclient::ConnectOptions::parse(&options).unwrap();
    let client = pgclient::Client::connect(&options).await.unwrap();
    let globals = client.globals_sql().await.unwrap();
    assert!(!globals.with_passwords);
    assert!(globals.sql.expose().contains("CREATE ROLE \"guest\""));
    assert!(!globals.sql.expose().contains("PASSWORD"));
}

fn memberships(cluster: &Cluster) -> String {
    let grantor = if cluster.install().major >= 16 { "grantor::regrole" } else { "''" };
    cluster.psql(&format!(
        "SELECT roleid::regrole, member::regrole, admin_option, {grantor}
         FROM pg_auth_members WHERE member > 16383
         ORDER BY roleid::regrole::text, member::regrole::text"
    ))
}
