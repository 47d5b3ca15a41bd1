//! `[dumps.NAME]` and `[source.NAME]`: what others make and keep.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{KeyProblem, RepositoryConfig, absolute, known, repository, wire};

/// Dumps that others made, in a directory or a bucket.
#[derive(Clone, Debug)]
pub(crate) struct DumpsConfig {
    /// Where they lie, with the credentials.
    pub(crate) place: RepositoryConfig,
    /// The program that opens one, with its arguments; may be empty.
    pub(crate) open: Vec<String>,
    /// The cluster they are listed with.
    pub(crate) cluster: Option<String>,
    /// Where PostgreSQL's programs are.
    pub(crate) bin_directory: Option<PathBuf>,
}

/// A tool of others that lists what it has and restores it into a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceConfig {
    /// Its name.
    pub(crate) name: String,
    /// The program that lists, as lines of JSON.
    pub(crate) list: Vec<String>,
    /// The program that restores `{id}` into `{directory}`.
    pub(crate) restore: Vec<String>,
    /// The cluster they are listed with.
    pub(crate) cluster: Option<String>,
}

/// Both, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Others {
    /// `[dumps.NAME]`.
    pub(crate) dumps: BTreeMap<String, DumpsConfig>,
    /// `[source.NAME]`.
    pub(crate) sources: BTreeMap<String, SourceConfig>,
}

/// A problem with its whole key.
type Problem = (String, String);

pub(super) fn others<C>(
    file: &mut wire::File,
    clusters: &BTreeMap<String, C>,
) -> Result<Others, Problem> {
    let mut others = Others::default();
    let is_free = |name: &str| match clusters.contains_key(name) {
        true => Err("a cluster has this name, and commands take either".to_owned()),
        false => Ok(()),
    };
    for (name, table) in std::mem::take(&mut file.dumps) {
        let at = |(key, why): KeyProblem| (format!("dumps.{name}.{key}"), why);
        is_free(&name).map_err(|why| (format!("dumps.{name}"), why))?;
        let read = dumps(&name, table).map_err(at)?;
        check_cluster(read.cluster.as_deref(), clusters).map_err(at)?;
        others.dumps.insert(name, read);
    }
    for (name, table) in std::mem::take(&mut file.source) {
        let at = |(key, why): KeyProblem| (format!("source.{name}.{key}"), why);
        is_free(&name).map_err(|why| (format!("source.{name}"), why))?;
        if others.dumps.contains_key(&name) {
            let why = format!("there is a [dumps.{name}], and commands take either");
            return Err((format!("source.{name}"), why));
        }
        let read = source(&name, table).map_err(at)?;
        check_cluster(read.cluster.as_deref(), clusters).map_err(at)?;
        others.sources.insert(name, read);
    }
    Ok(others)
}

fn check_cluster<C>(name: Option<&str>, clusters: &BTreeMap<String, C>) -> Result<(), KeyProblem> {
    match name {
        Some(name) if !clusters.contains_key(name) => {
            let why = format!("there is no [cluster.{name}]; known: {}", known(clusters.keys()));
            Err(("cluster", why))
        }
        _ => Ok(()),
    }
}

fn dumps(name: &str, table: wire::DumpsTable) -> Result<DumpsConfig, KeyProblem> {
    if table.open.first().is_some_and(String::is_empty) {
        return Err(("open", "expected a program and its arguments".into()));
    }
    let bin_directory = table.bin_directory.as_deref().map(absolute).transpose();
    let place = wire::RepositoryTable {
        url: table.source,
        keys: Vec::new(),
        single_writer: false,
        access_key_id: table.access_key_id,
        secret_access_key: table.secret_access_key,
        session_token: table.session_token,
    };
    Ok(DumpsConfig {
        place: repository::repository(name, place)?,
        open: table.open,
        cluster: table.cluster,
        bin_directory: bin_directory.map_err(|why| ("bin_directory", why))?,
    })
}

fn source(name: &str, table: wire::SourceTable) -> Result<SourceConfig, KeyProblem> {
    if table.list.first().is_none_or(String::is_empty) {
        return Err(("list", "expected a program and its arguments".into()));
    }
    if table.restore.first().is_none_or(String::is_empty) {
        return Err(("restore", "expected a program and its arguments".into()));
    }
    for place in ["{id}", "{directory}"] {
        if !table.restore.iter().any(|word| word.contains(place)) {
            return Err(("restore", format!("expected {place} among the arguments")));
        }
    }
    Ok(SourceConfig {
        name: name.into(),
        list: table.list,
        restore: table.restore,
        cluster: table.cluster,
    })
}
