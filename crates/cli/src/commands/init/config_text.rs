//! The text of a first configuration.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use pgclient::{Client, ConnectOptions};

use super::Arguments;
use crate::failure::Error;

/// Composes `rollforward.toml` from the arguments and from what the server says.
pub(super) async fn compose(arguments: &Arguments, path: &Path) -> anyhow::Result<String> {
    let data_directory = match &arguments.data_directory {
        Some(directory) => std::path::absolute(directory)?,
        None => {
            let options = ConnectOptions::parse(&arguments.connection)?;
            let client =
                Client::connect(&options).await.context("ask the server for its data directory")?;
            client.server().await?.data_directory
        }
    };
    let key_file = key_file(arguments, path)?;
    let mut text = String::from(
        "# Rollforward's configuration; docs/guide/configuration.md describes every key.\nversion = 1\n",
    );
    let state_directory = std::path::absolute(&arguments.state_directory)?;
    let _ = writeln!(text, "state_directory = {}", quoted(&state_directory.display().to_string()));
    let mut names = Vec::new();
    for (number, given) in arguments.repositories.iter().enumerate() {
        let (name, url) = split(given, number)?;
        if names.contains(&name) {
            return Err(Error::Usage(format!("repository '{name}' is named twice")).into());
        }
        let _ = write!(text, "\n[repository.{name}]\nurl = {}\n", quoted(&absolute_url(&url)?));
        if !arguments.no_encryption {
            let file = quoted(&format!("file:{}", key_file.display()));
            let _ = writeln!(text, "keys = [{file}, \"recovery-code\"]");
        }
        if arguments.single_writer {
            text.push_str("single_writer = true\n");
        }
        names.push(name);
    }
    let list: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    let _ = write!(
        text,
        "\n[cluster.{}]\nhost = {}\ndata_directory = {}\nconnection = {}\nrepositories = [{}]\n",
        bare_key(&arguments.cluster)?,
        quoted(&crate::wiring::host_name()),
        quoted(&data_directory.display().to_string()),
        quoted(&arguments.connection),
        list.join(", ")
    );
    Ok(text)
}

/// Where the key file is or will be.
pub(super) fn key_file(arguments: &Arguments, config: &Path) -> anyhow::Result<std::path::PathBuf> {
    let path = match &arguments.key_file {
        Some(path) => path.clone(),
        None => config.with_file_name("rollforward.key"),
    };
    Ok(std::path::absolute(path)?)
}

/// `NAME=URL`, or a URL that gets the name `main`, `second`, ….
fn split(given: &str, number: usize) -> anyhow::Result<(String, String)> {
    let named = given.split_once('=').filter(|(name, _)| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    });
    Ok(match (named, number) {
        (Some((name, url)), _) => (name.to_owned(), url.to_owned()),
        (None, 0) => ("main".to_owned(), given.to_owned()),
        (None, 1) => ("second".to_owned(), given.to_owned()),
        (None, number) => (format!("repository{}", number + 1), given.to_owned()),
    })
}

/// A path is written as an absolute one: the configuration is used from other folders, too.
fn absolute_url(url: &str) -> anyhow::Result<String> {
    if url.contains("://") || url.starts_with("memory:") {
        return Ok(url.to_owned());
    }
    Ok(std::path::absolute(url)?.display().to_string())
}

fn bare_key(name: &str) -> anyhow::Result<String> {
    let bare =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if bare {
        return Ok(name.to_owned());
    }
    Err(Error::Usage(format!(
        "a cluster's name has letters, digits, '-' and '_' only, seen '{name}'"
    ))
    .into())
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
