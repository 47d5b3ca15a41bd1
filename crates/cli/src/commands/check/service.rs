//! What would stop the recovery of a service: settings, secrets, files, Kubernetes.

use recovery::plan::Mode;
use recovery::service::Service;

use super::Findings;
use crate::config::Config;
use crate::orchestra::{buckets, gather, kubernetes};
use crate::wiring;

pub(super) async fn check(config: &Config, service: &Service, findings: &mut Findings) {
    let subject = format!("service {}", service.name);
    let mut seen = Seen::of(config, service, Mode::Incident).await;
    if service.drill.is_some() && seen.problems.is_empty() {
        seen.add("drill", Seen::of(config, service, Mode::Drill).await);
    }
    for (name, site) in &service.sites {
        // What another machine has cannot be seen from here.
        let is_here = site.host.as_ref().is_none_or(|host| *host == wiring::host_name());
        if let Some(there) = service.at_site(name).filter(|_| is_here) {
            seen.add(&format!("site {name}"), Seen::of(config, &there, Mode::Incident).await);
        }
    }
    seen.notes.sort();
    seen.notes.dedup();
    for what in &seen.problems {
        findings.problem(&subject, what, format!("rollforward plan {}", service.name));
    }
    for what in seen.notes {
        findings.warning(&subject, what, "");
    }
    if seen.problems.is_empty() {
        findings.good(&subject, "its recovery can be planned");
    }
    buckets_of(service, findings).await;
}

/// What was seen of one way on which a service may have to go.
struct Seen {
    problems: Vec<String>,
    notes: Vec<String>,
}

impl Seen {
    async fn of(config: &Config, service: &Service, mode: Mode) -> Self {
        // A drill has no secrets and files of its own that are known beforehand.
        let mut problems = match mode {
            Mode::Incident => gather::problems(config, service),
            Mode::Drill | Mode::Copy => Vec::new(),
        };
        let looked = kubernetes::look(config, service, mode).await;
        problems.extend(looked.problems);
        let mut notes = looked.notes;
        notes.extend(looked.facts.pauses.iter().map(|pause| {
            format!(
                "{} {} manages {}: a recovery tells it to wait, and lets it go on afterwards",
                pause.manager, pause.object, pause.of
            )
        }));
        Self { problems, notes }
    }

    fn add(&mut self, name: &str, other: Self) {
        let named = |what: String| format!("{name}: {what}");
        self.problems.extend(other.problems.into_iter().map(named));
        self.notes.extend(other.notes.into_iter().map(named));
    }
}

/// The buckets of the service and their copies.
async fn buckets_of(service: &Service, findings: &mut Findings) {
    for declared in buckets::declared(service) {
        let subject = format!("service {}, {}", service.name, declared.what);
        match (buckets::list(&declared).await, declared.is_copy) {
            (Ok(0), false) => findings.warning(
                &subject,
                "it is empty",
                "is it the bucket that the application writes into?",
            ),
            (Ok(0), true) => {
                findings.warning(&subject, "it is empty", "look at what replicates the bucket");
            }
            (Ok(_), _) => findings.good(&subject, "it can be listed"),
            (Err(why), _) => findings.problem(
                &subject,
                format!("it cannot be listed: {why}"),
                "rollforward explain RF1142",
            ),
        }
    }
}
