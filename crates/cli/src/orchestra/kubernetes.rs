//! What is known of a service's Kubernetes clusters before a plan is made.

use std::collections::BTreeMap;

use providers::{KubernetesAsked, KubernetesLooked};
use recovery::inventory::{Inventory, Probe};
use recovery::plan::Mode;
use recovery::service::{Door, Service, Setting, Writer};

pub(crate) use super::driver::kubernetes_access as access;
use crate::config::{Config, contexts};

/// What a run of this mode uses of a service.
struct Used<'s> {
    writers: Vec<&'s Writer>,
    settings: Vec<&'s Setting>,
    doors: Vec<&'s Door>,
}

fn used(service: &Service, mode: Mode) -> Used<'_> {
    match (mode, &service.drill) {
        (Mode::Incident, _) => Used {
            writers: service.writers.iter().chain(&service.activate).collect(),
            settings: service.setting.iter().collect(),
            doors: service.door.iter().collect(),
        },
        (Mode::Drill, Some(drill)) => Used {
            writers: drill.writers.iter().chain(&drill.activate).collect(),
            settings: drill.setting.iter().collect(),
            doors: Vec::new(),
        },
        (Mode::Drill | Mode::Copy, _) => {
            Used { writers: Vec::new(), settings: Vec::new(), doors: Vec::new() }
        }
    }
}

/// Where connections are tried from inside, for the clusters that a service names.
pub(crate) fn probes(config: &Config, service: &Service) -> BTreeMap<String, Probe> {
    let named = contexts(service);
    let probes = config.kubernetes.iter().filter_map(|(name, cluster)| {
        let probe = cluster.probe.clone()?;
        named.contains(&name.as_str()).then(|| (name.clone(), probe))
    });
    probes.collect()
}

/// Looks at everything of Kubernetes that a run of this mode uses.
pub(crate) async fn look(config: &Config, service: &Service, mode: Mode) -> KubernetesLooked {
    if contexts(service).is_empty() {
        return KubernetesLooked::default();
    }
    let used = used(service, mode);
    let asked = KubernetesAsked {
        writers: used.writers,
        settings: used.settings,
        doors: used.doors,
        probes: probes(config, service),
    };
    providers::look_at_kubernetes(&access(config), &asked).await
}

/// Adds what was seen to what is known.
pub(super) fn add(looked: KubernetesLooked, inventory: &mut Inventory) {
    inventory.problems.extend(looked.problems);
    inventory.notes.extend(looked.notes);
    inventory.kubernetes = looked.facts;
}
