//! What leads users to a service, looked at before a plan is made. Touches nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use recovery::inventory::TrafficFact;
use recovery::service::{Service, Traffic};
use stdx::SystemClock;

use super::driver::Resolver;

/// Longest look at one: a plan must not wait for a server that is gone.
const DEADLINE: Duration = Duration::from_secs(30);

/// What is seen of each, by its name.
pub(crate) async fn facts(service: &Service) -> BTreeMap<String, TrafficFact> {
    let mut facts = BTreeMap::new();
    for traffic in &service.traffic {
        facts.insert(traffic.name.clone(), fact(traffic).await);
    }
    facts
}

/// What is seen of one.
pub(crate) async fn fact(traffic: &Traffic) -> TrafficFact {
    let asked = providers::check_traffic(traffic, Arc::new(Resolver), Arc::new(SystemClock::new()));
    match tokio::time::timeout(DEADLINE, asked).await {
        Ok(Ok(ttl_s)) => TrafficFact::Ready { ttl_s },
        Ok(Err(failure)) if failure.hint.is_empty() => TrafficFact::Fails(failure.message),
        Ok(Err(failure)) => TrafficFact::Fails(format!("{} ({})", failure.message, failure.hint)),
        Err(_) => TrafficFact::Fails(format!("no answer within {} s", DEADLINE.as_secs())),
    }
}
