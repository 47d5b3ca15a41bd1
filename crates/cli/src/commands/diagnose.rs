//! `rollforward diagnose SERVICE`: healthy, degraded, damaged or unrecoverable, with the evidence.

use recovery::diagnosis::{Condition, condition};
use recovery::service::Database;

use super::Context;
use crate::failure::Error;
use crate::wiring::block_on;

/// Arguments of `diagnose`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The service; may be left out when there is only one
    service: Option<String>,
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let service = config.service(arguments.service.as_deref())?;
    let Database::Cluster(place) = &service.database else {
        return Err(Error::Usage(format!(
            "service '{}' depends on {}: this version cannot look at it",
            service.name,
            service.database.describe()
        ))
        .into());
    };
    let cluster = &place.cluster;
    block_on(async {
        let directory = std::path::Path::new(&cluster.data_directory);
        let evidence =
            providers::diagnose(directory, &cluster.connection, cluster.database.as_deref()).await;
        let verdict = condition(&evidence);
        let mut text = format!("{} is {}", service.name, verdict.text());
        for it in &evidence {
            text.push_str(&format!("\n  {}: {} ({})", it.what, it.seen, it.says.text()));
        }
        let document = serde_json::json!({
            "service": service.name, "condition": verdict.text(),
            "evidence": evidence.iter().map(|it| serde_json::json!({
                "what": it.what, "seen": it.seen, "says": it.says.text(),
            })).collect::<Vec<_>>(),
        });
        context.printer.result(&document, &text);
        let next = match verdict {
            Condition::Healthy => format!("rollforward plan {}", service.name),
            _ => format!("rollforward recover {} --before-incident, or --latest", service.name),
        };
        context.printer.next(&next);
        Ok(if verdict == Condition::Healthy { 0 } else { 3 })
    })
}
