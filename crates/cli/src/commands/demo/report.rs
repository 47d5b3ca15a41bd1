//! The report: what was damaged, what was lost, how long it took.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::damage::Damage;
use super::recover::Recovery;
use super::stage::{Phase, Stage};

/// The report's names in the demo's folder.
const MARKDOWN: &str = "report.md";
const JSON: &str = "report.json";

/// The whole story in figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Report {
    postgresql: String,
    damage: Damage,
    recovery: Recovery,
    /// Failure to newest commit present, in seconds.
    rpo_reached_seconds: f64,
    /// Writes stopped to newest commit present, in seconds.
    work_lost_seconds: f64,
    /// Noticed to served again, in seconds.
    rto_seconds: f64,
    phases: Vec<Phase>,
}

impl Report {
    pub(super) fn new(stage: &Stage<'_>, damage: &Damage, recovery: Recovery) -> Self {
        let newest = recovery.newest_commit.unwrap_or(recovery.located.committed);
        Self {
            postgresql: stage.programs.version().to_owned(),
            damage: damage.clone(),
            rpo_reached_seconds: seconds(newest, recovery.located.committed),
            work_lost_seconds: seconds(newest, recovery.writes_stopped),
            rto_seconds: seconds(damage.noticed, recovery.healthy),
            recovery,
            phases: stage.phases.clone(),
        }
    }

    /// As it is printed: the figures that count, then every phase.
    pub(super) fn text(&self) -> String {
        let recovery = &self.recovery;
        let located = &recovery.located;
        let mut out = String::from("# Declared restored\n\n");
        let mut line = |what: &str, text: String| {
            let _ = writeln!(out, "- {what}: {text}");
        };
        line(
            "damaged",
            format!(
                "transaction {}, committed {}: {}",
                located.xid,
                located.committed,
                located.damage.join("; ")
            ),
        );
        line("told", format!("\"about {}\"; noticed {}", self.damage.told, self.damage.noticed));
        line(
            "restored to",
            format!(
                "{}, from backup {}, timeline {}",
                recovery.stop, recovery.backup, recovery.timeline
            ),
        );
        line(
            "RPO reached",
            format!("{:.3} s (failure − newest commit present)", self.rpo_reached_seconds),
        );
        let rows: Vec<String> =
            recovery.rows_lost.iter().map(|(table, rows)| format!("{rows} {table}")).collect();
        line(
            "work lost",
            format!(
                "{:.1} s, {} transactions, {} (written between the damage and the stop)",
                self.work_lost_seconds,
                located.transactions_lost,
                rows.join(", ")
            ),
        );
        line("RTO", format!("{:.1} s from noticed to served again", self.rto_seconds));
        self.proof_text(&mut line);
        self.phases_text(&mut out);
        out
    }

    fn proof_text(&self, line: &mut dyn FnMut(&str, String)) {
        let recovery = &self.recovery;
        let rows: Vec<String> =
            recovery.proof.rows.iter().map(|(table, rows)| format!("{rows} {table}")).collect();
        line(
            "proved",
            format!(
                "{} as before; newest order {}; {} pages with right checksums; amcheck: {} tables, {} indexes",
                rows.join(", "),
                recovery.proof.newest_order,
                recovery.proof.pages,
                recovery.proof.tables_checked,
                recovery.proof.indexes_checked
            ),
        );
        for smoke in &recovery.smoke {
            let items = smoke.items.map_or(String::new(), |items| format!(", {items} orders"));
            line(
                "smoke",
                format!(
                    "GET {} → {}{items} in {} ms",
                    smoke.path, smoke.status, smoke.milliseconds
                ),
            );
        }
        line(
            "protected again",
            format!(
                "archives ({}), backup {}",
                recovery.archived.as_deref().unwrap_or("nothing seen yet"),
                recovery.new_backup
            ),
        );
        line("PostgreSQL", self.postgresql.clone());
    }

    fn phases_text(&self, out: &mut String) {
        out.push_str("\n| phase | seconds |\n|---|---:|\n");
        for phase in &self.phases {
            let _ = writeln!(out, "| {} | {:.1} |", phase.name, phase.seconds);
        }
    }

    /// Leaves it in the demo's folder.
    pub(super) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        stdx::durable::write_atomic(&directory.join(JSON), json.as_bytes(), 0o644)?;
        stdx::durable::write_atomic(&directory.join(MARKDOWN), self.text().as_bytes(), 0o644)?;
        Ok(())
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    let span: SignedDuration = to.duration_since(from);
    span.as_secs_f64()
}

/// Reads the report that the demo left in its folder.
pub(super) fn read(directory: &Path) -> anyhow::Result<Report> {
    let text = std::fs::read_to_string(directory.join(JSON)).context("read the demo's report")?;
    Ok(serde_json::from_str(&text)?)
}

/// Copies the report to where it was asked for.
pub(super) fn publish(directory: &Path, report: &Path) -> anyhow::Result<()> {
    for (from, to) in [(MARKDOWN, report.to_path_buf()), (JSON, report.with_extension("json"))] {
        std::fs::copy(directory.join(from), &to)
            .with_context(|| format!("write the report to '{}'", to.display()))?;
    }
    Ok(())
}
