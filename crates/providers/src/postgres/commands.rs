//! Steps that are one command of ours: salvage, target, adopt, backup; and keeping the old cluster.

use std::path::Path;

use async_trait::async_trait;
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::{Parameters, StepKind, Target};
use serde_json::Value;

use super::{control, same_identity};
use crate::OwnProgram;
use crate::looked::Looked;
use crate::own::text;

/// The code of a command that cannot use this host's token of the cluster, and what its message
/// says when there is none (ENOENT).
const NO_TOKEN: &str = "RF0110";
const ABSENT: &str = "(os error 2)";

#[derive(Debug)]
pub(crate) struct Commands {
    own: OwnProgram,
    looked: Looked,
}

impl Commands {
    pub(crate) fn new(own: OwnProgram) -> Self {
        Self { own, looked: Looked::default() }
    }

    async fn run(&self, words: &[&str]) -> Result<Value, Failure> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        self.own.run(&words).await
    }

    /// Where the token is not there at all, as on a machine that took a run over, the plan
    /// says whose WAL it is: host, directory and system identifier were compared.
    async fn salvage(&self, context: &StepContext, cluster: &str) -> Result<Value, Failure> {
        let is_pinned =
            context.step.host.is_some() && context.step.identity.contains_key("system_id");
        match self.run(&["wal", "salvage", cluster]).await {
            Err(failure)
                if failure.code == NO_TOKEN && failure.message.contains(ABSENT) && is_pinned =>
            {
                let directory = context.parameter("data_directory")?;
                let folder = format!("{directory}/pg_wal");
                self.run(&["wal", "salvage", cluster, "--pg-wal", &folder, "--elsewhere"]).await
            }
            said => said,
        }
    }

    async fn resolve(&self, context: &StepContext) -> Result<Parameters, Failure> {
        let cluster = context.parameter("cluster")?;
        let mut words: Vec<String> = vec!["window".into(), cluster.into()];
        words.extend(target(context)?.options());
        words.extend(repository(context));
        let reach = self.own.run(&words).await?;
        let mut outputs = Parameters::new();
        for name in ["stop", "newest_commit", "wal_until", "timeline"] {
            outputs.extend(text(&reach, &format!("/{name}")).map(|value| (name.to_owned(), value)));
        }
        Ok(outputs)
    }
}

/// Whether a step adopts a cluster that was adopted: its ticket is gone then.
fn is_adopted(context: &StepContext) -> bool {
    let Ok(directory) = context.parameter("directory") else { return false };
    let directory = Path::new(directory);
    context.step.kind == StepKind::Adopt
        && directory.join("PG_VERSION").exists()
        && !directory.join("rollforward.ticket.json").exists()
}

/// The target that the step means.
pub(super) fn target(context: &StepContext) -> Result<Target, Failure> {
    let (kind, value) = (context.parameter("target_kind")?, context.parameter("target_value")?);
    Target::from_parts(kind, value)
        .ok_or_else(|| Failure::terminal("RF1001", format!("a target of kind '{kind}'")))
}

/// The one repository that answered when the plan was made, as an option.
pub(super) fn repository(context: &StepContext) -> Vec<String> {
    let named = context.parameters.get("repository");
    named.map(|name| vec!["--repository".into(), name.clone()]).unwrap_or_default()
}

#[async_trait]
impl Effect for Commands {
    async fn precheck(&self, context: &StepContext) -> Result<(), Failure> {
        match context.step.kind {
            StepKind::Salvage | StepKind::KeepOld => same_identity(context),
            _ => Ok(()),
        }
    }

    async fn probe(&self, context: &StepContext) -> Found {
        // A cluster whose ticket is gone and whose server archives was adopted.
        match is_adopted(context) {
            true => Found::Done,
            false => self.looked.probe(context),
        }
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        let cluster = context.parameter("cluster")?;
        if is_adopted(context) {
            return Ok(());
        }
        let outputs = match context.step.kind {
            StepKind::Salvage => {
                let said = self.salvage(context, cluster).await?;
                let stored = text(&said, "/stored").unwrap_or_default();
                Parameters::from([("salvaged".into(), stored)])
            }
            StepKind::KeepOld => {
                let directory = context.parameter("data_directory")?;
                let system = control(Path::new(directory))?.system_id.to_string();
                Parameters::from([
                    ("safety_copy".into(), directory.to_owned()),
                    ("safety_copy_system_id".into(), system),
                ])
            }
            StepKind::ResolveTarget => self.resolve(context).await?,
            StepKind::Adopt => {
                let directory = context.parameter("directory")?;
                let mut words = vec!["adopt", cluster, "--at", directory, "--keep-port"];
                if context.parameters.get("old_is_gone").is_some_and(|gone| gone == "true") {
                    words.push("--old-is-gone");
                }
                let said = self.run(&words).await?;
                let archived = text(&said, "/archived").ok_or_else(|| {
                    Failure::retry("RF1105", "the adopted cluster was not seen to archive yet")
                        .hint(format!("rollforward wal status {cluster}"))
                })?;
                Parameters::from([("archived".into(), archived)])
            }
            _ => {
                let said = self.run(&["backup", cluster]).await?;
                let label = text(&said, "/backup/label").unwrap_or_default();
                Parameters::from([("new_backup".into(), label)])
            }
        };
        self.looked.remember(context, outputs);
        Ok(())
    }

    async fn verify(&self, context: &StepContext) -> Result<Parameters, Failure> {
        Ok(self.looked.outputs(context).unwrap_or_default())
    }
}
