//! Layout, lengths and forbidden words.
//!
//! Lengths are ratchets: what is too long today stands with its length and a reason in
//! `tidy-exceptions.toml`, may not grow, and must be lowered there when it shrinks.

mod exceptions;
mod layout;
mod lengths;
mod rust;
mod text;
mod wrap;

use anyhow::Context;

use crate::finding::Finding;
use crate::source::Source;
use crate::workspace::Workspace;
use exceptions::Exceptions;
use lengths::Excess;

/// Checks every file of the checkout.
///
/// # Errors
/// When a file or the table of exceptions cannot be read.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<Vec<Finding>> {
    let (mut findings, excesses) = survey(workspace)?;
    findings.extend(read_exceptions(workspace)?.judge(&excesses));
    findings.sort();
    Ok(findings)
}

/// Lowers the table's numbers to what is there and removes what is not needed any more. Never
/// raises or adds one.
///
/// # Errors
/// When a file or the table cannot be read, or the table not be written.
pub(crate) fn shrink(workspace: &Workspace) -> anyhow::Result<Vec<Finding>> {
    let (_, excesses) = survey(workspace)?;
    let mut exceptions = read_exceptions(workspace)?;
    exceptions.shrink(&excesses);
    std::fs::write(workspace.path(exceptions::PATH), exceptions.to_text())
        .with_context(|| format!("write '{}'", exceptions::PATH))?;
    check(workspace)
}

/// Wraps comments that are too wide in the files of one folder.
///
/// # Errors
/// When a file cannot be read or written.
pub(crate) fn wrap(workspace: &Workspace, folder: &str) -> anyhow::Result<Vec<Finding>> {
    let files = workspace.files()?;
    for path in files.iter().filter(|it| it.starts_with(folder) && it.ends_with(".rs")) {
        let Some(text) = workspace.read(path)? else { continue };
        let wrapped = wrap::wrap_comments(&text);
        if wrapped != text {
            std::fs::write(workspace.path(path), wrapped)
                .with_context(|| format!("write '{path}'"))?;
        }
    }
    Ok(Vec::new())
}

fn read_exceptions(workspace: &Workspace) -> anyhow::Result<Exceptions> {
    Exceptions::parse(&workspace.read(exceptions::PATH)?.context("the exceptions are not text")?)
}

fn survey(workspace: &Workspace) -> anyhow::Result<(Vec<Finding>, Vec<Excess>)> {
    let files = workspace.files()?;
    let mut findings = layout::check(&files);
    let mut excesses = Vec::new();
    for path in &files {
        let Some(text) = workspace.read(path)? else { continue };
        findings.extend(text::check(path, &text));
        if path.ends_with(".rs") {
            let source = Source::new(&text);
            findings.extend(rust::check(path, &source));
            excesses.extend(lengths::measure(path, &source));
        }
    }
    Ok((findings, excesses))
}
