//! The restored cluster takes sessions over the network: it listens on an address besides loopback,
//! and lets the applications' networks log in with their passwords. The rest of its quarantine
//! stays: it archives nothing until it is adopted.

use std::path::Path;

use async_trait::async_trait;
use pgclient::local::StopMode;
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::Parameters;

use super::{QUIET_MAX, postmaster, restored_directory, restored_session, server, value};

/// Client authentication of a cluster in quarantine.
const HBA_FILE: &str = "rollforward.hba.conf";

/// Marks our lines.
const MARK: &str = "# rollforward: applications";

#[derive(Debug, Default)]
pub(crate) struct OpenNetwork;

/// The lines that let the applications in.
fn lines(context: &StepContext) -> Result<String, Failure> {
    let clients = context.parameter("clients")?.split(',');
    // A plan of a version that let them into every database says nothing of it.
    let databases = context.parameters.get("databases").map_or("all", String::as_str);
    let lines = clients.map(|client| format!("host {databases} all {client} scram-sha-256\n"));
    Ok(format!("{MARK}\n{}", lines.collect::<String>()))
}

/// `listen_addresses` with what is asked for.
fn addresses(context: &StepContext) -> Result<String, Failure> {
    let listen = context.parameter("listen")?;
    Ok(match listen {
        "*" | "0.0.0.0" | "::" => listen.to_owned(),
        address => format!("127.0.0.1,{address}"),
    })
}

fn let_in(directory: &Path, lines: &str) -> Result<(), Failure> {
    let path = directory.join(HBA_FILE);
    let failed = |error: std::io::Error| {
        Failure::terminal("RF1104", format!("'{}': {error}", path.display()))
    };
    let text = std::fs::read_to_string(&path).map_err(failed)?;
    if text.contains(lines) {
        return Ok(());
    }
    let kept = text.split(MARK).next().unwrap_or_default();
    stdx::durable::replace(&path, format!("{kept}{lines}").as_bytes()).map_err(failed)
}

async fn look(context: &StepContext) -> Result<Found, Failure> {
    let directory = restored_directory(context)?;
    let hba = std::fs::read_to_string(directory.join(HBA_FILE)).unwrap_or_default();
    if postmaster(&directory)?.is_none() || !hba.contains(&lines(context)?) {
        return Ok(Found::Absent);
    }
    let client = restored_session(context).await?;
    let seen = value(&client, "SHOW listen_addresses").await?.unwrap_or_default();
    Ok(if seen == addresses(context)? { Found::Done } else { Found::Absent })
}

/// Says what it shall listen on; whether it has to be restarted.
async fn listen(context: &StepContext) -> Result<bool, Failure> {
    let client = restored_session(context).await?;
    let wanted = addresses(context)?;
    let quoted = wanted.replace('\'', "''");
    value(&client, &format!("ALTER SYSTEM SET listen_addresses = '{quoted}'")).await?;
    // Clients that insist on TLS get it where the server has what it needs for it.
    let with_tls = "SELECT count(*)::text FROM (SELECT 1 WHERE current_setting('ssl') = 'off' \
        AND pg_stat_file(current_setting('ssl_cert_file'), true) IS NOT NULL \
        AND pg_stat_file(current_setting('ssl_key_file'), true) IS NOT NULL) possible";
    if value(&client, with_tls).await?.as_deref() == Some("1") {
        value(&client, "ALTER SYSTEM SET ssl = 'on'").await?;
    }
    Ok(value(&client, "SHOW listen_addresses").await?.as_deref() != Some(&wanted))
}

#[async_trait]
impl Effect for OpenNetwork {
    async fn probe(&self, context: &StepContext) -> Found {
        look(context).await.unwrap_or_else(|failure| Found::Unknown(failure.message))
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        let directory = restored_directory(context)?;
        let failed = |error: pgclient::Error| Failure::retry("RF1105", error.to_string());
        let local = server(context, &directory).await?;
        if postmaster(&directory)?.is_none() {
            // A driver died while it was restarted.
            local.start(&[], QUIET_MAX).await.map_err(failed)?;
        }
        let_in(&directory, &lines(context)?)?;
        let restarts = listen(context).await?;
        if restarts {
            local.stop(StopMode::Fast, QUIET_MAX).await.map_err(failed)?;
            local.start(&[], QUIET_MAX).await.map_err(failed)?;
        } else {
            let client = restored_session(context).await?;
            value(&client, "SELECT pg_reload_conf()::text").await?;
        }
        Ok(())
    }

    async fn verify(&self, context: &StepContext) -> Result<Parameters, Failure> {
        let directory = restored_directory(context)?;
        let port = postmaster(&directory)?.and_then(|found| found.port);
        let port = port.ok_or_else(|| {
            Failure::retry("RF1105", format!("no server runs in '{}'", directory.display()))
        })?;
        Ok(Parameters::from([
            ("host".into(), context.parameter("address")?.to_owned()),
            ("port".into(), port.to_string()),
        ]))
    }
}
