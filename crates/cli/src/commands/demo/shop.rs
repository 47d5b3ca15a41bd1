//! The application: a small online shop that reads its connection from a file.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::stage::Stage;
use crate::failure::Error;

/// Orders it places per second.
const ORDERS_PER_SECOND: &str = "20";

/// How long the shop may take to do what it is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

const POLL: Duration = Duration::from_millis(50);

/// The running shop.
#[derive(Debug)]
pub(super) struct Shop {
    program: PathBuf,
    pub(super) settings: PathBuf,
    address: String,
    http: reqwest::Client,
}

/// What a smoke test saw.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Smoke {
    pub(super) path: String,
    pub(super) status: u16,
    pub(super) milliseconds: u128,
    pub(super) items: Option<usize>,
}

/// Fills the shop's database and opens the shop.
pub(super) async fn open(stage: &mut Stage<'_>, size: &str) -> anyhow::Result<Shop> {
    stage.begin(&format!("fill the shop's database with about {size}"));
    let shop = Shop {
        program: crate::wiring::own_program()?.with_file_name("rollforward-shop"),
        settings: stage.path("shop.env"),
        address: String::new(),
        http: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?,
    };
    shop.point_to(stage, stage.port)?;
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
    let mut shop = shop;
    shop.start(stage).await?;
    stage.end();
    Ok(shop)
}

impl Shop {
    /// Writes the connection into the shop's settings; it reads them at its next start.
    pub(super) fn point_to(&self, stage: &Stage<'_>, port: u16) -> anyhow::Result<()> {
        let text =
            format!("DATABASE_URL=postgres://shop:{}@127.0.0.1:{port}/shop\n", stage.password);
        stdx::durable::write_atomic(&self.settings, text.as_bytes(), 0o600)
            .with_context(|| format!("write '{}'", self.settings.display()))
    }

    /// Starts it and waits until it is healthy.
    pub(super) async fn start(&mut self, stage: &mut Stage<'_>) -> anyhow::Result<()> {
        let mut child = Command::new(&self.program)
            .args([
                "--listen",
                "127.0.0.1:0",
                "--writes-per-second",
                ORDERS_PER_SECOND,
                "--settings",
            ])
            .arg(&self.settings)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(
                std::fs::File::options().create(true).append(true).open(stage.path("shop.log"))?,
            )
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("run '{}'", self.program.display()))?;
        self.address = listening(&mut child).await?;
        stage.shop = Some(child);
        let begun = Instant::now();
        while self.get("/health").await.is_none_or(|(status, _)| status != 200) {
            self.give_up_after(begun, "the shop to be healthy")?;
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Stops it and waits until it is gone.
    pub(super) async fn stop(&self, stage: &mut Stage<'_>) -> anyhow::Result<()> {
        let Some(mut child) = stage.shop.take() else { return Ok(()) };
        if let Some(pid) = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(rustix::process::Pid::from_raw)
        {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        child.wait().await?;
        Ok(())
    }

    /// Status and body of a request; `None` when nobody answers.
    async fn get(&self, path: &str) -> Option<(u16, Value)> {
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

    /// Asks like a user would: healthy, and orders are shown.
    pub(super) async fn smoke(&self) -> anyhow::Result<Vec<Smoke>> {
        let mut seen = Vec::new();
        for path in ["/health", "/api/orders?limit=5"] {
            let begun = Instant::now();
            let (status, body) =
                self.get(path).await.with_context(|| format!("nobody answers {path}"))?;
            let items = body.get("orders").and_then(Value::as_array).map(Vec::len);
            let smoke = Smoke {
                path: path.into(),
                status,
                milliseconds: begun.elapsed().as_millis(),
                items,
            };
            let empty = path.starts_with("/api") && items.unwrap_or(0) == 0;
            if status != 200 || empty {
                return Err(Error::Failed {
                    what: format!(
                        "smoke test {path}: expected 200 with data, seen {status}, {body}"
                    ),
                    hint: "look at shop.log".into(),
                }
                .into());
            }
            seen.push(smoke);
        }
        Ok(seen)
    }

    fn give_up_after(&self, begun: Instant, what: &str) -> anyhow::Result<()> {
        anyhow::ensure!(begun.elapsed() < PATIENCE, "waited {} s for {what}", PATIENCE.as_secs());
        Ok(())
    }
}

/// The address it prints when it listens.
async fn listening(child: &mut Child) -> anyhow::Result<String> {
    let out = child.stdout.take().context("the shop has no output")?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line).await?;
    let value: Value =
        serde_json::from_str(&line).context("the shop did not say where it listens")?;
    super::stage::text(&value, "/listening")
}
