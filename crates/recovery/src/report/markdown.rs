//! A report for people, as Markdown.

use std::fmt::Write as _;

use super::{Report, millis, seconds};
use crate::journal::ServiceState;
use crate::plan::duration_text;

/// The report as Markdown; a post-mortem section stands in it when an objective was missed.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let (state, plan) = (&report.state, &report.state.plan);
    let title = match report.verdict() {
        "restored" => "Declared restored",
        "rolled_back" => "Rolled back",
        "rolled_back_with_errors" => "Rolled back, with errors",
        "halted" => "Halted",
        "superseded" => "Superseded",
        _ => "Under way",
    };
    let mut text = format!("# {title}: {}\n\n", plan.service);
    let mut line = |what: &str, value: String| {
        let _ = writeln!(text, "- {what}: {value}");
    };
    line("run", format!("{} ({}, {}: {})", report.run, plan.mode.text(), plan.method, plan.reason));
    line("target", plan.target.to_string());
    let figure = |value: Option<i64>| value.map_or_else(|| "not measured".into(), seconds);
    let objective = |duration: std::time::Duration| duration_text(duration.as_secs());
    line(
        "RPO reached",
        format!(
            "{} of {} (failure − newest commit present)",
            figure(report.rpo_ms),
            objective(plan.objectives.rpo)
        ),
    );
    line(
        "work lost",
        format!("{} (writes stopped − newest commit present)", figure(report.work_lost_ms)),
    );
    line("RTO", format!("{} of {}", figure(report.rto_ms), objective(plan.objectives.rto)));
    line("alert", state.alert_at.to_string());
    line("declared", state.declared_at.to_string());
    for (name, at) in &state.marks {
        line(name, at.to_string());
    }
    if let Some((_, service, at)) = &report.ended {
        let serves = match service {
            ServiceState::New => "the restored database serves",
            ServiceState::Old => "the old database serves",
            ServiceState::Shut => "the service stays shut",
        };
        line("ended", format!("{at}; {serves}"));
    }
    line("requested by", state.requester.clone());
    line("plan", state.digest.to_string());
    line("journal", format!("head {}", report.head));
    steps(report, &mut text);
    left_to_do(report, &mut text);
    remarks(report, &mut text);
    text
}

fn steps(report: &Report, text: &mut String) {
    text.push_str("\n| step | outcome | seconds | predicted |\n|---|---|---:|---:|\n");
    for step in &report.steps {
        let took = step.ended.map_or_else(
            || "–".into(),
            |at| format!("{:.1}", millis(step.began, at) as f64 / 1000.0),
        );
        let _ = writeln!(
            text,
            "| {} | {}{} | {took} | {} |",
            step.id,
            step.outcome,
            step.failure.as_ref().map_or_else(String::new, |why| format!(": {}", cell(why))),
            step.predicted_s
        );
    }
}

/// What stays to be done by people when users are back.
fn left_to_do(report: &Report, text: &mut String) {
    let is_back = matches!(report.ended, Some((_, ServiceState::New, _)));
    if !is_back {
        return;
    }
    let fact = |name: &str| report.state.facts.get(name);
    text.push_str("\n## Left to do\n\n");
    if let Some(standbys) = fact("standbys") {
        let _ =
            writeln!(text, "- rebuild the standbys, which followed the old cluster: {standbys}");
    }
    if let Some(old) = fact("old_directory") {
        let _ = writeln!(
            text,
            "- '{old}' is kept for {}; then: `rollforward run remove-old {}`",
            duration_text(report.state.plan.policy.keep_old.as_secs()),
            report.run
        );
    }
    if let Some(old) = fact("old_database") {
        let _ = writeln!(
            text,
            "- database '{old}' is kept for {} and takes no sessions; then: \
             `rollforward run remove-old {}`",
            duration_text(report.state.plan.policy.keep_old.as_secs()),
            report.run
        );
    }
    let _ = writeln!(
        text,
        "- close the incident: `rollforward incident close {}`",
        report.state.incident
    );
}

fn remarks(report: &Report, text: &mut String) {
    let state = &report.state;
    text.push_str("\n## What was seen\n\n");
    for (name, value) in &state.facts {
        let _ = writeln!(text, "- {name}: {value}");
    }
    if !report.remarks.is_empty() {
        text.push_str("\n## Remarks\n\n");
        for (at, remark) in &report.remarks {
            let _ = writeln!(text, "- {at}: {remark}");
        }
    }
    let misses = report.misses();
    if !misses.is_empty() {
        text.push_str("\n## Post-mortem\n\n");
        for miss in misses {
            let _ = writeln!(text, "- missed {miss}");
        }
        text.push_str(
            "- longest steps, with what was predicted, stand in the table above\n- cause: \n- what changes: \n- by whom, until when: \n",
        );
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
