//! `rollforward key prove`: the way in after a total loss, walked while nothing is lost.

use std::collections::BTreeMap;
use std::path::PathBuf;

use repository::{Member, names, unlock};
use serde::Serialize;
use stdx::{Clock, SystemClock};

use super::super::Context;
use super::{Given, given_keys};
use crate::config::RepositoryConfig;
use crate::wiring::{block_on, open_store};

/// Arguments of `key prove`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The repository's address, as the recovery kit gives it
    #[arg(long, value_name = "URL")]
    repository: String,
    /// Open it with this key file
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Open it with the recovery code in this file; with neither, the code is asked for
    #[arg(long, value_name = "FILE")]
    recovery_code_file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Proved {
    repository: String,
    set: String,
    opened_by: String,
    clusters: usize,
    backups: usize,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let given = given_keys(arguments.key_file.as_deref(), arguments.recovery_code_file.as_deref())?;
    let unlock = match given.into_iter().next() {
        Some(Given::KeyFile(path)) => crate::secrets::read_key_file(&path)?,
        Some(Given::Code(unlock)) => unlock,
        None => return Err(crate::failure::Error::Usage("name a secret".into()).into()),
    };
    let table = RepositoryConfig {
        name: "main".into(),
        url: arguments.repository.clone(),
        keys: Vec::new(),
        single_writer: false,
        credentials: BTreeMap::new(),
    };
    block_on(async {
        let store = open_store(&table, false)?;
        let member = Member { name: "main".into(), store };
        let repository = unlock::open(vec![member], Some(&unlock)).await?;
        // A key that opens a slot but no object would be found out only in the night.
        let mut clusters = 0_usize;
        let mut backups = 0_usize;
        for meta in repository.list("lineage/").await? {
            let id = meta
                .key
                .as_str()
                .strip_prefix("lineage/")
                .and_then(|rest| rest.strip_suffix("/record"));
            let Some(Ok(id)) = id.map(str::parse) else { continue };
            let lineage = repository::lineage::read(&repository, id).await?;
            clusters += 1;
            for meta in repository.list(&names::backups(lineage.id)).await? {
                repository.read(repository::Kind::BackupRoot, &meta.key).await?;
                backups += 1;
            }
        }
        let proved = Proved {
            repository: repository.address(),
            set: repository.keys().set().to_string(),
            opened_by: unlock.describe(),
            clusters,
            backups,
        };
        note_proof(context, &proved);
        let text = format!(
            "{} opens '{}': {} and {} can be read",
            proved.opened_by,
            proved.repository,
            crate::output::count(clusters, "lineage"),
            crate::output::count(backups, "backup")
        );
        context.printer.result(&proved, &text);
        Ok(0)
    })
}

/// Where a configuration is at hand, `check` learns that the way in was walked.
fn note_proof(context: &Context<'_>, proved: &Proved) {
    let Ok(config) = context.config() else { return };
    let path = proof_path(&config, &proved.set);
    let text = format!("{} {}\n", SystemClock::new().now(), proved.opened_by);
    let written = path
        .parent()
        .map_or(Ok(()), stdx::durable::create_dir_all)
        .and_then(|()| stdx::durable::write_atomic(&path, text.as_bytes(), 0o644));
    if let Err(error) = written {
        context
            .printer
            .note(&format!("warning: cannot note the proof in '{}': {error}", path.display()));
    }
}

/// The note that a set was opened with its recovery kit.
pub(crate) fn proof_path(config: &crate::config::Config, set: &str) -> PathBuf {
    config.state_directory.join("proved").join(set)
}
