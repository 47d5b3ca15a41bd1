//! The steps for a cluster of ours.

use jiff::Timestamp;

use super::build::{backup_for, restore_s, shell, step};
use super::files::{self, Allowed};
use super::{PlanError, Request, around, by_hand, dump, traffic};
use crate::inventory::Inventory;
use crate::method::{Choice, NoWay};
use crate::plan::{Class, Mode, Parameters, Stage, Step, StepKind, Target, UndoWhen};
use crate::service::{BindingPlace, Bindings, ClusterPlace, Service, Validation};

pub(super) fn steps(
    service: &Service,
    place: &ClusterPlace,
    request: &Request,
    choice: &Choice,
    inventory: &Inventory,
) -> Result<Vec<Step>, PlanError> {
    let site = Site { service, place, choice, inventory, mode: request.mode };
    if matches!(choice.target, Target::Dump(_)) {
        return dump::steps(&site, request);
    }
    if matches!(choice.target, Target::Snapshot(_)) {
        return Err(NoWay {
            what: format!("cluster '{}' has no {}", place.cluster.name, choice.target),
            hint: "name a backup's target: --immediate, --target-time".into(),
        }
        .into());
    }
    if backup_for(choice, inventory).is_none() {
        return Err(NoWay {
            what: format!("no valid backup reaches {}", choice.target),
            hint: format!("rollforward window {}", place.cluster.name),
        }
        .into());
    }
    match request.mode {
        Mode::Incident => Ok(site.incident()),
        Mode::Drill => site.drill(),
        Mode::Copy => Ok(site.copy()),
    }
}

/// What all steps of one plan look at.
pub(super) struct Site<'a> {
    pub(super) service: &'a Service,
    pub(super) place: &'a ClusterPlace,
    pub(super) choice: &'a Choice,
    pub(super) inventory: &'a Inventory,
    pub(super) mode: Mode,
}

