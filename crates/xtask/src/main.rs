//! Checks that keep the workspace as it was designed; `make check` runs them.
//!
//! ```text
//! cargo run -p xtask -- tidy                 layout, lengths, forbidden words
//! cargo run -p xtask -- tidy --shrink        lower the exceptions to what is there
//! cargo run -p xtask -- tidy --wrap FOLDER   wrap comments that are too wide
//! cargo run -p xtask -- edges                which crate uses which
//! cargo run -p xtask -- bans                 no banned crate is built
//! ```
//!
//! Each check returns findings, prints all of them, and fails when there is one. Decisions are
//! pure functions over texts; only [`workspace`] and the commands' entries read files.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command-line tool

mod bans;
mod edges;
mod finding;
mod source;
mod tidy;
mod workspace;

use std::process::ExitCode;

use finding::Finding;
use workspace::Workspace;

const USAGE: &str = "usage: cargo run -p xtask -- tidy [--shrink | --wrap FOLDER] | edges | bans";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(findings) if findings.is_empty() => ExitCode::SUCCESS,
        Ok(findings) => {
            for finding in &findings {
                println!("{finding}");
            }
            eprintln!("{}: {} finding(s)", words.join(" "), findings.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(words: &[&str]) -> anyhow::Result<Vec<Finding>> {
    let workspace = Workspace::find()?;
    match words {
        ["tidy"] => tidy::check(&workspace),
        ["tidy", "--shrink"] => tidy::shrink(&workspace),
        ["tidy", "--wrap", folder] => tidy::wrap(&workspace, folder),
        ["edges"] => edges::check(&workspace),
        ["bans"] => bans::check(&workspace),
        _ => anyhow::bail!("{USAGE}"),
    }
}
