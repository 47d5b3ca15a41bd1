//! What would stop the recovery of a service: settings, secrets, files, Kubernetes.

use recovery::plan::Mode;
use recovery::service::Service;

use super::Findings;
use crate::config::Config;
use crate::orchestra::{gather, kubernetes};

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
}
