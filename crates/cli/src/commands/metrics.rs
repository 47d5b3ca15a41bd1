//! `rollforward metrics`: what is measured, for Prometheus.

use super::Context;
use crate::schedule::metrics::page;
use crate::wiring::block_on;

/// Arguments of `metrics`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(context: &Context<'_>, _arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    block_on(async {
        let page = page(&config, jiff::SignedDuration::ZERO).await?;
        context.printer.result(&serde_json::json!({ "metrics": page }), page.trim_end());
        Ok(0)
    })
}
