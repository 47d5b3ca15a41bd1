//! Kubernetes: doors of manifests, workloads, settings in ConfigMaps and Secrets, what has to be
//! paused, connections tried from inside. Everything through the API server, as a person would with
//! `kubectl`.
//!
//! Invariants: every change is one that may be repeated; each act first compares the cluster's
//! identity; no value of a Secret is in an error, an original or an output.

mod access;
mod client;
mod door;
mod facts;
mod failure;
mod managers;
mod manifest;
mod patience;
mod reach;
mod rollout;
mod setting;
mod workload;

use recovery::effect::Effect;
use recovery::plan::{Step, StepKind};

pub use access::{Need, manager_need, needs, rbac_manifest};
pub(crate) use client::Clusters;
pub use client::KubernetesAccess;
pub use door::needs as door_needs;
pub use facts::{Asked as KubernetesAsked, Looked as KubernetesLooked, look};
pub(crate) use setting::{read as read_setting, write as write_setting};

/// The name under which our changes stand in the objects' managed fields.
const FIELD_MANAGER: &str = "rollforward";

/// Begins the names of annotations of ours.
const ANNOTATION: &str = "rollforward.dev";

/// Everything of Kubernetes that this binary can drive.
pub(crate) struct Kubernetes {
    door: door::ManifestDoor,
    workload: workload::Workloads,
    managers: managers::Managers,
    reach: reach::Reach,
}

impl Kubernetes {
    /// Clusters by the names of their tables.
    pub(crate) fn new(clusters: &Clusters) -> Self {
        Self {
            door: door::ManifestDoor::new(clusters.clone()),
            workload: workload::Workloads::new(clusters.clone()),
            managers: managers::Managers::new(clusters.clone()),
            reach: reach::Reach::new(clusters.clone()),
        }
    }

    pub(crate) fn of(&self, step: &Step) -> Option<&dyn Effect> {
        let is = |name: &str| step.parameters.get(name).is_some_and(|it| it == "kubernetes");
        match step.kind {
            StepKind::ShutDoor | StepKind::OpenDoor if is("door") => Some(&self.door),
            StepKind::StopWriter | StepKind::StartWriter | StepKind::ActivateSite
                if is("writer") =>
            {
                Some(&self.workload)
            }
            StepKind::PauseManager | StepKind::ResumeManager => Some(&self.managers),
            StepKind::ProveReach => Some(&self.reach),
            _ => None,
        }
    }
}
