//! `rollforward dump verify NAME`.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use stdx::ByteCount;

use crate::commands::Context;
use crate::failure::Error;
use crate::progress::Progress;
use crate::wiring::block_on;

/// Arguments of `dump verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The `[dumps.NAME]` of the configuration
    name: String,
    /// The dump [default: the newest]
    label: Option<String>,
    /// Where PostgreSQL's programs are
    #[arg(long, value_name = "DIR")]
    bin_directory: Option<PathBuf>,
}

#[derive(Serialize)]
struct Outcome {
    name: String,
    label: String,
    format: String,
    bytes: u64,
    age_seconds: i64,
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let Some(others) = config.others.dumps.get(&arguments.name) else {
        let what = format!("there is no [dumps.{}] in the configuration", arguments.name);
        return Err(Error::Usage(what).into());
    };
    let source = super::plain(others, arguments.bin_directory.as_ref())?;
    block_on(async {
        let dump = match &arguments.label {
            Some(label) => source.find(label).await?,
            None => source.list().await?.dumps.pop().ok_or_else(|| Error::Failed {
                what: format!("there is no dump in '{}'", others.place.url),
                hint: "who makes them, and where do they go?".into(),
            })?,
        };
        let progress = Arc::new(Progress::new("verify", context.printer));
        let verified = backup::dump::plain::verify(&source, &dump, progress.clone()).await;
        progress.finish();
        let verified = verified?;
        let age = stdx::Clock::now(&stdx::SystemClock::new()).duration_since(dump.modified);
        let outcome = Outcome {
            name: arguments.name.clone(),
            label: dump.key.to_string(),
            format: verified.format.to_string(),
            bytes: verified.bytes,
            age_seconds: age.as_secs(),
        };
        let text = format!(
            "{}:{} is whole: {}, {} unpacked, {} h old",
            outcome.name,
            outcome.label,
            outcome.format,
            ByteCount::new(outcome.bytes),
            outcome.age_seconds / 3600
        );
        context.printer.result(&outcome, &text);
        context.printer.next(&format!(
            "rollforward dump restore {} {} --target CONNINFO --database NAME --create",
            outcome.name, outcome.label
        ));
        Ok(0)
    })
}
