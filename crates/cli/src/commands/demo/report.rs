//! The report: the run's own, with what only the demonstration knows.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// Rows by table, compared one by one.
    rows: Vec<(String, u64)>,
    orders_shown: usize,
    /// The run's report.
    run: Value,
    /// The same for people.
    markdown: String,
    phases: Vec<Phase>,
}

impl Report {
    pub(super) fn new(stage: &Stage<'_>, damage: &Damage, recovery: Recovery) -> Self {
        Self {
            postgresql: stage.programs.version().to_owned(),
            damage: damage.clone(),
            rows: recovery.rows,
            orders_shown: recovery.orders_shown,
            run: recovery.report,
            markdown: recovery.markdown,
            phases: stage.phases.clone(),
        }
    }

    /// As it is printed: the run's report, what was compared, then every phase of the story.
    pub(super) fn text(&self) -> String {
        let mut out = self.markdown.clone();
        let rows: Vec<String> =
            self.rows.iter().map(|(table, rows)| format!("{rows} {table}")).collect();
        let _ = write!(
            out,
            "\n## The demonstration\n\n\
             - told: \"about {}\"; noticed {}\n\
             - rows as just before the damage: {}; newest order {}\n\
             - a user sees {} orders\n\
             - PostgreSQL {}\n\n\
             | part of the story | seconds |\n|---|---:|\n",
            self.damage.told,
            self.damage.noticed,
            rows.join(", "),
            self.damage.newest_order,
            self.orders_shown,
            self.postgresql
        );
        for phase in &self.phases {
            let _ = writeln!(out, "| {} | {:.1} |", phase.name, phase.seconds);
        }
        out
    }

    /// Leaves it in the demo's folder.
    pub(super) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        stdx::durable::write_atomic(&directory.join(JSON), json.as_bytes(), 0o644)?;
        stdx::durable::write_atomic(&directory.join(MARKDOWN), self.text().as_bytes(), 0o644)?;
        Ok(())
    }
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
