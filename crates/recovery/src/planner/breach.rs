//! The variant for a breach or ransomware: people hear of it first, the replaced cluster is
//! evidence, and nobody comes in with a password from before.

use super::build::{shell, step};
use super::{PlanError, Request, around};
use crate::method::NoWay;
use crate::plan::{Class, Mode, Parameters, Stage, Step, StepKind, Target, UndoWhen};
use crate::service::{Breach, Service};

/// Adds the steps of a breach to a plan's steps.
pub(super) fn add(
    steps: &mut Vec<Step>,
    service: &Service,
    request: &Request,
) -> Result<(), PlanError> {
    if request.mode != Mode::Incident {
        return Ok(());
    }
    let breach = service
        .breach
        .as_ref()
        .ok_or_else(|| PlanError::Undeclared { service: service.name.clone(), what: "breach" })?;
    if matches!(request.wish.target, None | Some(Target::Latest)) {
        return Err(NoWay {
            what: "a breach needs a target before the intrusion: what came later is not trusted"
                .into(),
            hint: "name it: --target-time, --target-lsn, --target-name".into(),
        }
        .into());
    }
    let cluster = shared(steps);
    steps.extend(told(breach, service));
    steps.extend(resolved(breach));
    steps.extend(held(steps));
    steps.push(confirmed());
    // Before the network is opened: nobody comes in with a password from before.
    let at = steps.iter().position(|step| step.stage == Stage::Switch).unwrap_or(steps.len());
    steps.splice(at..at, rotated(breach, &cluster));
    for step in steps {
        renew(step, breach);
    }
    Ok(())
}

/// What every step of the cluster is told.
fn shared(steps: &[Step]) -> Parameters {
    let restore = steps.iter().find(|step| step.kind == StepKind::RestoreCluster);
    let names = ["cluster", "data_directory", "connection", "database", "bin_directory"];
    let parameters = restore.map(|step| step.parameters.clone()).unwrap_or_default();
    parameters.into_iter().filter(|(name, _)| names.contains(&name.as_str())).collect()
}

/// The new passwords are there: on other days they need not be.
fn resolved(breach: &Breach) -> Option<Step> {
    let references: Vec<String> = breach.roles.values().cloned().collect();
    (!references.is_empty()).then(|| {
        step(Stage::Assess, "secrets", "breach", StepKind::ResolveSecrets)
            .effect(format!("every new password resolves: {}", references.join(", ")))
            .with("references", around::words_parameter(&references))
            .done()
    })
}

fn told(breach: &Breach, service: &Service) -> Vec<Step> {
    let steps = breach.tell.iter().map(|channel| {
        step(Stage::Assess, "tell", channel, StepKind::Tell)
            .effect(format!("tells '{channel}' that somebody has broken in"))
            .undo(Class::Own, UndoWhen::Never, "none: a message cannot be taken back")
            .with("channel", channel.clone())
            .with("what", "breach")
            .with(
                "text",
                format!(
                    "Service {} is recovered to before an intrusion. The replaced database is held \
                     as evidence. Somebody has to confirm that legal has been told.",
                    service.name
                ),
            )
            .done()
    });
    steps.collect()
}

/// The cluster that is kept is kept until somebody lifts the hold. Of a lost site nothing is.
fn held(steps: &[Step]) -> Option<Step> {
    let kept = steps.iter().find(|step| step.kind == StepKind::KeepOld)?;
    let directory = kept.parameters.get("data_directory").cloned().unwrap_or_default();
    let mut held = step(Stage::Secure, "hold", "", StepKind::HoldEvidence)
        .effect(format!(
            "holds '{directory}' as evidence: it is not removed until the hold is lifted"
        ))
        .undo(Class::Own, UndoWhen::Never, "none is needed: only a mark beside it is added")
        .with_all(kept.parameters.clone())
        .identity(&kept.identity)
        .host(kept.host.as_ref())
        .done();
    held.command = Some(shell(&["touch".into(), format!("{directory}.rollforward-hold")]));
    Some(held)
}

/// The setting's own role may be one of those that get another password.
fn renew(step: &mut Step, breach: &Breach) {
    let is_setting = matches!(step.kind, StepKind::CheckSetting | StepKind::SwitchSetting);
    if !is_setting || breach.roles.is_empty() {
        return;
    }
    if step.kind == StepKind::SwitchSetting {
        let roles: Vec<&str> = breach.roles.keys().map(String::as_str).collect();
        step.effect.push_str(&format!("; with the new password if it names {}", roles.join(", ")));
        step.undo.push_str("; a new password stays");
    }
    for (role, reference) in &breach.roles {
        step.parameters.insert(format!("password.{role}"), reference.clone());
    }
}

fn confirmed() -> Step {
    let text = "legal has been told of the breach, and the target lies before the intrusion";
    step(Stage::Prove, "confirm", "breach", StepKind::Confirm)
        .effect(format!("a person confirms: {text}"))
        .with("text", text)
        .predicted(60)
        .done()
}

fn rotated(breach: &Breach, cluster: &Parameters) -> Vec<Step> {
    let none = "none is needed: what was restored is removed";
    let roles = breach.roles.iter().map(|(role, password)| {
        step(Stage::Switch, "rotate", role, StepKind::RotateCredentials)
            .effect(format!(
                "gives role '{role}' of the restored cluster the password of {password}"
            ))
            .undo(Class::Own, UndoWhen::Never, none)
            .with_all(cluster.clone())
            .with("role", role.clone())
            .with("password", password.clone())
            .done()
    });
    let commands = breach.commands.iter().enumerate().map(|(at, words)| {
        let undo = "none: a secret that is known to others does not come back";
        step(Stage::Switch, "rotate-secret", &(at + 1).to_string(), StepKind::RotateSecret)
            .effect(format!("rotates a secret: '{}'", words.join(" ")))
            .undo(Class::Own, UndoWhen::Never, undo)
            .with("words", around::words_parameter(words))
            .command(shell(words))
            .predicted(30)
            .done()
    });
    roles.chain(commands).collect()
}
