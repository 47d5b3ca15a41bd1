//! What performs the steps of a recovery: PostgreSQL on this host, settings in files, doors,
//! writers, traffic, smoke tests, channels. Each implements the step contract of
//! `recovery::effect`.
//!
//! Refuses to know: the order of steps, the journal. Main type: [`Providers`].
//!
//! Invariants: a probe touches nothing; an act may be repeated; an undo of what is not there is
//! success; no secret is in an argument list, an error or an output.

mod breach;
mod command;
mod door;
pub mod error;
mod files;
mod kubernetes;
mod looked;
mod own;
mod postgres;
mod registry;
mod scram;
mod secrets;
mod setting;
mod smoke;
mod tell;
mod traffic;
mod writer;

pub use breach::hold_file;
pub use files::{Buckets, one_query};
pub use kubernetes::{
    KubernetesAccess, KubernetesAsked, KubernetesLooked, Need, door_needs,
    look as look_at_kubernetes, manager_need, needs, rbac_manifest,
};
pub use own::OwnProgram;
pub use postgres::beside::look::{Beside, look_beside};
pub use postgres::beside::removal::OldDatabase;
pub use postgres::diagnose::diagnose;
pub use postgres::managers::{Manager, manager};
pub use postgres::removal::{NotRemovable, Old};
pub use postgres::sql::{SplitError, split_statements};
pub use registry::Providers;
pub use secrets::Secrets;
pub use setting::forms::{Parts, replace_parts};
pub use setting::place::read_value;
pub use tell::{
    About, Channel, Kind, Mail, OPSGENIE_URL, Opsgenie, PAGERDUTY_API, PAGERDUTY_URL, Page,
    PagerDuty, PagerDutyRest, Place, SCHEDULE_ALIAS_PREFIX, STATUSPAGE_URL, StatusPage,
    service_of_key,
};
pub use traffic::check_traffic;
