//! After a breach: the replaced cluster is held as evidence, roles get other passwords, commands
//! rotate other secrets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use postgres_protocol::password::scram_sha_256;
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::Parameters;

use crate::looked::Looked;
use crate::postgres::{restored_session, same_identity, value};
use crate::{Secrets, command, scram};

/// The file beside a data directory that forbids to remove it.
#[must_use]
pub fn hold_file(directory: &Path) -> PathBuf {
    let mut name = directory.as_os_str().to_owned();
    name.push(".rollforward-hold");
    PathBuf::from(name)
}

/// The replaced cluster stays until somebody removes the mark.
#[derive(Debug, Default)]
pub(crate) struct HoldEvidence;

fn mark(context: &StepContext) -> Result<PathBuf, Failure> {
    Ok(hold_file(Path::new(context.parameter("data_directory")?)))
}

#[async_trait]
impl Effect for HoldEvidence {
    async fn precheck(&self, context: &StepContext) -> Result<(), Failure> {
        same_identity(context)
    }

    async fn probe(&self, context: &StepContext) -> Found {
        match mark(context).map(|path| path.try_exists()) {
            Ok(Ok(true)) => Found::Done,
            Ok(Ok(false)) => Found::Absent,
            Ok(Err(error)) => Found::Unknown(error.to_string()),
            Err(failure) => Found::Unknown(failure.message),
        }
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        let path = mark(context)?;
        let text = format!("held as evidence by run {}\n", context.run);
        match stdx::durable::create_new(&path, text.as_bytes(), 0o644) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => {
                Err(Failure::terminal("RF1104", format!("'{}': {error}", path.display()))
                    .hint("may this user write there?"))
            }
        }
    }
}

/// A role of the restored cluster has the password behind a reference. The password itself never
/// leaves this process: the server is given its verifier.
pub(crate) struct RotateCredentials {
    secrets: Arc<dyn Secrets>,
}

impl RotateCredentials {
    pub(crate) fn new(secrets: Arc<dyn Secrets>) -> Self {
        Self { secrets }
    }

    fn password(&self, context: &StepContext) -> Result<zeroize::Zeroizing<String>, Failure> {
        let reference = context.parameter("password")?;
        let resolved = self.secrets.resolve(reference).map_err(|why| {
            Failure::terminal("RF1110", format!("secret {reference} does not resolve: {why}"))
        })?;
        match resolved.is_empty() {
            true => Err(Failure::terminal("RF1110", format!("secret {reference} is empty"))),
            false => Ok(resolved),
        }
    }

    /// Whether the role's verifier is one of the password; `None`: there is no such role.
    async fn has_it(&self, context: &StepContext) -> Result<Option<bool>, Failure> {
        let client = restored_session(context).await?;
        let role = literal(context.parameter("role")?);
        let sql = format!("SELECT coalesce(rolpassword, '') FROM pg_authid WHERE rolname = {role}");
        let Some(verifier) = value(&client, &sql).await? else { return Ok(None) };
        Ok(Some(scram::fits(&verifier, self.password(context)?.as_bytes())))
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn identifier(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

#[async_trait]
impl Effect for RotateCredentials {
    async fn probe(&self, context: &StepContext) -> Found {
        match self.has_it(context).await {
            Ok(Some(true)) => Found::Done,
            Ok(_) => Found::Absent,
            Err(failure) => Found::Unknown(failure.message),
        }
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        let role = context.parameter("role")?;
        if self.has_it(context).await?.is_none() {
            return Err(Failure::terminal(
                "RF1105",
                format!("the restored cluster has no role '{role}'"),
            )
            .hint("it was made later: leave the step out, `rollforward run skip`"));
        }
        let verifier = scram_sha_256(self.password(context)?.as_bytes());
        let client = restored_session(context).await?;
        let sql = format!("ALTER ROLE {} PASSWORD {}", identifier(role), literal(&verifier));
        value(&client, &sql).await.map(drop)
    }

    /// The server has the verifier of the new password.
    async fn verify(&self, context: &StepContext) -> Result<Parameters, Failure> {
        match self.has_it(context).await? {
            Some(true) => Ok(Parameters::new()),
            _ => Err(Failure::retry("RF1105", "the role does not have its new password")),
        }
    }
}

/// A command of the service that rotates a secret.
#[derive(Debug, Default)]
pub(crate) struct RotateSecret {
    looked: Looked,
}

#[async_trait]
impl Effect for RotateSecret {
    async fn probe(&self, context: &StepContext) -> Found {
        self.looked.probe(context)
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        command::run_well(&command::words(context, "words")?).await?;
        self.looked.remember(context, Parameters::new());
        Ok(())
    }
}
