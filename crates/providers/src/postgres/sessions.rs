//! Who is connected: we ourselves, and the application.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::{Parameters, StepKind};

use super::{restored_session, value};
use crate::looked::Looked;

/// How long an application that was started may take to open its first session.
const PATIENCE: Duration = Duration::from_secs(45);

const POLL: Duration = Duration::from_millis(200);

/// The next transaction id: what wrote since then has a smaller one.
pub(super) const NEXT_XID: &str = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text";

#[derive(Debug, Default)]
pub(crate) struct Sessions {
    looked: Looked,
}

/// Transactions that wrote since the data were proved. Reading takes no transaction id.
pub(super) async fn count_writes(context: &StepContext) -> Result<u64, Failure> {
    let before: u64 = context.fact("xid_at_proof")?.parse().unwrap_or_default();
    let client = restored_session(context).await?;
    let now = value(&client, NEXT_XID).await?.and_then(|xid| xid.parse::<u64>().ok());
    let now = now.ok_or_else(|| Failure::retry("RF1105", "no transaction id was told"))?;
    Ok(now.saturating_sub(before))
}

async fn login(context: &StepContext) -> Result<Parameters, Failure> {
    let client = restored_session(context).await?;
    let version = value(&client, "SHOW server_version").await?.unwrap_or_default();
    if let Some(expected) = context.facts.get("version").filter(|seen| **seen != version) {
        return Err(Failure::terminal(
            "RF1105",
            format!("expected PostgreSQL {expected}, seen {version}"),
        ));
    }
    Ok(Parameters::from([("connected_to".into(), client.address().to_owned())]))
}

async fn application(context: &StepContext) -> Result<Parameters, Failure> {
    let began = Instant::now();
    let sql = "SELECT string_agg(DISTINCT usename || ' (' || application_name || ')', ', ') \
               FROM pg_stat_activity WHERE backend_type = 'client backend' \
               AND datname = current_database() AND pid <> pg_backend_pid() \
               AND application_name <> 'rollforward'";
    loop {
        let client = restored_session(context).await?;
        if let Some(seen) = value(&client, sql).await?.filter(|seen| !seen.is_empty()) {
            return Ok(Parameters::from([("application_sessions".into(), seen)]));
        }
        if began.elapsed() > PATIENCE {
            return Err(Failure::terminal(
                "RF1105",
                format!("no session of the application was seen within {} s", PATIENCE.as_secs()),
            )
            .hint("does it read the setting that was switched? was it started?"));
        }
        tokio::time::sleep(POLL).await;
    }
}

#[async_trait]
impl Effect for Sessions {
    async fn probe(&self, context: &StepContext) -> Found {
        self.looked.probe(context)
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        let outputs = match context.step.kind {
            StepKind::ProveApplication => application(context).await?,
            _ => login(context).await?,
        };
        self.looked.remember(context, outputs);
        Ok(())
    }

    async fn verify(&self, context: &StepContext) -> Result<Parameters, Failure> {
        Ok(self.looked.outputs(context).unwrap_or_default())
    }
}
