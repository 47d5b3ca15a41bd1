//! What would stop the recovery of a service: settings, secrets, files, Kubernetes.

use recovery::plan::Mode;
use recovery::service::Service;

use super::Findings;
use crate::config::Config;
use crate::orchestra::{buckets, gather, kubernetes};

pub(super) async fn check(config: &Config, service: &Service, findings: &mut Findings) {
    let subject = format!("service {}", service.name);
    let mut problems = gather::problems(config, service);
    let looked = kubernetes::look(config, service, Mode::Incident).await;
    problems.extend(looked.problems);
    let mut notes = looked.notes;
    if service.drill.is_some() && problems.is_empty() {
        let looked = kubernetes::look(config, service, Mode::Drill).await;
        problems.extend(looked.problems.into_iter().map(|what| format!("drill: {what}")));
        notes.extend(looked.notes.into_iter().map(|what| format!("drill: {what}")));
    }
    notes.sort();
    notes.dedup();
    for pause in &looked.facts.pauses {
        notes.push(format!(
            "{} {} manages {}: a recovery tells it to wait, and lets it go on afterwards",
            pause.manager, pause.object, pause.of
        ));
    }
    for what in &problems {
        findings.problem(&subject, what, format!("rollforward plan {}", service.name));
    }
    for what in notes {
        findings.warning(&subject, what, "");
    }
    if problems.is_empty() {
        findings.good(&subject, "its recovery can be planned");
    }
    buckets_of(service, findings).await;
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
