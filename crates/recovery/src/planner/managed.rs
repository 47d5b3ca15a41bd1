//! The steps for an instance of Amazon RDS.

use super::build::step;
use super::cluster::{secret_references, sql_parameters, validation_parameters};
use super::files::{self, Allowed};
use super::{PlanError, Request, around, traffic};
use crate::inventory::Inventory;
use crate::method::Choice;
use crate::plan::{Class, Mode, Parameters, Stage, Step, StepKind, Target, UndoWhen};
use crate::service::{BindingPlace, Rds, Service};

pub(super) fn steps(
    service: &Service,
    rds: &Rds,
    request: &Request,
    choice: &Choice,
    inventory: &Inventory,
) -> Result<Vec<Step>, PlanError> {
    let site = Site { service, rds, choice, inventory, mode: request.mode };
    let mut steps = Vec::new();
    match request.mode {
        Mode::Incident => {
            steps.extend(site.assess());
            steps.extend(traffic::check_traffic(&service.traffic, inventory));
            steps.extend(around::shut(service.door.as_ref(), &service.writers));
            steps.extend(site.secure());
            steps.push(site.restore());
            steps.extend(site.prove());
            steps.extend(around::checklist(service));
            steps.extend(site.staging());
            steps.push(site.switch());
            steps.extend(around::start(&service.writers, &service.health, &service.smoke));
            steps.extend(site.prove_application());
            steps.extend(around::open(service.door.as_ref(), service, inventory, &site.cost()));
            steps.push(site.protect());
            steps.extend(around::tell(service));
        }
        Mode::Drill | Mode::Copy => {
            steps.push(site.restore());
            steps.extend(site.prove());
            if let (Mode::Drill, Some(drill)) = (request.mode, &service.drill) {
                steps.extend(drill.setting.iter().map(around::switch));
                steps.extend(around::start(&drill.writers, &drill.health, &drill.smoke));
            }
        }
    }
    Ok(steps)
}

struct Site<'a> {
    service: &'a Service,
    rds: &'a Rds,
    choice: &'a Choice,
    inventory: &'a Inventory,
    mode: Mode,
}

