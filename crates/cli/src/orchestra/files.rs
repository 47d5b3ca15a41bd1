//! What a run leaves on this host: its runbook, its driver's process, its report.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use recovery::report::{Report, Signed, html, markdown, sign};

use crate::config::Config;

/// The folder of a run.
pub(crate) fn folder(config: &Config, run: &str) -> PathBuf {
    config.state_directory.join("runs").join(run)
}

pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        stdx::durable::create_dir_all(parent)?;
    }
    stdx::durable::write_atomic(path, text.as_bytes(), 0o644)
        .with_context(|| format!("write '{}'", path.display()))
}

/// Notes which process drives the run, so that the same host knows when it is gone.
pub(crate) fn note_driver(config: &Config, run: &str) -> anyhow::Result<()> {
    let pid = std::process::id();
    let text = format!("{} {pid} {}\n", boot_id(), started(pid).unwrap_or_default());
    write(&folder(config, run).join("driver"), &text)
}

/// Whether the run's driver was a process of this host, since its last start, and is gone.
pub(crate) fn driver_is_gone(config: &Config, run: &str) -> bool {
    let Ok(text) = std::fs::read_to_string(folder(config, run).join("driver")) else {
        return false;
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let [boot, pid, start] = words[..] else { return false };
    if boot != boot_id() {
        return true;
    }
    pid.parse().is_ok_and(|pid: u32| started(pid).is_none_or(|seen| seen != start))
}

/// Since when a process runs, in ticks since the start of the machine.
pub(crate) fn started(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the 22nd field is the 20th behind it.
    let rest = stat.rsplit_once(')')?.1;
    let state = rest.split_whitespace().next()?;
    (state != "Z").then(|| rest.split_whitespace().nth(19).map(str::to_owned))?
}

/// The machine's boot id.
pub(crate) fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// Writes the report in its three forms; the signed JSON.
pub(crate) fn write_report(
    config: &Config,
    report: &Report,
    keys: &repository::SetKeys,
) -> anyhow::Result<(PathBuf, Signed)> {
    let folder = folder(config, &report.run);
    let key = signing_key(keys)?;
    let signed = sign(report, &key);
    write(&folder.join("report.json"), &serde_json::to_string_pretty(&signed.document)?)?;
    write(&folder.join("report.html"), &html(report))?;
    let path = folder.join("report.md");
    write(&path, &markdown(report))?;
    Ok((path, signed))
}

/// The key that signs reports: made from the set's keys, the same wherever the repository opens.
pub(crate) fn signing_key(
    keys: &repository::SetKeys,
) -> anyhow::Result<recovery::person::SigningKey> {
    let seed = keys.derived("rollforward v1 report signing key");
    Ok(recovery::person::SigningKey::from_seed(&seed)?)
}
