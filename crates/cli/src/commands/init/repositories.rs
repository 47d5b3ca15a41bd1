//! Creating the repositories of a set, and opening each one the way a recovery would.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use repository::key_file::KeyFile;
use repository::unlock::{self, NewRepository, NewSet, Unlock};
use repository::{Member, names};
use serde::Serialize;
use store::Store;

use super::super::Context;
use super::Arguments;
use crate::config::{Config, KeySource, RepositoryConfig};
use crate::secrets;
use crate::wiring::open_store;

/// An interrupted creation leaves a slot for each way in and one data key.
const LEFTOVERS_MAX: usize = 100;

/// Ways in, data keys, and what the proof of put-if-absent writes.
const LEFTOVER_PREFIXES: [&str; 3] = [names::SLOTS, names::EPOCHS, "proof/"];

/// One repository after `init`.
#[derive(Debug, Serialize)]
pub(super) struct Made {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) set: String,
    pub(super) created: bool,
}

/// Makes sure that every repository of a set exists and opens.
pub(super) async fn ensure(
    context: &Context<'_>,
    arguments: &Arguments,
    config: &Config,
    members: &[String],
    now: Timestamp,
) -> anyhow::Result<Vec<Made>> {
    let mut places = Vec::new();
    for table in members.iter().filter_map(|name| config.repositories.get(name)) {
        places.push((table, find(table).await?));
    }
    let existing = open_existing(&places).await?;
    let mut stores = Vec::new();
    for (table, found) in places {
        let there = found.is_some();
        stores.push((found.map_or_else(|| create_store(config, table), Ok)?, table, there));
    }
    let missing: Vec<_> = stores.iter().filter(|(_, _, there)| !there).collect();
    for (store, table, _) in &missing {
        clear_leftovers(context, store).await?;
        prove(store, table).await?;
    }
    let secrets =
        if missing.is_empty() { Vec::new() } else { slots(context, arguments, config, &stores)? };
    let fresh = NewSet::draw(!secrets.is_empty());
    for (store, table, _) in &missing {
        let new =
            NewRepository { slots: &secrets, single_writer: table.single_writer, created: now };
        match &existing {
            Some((first, present)) => {
                unlock::join_member(first, present.as_ref(), store, &new).await?;
                repository::records::copy(first, store).await?;
            }
            None => fresh.create_member(store, &new).await?,
        }
        // A slot that was never opened is a hope, not a way in.
        for (_, secret) in &secrets {
            let member = Member { name: table.name.clone(), store: Arc::clone(store) };
            unlock::open(vec![member], Some(secret)).await.with_context(|| {
                format!("prove that {} opens the repository", secret.describe())
            })?;
        }
    }
    if let Some((first, _)) = &existing {
        for (store, _, _) in &stores {
            repository::records::copy(first, store).await?;
            repository::records::copy(store, first).await?;
        }
    }
    let mut made = Vec::new();
    for (store, table, there) in &stores {
        made.push(Made {
            name: table.name.clone(),
            address: store.address().into(),
            set: unlock::describe(store).await?.set.to_string(),
            created: !there,
        });
    }
    Ok(made)
}

