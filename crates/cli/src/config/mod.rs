//! The configuration: what `rollforward.toml` says, checked and typed.

pub(crate) mod dumps;
mod error;
mod kubernetes;
mod notify;
mod repository;
mod schedule;
pub(crate) mod service;
mod site;
mod traffic;
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ::repository::Compression;
use recovery::service::{Person, Persons, Service};

pub(crate) use error::{CODES, Error};
pub(crate) use kubernetes::{KubernetesConfig, contexts};
pub(crate) use notify::{
    AboutService, Channel, ChannelKind, PagePlace, TemplateConfig, TemplateText,
};
pub(crate) use repository::{KeySource, RepositoryConfig, SecretRef};
pub(crate) use schedule::{Job, Schedule};

/// Where the configuration is looked for when no option names it.
pub(crate) const DEFAULT_PATHS: [&str; 2] =
    ["rollforward.toml", "/etc/rollforward/rollforward.toml"];

/// State that is ours and not in the repository: writer tokens, caches.
const STATE_DIRECTORY_DEFAULT: &str = "/var/lib/rollforward";

/// The configuration of this host.
#[derive(Debug)]
pub(crate) struct Config {
    /// The file it was read from.
    pub(crate) path: PathBuf,
    /// The file's text, as it is kept in the repository.
    pub(crate) text: String,
    /// Where tokens and caches are kept.
    pub(crate) state_directory: PathBuf,
    /// Repositories by name.
    pub(crate) repositories: BTreeMap<String, RepositoryConfig>,
    /// Clusters by name.
    pub(crate) clusters: BTreeMap<String, ClusterConfig>,
    /// What others make and keep.
    pub(crate) others: dumps::Others,
    /// Repositories that runs are journaled in, the home first.
    pub(crate) journal: Vec<String>,
    /// Who may request and approve.
    pub(crate) persons: Persons,
    /// Channels by name.
    pub(crate) channels: BTreeMap<String, Channel>,
    /// Kubernetes clusters by name.
    pub(crate) kubernetes: BTreeMap<String, KubernetesConfig>,
    /// Texts for stakeholders by name.
    pub(crate) templates: BTreeMap<String, TemplateConfig>,
    /// Services by name.
    pub(crate) services: BTreeMap<String, Service>,
    /// What runs by itself.
    pub(crate) schedule: Schedule,
    /// What services say of their alerts, by the service's name.
    pub(crate) about: BTreeMap<String, AboutService>,
}

/// One cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterConfig {
    /// Its name.
    pub(crate) name: String,
    /// The host its steps run on, when it was named.
    pub(crate) host: Option<String>,
    /// Its data directory.
    pub(crate) data_directory: PathBuf,
    /// How to connect to it, in libpq's form.
    pub(crate) connection: String,
    /// The set it is protected by, by name.
    pub(crate) repositories: Vec<String>,
    /// Where its programs are, when they are not found by themselves.
    pub(crate) bin_directory: Option<PathBuf>,
    /// How its files and WAL are compressed.
    pub(crate) compression: Compression,
    /// Threads that compress and seal; by default one per processor.
    pub(crate) workers: Option<usize>,
}

