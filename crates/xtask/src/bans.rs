//! No banned crate is built.
//!
//! The list stands in `deny.toml`, for cargo-deny. What is compared is what cargo builds for this
//! machine, not `Cargo.lock`: the lock file also holds what optional features would need.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::finding::Finding;
use crate::workspace::Workspace;

const DENY: &str = "deny.toml";

#[derive(Deserialize)]
struct Deny {
    bans: Bans,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

/// Compares what is built with the list.
///
/// # Errors
/// When the list cannot be read or cargo fails.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<Vec<Finding>> {
    let list = workspace.read(DENY)?.with_context(|| format!("'{DENY}' is not text"))?;
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let output = Command::new(cargo)
        .args(["tree", "--workspace", "--locked", "--edges", "normal,build,dev"])
        .args(["--prefix", "none"])
        .current_dir(workspace.path(""))
        .output()
        .context("run cargo tree")?;
    ensure!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    compare(&list, &String::from_utf8_lossy(&output.stdout))
}

/// Compares the text of `deny.toml` with cargo's tree: lines of `name version …`.
fn compare(list: &str, tree: &str) -> anyhow::Result<Vec<Finding>> {
    let list: Deny = toml::from_str(list).with_context(|| format!("parse '{DENY}'"))?;
    let built: BTreeSet<&str> =
        tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    ensure!(built.contains("xtask"), "cargo tree lists {} crates, but not this one", built.len());
    let banned = list.bans.deny.iter().filter(|banned| built.contains(banned.name.as_str()));
    Ok(banned
        .map(|banned| {
            let (name, reason) = (&banned.name, &banned.reason);
            let message =
                format!("'{name}' is built but banned: {reason}; see `cargo tree -i {name}`");
            Finding::new("Cargo.lock", 0, message)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "[bans]\ndeny = [{ crate = \"ring\", reason = \"one provider\" }]";

    #[test]
    fn a_banned_crate_is_found_by_its_whole_name() {
        let tree = "xtask v0.1.0 (/x)\nstring v1.0.0\nringbuffer v1.0.0\n";
        assert_eq!(compare(LIST, tree).unwrap(), []);
        let found = compare(LIST, &format!("{tree}ring v0.17.0 (*)\n")).unwrap();
        let expected = "Cargo.lock: 'ring' is built but banned: one provider; \
            see `cargo tree -i ring`";
        assert_eq!(found.first().unwrap().to_string(), expected);
    }

    #[test]
    fn an_empty_tree_is_no_proof() {
        assert!(compare(LIST, "").is_err());
    }
}
