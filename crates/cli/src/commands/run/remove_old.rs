//! `run remove-old`: the cluster that a recovery replaced is removed for good.

use std::path::PathBuf;

use providers::{NotRemovable, Old, OwnProgram};
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
use crate::orchestra::{open_home, persons, service_of};
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
        let home =
            open_home(&config, service_of(&config, &arguments.run), true, context.printer).await?;
        let report = Report::of(&home.load(&arguments.run).await?)?;
        let person = persons::requester(arguments.speaker.person.as_deref());
        persons::signer(&config, &person, arguments.speaker.key_file.as_deref())?;
        persons::must_drive(&config, &person)?;
        may_be_removed(arguments, &report)?;
        let old = old(&config, &report)?;
        if old.look().map_err(|error| refused(&error))?.is_none() {
            let document = serde_json::json!({ "directory": old.directory, "removed": false });
            let text = format!("'{}' is gone already", old.directory.display());
            context.printer.result(&document, &text);
            return Ok(0);
        }
        must_have_a_backup(&own_program(&config)?, &report).await?;
        confirmed(context, arguments, &report, &old)?;
        said(&home, &report, &person, "removing-old", &old).await?;
        let left = old.remove().map_err(|error| refused(&error))?;
        said(&home, &report, &person, "removed-old", &old).await?;
        let document = serde_json::json!({
            "directory": old.directory, "removed": true, "left": left,
        });
        context.printer.result(&document, &format!("'{}' is removed", old.directory.display()));
        for place in left {
            context
                .printer
                .note(&format!("left alone: '{}', which it pointed to", place.display()));
        }
        context.printer.next(&format!("rollforward incident close {}", report.state.incident));
        Ok(0)
    })
}

fn refused(error: &NotRemovable) -> anyhow::Error {
    let hint = "look at it; remove it by hand if that is right".into();
    Error::Refused { what: error.to_string(), hint }.into()
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
            "the policy keeps the replaced cluster for {}; {} are over",
            duration_text(keep.as_secs()),
            duration_text(age)
        ),
        hint: "it is the way back until then; if it must go now: --early".into(),
    }
    .into())
}

fn old(config: &Config, report: &Report) -> anyhow::Result<Old> {
    let facts = &report.state.facts;
    let fact = |name: &str| {
        let missing = || Error::Failed {
            what: format!("run '{}' has not noted '{name}' of the replaced cluster", report.run),
            hint: "remove it by hand".into(),
        };
        facts.get(name).cloned().ok_or_else(missing)
    };
    let mut never: Vec<PathBuf> = facts.get("directory").map(PathBuf::from).into_iter().collect();
    never.extend(config.clusters.values().map(|cluster| cluster.data_directory.clone()));
    let directory = PathBuf::from(fact("old_directory")?);
    Ok(Old { directory, system_id: fact("safety_copy_system_id")?, never })
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
    old: &Old,
) -> anyhow::Result<()> {
    let text = format!("{} remove {}", report.state.plan.service, old.system_id);
    context.printer.note(&format!(
        "'{}' is removed for good: the cluster that run {} replaced",
        old.directory.display(),
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

async fn said(home: &Home, report: &Report, by: &str, kind: &str, old: &Old) -> anyhow::Result<()> {
    let fields = Parameters::from([
        ("run".into(), report.run.clone()),
        ("directory".into(), old.directory.display().to_string()),
        ("system_id".into(), old.system_id.clone()),
    ]);
    let at = SystemClock::new().now();
    let entry = IncidentEntry { kind: kind.into(), at, by: by.into(), fields };
    Ok(append_incident(home, &report.state.incident, &entry).await?)
}
