//! A standby site: where a service goes on when its own site is lost, and where that is drilled.

use super::{Bindings, Database, Service, Traffic};

/// A standby site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The host that its steps run on.
    pub host: Option<String>,
    /// The places of this site.
    pub bindings: Bindings,
    /// What leads users there, when it is for real.
    pub traffic: Vec<Traffic>,
    /// What only a person can confirm there.
    pub checklist: Vec<String>,
}

impl Service {
    /// The service as it is brought up at a site, its own site being lost.
    #[must_use]
    pub fn at_site(&self, name: &str) -> Option<Self> {
        let site = self.sites.get(name)?;
        let mut there = self.placed(name, site);
        let bindings = &site.bindings;
        there.setting.clone_from(&bindings.setting);
        there.door.clone_from(&bindings.door);
        there.writers.clone_from(&bindings.writers);
        there.activate.clone_from(&bindings.activate);
        there.health.clone_from(&bindings.health);
        there.files.clone_from(&bindings.files);
        there.smoke.clone_from(&bindings.smoke);
        there.traffic.clone_from(&site.traffic);
        there.checklist = vec![
            "the lost site is down and stays down, or nobody reaches it: else both would serve"
                .to_owned(),
        ];
        there.checklist.extend(site.checklist.iter().cloned());
        there.drill = None;
        there.staging = None;
        Some(there)
    }

    /// The service with a drill at a site: production's own places stay what they are, so that
    /// nothing of them is touched.
    #[must_use]
    pub fn drilled_at(&self, name: &str) -> Option<Self> {
        let site = self.sites.get(name)?;
        let mut there = self.placed(name, site);
        // What leads production's users there is production's as well.
        there.traffic.extend(site.traffic.iter().cloned());
        there.drill = Some(site.bindings.clone());
        Some(there)
    }

    fn placed(&self, name: &str, site: &Site) -> Self {
        let mut there = self.clone();
        there.site = Some(name.to_owned());
        if let Database::Cluster(place) = &mut there.database {
            place.restore_host.clone_from(&site.host);
            place.network.clone_from(&site.bindings.network);
            if let super::BindingPlace::Directory(path) = &site.bindings.database {
                place.restore_below = Some(path.clone());
            }
        }
        there
    }
}
