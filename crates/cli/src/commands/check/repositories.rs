//! The repositories of a cluster: reachable, honest about put-if-absent, with two ways in.

use repository::{Member, unlock};

use super::Findings;
use crate::config::{ClusterConfig, Config, RepositoryConfig};
use crate::members::{self, Answers, Needed};
use crate::{secrets, wiring};

pub(super) async fn check(
    config: &Config,
    cluster: &ClusterConfig,
    read_only: bool,
    findings: &mut Findings,
) {
    let tables = cluster.repositories.iter().filter_map(|name| config.repositories.get(name));
    let tables: Vec<&RepositoryConfig> = tables.collect();
    let Answers { there, away } = members::ask(&tables, Needed::One).await;
    for (name, error) in &away {
        findings.failed(&format!("repository {name}"), error);
    }
    if let Err(error) = alike(&there, findings).await {
        findings.failed("repositories", &error);
    }
    let is_there = |table: &&&RepositoryConfig| there.iter().any(|it| it.name == table.name);
    for table in tables.iter().filter(is_there) {
        let subject = format!("repository {}", table.name);
        if let Err(error) = one(config, table, read_only, &subject, findings).await {
            findings.failed(&subject, &error);
        }
    }
}

async fn one(
    config: &Config,
    table: &RepositoryConfig,
    read_only: bool,
    subject: &str,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let store = wiring::open_store(table, false)?;
    let member = Member { name: table.name.clone(), store: std::sync::Arc::clone(&store) };
    let members = [member];
    let descriptor = unlock::describe_set(&members, !table.keys.is_empty()).await?;
    findings.good(subject, format!("'{}' answers, set {}", store.address(), descriptor.set));
    if !read_only && !table.single_writer {
        store::prove_put_if_absent(&store, &stdx::Id::random).await?;
        findings.good(subject, "put-if-absent is honoured");
    }
    if !descriptor.encrypted {
        findings.warning(
            subject,
            "it is not encrypted",
            "a new repository with keys, if that was not meant",
        );
        return Ok(());
    }
    let unlock = secrets::unlock_of(&table.keys, subject)?;
    unlock::open(members.into(), unlock.as_ref()).await?;
    let by = unlock.map_or_else(String::new, |unlock| unlock.describe());
    let slots = unlock::slots(&store).await?.len();
    findings.good(subject, format!("{by} opens it; it has {slots} slots"));
    if slots < 2 {
        findings.problem(
            subject,
            "there is one way in only",
            "rollforward key add --recovery-code-file FILE",
        );
    }
    let proof = crate::commands::key::prove::proof_path(config, &descriptor.set.to_string());
    if !proof.exists() {
        findings.warning(
            subject,
            "the recovery kit was never proved",
            format!("rollforward key prove --repository {} with the recovery code", table.url),
        );
    }
    Ok(())
}

/// Every member must know every lineage: each of them may be the only one left.
async fn alike(there: &[Member], findings: &mut Findings) -> anyhow::Result<()> {
    for Member { name: from, store: source } in there {
        for Member { name: to, store } in there.iter().filter(|member| member.name != *from) {
            let missing = repository::records::missing(source, store).await?;
            if let Some(first) = missing.first() {
                findings.problem(
                    &format!("repository {to}"),
                    format!(
                        "{} records of '{from}' are missing, the first is '{first}'",
                        missing.len()
                    ),
                    "rollforward init copies them",
                );
            }
        }
    }
    Ok(())
}
