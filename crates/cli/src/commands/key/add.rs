//! `rollforward key add`.

use std::path::PathBuf;

use anyhow::Context as _;
use repository::Member;
use repository::key_file::KeyFile;
use repository::recovery_code::RecoveryCode;
use repository::unlock::{self, Unlock};
use serde::Serialize;
use stdx::{Clock, SystemClock};

use super::super::Context;
use super::tables;
use crate::config::RepositoryConfig;
use crate::failure::Error;
use crate::wiring::{block_on, open_store};
use crate::{secrets, wiring};

/// Arguments of `key add`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct Arguments {
    /// The cluster; may be left out when there is only one
    cluster: Option<String>,
    /// Add this key file; made when it is missing
    #[arg(long, value_name = "FILE", group = "what")]
    key_file: Option<PathBuf>,
    /// Add a passphrase, which is asked for
    #[arg(long, group = "what")]
    passphrase: bool,
    /// Add a recovery code and write it to this file
    #[arg(long, value_name = "FILE", group = "what")]
    recovery_code_file: Option<PathBuf>,
    /// What to call it in listings
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
}

#[derive(Serialize)]
struct Added {
    repository: String,
    slot: String,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let cluster = config.cluster(arguments.cluster.as_deref())?;
    block_on(async {
        // Every repository has to open before a secret is made or a slot is written.
        let mut opened = Vec::new();
        for table in tables(&config, cluster) {
            opened.push(open(table).await?);
        }
        let members: Vec<Member> = opened.iter().map(|(member, _)| member.clone()).collect();
        unlock::describe_set(&members, true).await?;
        let (added, word) = secret(arguments, cluster)?;
        let mut rows = Vec::new();
        for (member, present) in opened {
            let name = arguments.name.as_deref().unwrap_or(word);
            let now = SystemClock::new().now();
            let slot = unlock::add_slot(&member.store, &present, name, &added, now).await?;
            rows.push(Added { repository: member.name.clone(), slot: slot.to_string() });
            unlock::open(vec![member], Some(&added)).await.context("prove the new slot")?;
        }
        let text: Vec<String> = rows
            .iter()
            .map(|row| {
                format!("added {word} to repository '{}' as slot {}", row.repository, row.slot)
            })
            .collect();
        context.printer.result(&rows, &text.join("\n"));
        Ok(0)
    })
}

/// A repository and a way into it that is walked here.
async fn open(table: &RepositoryConfig) -> anyhow::Result<(Member, Unlock)> {
    let owner = format!("repository '{}'", table.name);
    let present = secrets::unlock_of(&table.keys, &owner)?.ok_or_else(|| Error::Failed {
        what: format!("no configured key opens {owner}"),
        hint: "name a key file in its `keys`".into(),
    })?;
    let member = Member { name: table.name.clone(), store: open_store(table, false)? };
    unlock::open(vec![member.clone()], Some(&present)).await?;
    Ok((member, present))
}

fn secret(
    arguments: &Arguments,
    cluster: &crate::config::ClusterConfig,
) -> anyhow::Result<(Unlock, &'static str)> {
    if let Some(path) = &arguments.key_file {
        if !path.exists() {
            let text = KeyFile::random().render();
            stdx::durable::create_new(path, text.as_bytes(), 0o600)
                .with_context(|| format!("write key file '{}'", path.display()))?;
            wiring::hand_to_owner_of(&cluster.data_directory, path)?;
        }
        return Ok((secrets::read_key_file(path)?, "key file"));
    }
    if let Some(path) = &arguments.recovery_code_file {
        let code = RecoveryCode::random();
        stdx::durable::create_new(path, format!("{}\n", *code.render()).as_bytes(), 0o600)
            .with_context(|| format!("write the recovery code to '{}'", path.display()))?;
        return Ok((code.unlock(), "recovery code"));
    }
    let first = secrets::ask_hidden("new passphrase: ")?;
    let second = secrets::ask_hidden("once more: ")?;
    if *first != *second || first.len() < 8 {
        let what = "expected the same passphrase of at least 8 characters twice";
        return Err(Error::Usage(what.into()).into());
    }
    Ok((Unlock::Passphrase(first), "passphrase"))
}
