//! `rollforward report RUN` and `rollforward report --verify FILE`.

use std::path::PathBuf;

use anyhow::Context as _;
use recovery::report::{Report, html, markdown, sign, verify};

use super::Context;
use crate::failure::Error;
use crate::orchestra::{files, open_home_of};
use crate::wiring::block_on;

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The run; or the file with --verify
    run: String,
    /// Check the signature of a report.json: needs nothing but the file
    #[arg(long)]
    verify: bool,
    /// With --verify: the key it must be signed with, ed25519:…
    #[arg(long, value_name = "KEY", requires = "verify")]
    key: Option<String>,
    /// Write the page with the timeline here
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    if arguments.verify {
        return check(context, arguments);
    }
    let config = context.config()?;
    block_on(async {
        let home = open_home_of(&config, &arguments.run, false, context.printer).await?;
        let loaded = home.load(&arguments.run).await?;
        let report = Report::of(&loaded)?;
        let signed = sign(&report, &files::signing_key(&home.keys)?);
        if let Some(path) = &arguments.html {
            files::write(path, &html(&report))?;
        }
        context.printer.result(&signed.document, markdown(&report).trim_end());
        Ok(0)
    })
}

fn check(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let text = std::fs::read_to_string(&arguments.run)
        .with_context(|| format!("read report '{}'", arguments.run))?;
    let document: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("read report '{}'", arguments.run))?;
    match verify(&document, arguments.key.as_deref()) {
        Ok(report) => {
            let field = |name: &str| {
                report.get(name).and_then(serde_json::Value::as_str).unwrap_or("?").to_owned()
            };
            let text = format!(
                "run {}: {}, journal head {}\nsigned with {}",
                field("run"),
                field("verdict"),
                field("journal_head"),
                document.get("key").and_then(serde_json::Value::as_str).unwrap_or("?")
            );
            context.printer.result(&serde_json::json!({ "valid": true, "report": report }), &text);
            Ok(0)
        }
        Err(error) => Err(Error::Refused {
            what: format!("'{}': {error}", arguments.run),
            hint: "take the report from the journal again: rollforward report RUN".into(),
        }
        .into()),
    }
}
