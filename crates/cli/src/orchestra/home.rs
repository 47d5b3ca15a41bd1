//! The journal's home: the first of the configured journal stores that honours put-if-absent now.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use anyhow::Context as _;
use recovery::journal::{FINDING_PREFIX, Home, HomeError, load_incident};
use recovery::service::{Database, Service};
use store::Store;
use store::local::Access;

use crate::config::Config;
use crate::failure::Error;
use crate::output::Printer;
use crate::wiring;

/// The service that a run, an incident or a finding is of, by its id: they begin with its name.
fn service_of<'c>(config: &'c Config, id: &str) -> Option<&'c Service> {
    let id = id.strip_prefix(FINDING_PREFIX).unwrap_or(id);
    let is_its = |name: &str| id.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
    let named = config.services.values().filter(|service| is_its(&service.name));
    named.max_by_key(|service| service.name.len())
}

/// Repositories that may hold a service's journal, the home first.
fn candidates(config: &Config, service: Option<&Service>) -> Vec<String> {
    if !config.journal.is_empty() {
        return config.journal.clone();
    }
    match service.map(|service| &service.database) {
        Some(Database::Cluster(place)) => place.cluster.repositories.clone(),
        Some(Database::Rds(_)) | None => config.repositories.keys().cloned().collect(),
    }
}

/// The homes of all services. One that does not answer hides no other one.
pub(crate) async fn open_homes(
    config: &Config,
    writes: bool,
    printer: &Printer,
) -> anyhow::Result<Vec<Home>> {
    let mut firsts = BTreeSet::new();
    let (mut homes, mut failed) = (Vec::new(), None);
    let services: Vec<Option<&Service>> = match config.services.is_empty() {
        true => vec![None],
        false => config.services.values().map(Some).collect(),
    };
    for service in services {
        if !firsts.insert(candidates(config, service).into_iter().next()) {
            continue;
        }
        match open_home(config, service, writes, printer).await {
            Ok(home) => homes.push(home),
            Err(error) => {
                printer.note(&format!("warning: {error:#}"));
                failed = Some(error);
            }
        }
    }
    match (homes.is_empty(), failed) {
        (true, Some(error)) => Err(error),
        _ => Ok(homes),
    }
}

/// Refuses a store that would be lost together with what it is needed for.
fn must_be_elsewhere(config: &Config, name: &str, url: &str) -> anyhow::Result<()> {
    let path = std::path::Path::new(url.strip_prefix("file://").unwrap_or(url));
    for cluster in config.clusters.values() {
        if path.is_absolute() && path.starts_with(&cluster.data_directory) {
            return Err(Error::Refused {
                what: format!(
                    "journal store '{name}' lies in the data directory of cluster '{}', which it must outlive",
                    cluster.name
                ),
                hint: "keep journals in another repository: journal = [\"…\"]".into(),
            }
            .into());
        }
    }
    Ok(())
}

/// Opens the home. The others, and a folder of this host, get copies.
pub(crate) async fn open_home(
    config: &Config,
    service: Option<&Service>,
    writes: bool,
    printer: &Printer,
) -> anyhow::Result<Home> {
    open_first(config, &candidates(config, service), writes, printer, |_| async { true }).await
}

/// Opens the home of a run, an incident or a finding: the first store that has it. It may have
/// begun while the one that is asked first was away.
pub(crate) async fn open_home_of(
    config: &Config,
    id: &str,
    writes: bool,
    printer: &Printer,
) -> anyhow::Result<Home> {
    let names = candidates(config, service_of(config, id));
    open_first(config, &names, writes, printer, |home| async move {
        let is_none = |error: &HomeError| matches!(error, HomeError::NoRun { .. });
        !(home.load(id).await.is_err_and(|error| is_none(&error))
            && load_incident(&home, id).await.is_err_and(|error| is_none(&error)))
    })
    .await
}

/// Opens the first store that answers and is meant; where none is meant, the first that answers.
async fn open_first<F: Future<Output = bool>>(
    config: &Config,
    names: &[String],
    writes: bool,
    printer: &Printer,
    is_meant: impl Fn(Home) -> F,
) -> anyhow::Result<Home> {
    let (mut first, mut failed): (Option<Home>, Option<anyhow::Error>) = (None, None);
    for (at, name) in names.iter().enumerate() {
        let Some(table) = config.repositories.get(name) else { continue };
        must_be_elsewhere(config, name, &table.url)?;
        match open_one(config, name, writes).await {
            Ok((store, keys)) => {
                let copies = copies(config, names.get(at + 1..).unwrap_or_default(), writes);
                let home = Home { store, keys, copies };
                if is_meant(home.clone()).await {
                    return Ok(home);
                }
                first = first.or(Some(home));
            }
            Err(error) => {
                printer.note(&format!("journal store '{name}' is left out: {error:#}"));
                failed = failed.or(Some(error));
            }
        }
    }
    let none = || {
        Error::Usage("there is no repository that could hold the journal of a run".into()).into()
    };
    first.ok_or_else(|| failed.unwrap_or_else(none))
}

/// Where copies go.
fn copies(config: &Config, others: &[String], writes: bool) -> Vec<(String, Arc<dyn Store>)> {
    let open = |name: &String| {
        let table = config.repositories.get(name)?;
        Some((name.clone(), wiring::open_store(table, false).ok()?))
    };
    let mut copies: Vec<_> = others.iter().filter_map(open).collect();
    if writes {
        copies.extend(local_copy(config));
    }
    copies
}

async fn open_one(
    config: &Config,
    name: &str,
    writes: bool,
) -> anyhow::Result<(Arc<dyn Store>, Arc<repository::SetKeys>)> {
    let table = config.repositories.get(name).context("a configured repository")?;
    if writes && table.single_writer {
        return Err(Error::Refused {
            what: format!("repository '{name}' is declared single-writer: no journal lives there"),
            hint: "name another repository: journal = [\"…\"]".into(),
        }
        .into());
    }
    let store = wiring::open_store(table, false)?;
    let quiet = Printer::silent();
    let set = wiring::open_members(&[table], wiring::Purpose::Read, &quiet).await?;
    if writes {
        store::prove_put_if_absent(&store, &stdx::Id::random).await?;
    }
    Ok((store, Arc::clone(set.keys())))
}

/// A copy on this host, so that `runs` answers when nothing else does.
fn local_copy(config: &Config) -> Option<(String, Arc<dyn Store>)> {
    let folder = config.state_directory.join("journal");
    let store = store::LocalStore::create(&folder, Access::Owner).ok()?;
    Some(("this host".into(), Arc::new(store)))
}
