//! Whether users could be led to the standby site.

use recovery::inventory::TrafficFact;
use recovery::plan::duration_text;
use recovery::service::Service;

use super::Findings;
use crate::orchestra::traffic;

pub(super) async fn check(service: &Service, findings: &mut Findings) {
    for traffic in &service.traffic {
        let subject = format!("service {}, {}", service.name, traffic.describe());
        match traffic::fact(traffic).await {
            TrafficFact::Fails(why) => findings.problem(
                &subject,
                format!("it could not be switched: {why}"),
                "see docs/guide/traffic.md",
            ),
            TrafficFact::Ready { ttl_s } => {
                let most = traffic.record().map_or(u64::MAX, |record| record.ttl_s_max);
                match ttl_s.filter(|ttl_s| *ttl_s > most) {
                    Some(ttl_s) => findings.warning(
                        &subject,
                        format!("it may be cached for {}", duration_text(ttl_s)),
                        format!("lower its TTL to {} at most", duration_text(most)),
                    ),
                    None => {
                        let seen = format!("it can be switched to {}", traffic.standby());
                        findings.good(&subject, seen);
                    }
                }
            }
        }
    }
}