impl Config {
    /// Reads the file at `path`, or the first of [`DEFAULT_PATHS`] that exists.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, Error> {
        let path = match path {
            Some(path) => path.to_path_buf(),
            None => DEFAULT_PATHS
                .iter()
                .map(PathBuf::from)
                .find(|path| path.exists())
                .ok_or(Error::Missing { looked: DEFAULT_PATHS.join("', '") })?,
        };
        let text = std::fs::read_to_string(&path)
            .map_err(|source| Error::Unreadable { path: path.clone(), source })?;
        let path = std::path::absolute(&path).unwrap_or(path);
        Self::parse(&path, text)
    }

    /// Reads the configuration from its text.
    pub(crate) fn parse(path: &Path, text: String) -> Result<Self, Error> {
        let invalid =
            |key: String, reason: String| Error::Invalid { path: path.into(), key, reason };
        let parser = toml::Deserializer::parse(&text)
            .map_err(|error| invalid(String::new(), error.to_string()))?;
        let mut file: wire::File = serde_path_to_error::deserialize(parser).map_err(|error| {
            let key = error.path().to_string();
            let error = error.into_inner();
            error::explain_unknown(path, &key, error.message(), &error.to_string())
        })?;
        if file.version != 1 {
            return Err(invalid("version".into(), format!("expected 1, seen {}", file.version)));
        }
        let mut repositories = BTreeMap::new();
        for (name, table) in std::mem::take(&mut file.repository) {
            let read = repository::repository(&name, table);
            let read =
                read.map_err(|(key, why)| invalid(format!("repository.{name}.{key}"), why))?;
            repositories.insert(name, read);
        }
        let mut clusters = BTreeMap::new();
        for (name, table) in std::mem::take(&mut file.cluster) {
            let read = cluster(&name, table, &repositories);
            let read = read.map_err(|(key, why)| invalid(format!("cluster.{name}.{key}"), why))?;
            clusters.insert(name, read);
        }
        for name in &file.journal {
            if !repositories.contains_key(name) {
                return Err(invalid("journal".into(), unknown_repository(name, &repositories)));
            }
        }
        let others = dumps::others(&mut file, &clusters).map_err(|(key, why)| invalid(key, why))?;
        let around = Around::parse(path, &mut file, &clusters)?;
        let state_directory =
            file.state_directory.unwrap_or_else(|| STATE_DIRECTORY_DEFAULT.into());
        let state_directory =
            absolute(&state_directory).map_err(|why| invalid("state_directory".into(), why))?;
        Ok(Self {
            path: path.into(),
            text,
            state_directory,
            repositories,
            clusters,
            others,
            journal: file.journal,
            persons: around.persons,
            channels: around.channels,
            kubernetes: around.kubernetes,
            templates: around.templates,
            services: around.services,
            schedule: around.schedule,
            about: around.about,
        })
    }

    /// The cluster of that name; without a name, the only one there is.
    pub(crate) fn cluster(&self, name: Option<&str>) -> Result<&ClusterConfig, Error> {
        match name {
            Some(name) => self.clusters.get(name).ok_or_else(|| Error::NoCluster {
                name: name.into(),
                path: self.path.clone(),
                known: known(self.clusters.keys()),
            }),
            None => match self.clusters.values().collect::<Vec<_>>()[..] {
                [only] => Ok(only),
                _ => Err(Error::WhichCluster { known: known(self.clusters.keys()) }),
            },
        }
    }

    /// The service of that name; without a name, the only one there is.
    pub(crate) fn service(&self, name: Option<&str>) -> Result<&Service, Error> {
        let known = || known(self.services.keys());
        match name {
            Some(name) => self.services.get(name).ok_or_else(|| Error::NoService {
                name: name.into(),
                path: self.path.clone(),
                known: known(),
            }),
            None => match self.services.values().collect::<Vec<_>>()[..] {
                [only] => Ok(only),
                _ => Err(Error::WhichService { known: known() }),
            },
        }
    }

    /// The cluster whose data directory holds `path`: how a command started by PostgreSQL without a
    /// cluster's name finds its own.
    pub(crate) fn cluster_of_directory(&self, directory: &Path) -> Option<&ClusterConfig> {
        let real = std::fs::canonicalize(directory).ok()?;
        self.clusters.values().find(|cluster| {
            std::fs::canonicalize(&cluster.data_directory).is_ok_and(|known| known == real)
        })
    }
}

/// What the file says of persons, channels and services.
struct Around {
    persons: Persons,
    channels: BTreeMap<String, Channel>,
    kubernetes: BTreeMap<String, KubernetesConfig>,
    templates: BTreeMap<String, TemplateConfig>,
    services: BTreeMap<String, Service>,
    schedule: Schedule,
    about: BTreeMap<String, AboutService>,
}

