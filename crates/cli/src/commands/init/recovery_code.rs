//! The recovery code, shown once and typed back in part, and the recovery kit.

use std::path::PathBuf;

use anyhow::Context as _;
use repository::kit::{Kit, KitMember};
use repository::recovery_code::RecoveryCode;
use repository::unlock::{self, Unlock};

use super::super::Context;
use super::Arguments;
use crate::config::{Config, KeySource};
use crate::failure::Error;
use crate::wiring::open_store;
use crate::{secrets, wiring};

/// How often the operator may mistype.
const TRIES_MAX: usize = 5;

/// Draws a recovery code and makes sure that somebody has it.
pub(super) fn make(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<Unlock> {
    let code = RecoveryCode::random();
    if let Some(path) = &arguments.recovery_code_file {
        stdx::durable::create_new(path, format!("{}\n", code.render()).as_bytes(), 0o600)
            .with_context(|| format!("write the recovery code to '{}'", path.display()))?;
        context.printer.note(&format!(
            "wrote the recovery code to '{}': move it to where a fire here does not reach",
            path.display()
        ));
        return Ok(Unlock::RecoveryCode(code.secret()));
    }
    if !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        return Err(Error::Usage(
            "the recovery code is shown on a terminal; without one name a file: --recovery-code-file FILE".into(),
        )
        .into());
    }
    context.printer.error_text(&format!(
        "\nRecovery code, shown only now. Write it down:\n\n    {}\n",
        code.render()
    ));
    for _ in 0..TRIES_MAX {
        let typed = secrets::ask("type the first and the last group: ")?;
        if code.matches_ends(&typed) {
            return Ok(Unlock::RecoveryCode(code.secret()));
        }
        context.printer.error_text("that is not what was shown");
    }
    Err(Error::Refused {
        what: "the recovery code was not confirmed; nothing was created".into(),
        hint: "run `rollforward init` again, with pen and paper".into(),
    }
    .into())
}

/// Writes the recovery kit: how to reach and open the repositories from a bare machine.
pub(super) async fn write_kit(arguments: &Arguments, config: &Config) -> anyhow::Result<PathBuf> {
    let path = match &arguments.kit {
        Some(path) => path.clone(),
        None => config.path.with_file_name("rollforward-recovery-kit.md"),
    };
    let mut members = Vec::new();
    let mut set = String::new();
    for table in config.repositories.values() {
        let store = open_store(table, false)?;
        set = unlock::describe(&store).await?.set.to_string();
        let fingerprints = table.keys.iter().filter_map(|key| match key {
            KeySource::File(path) => secrets::read_key_file(path).ok().and_then(|unlock| match unlock {
                Unlock::KeyFile { secret, .. } => {
                    Some((path.display().to_string(), repository::key_file::fingerprint(&secret)))
                }
                _ => None,
            }),
            _ => None,
        });
        members.push(KitMember {
            name: table.name.clone(),
            url: table.url.clone(),
            key_files: fingerprints.collect(),
        });
    }
    let clusters = config.clusters.keys().cloned().collect();
    let kit = Kit { set, members, clusters, host: wiring::host_name() };
    stdx::durable::write_atomic(&path, kit.render().as_bytes(), 0o644)
        .with_context(|| format!("write the recovery kit to '{}'", path.display()))?;
    Ok(path)
}
