//! `rollforward drill SERVICE`: the same plan with other bindings; production is only read.

use recovery::journal::{Entry, claim};
use recovery::plan::{Mode, Parameters, plan_text};
use stdx::{Clock, SystemClock};

use super::Context;
use super::plan::{Wanted, make, must_be_performable};
use super::recover::{create, drive_run, named};
use crate::failure::Error;
use crate::orchestra::{open_home, persons};
use crate::wiring::block_on;

/// Arguments of `drill`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    wanted: Wanted,
    /// Restore and prove only: no settings, no applications
    #[arg(long)]
    copy: bool,
    /// Who asks
    #[arg(long = "as", value_name = "PERSON")]
    person: Option<String>,
    /// The person's key file [default: NAME.person beside the configuration]
    #[arg(long, value_name = "FILE")]
    key_file: Option<std::path::PathBuf>,
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let service = config.service(arguments.wanted.service.as_deref())?;
    let mode = if arguments.copy { Mode::Copy } else { Mode::Drill };
    let requester = persons::requester(arguments.person.as_deref());
    persons::signer(&config, &requester, arguments.key_file.as_deref())?;
    persons::must_drive(&config, &requester)?;
    block_on(async {
        let home = open_home(&config, Some(service), true, context.printer).await?;
        let (plan, _) = make(&config, service, &arguments.wanted, mode).await?;
        must_be_performable(&config, &plan)?;
        context.printer.note(&plan_text(&plan));
        let run = named(&format!("{}-{}", service.name, mode.text()));
        // A drill has a claim of its own: it must not stand in the way of a recovery.
        let claimed = format!("{} {}", mode.text(), service.name);
        if let Err(there) = claim(&home, &claimed, &run, None).await? {
            return Err(Error::Refused {
                what: format!(
                    "run '{}' is a {} of '{}' already",
                    there.run,
                    mode.text(),
                    service.name
                ),
                hint: format!("rollforward run show {}", there.run),
            }
            .into());
        }
        let now = SystemClock::new().now();
        let entry = Entry::Created {
            plan: Box::new(plan.clone()),
            requester,
            incident: String::new(),
            alert_at: now,
            declared_at: now,
            is_confirmed: true,
            supersedes: None,
            originals: Parameters::new(),
        };
        create(&config, &home, &run, &plan, entry).await?;
        let loaded = home.load(&run).await?;
        let driven = drive_run(context, &config, &home, service, &loaded, true).await;
        recovery::journal::release(&home, &claimed, &run).await?;
        match driven? {
            6 => Ok(3),
            code => Ok(code),
        }
    })
}
