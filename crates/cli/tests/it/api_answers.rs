//! Recoveries whose API server answers badly all the way.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use testbed::ApiMishap::{Busy, Cut, LostAnswer, Silence, Status};
use testbed::{ApiMishap, ApiRequest};

use crate::program::text;
use crate::random::Random;
use crate::services::verdict;
use crate::transformations::{DEPLOYMENT, Engine, Place};

/// One request in so many meets a mishap.
const SHARE: u64 = 4;

/// What passes: busy, in trouble, away for a moment, changed by somebody else.
const MISHAPS: [ApiMishap; 8] =
    [Status(500), Status(503), Status(409), Busy(None), Busy(Some(1)), Cut, LostAnswer, LostAnswer];

/// Spoils a share of all requests, and lets one of them wait in vain.
fn spoiled(mut random: Random) -> impl FnMut(&ApiRequest) -> ApiMishap {
    let mut silences = 1;
    move |request| {
        if random.below(SHARE) > 0 {
            return ApiMishap::None;
        }
        if silences > 0 && random.below(8) == 0 {
            silences -= 1;
            return Silence;
        }
        let count = MISHAPS.len() as u64;
        match MISHAPS[usize::try_from(random.below(count)).unwrap()] {
            // Nobody reads in vain because somebody else writes.
            Status(409) if !request.is_change() => Status(503),
            mishap => mishap,
        }
    }
}

#[test]
fn a_recovery_whose_api_server_answers_badly_all_the_way_ends_well_and_loses_nothing() {
    let engine = Engine::open(Place::File);
    let wire = engine.kubernetes.wire();
    let (before, rows) = (engine.before(), engine.destroy());
    let data = engine.data("engine");
    engine.reach_by(&wire.kubeconfig("admin"));
    wire.spoil(spoiled(Random::seeded()));
    let ran = engine.recover("--confirm-any");
    let (struck, changes) = (wire.struck(), wire.changes());
    println!("{} of {} requests were spoiled", struck.len(), struck.len() + wire.passed().len());
    assert!(struck.len() > 5, "{struck:?}");
    if ran.status.code() == Some(0) {
        let writes =
            |path: &str| changes.iter().filter(|it| it.request.path.contains(path)).count();
        assert_eq!(writes("/configmaps/settings"), 1, "{changes:?}");
        assert_eq!(writes("/deployments/api"), 2, "stopped once, started once: {changes:?}");
        assert_eq!(writes("/jobs"), 1, "{changes:?}");
        return engine.assert_restored(&ran.done(), &rows, &before);
    }
    // It gave up: then nothing is left of it, and it can be begun again.
    let report = ran.ended(6);
    println!("rolled back: {report}");
    assert_eq!(verdict(&report), ("rolled_back".into(), "shut".into()), "{report}");
    assert_eq!(engine.data("engine"), data, "the setting is the old one, byte for byte");
    assert!(engine.made().is_empty() && engine.pods("engine").is_empty());
    wire.spoil(|_| ApiMishap::None);
    engine.assert_restored(&engine.recover("--confirm-any").done(), &rows, &before);
}

#[test]
fn a_login_that_is_refused_in_the_middle_ends_the_run_with_its_name() {
    let engine = Engine::open(Place::Variable);
    let wire = engine.kubernetes.wire();
    let (before, rows) = (engine.before(), engine.destroy());
    let data = engine.data("engine");
    engine.reach_by(&wire.kubeconfig("admin"));
    // From the moment when the workload is stopped until it would be switched.
    let refused = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&refused);
    wire.spoil(move |request| {
        let is_meant = request.is_change() && request.path.contains("/configmaps/settings");
        let mut count = counted.lock().unwrap();
        *count += u32::from(is_meant);
        if is_meant && *count == 1 { Status(401) } else { ApiMishap::None }
    });
    let report = engine.recover("--confirm-any").ended(6);
    assert_eq!(verdict(&report), ("rolled_back".into(), "shut".into()), "{report}");
    let steps = report["steps"].as_array().unwrap();
    let failed: Vec<&Value> = steps.iter().filter(|step| step["failure"].is_string()).collect();
    assert_eq!(failed.len(), 1, "{report}");
    assert_eq!(text(failed[0], "id"), "switch.setting");
    assert!(text(failed[0], "failure").contains(": 401 "), "{report}");
    assert_eq!(engine.data("engine"), data, "the setting is the old one, byte for byte");
    assert!(engine.made().is_empty() && engine.pods("engine").is_empty());
    assert_eq!(engine.kubernetes.get(DEPLOYMENT)["spec"]["replicas"], 0);
    // With a login that counts again, a new run goes through; it starts what the first one stopped.
    engine.assert_restored(&engine.recover("--confirm-any").done(), &rows, &before);
}
