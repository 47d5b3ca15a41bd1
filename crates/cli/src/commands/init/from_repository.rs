//! `init --from-repository`: the configuration onto a bare machine.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use repository::{Kind, names};
use serde::Serialize;

use super::super::Context;
use super::Arguments;
use crate::config::{KeySource, RepositoryConfig};
use crate::failure::Error;
use crate::wiring::{Purpose, open_members};

#[derive(Serialize)]
struct Fetched<'a> {
    config: &'a Path,
    from: String,
}

pub(super) async fn run(
    context: &Context<'_>,
    arguments: &Arguments,
    url: &str,
    path: &Path,
) -> anyhow::Result<u8> {
    if path.exists() {
        return Err(Error::Refused {
            what: format!("configuration '{}' exists already", path.display()),
            hint: "name another file with --config".into(),
        }
        .into());
    }
    let keys = crate::commands::key::given_keys(
        arguments.key_file.as_deref(),
        arguments.recovery_code_file.as_deref(),
    )?;
    let table = RepositoryConfig {
        name: "main".into(),
        url: url.into(),
        keys: keys
            .iter()
            .filter_map(|key| match key {
                crate::commands::key::Given::KeyFile(path) => Some(KeySource::File(path.clone())),
                crate::commands::key::Given::Code(_) => None,
            })
            .collect(),
        single_writer: false,
        credentials: BTreeMap::new(),
    };
    let repository = match keys.into_iter().find_map(crate::commands::key::Given::into_code) {
        Some(unlock) => {
            let store = crate::wiring::open_store(&table, false)?;
            let member = repository::Member { name: table.name.clone(), store };
            repository::unlock::open(vec![member], Some(&unlock)).await?
        }
        None => open_members(&[&table], Purpose::Read, context.printer).await?,
    };
    let key = repository.last(names::CONFIGS).await?.ok_or_else(|| Error::Failed {
        what: format!("repository '{url}' keeps no configuration"),
        hint: "write one by hand: docs/guide/configuration.md; the backups are there all the same"
            .into(),
    })?;
    let frames = repository.read(Kind::Config, &key).await?;
    let text = frames.first().map(Vec::as_slice).unwrap_or_default();
    if let Some(folder) = path.parent() {
        stdx::durable::create_dir_all(folder)?;
    }
    stdx::durable::create_new(path, text, 0o640)
        .with_context(|| format!("write configuration '{}'", path.display()))?;
    let fetched = Fetched { config: path, from: repository.address() };
    context.printer.result(&fetched, &format!("wrote configuration '{}'", path.display()));
    context.printer.next("put the key file where the configuration says, then rollforward backups");
    Ok(0)
}
