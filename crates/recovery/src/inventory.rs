//! What is known when a plan is made: values that others gathered.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::diagnosis::Condition;
use crate::plan::Parameters;
use crate::timings::Timings;

/// A backup of a cluster of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupFact {
    /// Its label.
    pub label: String,
    /// When it ended.
    pub finished: Timestamp,
    /// Its size, in bytes.
    pub size: u64,
    /// WAL from its redo to the target, in bytes.
    pub wal_to_target: u64,
    /// Whether everything it needs is there.
    pub is_valid: bool,
    /// Whether the target is reached from it.
    pub reaches_target: bool,
    /// Whether it was made while an incident was open.
    pub is_suspect: bool,
}

/// A snapshot of a managed instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFact {
    /// Its id.
    pub id: String,
    /// Whether the provider made it by itself.
    pub is_automated: bool,
    /// When it ended.
    pub finished: Timestamp,
    /// The region it lies in.
    pub region: String,
}

/// A logical dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpFact {
    /// Its label.
    pub label: String,
    /// When it was taken.
    pub taken: Timestamp,
    /// Its size, in bytes.
    pub size: u64,
}

/// The destructive transaction, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// When it committed.
    pub at: Timestamp,
    /// The position that recovery stops before; `None` for a managed database.
    pub before: Option<String>,
    /// Its transaction id.
    pub xid: Option<u64>,
    /// One line for people: `DELETE public.orders, 317789 rows`.
    pub what: String,
    /// The last good commit before it.
    pub last_good: Option<Timestamp>,
    /// Transactions committed since, which will be lost.
    pub transactions_lost: Option<u64>,
}

/// The stretch of times that can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowFact {
    /// The earliest target.
    pub earliest: Timestamp,
    /// The latest one.
    pub latest: Timestamp,
}

/// How fast things usually go; what was measured corrects it ([`crate::timings`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speeds {
    /// Restoring a data directory, bytes per second.
    pub restore: u64,
    /// Replaying WAL, bytes per second.
    pub replay: u64,
    /// Checking pages and indexes, bytes per second.
    pub prove: u64,
    /// Making a backup, bytes per second.
    pub backup: u64,
    /// A managed instance from a snapshot, seconds.
    pub instance_s: u64,
    /// Restoring a dump, bytes of its streams per second.
    pub load: u64,
}

impl Default for Speeds {
    /// A cautious guess: half of what two cores and one disk did (docs/performance.md). Loading a
    /// dump was not measured there.
    fn default() -> Self {
        Self {
            restore: 300 << 20,
            replay: 40 << 20,
            prove: 200 << 20,
            backup: 200 << 20,
            instance_s: 1800,
            load: 10 << 20,
        }
    }
}

/// Something of Kubernetes that would undo our steps and can be told to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PauseFact {
    /// The cluster's table.
    pub context: String,
    /// `argocd`, `flux-kustomization`, `flux-helmrelease` or `keda`.
    pub manager: &'static str,
    /// Namespace and name.
    pub object: String,
    /// What it manages.
    pub of: String,
    /// Whether it would also put the connection setting back.
    pub owns_setting: bool,
}

/// Which Kubernetes cluster a table means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesFact {
    /// The UID of its namespace kube-system.
    pub uid: String,
    /// The context of the kubeconfig.
    pub context: String,
}

/// What is known of the Kubernetes clusters that a service uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubernetesFacts {
    /// The clusters, by their tables.
    pub clusters: BTreeMap<String, KubernetesFact>,
    /// Manifests by path, as JSON.
    pub manifests: BTreeMap<String, String>,
    /// What has to be paused.
    pub pauses: Vec<PauseFact>,
    /// Where a connection can be tried from inside of a cluster, by the cluster's table.
    pub probes: BTreeMap<String, Probe>,
}

/// A job that tries a connection from inside of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its namespace.
    pub namespace: String,
    /// Its image.
    pub image: String,
    /// Its command; `{host}` and `{port}` are replaced.
    pub command: Vec<String>,
}

/// What was seen of something that leads users here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrafficFact {
    /// It can be switched, as far as can be seen.
    Ready {
        /// How long its answer may be cached today, in seconds; `None`: it is not cached.
        ttl_s: Option<u64>,
    },
    /// Why it cannot.
    Fails(String),
}

/// What was seen of the running server, for what is restored into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerFact {
    /// It takes another database.
    Ready {
        /// Bytes of the service's database as it is now.
        size: u64,
        /// Bytes that are free where it lies.
        free: u64,
        /// Logical replication slots that belong to it.
        slots: Vec<String>,
    },
    /// It runs, and the service's database is not there.
    NoDatabase,
    /// Why it does not.
    Fails(String),
}

/// Everything a plan is compiled from besides the declaration and the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// Now.
    pub now: Timestamp,
    /// What was seen of the database.
    pub condition: Condition,
    /// The database's size, in bytes.
    pub size: u64,
    /// Backups of a cluster of ours, newest first.
    pub backups: Vec<BackupFact>,
    /// Snapshots of a managed instance, newest first.
    pub snapshots: Vec<SnapshotFact>,
    /// Dumps, newest first.
    pub dumps: Vec<DumpFact>,
    /// What can be reached by time.
    pub window: Option<WindowFact>,
    /// Whether the region or site of the database is lost.
    pub is_site_lost: bool,
    /// The damage, when it was found or told.
    pub damage: Option<Damage>,
    /// How fast things go.
    pub speeds: Speeds,
    /// What steps took before, against what these speeds say.
    pub timings: Timings,
    /// What the database is: system identifier, directory, host; or instance and account.
    pub identity: Parameters,
    /// What would undo our steps: Patroni, an operator, GitOps.
    pub managers: Vec<String>,
    /// Kubernetes clusters that the service uses.
    pub kubernetes: KubernetesFacts,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// The one repository that answers; `None`: all do, or more than one.
    pub only_repository: Option<String>,
    /// What was seen of the server that runs.
    pub server: ServerFact,
    /// What was seen of what leads users here, by its name.
    pub traffic: BTreeMap<String, TrafficFact>,
    /// Why the service's check fails; a plan is then refused.
    pub problems: Vec<String>,
}

impl Inventory {
    /// An inventory in which nothing is known.
    #[must_use]
    pub fn empty(now: Timestamp) -> Self {
        Self {
            now,
            condition: Condition::Unknown,
            size: 0,
            backups: Vec::new(),
            snapshots: Vec::new(),
            dumps: Vec::new(),
            window: None,
            is_site_lost: false,
            damage: None,
            speeds: Speeds::default(),
            timings: Timings::new(),
            identity: Parameters::new(),
            managers: Vec::new(),
            kubernetes: KubernetesFacts::default(),
            notes: Vec::new(),
            only_repository: None,
            server: ServerFact::Fails("nobody has looked at it".into()),
            traffic: BTreeMap::new(),
            problems: Vec::new(),
        }
    }
}
