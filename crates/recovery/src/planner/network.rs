//! How applications on other machines reach a restored cluster.

use super::build::step;
use super::cluster::Site;
use super::{around, by_hand};
use crate::plan::{Class, Mode, Stage, Step, StepKind, UndoWhen};
use crate::service::{Database, Network, Service, Writer};

impl Site<'_> {
    /// The restored cluster takes sessions over the network; a connection is tried from there.
    pub(super) fn network(&self, network: Option<&Network>, writers: &[Writer]) -> Vec<Step> {
        let Some(network) = network else { return Vec::new() };
        let host = match self.mode {
            Mode::Incident => self.place.restore_host.as_ref().or(self.place.cluster.host.as_ref()),
            Mode::Drill | Mode::Copy => None,
        };
        let databases = network.hba_databases(self.place.cluster.database.as_ref());
        let open = step(Stage::Switch, "network", &self.place.cluster.name, StepKind::OpenNetwork)
            .effect(format!(
                "the restored cluster listens on {} and takes logins from {} to {}; it still archives \
                 nothing",
                network.listen,
                network.clients.join(", "),
                match databases.as_str() {
                    "all" => "every database".to_owned(),
                    named => format!("database {}", named.replace(',', ", ")),
                }
            ))
            .undo(Class::Own, UndoWhen::Never, "none is needed: what was restored is removed")
            .with_all(self.cluster())
            .with("address", network.address.clone())
            .with("listen", network.listen.clone())
            .with("clients", network.clients.join(","))
            .with("databases", databases)
            .host(host)
            .command(self.open_network_by_hand(network))
            .predicted(10)
            // It is restarted, and its checkpoint may have much to write.
            .patient(900)
            .done();
        let probes = self.inventory.kubernetes.probes.iter().filter(|(table, _)| {
            writers.iter().any(
                |writer| matches!(writer, Writer::Kubernetes { context, .. } if context == *table),
            )
        });
        let reach = probes.map(|(table, probe)| {
            step(Stage::Switch, "reach", table, StepKind::ProveReach)
                .effect(format!(
                    "a job in namespace {} reaches the restored cluster: {}",
                    probe.namespace,
                    probe.command.join(" ")
                ))
                .undo(Class::Own, UndoWhen::Always, "removes the job")
                .with("context", table.clone())
                .with("namespace", probe.namespace.clone())
                .with("image", probe.image.clone())
                .with("command", around::words_parameter(&probe.command))
                .command(by_hand::reach(table, probe, network))
                .predicted(30)
                .done()
        });
        std::iter::once(open).chain(reach).collect()
    }
}

/// What an operator should know of who may log in.
pub(super) fn warning(service: &Service) -> Option<String> {
    let Database::Cluster(place) = &service.database else { return None };
    let is_open = place.network.as_ref()?.databases.is_empty() && place.cluster.database.is_none();
    is_open.then(|| {
        "database.name is not declared: applications may log in to every database of the restored \
         cluster"
            .into()
    })
}
