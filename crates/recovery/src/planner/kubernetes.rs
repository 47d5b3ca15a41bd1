//! What Kubernetes adds to a plan: which cluster is meant, what has to be paused, manifests.

use super::build::{shell, step};
use super::by_hand;
use crate::inventory::{KubernetesFacts, PauseFact};
use crate::plan::{Class, Mode, Parameters, Stage, Step, StepKind, UndoWhen};

/// The name under which the UID of a cluster's namespace kube-system stands in identities.
const CLUSTER_UID: &str = "kubernetes";

/// `kubectl` for a namespace; [`add`] puts the context's own name in.
pub(super) fn kubectl(context: &str, namespace: &str) -> String {
    shell(&["kubectl", "--context", context, "-n", namespace].map(str::to_owned))
}

/// Adds to the steps what is known of the clusters: their identity, the manifests, and what is
/// paused before anything is stopped.
pub(super) fn add(steps: &mut Vec<Step>, mode: Mode, is_at_site: bool, facts: &KubernetesFacts) {
    match mode {
        Mode::Incident => {
            let pauses = facts.pauses.iter().map(|it| pause(it, Stage::Shut, UndoWhen::Reopening));
            let at = steps.iter().position(|step| step.kind == StepKind::StopWriter);
            let at = at.unwrap_or(steps.len());
            steps.splice(at..at, pauses);
            steps.extend(facts.pauses.iter().flat_map(|fact| resume(fact, is_at_site)));
        }
        // The way back is part of a drill.
        Mode::Drill => {
            let pauses = facts.pauses.iter().map(|it| pause(it, Stage::Stage, UndoWhen::Always));
            steps.extend(pauses);
        }
        Mode::Copy => {}
    }
    for step in steps {
        pin(step, facts);
    }
}

/// The cluster that a step means, and what it applies: what was read when the plan was made.
fn pin(step: &mut Step, facts: &KubernetesFacts) {
    let Some(table) = step.parameters.get("context").cloned() else { return };
    if let Some(fact) = facts.clusters.get(&table) {
        step.identity.insert(CLUSTER_UID.into(), fact.uid.clone());
        if let Some(command) = &mut step.command {
            let named = format!("--context {} ", shell(std::slice::from_ref(&fact.context)));
            *command = command.replace(&format!("--context {table} "), &named);
        }
    }
    if step.parameters.get("door").is_some_and(|door| door == "kubernetes") {
        for name in ["shut", "open"] {
            let path = step.parameters.get(name);
            if let Some(content) = path.and_then(|path| facts.manifests.get(path)) {
                step.parameters.insert(format!("{name}_manifest"), content.clone());
            }
        }
        let applied = if step.kind == StepKind::ShutDoor { "shut" } else { "open" };
        let path = step.parameters.get(applied).cloned().unwrap_or_default();
        let context = facts.clusters.get(&table).map_or(table, |fact| fact.context.clone());
        let words = ["kubectl", "--context", &context, "apply", "--server-side", "-f", &path];
        step.command = Some(shell(&words.map(str::to_owned)));
    }
}

fn parameters(fact: &PauseFact) -> Parameters {
    let pairs = [
        ("context", fact.context.clone()),
        ("manager", fact.manager.into()),
        ("object", fact.object.clone()),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn pause(fact: &PauseFact, stage: Stage, when: UndoWhen) -> Step {
    step(stage, "pause", &fact.object, StepKind::PauseManager)
        .effect(format!(
            "tells {} {} to wait: it manages {} and would undo our steps",
            fact.manager, fact.object, fact.of
        ))
        .undo(Class::Undoable, when, "lets it go on as it did")
        .with_all(parameters(fact))
        .maybe_command(by_hand::manager(&fact.context, fact.manager, &fact.object, true))
        .done()
}

/// Goes on once what it manages says what we have made of it.
fn resume(fact: &PauseFact, is_at_site: bool) -> Vec<Step> {
    let says = match (fact.owns_setting, is_at_site) {
        (true, false) => Some("names the new database: else it puts the old one back"),
        (false, true) => Some(
            "says that the applications run here: else it takes them down to what a standby has",
        ),
        (true, true) => Some(
            "names the new database, and says that the applications run here: else it puts back \
             what a standby has",
        ),
        (false, false) => None,
    };
    let confirm = says.map(|says| {
        let text = format!("the source that {} {} applies {says}", fact.manager, fact.object);
        step(Stage::Protect, "confirm", &fact.object, StepKind::Confirm)
            .effect(format!("a person confirms: {text}"))
            .with("text", text)
            .predicted(60)
            .done()
    });
    let resumed = step(Stage::Protect, "resume", &fact.object, StepKind::ResumeManager)
        .effect(format!("lets {} {} go on as it did", fact.manager, fact.object))
        .undo(Class::Own, UndoWhen::Never, "none is needed: it is as it was before")
        .with_all(parameters(fact))
        .maybe_command(by_hand::manager(&fact.context, fact.manager, &fact.object, false))
        .done();
    confirm.into_iter().chain(std::iter::once(resumed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_goes_on_when_somebody_has_seen_to_its_source() {
        let check = |owns_setting, is_at_site, expect: Option<&str>| {
            let fact = PauseFact {
                context: "prod".into(),
                manager: "flux-kustomization",
                object: "flux-system/apps".into(),
                of: "Deployment odoo/odoo".into(),
                owns_setting,
            };
            let steps = resume(&fact, is_at_site);
            assert_eq!(steps.last().unwrap().kind, StepKind::ResumeManager);
            let asked = steps.iter().find(|step| step.kind == StepKind::Confirm);
            assert_eq!(asked.is_some(), expect.is_some());
            if let (Some(asked), Some(expect)) = (asked, expect) {
                assert!(asked.effect.contains(expect), "{}", asked.effect);
            }
        };
        check(false, false, None);
        check(true, false, Some("names the new database"));
        // A standby has no replicas in its source.
        check(false, true, Some("says that the applications run here"));
        check(true, true, Some("names the new database, and says that"));
    }
}
