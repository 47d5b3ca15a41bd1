//! `rollforward runs`: recovery runs, newest first.

use recovery::report::Report;

use super::Context;
use crate::orchestra::open_homes;
use crate::output::table;
use crate::wiring::block_on;

/// Arguments of `runs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only those of this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    block_on(async {
        let mut found = Vec::new();
        for home in open_homes(&config, false, context.printer).await? {
            for name in home.runs().await? {
                match home.load(&name).await {
                    Ok(loaded) => found.push(Report::of(&loaded)?),
                    Err(error) => context.printer.note(&format!("warning: {error}")),
                }
            }
        }
        found.retain(|report| {
            arguments.service.as_ref().is_none_or(|name| *name == report.state.plan.service)
        });
        found.sort_by_key(|report| std::cmp::Reverse(report.state.declared_at));
        let mut list = table(&["run", "service", "mode", "declared", "verdict", "target"]);
        for report in &found {
            list.add_row([
                report.run.clone(),
                report.state.plan.service.clone(),
                report.state.plan.mode.text().to_owned(),
                report.state.declared_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                report.verdict().to_owned(),
                report.state.plan.target.to_string(),
            ]);
        }
        let text = match found.is_empty() {
            true => "no runs".to_owned(),
            false => list.to_string(),
        };
        let rows: Vec<serde_json::Value> = found
            .iter()
            .map(|report| {
                serde_json::json!({
                    "run": report.run, "service": report.state.plan.service,
                    "mode": report.state.plan.mode.text(), "verdict": report.verdict(),
                    "declared_at": report.state.declared_at.to_string(),
                    "target": report.state.plan.target.to_string(),
                })
            })
            .collect();
        context.printer.result(&serde_json::json!({ "runs": rows }), &text);
        if let Some(newest) = found.first() {
            context.printer.next(&format!("rollforward run show {}", newest.run));
        }
        Ok(0)
    })
}
