//! From a service, a wish and an inventory to a plan. Values in, values out: the same input gives
//! the same plan, and with it the same digest.

mod around;
mod breach;
mod build;
mod by_hand;
mod by_hand_door;
mod candidates;
mod cluster;
mod drill;
mod dump;
mod files;
mod kubernetes;
mod managed;
mod network;
mod traffic;

use crate::inventory::Inventory;
use crate::method::{Choice, Method, NoWay, Wish, choose};
use crate::plan::{Alternative, Mode, Plan, Stage};
use crate::service::{Database, LocalCluster, OnFailure, Persons, Policy, Service};

/// What a plan is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What kind of run.
    pub mode: Mode,
    /// What the operator wants.
    pub wish: Wish,
    /// The version of this binary.
    pub binary: String,
    /// Who may approve.
    pub persons: Persons,
    /// Somebody has broken in: nothing that is younger is trusted.
    pub is_breach: bool,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing leads to what was asked for.
    #[error(transparent)]
    NoWay(#[from] NoWay),
    /// The service's check fails: a plan would fail at night.
    #[error("service '{service}' is not ready to be recovered: {}", problems.join("; "))]
    NotReady {
        /// The service.
        service: String,
        /// What is wrong.
        problems: Vec<String>,
    },
    /// A drill would touch production.
    #[error("the drill of '{service}' would touch production: {what}")]
    TouchesProduction {
        /// The service.
        service: String,
        /// Which identity is equal.
        what: String,
    },
    /// The declaration lacks something.
    #[error("service '{service}' declares no {what}")]
    Undeclared {
        /// The service.
        service: String,
        /// What is missing.
        what: &'static str,
    },
}

impl PlanError {
    /// The operator's next move.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NoWay(error) => error.hint.clone(),
            Self::NotReady { service, .. } => {
                format!("mend it, then `rollforward check {service}`")
            }
            Self::TouchesProduction { .. } => {
                "give the drill a place of its own for everything it changes".into()
            }
            Self::Undeclared { .. } => "see docs/guide/services.md".into(),
        }
    }
}

/// Compiles a plan.
///
/// # Errors
/// [`PlanError`]; nothing was touched.
pub fn compile(
    service: &Service,
    request: &Request,
    inventory: &Inventory,
) -> Result<Plan, PlanError> {
    if !inventory.problems.is_empty() {
        return Err(PlanError::NotReady {
            service: service.name.clone(),
            problems: inventory.problems.clone(),
        });
    }
    if request.mode == Mode::Drill {
        drill::check(service)?;
    }
    let choice = choose(&request.wish, inventory)?;
    let mut steps = match &service.database {
        Database::Cluster(place) => cluster::steps(service, place, request, &choice, inventory)?,
        Database::Rds(rds) => managed::steps(service, rds, request, &choice, inventory)?,
    };
    if request.is_breach {
        breach::add(&mut steps, service, request)?;
    }
    kubernetes::add(&mut steps, request.mode, service.site.is_some(), &inventory.kubernetes);
    steps.sort_by_key(|step| step.stage);
    steps.iter_mut().for_each(|step| build::by_experience(step, &inventory.timings));
    let candidates = candidates::of(service, &choice, inventory);
    let mut plan = Plan {
        binary: request.binary.clone(),
        service: service.name.clone(),
        mode: request.mode,
        method: choice.method.text().into(),
        reason: choice.reason.clone(),
        target: choice.target.clone(),
        candidates,
        alternatives: Vec::new(),
        objectives: service.objectives,
        policy: match request.is_breach {
            // What somebody has broken into never serves again by itself.
            true => Policy { on_failure: OnFailure::StayShut, ..service.policy },
            false => service.policy,
        },
        persons: request.persons.clone(),
        tell: service.tell.clone(),
        escalate: service.escalate.clone(),
        site: service.site.clone(),
        has_door: keeps_users_out(service, inventory) && request.mode == Mode::Incident,
        warnings: warnings(service, request, &choice, inventory, &steps),
        predicted_loss_s: loss(&choice, inventory),
        steps,
    };
    let restore_s = restore_s(service, &choice, inventory);
    let around_s = plan.predicted_rto_s().saturating_sub(restore_s);
    plan.alternatives = alternatives(service, request, &choice, inventory, around_s);
    Ok(plan)
}

/// How to speak to the server of a cluster through a database that is not the service's own.
#[must_use]
pub fn beside(cluster: &LocalCluster) -> String {
    by_hand::connected(cluster, None)
}

/// How long bringing the data back takes.
fn restore_s(service: &Service, choice: &Choice, inventory: &Inventory) -> u64 {
    use crate::plan::StepKind as Kind;
    let (kind, base_s) = match (&service.database, choice.method) {
        (Database::Cluster(_), Method::Dump) => {
            (Kind::RestoreDump, dump::load_s(choice, inventory))
        }
        (Database::Cluster(_), _) => (Kind::RestoreCluster, build::restore_s(choice, inventory)),
        (Database::Rds(_), Method::Dump) => (Kind::RestoreDump, inventory.speeds.instance_s * 2),
        (Database::Rds(_), _) => (Kind::RestoreInstance, inventory.speeds.instance_s),
    };
    crate::timings::predicted_s(&inventory.timings, kind.text(), base_s)
}

