//! `rollforward demo`: the whole story on this machine, with a real PostgreSQL and a real
//! application, from a healthy shop to a destroyed one and back.
//!
//! Every step is a command that an operator could type; the demo types them and keeps the time. The
//! recovery itself is one command, `rollforward recover`.

mod account;
mod cluster;
mod damage;
mod recover;
mod report;
mod shop;
mod stage;

use std::path::PathBuf;

use anyhow::Context as _;

use super::Context;
use crate::wiring::block_on;
use report::Report;
use stage::Stage;

/// Arguments of `demo`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How much data the shop has, for example 300MB or 5GB
    #[arg(long, value_name = "SIZE", default_value = "300MB")]
    size: String,
    /// Keep the clusters, the repository and the logs, and say where they are
    #[arg(long)]
    keep: bool,
    /// Where PostgreSQL's programs are [default: the newest that is installed]
    #[arg(long, value_name = "DIR")]
    bin_directory: Option<PathBuf>,
    /// Work below this folder
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    directory: PathBuf,
    /// Write the report here; the same name with .json beside it
    #[arg(long, value_name = "FILE", default_value = "rollforward-demo-report.md")]
    report: PathBuf,
    /// The user PostgreSQL runs under when this is root
    #[arg(long, value_name = "NAME", default_value = "postgres")]
    user: String,
    /// Set by the demo for itself
    #[arg(long, hide = true)]
    stage: Option<PathBuf>,
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    if rustix::process::geteuid().is_root() {
        // PostgreSQL refuses to run as root, so the whole story is played as somebody else.
        return account::play_as_user(context, arguments);
    }
    let directory = match &arguments.stage {
        Some(directory) => directory.clone(),
        None => account::make_stage(&arguments.directory)?,
    };
    let played = block_on(play(context, arguments, &directory));
    if arguments.stage.is_none() {
        if played.is_ok() {
            report::publish(&directory, &arguments.report)?;
        }
        account::leave(context, &directory, arguments.keep)?;
    }
    let report = played?;
    if arguments.stage.is_none() {
        context.printer.result(&report, &report.text());
        context
            .printer
            .next(&format!("read '{}'; docs/guide/getting-started.md", arguments.report.display()));
    }
    Ok(0)
}

async fn play(
    context: &Context<'_>,
    arguments: &Arguments,
    directory: &std::path::Path,
) -> anyhow::Result<Report> {
    let mut stage = Stage::new(context.printer, directory, arguments).await?;
    let told = tell(&mut stage, arguments).await;
    stage.strike().await;
    let report = told?;
    report.write(directory).context("write the report")?;
    Ok(report)
}

/// The story, in its order.
async fn tell(stage: &mut Stage<'_>, arguments: &Arguments) -> anyhow::Result<Report> {
    stage.act("A shop is open");
    cluster::create(stage).await?;
    let shop = shop::open(stage, &arguments.size).await?;
    stage.act("It is protected");
    cluster::protect(stage).await?;
    recover::declare(stage, &shop).await?;
    shop.wait_for_orders(20).await?;
    let damage = damage::destroy(stage, &shop).await?;
    let recovery = recover::recover(stage, &shop, &damage).await?;
    Ok(Report::new(stage, &damage, recovery))
}
