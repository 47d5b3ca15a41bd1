//! Going on with a run: on the same machine, or elsewhere.

use recovery::journal::{Message, MessageKind, load_incident, send};
use recovery::machine::State;
use recovery::plan::PlanDigest;
use recovery::runner::{Before, take_over};
use stdx::{Clock, SystemClock};

use super::super::Context;
use super::super::plan::placed;
use super::super::recover::drive_run;
use super::Speaker;
use crate::config::Config;
use crate::failure::Error;
use crate::orchestra::channels::about_run;
use crate::orchestra::driver::driver;
use crate::orchestra::gather::problems;
use crate::orchestra::{files, open_home_of, persons};
use crate::wiring::block_on;

/// Arguments of `run resume` and `run takeover`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The run
    run: String,
    /// End instead of waiting when somebody has to say something
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    speaker: Speaker,
}

/// A driver that lives is told to go on; one that is gone from this host is replaced.
pub(super) fn resume(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    block_on(async {
        let home = open_home_of(&config, &arguments.run, true, context.printer).await?;
        let loaded = home.load(&arguments.run).await?;
        let state = State::replay(&loaded.records)?;
        let person = persons::requester(arguments.speaker.person.as_deref());
        let key = persons::signer(&config, &person, arguments.speaker.key_file.as_deref())?;
        persons::must_drive(&config, &person)?;
        if state.paused_by.is_some() {
            let message = Message {
                run: arguments.run.clone(),
                digest: PlanDigest::of(&state.plan).to_string(),
                target: state.plan.target.to_string(),
                person: person.clone(),
                at: SystemClock::new().now(),
                kind: MessageKind::Resume,
            };
            send(&home, &message, key.as_ref()).await?;
        }
        if state.is_closed() {
            context.printer.next(&format!("it is over: rollforward report {}", arguments.run));
            return Ok(0);
        }
        if !files::driver_is_gone(&config, &arguments.run) {
            if state.paused_by.is_some() {
                context.printer.next(&format!("rollforward run watch {}", arguments.run));
                return Ok(0);
            }
            return Err(Error::Refused {
                what: format!(
                    "the driver of run '{}' may live, here or on another host",
                    arguments.run
                ),
                hint: format!("if it is gone: rollforward run takeover {}", arguments.run),
            }
            .into());
        }
        go_on(context, &config, arguments, &home, Before::Dead, &person).await
    })
}

/// Another driver's run becomes this process's, when its lease has ended.
pub(super) fn takeover(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    block_on(async {
        let home = open_home_of(&config, &arguments.run, true, context.printer).await?;
        let person = persons::requester(arguments.speaker.person.as_deref());
        persons::signer(&config, &person, arguments.speaker.key_file.as_deref())?;
        persons::must_drive(&config, &person)?;
        let before = match files::driver_is_gone(&config, &arguments.run) {
            true => Before::Dead,
            false => {
                context.printer.note("waiting until the lease of the driver before has ended");
                Before::Unknown
            }
        };
        go_on(context, &config, arguments, &home, before, &person).await
    })
}

async fn go_on(
    context: &Context<'_>,
    config: &Config,
    arguments: &Arguments,
    home: &recovery::journal::Home,
    before: Before,
    person: &str,
) -> anyhow::Result<u8> {
    let loaded = home.load(&arguments.run).await?;
    let state = State::replay(&loaded.records)?;
    let plan = &state.plan;
    let service = placed(config.service(Some(&plan.service))?, plan.site.as_deref(), plan.mode)?;
    // Everything that the rest needs must be there before anything is taken over.
    let lacking = problems(config, &service);
    if !lacking.is_empty() {
        return Err(Error::Refused {
            what: format!("this host cannot drive '{}': {}", arguments.run, lacking.join("; ")),
            hint: "mend it, or take it over on another host".into(),
        }
        .into());
    }
    let incident = load_incident(home, &state.incident).await.ok();
    let about = about_run(config, &state, incident.as_ref());
    let mut taker = driver(config, home, about, context.printer, state.epoch, arguments.no_wait)?;
    let taken = take_over(&mut taker, &arguments.run, before, person, "the driver is gone").await?;
    drive_run(context, config, home, &service, &taken, arguments.no_wait).await
}
