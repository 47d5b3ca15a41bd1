//! A service as it is declared: one database, what uses it, how to shut it, prove it and open it.
//!
//! Values only. References to secrets stand here, never secrets.

mod application;
mod checks;
mod database;
mod site;
mod traffic;

use std::collections::BTreeMap;
use std::time::Duration;

pub use application::{Door, Form, Setting, SettingPlace, Workload, Writer};
pub use checks::{Expectation, Files, SchemaTool, Smoke, TableCheck, Validation};
pub use database::{ClusterPlace, Database, LocalCluster, Network, Rds};
pub use site::Site;
pub use traffic::{TTL_S_MAX_DEFAULT, Traffic, TrafficHow, TrafficRecord};

/// How long a service may be down and how much it may lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Objectives {
    /// Recovery point objective.
    pub rpo: Duration,
    /// Recovery time objective.
    pub rto: Duration,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its objectives.
    pub objectives: Objectives,
    /// Its database.
    pub database: Database,
    /// Where its applications read the connection; `None`: the database keeps its name.
    pub setting: Option<Setting>,
    /// What keeps users out.
    pub door: Option<Door>,
    /// The applications that write, in the order they are started.
    pub writers: Vec<Writer>,
    /// What is brought up before anything else, at a standby site.
    pub activate: Vec<Writer>,
    /// What an application must answer before the next one is started, by its name.
    pub health: BTreeMap<String, Smoke>,
    /// Files that rows point to.
    pub files: Vec<Files>,
    /// How the restored data is checked.
    pub validation: Validation,
    /// How the service is tried before users are let in.
    pub smoke: Vec<Smoke>,
    /// What leads users here, and is switched to a standby site, in order.
    pub traffic: Vec<Traffic>,
    /// What only a person can confirm.
    pub checklist: Vec<String>,
    /// What is decided beforehand.
    pub policy: Policy,
    /// Channels that are told, by name.
    pub tell: Vec<String>,
    /// Who is told when nobody answers.
    pub escalate: Vec<Escalation>,
    /// What a drill uses instead; `None`: there is no drill.
    pub drill: Option<Bindings>,
    /// A sibling on which the cut-over is tried first.
    pub staging: Option<Bindings>,
    /// Standby sites, by name.
    pub sites: BTreeMap<String, Site>,
    /// The standby site whose places these are; `None`: its own.
    pub site: Option<String>,
    /// What is done besides when somebody has broken in.
    pub breach: Option<Breach>,
}

/// What a recovery does besides after a breach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breach {
    /// Channels that hear of it first: legal, security.
    pub tell: Vec<String>,
    /// Roles of the database and their new passwords, as references.
    pub roles: BTreeMap<String, String>,
    /// Commands that rotate other secrets; each may be repeated.
    pub commands: Vec<Vec<String>>,
}

/// Other places for the same service: a drill, a staging sibling, a standby site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bindings {
    /// Where the database is restored.
    pub database: BindingPlace,
    /// How its applications reach it; `None`: they are on its host.
    pub network: Option<Box<Network>>,
    /// Its setting.
    pub setting: Option<Setting>,
    /// Its applications.
    pub writers: Vec<Writer>,
    /// What is brought up before anything else.
    pub activate: Vec<Writer>,
    /// What an application must answer before the next one is started, by its name.
    pub health: BTreeMap<String, Smoke>,
    /// Its door.
    pub door: Option<Door>,
    /// Files that rows point to.
    pub files: Vec<Files>,
    /// Its smoke tests.
    pub smoke: Vec<Smoke>,
    /// What a drill leads there; never what production's users follow.
    pub traffic: Vec<Traffic>,
}

impl Bindings {
    /// A database below a directory, and nothing else.
    #[must_use]
    pub fn below(directory: &str) -> Self {
        Self {
            database: BindingPlace::Directory(directory.into()),
            network: None,
            setting: None,
            writers: Vec::new(),
            activate: Vec::new(),
            health: BTreeMap::new(),
            door: None,
            files: Vec::new(),
            smoke: Vec::new(),
            traffic: Vec::new(),
        }
    }
}

/// Where a binding's database goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindingPlace {
    /// Below this directory.
    Directory(String),
    /// An instance in this network.
    Network {
        /// The subnet group.
        subnet_group: String,
        /// The security groups.
        security_groups: Vec<String>,
    },
}

/// What happens when a run fails before the point of no return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Our changes are undone; door, writers and fence stay as they are.
    StayShut,
    /// Everything is undone: the old database serves again.
    ReopenOld,
}

impl OnFailure {
    /// As it is written in the configuration.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::StayShut => "stay-shut",
            Self::ReopenOld => "reopen-old",
        }
    }
}

/// What is decided beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What a failure leaves.
    pub on_failure: OnFailure,
    /// Persons that a final step needs, the requester counted.
    pub final_persons: u32,
    /// Loss that a fallback may add without asking.
    pub extra_loss: Duration,
    /// How long a replaced cluster is kept before it may be removed by command.
    pub keep_old: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            on_failure: OnFailure::StayShut,
            final_persons: 1,
            extra_loss: Duration::ZERO,
            keep_old: Duration::from_secs(7 * 86_400),
        }
    }
}

/// A channel that is told again when a run waits and nobody answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escalation {
    /// The channel.
    pub channel: String,
    /// After this long.
    pub after: Duration,
    /// The person it is about.
    pub to: String,
}

/// A person who may request or approve, as plans carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The public half of the key, `ed25519:…`.
    pub key: String,
    /// What the person may do.
    pub roles: Vec<String>,
}

impl Person {
    /// Whether one of these roles is the person's.
    #[must_use]
    pub fn is_one_of(&self, roles: &[&str]) -> bool {
        self.roles.iter().any(|role| roles.contains(&role.as_str()))
    }
}

/// Roles that may begin, pause, resume, change and end runs.
pub const DRIVING_ROLES: [&str; 2] = ["recovery-operator", "admin"];

/// Roles that may approve.
pub const APPROVING_ROLES: [&str; 3] = ["approver", "recovery-operator", "admin"];

/// Persons by name.
pub type Persons = BTreeMap<String, Person>;
