//! The application: a small online shop that reads its connection from a file, is started and
//! stopped by a script, and has a door.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;
use tokio::process::Command;

use super::stage::{CLUSTER, Stage};

/// Orders it places per second.
const ORDERS_PER_SECOND: &str = "20";

/// How long the shop may take to do what it is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

const POLL: Duration = Duration::from_millis(50);

/// The running shop.
#[derive(Debug)]
pub(super) struct Shop {
    program: PathBuf,
    script: PathBuf,
    settings: PathBuf,
    address: String,
    http: reqwest::Client,
}

/// Fills the shop's database and opens the shop.
pub(super) async fn open(stage: &mut Stage<'_>, size: &str) -> anyhow::Result<Shop> {
    stage.begin(&format!("fill the shop's database with about {size}"));
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
    let address = listener.local_addr()?.to_string();
    drop(listener);
    let shop = Shop {
        program: crate::wiring::own_program()?.with_file_name("rollforward-shop"),
        script: stage.path("shop.sh"),
        settings: stage.path("shop.env"),
        address,
        http: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?,
    };
    shop.write_files(stage)?;
    let loaded = Command::new(&shop.program)
        .args(["load", "--size", size, "--settings"])
        .arg(&shop.settings)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .await
        .with_context(|| format!("run '{}'", shop.program.display()))?;
    anyhow::ensure!(loaded.success(), "filling the shop's database ended with {loaded}");
    stage.begin("open the shop: it serves HTTP and places orders");
    shop.run("start").await?;
    stage.shop_script = Some(shop.script.clone());
    shop.wait_until_healthy().await?;
    stage.end();
    Ok(shop)
}

impl Shop {
    /// Its settings, its script, and the token of the smoke tests.
    fn write_files(&self, stage: &Stage<'_>) -> anyhow::Result<()> {
        let settings = format!(
            "DATABASE_URL=postgres://shop:{}@127.0.0.1:{}/shop\n",
            stage.password, stage.port
        );
        let files = [
            (self.settings.clone(), settings, 0o600),
            (stage.path("shop.token"), format!("{}\n", stdx::Id::random()), 0o600),
            (self.script.clone(), self.script_text(stage), 0o755),
        ];
        for (path, text, mode) in files {
            stdx::durable::write_atomic(&path, text.as_bytes(), mode)
                .with_context(|| format!("write '{}'", path.display()))?;
        }
        Ok(())
    }

    /// `shop.sh start|stop|status`: what an administrator would have written.
    fn script_text(&self, stage: &Stage<'_>) -> String {
        format!(
            "#!/bin/sh\n\
             cd '{folder}' || exit 2\n\
             pid=$(cat shop.pid 2>/dev/null)\n\
             running() {{ [ -n \"$pid\" ] && grep -qs '^State:.[^XZ]' \"/proc/$pid/status\" || return 1; }}\n\
             case $1 in\n\
             start)\n  running && exit 0\n  \
             setsid '{program}' --listen {address} --settings shop.env --maintenance maintenance --token shop.token \
             --writes-per-second {ORDERS_PER_SECOND} </dev/null >>shop.log 2>&1 &\n  echo $! >shop.pid ;;\n\
             stop)\n  running || exit 0\n  kill \"$pid\"\n  \
             for i in $(seq 200); do running || exit 0; sleep 0.05; done\n  kill -9 \"$pid\" ;;\n\
             status) running ;;\n\
             esac\n",
            folder = stage.directory.display(),
            program = self.program.display(),
            address = self.address,
        )
    }

    /// What `rollforward.toml` says of the service.
    pub(super) fn service_text(&self, stage: &Stage<'_>) -> String {
        let command = |verb: &str| format!("[\"{}\", \"{verb}\"]", self.script.display());
        let path = |name: &str| stage.path(name).display().to_string();
        let smoke = |what: &str, expect: &str| {
            format!(
                "[[service.{CLUSTER}.smoke]]\nget = \"http://{}{what}\"\nlogin = \"file:{}\"\nexpect = {{ {expect} }}\n",
                self.address,
                path("shop.token")
            )
        };
        format!(
            "\n[service.{CLUSTER}]\n\
             objectives = {{ rpo = \"15m\", rto = \"4h\" }}\n\
             database = {{ cluster = \"{CLUSTER}\", restore = \"beside\", name = \"shop\" }}\n\
             setting = {{ file = \"{}\", key = \"DATABASE_URL\", form = \"uri\" }}\n\
             door = {{ file = \"{}\" }}\n\
             writers = [{{ command = \"shop\", start = {}, stop = {}, probe = {} }}]\n\
             validate = {{ sql = \"{}\", tables.orders = {{ newest = \"placed_at\", min_rows = 1 }} }}\n\
             {}{}",
            path("shop.env"),
            path("maintenance"),
            command("start"),
            command("stop"),
            command("status"),
            path("validate.sql"),
            smoke("/health", "status = 200, json = { \"/status\" = \"ok\" }, within = \"2s\""),
            smoke("/api/orders?limit=5", "status = 200, min_items = 5, within = \"2s\""),
        )
    }

    async fn run(&self, verb: &str) -> anyhow::Result<()> {
        let status = Command::new(&self.script)
            .arg(verb)
            .stdin(Stdio::null())
            .status()
            .await
            .with_context(|| format!("run '{}'", self.script.display()))?;
        anyhow::ensure!(status.success(), "'{} {verb}' ended with {status}", self.script.display());
        Ok(())
    }

    async fn wait_until_healthy(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while self.get("/health").await.is_none_or(|(status, _)| status != 200) {
            self.give_up_after(begun, "the shop to be healthy")?;
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Status and body of a user's request; `None` when nobody answers.
    pub(super) async fn get(&self, path: &str) -> Option<(u16, Value)> {
        let response = self.http.get(format!("http://{}{path}", self.address)).send().await.ok()?;
        let status = response.status().as_u16();
        Some((status, response.json().await.unwrap_or(Value::Null)))
    }

    /// How many orders it has placed since it was started.
    async fn orders_placed(&self) -> u64 {
        let stats = self.get("/api/stats").await.map(|(_, body)| body);
        stats
            .and_then(|body| body.pointer("/shop/orders_placed").and_then(Value::as_u64))
            .unwrap_or(0)
    }

    /// Waits until it has placed so many more orders.
    pub(super) async fn wait_for_orders(&self, more: u64) -> anyhow::Result<()> {
        let begun = Instant::now();
        let before = self.orders_placed().await;
        while self.orders_placed().await < before + more {
            self.give_up_after(begun, "orders to be placed")?;
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn give_up_after(&self, begun: Instant, what: &str) -> anyhow::Result<()> {
        anyhow::ensure!(begun.elapsed() < PATIENCE, "waited {} s for {what}", PATIENCE.as_secs());
        Ok(())
    }
}
