//! Which `pg_dump` and `pg_restore` there are, and which one does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pgclient::local::folders_with;
use tokio::process::Command;

use super::error::DumpError;

/// `--version` answers at once, unless a disk hangs.
const VERSION_DEADLINE: Duration = Duration::from_secs(30);

/// One installed program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Its path.
    pub path: PathBuf,
    /// Its major version.
    pub major: u32,
    /// Its version, such as `16.14`.
    pub version: String,
    /// Whether it lies in a folder that was named: it goes before the others then.
    pub is_named: bool,
}

/// Every `program` in `folders` and where packages put it, in this order.
pub async fn find(program: &'static str, folders: &[PathBuf]) -> Vec<Tool> {
    let mut found = Vec::new();
    for folder in folders_with(program, folders) {
        let path = folder.join(program);
        if let Some(version) = version(&path).await
            && let Some(major) = version.split('.').next().and_then(leading_number)
        {
            let is_named = folders.contains(&folder);
            found.push(Tool { path, major, version, is_named });
        }
    }
    found
}

/// "pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "… 19beta1"
async fn version(path: &Path) -> Option<String> {
    let mut command = Command::new(path);
    command.arg("--version").env_clear().env("LC_ALL", "C").kill_on_drop(true);
    let output = tokio::time::timeout(VERSION_DEADLINE, command.output()).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)?.split_whitespace().nth(2).map(str::to_owned)
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

/// The program to use: one in a folder that was named, if it is not too old; else the one of
/// version `best`, else the lowest later one. An older `pg_dump` than the server refuses, and an
/// older `pg_restore` than `pg_dump` may not read its format.
///
/// # Errors
/// [`DumpError::NoProgram`].
pub fn choose<'t>(
    program: &'static str,
    found: &'t [Tool],
    at_least: u32,
    best: u32,
) -> Result<&'t Tool, DumpError> {
    let able = found.iter().filter(|tool| tool.major >= at_least);
    able.min_by_key(|tool| (!tool.is_named, tool.major < best, tool.major.abs_diff(best)))
        .ok_or_else(|| {
            let seen: Vec<String> = found
                .iter()
                .map(|tool| format!("{} in '{}'", tool.version, folder(&tool.path)))
                .collect();
            let seen = if seen.is_empty() { "none".to_owned() } else { seen.join(", ") };
            DumpError::NoProgram { program, wanted: at_least, seen }
        })
}

fn folder(path: &Path) -> String {
    path.parent().unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::{Tool, choose};

    #[test]
    fn the_nearest_version_that_is_not_older_is_taken() {
        let found: Vec<Tool> = [18, 15, 16]
            .map(|major| Tool {
                path: format!("/pg/{major}/bin/pg_dump").into(),
                major,
                version: format!("{major}.1"),
                is_named: false,
            })
            .into();
        let check = |at_least: u32, best: u32, expect: &str| {
            let seen = match choose("pg_dump", &found, at_least, best) {
                Ok(tool) => tool.version.clone(),
                Err(error) => error.to_string(),
            };
            assert_eq!(seen, expect, "{at_least} {best}");
        };
        check(14, 14, "15.1");
        check(15, 15, "15.1");
        check(17, 17, "18.1");
        check(15, 16, "16.1");
        check(18, 16, "18.1");
        check(
            19,
            19,
            "expected a pg_dump of PostgreSQL 19 or later, seen 18.1 in '/pg/18/bin', \
             15.1 in '/pg/15/bin', 16.1 in '/pg/16/bin'",
        );
        let mut named = found.clone();
        named[0].is_named = true;
        assert_eq!(choose("pg_dump", &named, 15, 15).unwrap().version, "18.1");
        assert!(choose("pg_dump", &[], 15, 15).unwrap_err().to_string().ends_with("seen none"));
    }
}
