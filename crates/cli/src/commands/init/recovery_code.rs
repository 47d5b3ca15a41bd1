//! The recovery code, shown once and typed back in part, and the recovery kit.

use std::path::PathBuf;

use anyhow::Context as _;
use repository::kit::Kit;
use repository::recovery_code::{GROUPS, RecoveryCode};
use repository::unlock::{self, Unlock};
use stdx::{Clock, SystemClock};

use super::super::Context;
use super::Arguments;
use crate::config::{Config, KeySource};
use crate::failure::Error;
use crate::secrets;
use crate::wiring::open_store;

/// How often the operator may mistype.
const TRIES_MAX: usize = 5;

/// Draws a recovery code and makes sure that somebody has it.
pub(super) fn make(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<Unlock> {
    if let Some(path) = arguments.recovery_code_file.as_ref().filter(|path| path.exists()) {
        // What an interrupted `init` has written opens, or will open, what it began.
        let text = std::fs::read_to_string(path)
            .map(zeroize::Zeroizing::new)
            .with_context(|| format!("read the recovery code from '{}'", path.display()))?;
        context.printer.note(&format!("the recovery code in '{}' is used", path.display()));
        return Ok(RecoveryCode::parse(text.trim())?.unlock());
    }
    let code = RecoveryCode::random();
    if let Some(path) = &arguments.recovery_code_file {
        stdx::durable::create_new(path, format!("{}\n", *code.render()).as_bytes(), 0o600)
            .with_context(|| format!("write the recovery code to '{}'", path.display()))?;
        context.printer.note(&format!(
            "wrote the recovery code to '{}': move it to where a fire here does not reach",
            path.display()
        ));
        return Ok(code.unlock());
    }
    if !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        return Err(Error::Usage(
            "the recovery code is shown on a terminal; without one name a file: --recovery-code-file FILE".into(),
        )
        .into());
    }
    context.printer.error_text(&format!(
        "\nRecovery code, shown only now. Write it down:\n\n    {}\n",
        *code.render()
    ));
    for _ in 0..TRIES_MAX {
        let first = secrets::ask("type the first group: ")?;
        let last = secrets::ask("and the last one: ")?;
        if code.matches_groups(&[(1, &first), (GROUPS, &last)]) {
            return Ok(code.unlock());
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
    let mut kit = Kit {
        repositories: Vec::new(),
        set: stdx::Id::from_bytes([0; 16]),
        clusters: config.clusters.keys().cloned().collect(),
        keys: Vec::new(),
        recovery_code: false,
        version: env!("CARGO_PKG_VERSION").into(),
        made: SystemClock::new().now(),
    };
    for table in config.repositories.values() {
        let store = open_store(table, false)?;
        kit.set = unlock::describe(&store).await?.set;
        kit.repositories.push((table.name.clone(), table.url.clone()));
        for key in &table.keys {
            match key {
                KeySource::File(path) => {
                    let key =
                        (path.display().to_string(), secrets::parse_key_file(path)?.fingerprint());
                    if !kit.keys.contains(&key) {
                        kit.keys.push(key);
                    }
                }
                KeySource::RecoveryCode => kit.recovery_code = true,
                KeySource::Passphrase(_) => {}
            }
        }
    }
    stdx::durable::write_atomic(&path, kit.render().as_bytes(), 0o644)
        .with_context(|| format!("write the recovery kit to '{}'", path.display()))?;
    Ok(path)
}