impl Site<'_> {
    fn incident(&self) -> Vec<Step> {
        let service = self.service;
        let mut steps = Vec::new();
        if !self.inventory.is_site_lost {
            steps.push(self.diagnose());
        }
        if !self.inventory.is_site_lost {
            // The setting of a standby site points to its own database, which is none yet.
            steps.extend(self.check_setting());
        }
        steps.extend(self.resolve_secrets());
        steps.extend(traffic::check_traffic(&service.traffic, self.inventory));
        steps.extend(around::shut(service.door.as_ref(), &service.writers));
        steps.extend(self.secure());
        steps.push(self.restore(&self.directory(None)));
        steps.extend(self.prove());
        steps.extend(around::checklist(service));
        steps.extend(self.network(self.place.network.as_deref(), &service.writers));
        steps.extend(service.setting.iter().map(around::switch));
        steps.extend(around::start(&service.writers, &service.health, &service.smoke));
        steps.extend(self.prove_application());
        steps.extend(around::open(service.door.as_ref(), service, self.inventory, &self.cost()));
        steps.extend(self.protect());
        steps.extend(around::tell(service));
        steps
    }

    fn drill(&self) -> Result<Vec<Step>, PlanError> {
        let drill = self
            .service
            .drill
            .as_ref()
            .ok_or(PlanError::Undeclared { service: self.service.name.clone(), what: "drill" })?;
        let mut steps = traffic::check_traffic(&drill.traffic, self.inventory);
        steps.extend(around::activate(&drill.activate));
        steps.push(self.target());
        steps.push(self.restore(&self.directory(Some(drill))));
        steps.extend(self.prove());
        steps.extend(self.network(drill.network.as_deref(), &drill.writers));
        steps.extend(drill.setting.iter().map(around::switch));
        steps.extend(around::start(&drill.writers, &drill.health, &drill.smoke));
        steps.extend(traffic::switch_traffic(&drill.traffic, self.inventory, false));
        Ok(steps)
    }

    fn copy(&self) -> Vec<Step> {
        let mut steps = vec![self.target()];
        let directory = self.directory(self.service.drill.as_ref());
        steps.push(self.restore(&directory));
        steps.extend(self.prove());
        steps
    }

    pub(super) fn diagnose(&self) -> Step {
        step(Stage::Assess, "diagnose", "", StepKind::Diagnose)
            .effect(format!(
                "looks at {}: does it answer, what do its log and pages say",
                self.name()
            ))
            .with_all(self.cluster())
            .host(self.place.cluster.host.as_ref())
            .command(format!("rollforward diagnose {}", self.service.name))
            .predicted(5)
            .done()
    }

    pub(super) fn check_setting(&self) -> Option<Step> {
        let setting = self.service.setting.as_ref()?;
        Some(
            step(Stage::Assess, "setting", "", StepKind::CheckSetting)
                .effect(format!("{} points to the declared database now", setting.place.describe()))
                .with_all(around::setting_parameters(setting))
                .with("connection", self.place.cluster.connection.clone())
                .maybe("address", self.place.network.as_ref().map(|network| &network.address))
                .done(),
        )
    }

    pub(super) fn resolve_secrets(&self) -> Option<Step> {
        let references = secret_references(self.service);
        if references.is_empty() {
            return None;
        }
        Some(
            step(Stage::Assess, "secrets", "", StepKind::ResolveSecrets)
                .effect(format!("every secret resolves: {}", references.join(", ")))
                .with("references", around::words_parameter(&references))
                .done(),
        )
    }

    /// Fence, salvage, safety copy, target. Of a site that is lost nothing can be reached.
    fn secure(&self) -> Vec<Step> {
        if self.inventory.is_site_lost {
            let mut steps = around::activate(&self.service.activate);
            steps.push(self.target());
            return steps;
        }
        let cluster = &self.place.cluster;
        let fence = step(Stage::Secure, "fence", &cluster.name, StepKind::Fence)
            .effect(format!(
                "{} refuses every session, open ones are ended, it is stopped and stays so",
                self.name()
            ))
            .undo(
                Class::Undoable,
                UndoWhen::Reopening,
                "puts its client authentication back and starts it, if it ran",
            )
            .with_all(self.cluster())
            .identity(&self.inventory.identity)
            .host(cluster.host.as_ref())
            .command(by_hand::fence(cluster))
            .predicted(15)
            .done();
        let salvage = step(Stage::Secure, "salvage", &cluster.name, StepKind::Salvage)
            .effect("stores what can still be read of its WAL")
            .undo(Class::Own, UndoWhen::Never, "none is needed: WAL is only added")
            .with_all(self.cluster())
            .identity(&self.inventory.identity)
            .host(cluster.host.as_ref())
            .command(format!("rollforward wal salvage {}", cluster.name))
            .predicted(15)
            .done();
        let keep = step(Stage::Secure, "copy", &cluster.name, StepKind::KeepOld)
            .effect(format!(
                "'{}' stays as it is, even if damaged: it is the way back",
                cluster.data_directory
            ))
            .with_all(self.cluster())
            .identity(&self.inventory.identity)
            .host(cluster.host.as_ref())
            .done();
        vec![fence, salvage, keep, self.target()]
    }

    fn target(&self) -> Step {
        let name = &self.place.cluster.name;
        let mut words: Vec<String> = ["rollforward", "window", name].map(str::to_owned).to_vec();
        words.extend(self.target_options());
        step(Stage::Secure, "target", "", StepKind::ResolveTarget)
            .effect(format!("{} can be reached, and how", self.choice.target))
            .with_all(self.cluster())
            .with_all(self.target_parameters())
            .command(shell(&words))
            .predicted(10)
            .done()
    }

    fn restore(&self, directory: &str) -> Step {
        let cluster = &self.place.cluster;
        let mut words: Vec<String> = ["rollforward", "restore", &cluster.name, "--to", directory]
            .map(str::to_owned)
            .to_vec();
        words.extend(self.target_options());
        if let Some(backup) = backup_for(self.choice, self.inventory) {
            words.extend(["--backup".into(), backup.label.clone()]);
        }
        words.push("--start".into());
        if self.mode != Mode::Incident {
            words.push("--copy".into());
        }
        let host = match self.mode {
            Mode::Incident => self.place.restore_host.as_ref().or(cluster.host.as_ref()),
            Mode::Drill | Mode::Copy => None,
        };
        step(Stage::Restore, "cluster", &cluster.name, StepKind::RestoreCluster)
            .effect(format!(
                "restores {} into '{directory}', in quarantine, and recovers it to {}",
                self.backup_text(),
                self.choice.target
            ))
            .undo(
                Class::Own,
                UndoWhen::Always,
                "stops the restored cluster and removes its directory",
            )
            .with_all(self.cluster())
            .with_all(self.target_parameters())
            .with("directory", directory)
            .maybe("backup", backup_for(self.choice, self.inventory).map(|it| &it.label))
            .with("copy", (self.mode != Mode::Incident).to_string())
            .host(host)
            .command(shell(&words))
            .predicted(restore_s(self.choice, self.inventory))
            .done()
    }

    pub(super) fn prove(&self) -> Vec<Step> {
        let validation = &self.service.validation;
        let size = dump::dump_for(self.choice, self.inventory);
        let size = size.map_or(self.inventory.size, |dump| dump.size);
        let builtin = step(Stage::Prove, "data", "", StepKind::Prove)
            .effect(format!("page checksums, amcheck, foreign keys{}", tables_text(validation)))
            .with_all(self.cluster())
            .with_all(validation_parameters(validation))
            .with_all(self.target_parameters())
            .with_all(self.damage())
            .command(self.prove_by_hand(validation))
            .predicted(size.div_ceil(self.inventory.speeds.prove.max(1)) + 5)
            .done();
        let sql = validation.sql.as_ref().map(|path| {
            step(Stage::Prove, "sql", "", StepKind::RunSql)
                .effect(format!("'{path}' says OK, read-only, with a limit for each statement"))
                .with_all(self.cluster())
                .with_all(sql_parameters(path, validation))
                .predicted(10)
                .done()
        });
        let connection = step(Stage::Prove, "connection", "", StepKind::ProveConnection)
            .effect("a login from here works, and the version is the old one's")
            .with_all(self.cluster())
            .done();
        let mut steps = vec![builtin];
        steps.extend(sql);
        steps.push(connection);
        steps.extend(self.files());
        steps
    }

    /// A drill looks at production's files, and writes only into buckets of its own.
    fn files(&self) -> Vec<Step> {
        let mut database = self.cluster();
        database.extend(self.target_parameters());
        database.extend(self.damage());
        let own = self.service.drill.as_ref().map(|drill| &drill.files);
        match (self.mode, own.filter(|files| !files.is_empty())) {
            (Mode::Incident, _) => files::files(&self.service.files, &database, Allowed::Restore),
            (Mode::Drill, Some(own)) => files::files(own, &database, Allowed::RestoreInDrill),
            (Mode::Drill | Mode::Copy, _) => {
                files::files(&self.service.files, &database, Allowed::Look)
            }
        }
    }

    pub(super) fn prove_application(&self) -> Option<Step> {
        (!self.service.writers.is_empty()).then(|| {
            step(Stage::Start, "sessions", "", StepKind::ProveApplication)
                .effect("the application's sessions are seen at the restored database")
                .with_all(self.cluster())
                .command(self.sessions_by_hand())
                .predicted(5)
                .done()
        })
    }

    fn protect(&self) -> Vec<Step> {
        let name = &self.place.cluster.name;
        let directory = self.directory(None);
        let mut words = ["rollforward", "adopt", name, "--at", &directory, "--keep-port"]
            .map(str::to_owned)
            .to_vec();
        words.extend(self.inventory.is_site_lost.then(|| "--old-is-gone".to_owned()));
        let adopt = step(Stage::Protect, "adopt", name, StepKind::Adopt)
            .effect(
                "the restored cluster is the production of its history from now on: it archives",
            )
            .undo(
                Class::Final,
                UndoWhen::Never,
                "none: the replaced cluster is refused from here on",
            )
            .with_all(self.cluster())
            .with("directory", directory)
            // Nobody can look whether the old one still takes sessions; a person said so.
            .with("old_is_gone", self.inventory.is_site_lost.to_string())
            .host(self.place.restore_host.as_ref().or(self.place.cluster.host.as_ref()))
            .command(shell(&words))
            .predicted(10)
            .done();
        vec![adopt, self.backup("a full backup of it")]
    }

    pub(super) fn backup(&self, effect: &str) -> Step {
        let name = &self.place.cluster.name;
        let host = match self.choice.target {
            // It stays where it is.
            Target::Dump(_) => self.place.cluster.host.as_ref(),
            _ => self.place.restore_host.as_ref().or(self.place.cluster.host.as_ref()),
        };
        step(Stage::Protect, "backup", name, StepKind::Backup)
            .effect(effect)
            .undo(Class::Own, UndoWhen::Never, "none is needed: a backup is only added")
            .with_all(self.cluster())
            .host(host)
            .command(format!("rollforward backup {name}"))
            .predicted(self.inventory.size.div_ceil(self.inventory.speeds.backup.max(1)) + 5)
            .done()
    }

    /// Where the restored cluster goes: beside the old one, or where the drill says.
    pub(super) fn directory(&self, drill: Option<&Bindings>) -> String {
        let cluster = &self.place.cluster;
        let below = match (self.mode, drill) {
            (
                Mode::Drill | Mode::Copy,
                Some(Bindings { database: BindingPlace::Directory(path), .. }),
            ) => path.clone(),
            _ => self.place.restore_below.clone().unwrap_or_else(|| {
                let parent = std::path::Path::new(&cluster.data_directory).parent();
                parent.map_or_else(|| "/".into(), |parent| parent.display().to_string())
            }),
        };
        format!("{}/{}-{}", below.trim_end_matches('/'), cluster.name, stamp(self.inventory.now))
    }

    pub(super) fn cluster(&self) -> Parameters {
        let cluster = &self.place.cluster;
        let mut parameters = Parameters::from([
            ("cluster".into(), cluster.name.clone()),
            ("data_directory".into(), cluster.data_directory.clone()),
            ("connection".into(), cluster.connection.clone()),
        ]);
        let optional = [("database", &cluster.database), ("bin_directory", &cluster.bin_directory)];
        for (name, value) in optional {
            parameters.extend(value.clone().map(|value| (name.to_owned(), value)));
        }
        if matches!(self.choice.target, Target::Dump(_)) {
            // The server goes on, and is spoken to through another of its databases.
            parameters.insert("server".into(), by_hand::connected(cluster, None));
        }
        parameters
    }

    fn target_parameters(&self) -> Parameters {
        let (kind, value) = self.choice.target.parts();
        let only = self.inventory.only_repository.clone();
        let only = only.map(|name| ("repository".to_owned(), name));
        let target = [("target_kind", kind), ("target_value", value)];
        let target = target.map(|(name, value)| (name.to_owned(), value.to_owned()));
        target.into_iter().chain(only).collect()
    }

    /// What commands that are told of the target are told.
    fn target_options(&self) -> Vec<String> {
        let mut options = self.choice.target.options();
        if let Some(name) = &self.inventory.only_repository {
            options.extend(["--repository".into(), name.clone()]);
        }
        options
    }

    /// What the checks compare times with.
    fn damage(&self) -> Parameters {
        let mut parameters = Parameters::new();
        if let Some(damage) = &self.inventory.damage {
            parameters.insert("damaged_at".into(), damage.at.to_string());
            // A dump is of its own moment, whatever was good later.
            let last_good =
                damage.last_good.filter(|_| !matches!(self.choice.target, Target::Dump(_)));
            parameters.extend(last_good.map(|at| ("last_good".to_owned(), at.to_string())));
        }
        parameters
    }

    fn backup_text(&self) -> String {
        backup_for(self.choice, self.inventory)
            .map_or_else(|| "a backup".into(), |backup| format!("backup {}", backup.label))
    }

    pub(super) fn name(&self) -> String {
        format!("cluster '{}'", self.place.cluster.name)
    }

    /// What passing the point of no return costs, as it is typed: `shop lose 43`.
    pub(super) fn cost(&self) -> String {
        let counted = self.inventory.damage.as_ref().and_then(|damage| damage.transactions_lost);
        // What was counted came after the damage: a dump is older.
        let lost = counted.filter(|_| !matches!(self.choice.target, Target::Dump(_)));
        match lost {
            Some(lost) => format!("{} lose {lost}", self.service.name),
            None => format!("{} lose unknown", self.service.name),
        }
    }
}

