//! What may be longer than its limit, and why.

use std::fmt::Write;

use anyhow::Context;
use serde::Deserialize;

use super::lengths::Excess;
use crate::finding::Finding;

/// The table's file.
pub(super) const PATH: &str = "crates/xtask/tidy-exceptions.toml";

const HEAD: &str = "\
# What is longer than its limit (see src/tidy/lengths.rs), and why. A ratchet: `lines` is exactly
# what is there, may only be lowered (`cargo run -p xtask -- tidy --shrink`), and a new entry needs
# a reason that a reviewer accepts, such as being a table.
";

/// The table.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exceptions {
    #[serde(default)]
    exception: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    path: String,
    /// As in [`Excess::what`].
    what: String,
    lines: usize,
    reason: String,
}

impl Exceptions {
    /// Parses the table.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        toml::from_str(text).with_context(|| format!("parse '{PATH}'"))
    }

    /// Compares what is too long with what may be.
    pub(super) fn judge(&self, excesses: &[Excess]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for excess in excesses {
            let Excess { path, what, lines, limit, at } = excess;
            let allowed = self.exception.iter().find(|it| it.covers(excess));
            let message = match allowed.map(|it| it.lines) {
                None => format!("{what} has {lines} lines, at most {limit}: split it"),
                Some(allowed) if *lines > allowed => {
                    format!("{what} has grown from {allowed} to {lines} lines: split it")
                }
                Some(_) => continue,
            };
            findings.push(Finding::new(path, *at, message));
        }
        for exception in &self.exception {
            let Exception { path, what, lines, reason } = exception;
            let seen = excesses.iter().find(|it| exception.covers(it)).map(|it| it.lines);
            let message = match seen {
                Some(seen) if seen >= *lines && reason.trim().is_empty() => {
                    format!("no reason for {what} of '{path}'")
                }
                Some(seen) if seen >= *lines => continue,
                _ => format!("{what} of '{path}' has shrunk: run `xtask tidy --shrink`"),
            };
            findings.push(Finding::new(PATH, 0, message));
        }
        findings
    }

    /// Lowers the numbers to what is there, and removes what is within its limit.
    pub(super) fn shrink(&mut self, excesses: &[Excess]) {
        self.exception.retain_mut(|exception| {
            let seen = excesses.iter().find(|it| exception.covers(it));
            seen.inspect(|seen| exception.lines = exception.lines.min(seen.lines)).is_some()
        });
    }

    /// Returns the table as it is stored.
    pub(super) fn to_text(&self) -> String {
        let mut text = HEAD.to_owned();
        for Exception { path, what, lines, reason } in &self.exception {
            let quoted = |value: &str| toml::Value::String(value.to_owned()).to_string();
            let (path, what, reason) = (quoted(path), quoted(what), quoted(reason));
            let _ = write!(
                text,
                "\n[[exception]]\npath = {path}\nwhat = {what}\nlines = {lines}\nreason = {reason}\n"
            );
        }
        text
    }
}

impl Exception {
    fn covers(&self, excess: &Excess) -> bool {
        self.path == excess.path && self.what == excess.what
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "[[exception]]\npath = \"a.rs\"\nwhat = \"file\"\nlines = 600\n\
        reason = \"a table\"\n";

    fn excess(lines: usize) -> Excess {
        Excess { path: "a.rs".to_owned(), what: "file".to_owned(), lines, limit: 500, at: 1 }
    }

    fn check(table: &str, excesses: &[Excess], expected: &[&str]) {
        let found = Exceptions::parse(table).unwrap().judge(excesses);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_too_long_needs_an_exception_and_may_not_grow() {
        check("", &[], &[]);
        check("", &[excess(600)], &["a.rs:1: file has 600 lines, at most 500: split it"]);
        check(TABLE, &[excess(600)], &[]);
        check(TABLE, &[excess(601)], &["a.rs:1: file has grown from 600 to 601 lines: split it"]);
    }

    #[test]
    fn an_exception_that_is_too_wide_must_be_lowered() {
        let found = [format!("{PATH}: file of 'a.rs' has shrunk: run `xtask tidy --shrink`")];
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        check(TABLE, &[excess(599)], &found);
        check(TABLE, &[], &found);
        for (excesses, left) in [(vec![excess(599)], "599"), (vec![], "")] {
            let mut exceptions = Exceptions::parse(TABLE).unwrap();
            exceptions.shrink(&excesses);
            assert!(exceptions.to_text().ends_with(HEAD) == left.is_empty());
            check(&exceptions.to_text(), &excesses, &[]);
        }
    }

    #[test]
    fn shrinking_never_raises_a_number() {
        let mut exceptions = Exceptions::parse(TABLE).unwrap();
        exceptions.shrink(&[excess(700)]);
        assert!(exceptions.to_text().contains("lines = 600"));
    }

    #[test]
    fn an_exception_needs_a_reason() {
        let table = TABLE.replace("a table", " ");
        check(&table, &[excess(600)], &[&format!("{PATH}: no reason for file of 'a.rs'")]);
    }
}
