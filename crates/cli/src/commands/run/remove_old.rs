//! `run remove-old`: the cluster or database that a recovery replaced is removed for good.

use std::path::PathBuf;

use providers::{NotRemovable, Old, OldDatabase, OwnProgram};
use recovery::journal::{Home, IncidentEntry, ServiceState, Verdict, append_incident};
use recovery::plan::{Parameters, duration_text};
use recovery::report::Report;
use serde_json::Value;
use stdx::{Clock, SystemClock};

use super::super::Context;
use super::Speaker;
use crate::config::Config;
use crate::failure::Error;
use crate::orchestra::driver::own_program;
use crate::orchestra::{open_home_of, persons};
use crate::secrets;
use crate::wiring::block_on;

/// Arguments of `run remove-old`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The run that replaced it
    run: String,
    /// What is removed, as the command shows it: for scripts
    #[arg(long, value_name = "TEXT")]
    confirm: Option<String>,
    /// Before the time is over that the policy keeps it
    #[arg(long)]
    early: bool,
    #[command(flatten)]
    speaker: Speaker,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    block_on(async {
        let home = open_home_of(&config, &arguments.run, true, context.printer).await?;
        let report = Report::of(&home.load(&arguments.run).await?)?;
        let person = persons::requester(arguments.speaker.person.as_deref());
        persons::signer(&config, &person, arguments.speaker.key_file.as_deref())?;
        persons::must_drive(&config, &person)?;
        may_be_removed(arguments, &report)?;
        let old = replaced(&config, &report)?;
        let (kind, name) = (old.kind(), old.name());
        if !old.is_there().await? {
            let document = serde_json::json!({ kind: name, "removed": false });
            context.printer.result(&document, &format!("'{name}' is gone already"));
            return Ok(0);
        }
        must_have_a_backup(&own_program(&config)?, &report).await?;
        confirmed(context, arguments, &report, &old)?;
        said(&home, &report, &person, "removing-old", &old).await?;
        let left = old.remove().await?;
        said(&home, &report, &person, "removed-old", &old).await?;
        let document = serde_json::json!({ kind: name, "removed": true, "left": left });
        context.printer.result(&document, &format!("'{name}' is removed"));
        for place in left {
            context
                .printer
                .note(&format!("left alone: '{}', which it pointed to", place.display()));
        }
        context.printer.next(&format!("rollforward incident close {}", report.state.incident));
        Ok(0)
    })
}

fn refused(what: String) -> anyhow::Error {
    let hint = "look at it; remove it by hand if that is right".into();
    Error::Refused { what, hint }.into()
}

/// What a run replaced.
enum Replaced {
    /// A cluster beside which one was restored.
    Cluster(Old),
    /// A database of a cluster that went on.
    Database(OldDatabase),
}

impl Replaced {
    fn kind(&self) -> &'static str {
        match self {
            Self::Cluster(_) => "directory",
            Self::Database(_) => "database",
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Cluster(old) => old.directory.display().to_string(),
            Self::Database(old) => old.name.clone(),
        }
    }

    /// What tells it apart from everything else, as it is typed.
    fn identity(&self) -> &str {
        match self {
            Self::Cluster(old) => &old.system_id,
            Self::Database(old) => &old.name,
        }
    }

    fn system_id(&self) -> &str {
        match self {
            Self::Cluster(old) => &old.system_id,
            Self::Database(old) => &old.system_id,
        }
    }

    async fn is_there(&self) -> anyhow::Result<bool> {
        match self {
            Self::Cluster(old) => {
                let found = old.look().map_err(|error: NotRemovable| refused(error.to_string()))?;
                Ok(found.is_some())
            }
            Self::Database(old) => old.is_there().await.map_err(|failure| refused(failure.message)),
        }
    }

    /// What lies outside of it and is left alone.
    async fn remove(&self) -> anyhow::Result<Vec<PathBuf>> {
        match self {
            Self::Cluster(old) => old.remove().map_err(|error| refused(error.to_string())),
            Self::Database(old) => {
                old.remove().await.map_err(|failure| refused(failure.message))?;
                Ok(Vec::new())
            }
        }
    }
}

