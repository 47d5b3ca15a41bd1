//! What would stop the recovery of a service.

use recovery::service::Service;

use super::Findings;
use crate::config::Config;
use crate::orchestra::{buckets, gather};

pub(super) async fn check(config: &Config, service: &Service, findings: &mut Findings) {
    let name = format!("service {}", service.name);
    let problems = gather::problems(config, service);
    if problems.is_empty() {
        findings.good(&name, "its declaration can be followed");
    }
    for problem in problems {
        findings.problem(&name, problem, "see docs/guide/services.md");
    }
    for declared in buckets::declared(service) {
        let subject = format!("{name}, {}", declared.what);
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
