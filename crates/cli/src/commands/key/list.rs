//! `rollforward key list`.

use repository::unlock::{self, Method};
use serde::Serialize;

use super::super::Context;
use super::tables;
use crate::output::table;
use crate::wiring::{block_on, open_store};

/// Arguments of `key list`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cluster; may be left out when there is only one
    cluster: Option<String>,
}

#[derive(Serialize)]
struct Row {
    repository: String,
    id: String,
    method: &'static str,
    name: String,
    created: String,
}

pub(super) fn method_word(method: Method) -> &'static str {
    match method {
        Method::KeyFile => "key file",
        Method::Passphrase => "passphrase",
        Method::RecoveryCode => "recovery code",
        Method::Kms => "KMS",
    }
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let cluster = config.cluster(arguments.cluster.as_deref())?;
    block_on(async {
        let mut rows = Vec::new();
        for repository in tables(&config, cluster) {
            let store = open_store(repository, false)?;
            for slot in unlock::slots(&store).await? {
                rows.push(Row {
                    repository: repository.name.clone(),
                    id: slot.id.to_string(),
                    method: method_word(slot.method),
                    name: slot.name,
                    created: slot.created.to_string(),
                });
            }
        }
        let mut list = table(&["repository", "slot", "opened by", "name", "created"]);
        for row in &rows {
            list.add_row([&row.repository, &row.id, row.method, &row.name, &row.created]);
        }
        context.printer.result(&rows, &list.to_string());
        Ok(0)
    })
}
