//! Which database a service depends on.

/// A database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// A cluster of ours.
    Cluster(ClusterPlace),
    /// An instance of Amazon RDS for PostgreSQL.
    Rds(Rds),
}

/// A cluster of ours, and where it is restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPlace {
    /// Its declaration.
    pub cluster: LocalCluster,
    /// The host the restored cluster runs on; `None`: beside the old one.
    pub restore_host: Option<String>,
    /// The folder the restored cluster goes into; the run's key is appended. `None`: the folder
    /// that holds the old data directory.
    pub restore_below: Option<String>,
    /// How the applications reach it over the network; `None`: they are on its host.
    pub network: Option<Box<Network>>,
}

/// How a restored cluster is reached over the network. Until the setting is switched it listens on
/// loopback only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The name or address that the applications are given.
    pub address: String,
    /// What it listens on, besides loopback: `listen_addresses` of PostgreSQL.
    pub listen: String,
    /// The networks whose clients may log in, in CIDR form.
    pub clients: Vec<String>,
}

/// A cluster as its table declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalCluster {
    /// Its name.
    pub name: String,
    /// The host its steps run on.
    pub host: Option<String>,
    /// Its data directory.
    pub data_directory: String,
    /// How to connect, in libpq's form, without a password.
    pub connection: String,
    /// The database of the service in it.
    pub database: Option<String>,
    /// Where PostgreSQL's programs are.
    pub bin_directory: Option<String>,
    /// The repositories that protect it.
    pub repositories: Vec<String>,
}

/// An instance of Amazon RDS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rds {
    /// Its DB instance identifier.
    pub instance: String,
    /// Its region.
    pub region: String,
    /// Where the login is, as a reference.
    pub login: Option<String>,
}

impl Database {
    /// For people: `cluster engine`, `RDS tms-prod (eu-central-1)`.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Cluster(place) => format!("cluster {}", place.cluster.name),
            Self::Rds(rds) => format!("RDS {} ({})", rds.instance, rds.region),
        }
    }
}
