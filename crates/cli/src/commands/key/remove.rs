//! `rollforward key remove`.

use repository::{names, unlock};
use serde::Serialize;
use stdx::Id;

use super::super::Context;
use super::list::method_word;
use super::tables;
use crate::failure::Error;
use crate::wiring::{block_on, open_store};

/// Arguments of `key remove`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The slot, as `key list` shows it
    slot: Id,
    /// The cluster; may be left out when there is only one
    #[arg(long)]
    cluster: Option<String>,
    /// Confirm with the slot's last four characters: whoever holds only this secret is shut out
    #[arg(long, value_name = "CHARACTERS")]
    confirm: Option<String>,
}

#[derive(Serialize)]
struct Removed {
    repository: String,
    slot: String,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let cluster = config.cluster(arguments.cluster.as_deref())?;
    block_on(async {
        for table in tables(&config, cluster) {
            let store = open_store(table, false)?;
            let slots = unlock::slots(&store).await?;
            let Some(slot) = slots.iter().find(|slot| slot.id == arguments.slot) else { continue };
            let what = format!("slot {} ({}, '{}')", slot.id, method_word(slot.method), slot.name);
            if slots.len() < 3 {
                return Err(Error::Refused {
                    what: format!(
                        "{what} is one of the last {} ways into '{}'",
                        slots.len(),
                        table.name
                    ),
                    hint: "add another one first: `rollforward key add`".into(),
                }
                .into());
            }
            if arguments.confirm.as_deref() != Some(&arguments.slot.short()) {
                return Err(Error::Refused {
                    what: format!("removing {what} is not confirmed"),
                    hint: format!("repeat with --confirm {}", arguments.slot.short()),
                }
                .into());
            }
            store.delete(&names::slot(slot.id)).await?;
            let removed = Removed { repository: table.name.clone(), slot: slot.id.to_string() };
            context.printer.result(&removed, &format!("removed {what} from '{}'", table.name));
            return Ok(0);
        }
        Err(Error::Usage(format!(
            "no repository of cluster '{}' has slot {}",
            cluster.name, arguments.slot
        ))
        .into())
    })
}
