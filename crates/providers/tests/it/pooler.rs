//! PgBouncer as a door, in front of a real server.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pgclient::{Client, ConnectOptions};
use recovery::effect::{Effects, Found};
use recovery::service::{Door, Service};
use recovery::testing::sample;
use testbed::postgres::{Cluster, Install};
use testbed::{Port, Workdir, as_postgres, poll};

use crate::conformance::{context, providers, typed, undoable};

const DEADLINE: Duration = Duration::from_secs(60);

/// A pooler that lets everybody in, as a process of its own.
struct Pooler {
    port: Port,
    process: Child,
}

impl Pooler {
    fn start(folder: &Workdir, cluster: &Cluster) -> Self {
        let port = Port::reserve();
        let text = format!(
            "[databases]\nshop = host={} port={} dbname=postgres user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\n\
             auth_type = any\nadmin_users = postgres\npool_mode = transaction\n",
            cluster.socket_dir().display(),
            cluster.port(),
            port.number()
        );
        let file = folder.file("pgbouncer.ini", text);
        testbed::give_to_postgres(&file);
        let mut command = Command::new("/usr/sbin/pgbouncer");
        command.arg(&file).stdin(Stdio::null()).stderr(Stdio::null());
        let process = as_postgres(&mut command).spawn().expect("pgbouncer: `make tools`");
        let pooler = Self { port, process };
        poll(DEADLINE, "the pooler to listen", || {
            std::net::TcpStream::connect(("127.0.0.1", pooler.port.number())).is_ok()
        });
        pooler
    }

    fn address(&self, database: &str) -> String {
        let port = self.port.number();
        format!("host=127.0.0.1 port={port} user=postgres dbname={database} sslmode=disable")
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn service(pooler: &Pooler) -> Service {
    let admin = pooler.address("pgbouncer");
    Service { door: Some(Door::PgBouncer { admin, database: "shop".into() }), ..sample::shop() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_is_paused_and_resumed() {
    let cluster = Cluster::builder(&Install::latest()).start();
    let folder = Workdir::new();
    let pooler = Pooler::start(&folder, &cluster);
    undoable(&service(&pooler), "shut.door").await;
    typed(&service(&pooler)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_wait_at_a_paused_pooler_and_go_on_when_it_opens() {
    let cluster = Cluster::builder(&Install::latest()).start();
    let folder = Workdir::new();
    let pooler = Pooler::start(&folder, &cluster);
    let service = service(&pooler);
    let providers = providers();
    let [shut, open] = ["shut.door", "open.door"].map(|id| context(&service, id));
    let options = ConnectOptions::parse(&pooler.address("shop")).unwrap();
    let client = Client::connect(&options).await.unwrap();
    client.query_text("SELECT 1", DEADLINE).await.unwrap();
    providers.of(&shut.step).unwrap().act(&shut).await.unwrap();
    let asked = tokio::spawn(async move { client.query_text("SELECT 42", DEADLINE).await });
    let console = ConnectOptions::parse(&pooler.address("pgbouncer")).unwrap();
    let console = Client::connect(&console).await.unwrap();
    let waits = async || {
        loop {
            let pools = console.query_named("SHOW POOLS", DEADLINE).await.unwrap();
            let mut of_shop =
                pools.iter().filter(|pool| pool.get("database").is_some_and(|it| it == "shop"));
            if of_shop.any(|pool| pool.get("cl_waiting").is_some_and(|count| count != "0")) {
                break;
            }
        }
    };
    tokio::time::timeout(DEADLINE, waits()).await.expect("the client waits at the pooler");
    assert!(!asked.is_finished());
    let effect = providers.of(&open.step).unwrap();
    assert_eq!(effect.probe(&open).await, Found::Absent);
    effect.act(&open).await.unwrap();
    assert_eq!(effect.probe(&open).await, Found::Done);
    let rows = asked.await.unwrap().unwrap();
    assert_eq!(format!("{rows:?}").matches("42").count(), 1, "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_without_that_database_is_no_door() {
    let cluster = Cluster::builder(&Install::latest()).start();
    let folder = Workdir::new();
    let pooler = Pooler::start(&folder, &cluster);
    let mut service = service(&pooler);
    service.door =
        Some(Door::PgBouncer { admin: pooler.address("pgbouncer"), database: "other".into() });
    let context = context(&service, "shut.door");
    let providers = providers();
    let found = providers.of(&context.step).unwrap().probe(&context).await;
    assert!(matches!(&found, Found::Unknown(why) if why.contains("'other'")), "{found:?}");
}
