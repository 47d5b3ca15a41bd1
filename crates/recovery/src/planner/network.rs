//! How applications on other machines reach a restored cluster.

use super::build::step;
use super::cluster::Site;
use super::{around, by_hand};
use crate::plan::{Class, Mode, Stage, Step, StepKind, UndoWhen};
use crate::service::{Network, Writer};

impl Site<'_> {
    /// The restored cluster takes sessions over the network; a connection is tried from there.
    pub(super) fn network(&self, network: Option<&Network>, writers: &[Writer]) -> Vec<Step> {
        let Some(network) = network else { return Vec::new() };
        let host = match self.mode {
            Mode::Incident => self.place.restore_host.as_ref().or(self.place.cluster.host.as_ref()),
            Mode::Drill | Mode::Copy => None,
        };
        let open = step(Stage::Switch, "network", &self.place.cluster.name, StepKind::OpenNetwork)
            .effect(format!(
                "the restored cluster listens on {} and takes logins from {}; it still archives nothing",
                network.listen,
                network.clients.join(", ")
            ))
            .undo(Class::Own, UndoWhen::Never, "none is needed: what was restored is removed")
            .with_all(self.cluster())
            .with("address", network.address.clone())
            .with("listen", network.listen.clone())
            .with("clients", network.clients.join(","))
            .host(host)
            .command(self.open_network_by_hand(network))
            .predicted(10)
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
