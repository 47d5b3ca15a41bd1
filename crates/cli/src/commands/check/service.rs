//! What would stop the recovery of a service.

use recovery::service::Service;

use super::Findings;
use crate::config::Config;
use crate::orchestra::gather;

pub(super) async fn check(config: &Config, service: &Service, findings: &mut Findings) {
    let name = format!("service {}", service.name);
    let problems = gather::problems(config, service);
    if problems.is_empty() {
        findings.good(&name, "its declaration can be followed");
    }
    for problem in problems {
        findings.problem(&name, problem, "see docs/guide/services.md");
    }
}
