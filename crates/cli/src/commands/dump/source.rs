//! Tools of others that list what they have and restore it into a directory.

use std::path::Path;
use std::process::Stdio;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::config::dumps::SourceConfig;
use crate::failure::Error;

/// Bytes that a list may have: one line for each of a hundred thousand backups.
const LIST_LEN_MAX: usize = 16 << 20;

/// One backup as the tool lists it: a line of JSON.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Listed {
    pub(crate) id: String,
    pub(crate) time: Option<Timestamp>,
    pub(crate) size: Option<u64>,
}

fn failed(source: &SourceConfig, key: &str, what: &str) -> anyhow::Error {
    Error::Failed {
        what: format!("source '{}': {what}", source.name),
        hint: format!("run source.{}.{key} of the configuration by hand", source.name),
    }
    .into()
}

fn command(words: &[String]) -> Command {
    let mut command = Command::new(words.first().map_or("", String::as_str));
    command.args(words.get(1..).unwrap_or_default()).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// What the tool has.
pub(crate) async fn list(source: &SourceConfig) -> anyhow::Result<Vec<Listed>> {
    let failed = |what: String| failed(source, "list", &what);
    let output = command(&source.list).output().await;
    let output = output.map_err(|error| failed(format!("does not start: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.trim().lines().last().unwrap_or_default().to_owned();
        return Err(failed(format!("its list failed, {}: {last}", output.status)));
    }
    if output.stdout.len() > LIST_LEN_MAX {
        return Err(failed(format!("its list has more than {LIST_LEN_MAX} bytes")));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            serde_json::from_str(line).map_err(|error| {
                let what = format!("line {} of its list is no backup: {error}", number + 1);
                failed(what)
            })
        })
        .collect()
}

/// Restores one of them into a directory that is empty or not there.
pub(crate) async fn restore(
    source: &SourceConfig,
    id: &str,
    directory: &Path,
) -> anyhow::Result<()> {
    if list(source).await?.iter().all(|listed| listed.id != id) {
        return Err(Error::Refused {
            what: format!("source '{}' has no backup '{id}'", source.name),
            hint: format!("rollforward dump list {}", source.name),
        }
        .into());
    }
    let is_empty = match std::fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if !is_empty {
        return Err(Error::Refused {
            what: format!("'{}' is not an empty directory", directory.display()),
            hint: "name one that is empty or not there: --directory".into(),
        }
        .into());
    }
    let place = directory.display().to_string();
    let words: Vec<String> = source
        .restore
        .iter()
        .map(|word| word.replace("{directory}", &place).replace("{id}", id))
        .collect();
    let output = command(&words).stdout(Stdio::null()).stderr(Stdio::piped()).output().await;
    let output =
        output.map_err(|error| failed(source, "restore", &format!("does not start: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.trim().lines().last().unwrap_or_default();
    let what = format!(
        "its restore of '{id}' failed, {}: {last}; what it left stands in '{place}'",
        output.status
    );
    Err(failed(source, "restore", &what))
}
