//! Which provider performs which step.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use recovery::effect::{Effect, Effects, Failure, StepContext};
use recovery::plan::{Step, StepKind};
use stdx::{Clock, SystemClock};

use crate::breach::{HoldEvidence, RotateCredentials, RotateSecret};
use crate::door::Doors;
use crate::files::{Buckets, FileSteps};
use crate::kubernetes::{Clusters, Kubernetes, KubernetesAccess};
use crate::postgres::Postgres;
use crate::setting::Settings;
use crate::smoke::SmokeTest;
use crate::tell::{About, Channel, Channels, TellStep};
use crate::traffic::Traffics;
use crate::writer::Writers;
use crate::{OwnProgram, Secrets};

/// Everything that this binary can perform.
pub struct Providers {
    postgres: Postgres,
    setting: Settings,
    kubernetes: Kubernetes,
    doors: Doors,
    writers: Writers,
    traffics: Traffics,
    smoke: SmokeTest,
    secrets: crate::postgres::ResolveSecrets,
    hold: HoldEvidence,
    rotate: RotateCredentials,
    rotate_secret: RotateSecret,
    teller: TellStep,
    files: Option<FileSteps>,
    channels: Arc<Channels>,
}

impl std::fmt::Debug for Providers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Providers").field("channels", &self.channels).finish_non_exhaustive()
    }
}

impl Providers {
    /// Providers that run our own commands, resolve secrets, tell these channels, and reach these
    /// Kubernetes clusters.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(
        own: OwnProgram,
        secrets: Arc<dyn Secrets>,
        channels: BTreeMap<String, Channel>,
        kubernetes: BTreeMap<String, KubernetesAccess>,
    ) -> Result<Self, String> {
        let channels = Arc::new(Channels::new(channels));
        let clusters = Clusters::new(kubernetes);
        Ok(Self {
            postgres: Postgres::new(own),
            setting: Settings::new(clusters.clone(), Arc::clone(&secrets)),
            kubernetes: Kubernetes::new(&clusters),
            doors: Doors::new(Arc::clone(&secrets))?,
            writers: Writers::default(),
            traffics: Traffics::new(Arc::clone(&secrets), Arc::new(SystemClock::new()))?,
            smoke: SmokeTest::new(Arc::clone(&secrets))?,
            hold: HoldEvidence,
            rotate: RotateCredentials::new(Arc::clone(&secrets)),
            rotate_secret: RotateSecret::default(),
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

    /// Channels speak of this. A run tells them in passing, any other command with more patience.
    #[must_use]
    pub fn with_about(mut self, about: About) -> Self {
        self.channels = Arc::new(self.channels.with_about(about));
        self.teller = TellStep::new(Arc::clone(&self.channels));
        self
    }

    /// Asks for units of systemd at this address of D-Bus instead of the system's.
    #[must_use]
    pub fn with_bus(mut self, address: &str) -> Self {
        self.writers = Writers::at_bus(address);
        self
    }

    /// Signs updates of DNS at the time of this clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.traffics.set_clock(clock);
        self
    }
}

#[async_trait]
impl Effects for Providers {
    fn of(&self, step: &Step) -> Option<&dyn Effect> {
        if let Some(effect) = self.kubernetes.of(step) {
            return Some(effect);
        }
        Some(match step.kind {
            StepKind::ShutDoor | StepKind::OpenDoor => self.doors.of(step)?,
            StepKind::StopWriter | StepKind::StartWriter | StepKind::ActivateSite => {
                self.writers.of(step)?
            }
            StepKind::CheckSetting | StepKind::SwitchSetting => self.setting.of(step)?,
            StepKind::CheckTraffic | StepKind::SwitchTraffic => self.traffics.of(step)?,
            StepKind::Smoke | StepKind::HealthGate => &self.smoke,
            StepKind::Tell => &self.teller,
            StepKind::CheckFiles | StepKind::RestoreFiles => self.files.as_ref()?.of(step)?,
            StepKind::ResolveSecrets => &self.secrets,
            StepKind::HoldEvidence => &self.hold,
            StepKind::RotateCredentials => &self.rotate,
            StepKind::RotateSecret => &self.rotate_secret,
            _ => self.postgres.of(step)?,
        })
    }

    async fn count_foreign_writes(&self, context: &StepContext) -> Result<u64, Failure> {
        self.postgres.count_foreign_writes(context).await
    }

    async fn tell(&self, channel: &str, what: &str, text: &str) -> Result<(), Failure> {
        self.channels.tell(channel, what, text).await
    }
}
