//! `rollforward schedule run JOB`.

use std::time::Duration;

use super::Context;
use crate::failure::Error;
use crate::schedule::run::{Came, line, run as run_job};
use crate::wiring::block_on;

/// Ends with this when another one of its kind runs.
const BUSY: u8 = 8;

/// Arguments of `schedule run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The job
    job: String,
    /// Wait first, a random time up to so many seconds: for cron, which has no delay of its own
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    delay_max: u64,
    /// Print one line for logs, whatever else is printed
    #[arg(long)]
    log_line: bool,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let job = config.schedule.jobs.get(&arguments.job).ok_or_else(|| {
        let known: Vec<&str> = config.schedule.jobs.keys().map(String::as_str).collect();
        Error::Usage(format!(
            "there is no job '{}' in '{}'; known: {}",
            arguments.job,
            config.path.display(),
            if known.is_empty() { "none".into() } else { known.join(", ") }
        ))
    })?;
    let mut random = [0; 8];
    stdx::id::fill_random(&mut random);
    let delay_s = u64::from_le_bytes(random) % arguments.delay_max.saturating_add(1);
    block_on(async {
        tokio::time::sleep(Duration::from_secs(delay_s)).await;
        let came = run_job(&config, job).await?;
        let text = line(job, &came);
        let (document, code) = match &came {
            Came::Ended(ended) => (
                serde_json::json!({ "job": job.name, "skipped": false, "ended": ended }),
                u8::from(!ended.is_success),
            ),
            Came::Skipped => (serde_json::json!({ "job": job.name, "skipped": true }), BUSY),
        };
        if arguments.log_line && context.printer.is_json() {
            context.printer.error_text(&text);
        }
        context.printer.result(&document, &text);
        Ok(code)
    })
}