/// Only a run that went through has replaced something, and only after a while it is not needed.
fn may_be_removed(arguments: &Arguments, report: &Report) -> anyhow::Result<()> {
    let Some((Verdict::Restored, ServiceState::New, at)) = report.ended else {
        return Err(Error::Refused {
            what: format!("run '{}' is {}: it has replaced nothing", report.run, report.verdict()),
            hint: "rollforward runs".into(),
        }
        .into());
    };
    let keep = report.state.plan.policy.keep_old;
    let age = SystemClock::new().now().duration_since(at).as_secs().max(0).unsigned_abs();
    if age >= keep.as_secs() || arguments.early {
        return Ok(());
    }
    Err(Error::Refused {
        what: format!(
            "the policy keeps the replaced {} for {}; {} are over",
            match report.state.facts.contains_key("old_database") {
                true => "database",
                false => "cluster",
            },
            duration_text(keep.as_secs()),
            duration_text(age)
        ),
        hint: "it is the way back until then; if it must go now: --early".into(),
    }
    .into())
}

fn replaced(config: &Config, report: &Report) -> anyhow::Result<Replaced> {
    let facts = &report.state.facts;
    let missing = |name: &str| Error::Failed {
        what: format!("run '{}' has not noted '{name}' of what it replaced", report.run),
        hint: "remove it by hand".into(),
    };
    let fact = |name: &str| facts.get(name).cloned().ok_or_else(|| missing(name));
    if let Some(name) = facts.get("old_database") {
        let mut steps = report.state.plan.steps.iter();
        let server = steps.find_map(|step| step.parameters.get("server").cloned());
        let oid = fact("old_database_oid")?.parse().map_err(|_| missing("old_database_oid"))?;
        return Ok(Replaced::Database(OldDatabase {
            server: server.ok_or_else(|| missing("server"))?,
            system_id: fact("safety_copy_system_id")?,
            name: name.clone(),
            oid,
        }));
    }
    let mut never: Vec<PathBuf> = facts.get("directory").map(PathBuf::from).into_iter().collect();
    never.extend(config.clusters.values().map(|cluster| cluster.data_directory.clone()));
    let directory = PathBuf::from(fact("old_directory")?);
    let system_id = fact("safety_copy_system_id")?;
    Ok(Replaced::Cluster(Old { directory, system_id, never }))
}

/// The way back: a whole backup of what has replaced it.
async fn must_have_a_backup(own: &OwnProgram, report: &Report) -> anyhow::Result<()> {
    let label = report.state.facts.get("new_backup").cloned().unwrap_or_default();
    let cluster =
        report.state.plan.steps.iter().find_map(|step| step.parameters.get("cluster").cloned());
    let words = ["backups".to_owned(), cluster.unwrap_or_default()];
    let listed = own
        .run(&words)
        .await
        .map_err(|failure| Error::Failed { what: failure.message, hint: failure.hint })?;
    let backups = listed.pointer("/backups").and_then(Value::as_array).into_iter().flatten();
    let is_there = backups.into_iter().any(|backup| backup["label"] == label.as_str());
    match is_there {
        true => Ok(()),
        false => Err(Error::Refused {
            what: format!("backup '{label}' of the restored cluster is not there any more"),
            hint: "make one first: rollforward backup".into(),
        }
        .into()),
    }
}

fn confirmed(
    context: &Context<'_>,
    arguments: &Arguments,
    report: &Report,
    old: &Replaced,
) -> anyhow::Result<()> {
    let text = format!("{} remove {}", report.state.plan.service, old.identity());
    let what = match old {
        Replaced::Cluster(_) => "cluster",
        Replaced::Database(_) => "database",
    };
    context.printer.note(&format!(
        "'{}' is removed for good: the {what} that run {} replaced",
        old.name(),
        report.run
    ));
    let typed = match &arguments.confirm {
        Some(typed) => typed.clone(),
        None => secrets::ask(&format!("type \"{text}\": "))?,
    };
    match typed == text {
        true => Ok(()),
        false => Err(Error::Refused {
            what: format!("expected \"{text}\", seen \"{typed}\""),
            hint: "nothing was removed".into(),
        }
        .into()),
    }
}

async fn said(
    home: &Home,
    report: &Report,
    by: &str,
    kind: &str,
    old: &Replaced,
) -> anyhow::Result<()> {
    let fields = Parameters::from([
        ("run".into(), report.run.clone()),
        (old.kind().into(), old.name()),
        ("system_id".into(), old.system_id().to_owned()),
    ]);
    let at = SystemClock::new().now();
    let entry = IncidentEntry { kind: kind.into(), at, by: by.into(), fields };
    Ok(append_incident(home, &report.state.incident, &entry).await?)
}