impl Around {
    fn parse(
        path: &Path,
        file: &mut wire::File,
        clusters: &BTreeMap<String, ClusterConfig>,
    ) -> Result<Self, Error> {
        let invalid =
            |key: String, reason: String| Error::Invalid { path: path.into(), key, reason };
        let (channels, templates) = told(path, file)?;
        let mut kubernetes = BTreeMap::new();
        for (name, table) in &file.kubernetes {
            let read = kubernetes::cluster(table)
                .map_err(|(key, why)| invalid(format!("kubernetes.{name}.{key}"), why))?;
            kubernetes.insert(name.clone(), read);
        }
        let persons = std::mem::take(&mut file.person)
            .into_iter()
            .map(|(name, table)| (name, Person { key: table.key, roles: table.roles }));
        let mut services = BTreeMap::new();
        let mut about = BTreeMap::new();
        for (name, mut table) in std::mem::take(&mut file.service) {
            let (alerts, told) =
                (std::mem::take(&mut table.alerts), std::mem::take(&mut table.about));
            let read = notify::about(alerts, told);
            let read = read.map_err(|(key, why)| invalid(format!("service.{name}.{key}"), why))?;
            about.insert(name.clone(), read);
            let read = service::service(&name, table, clusters, &channels, &kubernetes);
            let read = read.map_err(|(key, why)| invalid(format!("service.{name}.{key}"), why))?;
            services.insert(name, read);
        }
        let schedule = schedule::schedule(std::mem::take(&mut file.schedule), &channels)
            .map_err(|(key, why)| invalid(format!("schedule.{key}"), why))?;
        let persons = persons.collect();
        Ok(Self { persons, channels, kubernetes, templates, services, schedule, about })
    }
}

type Told = (BTreeMap<String, Channel>, BTreeMap<String, TemplateConfig>);

/// Channels and templates.
fn told(path: &Path, file: &mut wire::File) -> Result<Told, Error> {
    let invalid = |key: String, reason: String| Error::Invalid { path: path.into(), key, reason };
    let mut templates = BTreeMap::new();
    for (name, table) in std::mem::take(&mut file.template) {
        let read = notify::template(table);
        let read = read.map_err(|(_, why)| invalid(format!("template.{name}"), why))?;
        templates.insert(name, read);
    }
    let mut channels = BTreeMap::new();
    for (name, table) in std::mem::take(&mut file.notify) {
        let read = notify::channel(&name, table);
        let read = read.map_err(|(key, why)| invalid(format!("notify.{name}.{key}"), why))?;
        channels.insert(name, read);
    }
    for (name, channel) in &channels {
        if let Some(unknown) = channel.template.as_ref()
            && unknown != recovery::template::BUILT_IN.0
            && !templates.contains_key(unknown)
        {
            let why = format!("there is no table [template.{unknown}]");
            return Err(invalid(format!("notify.{name}.template"), why));
        }
        if let Some((_, to)) = &channel.escalate
            && !file.person.contains_key(to)
        {
            let why = format!("there is no person '{to}'");
            return Err(invalid(format!("notify.{name}.escalate.to"), why));
        }
    }
    Ok((channels, templates))
}

