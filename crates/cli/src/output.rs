//! Data to standard output, everything else to standard error.

use std::io::{IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::args::Global;

/// Where a command prints. Without `--json` people read; with it one document or lines of JSON.
#[derive(Clone, Debug)]
pub(crate) struct Printer {
    json: bool,
    quiet: bool,
}

impl Printer {
    pub(crate) fn new(global: &Global) -> Self {
        Self { json: global.json, quiet: global.quiet }
    }

    /// One that prints nothing but errors.
    pub(crate) fn silent() -> Self {
        Self { json: false, quiet: true }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether remarks are printed.
    pub(crate) fn is_noisy(&self) -> bool {
        !self.quiet
    }

    /// Whether progress may be drawn over itself.
    pub(crate) fn is_live(&self) -> bool {
        !self.quiet && !self.json && std::io::stderr().is_terminal()
    }

    /// A result: JSON with `--json`, else the text.
    pub(crate) fn result<T: Serialize>(&self, value: &T, text: &str) {
        if self.json {
            self.document(value);
        } else {
            write_line(&mut std::io::stdout().lock(), text);
        }
    }

    /// One JSON document on a line of its own.
    pub(crate) fn document<T: Serialize>(&self, value: &T) {
        match serde_json::to_string(value) {
            Ok(text) => write_line(&mut std::io::stdout().lock(), &text),
            Err(error) => self.error_text(&format!("error: result does not print: {error}")),
        }
    }

    /// A remark on what happens; silent with `--quiet`.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            write_line(&mut std::io::stderr().lock(), text);
        }
    }

    /// A remark that `--quiet` does not silence.
    pub(crate) fn error_text(&self, text: &str) {
        write_line(&mut std::io::stderr().lock(), text);
    }

    /// What the operator would do next.
    pub(crate) fn next(&self, text: &str) {
        if !self.json {
            self.note(&format!("next: {text}"));
        }
    }
}

/// A closed pipe is the reader's choice, not an error of ours.
fn write_line(out: &mut dyn Write, text: &str) {
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// A number and its noun, in the plural where it has to be.
pub(crate) fn count(number: impl TryInto<u64>, noun: &str) -> String {
    match number.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {noun}"),
        more => format!("{more} {noun}s"),
    }
}

/// A table without borders whose columns line up.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    table
}

/// Warnings and errors of the libraries go to standard error; `ROLLFORWARD_LOG` says how much.
pub(crate) fn start_log(global: &Global) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("ROLLFORWARD_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = if global.json { builder.json().try_init() } else { builder.without_time().try_init() };
}
