//! From the alert to a shop that serves again.

use std::path::PathBuf;

use anyhow::Context as _;
use jiff::Timestamp;
use pgclient::local::StopMode;
use serde::{Deserialize, Serialize};
use stdx::{Clock, SystemClock};

use super::damage::Damage;
use super::prove::{self, Proof};
use super::shop::{Shop, Smoke};
use super::stage::{CLUSTER, QUIET_MAX, Stage, number, text};
use super::{cluster, pages};
use crate::failure::Error;

/// How far around the moment that was told the search goes.
const SEARCH_SECONDS: i64 = 600;

/// Client authentication of a fenced cluster: should anybody start it, it lets nobody in.
const FENCE_HBA: &str = "# Fenced by the recovery: this cluster was replaced.\n\
local all all reject\nhost all all all reject\n";

/// What the recovery came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Recovery {
    pub(super) located: Located,
    /// When the last writer was stopped.
    pub(super) writes_stopped: Timestamp,
    /// Rows that were written after the damage and are lost, by table.
    pub(super) rows_lost: Vec<(String, u64)>,
    pub(super) backup: String,
    pub(super) stop: String,
    pub(super) newest_commit: Option<Timestamp>,
    pub(super) timeline: u64,
    pub(super) directory: PathBuf,
    pub(super) proof: Proof,
    pub(super) smoke: Vec<Smoke>,
    /// When users were served again.
    pub(super) healthy: Timestamp,
    pub(super) new_backup: String,
    pub(super) archived: Option<String>,
}

/// The transaction that did it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Located {
    pub(super) xid: u64,
    pub(super) committed: Timestamp,
    pub(super) damage: Vec<String>,
    pub(super) rows_lost: u64,
    pub(super) recover_before: String,
    pub(super) transactions_lost: u64,
}

pub(super) async fn recover(
    stage: &mut Stage<'_>,
    shop: &mut Shop,
    damage: &Damage,
) -> anyhow::Result<Recovery> {
    stage.act("Recovery: find it, stop, restore beside, prove, switch");
    let located = locate(stage, damage).await?;
    let (writes_stopped, rows_lost) = stop_and_fence(stage, shop).await?;
    // Everything is in the repository now: what is lost can be counted exactly.
    let located = match search(stage, damage).await? {
        exact if exact.recover_before == located.recover_before => exact,
        _ => located,
    };
    let restored = restore(stage, &located.recover_before).await?;
    stage.begin("prove it: rows, newest order, page checksums, amcheck");
    let pages = pages::check(&restored.directory)?;
    let proof = prove::prove(stage, &restored, damage, located.committed, pages).await?;
    let smoke = switch(stage, shop, &restored).await?;
    let healthy = SystemClock::new().now();
    let (archived, new_backup) = protect_again(stage, &restored).await?;
    Ok(Recovery {
        located,
        writes_stopped,
        rows_lost,
        backup: restored.backup,
        stop: restored.stop,
        newest_commit: restored.newest_commit,
        timeline: restored.timeline,
        directory: restored.directory,
        proof,
        smoke,
        healthy,
        new_backup,
        archived,
    })
}

/// Finds the transaction. The newest WAL is not archived yet, so it is salvaged from the live
/// server.
async fn locate(stage: &mut Stage<'_>, damage: &Damage) -> anyhow::Result<Located> {
    stage.begin("find the destroying transaction in the WAL");
    stage.type_command(&["wal", "salvage", CLUSTER], &[]).await?;
    let located = search(stage, damage).await?;
    stage.printer.note(&format!(
        "  transaction {}, committed {}: {}",
        located.xid,
        located.committed,
        located.damage.join("; ")
    ));
    stage.end();
    Ok(located)
}

async fn search(stage: &Stage<'_>, damage: &Damage) -> anyhow::Result<Located> {
    let around = |seconds: i64| Timestamp::from_second(damage.told.as_second() + seconds);
    let (since, until) =
        (around(-SEARCH_SECONDS)?.to_string(), around(SEARCH_SECONDS)?.to_string());
    let words = ["locate", CLUSTER, "--since", &since, "--until", &until];
    let found = stage.type_command(&words, &[]).await?;
    let first = found.pointer("/suspects/0").ok_or_else(|| Error::Failed {
        what: format!("no destructive transaction found between {since} and {until}"),
        hint: "look at `rollforward locate` without --since".into(),
    })?;
    let lines = first.pointer("/damage").and_then(serde_json::Value::as_array);
    let lines = lines.into_iter().flatten().filter_map(|line| line.as_str().map(str::to_owned));
    Ok(Located {
        xid: number(first, "/xid")?,
        committed: text(first, "/committed")?.parse()?,
        damage: lines.collect(),
        rows_lost: number(first, "/rows_lost")?,
        recover_before: text(first, "/recover_before")?,
        transactions_lost: number(first, "/transactions_lost")?,
    })
}

