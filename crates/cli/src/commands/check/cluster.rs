//! A cluster: its server, its archiving, its right to write, what is in the repository.

use pgclient::{Client, ServerInfo};
use repository::lineage::{self, Lineage};
use repository::{Repository, window};
use stdx::{Clock, SystemClock};

use super::super::Context;
use super::Findings;
use crate::config::{ClusterConfig, Config};
use crate::wiring::{self, Purpose, open_set};

/// Hours without a backup that are worth a warning: a daily backup and half a day of delay.
const BACKUP_AGE_HOURS_MAX: i64 = 36;

pub(super) async fn check(
    context: &Context<'_>,
    config: &Config,
    cluster: &ClusterConfig,
    findings: &mut Findings,
) {
    let subject = format!("cluster {}", cluster.name);
    let here = wiring::host_name();
    if let Some(host) = cluster.host.as_ref().filter(|host| **host != here) {
        findings.warning(
            &subject,
            format!("its steps run on host '{host}', this is '{here}'"),
            "run this there",
        );
    }
    let server = match server(cluster, &subject, findings).await {
        Ok(server) => Some(server),
        Err(error) => {
            findings.failed(&subject, &error);
            None
        }
    };
    let repository = match open_set(config, cluster, None, Purpose::Read, context.printer).await {
        Ok(repository) => repository,
        Err(error) => return findings.failed(&subject, &error),
    };
    let lineage = match lineage::of_cluster(&repository, &cluster.name).await {
        Ok(lineage) => lineage,
        Err(error) => return findings.failed(&subject, &error.into()),
    };
    if let Some((info, client)) = &server {
        identity(info, &lineage, &subject, findings);
        if let Err(error) = archiving(config, cluster, info, client, &subject, findings).await {
            findings.failed(&subject, &error);
        }
    }
    if let Err(error) = writer(config, cluster, &repository, &lineage, &subject, findings).await {
        findings.failed(&subject, &error);
    }
    if let Err(error) = stored(cluster, &repository, &lineage, &subject, findings).await {
        findings.failed(&subject, &error);
    }
}

async fn server(
    cluster: &ClusterConfig,
    subject: &str,
    findings: &mut Findings,
) -> anyhow::Result<(ServerInfo, Client)> {
    let client = wiring::connect(cluster).await?;
    let info = client.server().await?;
    findings.good(
        subject,
        format!("PostgreSQL {} answers at '{}'", info.version_num / 10_000, client.address()),
    );
    let real = |path: &std::path::Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
    if real(&info.data_directory) != real(&cluster.data_directory) {
        findings.problem(
            subject,
            format!(
                "data_directory is '{}', the server says '{}'",
                cluster.data_directory.display(),
                info.data_directory.display()
            ),
            "correct it in the configuration",
        );
    }
    Ok((info, client))
}

fn identity(info: &ServerInfo, lineage: &Lineage, subject: &str, findings: &mut Findings) {
    if info.system_id == lineage.system_id {
        findings.good(subject, format!("system identifier {} is the lineage's", info.system_id));
    } else {
        findings.problem(
            subject,
            format!("system identifier {}, the lineage's is {}", info.system_id, lineage.system_id),
            "this is another cluster: give it a name of its own",
        );
    }
    if info.data_checksums {
        findings.good(subject, "pages have checksums");
    } else {
        findings.warning(
            subject,
            "pages have no checksums: damage on disk stays unseen",
            "pg_checksums --enable",
        );
    }
    if !info.full_page_writes {
        findings.problem(
            subject,
            "full_page_writes is off: an online backup cannot be trusted",
            "turn it on",
        );
    }
}

async fn archiving(
    config: &Config,
    cluster: &ClusterConfig,
    info: &ServerInfo,
    client: &Client,
    subject: &str,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let expected = wiring::archive_command(config, &cluster.name, false)?;
    let mut sound = true;
    if info.wal_level == "minimal" {
        sound = false;
        findings.problem(subject, "wal_level is minimal", "set it to replica and restart");
    }
    if info.archive_mode == "off" {
        sound = false;
        findings.problem(subject, "archive_mode is off", "set it to on and restart");
    }
    if info.archive_command.contains(" --hold") {
        sound = false;
        findings.problem(
            subject,
            "its WAL is held: it was restored and not adopted",
            "rollforward adopt",
        );
    } else if info.archive_command != expected {
        sound = false;
        findings.problem(
            subject,
            format!("archive_command is '{}'", info.archive_command),
            format!("expected '{expected}'"),
        );
    }
    if !info.archive_library.is_empty() {
        sound = false;
        findings.problem(
            subject,
            "archive_library is set, so archive_command is not used",
            "clear it",
        );
    }
    let status = client.archiver_status().await?;
    let failing = status.last_failed_time > status.last_archived_time;
    if let (true, Some(segment)) = (failing, &status.last_failed) {
        sound = false;
        findings.problem(
            subject,
            format!("archiving fails at '{segment}', {} failures", status.failed_count),
            "the server's log says why",
        );
    }
    if sound {
        let last = status.last_archived.as_deref().unwrap_or("nothing yet");
        findings.good(subject, format!("archiving is on, last archived {last}"));
    }
    Ok(())
}

async fn writer(
    config: &Config,
    cluster: &ClusterConfig,
    repository: &Repository,
    lineage: &Lineage,
    subject: &str,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let credential = archive::Credential::read(&wiring::token_path(config, &cluster.name))?;
    let state = lineage::state(repository, lineage.id).await?;
    match state {
        Some(state) if state.writer == credential.writer => {
            findings.good(subject, "this host is the registered writer of the lineage");
        }
        _ => findings.problem(
            subject,
            "this host's token is not the writer in force: it was replaced",
            "rollforward adopt, if this is the production",
        ),
    }
    Ok(())
}

async fn stored(
    cluster: &ClusterConfig,
    repository: &Repository,
    lineage: &Lineage,
    subject: &str,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let window = window::window(repository, lineage, None, window::Detail::Positions).await?;
    let newest =
        window.spans.iter().flat_map(|span| &span.backups).max_by_key(|backup| backup.stopped);
    match newest {
        None => findings.problem(
            subject,
            "no backup from which anything can be reached",
            format!("rollforward backup {}", cluster.name),
        ),
        Some(backup) => {
            let age = SystemClock::new().now().duration_since(backup.stopped).as_hours();
            let seen = format!("newest backup {} is {age} h old", backup.label);
            if age > BACKUP_AGE_HOURS_MAX {
                findings.warning(subject, seen, format!("rollforward backup {}", cluster.name));
            } else {
                findings.good(subject, seen);
            }
        }
    }
    for hole in &window.holes {
        findings.problem(
            subject,
            format!("hole in the archived WAL: {hole}"),
            "if the server still has the segments, push them; a new backup makes what follows reachable",
        );
    }
    for problem in &window.problems {
        findings.problem(
            subject,
            format!("{}: {}", problem.key, problem.error),
            "rollforward verify",
        );
    }
    Ok(())
}
