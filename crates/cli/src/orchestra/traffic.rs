//! What leads users to a service, looked at before a plan is made. Touches nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use recovery::inventory::TrafficFact;
use recovery::plan::Mode;
use recovery::service::{Service, Traffic};
use stdx::SystemClock;

use super::driver::Resolver;

/// Longest look at one: a plan must not wait for a server that is gone.
const DEADLINE: Duration = Duration::from_secs(30);

/// What is seen of each that a run of this mode switches, by its name: a drill asks for nothing of
/// production's.
pub(crate) async fn facts(service: &Service, mode: Mode) -> BTreeMap<String, TrafficFact> {
    let switched = match (mode, &service.drill) {
        (Mode::Incident, _) => service.traffic.as_slice(),
        (Mode::Drill, Some(drill)) => drill.traffic.as_slice(),
        (Mode::Drill | Mode::Copy, _) => &[],
    };
    let mut facts = BTreeMap::new();
    for traffic in switched {
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