/// `20261126T050000Z`.
pub(super) fn stamp(now: Timestamp) -> String {
    now.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn tables_text(validation: &Validation) -> String {
    let mut text = String::new();
    if let Some(tool) = validation.schema {
        text.push_str(&format!(", schema version of {}", tool.text()));
    }
    for (table, check) in &validation.tables {
        if let Some(rows) = check.min_rows {
            text.push_str(&format!(", {table} has at least {rows} rows"));
        }
        if let Some(column) = &check.newest {
            text.push_str(&format!(", newest {table}.{column} is before the damage"));
            if let Some(within) = check.within {
                let within = crate::plan::duration_text(within.as_secs());
                text.push_str(&format!(" and at most {within} before the target"));
            }
        }
    }
    text
}

/// What a provider needs of a validation.
pub(super) fn validation_parameters(validation: &Validation) -> Parameters {
    let mut parameters = Parameters::new();
    if let Some(tool) = validation.schema {
        parameters.insert("schema".into(), tool.text().into());
    }
    for (table, check) in &validation.tables {
        if let Some(rows) = check.min_rows {
            parameters.insert(format!("min_rows.{table}"), rows.to_string());
        }
        if let Some(column) = &check.newest {
            parameters.insert(format!("newest.{table}"), column.clone());
        }
        if let Some(within) = check.within {
            parameters.insert(format!("within_s.{table}"), within.as_secs().to_string());
        }
    }
    parameters
}

/// What a provider needs to run a file of SQL.
pub(super) fn sql_parameters(path: &str, validation: &Validation) -> Parameters {
    let mut parameters = Parameters::from([("path".into(), path.to_owned())]);
    parameters
        .extend(validation.timeout.map(|it| ("timeout_ms".into(), it.as_millis().to_string())));
    parameters
}

/// Every secret that steps of a service will need.
pub(super) fn secret_references(service: &Service) -> Vec<String> {
    let smoke = service.smoke.iter().filter_map(|smoke| smoke.login.clone());
    let door = service.door.iter().filter_map(|door| match door {
        crate::service::Door::Http { login, .. } => login.clone(),
        _ => None,
    });
    let login = match &service.database {
        crate::service::Database::Rds(rds) => rds.login.clone(),
        crate::service::Database::Cluster(_) => None,
    };
    let traffic = service.traffic.iter().filter_map(|it| it.secret().map(str::to_owned));
    let mut all: Vec<String> = smoke.chain(door).chain(login).chain(traffic).collect();
    all.sort();
    all.dedup();
    all
}
