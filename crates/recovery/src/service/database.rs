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
    /// The databases that they may log in to; `all` alone means every one. Empty: the service's.
    pub databases: Vec<String>,
}

/// Every database, as client authentication calls them.
const EVERY: &str = "all";

impl Network {
    /// The databases that clients may log in to, as `pg_hba.conf` names them: in double quotes, so
    /// that no name is taken for one of its own words. `own` is the service's; without any of them
    /// it is every one.
    #[must_use]
    pub fn hba_databases(&self, own: Option<&String>) -> String {
        let own: Vec<&String> = own.into_iter().collect();
        let declared: Vec<&String> = self.databases.iter().collect();
        let named = if declared.is_empty() { own } else { declared };
        match named.as_slice() {
            [] => EVERY.into(),
            [only] if *only == EVERY && !self.databases.is_empty() => EVERY.into(),
            named => {
                let quoted = named.iter().map(|it| format!("\"{}\"", it.replace('"', "\"\"")));
                quoted.collect::<Vec<_>>().join(",")
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::Network;

    #[test]
    fn clients_come_to_the_services_database_unless_more_are_named() {
        let check = |databases: &[&str], own: Option<&str>, expect: &str| {
            let network = Network {
                address: "db".into(),
                listen: "*".into(),
                clients: Vec::new(),
                databases: databases.iter().map(|it| (*it).to_owned()).collect(),
            };
            let own = own.map(str::to_owned);
            assert_eq!(network.hba_databases(own.as_ref()), expect);
        };
        check(&[], Some("engine"), "\"engine\"");
        check(&["engine", "jobs"], Some("engine"), "\"engine\",\"jobs\"");
        check(&["all"], Some("engine"), "all");
        check(&[], None, "all");
        // Names that mean something else there.
        check(&[], Some("all"), "\"all\"");
        check(&["a\"b", "replication"], None, "\"a\"\"b\",\"replication\"");
    }
}