impl Site<'_> {
    fn assess(&self) -> Vec<Step> {
        let diagnose = step(Stage::Assess, "diagnose", "", StepKind::Diagnose)
            .effect(format!(
                "looks at RDS instance {}: state, events, does it answer",
                self.rds.instance
            ))
            .with_all(self.instance())
            .predicted(10)
            .done();
        let mut steps = vec![diagnose];
        if let Some(setting) = &self.service.setting {
            steps.push(
                step(Stage::Assess, "setting", "", StepKind::CheckSetting)
                    .effect(format!("{} points to the instance now", setting.place.describe()))
                    .with_all(around::setting_parameters(setting))
                    .with_all(self.instance())
                    .done(),
            );
        }
        let references = secret_references(self.service);
        if !references.is_empty() {
            steps.push(
                step(Stage::Assess, "secrets", "", StepKind::ResolveSecrets)
                    .effect(format!("every secret resolves: {}", references.join(", ")))
                    .with("references", around::words_parameter(&references))
                    .done(),
            );
        }
        steps
    }

    fn secure(&self) -> Vec<Step> {
        let fence = step(Stage::Secure, "fence", &self.rds.instance, StepKind::Fence)
            .effect(
                "the application's role may not log in, its sessions are ended; no WAL for 10 s",
            )
            .undo(Class::Undoable, UndoWhen::Reopening, "the role may log in again")
            .with_all(self.instance())
            .identity(&self.inventory.identity)
            .predicted(20)
            .done();
        if self.inventory.is_site_lost {
            return Vec::new();
        }
        let copy = step(Stage::Secure, "copy", &self.rds.instance, StepKind::SafetySnapshot)
            .effect("a manual snapshot of the instance as it is: the way back")
            .undo(Class::Own, UndoWhen::Never, "kept: it is removed by command")
            .with_all(self.instance())
            .identity(&self.inventory.identity)
            .predicted(self.inventory.speeds.instance_s / 3)
            .done();
        vec![fence, copy]
    }

    fn restore(&self) -> Step {
        let new = self.new_instance();
        if let Target::Dump(label) = &self.choice.target {
            return step(Stage::Restore, "dump", label, StepKind::RestoreDump)
                .effect(format!("restores dump '{label}' into the new instance {new}"))
                .undo(Class::Own, UndoWhen::Always, "removes the new instance")
                .with_all(self.instance())
                .with("new_instance", new)
                .with("dump", label.clone())
                .predicted(self.inventory.speeds.instance_s * 2)
                .done();
        }
        let (kind, value) = self.choice.target.parts();
        let from = match &self.choice.target {
            Target::Snapshot(id) => format!("snapshot '{id}'"),
            target => format!("{} at {target}", self.rds.instance),
        };
        let restore = step(Stage::Restore, "instance", &new, StepKind::RestoreInstance)
            .effect(format!(
                "makes instance {new} from {from}, with the groups and parameters of the old one"
            ))
            .undo(Class::Own, UndoWhen::Always, "removes the new instance")
            .with_all(self.instance())
            .with("new_instance", new)
            .with("method", self.choice.method.text())
            .with("target_kind", kind)
            .with("target_value", value)
            .predicted(self.inventory.speeds.instance_s);
        match (&self.service.drill, self.mode) {
            (Some(drill), Mode::Drill | Mode::Copy) => match &drill.database {
                BindingPlace::Network { subnet_group, security_groups } => restore
                    .with("subnet_group", subnet_group.clone())
                    .with("security_groups", security_groups.join(","))
                    .done(),
                BindingPlace::Directory(_) => restore.done(),
            },
            _ => restore.done(),
        }
    }

    fn prove(&self) -> Vec<Step> {
        let validation = &self.service.validation;
        let data = step(Stage::Prove, "data", "", StepKind::Prove)
            .effect("row counts, newest times, schema version, foreign keys, amcheck where allowed")
            .with_all(self.instance())
            .with_all(validation_parameters(validation))
            .predicted(60)
            .done();
        let sql = validation.sql.as_ref().map(|path| {
            step(Stage::Prove, "sql", "", StepKind::RunSql)
                .effect(format!("'{path}' says OK, read-only, with a limit for each statement"))
                .with_all(self.instance())
                .with_all(sql_parameters(path, validation))
                .predicted(10)
                .done()
        });
        let connection = step(Stage::Prove, "connection", "", StepKind::ProveConnection)
            .effect("a login works from here and from inside the application's network")
            .with_all(self.instance())
            .predicted(10)
            .done();
        let allowed = match self.mode {
            Mode::Incident => Allowed::Restore,
            Mode::Drill | Mode::Copy => Allowed::Look,
        };
        let files = files::files(&self.service.files, &self.instance(), allowed);
        std::iter::once(data).chain(sql).chain([connection]).chain(files).collect()
    }

    /// The same cut-over on a sibling first, which is put back afterwards.
    fn staging(&self) -> Vec<Step> {
        let Some(staging) = &self.service.staging else { return Vec::new() };
        let mut steps: Vec<Step> = staging.setting.iter().map(around::switch).collect();
        steps.extend(around::start(&staging.writers, &staging.health, &staging.smoke));
        for step in &mut steps {
            let tail = step.id.as_str().split_once('.').map_or("", |(_, tail)| tail).to_owned();
            step.id = crate::plan::StepId::from_text(&format!("stage.{tail}"));
            step.stage = Stage::Stage;
            step.effect = format!("staging: {}", step.effect);
        }
        steps
    }

    /// The connection setting, or the old instance's name.
    fn switch(&self) -> Step {
        match &self.service.setting {
            Some(setting) => around::switch(setting),
            None => step(Stage::Switch, "rename", &self.rds.instance, StepKind::RenameInstance)
                .effect(format!(
                    "renames {0} to {0}-old, then {1} to {0}: the name stays",
                    self.rds.instance,
                    self.new_instance()
                ))
                .undo(
                    Class::Undoable,
                    UndoWhen::Always,
                    "renames both back, found by their resource ids",
                )
                .with_all(self.instance())
                .with("new_instance", self.new_instance())
                .identity(&self.inventory.identity)
                .predicted(300)
                .done(),
        }
    }

    fn prove_application(&self) -> Option<Step> {
        (!self.service.writers.is_empty()).then(|| {
            step(Stage::Start, "sessions", "", StepKind::ProveApplication)
                .effect("the application's sessions are seen at the restored database")
                .with_all(self.instance())
                .predicted(5)
                .done()
        })
    }

    fn protect(&self) -> Step {
        step(Stage::Protect, "instance", &self.new_instance(), StepKind::ProtectInstance)
            .effect("backups on, retention, deletion protection and alarms as the old instance had them")
            .undo(Class::Final, UndoWhen::Never, "none is needed")
            .with_all(self.instance())
            .with("new_instance", self.new_instance())
            .predicted(60)
            .done()
    }

    fn new_instance(&self) -> String {
        let stamp = self.inventory.now.strftime("%Y%m%d-%H%M").to_string();
        let purpose = if self.mode == Mode::Incident { "restored" } else { "drill" };
        format!("{}-{purpose}-{stamp}", self.rds.instance)
    }

    fn instance(&self) -> Parameters {
        let mut parameters = Parameters::from([
            ("instance".into(), self.rds.instance.clone()),
            ("region".into(), self.rds.region.clone()),
        ]);
        parameters.extend(self.rds.login.clone().map(|login| ("login".into(), login)));
        parameters
    }

    fn cost(&self) -> String {
        let lost = self.inventory.damage.as_ref().and_then(|damage| damage.transactions_lost);
        match lost {
            Some(lost) => format!("{} lose {lost}", self.service.name),
            None => format!("{} lose unknown", self.service.name),
        }
    }
}