/// The repository at a place, if there is one; makes nothing.
async fn find(table: &RepositoryConfig) -> anyhow::Result<Option<Arc<dyn Store>>> {
    if local_path(table).is_some_and(|path| !path.exists()) {
        return Ok(None);
    }
    let store = open_store(table, false)?;
    match unlock::describe(&store).await {
        Ok(_) => Ok(Some(store)),
        Err(repository::Error::NoRepository { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A set's first repository that is there, and the key that opens it. Nothing is made beside
/// repositories that are not of one set, deny their encryption, or do not open.
async fn open_existing(
    places: &[(&RepositoryConfig, Option<Arc<dyn Store>>)],
) -> anyhow::Result<Option<(Arc<dyn Store>, Option<Unlock>)>> {
    let mut members = Vec::new();
    let mut keys = Vec::new();
    for (table, found) in places {
        let Some(store) = found else { continue };
        keys.extend(table.keys.iter().cloned());
        members.push(Member { name: table.name.clone(), store: Arc::clone(store) });
    }
    let Some(first) = members.first().cloned() else { return Ok(None) };
    let has_key = places.iter().any(|(table, _)| !table.keys.is_empty());
    unlock::describe_set(&members, has_key).await?;
    if members.len() == places.len() {
        return Ok(Some((first.store, None)));
    }
    let present = secrets::unlock_of(&keys, &format!("repository '{}'", first.name))?;
    unlock::open(members, present.as_ref()).await?;
    Ok(Some((first.store, present)))
}

/// Removes what an `init` left that was interrupted before it wrote the descriptor: keys that
/// nothing can have been sealed with. Where anything else is, nothing is touched: somebody may have
/// lost a descriptor only.
async fn clear_leftovers(context: &Context<'_>, store: &Arc<dyn Store>) -> anyhow::Result<()> {
    let found = store.list("", None, LEFTOVERS_MAX).await?;
    let ours =
        |key: &store::Key| LEFTOVER_PREFIXES.iter().any(|prefix| key.as_str().starts_with(prefix));
    if found.is_empty() || found.len() == LEFTOVERS_MAX || !found.iter().all(|meta| ours(&meta.key))
    {
        return Ok(());
    }
    context
        .printer
        .note(&format!("clearing the keys that an interrupted init left in '{}'", store.address()));
    for meta in &found {
        store.delete(&meta.key).await?;
    }
    Ok(())
}

/// Opens the store; the folders of a local one that are made for it belong to whoever runs the
/// server: its archiver stores into them.
fn create_store(config: &Config, table: &RepositoryConfig) -> anyhow::Result<Arc<dyn Store>> {
    let made: Vec<&Path> = match local_path(table) {
        Some(path) => path.ancestors().take_while(|folder| !folder.exists()).collect(),
        None => Vec::new(),
    };
    let store = open_store(table, true)?;
    for cluster in config.clusters.values() {
        if cluster.repositories.contains(&table.name) {
            for folder in &made {
                crate::wiring::hand_to_owner_of(&cluster.data_directory, folder)?;
            }
        }
    }
    Ok(store)
}

/// The folder of a local repository.
fn local_path(table: &RepositoryConfig) -> Option<&Path> {
    let path = Path::new(table.url.strip_prefix("file://").unwrap_or(&table.url));
    path.is_absolute().then_some(path)
}

/// The store must honour put-if-absent, unless one writer was declared.
async fn prove(store: &Arc<dyn Store>, table: &RepositoryConfig) -> anyhow::Result<()> {
    match store::prove_put_if_absent(store, &stdx::Id::random).await {
        Ok(()) => Ok(()),
        Err(_) if table.single_writer => Ok(()),
        Err(error) => Err(anyhow::Error::new(error))
            .with_context(|| format!("prove repository '{}'", table.name)),
    }
}

/// The first slots: a key file for machines and a recovery code for people. Without keys in the
/// configuration the set is not encrypted.
fn slots(
    context: &Context<'_>,
    arguments: &Arguments,
    config: &Config,
    stores: &[(Arc<dyn Store>, &RepositoryConfig, bool)],
) -> anyhow::Result<Vec<(String, Unlock)>> {
    let mut keys: Vec<&KeySource> = Vec::new();
    for key in stores.iter().flat_map(|(_, table, _)| &table.keys) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let mut slots = Vec::new();
    for key in keys {
        let slot = match key {
            KeySource::File(path) => ("key file".to_owned(), key_file(context, config, path)?),
            KeySource::Passphrase(reference) => {
                ("passphrase".to_owned(), passphrase(reference.as_ref())?)
            }
            KeySource::RecoveryCode => {
                ("recovery code".to_owned(), super::recovery_code::make(context, arguments)?)
            }
        };
        slots.push(slot);
    }
    if slots.len() == 1 {
        context.printer.note(
            "warning: the repository has one way in only; add a second one with `rollforward key add`",
        );
    }
    Ok(slots)
}

fn key_file(context: &Context<'_>, config: &Config, path: &Path) -> anyhow::Result<Unlock> {
    if !path.exists() {
        let text = KeyFile::random().render();
        if let Some(folder) = path.parent() {
            stdx::durable::create_dir_all(folder)?;
        }
        stdx::durable::create_new(path, text.as_bytes(), 0o600)
            .with_context(|| format!("write key file '{}'", path.display()))?;
        for cluster in config.clusters.values() {
            crate::wiring::hand_to_owner_of(&cluster.data_directory, path)?;
        }
        context.printer.note(&format!("wrote key file '{}'", path.display()));
    }
    secrets::read_key_file(path)
}

fn passphrase(reference: Option<&crate::config::SecretRef>) -> anyhow::Result<Unlock> {
    if let Some(reference) = reference {
        return Ok(Unlock::Passphrase(secrets::resolve(reference, "the new repository")?));
    }
    let first = secrets::ask_hidden("new passphrase: ")?;
    let second = secrets::ask_hidden("once more: ")?;
    if *first != *second || first.len() < 8 {
        return Err(crate::failure::Error::Usage(
            "expected the same passphrase of at least 8 characters twice".into(),
        )
        .into());
    }
    Ok(Unlock::Passphrase(first))
}
