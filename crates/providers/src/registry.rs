//! Which provider performs which step.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use recovery::effect::{Effect, Effects, Failure, StepContext};
use recovery::plan::{Step, StepKind};

use crate::door::Doors;
use crate::files::{Buckets, FileSteps};
use crate::postgres::Postgres;
use crate::setting::FileSetting;
use crate::smoke::SmokeTest;
use crate::tell::{Channel, Channels, TellStep, tell};
use crate::writer::Writers;
use crate::{OwnProgram, Secrets};

/// Everything that this binary can perform.
pub struct Providers {
    postgres: Postgres,
    setting: FileSetting,
    doors: Doors,
    writers: Writers,
    smoke: SmokeTest,
    secrets: crate::postgres::ResolveSecrets,
    teller: TellStep,
    files: Option<FileSteps>,
    channels: Arc<Channels>,
}

impl std::fmt::Debug for Providers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Providers").field("channels", &self.channels.keys()).finish_non_exhaustive()
    }
}

impl Providers {
    /// Providers that run our own commands, resolve secrets, and tell these channels.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(
        own: OwnProgram,
        secrets: Arc<dyn Secrets>,
        channels: BTreeMap<String, Channel>,
    ) -> Result<Self, String> {
        let channels = Arc::new(channels);
        Ok(Self {
            postgres: Postgres::new(own),
            setting: FileSetting::default(),
            doors: Doors::new(Arc::clone(&secrets))?,
            writers: Writers::default(),
            smoke: SmokeTest::new(Arc::clone(&secrets))?,
            secrets: crate::postgres::ResolveSecrets::new(secrets),
            teller: TellStep::new(Arc::clone(&channels)),
            files: None,
            channels,
        })
    }

    /// Looks for files in these buckets; without them nothing performs such steps.
    #[must_use]
    pub fn with_buckets(mut self, buckets: Arc<dyn Buckets>) -> Self {
        self.files = Some(FileSteps::new(buckets));
        self
    }

    /// Asks for units of systemd at this address of D-Bus instead of the system's.
    #[must_use]
    pub fn with_bus(mut self, address: &str) -> Self {
        self.writers = Writers::at_bus(address);
        self
    }
}

#[async_trait]
impl Effects for Providers {
    fn of(&self, step: &Step) -> Option<&dyn Effect> {
        let is =
            |name: &str, value: &str| step.parameters.get(name).is_some_and(|seen| seen == value);
        Some(match step.kind {
            StepKind::ShutDoor | StepKind::OpenDoor => self.doors.of(step)?,
            StepKind::StopWriter | StepKind::StartWriter => self.writers.of(step)?,
            StepKind::CheckSetting | StepKind::SwitchSetting if is("setting", "file") => {
                self.setting.of(step)
            }
            StepKind::Smoke => &self.smoke,
            StepKind::Tell => &self.teller,
            StepKind::CheckFiles | StepKind::RestoreFiles => self.files.as_ref()?.of(step)?,
            StepKind::ResolveSecrets => &self.secrets,
            _ => self.postgres.of(step)?,
        })
    }

    async fn count_foreign_writes(&self, context: &StepContext) -> Result<u64, Failure> {
        self.postgres.count_foreign_writes(context).await
    }

    async fn tell(&self, channel: &str, what: &str, text: &str) -> Result<(), Failure> {
        tell(&self.channels, channel, what, text).await
    }
}