/// A key inside a table and what is wrong with it.
type KeyProblem = (&'static str, String);

fn cluster(
    name: &str,
    table: wire::ClusterTable,
    repositories: &BTreeMap<String, RepositoryConfig>,
) -> Result<ClusterConfig, KeyProblem> {
    if table.repositories.is_empty() {
        return Err(("repositories", "expected at least one repository".into()));
    }
    if let Some(missing) = table.repositories.iter().find(|name| !repositories.contains_key(*name))
    {
        return Err(("repositories", unknown_repository(missing, repositories)));
    }
    let compression = match table.compression.as_deref() {
        None => Compression::default(),
        Some(text) => compression(text).ok_or_else(|| {
            (
                "compression",
                format!("expected 'none', 'lz4' or 'zstd:1' to 'zstd:19', seen '{text}'"),
            )
        })?,
    };
    if table.workers == Some(0) {
        return Err(("workers", "expected at least 1, seen 0".into()));
    }
    let bin_directory = table.bin_directory.as_deref().map(absolute).transpose();
    Ok(ClusterConfig {
        name: name.into(),
        host: table.host,
        data_directory: absolute(&table.data_directory).map_err(|why| ("data_directory", why))?,
        connection: table.connection,
        repositories: table.repositories,
        bin_directory: bin_directory.map_err(|why| ("bin_directory", why))?,
        compression,
        workers: table.workers,
    })
}

/// A codec as it is written: `none`, `lz4`, `zstd`, `zstd:LEVEL`.
pub(crate) fn compression(text: &str) -> Option<Compression> {
    match text.split_once(':') {
        None if text == "none" => Some(Compression::None),
        None if text == "lz4" => Some(Compression::Lz4),
        None if text == "zstd" => Some(Compression::default()),
        Some(("zstd", level)) => {
            level.parse().ok().filter(|level| (1..=19).contains(level)).map(Compression::Zstd)
        }
        _ => None,
    }
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!("expected an absolute path, seen '{text}'"))
    }
}

fn unknown_repository(name: &str, repositories: &BTreeMap<String, RepositoryConfig>) -> String {
    format!("there is no [repository.{name}]; known: {}", known(repositories.keys()))
}

fn known<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Config, KeySource};

    fn check(text: &str, expect: &str) {
        let seen = match Config::parse(Path::new("/etc/r.toml"), text.into()) {
            Ok(config) => format!("{} clusters", config.clusters.len()),
            Err(error) => error.to_string(),
        };
        assert_eq!(seen, expect);
    }

    const GOOD: &str = r#"
        version = 1
        [repository.main]
        url = "/backup"
        keys = ["file:/etc/rollforward/main.key", "recovery-code"]
        [cluster.shop]
        data_directory = "/data"
        connection = "host=/run/postgresql"
        repositories = ["main"]
    "#;

    #[test]
    fn the_documented_example_is_read_whole() {
        let text = include_str!("../../../../docs/guide/config-example.toml");
        let config = Config::parse(Path::new("/etc/rollforward.toml"), text.into());
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.services.keys().collect::<Vec<_>>(), ["engine", "tms"]);
        assert_eq!(config.journal, ["offsite", "main"]);
        let tms = &config.services["tms"];
        assert_eq!((tms.smoke.len(), tms.files.len()), (2, 1));
    }

    #[test]
    fn reads_what_it_documents() {
        check(GOOD, "1 clusters");
        let config = Config::parse(Path::new("/x"), GOOD.into()).unwrap();
        assert_eq!(
            config.repositories["main"].keys,
            [KeySource::File("/etc/rollforward/main.key".into()), KeySource::RecoveryCode]
        );
        assert_eq!(config.cluster(None).unwrap().name, "shop");
    }

    #[test]
    fn names_the_nearest_known_key() {
        check(
            &GOOD.replace("data_directory", "data_dir"),
            "unknown key 'data_dir' in cluster.shop of '/etc/r.toml'",
        );
    }

    #[test]
    fn refuses_values_that_mean_nothing() {
        let refuse = |from: &str, to: &str, expect: &str| check(&GOOD.replace(from, to), expect);
        refuse("version = 1", "version = 2", "version in '/etc/r.toml': expected 1, seen 2");
        refuse(
            "\"main\"]",
            "\"mian\"]",
            "cluster.shop.repositories in '/etc/r.toml': there is no [repository.mian]; known: main",
        );
        refuse(
            "\"/data\"",
            "\"data\"",
            "cluster.shop.data_directory in '/etc/r.toml': expected an absolute path, seen 'data'",
        );
    }

    #[test]
    fn never_shows_a_secret_that_was_written_in_place_of_a_reference() {
        let text = GOOD.replace("keys =", "secret_access_key = \"hunter2\"\nkeys =");
        let error = Config::parse(Path::new("/x"), text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
