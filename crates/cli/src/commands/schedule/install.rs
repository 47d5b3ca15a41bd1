//! `rollforward schedule install` and `rollforward schedule remove`.

use std::io::IsTerminal;
use std::path::PathBuf;

use super::{Context, must_be_runnable};
use crate::failure::Error;
use crate::schedule::install::{Change, of_crontab, of_units};
use crate::schedule::text;
use crate::{secrets, wiring};

/// Arguments of `schedule install` and `schedule remove`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The folder of units, such as /etc/systemd/system
    #[arg(long, value_name = "FOLDER", required_unless_present = "cron", conflicts_with = "cron")]
    systemd: Option<PathBuf>,
    /// The crontab's file, such as /etc/cron.d/rollforward
    #[arg(long, value_name = "FILE")]
    cron: Option<PathBuf>,
    /// Make the changes that are shown, without asking
    #[arg(long)]
    confirm: bool,
}

pub(super) fn run(
    context: &Context<'_>,
    arguments: &Arguments,
    installs: bool,
) -> anyhow::Result<u8> {
    let config = context.config()?;
    if installs {
        must_be_runnable(&config)?;
    }
    let program = wiring::own_program()?;
    let changes = match (&arguments.systemd, &arguments.cron) {
        (Some(folder), _) => {
            let units = if installs { text::units(&config, &program) } else { Vec::new() };
            of_units(folder, &units)?
        }
        (None, Some(path)) => {
            let text = installs.then(|| text::crontab(&config, &program)).transpose()?;
            of_crontab(path, text)?
        }
        (None, None) => Vec::new(),
    };
    if changes.is_empty() {
        print(context, &changes, "nothing to change: everything is as it should be");
        return Ok(0);
    }
    for change in &changes {
        context.printer.note(&change.diff());
    }
    confirmed(arguments, changes.len())?;
    for change in &changes {
        change.make()?;
    }
    print(context, &changes, &format!("{} changed", crate::output::count(changes.len(), "file")));
    if arguments.systemd.is_some() {
        context.printer.next(next(&changes, installs).trim_end());
    }
    Ok(0)
}

fn print(context: &Context<'_>, changes: &[Change], text: &str) {
    let rows = changes
        .iter()
        .map(|change| serde_json::json!({ "file": change.path, "change": change.verb() }));
    let document = serde_json::json!({ "changes": rows.collect::<Vec<_>>() });
    context.printer.result(&document, text);
}

/// What makes systemd see it: nothing is started or stopped here.
fn next(changes: &[Change], installs: bool) -> String {
    let timers = changes.iter().filter_map(|change| change.path.file_name()?.to_str());
    let timers: Vec<&str> = timers.filter(|name| name.ends_with(".timer")).collect();
    match installs {
        true => format!("systemctl daemon-reload && systemctl enable --now {}", timers.join(" ")),
        false => format!("systemctl disable --now {}; systemctl daemon-reload", timers.join(" ")),
    }
}

fn confirmed(arguments: &Arguments, changes: usize) -> anyhow::Result<()> {
    if arguments.confirm {
        return Ok(());
    }
    let is_yes = std::io::stdin().is_terminal() && {
        let question = format!("change {}? [yes/no] ", crate::output::count(changes, "file"));
        secrets::ask(&question)? == "yes"
    };
    match is_yes {
        true => Ok(()),
        false => Err(Error::Refused {
            what: "nothing was changed: the changes above were not confirmed".into(),
            hint: "look at them, then repeat with --confirm".into(),
        }
        .into()),
    }
}