/// Stops the writers, then the old cluster; keeps it from taking sessions; saves its last WAL.
async fn stop_and_fence(
    stage: &mut Stage<'_>,
    shop: &Shop,
) -> anyhow::Result<(Timestamp, Vec<(String, u64)>)> {
    stage.begin("stop the shop, stop and fence the old cluster");
    shop.stop(stage).await?;
    let stopped = SystemClock::new().now();
    let client = stage.connect(&stage.directory, stage.port, "shop").await?;
    let mut rows_lost = Vec::new();
    for table in ["orders", "order_lines", "payments"] {
        let rows = client.query_text(&format!("SELECT count(*) FROM {table}"), QUIET_MAX).await?;
        let count = rows.first().and_then(|row| row.first().cloned().flatten()).unwrap_or_default();
        rows_lost.push((table.to_owned(), count.parse()?));
    }
    drop(client);
    let directory = cluster::directory(stage);
    stage.server(&directory)?.stop(StopMode::Fast, QUIET_MAX).await?;
    let hba = directory.join("pg_hba.conf");
    stdx::durable::rename(&hba, &directory.join("pg_hba.conf.before-fence"))?;
    stdx::durable::write_atomic(&hba, FENCE_HBA.as_bytes(), 0o600)
        .with_context(|| format!("write '{}'", hba.display()))?;
    stage.begin("salvage its last WAL");
    stage.type_command(&["wal", "salvage", CLUSTER], &[]).await?;
    stage.end();
    Ok((stopped, rows_lost))
}

/// The restored cluster.
#[derive(Clone, Debug)]
pub(super) struct Restored {
    pub(super) directory: PathBuf,
    pub(super) port: u16,
    pub(super) socket: PathBuf,
    pub(super) backup: String,
    pub(super) stop: String,
    pub(super) newest_commit: Option<Timestamp>,
    pub(super) timeline: u64,
}

async fn restore(stage: &mut Stage<'_>, before: &str) -> anyhow::Result<Restored> {
    stage.begin("restore a new cluster beside it, to just before the damage");
    let directory = stage.path("restored");
    let place = directory.display().to_string();
    let bin = stage.programs.bindir().display().to_string();
    let words = [
        "restore",
        CLUSTER,
        "--to",
        &place,
        "--before",
        before,
        "--start",
        "--bin-directory",
        &bin,
    ];
    let answer = stage.type_command(&words, &[]).await?;
    stage.server(&directory)?;
    let newest = answer.pointer("/newest_commit").and_then(serde_json::Value::as_str);
    stage.end();
    Ok(Restored {
        directory,
        port: u16::try_from(number(&answer, "/port")?)?,
        socket: text(&answer, "/socket_directory")?.into(),
        backup: text(&answer, "/backup")?,
        stop: text(&answer, "/stop")?,
        newest_commit: newest.map(str::parse).transpose()?,
        timeline: number(&answer, "/reserved_timeline")?,
    })
}

/// Switches the application's connection, starts it, asks it like a user.
async fn switch(
    stage: &mut Stage<'_>,
    shop: &mut Shop,
    restored: &Restored,
) -> anyhow::Result<Vec<Smoke>> {
    stage.begin("switch the shop's connection file and start the shop");
    shop.point_to(stage, restored.port)?;
    shop.start(stage).await?;
    stage.begin("smoke test over HTTP");
    let smoke = shop.smoke().await?;
    shop.wait_for_orders(5).await?;
    stage.end();
    Ok(smoke)
}

/// Adopts the restored cluster: it archives, and a backup of it works.
async fn protect_again(
    stage: &mut Stage<'_>,
    restored: &Restored,
) -> anyhow::Result<(Option<String>, String)> {
    stage.begin("adopt the restored cluster: it is protected again");
    let place = restored.directory.display().to_string();
    let adopted =
        stage.type_command(&["adopt", CLUSTER, "--at", &place, "--keep-port"], &[]).await?;
    let archived =
        adopted.pointer("/archived").and_then(serde_json::Value::as_str).map(str::to_owned);
    stage.begin("take a backup of it");
    let backup = stage.type_command(&["backup", CLUSTER], &[]).await?;
    stage.begin("verify the repository");
    stage.type_command(&["verify", CLUSTER], &[]).await?;
    stage.end();
    Ok((archived, text(&backup, "/backup/label")?))
}
