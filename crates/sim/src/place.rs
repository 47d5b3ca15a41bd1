//! Where it happens: a service, its plan, and how its steps misbehave.

use std::time::Duration;

use recovery::inventory::{Inventory, ServerFact};
use recovery::machine::UNDO_ATTEMPTS_MAX;
use recovery::method::{Method, Wish};
use recovery::plan::{Mode, Plan, Target, UndoWhen};
use recovery::planner::{Request, compile};
use recovery::service::{OnFailure, Persons, Policy, Service};
use recovery::testing::{Misbehaviour, World, five, sample};

use crate::people;
use crate::tally::Tally;

/// Where whatever names no host is performed.
const ANY_HOST: &str = "db1.acme.example";

/// The longest that one attempt may take.
pub(crate) const ATTEMPT_MAX: Duration = Duration::from_secs(240);

/// A service that is to be recovered.
pub(crate) struct Place {
    pub(crate) plan: Plan,
    hosts: Vec<String>,
}

impl Place {
    pub(crate) fn of(random: &mut fastrand::Rng) -> Result<Self, String> {
        let (mut service, mut inventory) = kind(random);
        if random.u8(..4) == 0 {
            service.door = None;
        }
        service.policy = Policy {
            on_failure: match random.bool() {
                true => OnFailure::StayShut,
                false => OnFailure::ReopenOld,
            },
            final_persons: random.u32(1..3),
            ..service.policy
        };
        let mode = match random.u8(..7) {
            0 if service.drill.is_some() => Mode::Drill,
            1 => Mode::Copy,
            _ => Mode::Incident,
        };
        inventory.is_site_lost = !service.traffic.is_empty() && random.bool();
        let persons = if random.u8(..5) == 0 { Persons::new() } else { people::persons() };
        let wish = match mode {
            _ if matches!(inventory.server, ServerFact::Ready { .. }) => {
                Wish { method: Some(Method::Dump), ..Wish::default() }
            }
            Mode::Incident => Wish { before_incident: true, ..Wish::default() },
            Mode::Drill | Mode::Copy => Wish { target: Some(Target::Latest), ..Wish::default() },
        };
        let request = Request { mode, wish, binary: "0.1.0".into(), persons, is_breach: false };
        let mut plan =
            compile(&service, &request, &inventory).map_err(|error| error.to_string())?;
        for step in &mut plan.steps {
            // Shorter than planned, for the same reason as everything else here.
            step.limits.attempt_s = random.u64(30..ATTEMPT_MAX.as_secs());
            step.limits.step_s = step.limits.attempt_s * 3;
        }
        let mut hosts: Vec<String> =
            plan.steps.iter().filter_map(|step| step.host.clone()).collect();
        hosts.sort();
        hosts.dedup();
        Ok(Self { plan, hosts })
    }

    pub(crate) fn world(&self) -> World {
        World::new(self.plan.mode == Mode::Incident, self.plan.has_door)
    }

    /// A host on which a driver may run.
    pub(crate) fn host(&self, random: &mut fastrand::Rng) -> String {
        match self.hosts.len() {
            0 => ANY_HOST.into(),
            count => self.hosts[random.usize(..count)].clone(),
        }
    }
}

/// A cluster of ours, also one whose dump is wanted, an instance of RDS, or a second site.
fn kind(random: &mut fastrand::Rng) -> (Service, Inventory) {
    match random.u8(..6) {
        0 => (five::tms(), five::instance()),
        1 => (five::engine(), sample::inventory()),
        2 => (five::odoo(), sample::inventory()),
        3 => (sample::shop(), sample::with_dumps()),
        _ => (sample::shop(), sample::inventory()),
    }
}

/// Some steps misbehave, most of them in ways that pass; and somebody cannot be told.
pub(crate) fn misbehave(plan: &Plan, world: &World, random: &mut fastrand::Rng, tally: &Tally) {
    use Misbehaviour as M;
    const PASSING: [(M, &str); 8] = [
        (M::FailBefore, "fails before"),
        (M::LoseAnswer, "loses the answer"),
        (M::LoseRequest, "loses the request"),
        (M::Twice, "is done twice"),
        (M::Half, "is done by half"),
        (M::Hang, "hangs"),
        (M::UndoFails, "cannot be undone at first"),
        (M::ProbeFails, "cannot be probed"),
    ];
    for _ in 0..random.usize(..12) {
        let step = &plan.steps[random.usize(..plan.steps.len())];
        let (how, what) = match random.u8(..24) {
            0 => (M::FailForGood, "fails for good"),
            1 => (M::BadData, "finds bad data"),
            _ => PASSING[random.usize(..PASSING.len())],
        };
        world.script(step.id.as_str(), &[how]);
        tally.count("step", what);
    }
    // One that cannot be undone, however often it is tried.
    if random.u8(..4) == 0 {
        let undone: Vec<_> =
            plan.steps.iter().filter(|step| step.undo_when != UndoWhen::Never).collect();
        if !undone.is_empty() {
            let step = undone[random.usize(..undone.len())];
            world.script(step.id.as_str(), &[M::UndoFails; UNDO_ATTEMPTS_MAX as usize]);
            tally.count("step", "cannot be undone");
        }
    }
    if random.u8(..4) == 0 {
        world.silence("pager", true);
    }
}
