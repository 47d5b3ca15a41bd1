//! placeholder
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}
pub(crate) fn run(_: &super::Context<'_>, _: &Arguments) -> anyhow::Result<u8> { Ok(0) }
