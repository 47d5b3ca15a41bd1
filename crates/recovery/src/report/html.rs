//! A report as one HTML page, with a picture of its time; nothing is loaded from anywhere.

use std::fmt::Write as _;

use super::{Report, StepLine, markdown, millis};

/// Width of the picture's bars, and height of a row.
const WIDTH: i64 = 640;
const ROW: i64 = 22;

/// The report as a page of its own.
#[must_use]
pub fn html(report: &Report) -> String {
    let title = format!("{}: {}", report.run, report.verdict());
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>{0}</title>\n<style>\
         body{{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}\
         pre{{white-space:pre-wrap;font:13px/1.5 ui-monospace,monospace}}\
         .done{{fill:#2f7d4f}}.failed{{fill:#b3261e}}.undone{{fill:#8a6d1f}}.other{{fill:#5f6368}}\
         text{{font:12px system-ui,sans-serif;fill:#202124}}</style></head>\n\
         <body><h1>{0}</h1>\n{1}\n<pre>{2}</pre></body></html>\n",
        escaped(&title),
        timeline(report),
        escaped(&markdown(report))
    )
}

/// Every step as a bar, from the alert on.
fn timeline(report: &Report) -> String {
    let start = report.state.alert_at;
    let ends = report.steps.iter().map(|step| step.ended.unwrap_or(step.began));
    let total = ends.map(|end| millis(start, end)).max().unwrap_or(1).max(1);
    let height = ROW * i64::try_from(report.steps.len()).unwrap_or(0) + 30;
    let mut svg = format!(
        "<svg role=\"img\" aria-label=\"time of every step\" viewBox=\"0 0 {} {height}\" width=\"100%\">",
        WIDTH + 260
    );
    for (row, step) in (0..).zip(&report.steps) {
        bar(&mut svg, step, row, millis(start, step.began), total, start);
    }
    let _ = write!(
        svg,
        "<text x=\"250\" y=\"{}\">0</text><text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text></svg>",
        height - 8,
        WIDTH + 250,
        height - 8,
        super::seconds(total)
    );
    svg
}

fn bar(
    svg: &mut String,
    step: &StepLine,
    row: i64,
    began: i64,
    total: i64,
    start: jiff::Timestamp,
) {
    let end = millis(start, step.ended.unwrap_or(step.began));
    let x = 250 + began.clamp(0, total) * WIDTH / total;
    let width = ((end - began).max(0) * WIDTH / total).max(2);
    let class = match step.outcome {
        "done" => "done",
        "failed" | "undo failed" => "failed",
        "undone" => "undone",
        _ => "other",
    };
    let y = row * ROW + 4;
    let _ = write!(
        svg,
        "<text x=\"0\" y=\"{}\">{}</text><rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{}\"><title>{}</title></rect>",
        y + 12,
        escaped(&step.id),
        ROW - 6,
        escaped(&format!("{}: {}", step.id, step.outcome)),
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