/// Seconds between the damage, or now, and the newest data of a choice.
fn loss(choice: &Choice, inventory: &Inventory) -> Option<u64> {
    use crate::plan::Target;
    let failed = inventory.damage.as_ref().map_or(inventory.now, |damage| damage.at);
    let newest = match &choice.target {
        Target::Before(_) => inventory.damage.as_ref()?.last_good?,
        Target::Time(time) => time.parse().ok()?,
        // Of a lost site nothing can be salvaged.
        Target::Latest if inventory.is_site_lost => newest(inventory)?,
        Target::Latest => return Some(0),
        Target::Immediate => {
            inventory.backups.iter().filter(|backup| backup.is_valid).map(|it| it.finished).max()?
        }
        Target::Snapshot(id) => {
            inventory.snapshots.iter().find(|snapshot| snapshot.id == *id)?.finished
        }
        Target::Dump(label) => inventory.dumps.iter().find(|dump| dump.label == *label)?.taken,
        Target::Lsn(_) | Target::Xid(_) | Target::Name(_) => return None,
    };
    u64::try_from(failed.duration_since(newest).as_secs().max(0)).ok()
}

/// What a wish leads to, if a plan could be made of it.
fn way(service: &Service, mode: Mode, wish: &Wish, inventory: &Inventory) -> Result<Choice, NoWay> {
    let choice = choose(wish, inventory)?;
    if let Database::Cluster(place) = &service.database {
        dump::check(place, mode, &choice, inventory)?;
    }
    Ok(choice)
}

/// Every method, what it would cost, and why it was taken or not. All else takes `around_s`.
fn alternatives(
    service: &Service,
    request: &Request,
    choice: &Choice,
    inventory: &Inventory,
    around_s: u64,
) -> Vec<Alternative> {
    Method::ALL
        .iter()
        .map(|(name, method)| {
            let is_chosen = *method == choice.method;
            let wish = match is_chosen {
                true => request.wish.clone(),
                false => Wish { method: Some(*method), ..request.wish.clone() },
            };
            let chosen = way(service, request.mode, &wish, inventory);
            match (chosen, is_chosen) {
                (Ok(other), _) => Alternative {
                    method: (*name).into(),
                    what: other.target.to_string(),
                    rto_s: Some(restore_s(service, &other, inventory) + around_s),
                    loss_s: loss(&other, inventory),
                    reason: if is_chosen {
                        choice.reason.clone()
                    } else {
                        worse(&other, choice, inventory)
                    },
                    is_chosen,
                },
                (Err(error), _) => Alternative {
                    method: (*name).into(),
                    what: "not possible".into(),
                    rto_s: None,
                    loss_s: None,
                    reason: error.what,
                    is_chosen,
                },
            }
        })
        .collect()
}

fn worse(other: &Choice, chosen: &Choice, inventory: &Inventory) -> String {
    match (loss(other, inventory), loss(chosen, inventory)) {
        (Some(other), Some(chosen)) if other > chosen => {
            format!("loses {} more", crate::plan::duration_text(other - chosen))
        }
        _ => format!("not the first choice: {}", chosen.reason),
    }
}

/// The newest data that a repository surely has: its last commit, or its newest backup when nothing
/// was committed since.
fn newest(inventory: &Inventory) -> Option<jiff::Timestamp> {
    let valid = inventory.backups.iter().filter(|backup| backup.is_valid);
    let backup = valid.map(|backup| backup.finished).max();
    inventory.window.map(|window| window.latest).max(backup)
}

/// Whether users come in only when they are let in: by a door, or by being led to another site.
fn keeps_users_out(service: &Service, inventory: &Inventory) -> bool {
    service.door.is_some() || (inventory.is_site_lost && !service.traffic.is_empty())
}

fn warnings(
    service: &Service,
    request: &Request,
    choice: &Choice,
    inventory: &Inventory,
    steps: &[crate::plan::Step],
) -> Vec<String> {
    let mut warnings = Vec::new();
    if !keeps_users_out(service, inventory) && request.mode == Mode::Incident {
        warnings.push("there is no door: users are back as soon as the writers start".into());
    }
    if inventory.is_site_lost {
        warnings.push("the lost site is not fenced: see to it that nobody reaches it again".into());
    }
    if inventory.is_site_lost
        && let Some(newest) = newest(inventory)
    {
        let behind = inventory.now.duration_since(newest).as_secs().max(0).unsigned_abs();
        if behind > service.objectives.rpo.as_secs() {
            warnings.push(format!(
                "the repository of this site ends at {newest}, {} ago: more than the RPO of {}",
                crate::plan::duration_text(behind),
                crate::plan::duration_text(service.objectives.rpo.as_secs())
            ));
        }
    }
    for manager in &inventory.managers {
        warnings.push(format!("{manager} manages this and may undo our steps: pause it first"));
    }
    if matches!(service.database, Database::Cluster(_)) {
        warnings.extend(dump::warnings(choice, request.mode, inventory));
    }
    warnings.extend(inventory.notes.iter().cloned());
    let until_open = steps.iter().filter(|step| step.stage <= Stage::Open);
    let rto: u64 = until_open.map(|step| step.predicted_s).sum();
    if rto > service.objectives.rto.as_secs() {
        warnings.push(format!(
            "predicted {} is more than the objective of {}",
            crate::plan::duration_text(rto),
            crate::plan::duration_text(service.objectives.rto.as_secs())
        ));
    }
    if inventory.timings.is_empty() {
        warnings.push("no drill and no recovery was measured yet: times are guesses".into());
    }
    if request.mode == Mode::Incident {
        warnings.extend(network::warning(service));
        warnings.extend(traffic::warnings(&service.traffic, inventory));
    }
    if inventory.backups.first().is_some_and(|backup| backup.is_suspect) {
        warnings.push("the newest backup was made after the damage".into());
    }
    warnings
}
