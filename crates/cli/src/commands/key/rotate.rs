//! `rollforward key rotate`.

use repository::Member;
use repository::unlock;
use serde::Serialize;
use stdx::{Clock, SystemClock};

use super::super::Context;
use super::tables;
use crate::failure::Error;
use crate::secrets;
use crate::wiring::{block_on, open_store};

/// Arguments of `key rotate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cluster; may be left out when there is only one
    cluster: Option<String>,
}

#[derive(Serialize)]
struct Rotated {
    epoch: u32,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let cluster = config.cluster(arguments.cluster.as_deref())?;
    block_on(async {
        let mut members = Vec::new();
        let mut keys = Vec::new();
        for table in tables(&config, cluster) {
            keys.extend(table.keys.iter().cloned());
            members.push(Member { name: table.name.clone(), store: open_store(table, false)? });
        }
        let unlock = secrets::unlock_of(&keys, "the repository")?.ok_or_else(|| Error::Failed {
            what: "no configured key opens the repository".into(),
            hint: "name a key file in its `keys`".into(),
        })?;
        let epoch = unlock::add_epoch(&members, &unlock, SystemClock::new().now()).await?;
        let text = format!(
            "data key {epoch} seals everything from now on; older objects stay as they are"
        );
        context.printer.result(&Rotated { epoch }, &text);
        Ok(0)
    })
}
